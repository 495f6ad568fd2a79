package pycket_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pycket/pycket"
	"github.com/pycket/pycket/internal/redistest"
)

// What a context leads to is the request's session, and what is done with it ends with that context.
func TestFromContext(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		site := newSite(t, settings(server))
		b := site.browser()
		site.visit(b, func(_ http.ResponseWriter, r *http.Request, s *pycket.SessionManager, n *pycket.NotificationManager) {
			noError(t, errors.Join(pycket.SessionFrom(r.Context()).Set("a", "b"), pycket.NotificationsFrom(r.Context()).Set("x", "y")))
			wantGet(t, s, "a", "b")
			wantGet(t, n, "x", "y")

			ctx, cancel := context.WithCancel(r.Context())
			service, notes := pycket.SessionFrom(ctx), pycket.NotificationsFrom(ctx)
			wantGet(t, service, "a", "b")
			cancel()
			wantError(t, service.Set("a", "late"), context.Canceled, "set", `"a"`)
			wantError(t, notes.Add("a", "late"), context.Canceled, "add")
			wantGet(t, s, "a", "b")
		})
		b.want([]outcome{{Value: "b"}, {Value: ""}}, "get:a", "drain")
	})
	var none context.Context
	for _, err := range []error{pycket.SessionFrom(none).Set("a", 1), pycket.NotificationsFrom(none).Set("a", 1)} {
		wantError(t, err, pycket.ErrNoApp)
	}
}

// What NewSessionManager's writer is for: a middleware in between may have replaced the context.
func TestWriterFindsRequest(t *testing.T) {
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		site := newSite(t, settings(server))
		b := site.browser()
		site.visit(b, func(w http.ResponseWriter, r *http.Request, _ *pycket.SessionManager, _ *pycket.NotificationManager) {
			foreign := r.WithContext(context.Background())
			noError(t, pycket.NewSessionManager(wrappedWriter{w}, foreign).Set("a", "by the writer"))
			wantError(t, pycket.SessionFrom(foreign.Context()).Set("a", "by nothing"), pycket.ErrNoApp)
			noError(t, pycket.NewSessionManager(nil, r).Set("b", "by the context"))
		})
		b.want([]outcome{{Value: "by the writer"}, {Value: "by the context"}}, "get:a", "get:b")
	})
}

// A handle names the session that is alive, for its whole life, and none that is not.
func TestHandle(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		site := newSite(t, settings(server))
		b := site.browser()
		b.want([]outcome{{Value: ""}}, "handle")
		b.must("set:a:b")
		handle := strings.Trim(strings.TrimPrefix(keyOf(idOf(t, b.cookie())), "pycket:s:"), "{}")
		for _, op := range []string{"rotate", "login:ann", "login:bob", "setuser:", "clear", "login:ann"} {
			b.want([]outcome{{}, {Value: handle}}, op, "handle")
			b.want([]outcome{{Value: handle}}, "handle")
		}
		equal(t, "of Sessions", handle, list(t, site, "ann")[0].Handle)

		// Another request has ended it: before this one asked, and after.
		late := b.tab()
		_, got := site.whileHeld(b.tab(), []string{"hold", "handle"}, func() { b.must("destroy", "handle") })
		equal(t, "ended meanwhile", []outcome{{}, {Value: ""}}, got)
		late.want([]outcome{{Value: ""}}, "handle")
		dead := b.must("set:a:b", "handle")[1]
		ended := "PYCKET_ID=" + b.cookie()
		b.want([]outcome{{}, {Value: ""}}, "destroy", "handle")

		// Of several cookies, it is that of the session that is alive.
		b.must("set:a:b")
		alive := b.must("handle")[0]
		equal(t, "another session", true, alive != dead)
		if text := raw(t, site, "op=handle", ended+"; PYCKET_ID="+b.cookie()); !strings.Contains(text, fmt.Sprintf(`[{"value":%q}]`, alive)) {
			t.Errorf("with two cookies: %q, want %q", text, alive)
		}
	})
}

