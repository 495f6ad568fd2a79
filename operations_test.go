package pycket_test

// What docs/operations.md says: the tests take from the page what it tells operators to do, and do it.

import (
	"bytes"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pycket/pycket"
	"github.com/pycket/pycket/internal/redistest"
)

// operationsPage is the text of docs/operations.md.
func operationsPage() []byte {
	page, err := os.ReadFile("docs/operations.md")
	if err != nil {
		panic(err)
	}
	return page
}

// rights are those that the page lists under names, as ACL SETUSER takes them.
func rights(names ...string) (rules []string) {
	page := operationsPage()
	for _, name := range names {
		m := regexp.MustCompile(`(?m)^\*\*` + name + `\*\*[^\n]*\n(?:[^\n]+\n)*\n    ACL SETUSER \S+ (.*)$`).FindSubmatch(page)
		if m == nil {
			panic("docs/operations.md has no rights for " + name)
		}
		rules = append(rules, strings.Fields(string(m[1]))...)
	}
	return rules
}

// beginRestricted makes all tests use Redis as a user with the documented rights, if PYCKET_TEST_ACL is set. One prefix
// of the keys is documented, and tests have others.
func beginRestricted() {
	if os.Getenv("PYCKET_TEST_ACL") == "" {
		return
	}
	redistest.As("pycket", "PASSWORD", append(rights("Sessions", "Users", "Cluster", "WaitReplicas", "CacheFor", "Eviction"), "~other:*", "~app*", "~{a}*"))
}

// allow gives a user these rights and no others.
func allow(server *redistest.Server, user string, rules []string) {
	args := []any{"SETUSER", user, "reset"}
	for _, rule := range rules {
		args = append(args, rule)
	}
	for _, node := range append(server.Nodes(), server) {
		node.Do(0, "ACL", args...)
	}
}

// without calls test for each right to a command, with all others.
func without(t *testing.T, rules []string, test func(t *testing.T, command string, others []string)) {
	t.Helper()
	for i, rule := range rules {
		if command, is := strings.CutPrefix(rule, "+"); is {
			t.Run("without "+command, func(t *testing.T) { test(t, command, slices.Delete(slices.Clone(rules), i, i+1)) })
		}
	}
}

// The rights that are documented are those that it takes: with them everything works, and without any of them Ping
// says so, and which it is.
func TestRights(t *testing.T) {
	redistest.Real(t, func(t *testing.T, server *redistest.Server) {
		rules := rights("Sessions", "Users")
		inCluster := server.Nodes() != nil
		if inCluster {
			rules = append(slices.DeleteFunc(rules, func(rule string) bool { return rule == "+select" }), rights("Cluster")...)
		}
		t.Cleanup(func() {
			for _, node := range append(server.Nodes(), server) {
				node.Do(0, "ACL", "DELUSER", "restricted")
			}
		})
		allow(server, "restricted", rules)
		s := settings(server)
		s.Redis.URL = "redis://restricted:PASSWORD@"
		if !inCluster {
			s.Redis.URL += server.Addr
		}
		site := newSite(t, s)
		noError(t, site.app.Ping(t.Context()))
		for _, op := range append([]string{"login:ann", "user", "setuser:bob", "authtime", "others"}, everyOperation...) {
			b := site.browser()
			b.must("login:ann", "set:a:b", "remember")
			b.must(op)
		}
		if n, err := site.app.RevokeUser(t.Context(), "ann"); n == 0 || err != nil {
			t.Error(n, err)
		}
		server.Do(0, "FLUSHALL")

		without(t, rules, func(t *testing.T, command string, others []string) {
			if command == "asking" { // Ping can't try it: it is for a slot that moves, as in TestSlotMoves
				return
			}
			allow(server, "restricted", others)
			app, word := site.app, strings.ToUpper(command)
			switch {
			case strings.HasPrefix(command, "eval"):
				word = "'" + command + "'"
			case command == "cluster|slots": // it is asked for the layout once
				app, word = newApp(t, s), "'cluster" // of which older servers name no subcommand
			}
			refused(t, server, app, "Redis.URL", "ACL SETUSER", word, "docs/operations.md")
		})
		for _, keys := range []string{"~pycket:s:*", "~pycket:[smu]:*", "~pycket:[snu]:*", "~pycket:[snm]:*", "~other:*"} {
			t.Run("keys "+keys, func(t *testing.T) {
				changed := slices.Clone(rules)
				changed[slices.Index(changed, "~pycket:*")] = keys
				allow(server, "restricted", changed)
				refused(t, server, site.app, "Redis.URL", "ACL SETUSER")
			})
		}
	})
}

