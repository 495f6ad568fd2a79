package pycket_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gomodule/redigo/redis"

	"github.com/pycket/pycket/internal/redistest"
)

// An outageOf is a fault of a Redis server, of its clock, or of the network, and what those get who use it meanwhile.
type outageOf struct {
	name                   string
	args                   []string // of redis-server
	reads, writes, logouts service
	loses                  loss
	where                  place
	hangs                  bool // what is refused takes until the timeout
	begin                  func(l *load, server *redistest.Server) (end func())
}

// A place is where an outage is.
type place int

const (
	oneServer   place = iota
	everyServer       // of a cluster, too
	network           // between a server and the application
	names             // of the server, as DNS says them
	clock             // of a server
)

// outages are the faults that docs/reliability.md describes.
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
		{"SIGKILL, AOF always", []string{"--appendonly", "yes", "--appendfsync", "always"}, fails, fails, fails, nothing, oneServer, false, kill},
		{"SIGKILL, AOF everysec", []string{"--appendonly", "yes"}, fails, fails, fails, moments, oneServer, false, kill},
		{"SIGKILL, RDB", nil, fails, fails, fails, moments, oneServer, false, func(l *load, server *redistest.Server) func() {
			server.Do(0, "SAVE")
			l.awaitRequests(10) // which are lost
			return kill(l, server)
		}},
		{"SIGKILL, nothing saved", nil, fails, fails, fails, keys, oneServer, false, kill},
		{"SIGSTOP", nil, fails, fails, fails, nothing, everyServer, true, func(_ *load, server *redistest.Server) func() {
			server.Suspend()
			return server.Resume
		}},
		{"LOADING", slowToLoad(),
			fails, fails, fails, moments, oneServer, false, loading},
		{"BUSY", nil, fails, fails, fails, nothing, oneServer, false, busy},
		{"maxclients", nil, fails, fails, fails, nothing, oneServer, false, full},
		{"CLIENT PAUSE ALL", nil, either, either, either, nothing, oneServer, true, func(_ *load, server *redistest.Server) func() {
			server.Do(0, "CLIENT", "PAUSE", 3000) // nothing ends it before
			return func() { server.Do(0, "PING") }
		}},
		{"CLIENT PAUSE WRITE", nil, either, fails, fails, nothing, oneServer, true, func(_ *load, server *redistest.Server) func() {
			server.Do(0, "CLIENT", "PAUSE", 600_000, "WRITE")
			return func() { server.Do(0, "CLIENT", "UNPAUSE") }
		}},
		{"CLIENT KILL", nil, works, either, works, nothing, everyServer, false, killing},
		{"SCRIPT FLUSH", nil, works, works, works, nothing, everyServer, false, again("SCRIPT", "FLUSH")},
		{"OOM", nil, works, fails, works, nothing, everyServer, false, refuses("OOM")},
		{"MISCONF, RDB", nil, works, fails, fails, nothing, oneServer, false, refuses("MISCONF")},
		{"MISCONF, AOF", []string{"--appendonly", "yes"}, works, fails, fails, nothing, oneServer, false, diskFull},
		{"NOREPLICAS", nil, works, fails, fails, nothing, oneServer, false, refuses("NOREPLICAS")},
		{"READONLY", nil, works, fails, fails, nothing, oneServer, false, refuses("READONLY")},

		{"network is slow", nil, works, works, works, nothing, network, false, func(l *load, _ *redistest.Server) func() {
			l.proxy.Delay(10 * time.Millisecond)
			return func() { l.proxy.Delay(0) }
		}},
		{"network trickles", nil, works, works, works, nothing, network, false, func(l *load, _ *redistest.Server) func() {
			l.proxy.Trickle(time.Nanosecond)
			return func() { l.proxy.Trickle(0) }
		}},
		{"network is too slow", nil, fails, fails, fails, nothing, network, true, losing(func(p *redistest.Proxy) { p.Trickle(300 * time.Millisecond) })},
		{"network drops all", nil, fails, fails, fails, nothing, network, true, losing(func(p *redistest.Proxy) {
			p.Mute()
			p.Clog()
		})},
		{"network drops replies and cuts", nil, fails, fails, fails, nothing, network, false, losing(func(p *redistest.Proxy) { p.DropReplies(true) })},
		{"network cuts in the middle", nil, either, either, either, nothing, network, false, cutting},
		{"network corrupts", nil, either, either, either, nothing, network, true, corrupting},
		{"DNS is silent, then names another address", nil, fails, fails, fails, nothing, names, true, func(l *load, _ *redistest.Server) func() {
			l.resolves("")
			l.proxy.Cut()
			return func() { l.resolves("192.0.2.2") }
		}},
		{"clock is set back", nil, works, works, works, nothing, clock, false, setting(-hours)},
		{"clock is set forward", nil, works, works, works, nothing, clock, false, setting(hours)},
		{"clock is set forward by a month", nil, works, works, works, keys, clock, false, setting(30 * 24 * time.Hour)},
	}
	for _, policy := range []string{"allkeys-lru", "allkeys-lfu", "allkeys-random", "volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl"} {
		list = append(list, outageOf{"eviction, " + policy, nil, works, works, works, keys, oneServer, false, evicting(policy)})
	}
	return list
}

