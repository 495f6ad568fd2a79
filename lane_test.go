package pycket_test

// The faults of the connection that requests share: see lane in redispool.go.

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pycket/pycket"
)

// handle runs one request of an application, without a server around it.
func handle(app *pycket.App, r *http.Request, use func(s *pycket.SessionManager)) *http.Response {
	w := httptest.NewRecorder()
	app.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { use(pycket.NewSessionManager(w, r)) })).ServeHTTP(w, r)
	heard.request(r)
	heard.response(w.Result())
	return w.Result()
}

// visitor is somebody with a session.
type visitor struct {
	app    *pycket.App
	cookie *http.Cookie
}

// newVisitor makes a session; it tries until Redis lets it.
func newVisitor(t *testing.T, app *pycket.App) *visitor {
	t.Helper()
	for range 1000 {
		response := handle(app, httptest.NewRequest("GET", "/", nil), func(s *pycket.SessionManager) { s.Set("made", true) })
		if cookies := response.Cookies(); len(cookies) == 1 {
			return &visitor{app, cookies[0]}
		}
	}
	t.Fatal("no session can be made")
	return nil
}

func (v *visitor) do(use func(s *pycket.SessionManager)) {
	r := httptest.NewRequest("GET", "/", nil)
	r.AddCookie(v.cookie)
	handle(v.app, r, use)
}

// cutter is a proxy that breaks every connection after a random number of bytes, in the middle of a
// command or of an answer.
type cutter struct {
	addr string
	cuts atomic.Int64
	calm atomic.Bool // no more cuts
}

func newCutter(t *testing.T, server *redisServer, seed uint64) *cutter {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	c := &cutter{addr: listener.Addr().String()}
	random := rand.New(rand.NewPCG(seed, 0))
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			redis, err := net.Dial("tcp", server.addr)
			if err != nil {
				client.Close()
				continue
			}
			// Half of the connections break while a command is sent, half while an answer is.
			there, back := int64(1<<40), int64(1<<40)
			switch {
			case c.calm.Load():
			case random.IntN(2) == 0:
				there = 1 + random.Int64N(4000)
			default:
				back = 1 + random.Int64N(1000)
			}
			var once sync.Once
			end := func() {
				once.Do(func() {
					c.cuts.Add(1)
					client.Close()
					redis.Close()
				})
			}
			go func() { io.CopyN(redis, client, there); end() }()
			go func() { io.CopyN(client, redis, back); end() }()
		}
	}()
	return c
}

// Connections break all the time, under load: what was acknowledged is there, what was not may be, and no
// answer ever reaches another request.
func TestRandomCuts(t *testing.T) {
	const visitors = 16
	bothServers(t, func(t *testing.T, server *redisServer) {
		wantCuts := int64(10_000)
		if server.process == nil {
			wantCuts = 1_000 // miniredis is slow
		}
		cutter := newCutter(t, server, 1)
		s := settings(server)
		s.Redis.URL = "redis://" + cutter.addr
		app := newApp(t, s)
		var failures, successes atomic.Int64
		parallel(visitors, func(i int) {
			v := newVisitor(t, app)
			// What "value" and "count" may be. A write that was not acknowledged may be carried out at any
			// time, even after later ones: it may lie in a buffer on the way.
			possible, acknowledged := map[string]bool{}, ""
			var least, most int64
			check := func(s *pycket.SessionManager) bool {
				value, err := pycket.Get(s, "value", "")
				if err != nil {
					return false
				}
				count, err := pycket.Get(s, "count", int64(0))
				if err != nil {
					return false
				}
				if !possible[value] && value != acknowledged {
					t.Errorf("visitor %d reads %q, which can't be", i, value)
				}
				if count < least || count > most {
					t.Errorf("visitor %d counts %d, and it must be %d to %d", i, count, least, most)
				}
				least = count // what was read is sure
				return true
			}
			for n := 0; cutter.cuts.Load() < wantCuts; n++ {
				v.do(func(s *pycket.SessionManager) {
					value := fmt.Sprintf("%d of visitor %d", n, i)
					if err := s.Set("value", value); err == nil {
						acknowledged = value
						successes.Add(1)
					} else {
						possible[value] = true
						failures.Add(1)
					}
					most++
					if sum, err := s.Increment("count", 1); err == nil {
						least++
						if sum < least || sum > most {
							t.Errorf("visitor %d counts %d, and it must be %d to %d", i, sum, least, most)
						}
						least = sum
					}
				})
				v.do(func(s *pycket.SessionManager) { check(s) })
			}
			cutter.calm.Store(true)
			for range 100 { // the last connection may break still
				sure := false
				v.do(func(s *pycket.SessionManager) { sure = check(s) })
				if sure {
					return
				}
			}
			t.Errorf("visitor %d can't read after the last cut", i)
		})
		t.Logf("%d cuts, %d writes acknowledged, %d not", cutter.cuts.Load(), successes.Load(), failures.Load())
		if successes.Load() == 0 {
			t.Error("nothing worked")
		}
	})
}

