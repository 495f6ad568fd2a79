package pycket_test

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gomodule/redigo/redis"

	"github.com/pycket/pycket/internal/redistest"
)

// An outageOf is a fault of a Redis server, and what those get who use it meanwhile.
type outageOf struct {
	name                   string
	args                   []string // of redis-server
	reads, writes, logouts service
	loses                  loss
	cluster                bool // tested there, too: all servers have it
	hangs                  bool // what is refused takes until the timeout
	begin                  func(l *load, server *redistest.Server) (end func())
}

// outages are the faults of a server. docs/reliability.md describes them.
func outages() []outageOf {
	kill := func(_ *load, server *redistest.Server) func() {
		server.Kill()
		return server.Restart
	}
	refuses := func(name string) func(*load, *redistest.Server) func() {
		for _, r := range refusals() {
			if r.name == name {
				return func(_ *load, server *redistest.Server) func() {
					r.begin(server)
					return func() { r.end(server) }
				}
			}
		}
		panic(name)
	}
	list := []outageOf{
		{"SIGKILL, AOF always", []string{"--appendonly", "yes", "--appendfsync", "always"}, fails, fails, fails, nothing, false, false, kill},
		{"SIGKILL, AOF everysec", []string{"--appendonly", "yes"}, fails, fails, fails, moments, false, false, kill},
		{"SIGKILL, RDB", nil, fails, fails, fails, moments, false, false, func(l *load, server *redistest.Server) func() {
			server.Do(0, "SAVE")
			l.awaitRequests(10) // which are lost
			return kill(l, server)
		}},
		{"SIGKILL, nothing saved", nil, fails, fails, fails, keys, false, false, kill},
		{"SIGSTOP", nil, fails, fails, fails, nothing, true, true, func(_ *load, server *redistest.Server) func() {
			server.Suspend()
			return server.Resume
		}},
		{"LOADING", slowToLoad(),
			fails, fails, fails, moments, false, false, loading},
		{"BUSY", nil, fails, fails, fails, nothing, false, false, busy},
		{"maxclients", nil, fails, fails, fails, nothing, false, false, full},
		{"CLIENT PAUSE ALL", nil, either, either, either, nothing, false, true, func(_ *load, server *redistest.Server) func() {
			server.Do(0, "CLIENT", "PAUSE", 3000) // nothing ends it before
			return func() { server.Do(0, "PING") }
		}},
		{"CLIENT PAUSE WRITE", nil, either, fails, fails, nothing, false, true, func(_ *load, server *redistest.Server) func() {
			server.Do(0, "CLIENT", "PAUSE", 600_000, "WRITE")
			return func() { server.Do(0, "CLIENT", "UNPAUSE") }
		}},
		{"CLIENT KILL", nil, either, either, either, nothing, true, false, again("CLIENT", "KILL", "TYPE", "normal")},
		{"SCRIPT FLUSH", nil, works, works, works, nothing, true, false, again("SCRIPT", "FLUSH")},
		{"OOM", nil, works, fails, works, nothing, true, false, refuses("OOM")},
		{"MISCONF, RDB", nil, works, fails, fails, nothing, false, false, refuses("MISCONF")},
		{"MISCONF, AOF", []string{"--appendonly", "yes"}, works, fails, fails, nothing, false, false, diskFull},
		{"NOREPLICAS", nil, works, fails, fails, nothing, false, false, refuses("NOREPLICAS")},
		{"READONLY", nil, works, fails, fails, nothing, false, false, refuses("READONLY")},
	}
	for _, policy := range []string{"allkeys-lru", "allkeys-lfu", "allkeys-random", "volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl"} {
		list = append(list, outageOf{"eviction, " + policy, nil, either, either, either, keys, false, false, evicting(policy)})
	}
	return list
}

