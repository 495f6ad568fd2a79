package pycket_test

import (
	"bufio"
	"bytes"
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pycket/pycket/internal/redistest"
)

// The README's example is compiled as it stands and used like a browser would (promise 9).
func TestReadmeExample(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	require(t, err)
	_, rest, ok := strings.Cut(string(readme), "```go\n")
	source, _, closed := strings.Cut(rest, "```")
	if !ok || !closed {
		t.Fatal("README.md has no example")
	}
	dir, err := os.MkdirTemp(".", "readme-example-") // in the module, so that it finds the package
	require(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	require(t, os.WriteFile(filepath.Join(dir, "main.go"), []byte(source), 0o600))
	binary := filepath.Join(t.TempDir(), "example")
	if out, err := exec.Command("go", "build", "-o", binary, "./"+dir).CombinedOutput(); err != nil {
		t.Fatalf("the README's example does not compile: %v\n%s", err, out)
	}

	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require(t, err)
		addr := listener.Addr().String()
		listener.Close()
		example := exec.Command(binary)
		example.Env = append(os.Environ(), "SECRET="+secret, "REDIS_URL="+server.URL(), "ADDR="+addr)
		var stderr bytes.Buffer
		example.Stderr = heard.beside(&stderr)
		require(t, example.Start())
		t.Cleanup(func() {
			example.Process.Kill()
			example.Wait()
		})
		for range 200 {
			if c, err := net.Dial("tcp", addr); err == nil {
				c.Close()
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		b := newBrowser(t, "http://"+addr)
		if got := b.get("/").body; got != "Hello, stranger. Visit 1. \n" {
			t.Errorf("first visit: %q\n%s", got, stderr.String())
		}
		before := b.cookie()
		r, _ := http.NewRequest("POST", "http://"+addr+"/signin?"+url.Values{"name": {"Diogo"}}.Encode(), nil)
		if a, err := b.send(r); err != nil || a.status != http.StatusSeeOther {
			t.Errorf("signing in: %d, %v", a.status, err)
		}
		if b.cookie() == before {
			t.Error("signing in has not rotated the id")
		}
		for _, want := range []string{"Hello, Diogo. Visit 2. You are signed in.\n", "Hello, Diogo. Visit 3. \n"} {
			if got := b.get("/").body; got != want {
				t.Errorf("%q, want %q", got, want)
			}
		}
	})
}

// The README names its two commands and links to what is there.
func TestReadmeCommandsAndLinks(t *testing.T) {
	file, err := os.Open("README.md")
	require(t, err)
	defer file.Close()
	commands := map[string]bool{}
	for lines := bufio.NewScanner(file); lines.Scan(); {
		line := lines.Text()
		if command, ok := strings.CutPrefix(line, "    "); ok {
			commands[command] = true
		}
		for _, link := range strings.Split(line, "](")[1:] {
			target, _, _ := strings.Cut(link, ")")
			if _, err := os.Stat(target); err != nil && !strings.HasPrefix(target, "https://") {
				t.Errorf("a link to nothing: %s", target)
			}
		}
	}
	for _, command := range []string{"go run ./examples/shop", "go test ./..."} {
		if !commands[command] {
			t.Errorf("README.md does not have the command %q", command)
		}
	}
}

// Every function that users call has an example. Codecs are called by pycket, so theirs have none.
func TestEveryFunctionHasAnExample(t *testing.T) {
	files := token.NewFileSet()
	var parsed []*ast.File
	paths, err := filepath.Glob("*.go")
	require(t, err)
	for _, path := range paths {
		file, err := parser.ParseFile(files, path, nil, parser.ParseComments)
		require(t, err)
		parsed = append(parsed, file)
	}
	p, err := doc.NewFromFiles(files, parsed, module)
	require(t, err)
	functions := p.Funcs
	for _, typ := range p.Types {
		functions = append(functions, typ.Funcs...)
		if typ.Name != "JSON" && typ.Name != "Gob" {
			functions = append(functions, typ.Methods...)
		}
	}
	for _, f := range functions {
		if len(f.Examples) == 0 {
			t.Errorf("%s %s has no example", f.Recv, f.Name)
		}
	}
}