// An answer that does not come in time fails everything behind it, in time, and the connection is replaced.
func TestNoAnswerInTime(t *testing.T) {
	bothServers(t, func(t *testing.T, server *redisServer) {
		breaker := newBreaker(t, server)
		s := settings(server)
		s.Redis.URL, s.Redis.Timeout = "redis://"+breaker.addr, shortTimeout
		app := newApp(t, s)
		v := newVisitor(t, app)
		breaker.hold()
		parallel(8, func(i int) {
			v.do(func(s *pycket.SessionManager) {
				_, err := s.Increment("n", 1)
				wantError(t, err, pycket.ErrUnavailable, "may have been carried out")
			})
			v.do(func(s *pycket.SessionManager) {
				_, err := pycket.Get(s, "made", false)
				wantError(t, err, pycket.ErrUnavailable)
			})
		})
		breaker.pass()
		v.do(func(s *pycket.SessionManager) {
			if made, err := pycket.Get(s, "made", false); !made || err != nil {
				t.Errorf("after: %v, %v", made, err)
			}
		})
	})
}

// While Redis is down, requests fail fast and knock together, at most once in a while.
func TestReconnecting(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	var dials atomic.Int64
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			dials.Add(1)
			c.Close()
		}
	}()
	app := newApp(t, pycket.Settings{Secrets: []string{secret}, Redis: pycket.RedisSettings{URL: "redis://" + listener.Addr().String(), Timeout: timeout}})
	began := time.Now()
	var failed atomic.Int64
	parallel(64, func(int) {
		for range 10 {
			handle(app, httptest.NewRequest("GET", "/", nil), func(s *pycket.SessionManager) {
				wantError(t, s.Set("a", 1), pycket.ErrUnavailable)
				failed.Add(1)
			})
		}
	})
	// The pauses between two tries grow to 50 to 100 ms, by way of 2.5, 5, 10, 20, 40.
	if most := 6 + int64(time.Since(began)/(50*time.Millisecond)); dials.Load() > most {
		t.Errorf("%d requests dialed %d times, and may at most %d times", failed.Load(), dials.Load(), most)
	}
}

// Close waits for what is on its way, and leaves nothing behind.
func TestCloseWaits(t *testing.T) {
	bothServers(t, func(t *testing.T, server *redisServer) {
		breaker := newBreaker(t, server)
		s := settings(server)
		s.Redis.URL = "redis://" + breaker.addr
		ignore := goleak.IgnoreCurrent()
		app := newApp(t, s)
		v := newVisitor(t, app)
		breaker.hold()
		set := make(chan error, 1)
		go v.do(func(s *pycket.SessionManager) { set <- s.Set("a", 1) })
		breaker.awaitCommands(1)
		closed := make(chan struct{})
		go func() {
			defer close(closed)
			app.Close()
		}()
		for stacks := make([]byte, 1<<20); !bytes.Contains(stacks[:runtime.Stack(stacks, true)], []byte("(*lane).close(")); {
			runtime.Gosched() // until Close has begun
		}
		select {
		case <-closed:
			t.Error("Close has not waited")
		default:
		}
		breaker.pass()
		<-closed
		if err := <-set; err != nil { // as it does if Close hangs up before the answer
			t.Errorf("what was on its way: %v", err)
		}
		goleak.VerifyNone(t, ignore, goleak.IgnoreAnyFunction("github.com/pycket/pycket_test.newBreaker.func2"))
	})
}

