package pycket_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pycket/pycket"
)

// A session that this very request has made or given a new id, and that somebody else then ends: the
// request learns of it, and its response sets no cookie.
func TestEndedAfterNewCookie(t *testing.T) {
	everyServer(t, func(t *testing.T, server *redisServer) {
		stage := newStage(t, settings(server))
		for name, begin := range map[string]func(s *pycket.SessionManager) error{
			"Login":        func(s *pycket.SessionManager) error { return s.Login("ann", nil) },
			"Set":          func(s *pycket.SessionManager) error { return s.SetUser("ann") },
			"Rotate":       func(s *pycket.SessionManager) error { return errors.Join(s.SetUser("ann"), s.Rotate()) },
			"Remember":     func(s *pycket.SessionManager) error { return errors.Join(s.SetUser("ann"), s.Remember(time.Hour)) },
			"an old login": func(s *pycket.SessionManager) error { return errors.Join(s.Login("ann", nil), s.Login("ann", nil)) },
		} {
			t.Run(name, func(t *testing.T) {
				a := stage.visit(stage.browser(), func(w http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
					if err := begin(s); err != nil {
						t.Error(err)
					}
					if n, err := stage.app.RevokeUser(t.Context(), "ann"); n != 1 || err != nil {
						t.Errorf("%d sessions were ended: %v", n, err)
					}
					wantError(t, s.Set("a", 1), pycket.ErrGone, "set")
					w.WriteHeader(http.StatusTeapot)
				})
				if a.status != http.StatusTeapot || a.setsCookie() {
					t.Errorf("%d, cookie set: %v", a.status, a.setsCookie())
				}
			})
		}
	})
}

// An Update in whose middle the session is destroyed by the same request begins anew.
func TestDestroyInsideUpdate(t *testing.T) {
	everyServer(t, func(t *testing.T, server *redisServer) {
		stage := newStage(t, settings(server))
		b := stage.browser()
		stage.visit(b, func(_ http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
			s.Set("n", 41)
		})
		stage.visit(b, func(_ http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
			var once sync.Once
			n, err := pycket.Update(s, "n", 0, func(n int) (int, error) {
				once.Do(func() {
					if err := s.Destroy(); err != nil {
						t.Error(err)
					}
				})
				return n + 1, nil
			})
			if n != 1 || err != nil {
				t.Errorf("%d, %v", n, err)
			}
		})
		stage.visit(b, func(_ http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
			if n, err := pycket.Get(s, "n", 0); n != 1 || err != nil {
				t.Errorf("%d, %v", n, err)
			}
		})
	})
}

// selfish is a value that uses the session when it is encoded and decoded.
type selfish struct{ session *pycket.SessionManager }

var selfishSession *pycket.SessionManager

func (v selfish) MarshalJSON() ([]byte, error) {
	n, err := v.session.Increment("encoded", 1)
	if err != nil {
		return nil, err
	}
	return json.Marshal(n)
}

func (v *selfish) UnmarshalJSON([]byte) error {
	_, err := selfishSession.Increment("decoded", 1)
	return err
}

// Codecs run code of the application, and no lock is held meanwhile.
func TestCodecUsesSession(t *testing.T) {
	everyServer(t, func(t *testing.T, server *redisServer) {
		stage := newStage(t, settings(server))
		stage.visit(stage.browser(), func(_ http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, n *pycket.NotificationManager) {
			selfishSession = s
			v := selfish{s}
			_, updateErr := pycket.Update(s, "u", 0, func(n int) (int, error) { _, err := s.Increment("updated", 1); return n + 1, err })
			err := errors.Join(s.Set("v", v), s.SetMany(pycket.Values{"v": v}), n.Set("v", v), s.Login("ann", pycket.Values{"v": v}), updateErr)
			_, lookupErr := s.Lookup("v", &v)
			_, peekErr := n.Peek("v", &v)
			_, takeErr := n.Lookup("v", &v)
			if err = errors.Join(err, lookupErr, peekErr, takeErr); err != nil {
				t.Error(err)
			}
			encoded, _ := pycket.Get(s, "encoded", 0)
			decoded, _ := pycket.Get(s, "decoded", 0)
			if encoded != 4 || decoded != 3 {
				t.Errorf("encoded %d times, decoded %d", encoded, decoded)
			}
		})
	})
}

