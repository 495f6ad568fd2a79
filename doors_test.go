package pycket_test

import (
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/pycket/pycket"

// The rooms of docs/architecture.md and the doors between them: who may know whom.
func TestDoors(t *testing.T) {
	for _, room := range []struct {
		dir    string
		not    []string // packages that it doesn't depend on, whatever is in between
		direct []string // packages of which it imports none itself
	}{
		{dir: ".", not: []string{module + "/embedded", module + "/internal/redistest", module + "/pyckettest", "github.com/alicebob/miniredis/v2", "testing"}},
		{dir: "embedded", not: []string{module, module + "/internal/backdoor", "testing"}},
		{dir: "internal/backdoor", not: []string{"net/http", module}},
		{
			dir:    "internal/store",
			not:    []string{"net/http", module},
			direct: []string{"github.com/gomodule/redigo/redis", "github.com/mna/redisc"},
		},
		{dir: "internal/codec", not: []string{"net/http", module, module + "/internal/store", module + "/internal/redisconn"}},
		{dir: "internal/queue", not: []string{"net/http", module, module + "/internal/store", module + "/internal/redisconn"}},
		{dir: "internal/stats", not: []string{"net/http", module, module + "/internal/store", module + "/internal/redisconn"}},
		{dir: "internal/warn", not: []string{"net/http", module, module + "/internal/store", module + "/internal/redisconn"}},
		{dir: "internal/signed", not: []string{"net/http", module, module + "/internal/store", module + "/internal/redisconn"}},
		{dir: "internal/redisconn", not: []string{"net/http", module, module + "/internal/store", "github.com/gorilla/securecookie"}},
	} {
		out, err := exec.Command("go", "list", "-deps", "./"+room.dir).Output()
		require(t, err)
		deps := strings.Fields(string(out))
		for _, not := range room.not {
			if not != module+strings.TrimSuffix("/"+room.dir, "/.") && slices.Contains(deps, not) {
				t.Errorf("%s depends on %s", room.dir, not)
			}
		}
		for file, imports := range imported(t, room.dir) {
			for _, not := range room.direct {
				if slices.Contains(imports, not) {
					t.Errorf("%s imports %s", file, not)
				}
			}
		}
	}
	for file, imports := range imported(t, ".") {
		for _, path := range imports {
			if redis := strings.Contains(path, "redigo") || strings.HasSuffix(path, "/redisconn"); redis && file != "redispool.go" {
				t.Errorf("%s imports %s, which redispool.go alone may", file, path)
			}
		}
	}
	for _, dir := range []string{"embedded", "examples/*", "internal/*"} {
		for file, imports := range imported(t, dir) {
			if slices.Contains(imports, module+"/internal/backdoor") {
				t.Errorf("%s imports internal/backdoor, which is for pyckettest and cmd/pycket", file)
			}
		}
	}
	ofSessions := regexp.MustCompile(`(?i)\b(session|sessions|cookie|cookies|notification|notifications)\b`)
	for file := range imported(t, "internal/redisconn") {
		source, err := os.ReadFile(file)
		require(t, err)
		// Redis.DBSessions and the like are settings, which errors name.
		if word := ofSessions.Find(source); word != nil {
			t.Errorf("%s knows of a %s", file, word)
		}
	}
}

// imported returns what the files of a folder import, tests excepted.
func imported(t *testing.T, dir string) map[string][]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	require(t, err)
	imports := map[string][]string{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		require(t, err)
		imports[file] = nil
		for _, spec := range parsed.Imports {
			path, _ := strconv.Unquote(spec.Path.Value)
			imports[file] = append(imports[file], path)
		}
	}
	return imports
}
