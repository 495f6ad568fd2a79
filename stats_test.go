package pycket_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pycket/pycket"
	"github.com/pycket/pycket/internal/redistest"
)

// observer remembers operations.
type observer struct {
	mu   sync.Mutex
	list []pycket.Operation
	ctxs []context.Context
}

func (o *observer) observe(ctx context.Context, op pycket.Operation) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.list, o.ctxs = append(o.list, op), append(o.ctxs, ctx)
}

// take returns what was observed since the last time.
func (o *observer) take() []pycket.Operation {
	o.mu.Lock()
	defer o.mu.Unlock()
	list := o.list
	o.list, o.ctxs = nil, nil
	return list
}

// told is an operation without what differs each time.
func told(list []pycket.Operation) (short []string) {
	for _, op := range list {
		short = append(short, fmt.Sprintf("%s: %s, %d trips", op.Name, op.Outcome, op.RoundTrips))
	}
	return short
}

// Every operation is observed once, by the name that errors give it, with its round trips, and counted.
func TestEveryOperationIsObserved(t *testing.T) {
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		seen := new(observer)
		s := settings(server)
		s.Observe = seen.observe
		site := newSite(t, s)
		warm := site.browser()
		warm.must(append([]string{"set:a:b"}, everyOperation...)...) // the server has then seen the scripts
		warm.must("login:ann", "remember", "destroy")
		signIn(t, site, "ann")
		noError(t, site.app.Ping(t.Context()))
		noError(t, site.app.Revoke(t.Context(), list(t, site, "ann")[0].Handle))
		signIn(t, site, "ann")
		site.app.RevokeUser(t.Context(), "ann")
		seen.take()
		before := site.app.Stats()

		began := time.Now()
		b := site.browser()
		b.must("get:a", "set:a:b", "get:a", "setmany:a:b:c:d", "delete:a", "inc:n:1", "update:n", "note:a:b", "notemany:a:b:c:d", "peek:a", "nhas:a", "nkeys",
			"take:a", "ndelete:c", "add:i:t", "drain", "rotate")
		b.must("has:a", "keys", "login:ann", "user", "authtime", "setuser:ann")
		b.must("remember", "remembered")
		infos := list(t, site, "ann")
		_, err := site.app.RevokeUser(t.Context(), "ann")
		noError(t, err)
		noError(t, site.app.Revoke(t.Context(), infos[0].Handle))
		noError(t, site.app.Ping(t.Context()))
		b.do("destroy")
		got := seen.take()
		want := []string{
			"get: ok, 0 trips", "set: ok, 1 trips", "get: ok, 0 trips", "set many: ok, 1 trips", "delete: ok, 1 trips", "increment: ok, 1 trips", "update: ok, 1 trips",
			"notify: ok, 1 trips", "notify many: ok, 1 trips", "peek: ok, 1 trips", "has: ok, 1 trips", "keys: ok, 1 trips", "take: ok, 1 trips",
			"delete: ok, 1 trips", "add: ok, 1 trips", "drain: ok, 1 trips", "rotate: ok, 1 trips",
			"has: ok, 1 trips", "keys: ok, 0 trips", "login: ok, 1 trips", "user: ok, 1 trips", "authentication time: ok, 0 trips", "set user: ok, 1 trips",
			"remember: ok, 1 trips", "remembered: ok, 0 trips", "cookie: ok, 1 trips",
			"sessions: ok, 2 trips", "revoke user: ok, 2 trips", "revoke: ok, 1 trips", "ping: ok, 3 trips", "destroy: ok, 1 trips",
		}
		equal(t, "operations", want, told(got))
		trips, figures := 0, map[string]uint64{}
		for _, op := range got {
			if op.Began.Before(began) || op.Took < 0 || op.Began.Add(op.Took).After(time.Now()) || op.Retries != 0 || op.Err != nil {
				t.Errorf("%+v", op)
			}
			if asked := op.RoundTrips > 0; asked != (op.Server == server.Addr) || !asked && op.Server != "" {
				t.Errorf("%s: the server is %q", op.Name, op.Server)
			}
			trips += op.RoundTrips
			figures[op.Name]++
		}
		after := site.app.Stats()
		equal(t, "round trips", uint64(trips), after.RoundTrips-before.RoundTrips)
		counted := map[string]uint64{}
		for name, of := range after.Operations {
			if n := of.Outcomes["ok"] - before.Operations[name].Outcomes["ok"]; n > 0 {
				counted[name] = n
			}
			var asked uint64
			for _, n := range of.Latency {
				asked += n
			}
			if len(of.Latency) != len(after.LatencyBounds)+1 || asked > of.RoundTrips || (asked > 0) != (of.Took > 0) {
				t.Errorf("%s: %+v", name, of)
			}
		}
		equal(t, "counts", figures, counted)
		if c := after.Connections; c.Servers != 1 || c.Shared != 1 || c.Max != 64 || c.Queued+c.Waiting+c.Alone != 0 {
			t.Errorf("%+v", c)
		}
		var read pycket.Stats
		data, err := json.Marshal(after)
		noError(t, err)
		noError(t, json.Unmarshal(data, &read))
		equal(t, "JSON", after, read)
	})
}