// Every fault, under load: what does not work says so in time, the first request afterwards works, and nothing is lost
// that need not be. Nobody gets what is another's, half of a write, or a notification twice.
func TestOutages(t *testing.T) {
	signal.Ignore(syscall.SIGXFSZ) // by the servers that are started here: see diskFull
	defer signal.Reset(syscall.SIGXFSZ)
	test := func(t *testing.T, o outageOf, server *redistest.Server) {
		s := settings(server)
		var proxy *redistest.Proxy
		var resolves func(address string)
		switch o.where {
		case network:
			proxy, s = proxied(t, server)
		case names:
			proxy = redistest.NewProxy(t, server)
			resolves = named(t, &s, map[string]string{"192.0.2.1": proxy.Addr, "192.0.2.2": server.Addr})
			resolves("192.0.2.1")
		}
		s.Redis.Timeout = 6 * bound // which nothing takes that need not
		if o.hangs {
			s.Redis.Timeout = time.Second
		}
		l := newLoad(t, s, o.loses)
		l.proxy, l.resolves = proxy, resolves
		if !o.hangs {
			l.enough = 30
		}
		var ends []func()
		end := func() {
			for _, end := range ends {
				end()
			}
			// What comes behind a command, or an attempt to connect, that has waited for the timeout ends with it.
			if o.hangs && ends != nil {
				l.awaitRequests(1)
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
			switch o.where {
			case everyServer:
				redistest.Real(t, func(t *testing.T, server *redistest.Server) { test(t, o, server) })
			case clock:
				test(t, o, redistest.StartClocked(t))
			default:
				test(t, o, redistest.Start(t, o.args...))
			}
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

// killing lets a server close the connections that have carried out a command: those that are being made are left, as is
// a connection that is not yet there when it looks. It does so again when all visitors have done a request since.
func killing(l *load, server *redistest.Server) func() {
	c := dial(l.t, server)
	return repeated(func() error {
		list, err := redis.String(c.Do("CLIENT", "LIST"))
		for _, client := range killable.FindAllStringSubmatch(list, -1) {
			if err == nil && !slices.Contains([]string{"client", "auth", "select", "cluster"}, client[2]) {
				_, err = c.Do("CLIENT", "KILL", "ID", client[1])
			}
		}
		l.awaitRequests(1)
		return err
	})
}

// killable finds the clients in a list that have carried out a command, and its name.
var killable = regexp.MustCompile(`(?m)^id=([0-9]+) .* cmd=([a-z]+)`)

// losing lets the network do something that loses what is on its way when it ends.
func losing(begin func(p *redistest.Proxy)) func(*load, *redistest.Server) func() {
	return func(l *load, _ *redistest.Server) func() {
		begin(l.proxy)
		return l.restore
	}
}

// cutting lets the network cut connections, at any byte.
func cutting(l *load, _ *redistest.Server) func() {
	l.proxy.CutRandomly(1)
	l.proxy.Cut() // those that there are
	await(l.t, "cuts", func() bool { return l.proxy.Cuts() >= 200 })
	return l.restore
}

// corrupting lets the network change what says how replies are to be read.
func corrupting(l *load, _ *redistest.Server) func() {
	random := rand.New(rand.NewPCG(1, 2))
	var changed atomic.Int32
	l.proxy.Corrupt(func(reply []byte) []byte {
		if random.IntN(4) > 0 {
			return reply
		}
		changed.Add(1)
		return corrupted(random, reply)
	})
	await(l.t, "changes", func() bool { return changed.Load() >= 50 })
	return l.restore
}

// corrupted changes one byte of those that say how a reply is to be read: a type, a digit of a length, the end of a line.
func corrupted(random *rand.Rand, reply []byte) []byte {
	framing := []int{}
	for i := 0; i < len(reply); {
		end := i + strings.Index(string(reply[i:]), "\n") + 1
		framing = append(framing, i, end-2, end-1)
		next := end
		if kind := reply[i]; kind == '$' || kind == '*' {
			for at := i + 1; at < end-2; at++ {
				framing = append(framing, at)
			}
			if n, err := strconv.Atoi(string(reply[i+1 : end-2])); kind == '$' && err == nil && n >= 0 {
				framing = append(framing, end+n, end+n+1)
				next = end + n + 2
			}
		}
		i = next
	}
	changed := slices.Clone(reply)
	changed[framing[random.IntN(len(framing))]] = "0123456789+-:*$\r\nx"[random.IntN(18)]
	return changed
}

// setting sets a server's clock.
func setting(ahead time.Duration) func(*load, *redistest.Server) func() {
	return func(_ *load, server *redistest.Server) func() {
		server.SetClock(ahead)
		return func() { server.SetClock(0) }
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
