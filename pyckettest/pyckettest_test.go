package pyckettest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/pycket/pycket"
	"github.com/pycket/pycket/pyckettest"
)

// handler makes a handler of what a test does with a session.
func handler(act func(s *pycket.SessionManager, n *pycket.NotificationManager)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		act(pycket.NewSessionManager(w, r), pycket.NewNotificationManager(w, r))
	})
}

var (
	nothing = handler(func(*pycket.SessionManager, *pycket.NotificationManager) {})
	use     = handler(func(s *pycket.SessionManager, _ *pycket.NotificationManager) { s.Has("") })
)

func write(t *testing.T) http.Handler {
	return handler(func(s *pycket.SessionManager, _ *pycket.NotificationManager) { check(t, s.Set("written", true)) })
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}

// settings are those of programs that differ in what sessions and cookies look like.
func settings(t *testing.T) map[string]pycket.Settings {
	sealed, err := pycket.Sealed(pycket.Gob{}, strings.Repeat("s", 32))
	check(t, err)
	return map[string]pycket.Settings{
		"defaults": {},
		"all set": {
			Secrets:         []string{strings.Repeat("n", 32), strings.Repeat("o", 32)},
			Codec:           sealed,
			AbsoluteTimeout: 400 * 24 * time.Hour,
			Redis:           pycket.RedisSettings{Prefix: "a[b*", DBSessions: new(5), DBNotifications: new(5)},
			Cookies:         pycket.CookieSettings{Name: "__Host-sid", Secure: pycket.SecureAlways, Encrypt: true},
		},
		"cached": {CacheFor: time.Second, Codec: pycket.Gob{}, Redis: pycket.RedisSettings{DBNotifications: new(9)}},
	}
}

// What a test puts into a session is what handlers find and what the test reads, and reading takes nothing out.
func TestSessionAndState(t *testing.T) {
	for name, s := range settings(t) {
		t.Run(name, func(t *testing.T) {
			app := pyckettest.New(t, s)
			authenticated := time.Now().Add(-time.Hour).Truncate(time.Microsecond)
			r := app.Request("GET", "https://example.com/", nil, pyckettest.Session{
				User:          "ann",
				AuthTime:      authenticated,
				Values:        pycket.Values{"n": 1, "list": []string{"a", "b"}},
				Notifications: pycket.Values{"saved": "yes"},
				Messages:      []pycket.Message{{Level: "info", Text: "one"}, {Level: "error", Text: "two"}},
			})
			for range 2 {
				w, got := app.Serve(nothing, r)
				want := pyckettest.State{
					Live:          true,
					User:          "ann",
					AuthTime:      authenticated,
					Keys:          []string{"list", "n"},
					Notifications: []string{"saved"},
					Messages:      []pycket.Message{{Level: "info", Text: "one"}, {Level: "error", Text: "two"}},
				}
				if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(want)); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				if n, saved := pyckettest.Value[int](got, "n"), pyckettest.Notification[string](got, "saved"); n != 1 || saved != "yes" {
					t.Errorf("n is %d, saved is %q", n, saved)
				}
				if len(w.Header()) > 0 {
					t.Errorf("a handler that does nothing has answered %v", w.Header())
				}
			}
			_, after := app.Serve(handler(func(s *pycket.SessionManager, n *pycket.NotificationManager) {
				list, err := pycket.Get(s, "list", []string(nil))
				check(t, err)
				check(t, s.Set("list", append(list, "c")))
				saved, err := pycket.Get(n, "saved", "")
				check(t, err)
				if at, err := s.AuthTime(); err != nil || !at.Equal(authenticated) {
					t.Errorf("the handler finds %v, %v", at, err)
				}
				messages, err := n.Drain()
				check(t, err)
				check(t, s.SetMany(pycket.Values{"saved": saved, "messages": messages}))
			}), r)
			if diff := cmp.Diff([]string{"a", "b", "c"}, pyckettest.Value[[]string](after, "list")); diff != "" {
				t.Error(diff)
			}
			if saved := pyckettest.Value[string](after, "saved"); saved != "yes" {
				t.Errorf("the handler found the notification %q", saved)
			}
			if n := len(pyckettest.Value[[]pycket.Message](after, "messages")); n != 2 {
				t.Errorf("the handler found %d messages", n)
			}
			if len(after.Notifications) > 0 || len(after.Messages) > 0 {
				t.Errorf("notifications that were read are still there: %+v", after)
			}
		})
	}
}