// After an outage in the middle of a load, and Close, no goroutine and no connection is left.
func TestNothingIsLeftBehind(t *testing.T) {
	server := startRedis(t)
	ignore := goleak.IgnoreCurrent()
	app, err := heard.newApp(settings(server))
	if err != nil {
		t.Fatal(err)
	}
	visitors := make([]*visitor, 8)
	for i := range visitors {
		visitors[i] = newVisitor(t, app)
	}
	load := func() {
		parallel(len(visitors), func(i int) {
			for range 20 {
				visitors[i].do(func(s *pycket.SessionManager) {
					s.Set("a", string(make([]byte, 20<<10))) // large: a connection of its own
					s.Set("b", 1)
				})
			}
		})
	}
	load()
	server.do(0, "CLIENT", "KILL", "TYPE", "normal")
	load()
	app.Close()
	goleak.VerifyNone(t, ignore)
	for range 500 { // Redis takes note of closed connections when it gets to it
		if list := server.do(0, "CLIENT", "LIST").([]byte); len(list) > 0 && countLines(list) == 1 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("connections are left:\n%s", server.do(0, "CLIENT", "LIST"))
}

func countLines(text []byte) (n int) {
	for _, c := range text {
		if c == '\n' {
			n++
		}
	}
	return n
}

// After a failover behind one address, the connection to the old master is given up, under load too.
func TestFailoverBehindOneAddress(t *testing.T) {
	old, next := startRedis(t), startRedis(t)
	proxy := newProxy(t, old)
	app := newApp(t, pycket.Settings{Secrets: []string{secret}, Redis: pycket.RedisSettings{URL: "redis://" + proxy.addr, Timeout: timeout}})
	v := newVisitor(t, app)
	old.do(0, "REPLICAOF", "127.0.0.1", "1")
	proxy.mu.Lock()
	proxy.upstream = next.addr
	proxy.mu.Unlock()
	parallel(8, func(int) {
		var err error
		for range 20 { // the first are told that it is read-only, and the next go to the new one
			v.do(func(s *pycket.SessionManager) { err = s.Set("a", 1) })
			if err == nil {
				return
			}
		}
		t.Errorf("after the failover: %v", err)
	})
}

// A request that went away leaves its reply behind; that does not hide that the connection has died.
func TestAbandonedThenRestarted(t *testing.T) {
	bothServers(t, func(t *testing.T, server *redisServer) {
		breaker := newBreaker(t, server)
		app := newApp(t, pycket.Settings{Secrets: []string{secret}, Redis: pycket.RedisSettings{URL: "redis://" + breaker.addr, Timeout: timeout}})
		v := newVisitor(t, app)
		breaker.hold()
		ctx, cancel := context.WithCancel(t.Context())
		r := httptest.NewRequestWithContext(ctx, "GET", "/", nil)
		r.AddCookie(v.cookie)
		left := make(chan error)
		go handle(app, r, func(s *pycket.SessionManager) { _, err := s.Keys(); left <- err })
		breaker.awaitCommands(1)
		cancel()
		if err := <-left; err == nil {
			t.Error("no error")
		}
		breaker.armed.Store(true) // the connection breaks with the answer that nobody waits for
		breaker.pass()
		time.Sleep(50 * time.Millisecond) // idle
		v.do(func(s *pycket.SessionManager) {
			if err := s.Set("a", 1); err != nil {
				t.Errorf("the next request: %v", err)
			}
		})
	})
}

// swallow is a host that swallows what asks for a connection, as one that has vanished, or is behind a firewall:
// its backlog is full.
func swallow(t *testing.T) net.Listener {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	syscall.CloseOnExec(fd)
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), "listener")
	defer file.Close()
	listener, err := net.FileListener(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	for range 100 {
		c, err := net.DialTimeout("tcp", listener.Addr().String(), 200*time.Millisecond)
		if err != nil {
			return listener
		}
		t.Cleanup(func() { c.Close() })
	}
	t.Fatal("the backlog does not become full")
	return nil
}

// wantInTime wants an operation to fail in time, with a timeout of shortTimeout.
func wantInTime(t *testing.T, name string, operation func() error) {
	t.Helper()
	began := time.Now()
	wantError(t, operation(), pycket.ErrUnavailable)
	if took := time.Since(began); took > bound {
		t.Errorf("%s took %v, and the timeout is %v", name, took, shortTimeout)
	}
}

