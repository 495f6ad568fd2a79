package pycket_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gomodule/redigo/redis"
	"github.com/google/go-cmp/cmp"

	"github.com/pycket/pycket"
	"github.com/pycket/pycket/internal/redistest"
)

// long is a CacheFor that no test outlasts: whatever is seen before is seen for another reason.
const long = time.Hour

// caching is a site that may read from memory, and has begun to listen to Redis.
func caching(t *testing.T, s pycket.Settings, cacheFor time.Duration) *site {
	t.Helper()
	s.CacheFor = cacheFor
	site := newSite(t, s)
	noError(t, site.app.Ping(t.Context()))
	return site
}

// hits counts the reads from memory while f runs.
func (s *site) hits(f func()) uint64 {
	before := s.app.CacheStats().Hits
	f()
	return s.app.CacheStats().Hits - before
}

// remembers reads until an answer comes from memory.
func (s *site) remembers(b *browser) {
	s.t.Helper()
	for range 2000 {
		if s.hits(func() { b.must("get:a") }) > 0 {
			return
		}
		time.Sleep(time.Millisecond)
	}
	s.t.Fatal("nothing is kept in memory")
}

// sees reads until a read says what another process's write has made of it. None that begins CacheFor after that write may
// say anything else.
func sees(t *testing.T, b *browser, cacheFor time.Duration, want string) {
	t.Helper()
	for wrote := time.Now(); ; {
		began := time.Now()
		got := b.must("get:a")[0]
		if got == want {
			return
		}
		if after := began.Sub(wrote); after > min(cacheFor, bound) {
			t.Errorf("%v after the write, a read says %q, not %q", after, got, want)
			return
		}
	}
}

// A session that was read is read from memory, without a round trip; notifications never are.
func TestCache(t *testing.T) {
	redistest.Real(t, func(t *testing.T, server *redistest.Server) {
		site := caching(t, settings(server), long)
		b := site.browser()
		b.must("setmany:a:b:c:d", "note:n:o", "login:ann")
		site.remembers(b)
		server.Scripts()
		hits := site.hits(func() {
			b.want([]outcome{{Value: "b"}, {Value: "d"}, {Value: ""}, {Value: []any{"a", "c"}}, {Value: "ann"}, {Value: true}},
				"get:a", "get:c", "get:e", "keys", "user", "authtime")
			b.want([]outcome{{Value: []any{"a", "c"}}, {Value: true}}, "keys", "has:a")
		})
		if run, _ := server.Scripts(); run != 0 || hits != 2 {
			t.Errorf("Redis was asked %d times, and memory %d times; want 0 and 2", run, hits)
		}
		stats := site.app.CacheStats()
		if stats.Misses == 0 || stats.Invalidations == 0 || stats.PongAge == 0 || stats.Bytes == 0 {
			t.Errorf("%+v", stats)
		}
		b.want([]outcome{{Value: "b"}, {Value: "o"}, {Value: ""}}, "get:a", "take:n", "take:n")
		if run, _ := server.Scripts(); run == 0 {
			t.Error("a notification was taken out of memory")
		}
		noError(t, site.app.Close())
		if _, list := b.do("get:a"); list[0].Err != "ErrUnavailable" {
			t.Errorf("after Close: %+v", list)
		}
	})
}

// Without CacheFor nothing is kept, and no second connection made.
func TestCacheIsOff(t *testing.T) {
	server := redistest.Start(t)
	proxy, s := proxied(t, server)
	site := newSite(t, s)
	b := site.browser()
	b.must("set:a:b")
	if trips := proxy.Trips(func() { b.must("get:a"); b.must("get:a") }); trips != 2 {
		t.Errorf("%d round trips, want 2", trips)
	}
	if diff := cmp.Diff(pycket.CacheStats{}, site.app.CacheStats()); diff != "" || proxy.Connections() != 1 || strings.Contains(proxy.Sent(), "TRACKING") {
		t.Errorf("%s, %d connections", diff, proxy.Connections())
	}
}

func TestCacheSettings(t *testing.T) {
	for _, test := range []struct {
		change func(s *pycket.Settings)
		want   string
	}{
		{func(s *pycket.Settings) { s.CacheFor = -1 }, "use 10ms to 2h24m0s"},
		{func(s *pycket.Settings) { s.CacheFor = 1 }, "use 10ms to 2h24m0s"},
		{func(s *pycket.Settings) { s.CacheFor, s.IdleTimeout = 2*time.Second, 10*time.Second }, "use 10ms to 1s"},
		{func(s *pycket.Settings) { s.CacheBytes = -1 }, "CacheBytes is -1; use a positive number"},
		{func(s *pycket.Settings) { s.CacheFor, s.IdleTimeout = time.Second, 10*time.Second }, ""},
	} {
		s := pycket.Settings{Secrets: []string{secret}}
		test.change(&s)
		app, err := pycket.New(s)
		if test.want != "" {
			wantError(t, err, nil, test.want)
			continue
		}
		if noError(t, err); err == nil {
			app.Close()
		}
	}
}