func TestNoSession(t *testing.T) {
	app := pyckettest.New(t, pycket.Settings{})
	for name, r := range map[string]*http.Request{
		"of httptest": httptest.NewRequest("GET", "/", nil),
		"empty":       app.Request("GET", "/", nil, pyckettest.Session{}),
	} {
		if len(r.Cookies()) > 0 {
			t.Errorf("%s: the request has a cookie", name)
		}
		if _, after := app.Serve(use, r); after.Live || after.Cookie != nil {
			t.Errorf("%s: %+v", name, after)
		}
	}
	_, after := app.Serve(handler(func(_ *pycket.SessionManager, n *pycket.NotificationManager) {
		check(t, n.Set("first", 1))
	}), httptest.NewRequest("GET", "/", nil))
	if !after.Live || after.Cookie == nil || len(after.Keys) > 0 || pyckettest.Notification[int](after, "first") != 1 {
		t.Errorf("a notification for a stranger: %+v", after)
	}
}

// The state is that of the cookie which the browser then has.
func TestStateFollowsTheCookie(t *testing.T) {
	app := pyckettest.New(t, pycket.Settings{})
	old := app.Request("GET", "/", nil, pyckettest.Session{User: "ann", Values: pycket.Values{"cart": 1}})
	_, after := app.Serve(handler(func(s *pycket.SessionManager, _ *pycket.NotificationManager) { check(t, s.Rotate()) }), old)
	if after.Cookie == nil || !after.Live || after.User != "ann" || pyckettest.Value[int](after, "cart") != 1 {
		t.Errorf("rotated: %+v", after)
	}
	if _, dead := app.Serve(nothing, old); dead.Live || dead.User != "" || dead.Keys != nil {
		t.Errorf("by its old id: %+v", dead)
	}
	_, after = app.Serve(handler(func(s *pycket.SessionManager, n *pycket.NotificationManager) {
		check(t, s.Destroy())
		check(t, n.Add("info", "Bye."))
	}), after.Request("GET", "/", nil))
	if want := []pycket.Message{{Level: "info", Text: "Bye."}}; !after.Live || after.User != "" || !cmp.Equal(after.Messages, want) {
		t.Errorf("the session after a logout: %+v", after)
	}
	forged := httptest.NewRequest("GET", "/", nil)
	forged.Header.Set("Cookie", "PYCKET_ID="+strings.Repeat("x", 144))
	for _, cookie := range after.Request("GET", "/", nil).Cookies() {
		forged.AddCookie(cookie)
	}
	if _, after := app.Serve(nothing, forged); !after.Live {
		t.Error("a forged cookie hides the session")
	}
}

// live reports whether the session of a request is alive, without using it.
func live(app *pyckettest.App, r *http.Request) bool {
	_, after := app.Serve(nothing, r)
	return after.Live
}

func TestAdvanceIdle(t *testing.T) {
	for name, s := range settings(t) {
		t.Run(name, func(t *testing.T) {
			s.IdleTimeout = time.Hour
			app := pyckettest.New(t, s)
			r := app.Request("GET", "/", nil, pyckettest.Session{
				Values: pycket.Values{"a": 1}, Notifications: pycket.Values{"b": 2}, Messages: []pycket.Message{{Text: "c"}},
			})
			for range 5 { // a session that is used lives on, and so do its notifications
				app.Advance(50 * time.Minute)
				_, after := app.Serve(use, r)
				if !after.Live || len(after.Keys) != 1 || len(after.Notifications) != 1 || len(after.Messages) != 1 {
					t.Fatalf("in use: %+v", after)
				}
			}
			app.Advance(50 * time.Minute)
			if !live(app, r) {
				t.Error("the session has ended early")
			}
			app.Advance(11 * time.Minute)
			if live(app, r) { // so looking has not renewed it
				t.Error("a session that was not used is still alive")
			}
		})
	}
}