// All other sessions of the user end, and nothing else does.
func TestRevokeOthers(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		site := newSite(t, settings(server))
		first, second, own, other := signIn(t, site, "ann"), signIn(t, site, "ann"), signIn(t, site, "ann"), signIn(t, site, "bob")
		own.want([]outcome{{Value: 2.0}, {Value: "ann"}, {Value: 0.0}}, "others", "user", "others")
		wantAnonymous(t, site, first.cookie())
		wantAnonymous(t, site, second.cookie())
		other.want([]outcome{{Value: "bob"}}, "user")
		equal(t, "left", 1, len(list(t, site, "ann")))

		// Who is nobody has no others, and none may think that they have ended.
		nobody := []outcome{{Value: 0.0, Err: "pycket: revoke others: the session has no user, and so no others: call Login first"}}
		site.browser().want(nobody, "others")
		stranger := site.browser()
		stranger.must("set:a:b")
		stranger.want(nobody, "others")

		// Whose own session has ended ends none.
		for _, before := range []string{"user", "refresh"} {
			thief := signIn(t, site, "ann")
			_, got := site.whileHeld(thief.tab(), []string{before, "hold", "others"}, func() { own.must("others") })
			equal(t, "after the end", outcome{Value: 0.0, Err: "ErrGone"}, got[2])
			own.want([]outcome{{Value: "ann"}}, "user")
		}

		// It is by Redis's word whose session it is, not by what was read.
		sharer, bystander := signIn(t, site, "ann"), signIn(t, site, "bob")
		_, got := site.whileHeld(sharer.tab(), []string{"user", "hold", "others"}, func() { sharer.must("setuser:bob") })
		equal(t, "passed on meanwhile", []outcome{{Value: "ann"}, {}, {Value: 2.0}}, got) // other and bystander
		own.want([]outcome{{Value: "ann"}}, "user")
		wantAnonymous(t, site, bystander.cookie())
	})
}

// Clear takes the values, and only those.
func TestClear(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		s := settings(server)
		s.MaxSessionBytes = 20_000
		site := newSite(t, s)
		b := site.browser()
		b.must("login:ann", "remember", "note:x:y", "add:info:text")
		many := []string{"set:large:" + strings.Repeat("x", 15_000)}
		for i := range 450 {
			many = append(many, fmt.Sprintf("set:%d:%d", i, i))
		}
		b.must(many...)
		more := "set:more:" + strings.Repeat("y", 4_000)
		b.want([]outcome{{Err: "ErrTooLarge"}}, more)
		b.want([]outcome{{Value: "7"}, {}, {Value: ""}, {Value: []any{}}}, "get:7", "clear", "get:7", "keys")
		b.must(append(many[:100], more)...) // there is room again
		b.want([]outcome{{}, {Value: []any{}}, {Value: "ann"}, {Value: true}, {Value: true}, {Value: "y"}, {Value: "info=text"}},
			"clear", "keys", "user", "authtime", "remembered", "take:x", "drain")
		record := server.Hash(0, keyOf(idOf(t, b.cookie())))["pycket:id"]
		equal(t, "bytes", "0", record[36:])
		a := site.browser().want([]outcome{{}}, "clear")
		if a.setsCookie() || server.Size() != 2 { // the session and Ann's list
			t.Error("Clear has made a session")
		}

		// What the session knows of its last id stays too: a late request of that is told so, and begins no other.
		late := b.tab()
		b.must("rotate", "clear")
		if a := late.want([]outcome{{Err: "ErrGone"}}, "set:a:late"); a.setsCookie() {
			t.Error("a late write has begun a session")
		}
	})
}

