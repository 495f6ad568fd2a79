package pycket_test

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pycket/pycket"
)

// shortTimeout is for tests in which Redis does not answer. Nothing here measures how fast anything is:
// "within the timeout" is checked against a bound far larger than it.
const (
	shortTimeout = 300 * time.Millisecond
	bound        = 5 * time.Second
)

// everyOperation is each operation of a session that exists, and what it does when Redis is there.
var everyOperation = []string{
	"get:a", "has:a", "keys", "set:a:c", "setmany:a:c:b:c", "delete:a", "inc:n:1", "update:n", "rotate", "destroy",
	"note:a:b", "notemany:a:b", "take:a", "peek:a", "nhas:a", "nkeys", "ndelete:a", "add:i:t", "drain",
}

// wantUnavailable checks that nothing works and everything says so, in time, with a status below 500:
// the handler goes on.
func wantUnavailable(t *testing.T, b *browser) {
	t.Helper()
	var wg sync.WaitGroup
	for _, op := range everyOperation {
		wg.Go(func() {
			began := time.Now()
			a, list, err := b.try(op)
			if err != nil || len(list) != 1 || list[0].Err != "ErrUnavailable" {
				t.Errorf("%s: %v, %v; want ErrUnavailable", op, list, err)
			}
			if a.setsCookie() {
				t.Errorf("%s sets a cookie", op)
			}
			if took := time.Since(began); took > bound {
				t.Errorf("%s took %v, and the timeout is %v", op, took, shortTimeout)
			}
		})
	}
	wg.Wait()
	if _, list, err := b.with("").try("get:a", "take:a"); err != nil || list[0].Err+list[1].Err != "" {
		t.Errorf("a stranger needs no Redis to be a stranger: %v, %v", list, err)
	}
	a, list, err := b.with("").try("set:a:b")
	if err != nil || list[0].Err != "ErrUnavailable" || a.setsCookie() {
		t.Errorf("a first visit: %v, %v, cookie set: %v", list, err, a.setsCookie())
	}
}

// outageSite is a site with a short timeout, warm connections and a browser with a session.
func outageSite(t *testing.T, server *redisServer) (*site, *browser) {
	t.Helper()
	s := settings(server)
	s.Redis.Timeout = shortTimeout
	site := newSite(t, s)
	b := site.browser()
	b.must("set:a:b")
	parallel(8, func(int) { b.tab().try("set:a:b", "get:a") })
	return site, b
}

func TestRedisHangs(t *testing.T) {
	server := startRedis(t)
	_, b := outageSite(t, server)
	server.signal(syscall.SIGSTOP)
	wantUnavailable(t, b)
	server.signal(syscall.SIGCONT)
	b.want([]outcome{{}, {Value: "after"}}, "set:a:after", "get:a")
}

// The deadline of a request's context ends an operation before the timeout does, and so does its end; the
// other requests on the same connection are not touched.
func TestContextEnds(t *testing.T) {
	bothServers(t, func(t *testing.T, server *redisServer) {
		breaker := newBreaker(t, server)
		s := settings(server)
		s.Redis.URL, s.Redis.Timeout = "redis://"+breaker.addr, 20*time.Second
		app := newApp(t, s)
		run := func(ctx context.Context, cookie string, f func(s *pycket.SessionManager)) *http.Response {
			w := httptest.NewRecorder()
			r := httptest.NewRequestWithContext(ctx, "GET", "/", nil)
			r.Header.Set("Cookie", cookie)
			app.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { f(pycket.NewSessionManager(w, r)) })).ServeHTTP(w, r)
			heard.response(w.Result())
			return w.Result()
		}
		var cookie string
		response := run(t.Context(), "", func(s *pycket.SessionManager) {
			if _, err := s.Increment("n", 0); err != nil { // Redis then knows the script
				t.Error(err)
			}
			if err := s.Set("a", "b"); err != nil {
				t.Error(err)
			}
		})
		cookie = "PYCKET_ID=" + response.Cookies()[0].Value

		for name, context := range map[string]func() (context.Context, func()){
			"deadline": func() (context.Context, func()) {
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
				return ctx, func() { <-ctx.Done(); cancel() }
			},
			"cancel": func() (context.Context, func()) {
				ctx, cancel := context.WithCancel(t.Context())
				return ctx, cancel
			},
		} {
			t.Run(name, func(t *testing.T) {
				breaker.hold() // answers are kept back
				ctx, end := context()
				var wg sync.WaitGroup
				for range 4 {
					wg.Go(func() {
						run(ctx, cookie, func(s *pycket.SessionManager) {
							_, err := s.Increment("n", 1)
							wantError(t, err, ctx.Err(), `increment "n"`, "may have been carried out")
							_, err = pycket.Get(s, "a", "")
							wantError(t, err, ctx.Err(), `get "a"`)
						})
					})
				}
				patient := make(chan error)
				breaker.awaitCommands(4)
				for range 4 {
					go run(t.Context(), cookie, func(s *pycket.SessionManager) {
						got, err := pycket.Get(s, "a", "")
						if err == nil && got != "b" {
							err = errors.New("got " + got)
						}
						patient <- err
					})
				}
				breaker.awaitCommands(8)
				end()
				wg.Wait() // at once, although no answer comes
				breaker.pass()
				for range 4 {
					if err := <-patient; err != nil {
						t.Errorf("a neighbour: %v", err)
					}
				}
			})
		}
		run(t.Context(), cookie, func(s *pycket.SessionManager) {
			if n, err := pycket.Get(s, "n", 0); n != 8 || err != nil {
				t.Errorf("%d increments were carried out, want 8: %v", n, err)
			}
		})
		if got := breaker.connections.Load(); got != 1 {
			t.Errorf("%d connections were opened, want 1", got)
		}
	})
}