// What this process has written, every request sees that begins later, whatever Redis says or doesn't.
func TestCacheOwnWrites(t *testing.T) {
	proxy, s := proxied(t, redistest.Start(t))
	s.MaxSessionsPerUser = 2
	site := caching(t, s, long)
	proxy.HoldSome(true)
	for _, test := range []struct {
		name  string
		write func(b *browser) // the user has another session
		ask   string
		want  any
	}{
		{"Set", func(b *browser) { b.must("set:a:new") }, "get:a", "new"},
		{"SetMany", func(b *browser) { b.must("setmany:a:new:b:new") }, "get:a", "new"},
		{"Delete", func(b *browser) { b.must("delete:a") }, "get:a", ""},
		{"Increment", func(b *browser) { b.must("inc:n:1") }, "number:n", 2.0},
		{"Update", func(b *browser) { b.must("update:n") }, "number:n", 2.0},
		{"Clear", func(b *browser) { b.must("clear") }, "get:a", ""},
		{"Pop", func(b *browser) { b.must("pop:a") }, "get:a", ""},
		{"a Pop that is put back", func(b *browser) {
			stubbornly = func() { site.remembers(b.tab()) } // the session without the value
			site.use(b, func(s *pycket.SessionManager) {
				_, err := pycket.Pop(s, "n", stubborn{})
				wantError(t, err, pycket.ErrCorrupt, "pop")
			})
		}, "number:n", 1.0},
		{"Rotate", func(b *browser) { b.must("rotate") }, "get:a", "old"},
		{"a large Set", func(b *browser) {
			site.works(b, func(s *pycket.SessionManager, _ *pycket.NotificationManager) error {
				return s.SetMany(pycket.Values{"large": strings.Repeat("x", 40_000), "a": "new"})
			})
		}, "get:a", "new"},
		{"Login of another user", func(b *browser) { b.must("login:bob") }, "user", "bob"},
		{"SetUser", func(b *browser) { b.must("setuser:bob") }, "user", "bob"},
		{"Remember", func(b *browser) { b.must("remember") }, "remembered", true},
		{"Destroy", func(b *browser) { b.must("destroy") }, "get:a", ""},
		{"Revoke", func(b *browser) { noError(t, site.app.Revoke(t.Context(), handleOf(t, b))) }, "get:a", ""},
		{"RevokeUser", func(b *browser) {
			user := b.must("user")[0].(string)
			n, err := site.app.RevokeUser(t.Context(), user)
			if noError(t, err); n != 2 {
				t.Errorf("%d sessions have ended", n)
			}
		}, "get:a", ""},
		{"a Login beyond MaxSessionsPerUser", func(b *browser) {
			user := b.must("user")[0].(string)
			signInQuietly(site, user)
			signInQuietly(site, user)
		}, "get:a", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			b, second := site.browser(), site.browser()
			for _, b := range []*browser{b, second} {
				b.must("login:"+test.name, "set:a:old", "inc:n:1")
			}
			for _, b := range []*browser{b, second} { // the second login has made it forget the first
				site.remembers(b)
			}
			tab := b.tab()
			test.write(b)
			if strings.Contains(test.name, "User") || strings.Contains(test.name, "Max") {
				want := outcome{Value: "old"}
				if test.name != "SetUser" {
					want.Value = ""
				}
				second.want([]outcome{want}, "get:a")
			}
			tabs := outcome{Value: test.want}
			ask := test.ask
			if test.name == "Destroy" || test.name == "Rotate" || test.name == "Login of another user" { // the tab has an id that is dead
				tabs.Value, ask = "", "get:a"
			}
			tab.want([]outcome{tabs}, ask) // first, since the browser would have the session kept under its new id
			b.want([]outcome{{Value: test.want}}, test.ask)
		})
	}
}

// Whose sessions RevokeOthers ends, and how long one lasts, Redis says and no memory.
func TestCacheIsNotAsked(t *testing.T) {
	server := redistest.Start(t)
	proxy, s := proxied(t, server)
	site, other := caching(t, s, long), newSite(t, settings(server))
	proxy.HoldSome(true)
	b := site.browser()
	b.must("login:ann", "set:a:b")
	ann, bob := signIn(t, other, "ann"), signIn(t, other, "bob")
	site.remembers(b)
	there := newBrowser(t, other.URL).with(b.cookie())
	there.must("setuser:bob")
	b.want([]outcome{{Value: "ann"}, {Value: 1.0}}, "user", "others")
	ann.want([]outcome{{Value: "ann"}}, "user")
	wantAnonymous(t, other, bob.cookie())
	there.must("destroy")
	b.want([]outcome{{Value: "b"}, {Value: []any{0.0, 0.0}}}, "get:a", "expiry")
}