// Clear is one step, and what is written after it stays, whatever a request has read before.
func TestClearAndWrites(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		site := newSite(t, settings(server))
		b := site.browser()
		b.must("set:old:x")
		_, got := site.whileHeld(b.tab(), []string{"get:old", "hold", "set:new:y", "get:old"}, func() { b.must("clear", "set:other:z") })
		equal(t, "across a Clear", []outcome{{Value: "x"}, {}, {}, {Value: "x"}}, got) // of its snapshot
		b.want([]outcome{{Value: []any{"new", "other"}}}, "keys")

		browsers := fleet(t, server, b, 8)
		for range rounds {
			all(browsers, func(i int) []string {
				if i < 2 {
					return []string{"clear"}
				}
				return []string{fmt.Sprintf("setmany:a%d:x:b%d:x", i, i), fmt.Sprintf("note:%d:x", i)}
			})
			names := fmt.Sprint(b.must("keys")[0])
			for i := range browsers {
				if strings.Contains(names, fmt.Sprint("a", i)) != strings.Contains(names, fmt.Sprint("b", i)) {
					t.Errorf("half of what was set together is left: %s", names)
				}
			}
			equal(t, "notifications", 6, len(b.must("nkeys")[0].([]any)))
		}
	})
}

// Of many requests that pop a value, in two processes, one gets it.
func TestPopOnce(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		site := newSite(t, settings(server))
		b := site.browser()
		b.must("set:a:b")
		browsers := fleet(t, server, b, contenders)
		for round := range rounds {
			b.must("set:state:once")
			got := 0
			for _, values := range all(browsers, func(i int) []string { return []string{"get:state", "pop:state"}[i%2:] }) {
				if values[len(values)-1] == "once" {
					got++
				}
			}
			if got != 1 {
				t.Errorf("round %d: %d requests got it, want 1", round, got)
			}
		}
		b.want([]outcome{{Value: []any{"a"}}}, "keys")
	})
}

// So it is with values that are sealed, which two Apps read.
func TestSealedPopOnce(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		one, two := newSite(t, sealedSettings(t, server, secret)), newSite(t, sealedSettings(t, server, secret))
		b := one.browser()
		for range rounds {
			b.must("set:state:once")
			got := make(chan any, 8)
			parallel(cap(got), func(i int) {
				tab := b.tab()
				if i%2 == 1 {
					tab = two.browser().with(b.cookie())
				}
				_, list, err := tab.try("pop:state")
				if err != nil || list[0].Err != "" {
					t.Error(list, err)
				}
				got <- list[0].Value
			})
			close(got)
			times := 0
			for value := range got {
				if value == "once" {
					times++
				}
			}
			equal(t, "times", 1, times)
		}
	})
}

// A stubborn is a value that can't be read, and takes its time to say so.
type stubborn struct{}

func (s *stubborn) UnmarshalJSON([]byte) error {
	stubbornly()
	return errors.New("it is stubborn")
}

// stubbornly is what happens while a stubborn is read.
var stubbornly func()