func TestNobodysSessionStaysNone(t *testing.T) {
	everyServer(t, func(t *testing.T, server *redisServer) {
		stage := newStage(t, settings(server))
		a := stage.visit(stage.browser(), func(_ http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
			if err := s.SetUser(""); err != nil {
				t.Error(err)
			}
		})
		if a.setsCookie() || server.size() != 0 {
			t.Error("a session was made for nobody")
		}

		// Nor is one when the cookie's has expired, whatever came first.
		for _, before := range []string{"nothing", "a read", "the headers"} {
			b := signIn(t, stage, "ann")
			server.do(0, "FLUSHALL")
			a := stage.visit(b, func(w http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
				switch before {
				case "a read":
					s.Has("a")
				case "the headers":
					w.WriteHeader(http.StatusOK)
				}
				if err := s.SetUser(""); err != nil {
					t.Error(err)
				}
			})
			if a.setsCookie() || server.size() != 0 {
				t.Errorf("after expiry and %s, a session was made for nobody: Set-Cookie %q, %d keys", before, a.header["Set-Cookie"], server.size())
			}
		}
	})
}

// Remember is for whoever has asked for it: not for a fresh session after an expired one, and not for the
// next who logs in with this browser.
func TestRememberIsNotInherited(t *testing.T) {
	everyServer(t, func(t *testing.T, server *redisServer) {
		stage := newStage(t, settings(server))
		remembered := func() *browser {
			b := stage.browser()
			stage.visit(b, func(_ http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
				if err := errors.Join(s.Login("ann", nil), s.Remember(30*24*time.Hour)); err != nil {
					t.Error(err)
				}
			})
			return b
		}
		for name, next := range map[string]func(s *pycket.SessionManager) error{
			"after expiry": func(s *pycket.SessionManager) error { server.do(0, "FLUSHALL"); return s.Set("a", 1) },
			"next login":   func(s *pycket.SessionManager) error { return s.Login("bob", nil) },
		} {
			t.Run(name, func(t *testing.T) {
				server.do(0, "FLUSHALL")
				a := stage.visit(remembered(), func(_ http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
					if err := next(s); err != nil {
						t.Error(err)
					}
				})
				if line := a.header.Get("Set-Cookie"); line == "" || len(a.header["Set-Cookie"]) != 1 || strings.Contains(line, "Max-Age") {
					t.Errorf("%q", a.header["Set-Cookie"])
				}
				for _, key := range server.keys(0) {
					if left := server.do(0, "PTTL", key).(int64); left > (24*time.Hour).Milliseconds() && !server.mayLag(key) {
						t.Errorf("%s stands for %d ms", key, left)
					}
				}
			})
		}
	})
}

// Remember stays when the same account signs in again, as before something that matters, and holds for whoever signs in if
// it was asked for in the same request.
func TestRememberOutlivesLogin(t *testing.T) {
	everyServer(t, func(t *testing.T, server *redisServer) {
		site := newSite(t, settings(server))
		const month = 30 * 24 * time.Hour
		for _, test := range []struct {
			before, ops []string
			want        bool
		}{
			{[]string{"login:ann", "remember"}, []string{"login:ann"}, true},
			{[]string{"login:ann", "remember"}, []string{"login:ann", "login:ann"}, true},
			{[]string{"login:ann", "remember"}, []string{"get:a", "remembered", "signin:ann:a:b"}, true},
			{[]string{"login:ann", "remember"}, []string{"rotate", "login:ann", "rotate"}, true},
			{[]string{"setuser:ann", "remember"}, []string{"login:ann"}, true},
			{[]string{"login:ann", "remember"}, []string{"login:bob"}, false},
			{[]string{"login:ann", "remember"}, []string{"login:bob", "login:ann"}, false},
			{[]string{"login:ann", "remember"}, []string{"destroy", "login:ann"}, false},
			{[]string{"set:a:b", "remember"}, []string{"login:ann"}, false},
			{[]string{"set:a:b"}, []string{"remember", "login:ann"}, true},
			{[]string{"set:a:b"}, []string{"remember", "login:ann", "login:bob"}, false},
			{nil, []string{"login:ann", "remember", "login:bob"}, false},
			{nil, []string{"login:ann", "remember", "login:ann"}, true},
			{[]string{"login:ann"}, []string{"login:ann"}, false},
		} {
			t.Run(fmt.Sprint(test.before, test.ops), func(t *testing.T) {
				server.do(0, "FLUSHALL")
				b := site.browser()
				if test.before != nil {
					b.must(test.before...)
				}
				a, list := b.do(append(test.ops, "remembered")...)
				for i, o := range list[:len(test.ops)] {
					if o.Err != "" {
						t.Errorf("%s: %s", test.ops[i], o.Err)
					}
				}
				if got := list[len(test.ops)].Value; got != test.want {
					t.Errorf("in the same request, remembered: %v", got)
				}
				lines := a.header["Set-Cookie"]
				if len(lines) != 1 || strings.Contains(lines[0], "Max-Age=2592000") != test.want || strings.Contains(lines[0], "Max-Age") != test.want {
					t.Errorf("Set-Cookie: %q", lines)
				}
				b.want([]outcome{{Value: test.want}}, "remembered")
				left := time.Duration(server.do(0, "PTTL", keyOf(idOf(t, b.cookie()))).(int64)) * time.Millisecond
				if (left > month-time.Minute) != test.want || !test.want && left > 24*time.Hour {
					t.Errorf("it stands for %v", left)
				}
			})
		}
	})
}

