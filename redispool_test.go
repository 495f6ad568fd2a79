package pycket_test

import (
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
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pycket/pycket"
	"github.com/pycket/pycket/internal/redistest"
)

// More requests than connections wait for one; they do not fail, and no more connections are opened.
func TestMaxConnections(t *testing.T) {
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		proxy, s := proxied(t, server)
		s.Redis.MaxConnections = 2
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
		if got := proxy.Connections(); got > 2 {
			t.Errorf("%d connections were opened, and MaxConnections is 2", got)
		}
	})
}

// Databases, prefix and URL go where they are told to.
func TestWhereThingsLie(t *testing.T) {
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
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
				server.Do(0, "FLUSHALL")
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
					keys := server.Keys(db)
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
				wantNothingLeft(t, server.On(t))
			})
		}
	})
}

// A Redis that is set up in a way that can't work says so, with what to do; one that is down does not.
func TestMisconfigured(t *testing.T) {
	server := redistest.Start(t)
	locked := redistest.Start(t, "--requirepass", "right and secret")
	single := redistest.Start(t, "--databases", "1")
	cluster := redistest.SharedCluster(t)
	server.Do(0, "ACL", "SETUSER", "idle", "on", ">word", "~*", "+@connection")
	server.Do(0, "ACL", "SETUSER", "reader", "on", ">word", "~*", "+@all", "-hset")
	server.Do(0, "ACL", "SETUSER", "elsewhere", "on", ">word", "~other:*", "+@all")
	encrypted := httptest.NewTLSServer(http.NotFoundHandler())
	defer encrypted.Close()
	encrypted.Config.ErrorLog = log.New(io.Discard, "", 0)
	address := encrypted.Listener.Addr().String()
	denied := redistest.Fake(t, func([]string) string { return "-DENIED Redis is running in protected mode because …\r\n" })
	user := func(name string) pycket.RedisSettings {
		return pycket.RedisSettings{URL: "redis://" + name + ":word@" + server.Addr}
	}
	for name, test := range map[string]struct {
		redis pycket.RedisSettings
		want  []string
	}{
		"wrong password":            {pycket.RedisSettings{URL: "redis://:wrong@" + locked.Addr}, []string{"WRONGPASS", "Redis.URL"}},
		"unknown user":              {pycket.RedisSettings{URL: "redis://user%20agent:secret@" + locked.Addr}, []string{"WRONGPASS", "Redis.URL"}},
		"no password":               {pycket.RedisSettings{URL: "redis://" + locked.Addr}, []string{"Redis.URL"}},
		"needless password":         {pycket.RedisSettings{URL: "redis://:word@" + server.Addr}, []string{"AUTH <password> called", "leave the password"}},
		"may not run scripts":       {user("idle"), []string{"NOPERM", "Redis.URL"}},
		"may not write":             {user("reader"), []string{"rights", "Redis.URL"}},
		"may not touch the keys":    {user("elsewhere"), []string{"NOPERM", "Redis.Prefix"}},
		"no such database":          {pycket.RedisSettings{URL: "redis://" + single.Addr + "/3"}, []string{"DB index is out of range", "Redis.DBSessions"}},
		"protected mode":            {pycket.RedisSettings{URL: "redis://" + denied}, []string{"DENIED", "requirepass"}},
		"no TLS":                    {pycket.RedisSettings{URL: "rediss://" + server.Addr}, []string{"without TLS", "redis://"}},
		"no TLS, with a password":   {pycket.RedisSettings{URL: "rediss://:word@" + locked.Addr}, []string{"without TLS", "redis://"}},
		"no TLS in a cluster":       {pycket.RedisSettings{URL: "rediss://", Cluster: []string{cluster.Addr}}, []string{"without TLS", "redis://"}},
		"unknown CA":                {pycket.RedisSettings{URL: "rediss://" + address}, []string{"unknown authority", "RootCAs of Redis.TLS"}},
		"unknown CA in a cluster":   {pycket.RedisSettings{URL: "rediss://", Cluster: []string{address}}, []string{"unknown authority", "RootCAs of Redis.TLS"}},
		"wrong password in cluster": {pycket.RedisSettings{URL: "redis://:word@", Cluster: []string{locked.Addr}}, []string{"WRONGPASS", "Redis.URL"}},
		"no cluster":                {pycket.RedisSettings{Cluster: []string{server.Addr}}, []string{"cluster support disabled", "Redis.Cluster"}},
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
				wantWithin(t, began, bound)
			}
		})
	}
	hung, err := net.Listen("tcp", "127.0.0.1:0")
	require(t, err)
	defer hung.Close()
	full := redistest.Start(t, "--maxmemory", "1")
	dead := redistest.Start(t)
	dead.Kill()
	handle(newApp(t, pycket.Settings{Secrets: []string{secret}, Redis: pycket.RedisSettings{URL: "redis://:right%20and%20secret@" + locked.Addr}}),
		httptest.NewRequest("GET", "/", nil), func(s *pycket.SessionManager) { noError(t, s.Set("a", 1)) })
	for name, test := range map[string]struct{ url, want string }{
		"full":      {"redis://" + full.Addr, "OOM"},
		"dead":      {"redis://" + dead.Addr, "connection refused"},
		"dead, TLS": {"rediss://" + dead.Addr, "refused"},
		"hung":      {"redis://" + hung.Addr().String(), "timeout"},
		"hung, TLS": {"rediss://" + hung.Addr().String(), "may not speak TLS"},
		"loading":   {"redis://" + redistest.Fake(t, func([]string) string { return "-LOADING Redis is loading the dataset in memory\r\n" }), "LOADING"},
		"silent":    {"redis://" + redistest.Fake(t, func([]string) string { return "" }), "i/o timeout"},
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
	server := redistest.Start(t)
	example := httptest.NewTLSServer(http.NotFoundHandler()) // for its certificate, which is for 127.0.0.1
	defer example.Close()
	file := t.TempDir() + "/ca.pem"
	require(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: example.Certificate().Raw}), 0o600))
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: example.TLS.Certificates})
	require(t, err)
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
				redis, err := net.Dial("tcp", server.Addr)
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
	b := newBrowser(t, startChild(t, "rediss://"+listener.Addr().String()))
	for range 20 {
		b.want([]outcome{{}, {Value: "b"}}, "set:a:b", "get:a")
		time.Sleep(time.Millisecond)
	}
	b.must("set:large:" + strings.Repeat("x", 20<<10))
	if got := connections.Load(); got != 2 {
		t.Errorf("%d connections were opened, want 2", got)
	}
}