func TestAdvanceAbsolute(t *testing.T) {
	app := pyckettest.New(t, pycket.Settings{IdleTimeout: time.Hour, AbsoluteTimeout: 3 * time.Hour})
	r := app.Request("GET", "/", nil, pyckettest.Session{User: "ann"})
	for range 5 {
		app.Advance(35 * time.Minute)
		if _, after := app.Serve(use, r); !after.Live {
			t.Fatal("the session has ended early")
		}
	}
	app.Advance(10 * time.Minute)
	if _, after := app.Serve(use, r); after.Live {
		t.Error("a session that was used outlives the absolute timeout")
	}
}

// Each of an application's times becomes older by as much.
func TestAdvanceTimes(t *testing.T) {
	app := pyckettest.New(t, pycket.Settings{IdleTimeout: 48 * time.Hour})
	r := app.Request("GET", "/", nil, pyckettest.Session{User: "ann"})
	app.Request("GET", "/", nil, pyckettest.Session{User: "ann"})
	times := func() (all []time.Time) {
		_, state := app.Serve(nothing, r)
		all = append(all, state.AuthTime)
		sessions, err := app.Sessions(t.Context(), "ann")
		check(t, err)
		for _, s := range sessions {
			all = append(all, s.Created, s.LastSeen, s.SignedIn)
		}
		return all
	}
	const by = 90*time.Minute + time.Millisecond
	want := times()
	for i, at := range want {
		if at.IsZero() {
			t.Errorf("time %d is zero", i)
		}
		want[i] = at.Add(-by)
	}
	app.Advance(by)
	if diff := cmp.Diff(want, times()); diff != "" || len(want) != 7 {
		t.Errorf("%d times (-want +got):\n%s", len(want), diff)
	}
	if n, err := app.RevokeUser(t.Context(), "ann"); n != 2 || err != nil {
		t.Errorf("RevokeUser: %d, %v", n, err)
	}
}

// A browser that doesn't know yet that its session has ended gets ErrGone, and one that comes later a new session.
func TestAdvanceAfterTheEnd(t *testing.T) {
	app := pyckettest.New(t, pycket.Settings{})
	r := app.Request("GET", "/", nil, pyckettest.Session{Values: pycket.Values{"a": 1}})
	app.Serve(handler(func(s *pycket.SessionManager, _ *pycket.NotificationManager) { check(t, s.Destroy()) }), r)
	app.Serve(handler(func(s *pycket.SessionManager, _ *pycket.NotificationManager) {
		if err := s.Set("b", 2); !errors.Is(err, pycket.ErrGone) {
			t.Errorf("at once: %v", err)
		}
	}), r)
	app.Advance(10 * time.Second)
	if _, after := app.Serve(write(t), r); !after.Live || after.Cookie == nil {
		t.Errorf("later: %+v", after)
	}
}

func remember(t *testing.T, idle time.Duration) http.Handler {
	return handler(func(s *pycket.SessionManager, _ *pycket.NotificationManager) {
		check(t, s.Login("ann", nil))
		check(t, s.Remember(idle))
	})
}

// The cookie of Remember ages too: it is renewed in time, and one that is too old is none, though its session lives.
func TestAdvanceRememberedCookie(t *testing.T) {
	for name, s := range settings(t) {
		t.Run(name, func(t *testing.T) {
			app := pyckettest.New(t, s)
			_, first := app.Serve(remember(t, 30*24*time.Hour), httptest.NewRequest("GET", "https://example.com/", nil))
			if first.Cookie == nil || first.Cookie.MaxAge != 30*24*60*60 {
				t.Fatalf("the cookie is %v", first.Cookie)
			}
			request := func() *http.Request { return first.Request("GET", "https://example.com/", nil) }
			app.Advance(2 * 24 * time.Hour)
			if _, after := app.Serve(use, request()); after.Cookie != nil {
				t.Error("the cookie was renewed early")
			}
			app.Advance(18 * 24 * time.Hour)
			_, second := app.Serve(use, request())
			if second.Cookie == nil || second.Cookie.MaxAge != 30*24*60*60 {
				t.Fatalf("the cookie was not renewed: %v", second.Cookie)
			}
			app.Advance(11 * 24 * time.Hour)
			if live(app, request()) {
				t.Error("a cookie that has expired is good")
			}
			if _, after := app.Serve(use, second.Request("GET", "https://example.com/", nil)); after.User != "ann" {
				t.Errorf("by the newer cookie: %+v", after)
			}
		})
	}
}