// An id that is dead opens nothing, though the session is in memory under its new one.
func TestCacheKnowsTheID(t *testing.T) {
	proxy, s := proxied(t, redistest.Start(t))
	site := caching(t, s, long)
	proxy.HoldSome(true)
	b := site.browser()
	b.must("set:a:b")
	site.remembers(b)
	old := b.tab()
	b.must("rotate")
	site.remembers(b)
	old.want([]outcome{{Value: ""}, {Err: "ErrGone"}}, "get:a", "set:a:c")
	b.want([]outcome{{Value: "b"}}, "get:a")
}

// What another process does to a session is seen, since Redis says so.
func TestCacheOtherProcess(t *testing.T) {
	redistest.Real(t, func(t *testing.T, server *redistest.Server) {
		site, other := caching(t, settings(server), long), newSite(t, settings(server))
		for name, test := range map[string]struct {
			write func(there *browser, key string)
			want  string
		}{
			"Set":     {func(there *browser, _ string) { there.must("set:a:new") }, "new"},
			"Delete":  {func(there *browser, _ string) { there.must("delete:a") }, ""},
			"Rotate":  {func(there *browser, _ string) { there.must("rotate") }, ""},
			"Destroy": {func(there *browser, _ string) { there.must("destroy") }, ""},
			"Login":   {func(there *browser, _ string) { there.must("login:bob") }, ""},
			"Revoke": {func(there *browser, _ string) {
				noError(t, other.app.Revoke(t.Context(), handleOf(t, there)))
			}, ""},
			"RevokeUser": {func(*browser, string) {
				_, err := other.app.RevokeUser(t.Context(), "ann")
				noError(t, err)
			}, ""},
			"deletion": {func(_ *browser, key string) { server.Do(0, "DEL", key) }, ""},
			"FLUSHALL": {func(*browser, string) { server.Do(0, "FLUSHALL") }, ""},
		} {
			t.Run(name, func(t *testing.T) {
				b := site.browser()
				b.must("login:ann", "set:a:old")
				site.remembers(b)
				there := newBrowser(t, other.URL).with(b.cookie())
				test.write(there, keyOf(idOf(t, b.cookie())))
				sees(t, b, long, test.want)
			})
		}
	})
}

// SCRIPT FLUSH changes no session.
func TestCacheScriptFlush(t *testing.T) {
	server := redistest.Start(t)
	site := caching(t, settings(server), long)
	b := site.browser()
	b.must("set:a:b")
	site.remembers(b)
	server.Do(0, "SCRIPT", "FLUSH")
	if n := site.hits(func() { b.want([]outcome{{Value: "b"}}, "get:a") }); n != 1 {
		t.Errorf("%d hits, want 1", n)
	}
	b.must("set:a:c")
	b.want([]outcome{{Value: "c"}}, "get:a")
	site.remembers(b)
}