// The rights that are documented for CacheFor are enough, and each is needed.
func TestCacheRights(t *testing.T) {
	server := redistest.Start(t)
	base, more := rights("Sessions", "Users"), rights("CacheFor")
	s := settings(server)
	s.Redis.URL = "redis://restricted:PASSWORD@" + server.Addr
	s.CacheFor = time.Second
	for i := -1; i < len(more); i++ {
		some := more
		if i >= 0 {
			some = slices.Delete(slices.Clone(more), i, i+1)
		}
		allow(server, "restricted", slices.Concat(base, some))
		err := newApp(t, s).Ping(t.Context())
		if i < 0 {
			noError(t, err)
			continue
		}
		wantError(t, err, nil, "CacheFor is set", "docs/operations.md")
	}
}

// The rights that are documented for WaitReplicas and for the sentinels' own user are enough, and each is needed.
func TestSentinelRights(t *testing.T) {
	group := redistest.StartGroup(t)
	give := func(rules []string) {
		for _, server := range group.Servers {
			allow(server, "restricted", rules)
		}
	}
	giveSentinels := func(rules []string) {
		args := []any{"SETUSER", "pycket-sentinel", "reset"}
		for _, rule := range rules {
			args = append(args, rule)
		}
		group.DoSentinels(t, "ACL", args...)
	}
	s := behind(group)
	s.Redis.URL, s.Redis.WaitReplicas, s.Redis.Timeout = "redis://restricted:PASSWORD@", 2, timeout
	s.Redis.Sentinel.User, s.Redis.Sentinel.Password = "pycket-sentinel", "PASSWORD"
	awaitReplicas(t, group.Servers[0], "{any}", 2)
	give(rights("Sessions", "Users", "WaitReplicas"))
	giveSentinels(rights("Sentinel"))
	noError(t, newApp(t, s).Ping(t.Context()))

	without(t, rights("Sentinel"), func(t *testing.T, command string, others []string) {
		giveSentinels(others)
		wantError(t, newApp(t, s).Ping(t.Context()), pycket.ErrUnavailable, "NOPERM", "Redis.Sentinel.User", "SENTINEL")
	})
	giveSentinels(rights("Sentinel"))
	give(rights("Sessions", "Users"))
	err := newApp(t, s).Ping(t.Context())
	wantError(t, err, pycket.ErrNotReplicated, "NOPERM", "'wait'", "docs/operations.md")
	if !errors.Is(err, pycket.ErrMisconfigured) {
		t.Errorf("%v is not ErrMisconfigured", err)
	}
}

// A redis-server takes the lines that are to be put into its configuration, and a sentinel those that are to be put into
// its own.
func TestDocumentedConfiguration(t *testing.T) {
	blocks := regexp.MustCompile(`(?m)^    # (redis|sentinel)\.conf\n((?:    .+\n)+)`).FindAllSubmatch(operationsPage(), -1)
	if len(blocks) < 4 {
		t.Fatalf("%d blocks", len(blocks))
	}
	for _, block := range blocks {
		lines := strings.Split(strings.TrimSpace(string(block[2])), "\n")
		if string(block[1]) == "redis" {
			var args []string
			for _, line := range lines {
				words := strings.Fields(strings.Replace(line, "listpack", "ziplist", 1)) // which older servers say, and all know
				args = append(append(args, "--"+words[0]), words[1:]...)
			}
			server := redistest.Start(t, args...)
			if strings.Contains(string(block[2]), "cluster-enabled") { // and has no slots
				continue
			}
			err := newApp(t, settings(server)).Ping(t.Context())
			if strings.Contains(string(block[2]), "min-replicas") { // and has no replicas
				wantError(t, err, pycket.ErrUnavailable, "NOREPLICAS")
			} else {
				noError(t, err)
			}
			continue
		}
		group := redistest.StartGroup(t)
		for _, line := range lines[1:] { // the first names the master
			words := strings.Fields(line) // sentinel <option> <master> <value>
			group.DoSentinels(t, "SENTINEL", "SET", group.Name, words[1], words[3])
		}
	}
}

// Every word of the page's last section that an error or a line of the log is known by is in the source, or is said by
// Redis, the network or TLS; and some test has it, since what the source has may never be printed.
func TestDocumentedWords(t *testing.T) {
	var source, tests strings.Builder
	require(t, filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil || path == "operations_test.go":
			return err
		case strings.HasSuffix(path, "_test.go"):
			return writeStrings(&tests, path)
		case strings.HasSuffix(path, ".go"):
			return writeStrings(&source, path)
		case strings.HasSuffix(path, ".lua"):
			text, err := os.ReadFile(path)
			source.Write(text)
			return err
		}
		return nil
	}))
	_, section, found := strings.Cut(string(operationsPage()), "## What to do when\n")
	rows := regexp.MustCompile(`(?m)^\| ([^|]*) \|`).FindAllStringSubmatch(section, -1)
	if !found || len(rows) < 30 {
		t.Fatalf("%d rows", len(rows))
	}
	elsewhere := []string{ // no such host needs a resolver, which a test may not have
		"connection refused", "no such host", "i/o timeout", "context deadline exceeded", "OOM command", "LOADING", "CLUSTERDOWN",
		"certificate signed by unknown authority", "certificate is valid for", "IP SANs", "certificate has expired", "remote error: tls",
	}
	for _, row := range rows {
		for _, words := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(row[1], -1) {
			said := strings.TrimPrefix(words[1], "pycket: ")
			if strings.HasPrefix(said, "Err") { // which the text wraps
				continue
			}
			if !strings.Contains(source.String(), said) && !slices.Contains(elsewhere, said) {
				t.Errorf("nothing says %q", words[1])
			}
			if !strings.Contains(tests.String(), said) && said != "no such host" {
				t.Errorf("no test sees %q", words[1])
			}
		}
	}
}

