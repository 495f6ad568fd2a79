//go:build unix

package redistest

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gomodule/redigo/redis"
	"go.uber.org/goleak"
)

// All that was started has ended when the tests have.
func TestMain(m *testing.M) {
	code := m.Run()
	StopShared()
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

func dial(t *testing.T, addr string) redis.Conn {
	t.Helper()
	c, err := redis.Dial("tcp", addr, redis.DialReadTimeout(10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestDoAndKeys(t *testing.T) {
	Every(t, func(t *testing.T, server *Server) {
		for i := range 10 {
			server.Do(0, "SET", fmt.Sprint("key", i), i)
		}
		server.Do(1, "SET", "pycket:n:{a}", "note")
		if got, _ := redis.String(server.Do(1, "GET", "pycket:n:{a}"), nil); got != "note" {
			t.Errorf("got %q", got)
		}
		if sessions, notes := server.Keys(0), server.Keys(1); len(sessions) != 10 || !slices.Equal(notes, []string{"pycket:n:{a}"}) {
			t.Errorf("keys: %q, %q", sessions, notes)
		}
		if got := server.Size(); got != 11 {
			t.Errorf("%d keys", got)
		}
		server.Do(0, "FLUSHALL")
		server.Do(0, "HSET", "only", "field", "value")
		if got := server.Hash(0, server.OnlyKey()); len(got) != 1 || got["field"] != "value" {
			t.Errorf("the hash is %q", got)
		}
		server.Do(0, "FLUSHALL")
		if keys := slices.Concat(server.Keys(0), server.Keys(1)); len(keys) > 0 {
			t.Errorf("%q are left", keys)
		}
	})
}

func TestRestart(t *testing.T) {
	Both(t, func(t *testing.T, server *Server) {
		server.Do(0, "SET", "a", "b")
		server.Kill()
		if _, err := redis.Dial("tcp", server.Addr); err == nil {
			t.Error("a killed server answers")
		}
		for range 2 { // the second kills it by itself
			server.Restart()
			if keys := server.Keys(0); len(keys) > 0 {
				t.Errorf("%q are left", keys)
			}
		}
		t.Run("in a subtest", func(t *testing.T) { server.On(t).Restart() })
		server.Do(0, "SET", "a", "b")
	})
}

func TestSuspend(t *testing.T) {
	server := Start(t, "--requirepass", "secret")
	t.Run("until its end", func(t *testing.T) { server.On(t).Suspend() })
	dial(t, server.Addr).Do("AUTH", "secret")
	server.Suspend()
	c, err := redis.Dial("tcp", server.Addr, redis.DialReadTimeout(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Do("AUTH", "secret"); err == nil {
		t.Error("a suspended server answers")
	}
	server.Resume()
	if _, err := dial(t, server.Addr).Do("AUTH", "secret"); err != nil {
		t.Error(err)
	}
	server.Signal(syscall.SIGKILL)
	server.Restart()
}

func TestScripts(t *testing.T) {
	for name, start := range map[string]func(testing.TB) *Server{
		"redis":   func(t testing.TB) *Server { return Start(t) },
		"cluster": SharedCluster,
	} {
		t.Run(name, func(t *testing.T) {
			server := start(t)
			server.Scripts()
			server.Do(0, "EVAL", "return 1", 0)
			server.Do(0, "HGETALL", "b") // which is on the first node
			if _, err := dial(t, server.Addr).Do("EVALSHA", strings.Repeat("0", 40), 0); err == nil {
				t.Error("no error")
			}
			if run, refused := server.Scripts(); run != 2 || refused != 1 {
				t.Errorf("%d run, %d refused", run, refused)
			}
			if run, refused := server.Scripts(); run != 0 || refused != 0 {
				t.Errorf("then %d run, %d refused", run, refused)
			}
		})
	}
}

// ended is a test that notes how it ends.
type ended struct {
	testing.TB
	how string
}

func (e *ended) Skip(args ...any)  { e.end("skip: ", args) }
func (e *ended) Fatal(args ...any) { e.end("fatal: ", args) }

func (e *ended) end(how string, args []any) {
	e.how = how + fmt.Sprint(args...)
	runtime.Goexit()
}

// howEnds is how f ends its test.
func howEnds(t *testing.T, f func(t testing.TB)) string {
	e, done := &ended{TB: t}, make(chan struct{})
	go func() {
		defer close(done)
		f(e)
	}()
	<-done
	return e.how
}

func TestRequire(t *testing.T) {
	t.Setenv("PYCKET_TEST_SERVER", "no-such-server")
	if Installed() {
		t.Error("no-such-server is installed")
	}
	for _, test := range []struct {
		require, want string
		f             func(t testing.TB)
	}{
		{"", "", func(t testing.TB) { Require(t, "go", "golang") }},
		{"", "skip: no-such-program is not installed; on Debian: apt-get install none", func(t testing.TB) { Require(t, "no-such-program", "none") }},
		{"all", "fatal: no-such-program is not installed; on Debian: apt-get install none", func(t testing.TB) { Require(t, "no-such-program", "none") }},
		{"", "skip: no-such-server is not installed; on Debian: apt-get install redis-server", func(t testing.TB) { Start(t) }},
		{"all", "fatal: no-such-server is not installed; on Debian: apt-get install redis-server", func(t testing.TB) { SharedCluster(t) }},
	} {
		t.Setenv("PYCKET_TEST_REQUIRE", test.require)
		if got := howEnds(t, test.f); got != test.want {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
}

// A server that does not start says why.
func TestStartFails(t *testing.T) {
	Require(t, program(), "redis-server")
	if got := howEnds(t, func(t testing.TB) { Start(t, "--no-such-option", "yes") }); !strings.Contains(got, "no-such-option") {
		t.Errorf("it ends with %q", got)
	}
}