// The embedded server is for demos and tests: the library does not bring it along.
func TestLibraryDoesNotImportEmbedded(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "github.com/pycket/pycket").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "embedded") || strings.Contains(line, "miniredis") {
			t.Error(line)
		}
	}
}

func TestRedisIsKilled(t *testing.T) {
	server := startRedis(t)
	_, b := outageSite(t, server)
	server.kill()
	wantUnavailable(t, b)
	if err := server.start(); err != nil {
		t.Fatal(err)
	}
	b.must("set:a:after") // what it held is gone with it: a fresh session
	b.want([]outcome{{Value: "after"}}, "get:a")
}

// Connections that died while idle cost nobody a request, and no PING finds them.
func TestRedisRestartsWhileIdle(t *testing.T) {
	server := startRedis(t)
	proxy := newProxy(t, server)
	s := settings(server)
	s.Redis.URL = "redis://" + proxy.addr
	site := newSite(t, s)
	b := site.browser()
	b.must("set:a:b")
	parallel(32, func(int) { b.tab().try("slowupdate:n", "get:a") })
	server.kill()
	proxy.cut()
	if err := server.start(); err != nil {
		t.Fatal(err)
	}
	b.must("set:a:b") // the data is gone, a fresh session
	server.kill()
	proxy.cut()
	if err := server.start(); err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		if _, list, err := b.try("get:a"); err != nil || list[0].Err != "" {
			t.Fatalf("read %d after the restart: %v, %v", i, list, err)
		}
	}
	proxy.mu.Lock()
	defer proxy.mu.Unlock()
	for _, command := range proxy.commands {
		if command == "PING" {
			t.Fatal("a PING was sent")
		}
	}
}

// Also what is not safe to repeat works on the first try, after connections died while idle.
func TestConnectionsDieWhileIdle(t *testing.T) {
	bothServers(t, func(t *testing.T, server *redisServer) {
		proxy := newProxy(t, server)
		s := settings(server)
		s.Redis.URL = "redis://" + proxy.addr
		site := newSite(t, s)
		b := site.browser()
		b.must("inc:n:0")
		for _, op := range []string{"get:a", "set:a:b", "inc:n:1", "update:n", "note:a:b", "take:a", "add:i:t", "drain", "rotate"} {
			parallel(8, func(int) { b.tab().try("slowupdate:n") })
			time.Sleep(100 * time.Millisecond) // idle
			proxy.cut()
			b.must(op)
		}
	})
}

