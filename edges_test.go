package pycket_test

import (
	"fmt"
	"github.com/pycket/pycket/internal/redistest"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pycket/pycket"
)

// A write that renews a user's session in a cluster, where its place on the list is taken by a second command, is
// carried out once.
func TestUpdateThatRenews(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		b := newSite(t, settings(server)).browser()
		b.must("login:ann", "update:n")
		server.Do(0, "HSET", keyOf(idOf(t, b.cookie())), "pycket:seen", 1)
		if got := b.must("update:n")[0]; got != 2.0 {
			t.Errorf("after two updates, %v", got)
		}
	})
}

// A tenth of an idle timeout need not be a whole number of milliseconds.
func TestIdleTimeoutOfAnyLength(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		const odd = time.Hour + 7*time.Millisecond
		s := settings(server)
		s.IdleTimeout = odd
		site := newSite(t, s, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s := pycket.NewSessionManager(w, r)
			for name, err := range map[string]error{"login": s.Login("ann", nil), "remember": s.Remember(odd + time.Millisecond), "set": s.Set("a", 1)} {
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		}))
		site.browser().get("/")
		if infos, err := site.app.Sessions(t.Context(), "ann"); len(infos) != 1 || err != nil {
			t.Errorf("%v, %v", infos, err)
		}
	})
}

// The id that an uncertain Rotate has tried is not given to the session that begins after a Destroy.
func TestDestroyAfterUncertainRotate(t *testing.T) {
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		breaker := redistest.NewProxy(t, server)
		s := settings(server)
		s.Redis.URL = "redis://" + breaker.Addr
		site := newSite(t, s, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s := pycket.NewSessionManager(w, r)
			switch r.URL.Path {
			case "/set":
				s.Set("a", 1)
			case "/rotate":
				breaker.DropCommands(true)
				wantError(t, s.Rotate(), pycket.ErrUnavailable)
				breaker.DropCommands(false)
				for _, err := range []error{s.Destroy(), s.Set("a", 2), s.Rotate()} {
					if err != nil {
						t.Error(err)
					}
				}
			case "/get":
				if a, err := pycket.Get(s, "a", 0); a != 2 || err != nil {
					t.Errorf("%d, %v", a, err)
				}
			}
		}))
		b := site.browser()
		b.get("/set")
		b.get("/rotate")
		b.get("/get")
	})
}

// Of two cookies, the session of the first was given a new id by another request, and that of the second has expired:
// the browser has a newer cookie by now, which must not be replaced.
func TestTwoCookiesOneJustRotated(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		site := newSite(t, settings(server))
		first, second := site.browser(), site.browser()
		first.must("set:a:first")
		second.must("set:a:second")
		line := "PYCKET_ID=" + first.cookie() + "; PYCKET_ID=" + second.cookie()
		first.must("rotate")
		if text := raw(t, site, "op=get:a&op=set:b:c&op=get:b", line); !strings.Contains(text, `"second"`) || !strings.Contains(text, `"c"`) || strings.Contains(text, "Set-Cookie") {
			t.Errorf("while the second lives: %q", text)
		}
		server.Do(0, "DEL", keyOf(idOf(t, second.cookie())))
		if text := raw(t, site, "op=set:a:b", line); !strings.Contains(text, "ErrGone") || strings.Contains(text, "Set-Cookie") {
			t.Errorf("when it has expired: %q", text)
		}
	})
}

// Destroy ends the session of the second of two cookies, though that of the first was destroyed a moment before.
func TestTwoCookiesOneJustDestroyed(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		site := newSite(t, settings(server))
		first, second := site.browser(), site.browser()
		first.must("set:a:first")
		second.must("set:a:second")
		line := "PYCKET_ID=" + first.cookie() + "; PYCKET_ID=" + second.cookie()
		first.must("destroy")
		time.Sleep(10 * time.Millisecond) // Redis's clock has then moved on
		if text := raw(t, site, "op=destroy", line); !strings.Contains(text, "Max-Age=0") {
			t.Errorf("%q", text)
		}
		if got := second.must("get:a")[0]; got != "" {
			t.Error("the second session is alive")
		}
	})
}

// Remember holds for as long as it is not called off, though it be as long as the idle timeout.
func TestRememberForTheIdleTimeout(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		s := settings(server)
		s.IdleTimeout = 30 * 24 * time.Hour
		b := newSite(t, s).browser()
		b.must("login:ann", "remember")
		a, _ := b.do("login:ann")
		if line := fmt.Sprint(a.header["Set-Cookie"]); !strings.Contains(line, "Max-Age=2592000") {
			t.Errorf("Set-Cookie: %s", line)
		}
		b.want([]outcome{{Value: true}}, "remembered")
	})
}

// Names of notifications may be more than Lua can return at once.
func TestManyNotifications(t *testing.T) {
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		const many = 9000
		site := newSite(t, settings(server), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n := pycket.NewNotificationManager(w, r)
			values := pycket.Values{}
			for i := range many {
				values[fmt.Sprint(i)] = i
			}
			if err := n.SetMany(values); err != nil {
				t.Error(err)
			}
			names, err := n.Keys()
			if len(names) != many || err != nil {
				t.Errorf("%d names, %v", len(names), err)
			}
			if err := n.Delete(names...); err != nil {
				t.Error(err)
			}
		}))
		site.browser().get("/")
	})
}

// A look at notifications renews a session only once a tenth of its idle timeout has passed, also when the absolute
// timeout leaves it less than that.
func TestNotificationsNearTheAbsoluteEnd(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		s := settings(server)
		s.AbsoluteTimeout = time.Hour
		b := newSite(t, s).browser()
		b.must("set:a:b")
		key := server.OnlyKey()
		server.Do(0, "PEXPIRE", key, (58 * time.Minute).Milliseconds())
		b.must("peek:a", "take:a", "drain")
		if left := server.Do(0, "PTTL", key).(int64); left > (58 * time.Minute).Milliseconds() {
			t.Errorf("renewed: %d ms are left", left)
		}
	})
}

// A user's list outlasts a session that lasts longer from now on, since the setting was raised.
func TestListWhenTheIdleTimeoutIsRaised(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		s := settings(server)
		s.IdleTimeout = time.Hour
		b := newSite(t, s).browser()
		b.must("login:ann")
		s.IdleTimeout = 30 * 24 * time.Hour
		raised := newSite(t, s)
		other := newBrowser(t, raised.URL).with(b.cookie())
		other.must("set:a:b")
		session := keyOf(idOf(t, b.cookie()))
		if lasts, list := server.Do(0, "PTTL", session).(int64), server.Do(0, "PTTL", listKey("ann")).(int64); list < lasts {
			t.Errorf("the session lasts %d ms, the list %d", lasts, list)
		}
	})
}

// The cookie of the second of two sessions is not renewed when that of the first has just got a new id: it would replace
// the newer one.
func TestTwoCookiesOneDueForRenewal(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		site := newSite(t, settings(server))
		first, second := site.browser(), site.browser()
		first.must("set:a:first")
		second.must("set:a:second")
		due := signedFor(t, secret, "PYCKET_ID", idOf(t, second.cookie()), 25*time.Hour, 240*time.Hour)
		line := "PYCKET_ID=" + first.cookie() + "; PYCKET_ID=" + due
		first.must("rotate")
		if text := raw(t, site, "op=get:a", line); !strings.Contains(text, `"second"`) || strings.Contains(text, "Set-Cookie") {
			t.Errorf("%q", text)
		}
	})
}