// A read under way when the session changes puts nothing into memory that is out of date: neither of what another process
// has written, nor of what this one has.
func TestCacheReadUnderWay(t *testing.T) {
	server := redistest.Start(t)
	proxy, s := proxied(t, server)
	site, other := caching(t, s, long), newSite(t, settings(server))
	large := strings.Repeat("x", 40_000)
	for name, write := range map[string]func(b *browser){
		"another process": func(b *browser) {
			before := site.app.CacheStats().Invalidations
			newBrowser(t, other.URL).with(b.cookie()).must("set:a:new")
			for range 5000 {
				if site.app.CacheStats().Invalidations > before {
					return
				}
				time.Sleep(time.Millisecond)
			}
			t.Fatal("nothing was heard of the write")
		},
		"this process": func(b *browser) { // by a connection of its own, since the other's replies are kept back
			proxy.HoldSome(true) // Redis does not help
			site.works(b, func(s *pycket.SessionManager, _ *pycket.NotificationManager) error {
				return s.SetMany(pycket.Values{"a": "new", "large": large})
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			defer proxy.PassSome(true)
			b := newBrowser(t, other.URL)
			b.must("set:a:old")
			b = site.browser().with(b.cookie())
			server.Scripts()
			proxy.HoldSome(false)
			var read []outcome
			var err error
			done := make(chan struct{})
			go func() {
				defer close(done)
				_, read, err = b.tab().try("get:a")
			}()
			await(t, "the read in Redis", func() bool { run, _ := server.Scripts(); return run > 0 })
			write(b)
			proxy.PassSome(false)
			<-done
			if diff := cmp.Diff([]outcome{{Value: "old"}}, read); diff != "" || err != nil {
				t.Fatalf("%s, %v", diff, err)
			}
			for range 3 {
				b.tab().want([]outcome{{Value: "new"}}, "get:a")
			}
		})
	}
}

// When Redis is heard of no more, reads go there once CacheFor has passed, and not before; when it is heard of again, they
// don't. A write that was not heard of is never missed for longer.
func TestCacheHeld(t *testing.T) {
	t.Run("within CacheFor", func(t *testing.T) {
		server := redistest.Start(t)
		proxy, s := proxied(t, server)
		site := caching(t, s, long)
		b := site.browser()
		b.must("set:a:b")
		site.remembers(b)
		proxy.HoldSome(true)
		server.Scripts()
		b.must("get:a")
		if run, _ := server.Scripts(); run != 0 {
			t.Errorf("Redis was asked %d times, and memory could be used", run)
		}
	})
	t.Run("after it", func(t *testing.T) {
		const cacheFor = 200 * time.Millisecond
		server := redistest.Start(t)
		proxy, s := proxied(t, server)
		site, other := caching(t, s, cacheFor), newSite(t, settings(server))
		b := site.browser()
		b.must("set:a:b")
		there := newBrowser(t, other.URL).with(b.cookie())
		for i := range 3 {
			site.remembers(b)
			proxy.HoldSome(true)
			want := fmt.Sprint(i)
			there.must("set:a:" + want)
			sees(t, b, cacheFor, want)
			if n := site.hits(func() { b.must("get:a") }); n != 0 {
				t.Errorf("%d reads from memory, of which nothing is heard", n)
			}
			proxy.PassSome(true)
		}
		site.remembers(b)
	})
	t.Run("for longer than Timeout", func(t *testing.T) {
		proxy, s := proxied(t, redistest.Start(t))
		s.Redis.Timeout = shortTimeout
		site := caching(t, s, 100*time.Millisecond)
		b := site.browser()
		b.must("set:a:b")
		site.remembers(b)
		before := proxy.Connections()
		proxy.HoldSome(true)
		for began := time.Now(); proxy.Connections() == before; { // a read that finds nothing in memory leads to a new one
			if b.want([]outcome{{Value: "b"}}, "get:a"); time.Since(began) > bound {
				t.Fatal("no other connection is made")
			}
		}
		site.remembers(b)
	})
}

// When either connection breaks, nothing that was read is used any longer than CacheFor, and both are made again.
func TestCacheConnectionKilled(t *testing.T) {
	for _, test := range []struct {
		kind     string
		cacheFor time.Duration
	}{
		{"pubsub", long}, // this process notices at once
		{"normal", 200 * time.Millisecond},
	} {
		t.Run(test.kind, func(t *testing.T) {
			server := redistest.Start(t)
			site, other := caching(t, settings(server), test.cacheFor), newSite(t, settings(server))
			b := site.browser()
			b.must("set:a:b")
			there := newBrowser(t, other.URL).with(b.cookie())
			for i := range 5 {
				site.remembers(b)
				server.Do(0, "CLIENT", "KILL", "TYPE", test.kind)
				want := fmt.Sprint(i)
				there.must("set:a:" + want)
				sees(t, b, test.cacheFor, want)
			}
			site.remembers(b)
		})
	}
}

// A Redis that has no room for what it should remember says so of what it forgets.
func TestCacheTrackingTableFull(t *testing.T) {
	server := redistest.Start(t, "--tracking-table-max-keys", "5")
	site, other := caching(t, settings(server), long), newSite(t, settings(server))
	var here, there []*browser
	for range 50 {
		b := site.browser()
		b.must("set:a:b")
		b.must("get:a")
		here, there = append(here, b), append(there, newBrowser(t, other.URL).with(b.cookie()))
	}
	for i, b := range there {
		b.must("set:a:c")
		sees(t, here[i], long, "c")
	}
	for i := 0; site.app.CacheStats().Invalidations < 50; i++ { // each has come, with its session's write at the latest
		if i == 1000 {
			t.Fatalf("%+v", site.app.CacheStats())
		}
		time.Sleep(time.Millisecond)
	}
}

// The second connection has its own failures, and never leaves the first without tracking: cut at random, no read is out of
// date.
func TestCacheCutRandomly(t *testing.T) {
	const cacheFor = 100 * time.Millisecond
	server := redistest.Start(t)
	proxy, s := proxied(t, server)
	site, other := caching(t, s, cacheFor), newSite(t, settings(server))
	b := site.browser()
	b.must("set:a:b")
	there := newBrowser(t, other.URL).with(b.cookie())
	proxy.CutRandomly(1)
	proxy.Cut()
	for i := range 100 {
		want := fmt.Sprint(i)
		there.must("set:a:" + want)
		for wrote := time.Now(); ; {
			began := time.Now()
			_, list := b.do("get:a")
			if list[0].Err == "ErrUnavailable" {
				continue
			}
			if list[0].Value == want {
				break
			}
			if began.Sub(wrote) > cacheFor {
				t.Fatalf("%v after the write: %v, not %s", began.Sub(wrote), list[0], want)
			}
		}
	}
	proxy.Calm()
	site.remembers(b)
}

// After a failover in a cluster, what the old master tells is not relied on for longer than CacheFor.
func TestCacheFailover(t *testing.T) {
	const cacheFor = 200 * time.Millisecond
	for _, how := range []string{"planned", "dies", "hangs"} {
		t.Run(how, func(t *testing.T) {
			server := redistest.StartCluster(t, 3, 1)
			s := settings(server)
			s.Redis.Timeout = shortTimeout
			site, other := caching(t, s, cacheFor), newSite(t, s)
			master := server.Nodes()[0]
			var b *browser
			for b == nil || server.NodeOf(keyOf(idOf(t, b.cookie()))).Addr != master.Addr {
				b = site.browser()
				b.must("set:a:old")
			}
			there := newBrowser(t, other.URL).with(b.cookie())
			there.must("get:a") // it learns where the servers are
			site.remembers(b)
			awaitReplicas(t, master, keyOf(idOf(t, b.cookie())), 1)
			switch how {
			case "planned":
				server.Nodes()[3].Do(0, "CLUSTER", "FAILOVER")
			case "dies":
				master.Kill()
			case "hangs":
				master.Suspend()
			}
			for began := time.Now(); ; {
				_, list := there.do("set:a:new")
				if list[0].Err == "" {
					break
				}
				if list[0].Err != "ErrUnavailable" || time.Since(began) > 10*bound {
					t.Fatalf("%+v", list)
				}
			}
			for wrote := time.Now(); ; {
				began := time.Now()
				_, list := b.do("get:a")
				if list[0].Value == "new" {
					break
				}
				if list[0].Err == "" && began.Sub(wrote) > cacheFor || began.Sub(wrote) > 10*bound {
					t.Fatalf("%v after the write: %+v", began.Sub(wrote), list[0])
				}
			}
			site.remembers(b)
		})
	}
}

// A session that is read all the time, from memory, is renewed as ever, and lives.
func TestCacheRenews(t *testing.T) {
	s := settings(redistest.Start(t))
	s.IdleTimeout = time.Second
	site := caching(t, s, 100*time.Millisecond)
	b := site.browser()
	b.must("set:a:b")
	hits := site.hits(func() {
		for began := time.Now(); time.Since(began) < 2*s.IdleTimeout; {
			b.want([]outcome{{Value: "b"}}, "get:a")
		}
	})
	if hits == 0 {
		t.Error("nothing came from memory")
	}
}

// Nothing is read from memory after its own time, though Redis says nothing.
func TestCacheExpires(t *testing.T) {
	proxy, s := proxied(t, redistest.Start(t))
	s.AbsoluteTimeout = time.Second
	site := caching(t, s, long)
	b := site.browser()
	b.must("set:a:b")
	began := time.Now()
	site.remembers(b)
	proxy.HoldSome(true)
	for b.must("get:a")[0] != "" {
		if time.Since(began) > bound {
			t.Fatal("a session has outlived AbsoluteTimeout in memory")
		}
	}
}

// A Redis that does not track is read from, and a warning says so, once; Ping says what to do.
func TestCacheUntracked(t *testing.T) {
	full := "on nopass allkeys allchannels +@all"
	for name, start := range map[string]func(t *testing.T) *redistest.Server{
		"embedded": func(t *testing.T) *redistest.Server { return redistest.StartEmbedded(t) },
		"a right is missing": func(t *testing.T) *redistest.Server {
			server := redistest.Start(t)
			server.Do(0, "ACL", redis.Args{"SETUSER", server.User()}.AddFlat(strings.Fields(full+" -client"))...)
			return server
		},
		"the channel is not allowed": func(t *testing.T) *redistest.Server {
			server := redistest.Start(t)
			server.Do(0, "ACL", redis.Args{"SETUSER", server.User()}.AddFlat(strings.Fields(full+" resetchannels"))...)
			return server
		},
	} {
		t.Run(name, func(t *testing.T) {
			journal, logger := newJournal()
			s := settings(start(t))
			s.Logger, s.CacheFor = logger, time.Second
			site := newSite(t, s)
			b := site.browser()
			b.must("set:a:b")
			for range 20 {
				b.want([]outcome{{Value: "b"}}, "get:a")
			}
			for range 2 {
				wantError(t, site.app.Ping(t.Context()), nil, "ping", "CacheFor is set", "CLIENT TRACKING", "set CacheFor to 0")
			}
			b.must("set:a:c")
			b.want([]outcome{{Value: "c"}}, "get:a")
			lines := journal.warnings(t)
			if len(lines) != 1 || !strings.Contains(lines[0].Msg, "CacheFor is set, and sessions are not kept in memory") || lines[0].Level != "WARN" {
				t.Errorf("%+v", lines)
			}
			if stats := site.app.CacheStats(); stats.Hits != 0 || stats.Bytes != 0 || stats.PongAge != 0 {
				t.Errorf("%+v", stats)
			}
		})
	}
}

// A read after Refresh asks Redis, whatever is in memory.
func TestCacheRefresh(t *testing.T) {
	server := redistest.Start(t)
	proxy, s := proxied(t, server)
	site, other := caching(t, s, long), newSite(t, settings(server))
	proxy.HoldSome(true)
	b := site.browser()
	b.must("set:a:old")
	there := newBrowser(t, other.URL).with(b.cookie())
	site.remembers(b)
	there.must("set:a:new")
	b.want([]outcome{{Value: "old"}, {}, {Value: "new"}}, "get:a", "refresh", "get:a")
	there.must("set:a:newer")
	b.want([]outcome{{}, {Value: "newer"}}, "refresh", "get:a")
	b.want([]outcome{{Value: "newer"}}, "get:a")
}

// Before the browser gets its cookie again, Redis is asked whether it is still the session's: another process may have given
// the session a new id, and its cookie is not to be replaced.
func TestCacheCookieIsChecked(t *testing.T) {
	server := redistest.Start(t)
	proxy, s := proxied(t, server)
	s.Cookies.ExpiresDays = 10
	site, other := caching(t, s, long), newSite(t, settings(server))
	proxy.HoldSome(true)
	b := site.browser()
	b.must("set:a:b")
	site.remembers(b)
	due := site.browser().with(signedFor(t, secret, "PYCKET_ID", idOf(t, b.cookie()), 25*time.Hour, 240*time.Hour))
	newBrowser(t, other.URL).with(b.cookie()).must("rotate")
	if a := due.want([]outcome{{Value: "b"}}, "get:a"); a.setsCookie() {
		t.Error("the cookie of a dead id was sent again")
	}
	due.want([]outcome{{Value: ""}}, "get:a") // it was found dead
}

// A codec that keeps what it was given, and a handler that changes that, change nothing for others.
func TestCacheIsNotShared(t *testing.T) {
	s := settings(redistest.Start(t))
	s.Codec = rawCodec{}
	site := caching(t, s, long)
	b := site.browser()
	site.works(b, func(s *pycket.SessionManager, _ *pycket.NotificationManager) error {
		return s.Set("a", []byte("value"))
	})
	for range 20 {
		site.works(b, func(s *pycket.SessionManager, _ *pycket.NotificationManager) error {
			value, err := pycket.Get[[]byte](s, "a", nil)
			if string(value) != "value" {
				t.Errorf("%q", value)
			}
			clear(value)
			return err
		})
	}
	if site.app.CacheStats().Hits == 0 {
		t.Error("nothing came from memory")
	}
}

// rawCodec stores bytes as they are, and hands out what it gets.
type rawCodec struct{}

func (rawCodec) Encode(value any) ([]byte, error) {
	if b, ok := value.([]byte); ok {
		return b, nil
	}
	return json.Marshal(value)
}

func (rawCodec) Decode(data []byte, into any) error {
	if b, ok := into.(*[]byte); ok {
		*b = data
		return nil
	}
	return json.Unmarshal(data, into)
}

// handleOf is the handle of a browser's session.
func handleOf(t *testing.T, b *browser) string {
	t.Helper()
	return handleIn(keyOf(idOf(t, b.cookie())))
}

// The history of one session, for the checker: what its ids open, and when that became so.
type history struct {
	mu      sync.Mutex // of writers
	number  int        // a value of the session
	key     string
	cookies []atomic.Pointer[http.Cookie] // by rotation
	events  atomic.Pointer[[]event]       // grows only
}

// An event is a change of a session.
type event struct {
	process    int // that made it; -1 if none did
	start, end time.Time
	id, value  int // after it: the number of the id that is alive, and the value; id is -1 if none is
}

// Three processes write to sessions, rotate, revoke and expire them, all at random, and each read is compared with what may
// be read: nothing that was over CacheFor before it began, or by the same process at all; nothing that has not begun when
// it ends; and nothing of another session.
func TestCacheCoherence(t *testing.T) {
	redistest.Real(t, checkCoherence)
}

func checkCoherence(t *testing.T, server *redistest.Server) {
	const cacheFor, sessions, ids = 50 * time.Millisecond, 6, 40
	own := caching(t, settings(server), cacheFor)
	at := childURL(server)
	t.Setenv("PYCKET_TEST_CACHE", cacheFor.String())
	var processes []*browser
	for _, base := range []string{own.URL, startChild(t, at), startChild(t, at)} {
		b := newBrowser(t, base)
		b.client.Jar = nil
		processes = append(processes, b)
	}
	in := func(process int, cookie *http.Cookie, ops ...string) ([]outcome, []*http.Cookie) {
		r := processes[process].request("/?" + url.Values{"op": ops}.Encode())
		if cookie != nil {
			r.AddCookie(cookie)
		}
		a, err := processes[process].send(r)
		if err != nil {
			t.Error(err)
			return make([]outcome, len(ops)), nil
		}
		list, err := a.outcomes()
		for _, o := range list {
			if o.Err != "" {
				err = errors.Join(err, errors.New(o.Err))
			}
		}
		if err != nil {
			t.Errorf("process %d: %v", process, err)
		}
		return list, (&http.Response{Header: a.header}).Cookies()
	}
	begin := func(n int) *history {
		h := &history{number: n, cookies: make([]atomic.Pointer[http.Cookie], ids)}
		e := event{start: time.Now()}
		_, cookies := in(0, nil, fmt.Sprintf("setmany:session:%d:value:0", n))
		e.end = time.Now()
		h.cookies[0].Store(cookies[0])
		h.key = keyOf(idOf(t, cookies[0].Value))
		h.events.Store(&[]event{e})
		return h
	}
	var current [sessions]atomic.Pointer[history]
	var numbers atomic.Int64
	for i := range current {
		current[i].Store(begin(int(numbers.Add(1))))
	}
	write := func(random *rand.Rand, i int, expires bool) {
		h := current[i].Load()
		if !h.mu.TryLock() {
			return
		}
		defer h.mu.Unlock()
		events := *h.events.Load()
		last := events[len(events)-1]
		if last.id < 0 {
			return
		}
		e := event{process: random.IntN(len(processes)), id: last.id, value: last.value}
		cookie := h.cookies[e.id].Load()
		change := random.IntN(20)
		switch {
		case e.id == ids-1:
			change = 19
		case change == 18 && !expires:
			change = 0
		}
		e.start = time.Now()
		// The event is known before it begins, so that no reader is ahead of it, and again when it has ended.
		plan := func(next event) { grown := append(slices.Clone(events), next); h.events.Store(&grown) }
		switch {
		case change < 14:
			e.value++
			plan(e)
			in(e.process, cookie, fmt.Sprint("set:value:", e.value))
		case change < 18:
			e.id++
			plan(e)
			_, cookies := in(e.process, cookie, "rotate")
			if len(cookies) != 1 {
				t.Error("a rotation sets no cookie")
				return
			}
			h.cookies[e.id].Store(cookies[0])
		case change == 18:
			e.id, e.process = -1, -1
			plan(e)
			server.Do(0, "PEXPIRE", h.key, 0)
		default:
			e.id, e.process = -1, 0
			plan(e)
			if err := own.app.Revoke(t.Context(), handleIn(h.key)); err != nil {
				t.Error(err)
			}
		}
		e.end = time.Now()
		plan(e)
		if e.id < 0 {
			current[i].Store(begin(int(numbers.Add(1))))
		}
	}
	read := func(random *rand.Rand, h *history) {
		process := random.IntN(len(processes))
		before := *h.events.Load()
		id := max(0, before[len(before)-1].id-random.IntN(2))
		for _, e := range before {
			if e.id > id && random.IntN(8) > 0 {
				id = e.id
			}
		}
		cookie := h.cookies[id].Load()
		if cookie == nil { // its rotation is under way
			return
		}
		t0 := time.Now()
		list, _ := in(process, cookie, "get:session", "get:value")
		number := func(o outcome) int {
			text, _ := o.Value.(string)
			if n, err := strconv.Atoi(text); err == nil {
				return n
			}
			return -1
		}
		session, value := number(list[0]), number(list[1])
		found := session >= 0
		if found && session != h.number {
			t.Errorf("a value of session %d in session %d", session, h.number)
		}
		after := *h.events.Load()
		// The events that the read must have seen, and those that it may have.
		must, may := 0, 0
		for i, e := range after {
			if i < len(before) && !before[i].end.IsZero() && (e.process == process && before[i].end.Before(t0) || before[i].end.Add(cacheFor).Before(t0)) {
				must = i
			}
			may = i
		}
		for _, e := range after[must : may+1] {
			if found && e.id == id && e.value == value || !found && e.id != id {
				return
			}
		}
		t.Errorf("process %d, id %d: found %v, value %d; possible were %+v", process, id, found, value, after[must:may+1])
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	var working sync.WaitGroup
	writes := func(worker uint64) {
		random := rand.New(rand.NewPCG(1, worker))
		for ctx.Err() == nil {
			write(random, random.IntN(sessions), worker == 0)
			time.Sleep(time.Duration(random.IntN(5)) * time.Millisecond)
		}
	}
	for worker := range 3 {
		if worker > 0 { // which uses the server, and t's goroutine
			working.Go(func() { writes(uint64(worker)) })
		}
		working.Go(func() {
			random := rand.New(rand.NewPCG(2, uint64(worker)))
			var old []*history
			for ctx.Err() == nil {
				h := current[random.IntN(sessions)].Load()
				if len(old) > 0 && random.IntN(4) == 0 {
					h = old[random.IntN(len(old))]
				} else if old = append(old, h); len(old) > 20 {
					old = old[1:]
				}
				read(random, h)
			}
		})
	}
	writes(0)
	working.Wait()
	if stats := own.app.CacheStats(); stats.Hits == 0 || stats.Invalidations == 0 {
		t.Errorf("%+v", stats)
	}
	if server.Nodes() == nil {
		listening := fmt.Sprintf("%s", server.Do(0, "CLIENT", "LIST", "TYPE", "pubsub"))
		if n := strings.Count(listening, "\n"); n != len(processes) {
			t.Errorf("%d processes are told of changes", n)
		}
	}
}

// BenchmarkCachedRead measures a request that reads its session from memory: see BenchmarkRequest.
func BenchmarkCachedRead(b *testing.B) {
	s := settings(redistest.Start(b))
	s.CacheFor = time.Second
	app := newApp(b, s)
	if err := app.Ping(b.Context()); err != nil {
		b.Fatal(err)
	}
	text := "forty bytes of text, more or less, here"
	made := handle(app, httptest.NewRequest("GET", "/", nil), func(s *pycket.SessionManager) {
		s.SetMany(pycket.Values{"name": text, "count": 0})
	})
	r := httptest.NewRequest("GET", "/", nil)
	r.AddCookie(made.Cookies()[0])
	handler := app.Wrap(pycket.Handler(measured{use: func(s *pycket.SessionManager) error {
		got, err := pycket.Get(s, "name", "")
		if got != text {
			b.Errorf("%q", got)
		}
		return err
	}}))
	b.ReportAllocs()
	for b.Loop() {
		handler.ServeHTTP(&discard{http.Header{}}, r)
	}
	if stats := app.CacheStats(); stats.Hits < 9*stats.Misses {
		b.Logf("%+v", stats)
	}
}

// BenchmarkRevokeSeen measures how long after App.Revoke of another App has returned a session is read from memory for the
// last time, in a process that has nothing else to do, and in one that 64 clients ask without a pause:
//
//	go test -run - -bench RevokeSeen -benchtime 300x
func BenchmarkRevokeSeen(b *testing.B) {
	for name, readers := range map[string]int{"idle": 0, "busy": 64} {
		b.Run(name, func(b *testing.B) { measureRevoke(b, readers) })
	}
}

func measureRevoke(b *testing.B, readers int) {
	s := settings(redistest.Start(b))
	other := newApp(b, s)
	s.CacheFor = time.Second
	app := newApp(b, s)
	if err := app.Ping(b.Context()); err != nil {
		b.Fatal(err)
	}
	begin := func(user string) *http.Request {
		made := handle(app, httptest.NewRequest("GET", "/", nil), func(s *pycket.SessionManager) { s.Login(user, pycket.Values{"a": "b"}) })
		r := httptest.NewRequest("GET", "/", nil)
		r.AddCookie(made.Cookies()[0])
		return r
	}
	handler := app.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		value, err := pycket.Get(pycket.NewSessionManager(w, r), "a", "")
		if err != nil {
			b.Error(err)
		}
		io.WriteString(w, value)
	}))
	read := func(r *http.Request) string {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		return w.Body.String()
	}
	server := httptest.NewServer(handler)
	defer server.Close()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: readers}}
	var over atomic.Bool
	var reading sync.WaitGroup
	defer reading.Wait()
	defer over.Store(true)
	for i := range readers {
		cookie := begin(fmt.Sprint("reader", i)).Cookies()[0]
		reading.Go(func() {
			for !over.Load() {
				r, _ := http.NewRequest("GET", server.URL, nil)
				r.AddCookie(cookie)
				response, err := client.Do(r)
				if err != nil {
					b.Error(err)
					return
				}
				io.Copy(io.Discard, response.Body)
				response.Body.Close()
			}
		})
	}
	var delays []time.Duration
	for b.Loop() {
		r := begin("ann")
		infos, err := other.Sessions(b.Context(), "ann")
		if err != nil || len(infos) != 1 {
			b.Fatal(infos, err)
		}
		for range 5 { // it is in memory then
			read(r)
			time.Sleep(50 * time.Microsecond)
		}
		if err := other.Revoke(b.Context(), infos[0].Handle); err != nil {
			b.Fatal(err)
		}
		revoked, last := time.Now(), time.Duration(0)
		for since := last; read(r) != ""; since = time.Since(revoked) {
			last = since
			time.Sleep(50 * time.Microsecond) // for the goroutine that hears Redis
		}
		delays = append(delays, last)
	}
	slices.Sort(delays)
	for name, part := range map[string]float64{"µs-median": 0.5, "µs-99%": 0.99, "µs-max": 1} {
		b.ReportMetric(float64(delays[int(part*float64(len(delays)-1))].Microseconds()), name)
	}
}