// A connection that breaks under a command: what is safe to repeat is repeated, the rest says that it
// may have been carried out.
func TestConnectionBreaksUnderCommand(t *testing.T) {
	bothServers(t, func(t *testing.T, server *redisServer) {
		for op, repeatable := range map[string]bool{
			"get:a": true, "keys": true, "rotate": true, "destroy": true, "peek:a": true,
			"set:a:c": false, "delete:a": false, "note:a:b": false, "inc:n:1": false, "take:a": false, "add:i:t": false, "drain": false,
		} {
			t.Run(op, func(t *testing.T) {
				breaker := newBreaker(t, server)
				s := settings(server)
				s.Redis.URL = "redis://" + breaker.addr
				site := newSite(t, s)
				b := site.browser()
				b.must("set:a:b", "note:a:b", "add:i:t")
				breaker.armed.Store(true)
				_, list := b.do(op)
				if repeatable != (list[0].Err == "") || !repeatable && list[0].Err != "ErrUnavailable" {
					t.Errorf("%v, want an error: %v", list, !repeatable)
				}
				if breaker.armed.Load() {
					t.Error("nothing was broken")
				}
			})
		}
		t.Run("the message", func(t *testing.T) {
			breaker := newBreaker(t, server)
			s := settings(server)
			s.Redis.URL = "redis://" + breaker.addr
			stage := newStage(t, s)
			stage.visit(stage.browser(), func(_ http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
				if err := s.Set("a", 1); err != nil {
					t.Error(err)
				}
				breaker.armed.Store(true)
				_, err := s.Increment("n", 1)
				wantError(t, err, pycket.ErrUnavailable, `increment "n"`, "may have been carried out")
			})
		})
	})
}

func TestScriptsAreFlushed(t *testing.T) {
	everyServer(t, func(t *testing.T, server *redisServer) {
		site := newSite(t, settings(server))
		for _, op := range everyOperation {
			b := site.browser()
			b.must("inc:n:1", "note:a:b", "add:i:t")
			server.do(0, "SCRIPT", "FLUSH")
			b.must(op)
		}
	})
}

// Redis repeats the arguments of a command that it does not know: what was to be stored, or a password. Servers and
// proxies that lack a command are not rare.
func TestUnknownCommand(t *testing.T) {
	server := startRedis(t, "--rename-command", "EVALSHA", "")
	stage := newStage(t, settings(server))
	stage.visit(stage.browser(), func(_ http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, n *pycket.NotificationManager) {
		for _, err := range []error{s.Set("", "a small value"), n.Set("", "a small value"), n.Add("", "of a message"), s.Login("ann", nil)} {
			wantError(t, err, pycket.ErrUnavailable, "unknown command")
			if strings.Contains(fmt.Sprint(err), "args") {
				t.Errorf("%v repeats arguments", err)
			}
		}
	})

	server = startRedis(t, "--rename-command", "AUTH", "")
	s := settings(server)
	s.Redis.URL = "redis://ann:the%20PASSWORD@" + server.addr
	inCluster := settings(server)
	inCluster.Redis.URL, inCluster.Redis.Cluster, inCluster.Redis.Timeout = "redis://ann:the%20PASSWORD@", []string{server.addr}, time.Second
	for _, s := range []pycket.Settings{s, inCluster} {
		err := newApp(t, s).Ping(t.Context())
		wantError(t, err, pycket.ErrUnavailable, "unknown command 'AUTH'")
		if strings.Contains(fmt.Sprint(err), "PASSWORD") {
			t.Errorf("%v repeats the password", err)
		}
	}
}

func TestWrongPassword(t *testing.T) {
	server := startRedis(t, "--requirepass", "right and secret")
	for password, want := range map[string]string{"right%20and%20secret": "", "wrong": "ErrUnavailable"} {
		s := settings(server)
		s.Redis.URL = "redis://:" + password + "@" + server.addr
		site := newSite(t, s)
		_, list := site.browser().do("set:a:b")
		if list[0].Err != want {
			t.Errorf("password %s: %v", password, list)
		}
	}
	s := settings(server)
	s.Redis.URL = "redis://user%20agent:secret@" + server.addr
	wantError(t, newApp(t, s).Ping(t.Context()), pycket.ErrUnavailable, "pycket: ping: ")
}

func TestOutOfMemory(t *testing.T) {
	server := startRedis(t)
	_, b := outageSite(t, server)
	server.do(0, "CONFIG", "SET", "maxmemory-policy", "noeviction")
	server.do(0, "CONFIG", "SET", "maxmemory", "1")
	before := fmt.Sprintf("%q", server.do(0, "HGETALL", server.sessionKey()))
	for _, op := range []string{"set:a:c", "inc:n:1", "update:n", "note:a:b", "add:i:t", "rotate"} {
		if _, list := b.do(op); list[0].Err != "ErrUnavailable" {
			t.Errorf("%s: %v", op, list)
		}
	}
	if after := fmt.Sprintf("%q", server.do(0, "HGETALL", server.sessionKey())); after != before {
		t.Errorf("%s has become %s", before, after)
	}
	b.want([]outcome{{Value: "b"}}, "get:a")
	server.do(0, "CONFIG", "SET", "maxmemory", "0")
	b.want([]outcome{{}, {Value: "c"}}, "set:a:c", "get:a")
}