// Every fault of a server, under load: what does not work says so in time, the first request afterwards works, and
// nothing is lost that need not be. Nobody gets what is another's, half of a write, or a notification twice.
func TestOutages(t *testing.T) {
	signal.Ignore(syscall.SIGXFSZ) // by the servers that are started here: see diskFull
	defer signal.Reset(syscall.SIGXFSZ)
	test := func(t *testing.T, o outageOf, server *redistest.Server) {
		s := settings(server)
		if o.hangs {
			s.Redis.Timeout = time.Second
		}
		l := newLoad(t, s, o.loses)
		var ends []func()
		end := func() {
			for _, end := range ends {
				end()
			}
			ends = nil
		}
		defer end() // if the test fails before
		nodes := server.Nodes()
		if nodes == nil {
			nodes = []*redistest.Server{server}
		}
		l.during(func() {
			for _, node := range nodes {
				ends = append(ends, o.begin(l, node))
			}
		}, end)
		l.wants("reads", reads, o.reads)
		l.wants("writes", writes, o.writes)
		l.wants("logouts", logouts, o.logouts)
		l.scan(server)
	}
	for _, o := range outages() {
		t.Run(o.name, func(t *testing.T) {
			if !o.cluster {
				test(t, o, redistest.Start(t, o.args...))
				return
			}
			redistest.Real(t, func(t *testing.T, server *redistest.Server) { test(t, o, server) })
		})
	}
}

// Every test that docs/reliability.md names is there, and every outage stands in it.
func TestFaultsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("docs/reliability.md")
	require(t, err)
	tests, list := namesOfTests(t), outages()
	nameOf := func(o outageOf) string { return "TestOutages/" + strings.ReplaceAll(o.name, " ", "_") }
	named := map[string]bool{}
	for _, found := range regexp.MustCompile("`(Test[A-Za-z]+)(/[^`]*)?`").FindAllStringSubmatch(string(page), -1) {
		if !tests[found[1]] {
			t.Errorf("docs/reliability.md names %s, which is not there", found[1])
		}
		if found[1] != "TestOutages" || found[2] == "" {
			continue
		}
		test := found[1] + found[2]
		if !slices.ContainsFunc(list, func(o outageOf) bool { return strings.HasPrefix(nameOf(o), test) }) {
			t.Errorf("docs/reliability.md names %s, which is not there", test)
		}
		for _, o := range list {
			named[o.name] = named[o.name] || strings.HasPrefix(nameOf(o), test)
		}
	}
	for _, o := range list {
		if !named[o.name] {
			t.Errorf("docs/reliability.md does not name %s", nameOf(o))
		}
	}
}

// dial is a connection to a server, for what must not end the test.
func dial(t *testing.T, server *redistest.Server) redis.Conn {
	t.Helper()
	c, err := redis.Dial("tcp", server.Addr)
	require(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// awaitReply waits until a command is answered in a way.
func awaitReply(t *testing.T, server *redistest.Server, fits func(err error) bool, command string, args ...any) {
	t.Helper()
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		c, err := redis.Dial("tcp", server.Addr)
		if err == nil {
			_, err = c.Do(command, args...)
			c.Close()
		}
		if fits(err) {
			return
		}
		if time.Since(began) > time.Minute {
			t.Fatalf("%s: %v", command, err)
		}
	}
}

func begins(prefix string) func(error) bool {
	return func(err error) bool { return err != nil && strings.HasPrefix(err.Error(), prefix) }
}

// repeated does something again and again in the background, until stop is called.
func repeated(something func() error) (stop func()) {
	done := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(2 * time.Millisecond):
				something()
			}
		}
	})
	return func() {
		close(done)
		running.Wait()
	}
}

func again(command string, args ...any) func(*load, *redistest.Server) func() {
	return func(l *load, server *redistest.Server) func() {
		c := dial(l.t, server)
		return repeated(func() error {
			_, err := c.Do(command, args...)
			return err
		})
	}
}

// slowToLoad returns the arguments with which a server takes seconds to load 2,000 values, and answers meanwhile. One
// older than 7.0 answers once in 2 MB.
func slowToLoad() []string {
	if redistest.Debuggable() == nil {
		return []string{"--rdbcompression", "no", "--key-load-delay", "2500"}
	}
	return []string{"--rdbcompression", "no", "--key-load-delay", "20000", "--loading-process-events-interval-bytes", "1024"}
}