// Connecting is bounded by the timeout, too, where nobody says that it is refused.
func TestConnectingHangs(t *testing.T) {
	lost := swallow(t)
	slots := fakeRedis(t, func(words []string) string { // a cluster of one server, which is lost
		host, port, _ := net.SplitHostPort(lost.Addr().String())
		return fmt.Sprintf("*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$%d\r\n%s\r\n:%s\r\n", len(host), host, port)
	})
	for name, redis := range map[string]pycket.RedisSettings{
		"single":         {URL: "redis://" + lost.Addr().String()},
		"TLS":            {URL: "rediss://" + lost.Addr().String()},
		"cluster":        {Cluster: []string{slots}},
		"cluster's seed": {Cluster: []string{lost.Addr().String()}},
	} {
		t.Run(name, func(t *testing.T) {
			redis.Timeout = shortTimeout
			app := newApp(t, pycket.Settings{Secrets: []string{secret}, Redis: redis})
			for _, value := range []any{1, string(make([]byte, 20<<10))} { // over the shared connection, and over another
				wantInTime(t, "Set", func() (err error) {
					handle(app, httptest.NewRequest("GET", "/", nil), func(s *pycket.SessionManager) { err = s.Set("a", value) })
					return err
				})
			}
			wantInTime(t, "Ping", func() error { return app.Ping(t.Context()) })
			wantInTime(t, "RevokeUser", func() error { _, err := app.RevokeUser(t.Context(), "ann"); return err })
			go app.Ping(t.Context())
			began := time.Now()
			app.Close()
			if took := time.Since(began); took > bound {
				t.Errorf("Close took %v, and the timeout is %v", took, shortTimeout)
			}
		})
	}
}

// Who came while somebody else tried to connect has his own time: the next try may be quick.
func TestLateForSlowConnecting(t *testing.T) {
	const timeout = 2 * time.Second
	server := startRedis(t)
	lost := swallow(t)
	app := newApp(t, pycket.Settings{Secrets: []string{secret}, Redis: pycket.RedisSettings{URL: "redis://" + lost.Addr().String(), Timeout: timeout}})
	first := make(chan struct{})
	go func() {
		defer close(first)
		handle(app, httptest.NewRequest("GET", "/", nil), func(s *pycket.SessionManager) { s.Set("a", 1) })
	}()
	time.Sleep(timeout * 7 / 10)
	go func() { // it is there again; the first knocks again when it is too late
		for {
			c, err := lost.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				redis, err := net.Dial("tcp", server.addr)
				if err != nil {
					return
				}
				defer redis.Close()
				go io.Copy(redis, c)
				io.Copy(c, redis)
			}()
		}
	}()
	handle(app, httptest.NewRequest("GET", "/", nil), func(s *pycket.SessionManager) {
		if err := s.Set("a", 1); err != nil {
			t.Error(err)
		}
	})
	<-first
}

// fakeRedis is a server that answers each command as it is told, and not at all if that is "".
func fakeRedis(t *testing.T, answer func(words []string) string) (addr string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for in := bufio.NewReader(c); ; {
					var raw bytes.Buffer
					if _, err := readCommand(in, &raw); err != nil {
						return
					}
					io.WriteString(c, answer(wordsOf(raw.Bytes())))
				}
			}()
		}
	}()
	return listener.Addr().String()
}

// wordsOf are the words of a command.
func wordsOf(command []byte) (words []string) {
	lines := bytes.Split(command, []byte("\r\n"))
	for i := 2; i < len(lines); i += 2 { // *2 $3 GET $1 a; no word of a fake's has a line's end in it
		words = append(words, string(lines[i]))
	}
	return words
}

// A connection that goes silent is replaced, although every context ends before the timeout, so that nobody waits
// until then.
func TestConnectionGoesSilent(t *testing.T) {
	bothServers(t, func(t *testing.T, server *redisServer) {
		for name, pause := range map[string]time.Duration{"under load": 0, "now and then": 100 * time.Millisecond} {
			t.Run(name, func(t *testing.T) {
				const timeout, patience = 500 * time.Millisecond, 100 * time.Millisecond
				breaker := newBreaker(t, server)
				app := newApp(t, pycket.Settings{Secrets: []string{secret}, Redis: pycket.RedisSettings{URL: "redis://" + breaker.addr, Timeout: timeout}})
				v := newVisitor(t, app)
				breaker.mute()
				began := time.Now()
				set := func() (err error) {
					ctx, cancel := context.WithTimeout(t.Context(), patience)
					defer cancel()
					r := httptest.NewRequestWithContext(ctx, "GET", "/", nil)
					r.AddCookie(v.cookie)
					handle(app, r, func(s *pycket.SessionManager) { err = s.Set("a", 1) })
					return err
				}
				for set() != nil {
					if time.Since(began) > bound {
						t.Fatalf("nothing has worked for %v, and the timeout is %v", bound, timeout)
					}
					time.Sleep(pause)
				}
				if got := breaker.connections.Load(); got != 2 {
					t.Errorf("%d connections were opened, want 2", got)
				}
				for range 10 {
					if err := set(); err != nil {
						t.Errorf("after: %v", err)
					}
				}
			})
		}
	})
}