// The context is that of the request, or the one that was given.
func TestObserveContext(t *testing.T) {
	server := redistest.StartEmbedded(t)
	seen := new(observer)
	s := settings(server)
	s.Observe = seen.observe
	app := newApp(t, s)
	type key struct{}
	r := httptest.NewRequest("GET", "/", nil)
	r = r.WithContext(context.WithValue(r.Context(), key{}, "request"))
	handle(app, r, func(s *pycket.SessionManager) {
		noError(t, s.Set("a", "b"))
		noError(t, s.WithContext(context.WithValue(t.Context(), key{}, "own")).Set("a", "b"))
		noError(t, s.Destroy())
	})
	var got []any
	for _, ctx := range seen.ctxs {
		got = append(got, ctx.Value(key{}))
	}
	equal(t, "contexts", []any{"request", "own", "request"}, got)
}

// How operations end, by their errors.
func TestObserveOutcomes(t *testing.T) {
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		seen := new(observer)
		proxy, s := proxied(t, server)
		s.Observe, s.MaxValueBytes, s.Redis.Timeout = seen.observe, 100, shortTimeout
		site := newSite(t, s)
		b := site.browser()
		b.must("set:a:b")
		check := func(what string, want ...string) {
			t.Helper()
			var got []string
			for _, op := range seen.take() {
				got = append(got, op.Outcome)
				if (op.Err == nil) != (op.Outcome == "ok") {
					t.Errorf("%s: %+v", what, op)
				}
			}
			equal(t, what, want, got)
		}
		check("begin", "ok")
		b.do("set:a:"+strings.Repeat("b", 200), "inc:a:1", "flush", "rotate")
		check("refused", "too_large", "failed", "headers_sent")
		tab := b.tab()
		site.whileHeld(tab, []string{"get:a", "hold", "set:a:c"}, func() { b.must("destroy") })
		check("gone", "ok", "ok", "gone")
		b.must("set:a:b")
		server.Do(0, "HSET", keyOf(idOf(t, b.cookie())), "a", "{")
		b.do("get:a")
		check("corrupt", "ok", "corrupt")
		site.use(b, func(s *pycket.SessionManager) {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			s.WithContext(ctx).Set("a", "c")
		})
		check("cancelled", "cancelled")
		proxy.Hold()
		b.do("set:a:c")
		check("unavailable", "unavailable")
		if stats := site.app.Stats(); stats.Operations["set"].Outcomes["unavailable"] != 1 {
			t.Errorf("%+v", stats.Operations["set"])
		}
	})
}

// An Update that another one came before, a command that had to be sent again, and a renewal are counted.
func TestStatsOfWhatIsRepeated(t *testing.T) {
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		seen := new(observer)
		s := settings(server)
		s.Observe = seen.observe
		site := newSite(t, s)
		b := site.browser()
		b.must("inc:n:1")
		other := b.tab()
		seen.take()
		site.works(b, func(s *pycket.SessionManager, _ *pycket.NotificationManager) error {
			first := true
			_, err := pycket.Update(s, "n", 0, func(n int) (int, error) {
				if first {
					first = false
					other.must("inc:n:1")
				}
				return n + 1, nil
			})
			return err
		})
		equal(t, "conflicts", 1, site.app.Stats().Conflicts)
		equal(t, "operations", []string{"increment: ok, 1 trips", "update: ok, 4 trips"}, told(seen.take())) // the script was new

		server.Do(0, "SCRIPT", "FLUSH")
		b.must("set:a:b")
		if op := seen.take()[0]; op.RoundTrips != 2 || op.Retries != 1 {
			t.Errorf("%+v", op)
		}
		server.Do(0, "PEXPIRE", server.OnlyKey(), time.Hour.Milliseconds())
		before := site.app.Stats()
		b.must("get:a")
		after := site.app.Stats()
		if after.Renewals != before.Renewals+1 || after.Operations["get"].RoundTrips < before.Operations["get"].RoundTrips+2 {
			t.Errorf("%+v, then %+v", before, after)
		}
	})
}