// A Remember that could not take effect says so, and what to do.
func TestRememberWithoutSession(t *testing.T) {
	everyServer(t, func(t *testing.T, server *redisServer) {
		stage := newStage(t, settings(server))
		check := func(b *browser, want error) {
			t.Helper()
			size := server.size()
			a := stage.visit(b, func(_ http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
				for range 2 {
					err := s.Remember(time.Hour)
					if want == nil {
						wantError(t, err, nil, "remember", "Login")
					} else {
						wantError(t, err, want, "remember")
					}
				}
				if remembered, err := s.Remembered(); remembered || err != nil {
					t.Errorf("remembered: %v, %v", remembered, err)
				}
			})
			if a.setsCookie() || server.size() != size {
				t.Errorf("Set-Cookie: %q, keys: %d, were %d", a.header["Set-Cookie"], server.size(), size)
			}
		}
		check(stage.browser(), nil)
		b := signIn(t, stage, "ann")
		late := b.tab()
		stage.visit(b, func(_ http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
			if err := s.Destroy(); err != nil {
				t.Error(err)
			}
		})
		check(b, nil)
		check(late, pycket.ErrGone)
		server.do(0, "FLUSHALL")
		check(late, nil) // it expired
		stage.visit(stage.browser(), func(_ http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
			wantError(t, s.Remember(time.Hour), nil, "remember", "Login")
			if err := errors.Join(s.Login("ann", nil), s.Remember(time.Hour)); err != nil {
				t.Error(err)
			}
			names, err := s.Keys()
			remembered, rememberedErr := s.Remembered()
			if len(names) != 0 || !remembered || err != nil || rememberedErr != nil {
				t.Errorf("%q, remembered: %v; %v, %v", names, remembered, err, rememberedErr)
			}
		})
	})
}

// Remember gives the browser its own cookie again, with another lifetime; not if another request has
// ended the id meanwhile.
func TestRememberInFlight(t *testing.T) {
	everyServer(t, func(t *testing.T, server *redisServer) {
		site := newSite(t, settings(server))
		for _, ending := range []string{"rotate", "destroy", "login:ann"} {
			b := site.browser()
			b.must("set:a:b")
			slow := b.tab()
			if a, _ := site.whileHeld(slow, []string{"remember", "hold"}, func() { b.must(ending) }); a.setsCookie() {
				t.Errorf("%s: the late response sets a cookie", ending)
			}
		}
	})
}

// A key of another type in the place of an account's list is no reason to lose a login.
func TestLoginWithSpoiltList(t *testing.T) {
	everyServer(t, func(t *testing.T, server *redisServer) {
		s := settings(server)
		s.MaxSessionsPerUser = 1
		stage := newStage(t, s)
		signIn(t, stage, "ann")
		for _, key := range server.keys(0) {
			if strings.HasPrefix(key, "pycket:u:") {
				server.do(0, "SET", key, "of another type")
			}
		}
		b := signIn(t, stage, "ann")
		if user, _ := who(t, stage, b); user != "ann" {
			t.Errorf("%q is logged in", user)
		}
		_, err := stage.app.Sessions(t.Context(), "ann")
		wantError(t, err, pycket.ErrCorrupt, "sessions")
	})
}

// losses are what can happen to a command of whose outcome a request is not told.
var losses = map[string]func(b *breaker, on bool){
	"the answer is lost":  func(b *breaker, on bool) { b.lossy.Store(on) },
	"the command is lost": func(b *breaker, on bool) { b.deaf.Store(on) },
}