// loading restarts a server that has much to load.
func loading(l *load, server *redistest.Server) func() {
	size, hurry := 2000, func() { server.Do(0, "CONFIG", "SET", "key-load-delay", 0) }
	if redistest.Debuggable() == nil { // it takes no command meanwhile
		size, hurry = 50_000, func() {}
	}
	server.Do(0, "EVAL", `for i = 1, 2000 do redis.call('SETEX', 'filler:' .. i, 1000, string.rep('x', ARGV[1])) end`, 0, size)
	server.Do(0, "SAVE")
	server.Kill()
	restarted := make(chan struct{})
	go func() {
		defer close(restarted)
		server.Restart()
	}()
	awaitReply(l.t, server, begins("LOADING"), "PING")
	return func() {
		hurry()
		<-restarted
	}
}

// busy runs a script that does not end.
func busy(l *load, server *redistest.Server) func() {
	server.Do(0, "CONFIG", "SET", "lua-time-limit", 10)
	c := dial(l.t, server)
	require(l.t, cmp.Or(c.Send("EVAL", "while true do end", 0), c.Flush()))
	awaitReply(l.t, server, begins("BUSY"), "PING")
	return func() {
		server.Do(0, "SCRIPT", "KILL")
		awaitReply(l.t, server, func(err error) bool { return err == nil }, "PING")
		server.Do(0, "CONFIG", "SET", "lua-time-limit", 5000)
	}
}

// full lets a server accept no more connections, and closes those that there are.
func full(l *load, server *redistest.Server) func() {
	c := dial(l.t, server)
	do := func(command string, args ...any) {
		l.t.Helper()
		_, err := c.Do(command, args...)
		require(l.t, err)
	}
	do("CONFIG", "SET", "maxclients", 1)
	do("CLIENT", "KILL", "TYPE", "normal")
	return func() { do("CONFIG", "SET", "maxclients", 10_000) }
}

// diskFull lets a server's files not grow any more. It gets an error when it writes, unless a signal ends it before.
func diskFull(l *load, server *redistest.Server) func() {
	redistest.Require(l.t, "prlimit", "util-linux")
	info, err := redis.String(server.Do(0, "INFO", "server"), nil)
	require(l.t, err)
	_, pid, _ := strings.Cut(info, "process_id:")
	pid, _, _ = strings.Cut(pid, "\r")
	limit := func(bytes string) {
		l.t.Helper()
		require(l.t, exec.Command("prlimit", "--pid", pid, "--fsize="+bytes+":").Run())
	}
	write := []any{"filler", "x", "EX", 1000}
	limit("1")
	awaitReply(l.t, server, begins("MISCONF"), "SET", write...)
	return func() {
		limit("unlimited")
		awaitReply(l.t, server, func(err error) bool { return err == nil }, "SET", write...)
	}
}

// evicting fills a server until it evicts keys.
func evicting(policy string) func(*load, *redistest.Server) func() {
	return func(l *load, server *redistest.Server) func() {
		c, n := dial(l.t, server), 0
		fill := func() error {
			n++
			_, err := c.Do("SET", fmt.Sprint("filler:", n%200), strings.Repeat("x", 50<<10), "EX", 200_000) // more than sessions
			return err
		}
		for range 40 {
			require(l.t, fill())
		}
		server.Do(0, "CONFIG", "SET", "maxmemory-policy", policy)
		server.Do(0, "CONFIG", "SET", "maxmemory", int(figure(l.t, server, "memory", "used_memory")))
		stop := repeated(fill)
		return func() {
			stop()
			server.Do(0, "CONFIG", "SET", "maxmemory", 0)
			if figure(l.t, server, "stats", "evicted_keys") == 0 {
				l.t.Error("nothing was evicted")
			}
		}
	}
}