func TestReadOnlyReplica(t *testing.T) {
	server := startRedis(t)
	_, b := outageSite(t, server)
	server.do(0, "REPLICAOF", "127.0.0.1", "1") // no such master: the data stays, and is read-only
	b.want([]outcome{{Value: "b"}, {Err: "ErrUnavailable"}, {Err: "ErrUnavailable"}}, "get:a", "set:a:c", "destroy")
	server.do(0, "REPLICAOF", "NO", "ONE")
	b.must("set:a:c")
}

// More requests than connections wait for one; they do not fail, and no more connections are opened.
func TestMaxConnections(t *testing.T) {
	bothServers(t, func(t *testing.T, server *redisServer) {
		proxy := newProxy(t, server)
		s := settings(server)
		s.Redis.URL, s.Redis.MaxConnections = "redis://"+proxy.addr, 2
		site := newSite(t, s)
		b := site.browser()
		b.must("set:a:b")
		parallel(contenders, func(i int) {
			for range 5 {
				if _, list, err := b.tab().try(fmt.Sprintf("set:n%d:x", i)); err != nil || list[0].Err != "" {
					t.Error(list, err)
				}
			}
		})
		proxy.mu.Lock()
		defer proxy.mu.Unlock()
		if got := len(proxy.conns) / 2; got > 2 {
			t.Errorf("%d connections were opened, and MaxConnections is 2", got)
		}
	})
}

func TestPingAndClose(t *testing.T) {
	everyServer(t, func(t *testing.T, server *redisServer) {
		site := newSite(t, settings(server))
		if err := site.app.Ping(t.Context()); err != nil {
			t.Error(err)
		}
		b := site.browser()
		b.must("set:a:b")
		if err := site.app.Close(); err != nil {
			t.Error(err)
		}
		wantError(t, site.app.Ping(t.Context()), pycket.ErrUnavailable, "ping")
		b.want([]outcome{{Value: "", Err: "ErrUnavailable"}}, "get:a")
	})
}

// Databases, prefix and URL go where they are told to.
func TestWhereThingsLie(t *testing.T) {
	bothServers(t, func(t *testing.T, server *redisServer) {
		for _, test := range []struct {
			name                    string
			path, prefix            string
			sessions, notifications *int
			wantDB, wantNDB         int
			wantPrefix              string
		}{
			{"default", "", "", nil, nil, 0, 1, "pycket:"},
			{"set", "", "app one:", new(3), new(4), 3, 4, "app one:"},
			{"in the URL", "/5", "", nil, nil, 5, 5, "pycket:"},
			{"in the URL, and another", "/5", "", nil, new(4), 5, 4, "pycket:"},
			{"sessions only", "", "", new(3), nil, 3, 1, "pycket:"},
			{"equal", "/2", "{a}\":\\", new(2), new(2), 2, 2, "{a}\":\\"},
		} {
			t.Run(test.name, func(t *testing.T) {
				server.do(0, "FLUSHALL")
				s := settings(server)
				s.Redis.URL += test.path
				s.Redis.Prefix, s.Redis.DBSessions, s.Redis.DBNotifications = test.prefix, test.sessions, test.notifications
				site := newSite(t, s)
				b := site.browser()
				b.must("set:a:session", "note:a:notification", "add:i:message")
				for db := range 6 {
					want := 0
					if db == test.wantDB {
						want++
					}
					if db == test.wantNDB {
						want += 2
					}
					keys := server.keys(db)
					if len(keys) != want {
						t.Errorf("database %d holds %q, want %d keys", db, keys, want)
					}
					for _, key := range keys {
						if !strings.HasPrefix(key, test.wantPrefix) {
							t.Errorf("%q does not begin with %q", key, test.wantPrefix)
						}
					}
				}
				b.want([]outcome{{Value: "session"}, {Value: "notification"}, {Value: "i=message"}, {}}, "get:a", "take:a", "drain", "destroy")
				wantNothingLeft(t, &redisServer{t: t, addr: server.addr})
			})
		}
	})
}