// An answer that comes late, to calls that nobody waits for any more, does not break the connection.
func TestLateAnswers(t *testing.T) {
	bothServers(t, func(t *testing.T, server *redisServer) {
		breaker := newBreaker(t, server)
		app := newApp(t, pycket.Settings{Secrets: []string{secret}, Redis: pycket.RedisSettings{URL: "redis://" + breaker.addr, Timeout: shortTimeout}})
		v := newVisitor(t, app)
		breaker.hold()
		ctx, cancel := context.WithCancel(t.Context())
		left := make(chan error)
		go func() {
			r := httptest.NewRequestWithContext(ctx, "GET", "/", nil)
			r.AddCookie(v.cookie)
			handle(app, r, func(s *pycket.SessionManager) { left <- s.Set("a", 1) })
		}()
		breaker.awaitCommands(1)
		cancel()
		<-left
		breaker.pass()
		time.Sleep(2 * shortTimeout)
		v.do(func(s *pycket.SessionManager) {
			if a, err := pycket.Get(s, "a", 0); a != 1 || err != nil {
				t.Errorf("%v, %v", a, err)
			}
		})
		if got := breaker.connections.Load(); got != 1 {
			t.Errorf("%d connections were opened, want 1", got)
		}
	})
}

// An answer that comes twice is nobody's the second time, and everybody still gets his own.
func TestAnswerComesTwice(t *testing.T) {
	bothServers(t, func(t *testing.T, server *redisServer) {
		for _, after := range []time.Duration{1, 2 * time.Millisecond} { // with the first, and by itself
			for _, size := range []int{1, 20 << 10} { // over the shared connection, and over another
				t.Run(fmt.Sprint(after, size), func(t *testing.T) {
					breaker := newBreaker(t, server)
					s := settings(server)
					s.Redis.URL, s.Redis.MaxConnections = "redis://"+breaker.addr, 2
					app := newApp(t, s)
					ann, bob := newVisitor(t, app), newVisitor(t, app)
					set := func(v *visitor, value string) {
						v.do(func(s *pycket.SessionManager) {
							if err := s.Set("a", strings.Repeat(value, size)); err != nil {
								t.Error(err)
							}
						})
					}
					get := func(v *visitor) (first string) {
						v.do(func(s *pycket.SessionManager) {
							value, err := pycket.Get(s, "a", "")
							if len(value) != size || err != nil {
								t.Errorf("%d bytes, %v", len(value), err)
							}
							first = value[:min(1, len(value))]
						})
						return first
					}
					set(ann, "a")
					set(bob, "b")
					for i := range 10 {
						again := breaker.again.Load()
						breaker.twice.Store(int64(after))
						if i%2 == 0 {
							get(ann)
						} else {
							set(ann, "a")
						}
						for after > 1 && breaker.again.Load() == again {
							runtime.Gosched()
						}
						for range 3 {
							if got := get(bob) + get(ann); got != "ba" {
								t.Fatalf("Bob and Ann read %q", got)
							}
						}
					}
				})
			}
		}
	})
}