// knowScripts shows Redis the scripts that end an id, so that they are run at once from then on.
func knowScripts(t *testing.T, stage *stage) {
	t.Helper()
	stage.visit(signIn(t, stage, "warm"), func(_ http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
		if err := errors.Join(s.Rotate(), s.Destroy()); err != nil {
			t.Error(err)
		}
	})
}

// A Destroy that is done twice, by the library or by a handler that was not told what came of the first, is as
// good as one: it is the request's own, and not somebody else's.
func TestDestroyAgain(t *testing.T) {
	bothServers(t, func(t *testing.T, server *redisServer) {
		breaker := newBreaker(t, server)
		s := settings(server)
		s.Redis.URL = "redis://" + breaker.addr
		s.Cookies.ClearSiteData = true
		stage := newStage(t, s)
		knowScripts(t, stage)
		destroys := map[string]func(t *testing.T, s *pycket.SessionManager) error{
			"repeated by the library": func(t *testing.T, s *pycket.SessionManager) error {
				breaker.armed.Store(true)
				err := s.Destroy()
				if breaker.armed.Load() {
					t.Error("nothing was broken")
				}
				return err
			},
		}
		for name, loss := range losses {
			lose := func(t *testing.T, s *pycket.SessionManager) {
				loss(breaker, true)
				wantError(t, s.Destroy(), pycket.ErrUnavailable, "destroy")
				loss(breaker, false)
			}
			destroys[name] = func(t *testing.T, s *pycket.SessionManager) error { lose(t, s); return s.Destroy() }
			destroys[name+", a read follows"] = func(t *testing.T, s *pycket.SessionManager) error {
				lose(t, s)
				if _, err := s.Has("b"); err != nil {
					t.Error(err)
				}
				return s.Destroy()
			}
		}
		for name, destroy := range destroys {
			for _, read := range []bool{false, true} {
				for _, set := range []bool{false, true} {
					t.Run(fmt.Sprint(name, ", read before: ", read, ", set after: ", set), func(t *testing.T) {
						server.do(0, "FLUSHALL")
						b := stage.browser()
						stage.visit(b, func(_ http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, n *pycket.NotificationManager) {
							if err := errors.Join(s.Set("a", "before"), n.Set("waiting", "note")); err != nil {
								t.Error(err)
							}
						})
						old := b.cookie()
						a := stage.visit(b, func(_ http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, n *pycket.NotificationManager) {
							if read {
								s.Has("a")
							}
							if err := destroy(t, s); err != nil {
								t.Errorf("Destroy: %v", err)
							}
							if !set {
								return
							}
							if err := n.Set("bye", "you have been logged out"); err != nil {
								t.Errorf("after it: %v", err)
							}
						})
						lines := a.header["Set-Cookie"]
						if len(lines) != 1 || b.cookie() == old || (b.cookie() == "") == set {
							t.Errorf("Set-Cookie: %q", lines)
						}
						if got := a.header.Get("Clear-Site-Data"); (got == "") != set {
							t.Errorf("Clear-Site-Data: %q", got)
						}
						stage.visit(b.with(old), func(_ http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, n *pycket.NotificationManager) {
							names, err := s.Keys()
							notes, notesErr := n.Keys()
							if len(names)+len(notes) > 0 || err != nil || notesErr != nil {
								t.Errorf("the old cookie opens %q and %q: %v, %v", names, notes, err, notesErr)
							}
						})
						if !set {
							wantNothingLeft(t, server)
							return
						}
						stage.visit(b, func(_ http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, n *pycket.NotificationManager) {
							names, err := s.Keys()
							notes, notesErr := n.Keys()
							if len(names) > 0 || len(notes) != 1 || err != nil || notesErr != nil {
								t.Errorf("the new session holds %q and %q: %v, %v", names, notes, err, notesErr)
							}
						})
					})
				}
			}
		}
	})
}