// A client that hangs up is no outage: the error is the context's own, and says if a command may have been carried
// out. What takes longer than the timeout is one, whatever the context says later.
func TestClientHangsUp(t *testing.T) {
	server := startRedis(t)
	lost := swallow(t)
	app := func(redis pycket.RedisSettings) *pycket.App {
		return newApp(t, pycket.Settings{Secrets: []string{secret}, Redis: redis})
	}
	for name, test := range map[string]struct {
		redis pycket.RedisSettings
		held  bool // the command is written, and not answered
	}{
		"connecting":            {pycket.RedisSettings{URL: "redis://" + lost.Addr().String()}, false},
		"connecting to cluster": {pycket.RedisSettings{Cluster: []string{lost.Addr().String()}}, false},
		"waiting":               {pycket.RedisSettings{}, true},
	} {
		for _, value := range []any{1, strings.Repeat("x", 20<<10)} { // over the shared connection, and over another
			for _, cause := range []error{context.Canceled, context.DeadlineExceeded} {
				t.Run(fmt.Sprintf("%s, %T, %v", name, value, cause), func(t *testing.T) {
					redis := test.redis
					redis.Timeout = 4 * bound
					var v *visitor
					if test.held {
						breaker := newBreaker(t, server)
						redis.URL = "redis://" + breaker.addr
						v = newVisitor(t, app(redis))
						v.do(func(s *pycket.SessionManager) { s.Set("a", value) }) // the connection is there
						breaker.hold()
						defer breaker.pass()
					}
					ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
					defer cancel()
					if cause == context.Canceled {
						ctx, cancel = context.WithCancel(t.Context())
						time.AfterFunc(50*time.Millisecond, cancel)
					}
					r := httptest.NewRequestWithContext(ctx, "GET", "/", nil)
					use := app(redis)
					if v != nil {
						use = v.app
						r.AddCookie(v.cookie)
					}
					var err error
					began := time.Now()
					handle(use, r, func(s *pycket.SessionManager) { err = s.Set("a", value) })
					wantError(t, err, cause, `set "a"`)
					if errors.Is(err, pycket.ErrUnavailable) {
						t.Errorf("%v is an outage", err)
					}
					if said := strings.Contains(fmt.Sprint(err), "may have been carried out"); said != test.held {
						t.Errorf("%v, and the command was written: %v", err, test.held)
					}
					if took := time.Since(began); took > bound {
						t.Errorf("it took %v", took)
					}
					if value == 1 {
						err := use.Ping(ctx)
						if wantError(t, err, cause, "ping"); errors.Is(err, pycket.ErrUnavailable) {
							t.Errorf("%v is an outage", err)
						}
					}
				})
			}
		}
	}
}