// A real browser's cookies age as well.
func TestAdvanceOverHTTP(t *testing.T) {
	app := pyckettest.New(t, pycket.Settings{})
	server := httptest.NewServer(newHandler(app.App))
	defer server.Close()
	jar, err := cookiejar.New(nil)
	check(t, err)
	browser := &http.Client{Jar: jar}
	page := func(response *http.Response, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		check(t, err)
		return string(body)
	}
	login := url.Values{"user": {"ann"}, "remember": {"yes"}}
	for when, got := range map[string]string{
		"at once":           page(browser.PostForm(server.URL+"/login", login)),
		"after two days":    func() string { app.Advance(48 * time.Hour); return page(browser.Get(server.URL + "/cart")) }(),
		"after three weeks": func() string { app.Advance(21 * 24 * time.Hour); return page(browser.Get(server.URL + "/cart")) }(),
	} {
		if got != `user: "ann"` {
			t.Errorf("%s: %q", when, got)
		}
	}
	app.Advance(31 * 24 * time.Hour)
	if got := page(browser.Get(server.URL + "/cart")); got != `user: ""` {
		t.Errorf("after another month: %q", got)
	}
}

// Time is the Redis's: it passes for all Apps that share it.
func TestAdvanceSeveralApps(t *testing.T) {
	redis := pyckettest.NewRedis(t)
	var apps []*pyckettest.App
	var requests []*http.Request
	for _, s := range settings(t) {
		s.IdleTimeout = time.Hour
		apps = append(apps, redis.New(t, s))
		requests = append(requests, apps[len(apps)-1].Request("GET", "https://example.com/", nil, pyckettest.Session{User: "ann"}))
	}
	apps = append(apps, redis.New(t, pycket.Settings{IdleTimeout: time.Hour, Redis: pycket.RedisSettings{Prefix: "a"}}))
	requests = append(requests, apps[len(apps)-1].Request("GET", "/", nil, pyckettest.Session{User: "ann"}))
	for _, want := range []bool{true, false} {
		redis.Advance(40 * time.Minute)
		for i, app := range apps {
			if got := live(app, requests[i]); got != want {
				t.Errorf("App %d: live %v, want %v", i, got, want)
			}
		}
	}
}

// Operations fail at once: this test would otherwise not end. Nothing is lost.
func TestSetDown(t *testing.T) {
	redis := pyckettest.NewRedis(t)
	s := pycket.Settings{Redis: pycket.RedisSettings{Timeout: time.Hour}, Logger: slog.New(slog.DiscardHandler)}
	one, other := redis.New(t, s), redis.New(t, s)
	r := one.Request("GET", "/", nil, pyckettest.Session{User: "ann", Notifications: pycket.Values{"n": 1}})
	fails := handler(func(s *pycket.SessionManager, n *pycket.NotificationManager) {
		_, reading := s.User()
		_, taking := pycket.Get(n, "n", 0)
		for what, err := range map[string]error{
			"reading": reading, "taking": taking, "writing": s.Set("a", 1), "Login": s.Login("bob", nil), "Destroy": s.Destroy(),
			"a large write": s.Set("a", strings.Repeat("x", 1<<16)),
		} {
			if !errors.Is(err, pycket.ErrUnavailable) || errors.Is(err, pycket.ErrMisconfigured) {
				t.Errorf("%s: %v", what, err)
			}
		}
	})
	for range 3 {
		redis.SetDown(true)
		for _, app := range []*pyckettest.App{one, other} {
			_, after := app.Serve(fails, r)
			if !after.Live || after.User != "ann" || after.Cookie != nil || pyckettest.Notification[int](after, "n") != 1 {
				t.Errorf("a session while Redis is down: %+v", after)
			}
			if err := app.Ping(t.Context()); !errors.Is(err, pycket.ErrUnavailable) {
				t.Errorf("Ping: %v", err)
			}
			app.Serve(use, httptest.NewRequest("GET", "/", nil)) // a stranger needs no Redis
		}
		redis.Advance(time.Minute)
		redis.SetDown(false)
		for _, app := range []*pyckettest.App{one, other} {
			if _, after := app.Serve(write(t), r); !after.Live {
				t.Errorf("afterwards: %+v", after)
			}
		}
	}
	if _, after := one.Serve(nothing, r); time.Since(after.AuthTime) < 3*time.Minute {
		t.Error("time has not passed while Redis was down")
	}
}