// A request that was not told what came of its Rotate or Login has not lost its session: whatever it does next
// finds it, under the id that there was or the one that was tried.
func TestRotateAgain(t *testing.T) {
	bothServers(t, func(t *testing.T, server *redisServer) {
		breaker := newBreaker(t, server)
		s := settings(server)
		s.Redis.URL = "redis://" + breaker.addr
		stage := newStage(t, s)
		knowScripts(t, stage)
		type use = func(s *pycket.SessionManager, n *pycket.NotificationManager) error
		rotate := func(s *pycket.SessionManager, _ *pycket.NotificationManager) error { return s.Rotate() }
		login := func(s *pycket.SessionManager, _ *pycket.NotificationManager) error {
			return s.Login("ann", pycket.Values{"name": "Ann"})
		}
		for first, begin := range map[string]use{"Rotate": rotate, "Login": login} {
			for name, loss := range losses {
				for second, again := range map[string]use{
					"Rotate":       rotate,
					"Login":        login,
					"Set":          func(s *pycket.SessionManager, _ *pycket.NotificationManager) error { return s.Set("b", 1) },
					"Get":          func(s *pycket.SessionManager, _ *pycket.NotificationManager) error { return wantBefore(s) },
					"SetUser":      func(s *pycket.SessionManager, _ *pycket.NotificationManager) error { return s.SetUser("ann") },
					"Delete":       func(s *pycket.SessionManager, _ *pycket.NotificationManager) error { return s.Delete("b") },
					"notification": func(_ *pycket.SessionManager, n *pycket.NotificationManager) error { return n.Add("i", "t") },
				} {
					t.Run(fmt.Sprint(first, ", ", name, ", ", second), func(t *testing.T) {
						server.do(0, "FLUSHALL")
						b := stage.browser()
						stage.visit(b, func(_ http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, n *pycket.NotificationManager) {
							if err := errors.Join(s.Set("a", "before"), n.Set("waiting", "note")); err != nil {
								t.Error(err)
							}
						})
						old := b.cookie()
						a := stage.visit(b, func(_ http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, n *pycket.NotificationManager) {
							loss(breaker, true)
							wantError(t, begin(s, n), pycket.ErrUnavailable)
							loss(breaker, false)
							if err := again(s, n); err != nil {
								t.Errorf("again: %v", err)
							}
							if err := wantBefore(s); err != nil {
								t.Errorf("then: %v", err)
							}
						})
						rotates := name == "the answer is lost" || second == "Rotate" || second == "Login"
						if n := len(a.header["Set-Cookie"]); rotates && (n != 1 || b.cookie() == old) || !rotates && n != 0 {
							t.Errorf("Set-Cookie: %q", a.header["Set-Cookie"])
						}
						stage.visit(b, func(_ http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, n *pycket.NotificationManager) {
							note, err := pycket.Get(n, "waiting", "")
							if err := errors.Join(err, wantBefore(s)); err != nil || note != "note" {
								t.Errorf("the next request: %q, %v", note, err)
							}
							user, err := s.User()
							signedIn := first == "Login" && name == "the answer is lost" || second == "Login" || second == "SetUser"
							if err != nil || (user == "ann") != signedIn {
								t.Errorf("signed in: %q, %v", user, err)
							}
						})
						if rotates {
							stage.visit(b.with(old), func(_ http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, n *pycket.NotificationManager) {
								if found, err := s.Has("a"); found || err != nil {
									t.Errorf("the old cookie opens the session: %v, %v", found, err)
								}
							})
						}
					})
				}
			}
		}
		t.Run("another request has rotated", func(t *testing.T) {
			b := stage.browser()
			stage.visit(b, func(_ http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
				s.Set("a", "before")
			})
			a := stage.visit(b, func(_ http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
				breaker.deaf.Store(true)
				wantError(t, s.Rotate(), pycket.ErrUnavailable)
				breaker.deaf.Store(false)
				handleCookie(stage.site, b.cookie(), func(s *pycket.SessionManager) {
					if err := s.Rotate(); err != nil {
						t.Error(err)
					}
				})
				wantError(t, s.Rotate(), pycket.ErrGone)
				wantError(t, s.Set("a", "late"), pycket.ErrGone)
			})
			if a.setsCookie() {
				t.Errorf("Set-Cookie: %q", a.header["Set-Cookie"])
			}
		})
		t.Run("the headers are sent", func(t *testing.T) { // and with them the old id: there is no way back
			b := stage.browser()
			stage.visit(b, func(_ http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
				s.Set("a", "before")
			})
			stage.visit(b, func(w http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
				breaker.lossy.Store(true)
				wantError(t, s.Rotate(), pycket.ErrUnavailable)
				breaker.lossy.Store(false)
				w.WriteHeader(http.StatusOK)
				wantError(t, s.Set("a", "late"), pycket.ErrGone)
			})
		})
	})
}

// wantBefore finds what was stored.
func wantBefore(s *pycket.SessionManager) error {
	text, err := pycket.Get(s, "a", "")
	if err == nil && text != "before" {
		err = fmt.Errorf("a is %q", text)
	}
	return err
}