// A Redis that is set up in a way that can't work says so, with what to do; one that is down does not.
func TestMisconfigured(t *testing.T) {
	server := startRedis(t)
	locked := startRedis(t, "--requirepass", "right and secret")
	single := startRedis(t, "--databases", "1")
	cluster := clusterOf(t)
	server.do(0, "ACL", "SETUSER", "idle", "on", ">word", "~*", "+@connection")
	server.do(0, "ACL", "SETUSER", "reader", "on", ">word", "~*", "+@all", "-hset")
	server.do(0, "ACL", "SETUSER", "elsewhere", "on", ">word", "~other:*", "+@all")
	encrypted := httptest.NewTLSServer(http.NotFoundHandler())
	defer encrypted.Close()
	encrypted.Config.ErrorLog = log.New(io.Discard, "", 0)
	address := encrypted.Listener.Addr().String()
	denied := fakeRedis(t, func([]string) string { return "-DENIED Redis is running in protected mode because …\r\n" })
	user := func(name string) pycket.RedisSettings {
		return pycket.RedisSettings{URL: "redis://" + name + ":word@" + server.addr}
	}
	for name, test := range map[string]struct {
		redis pycket.RedisSettings
		want  []string
	}{
		"wrong password":            {pycket.RedisSettings{URL: "redis://:wrong@" + locked.addr}, []string{"WRONGPASS", "Redis.URL"}},
		"no password":               {pycket.RedisSettings{URL: "redis://" + locked.addr}, []string{"Redis.URL"}},
		"needless password":         {pycket.RedisSettings{URL: "redis://:word@" + server.addr}, []string{"AUTH <password> called", "leave the password"}},
		"may not run scripts":       {user("idle"), []string{"NOPERM", "Redis.URL"}},
		"may not write":             {user("reader"), []string{"rights", "Redis.URL"}},
		"may not touch the keys":    {user("elsewhere"), []string{"NOPERM", "Redis.Prefix"}},
		"no such database":          {pycket.RedisSettings{URL: "redis://" + single.addr + "/3"}, []string{"DB index is out of range", "Redis.DBSessions"}},
		"protected mode":            {pycket.RedisSettings{URL: "redis://" + denied}, []string{"DENIED", "requirepass"}},
		"no TLS":                    {pycket.RedisSettings{URL: "rediss://" + server.addr}, []string{"without TLS", "redis://"}},
		"no TLS, with a password":   {pycket.RedisSettings{URL: "rediss://:word@" + locked.addr}, []string{"without TLS", "redis://"}},
		"no TLS in a cluster":       {pycket.RedisSettings{URL: "rediss://", Cluster: []string{cluster.addr}}, []string{"without TLS", "redis://"}},
		"unknown CA":                {pycket.RedisSettings{URL: "rediss://" + address}, []string{"unknown authority", "SSL_CERT_FILE"}},
		"unknown CA in a cluster":   {pycket.RedisSettings{URL: "rediss://", Cluster: []string{address}}, []string{"unknown authority", "SSL_CERT_FILE"}},
		"wrong password in cluster": {pycket.RedisSettings{URL: "redis://:word@", Cluster: []string{locked.addr}}, []string{"WRONGPASS", "Redis.URL"}},
		"no cluster":                {pycket.RedisSettings{Cluster: []string{server.addr}}, []string{"cluster support disabled", "Redis.Cluster"}},
	} {
		t.Run(name, func(t *testing.T) {
			redis := test.redis
			redis.Timeout = 2 * bound
			app := newApp(t, pycket.Settings{Secrets: []string{secret}, Redis: redis})
			for _, value := range []any{1, strings.Repeat("x", 20<<10)} {
				began := time.Now()
				var err error
				handle(app, httptest.NewRequest("GET", "/", nil), func(s *pycket.SessionManager) { err = s.Set("a", value) })
				wantError(t, err, pycket.ErrUnavailable, test.want...)
				wantError(t, err, pycket.ErrMisconfigured)
				if took := time.Since(began); took > bound {
					t.Errorf("it took %v, and the timeout is %v", took, 2*bound)
				}
			}
		})
	}
	hung, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer hung.Close()
	full := startRedis(t, "--maxmemory", "1")
	dead := startRedis(t)
	dead.kill()
	for name, test := range map[string]struct{ url, want string }{
		"full":      {"redis://" + full.addr, "OOM"},
		"dead":      {"redis://" + dead.addr, "refused"},
		"dead, TLS": {"rediss://" + dead.addr, "refused"},
		"hung":      {"redis://" + hung.Addr().String(), "timeout"},
		"hung, TLS": {"rediss://" + hung.Addr().String(), "may not speak TLS"},
		"loading":   {"redis://" + fakeRedis(t, func([]string) string { return "-LOADING Redis is loading the dataset in memory\r\n" }), "LOADING"},
		"silent":    {"redis://" + fakeRedis(t, func([]string) string { return "" }), "timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			app := newApp(t, pycket.Settings{Secrets: []string{secret}, Redis: pycket.RedisSettings{URL: test.url, Timeout: shortTimeout}})
			handle(app, httptest.NewRequest("GET", "/", nil), func(s *pycket.SessionManager) {
				err := s.Set("a", 1)
				wantError(t, err, pycket.ErrUnavailable, test.want)
				if errors.Is(err, pycket.ErrMisconfigured) {
					t.Errorf("%v is taken for a mistake in the settings", err)
				}
			})
		})
	}
}

// Over TLS all is as without: one connection, that is kept.
func TestOverTLS(t *testing.T) {
	server := startRedis(t)
	example := httptest.NewTLSServer(http.NotFoundHandler()) // for its certificate, which is for 127.0.0.1
	defer example.Close()
	file := t.TempDir() + "/ca.pem"
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: example.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: example.TLS.Certificates})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	var connections atomic.Int64
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				redis, err := net.Dial("tcp", server.addr)
				if err != nil || c.(*tls.Conn).Handshake() != nil { // who is kept waiting may ask for a word without TLS
					return
				}
				connections.Add(1)
				defer redis.Close()
				go io.Copy(redis, c)
				io.Copy(c, redis)
			}()
		}
	}()
	t.Setenv("SSL_CERT_FILE", file)
	b := newBrowser(t, startChild(t, &redisServer{t: t, addr: listener.Addr().String(), tls: true}))
	for range 20 {
		b.want([]outcome{{}, {Value: "b"}}, "set:a:b", "get:a")
		time.Sleep(time.Millisecond)
	}
	b.must("set:large:" + strings.Repeat("x", 20<<10))
	if got := connections.Load(); got != 2 {
		t.Errorf("%d connections were opened, want 2", got)
	}
}