// Who writes, for himself or for others, may go though nobody reads what he writes.
func TestWritingBlocks(t *testing.T) {
	bothServers(t, func(t *testing.T, server *redisServer) {
		for name, test := range map[string]struct {
			size, callers, times int
			patience             time.Duration
		}{
			"shared connection": {15 << 10, 32, 32, 20 * time.Millisecond}, // 15 MiB, which no kernel keeps
			"another":           {8 << 20, 2, 1, 500 * time.Millisecond},
		} {
			t.Run(name, func(t *testing.T) {
				breaker := newBreaker(t, server)
				app := newApp(t, pycket.Settings{
					Secrets: []string{secret}, Redis: pycket.RedisSettings{URL: "redis://" + breaker.addr, Timeout: 4 * bound},
					MaxValueBytes: 16 << 20, MaxSessionBytes: 64 << 20,
				})
				v := newVisitor(t, app)
				value := strings.Repeat("x", test.size)
				if name == "another" { // over connections that are there: a new one would wait for an answer first
					breaker.hold()
					warm := make(chan struct{})
					go func() {
						defer close(warm)
						parallel(2, func(i int) {
							v.do(func(s *pycket.SessionManager) { s.Set(fmt.Sprint("a", i), strings.Repeat("x", 20<<10)) })
							v.do(func(s *pycket.SessionManager) { s.Delete(fmt.Sprint("a", i)) })
						})
					}()
					breaker.awaitCommands(4) // both select their databases
					breaker.pass()
					<-warm
				}
				breaker.clog()
				parallel(test.callers, func(i int) {
					for range test.times {
						ctx, cancel := context.WithTimeout(t.Context(), test.patience)
						r := httptest.NewRequestWithContext(ctx, "GET", "/", nil)
						r.AddCookie(v.cookie)
						began := time.Now()
						handle(app, r, func(s *pycket.SessionManager) {
							// One command on the connection is still read.
							if err := s.Set(fmt.Sprint("a", i), value); err != nil && !errors.Is(err, context.DeadlineExceeded) {
								t.Error(err)
							}
						})
						cancel()
						if took := time.Since(began); took > bound {
							t.Errorf("it took %v to notice that the context has ended", took)
							return
						}
					}
				})
				breaker.pass() // what was begun is carried out
				for range 1000 {
					set := 0
					v.do(func(s *pycket.SessionManager) {
						keys, err := s.Keys()
						if err != nil {
							t.Fatal(err)
						}
						set = len(keys) - 1
					})
					if set == test.callers {
						return
					}
					time.Sleep(10 * time.Millisecond)
				}
				t.Error("what was begun is not carried out")
			})
		}
	})
}

// narrow is a proxy to a server that lets so many bytes a second of its answers through, of all connections together.
func narrow(t *testing.T, server *redisServer, rate int) (addr string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	turn := make(chan struct{}, 1) // who waits for it is served in order
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			redis, err := net.Dial("tcp", server.addr)
			if err != nil {
				c.Close()
				return
			}
			c.(*net.TCPConn).SetWriteBuffer(16 << 10)
			go func() { io.Copy(redis, c); redis.Close() }()
			go func() {
				defer c.Close()
				part := make([]byte, 8<<10)
				for {
					n, err := redis.Read(part)
					if err != nil {
						return
					}
					turn <- struct{}{}
					time.Sleep(time.Duration(n) * time.Second / time.Duration(rate))
					c.Write(part[:n])
					<-turn
				}
			}()
		}
	}()
	return listener.Addr().String()
}

// Large values on a slow network keep those who read them, and nobody else.
func TestLargeAnswers(t *testing.T) {
	const readers, size, rate = 32, 256 << 10, 4 << 20 // all at once take two seconds
	server := startRedis(t)
	writer := newApp(t, settings(server))
	s := settings(server)
	s.Redis.URL, s.Redis.Timeout = "redis://"+narrow(t, server, rate), time.Second
	app := newApp(t, s)
	small := newVisitor(t, writer)
	small.app = app
	var large [4]*visitor
	for i := range large {
		large[i] = newVisitor(t, writer)
		large[i].do(func(s *pycket.SessionManager) {
			if err := s.Set("large", strings.Repeat("x", size)); err != nil {
				t.Fatal(err)
			}
		})
		large[i].app = app
		large[i].do(func(s *pycket.SessionManager) {
			if value, err := pycket.Get(s, "large", ""); len(value) != size || err != nil {
				t.Fatalf("%d bytes, %v", len(value), err)
			}
		})
	}
	var read atomic.Int64
	var wg sync.WaitGroup
	for i := range readers {
		wg.Go(func() {
			for began := time.Now(); time.Since(began) < 3*time.Second; {
				large[i%len(large)].do(func(s *pycket.SessionManager) {
					if value, err := pycket.Get(s, "large", ""); len(value) == size && err == nil {
						read.Add(1)
					}
				})
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	for n := 0; ; n++ {
		small.do(func(s *pycket.SessionManager) {
			if made, err := pycket.Get(s, "made", false); !made || err != nil {
				t.Errorf("the small read number %d: %v", n, err)
			}
			if err := s.Set("n", n); err != nil {
				t.Errorf("the small write number %d: %v", n, err)
			}
		})
		select {
		case <-done:
			t.Logf("%d large reads, %d small ones", read.Load(), n)
			return
		default:
		}
	}
}