// writeStrings writes the strings in a Go file: comments are not printed.
func writeStrings(to *strings.Builder, path string) error {
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			text, _ := strconv.Unquote(lit.Value)
			to.WriteString(text + "\n")
		}
		return true
	})
	return nil
}

// The page's program says that it is ready while Redis can be used, and when it is told to end, requests under way end
// first and can use Redis.
func TestDocumentedProgram(t *testing.T) {
	_, rest, _ := strings.Cut(string(operationsPage()), "```go\npackage main")
	source, _, found := strings.Cut(rest, "```")
	if !found {
		t.Fatal("the page has no program")
	}
	dir, err := os.MkdirTemp(".", "operations-example-") // in the module, so that it finds the package
	require(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	require(t, os.WriteFile(filepath.Join(dir, "main.go"), []byte("package main"+source), 0o600))
	binary := filepath.Join(t.TempDir(), "example")
	if out, err := exec.Command("go", "build", "-o", binary, "./"+dir).CombinedOutput(); err != nil {
		t.Fatalf("it does not compile: %v\n%s", err, out)
	}

	server := redistest.Start(t)
	proxy := redistest.NewProxy(t, server)
	address, b := startProgram(t, binary, proxy.URL())
	if a := b.get("/ready"); a.status != http.StatusOK {
		t.Errorf("ready: %d", a.status)
	}
	server.Do(0, "CONFIG", "SET", "maxmemory", 1)
	if a := b.get("/ready"); a.status != http.StatusServiceUnavailable {
		t.Errorf("ready, and Redis is full: %d", a.status)
	}
	server.Do(0, "CONFIG", "SET", "maxmemory", 0)
	equal(t, "the first visit", "Visit 1.\n", b.get("/").body)

	proxy.Hold() // what Redis answers
	answered := make(chan answer)
	go func() {
		a, err := b.send(b.request("/"))
		if err != nil {
			t.Error(err)
		}
		answered <- a
	}()
	proxy.AwaitCommands(1)
	require(t, address.Signal(syscall.SIGTERM))
	for tries := 0; ; tries++ { // until it listens no more
		c, err := net.Dial("tcp", b.base.Host)
		if err != nil {
			break
		}
		c.Close()
		if tries == 1000 {
			t.Fatal("it goes on listening")
		}
		time.Sleep(10 * time.Millisecond)
	}
	proxy.Pass()
	equal(t, "a visit while it ends", "Visit 2.\n", (<-answered).body)
	state, err := address.Wait()
	if err != nil || !state.Success() {
		t.Errorf("it ends with %v, %v", state, err)
	}
}

// startProgram starts a program with the environment variables SECRET, REDIS_URL and ADDR, and waits until it listens.
func startProgram(t *testing.T, binary, redisURL string) (*os.Process, *browser) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require(t, err)
	address := listener.Addr().String()
	listener.Close()
	program := exec.Command(binary)
	program.Env = append(os.Environ(), "SECRET="+secret, "REDIS_URL="+redisURL, "ADDR="+address)
	program.Stderr = heard.beside(new(bytes.Buffer))
	require(t, program.Start())
	t.Cleanup(func() { program.Process.Kill() })
	for range 1000 {
		if c, err := net.Dial("tcp", address); err == nil {
			c.Close()
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	return program.Process, newBrowser(t, "http://"+address)
}

// While the secret is changed as the page says, processes of two steps run side by side, and each reads what the other
// has signed.
func TestDocumentedRotation(t *testing.T) {
	old, fresh := secret, otherSecret
	known := []string{old, fresh}   // 1. every process knows the new secret
	signing := []string{fresh, old} // 2. it signs
	alone := []string{fresh}        // 3. the old one is gone
	server := redistest.Start(t)
	sites := []*site{}
	for _, secrets := range [][]string{{old}, known, signing, alone} {
		s := settings(server)
		s.Secrets = secrets
		sites = append(sites, newSite(t, s))
	}
	for i, site := range sites[:len(sites)-1] {
		before, after := site.browser(), sites[i+1].browser()
		before.must("login:ann", "set:a:b")
		after.must("login:ann", "set:a:b")
		if i < 2 { // before the old one is gone
			equal(t, "signed before", []any{"b"}, sites[i+1].receive(before).must("get:a"))
		}
		equal(t, "signed after", []any{"b"}, site.receive(after).must("get:a"))
	}
}