// What becomes of sessions is logged at Debug, and says nothing of which.
func TestEventsAreLogged(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		journal := new(journal)
		journal.w = &journal.text
		s := settings(server)
		s.Logger = slog.New(slog.NewTextHandler(&journal.lockedWriter, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: untimed}))
		s.MaxSessionsPerUser = 2
		site := newSite(t, s)
		want := func(what string, events ...string) {
			t.Helper()
			var lines strings.Builder
			for _, event := range events {
				fmt.Fprintf(&lines, "level=DEBUG msg=\"pycket: %s\"\n", event)
			}
			equal(t, "the log of "+what, lines.String(), journal.String())
			journal.text.Reset()
		}
		const began, revoked = "a session began", "sessions were revoked"
		site.browser().must("get:a", "set:a:b", "set:a:c", "rotate", "destroy", "destroy")
		want("one session", began, "a session got a new id", "a session ended")
		signIn(t, site, "ann")
		signIn(t, site, "ann")
		want("two of a user", began, began)
		signIn(t, site, "ann")
		want("one too many", began, revoked)
		handle := list(t, site, "ann")[0].Handle
		noError(t, site.app.Revoke(t.Context(), handle))
		want("Revoke", revoked)
		noError(t, site.app.Revoke(t.Context(), handle))
		want("Revoke of what has ended")
		wantRevoked(t, site, 1, "ann")
		want("RevokeUser", revoked)
		wantRevoked(t, site, 0, "ann")
		want("RevokeUser of nobody")

		signIn(t, site, "ann")
		handle = list(t, site, "ann")[0].Handle
		want("one more", began)
		unsure := settings(server)
		unsure.Logger, unsure.Redis.WaitReplicas = s.Logger, 1
		unreplicated(t, newApp(t, unsure).Revoke(t.Context(), handle))
		if got := journal.String(); !strings.Contains(got, revoked) {
			t.Errorf("the log of a Revoke that no replica has confirmed: %q", got)
		}
		journal.text.Reset()
		unsure.Redis.URL, unsure.Redis.Cluster = "redis://127.0.0.1:1", nil
		err := newApp(t, unsure).Revoke(t.Context(), handle)
		if wantError(t, err, pycket.ErrUnavailable, "revoke"); strings.Contains(journal.String(), revoked) {
			t.Errorf("the log of a Revoke that has failed: %s", journal)
		}
	})
}

// What can't be read is logged, at most once a second.
func TestFaultsAreLogged(t *testing.T) {
	server := redistest.StartEmbedded(t)
	journal, logger := newJournal()
	s := settings(server)
	s.Logger = logger
	site := newSite(t, s)
	b := site.browser()
	b.must("set:a:b")
	server.Do(0, "HSET", server.OnlyKey(), "a", "{")
	for range 20 {
		b.do("get:a")
	}
	if list := journal.warnings(t); len(list) == 0 || len(list) > 10 || list[0].Level != "WARN" || !strings.Contains(journal.String(), "get") {
		t.Errorf("the log: %s", journal)
	}
}

// Counting takes no memory, with nobody to observe.
func TestStatsTakeNoMemory(t *testing.T) {
	server := redistest.StartEmbedded(t)
	app, err := pycket.New(settings(server))
	if err != nil {
		t.Fatal(err)
	}
	defer app.Close()
	app.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s := pycket.NewSessionManager(w, r)
		noError(t, s.Set("a", 1))
		if n := testing.AllocsPerRun(100, func() { s.Has("a") }); n != 0 {
			t.Errorf("a read that asks nothing takes %v allocations", n)
		}
	})).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
	if n := app.Stats().Operations["has"]; n.Outcomes["ok"] != 101 || n.RoundTrips != 0 || slices.Max(n.Latency) != 0 {
		t.Errorf("%+v", n)
	}
}

// Without a request there is nothing to count, and errors are as ever.
func TestUnboundIsNotObserved(t *testing.T) {
	err := pycket.NewSessionManager(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil)).Set("a", "b")
	if wantError(t, err, pycket.ErrNoApp, `set "a"`); errors.Is(err, pycket.ErrNotBound) {
		t.Error(err)
	}
	if diff := cmp.Diff("pycket: set \"a\": "+pycket.ErrNoApp.Error(), err.Error()); diff != "" {
		t.Error(diff)
	}
}