func TestPop(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		site := newSite(t, settings(server))
		b := site.browser()
		b.want([]outcome{{Value: ""}}, "pop:a")
		if server.Size() != 0 {
			t.Error("a Pop of nothing has made a session")
		}
		b.must("setmany:a:b:c:d")
		record := func() string { return server.Hash(0, keyOf(idOf(t, b.cookie())))["pycket:id"][36:] }
		size := record()
		b.want([]outcome{{Value: "b"}, {Value: ""}, {Value: ""}, {Value: []any{"c"}}, {}}, "pop:a", "pop:a", "get:a", "keys", "set:a:b")
		site.use(b, func(s *pycket.SessionManager) {
			_, err := pycket.Pop(s, "pycket:id", "")
			wantError(t, err, pycket.ErrReserved, "pop", `"pycket:id"`)
		})

		// What another request has popped is gone, whatever this one has read.
		_, got := site.whileHeld(b.tab(), []string{"get:a", "hold", "pop:a", "get:a"}, func() { b.must("pop:a") })
		equal(t, "popped meanwhile", []outcome{{Value: "b"}, {}, {Value: ""}, {Value: ""}}, got)
		b.must("set:a:b")

		// What can't be read is put back, even if the browser has hung up.
		pop := func(meanwhile func(cancel func())) (err error) {
			site.visit(b.tab(), func(_ http.ResponseWriter, r *http.Request, _ *pycket.SessionManager, _ *pycket.NotificationManager) {
				ctx, cancel := context.WithCancel(r.Context())
				defer cancel()
				stubbornly = func() { meanwhile(cancel) }
				s := pycket.SessionFrom(ctx)
				_, err = pycket.Pop(s, "a", stubborn{})
				if again := pycket.SessionFrom(r.Context()); err != nil && !errors.Is(err, pycket.ErrGone) {
					found, has := again.Has("a")
					equal(t, "seen again", true, found && has == nil)
				}
			})
			return err
		}
		for name, meanwhile := range map[string]func(cancel func()){
			"put back": func(func()) {}, "hung up": func(cancel func()) { cancel() },
		} {
			err := pop(meanwhile)
			wantError(t, err, pycket.ErrCorrupt, "pycket: pop", `"a"`)
			if strings.Contains(err.Error(), "put back") {
				t.Errorf("%s: %v", name, err)
			}
			equal(t, name, size, record())
			b.want([]outcome{{Value: "b"}}, "get:a")
		}
		wantError(t, pop(func(func()) { b.must("set:a:newer") }), pycket.ErrCorrupt, "pycket: pop")
		b.want([]outcome{{Value: "newer"}}, "get:a")
		wantError(t, pop(func(func()) { b.must("rotate") }), pycket.ErrGone, "pycket: pop", "could not be put back")
	})
}

// Expiry tells when the session ends, and doesn't put that off.
func TestExpiry(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		const hour = 3600
		at := func(idle, absolute float64) []outcome { return []outcome{{Value: []any{idle, absolute}}} }
		s := settings(server)
		s.IdleTimeout, s.AbsoluteTimeout = time.Hour, 3*time.Hour
		site := newSite(t, s)
		b := site.browser()
		// near compares to within a minute, which no machine takes for this.
		near := func(what string, idle, absolute float64) {
			t.Helper()
			got := b.must("expiry")[0].([]any)
			if i, a := got[0].(float64), got[1].(float64); i > idle || i < idle-60 || a > absolute || a < absolute-60 {
				t.Errorf("%s: %v, want %v and %v", what, got, idle, absolute)
			}
		}
		b.want(at(0, 0), "expiry")
		b.must("set:a:b")
		near("new", hour, 3*hour)
		key := keyOf(idOf(t, b.cookie()))
		server.Do(0, "PEXPIRE", key, (hour/2)*1000)
		near("half gone", hour/2, 3*hour)
		near("asked again", hour/2, 3*hour)
		if left := server.Do(0, "PTTL", key).(int64); left > hour/2*1000 {
			t.Errorf("Expiry has renewed the session: %d ms are left", left)
		}
		_, again := site.whileHeld(b, []string{"expiry", "hold", "expiry"}, func() { server.Do(0, "PEXPIRE", key, hour/4*1000) })
		if before, now := again[0].Value.([]any)[0].(float64), again[2].Value.([]any)[0].(float64); before <= hour/4 || now > hour/4 {
			t.Errorf("of one request: %v, and then %v", before, now)
		}
		b.must("get:a")
		near("used", hour, 3*hour)
		b.must("remember:2h")
		near("remembered", 2*hour, 3*hour)
		b.must("remember:100h")
		near("remembered for longer than may be", 3*hour, 3*hour)
		server.Do(0, "PEXPIRE", key, 100*hour*1000)
		near("with a TTL that is longer", 3*hour, 3*hour)
		server.Do(0, "PERSIST", key)
		near("without a TTL", 3*hour, 3*hour)

		// Of a session that has ended, or is older than it may be, there is nothing to tell.
		record := server.Hash(0, key)["pycket:id"]
		server.Do(0, "HSET", key, "pycket:id", record[:22]+"0000000000001"+record[35:])
		b.want(at(0, 0), "expiry")
		b.must("set:a:b")
		_, got := site.whileHeld(b.tab(), []string{"get:a", "hold", "expiry"}, func() { b.must("destroy") })
		equal(t, "ended meanwhile", at(0, 0), got[2:])

		s.AbsoluteTimeout = 0
		site = newSite(t, s)
		b = site.browser()
		b.must("set:a:b")
		latest := 0.0
		if server.Nodes() != nil {
			latest = 400 * 24 * hour
		}
		near("without an absolute timeout", hour, latest)
	})
}