// While requests are under way, time passes and loses none of their writes.
func TestAdvanceUnderWay(t *testing.T) {
	app := pyckettest.New(t, pycket.Settings{})
	r := app.Request("GET", "/", nil, pyckettest.Session{User: "ann"})
	const writers, writes = 4, 10
	wrote := make(chan bool)
	for range writers {
		go func() {
			for range writes {
				app.Serve(handler(func(s *pycket.SessionManager, n *pycket.NotificationManager) {
					_, err := s.Increment("n", 1)
					check(t, err)
					check(t, n.Add("info", "m"))
				}), r.Clone(context.Background()))
				wrote <- true
			}
		}()
	}
	for range writers * writes {
		<-wrote
		app.Advance(time.Second)
	}
	_, after := app.Serve(nothing, r)
	if n := pyckettest.Value[int](after, "n"); n != writers*writes || len(after.Messages) != n {
		t.Errorf("n is %d, and there are %d messages, want %d", n, len(after.Messages), writers*writes)
	}
}

// A failing is a testing.TB that remembers why it has ended.
type failing struct {
	testing.TB
	why string
}

func (f *failing) Helper()                           {}
func (f *failing) Fatal(args ...any)                 { f.why = fmt.Sprint(args...); panic(f) }
func (f *failing) Fatalf(format string, args ...any) { f.Fatal(fmt.Sprintf(format, args...)) }

func TestFailuresEndTheTest(t *testing.T) {
	started := func(f *failing) *pyckettest.App { return pyckettest.New(f, pycket.Settings{}) }
	state := func(f *failing) pyckettest.State {
		app := started(f)
		_, after := app.Serve(nothing, app.Request("GET", "/", nil, pyckettest.Session{Values: pycket.Values{"a": 1}}))
		return after
	}
	for want, act := range map[string]func(f *failing){
		"IdleTimeout": func(f *failing) { pyckettest.New(f, pycket.Settings{IdleTimeout: -1}) },
		"names a server": func(f *failing) {
			pyckettest.New(f, pycket.Settings{Redis: pycket.RedisSettings{URL: "redis://localhost"}})
		},
		"Dial": func(f *failing) {
			pyckettest.New(f, pycket.Settings{Redis: pycket.RedisSettings{Dial: new(net.Dialer).DialContext}})
		},
		`nothing is named "b"; there is ["a"]`: func(f *failing) { pyckettest.Value[int](state(f), "b") },
		"cannot be read as string":             func(f *failing) { pyckettest.Value[string](state(f), "a") },
		`nothing is named "a"; there is []`:    func(f *failing) { pyckettest.Notification[int](state(f), "a") },
		"no User": func(f *failing) {
			started(f).Request("GET", "/", nil, pyckettest.Session{AuthTime: time.Now()})
		},
		"a value of type chan int": func(f *failing) {
			started(f).Request("GET", "/", nil, pyckettest.Session{Values: pycket.Values{"a": make(chan int)}})
		},
		"unavailable": func(f *failing) {
			app := started(f)
			app.SetDown(true)
			app.Request("GET", "/", nil, pyckettest.Session{User: "ann"})
		},
		"time doesn't go back": func(f *failing) { started(f).Advance(-time.Second) },
	} {
		f := &failing{TB: t}
		func() {
			defer func() {
				if ended := recover(); ended != nil && ended != any(f) {
					panic(ended)
				}
			}()
			act(f)
		}()
		if !strings.Contains(f.why, want) {
			t.Errorf("%q, want something about %q", f.why, want)
		}
	}
}

// What a test starts ends with it.
func TestEndsWithTheTest(t *testing.T) {
	var app *pyckettest.App
	var r *http.Request
	t.Run("a test", func(t *testing.T) {
		app = pyckettest.New(t, pycket.Settings{Logger: slog.New(slog.DiscardHandler)})
		r = app.Request("GET", "/", nil, pyckettest.Session{User: "ann"})
	})
	app.Wrap(handler(func(s *pycket.SessionManager, _ *pycket.NotificationManager) {
		if _, err := s.User(); !errors.Is(err, pycket.ErrUnavailable) || !strings.Contains(err.Error(), "closed") {
			t.Errorf("after the test: %v", err)
		}
	})).ServeHTTP(httptest.NewRecorder(), r)
}