// A Redis with one database: whoever first asks it for something learns which setting to change, and nothing is
// begun.
func TestOneDatabase(t *testing.T) {
	server := redistest.Start(t, "--databases", "1")
	var failures []error
	site := newSite(t, settings(server))
	site.failed = func(err error) { failures = append(failures, err) }
	wantError(t, site.app.Ping(t.Context()), pycket.ErrUnavailable, "ping", "Redis.DBNotifications", "DB index is out of range")
	b := site.browser()
	for _, op := range []string{"set:a:b", "login:ann", "note:a:b", "add:i:t"} {
		failures = nil
		if a, list := b.do(op); list[0].Err != "ErrUnavailable" || a.setsCookie() {
			t.Errorf("%s: %v, cookie set: %v", op, list, a.setsCookie())
		}
		for _, err := range failures {
			wantError(t, err, pycket.ErrUnavailable, "Redis.DBNotifications")
		}
	}
	if n := len(server.Keys(0)); n != 0 {
		t.Errorf("%d keys stand", n)
	}

	s := settings(server)
	s.Redis.DBSessions, s.Redis.DBNotifications = new(3), new(0)
	wantError(t, newApp(t, s).Ping(t.Context()), pycket.ErrUnavailable, "ping", "Redis.DBSessions")
	s.Redis.DBSessions = nil
	s.Redis.URL += "/4"
	wantError(t, newApp(t, s).Ping(t.Context()), pycket.ErrUnavailable, "ping", "Redis.URL")

	for name, adjust := range map[string]func(*pycket.RedisSettings){
		"set":        func(r *pycket.RedisSettings) { r.DBNotifications = new(0) },
		"in the URL": func(r *pycket.RedisSettings) { r.URL += "/0" },
	} {
		t.Run(name, func(t *testing.T) {
			s := settings(server)
			adjust(&s.Redis)
			site := newSite(t, s)
			noError(t, site.app.Ping(t.Context()))
			b := site.browser()
			b.must("login:ann", "set:a:b", "note:x:y", "add:i:t")
			b.want([]outcome{{Value: "y"}, {Value: "i=t"}, {}}, "take:x", "drain", "destroy")
		})
	}
}

// What was begun in one database is not left half done because the other is out of reach.
func TestOtherDatabaseIsForbidden(t *testing.T) {
	server := redistest.Start(t)
	s := settings(server)
	s.MaxSessionsPerUser = 1
	site := newSite(t, s)
	b := site.browser()
	b.must("login:ann", "set:a:b", "note:x:y", "add:i:t")
	key := keyOf(idOf(t, b.cookie()))
	before := server.Hash(0, key)
	server.Do(0, "ACL", "SETUSER", server.User(), "-select")
	for _, op := range []string{"destroy", "set:a:c", "take:x", "drain", "ndelete:x", "note:z:z", "add:i:u", "login:bob", "rotate"} {
		if _, list := b.do(op); list[0].Err != "ErrUnavailable" {
			t.Errorf("%s: %v", op, list)
		}
	}
	b.with("").want([]outcome{{Err: "ErrUnavailable"}}, "login:ann") // it would end the other
	if keys := server.Keys(0); len(keys) != 2 {
		t.Errorf("%q stand", keys)
	}
	wantError(t, site.app.Revoke(t.Context(), strings.Trim(strings.TrimPrefix(key, "pycket:s:"), "{}")), pycket.ErrUnavailable, "revoke")
	server.Do(0, "ACL", "SETUSER", server.User(), "+select")
	if diff := cmp.Diff(before, server.Hash(0, key)); diff != "" {
		t.Errorf("(-before +after):\n%s", diff)
	}
	b.want([]outcome{{Value: "b"}, {Value: "y"}, {Value: "i=t"}, {}}, "get:a", "take:x", "drain", "destroy")
	wantNothingLeft(t, server)
}

// A Redis that is set up so that waiting does not help is told apart from one that is down. No redis-server is needed to
// see that.
func TestMisconfiguredIsToldApart(t *testing.T) {
	for reply, misconfigured := range map[string]bool{
		"-NOAUTH Authentication required.\r\n": true, "-NOPERM this user has no permissions\r\n": true, "-BUSY Redis is busy\r\n": false,
	} {
		addr := redistest.Fake(t, func([]string) string { return reply })
		app := newApp(t, pycket.Settings{Secrets: []string{secret}, Redis: pycket.RedisSettings{URL: "redis://" + addr, Timeout: timeout}})
		handle(app, httptest.NewRequest("GET", "/", nil), func(s *pycket.SessionManager) {
			err := s.Set("a", 1)
			wantError(t, err, pycket.ErrUnavailable)
			if errors.Is(err, pycket.ErrMisconfigured) != misconfigured {
				t.Errorf("%v is a misconfiguration: %v", err, !misconfigured)
			}
		})
	}
}