var layout = template.Must(template.New("layout").Funcs(pycket.TemplateFuncs()).Parse(
	`{{range messages .Context}}<p class="{{.Level}}">{{.Text}}</p>{{end}}{{with notification .Context "saved"}}<b>{{.}}</b>{{end}}`))

// A layout shows what is waiting, once, escaped, and nothing if there is nothing.
func TestTemplateFuncs(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		site := newSite(t, settings(server))
		site.act = func(w http.ResponseWriter, r *http.Request, _ *pycket.SessionManager, _ *pycket.NotificationManager) {
			noError(t, layout.Execute(w, r))
		}
		b := site.browser()
		equal(t, "a stranger's page", "", b.get("/").body)
		b.must("add:info:1 < 2", "add:error:no", "note:saved:42", "note:other:x")
		equal(t, "page", `<p class="info">1 &lt; 2</p><p class="error">no</p><b>42</b>`, b.get("/").body)
		equal(t, "the next page", "", b.get("/").body)
		b.want([]outcome{{Value: []any{"other"}}}, "nkeys")
	})
}

// An error ends the execution, and is what it returns.
func TestTemplateErrors(t *testing.T) {
	var page bytes.Buffer
	r, err := http.NewRequestWithContext(t.Context(), "GET", "/", nil)
	require(t, err)
	wantError(t, layout.Execute(&page, r), pycket.ErrNoApp, "drain")

	server := redistest.Start(t)
	s := settings(server)
	s.Redis.Timeout = shortTimeout
	site := newSite(t, s)
	b := site.browser()
	b.must("add:info:text")
	server.Kill()
	site.visit(b, func(_ http.ResponseWriter, r *http.Request, _ *pycket.SessionManager, _ *pycket.NotificationManager) {
		wantError(t, layout.Execute(&page, r), pycket.ErrUnavailable, "drain")
	})
	equal(t, "page", "", page.String())

	alone := template.Must(template.New("alone").Funcs(pycket.TemplateFuncs()).Parse(`{{notification .Context "saved"}}`))
	wantError(t, alone.Execute(&page, r), pycket.ErrNoApp, "take", `"saved"`)
	site.visit(b, func(_ http.ResponseWriter, r *http.Request, _ *pycket.SessionManager, _ *pycket.NotificationManager) {
		wantError(t, alone.Execute(&page, r), pycket.ErrUnavailable, "take", `"saved"`)
	})
}

// What was taken out and may be lost with the master is shown: nobody else will.
func TestTemplateShowsUnconfirmed(t *testing.T) {
	server := redistest.Start(t)
	before := newSite(t, settings(server))
	b := before.browser()
	b.must("add:info:text", "note:saved:yes")
	s := settings(server)
	s.Redis.Timeout, s.Redis.WaitReplicas = shortTimeout, 1 // there is none
	site := newSite(t, s)
	site.visit(site.receive(b), func(_ http.ResponseWriter, r *http.Request, _ *pycket.SessionManager, _ *pycket.NotificationManager) {
		var page bytes.Buffer
		noError(t, layout.Execute(&page, r))
		equal(t, "page", `<p class="info">text</p><b>yes</b>`, page.String())
	})
}
