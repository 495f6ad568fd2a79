package pycket_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pycket/pycket"
	"github.com/pycket/pycket/internal/redistest"
)

// A session that this very request has made or given a new id, and that somebody else then ends: the
// request learns of it, and its response sets no cookie.
func TestEndedAfterNewCookie(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		site := newSite(t, settings(server))
		for name, begin := range map[string]func(s *pycket.SessionManager) error{
			"Login":        func(s *pycket.SessionManager) error { return s.Login("ann", nil) },
			"Set":          func(s *pycket.SessionManager) error { return s.SetUser("ann") },
			"Rotate":       func(s *pycket.SessionManager) error { return errors.Join(s.SetUser("ann"), s.Rotate()) },
			"Remember":     func(s *pycket.SessionManager) error { return errors.Join(s.SetUser("ann"), s.Remember(time.Hour)) },
			"an old login": func(s *pycket.SessionManager) error { return errors.Join(s.Login("ann", nil), s.Login("ann", nil)) },
		} {
			t.Run(name, func(t *testing.T) {
				a := site.visit(site.browser(), func(w http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
					noError(t, begin(s))
					wantRevoked(t, site, 1, "ann")
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
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		site := newSite(t, settings(server))
		b := site.browser()
		site.use(b, func(s *pycket.SessionManager) { s.Set("n", 41) })
		site.use(b, func(s *pycket.SessionManager) {
			var once sync.Once
			n, err := pycket.Update(s, "n", 0, func(n int) (int, error) {
				once.Do(func() { noError(t, s.Destroy()) })
				return n + 1, nil
			})
			if n != 1 || err != nil {
				t.Errorf("%d, %v", n, err)
			}
		})
		b.want([]outcome{{Value: 1.0}}, "number:n")
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
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		site := newSite(t, settings(server))
		site.visit(site.browser(), func(_ http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, n *pycket.NotificationManager) {
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
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		site := newSite(t, settings(server))
		a := site.browser().want([]outcome{{}}, "setuser:")
		wantNothingStored(t, server, a)

		// Nor is one when the cookie's has expired, whatever came first.
		for _, before := range []string{"nothing", "a read", "the headers"} {
			b := signIn(t, site, "ann")
			server.Do(0, "FLUSHALL")
			a := site.visit(b, func(w http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
				switch before {
				case "a read":
					s.Has("a")
				case "the headers":
					w.WriteHeader(http.StatusOK)
				}
				noError(t, s.SetUser(""))
			})
			wantNothingStored(t, server, a)
		}
	})
}

// heldSite is a site whose Redis can be made to hang, with a browser that has a session.
func heldSite(t *testing.T, server *redistest.Server, timeout time.Duration) (*site, *redistest.Proxy, *browser) {
	t.Helper()
	proxy, s := proxied(t, server)
	s.Redis.Timeout = timeout
	site := newSite(t, s)
	b := site.browser()
	b.must("set:a:before", "set:b:before")
	return site, proxy, b
}

const waitTimeout = time.Second

// Goroutines of one request wait for each other; that takes none of them longer than Timeout.
func TestWaitForOwnRequest(t *testing.T) {
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		const goroutines = 6
		site, proxy, b := heldSite(t, server, waitTimeout)
		site.visit(b, func(_ http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, n *pycket.NotificationManager) {
			proxy.Hold()
			defer proxy.Pass()
			parallel(goroutines, func(i int) {
				began := time.Now()
				var err error
				switch i % 3 {
				case 0:
					err = s.Set("a", "late")
				case 1:
					_, err = pycket.Get(s, "a", "")
				case 2:
					err = n.Add("info", "late")
				}
				wantError(t, err, pycket.ErrUnavailable)
				wantWithin(t, began, 3*waitTimeout)
			})
		})
	})
}

// announced is a value that tells when it is encoded: its operation is about to wait for its request then.
type announced struct{ begun *sync.WaitGroup }

func (a announced) MarshalJSON() ([]byte, error) {
	a.begun.Done()
	return json.Marshal("late")
}

// However long another operation of the request takes, Timeout holds for those that wait for it.
func TestWaitWithinTimeout(t *testing.T) {
	site := newSite(t, pycket.Settings{Secrets: []string{secret}, Redis: pycket.RedisSettings{Timeout: 100 * time.Millisecond}})
	site.visit(site.browser(), func(_ http.ResponseWriter, r *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
		leave := pycket.Occupy(r)
		waited := make(chan error, 1)
		go func() { waited <- s.Set("a", "b") }()
		select {
		case err := <-waited:
			leave()
			wantError(t, err, pycket.ErrUnavailable, "other operations of the request are under way")
		case <-time.After(10 * time.Second):
			leave()
			<-waited
			t.Error("it waits on")
		}
	})
}

// The headers wait for operations that are under way, and not longer than Timeout. What then has no cookie has
// not been acknowledged.
func TestHeadersWaitWithinTimeout(t *testing.T) {
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		site, proxy, known := heldSite(t, server, waitTimeout)
		for name, b := range map[string]*browser{"a living session": known, "a first visit": site.browser()} {
			t.Run(name, func(t *testing.T) {
				known.must("set:a:b") // a connection is there again
				a := site.visit(b, func(w http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
					proxy.Hold()
					defer proxy.Pass()
					var begun, ended sync.WaitGroup
					begun.Add(6)
					for range 6 {
						ended.Go(func() {
							if err := s.Set("a", announced{&begun}); err == nil {
								t.Error("Redis hangs, and Set returns nil")
							}
						})
					}
					proxy.AwaitCommands(1)
					begun.Wait()
					asked := time.Now()
					w.WriteHeader(http.StatusNoContent)
					if took := time.Since(asked); took > 3*waitTimeout {
						t.Errorf("the headers have taken %v, and Timeout is %v", took, waitTimeout)
					}
					ended.Wait()
				})
				if a.setsCookie() {
					t.Errorf("Set-Cookie: %q", a.header["Set-Cookie"])
				}
			})
		}
	})
}

// A session that is being made when the headers are to be sent is waited for: its cookie is among them.
func TestHeadersWaitForCookie(t *testing.T) {
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		site, proxy, _ := heldSite(t, server, timeout)
		b := site.browser()
		site.visit(b, func(w http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
			proxy.Hold()
			set := make(chan error)
			go func() { set <- s.Set("a", "first") }()
			proxy.AwaitCommands(1)
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				w.WriteHeader(http.StatusNoContent)
			}()
			select {
			case <-sent:
				t.Error("the headers have not waited")
			case <-time.After(20 * time.Millisecond):
			}
			proxy.Pass()
			noError(t, <-set)
			<-sent
		})
		b.want([]outcome{{Value: "first"}}, "get:a")
	})
}

// A view's operations end with its context, though the request goes on: those that wait for Redis, and those that
// wait for the request's own.
func TestWithContext(t *testing.T) {
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		site, proxy, b := heldSite(t, server, 20*time.Second)
		for name, start := range map[string]func(context.Context) (context.Context, context.CancelFunc){
			"deadline": func(ctx context.Context) (context.Context, context.CancelFunc) {
				return context.WithTimeout(ctx, 20*time.Millisecond)
			},
			"cancel": func(ctx context.Context) (context.Context, context.CancelFunc) {
				ctx, cancel := context.WithCancel(ctx)
				time.AfterFunc(20*time.Millisecond, cancel)
				return ctx, cancel
			},
		} {
			t.Run(name, func(t *testing.T) {
				site.visit(b, func(_ http.ResponseWriter, r *http.Request, s *pycket.SessionManager, n *pycket.NotificationManager) {
					began := time.Now()
					proxy.Hold()
					ctx, cancel := start(r.Context())
					defer cancel()
					err := s.WithContext(ctx).Set("a", "late")
					wantError(t, err, ctx.Err(), `set "a"`, "may have been carried out")

					under := make(chan error)
					go func() { under <- s.Set("b", "patient") }()
					proxy.AwaitCommands(2)
					ctx, cancel = start(r.Context())
					defer cancel()
					service, notes := s.WithContext(ctx), n.WithContext(ctx)
					for name, operation := range map[string]func() error{
						"set": func() error { return service.Set("a", "late") },
						"get": func() error { _, err := pycket.Get(service, "a", ""); return err },
						"update": func() error {
							_, err := pycket.Update(service, "n", 1, func(n int) (int, error) { return n, nil })
							return err
						},
						"add":   func() error { return notes.Add("info", "late") },
						"take":  func() error { _, err := pycket.Get(notes, "a", ""); return err },
						"user":  func() error { _, err := service.User(); return err },
						"login": func() error { return service.Login("ann", nil) },
					} {
						err := operation()
						wantError(t, err, ctx.Err(), name)
						if errors.Is(err, pycket.ErrUnavailable) {
							t.Errorf("%s: %v", name, err)
						}
					}
					wantWithin(t, began, 10*time.Second)
					proxy.Pass()
					noError(t, <-under)
					wantGet(t, s, "b", "patient")
				})
			})
		}
	})
}

// Work that goes on when the handler has returned takes a context that does, too. It writes to the session that
// there is and makes none, since there is no way to send a cookie. Without such a context, it is told why it fails.
func TestWorkOutlivesHandler(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		site := newSite(t, settings(server))
		var ctx context.Context
		// outlive is a request that has ended: it leaves its managers, and views of them that go on.
		outlive := func(b *browser) (s, work *pycket.SessionManager, n, notes *pycket.NotificationManager) {
			site.visit(b, func(_ http.ResponseWriter, r *http.Request, session *pycket.SessionManager, notifications *pycket.NotificationManager) {
				s, n, ctx = session, notifications, r.Context()
				work, notes = s.WithContext(context.WithoutCancel(r.Context())), n.WithContext(context.WithoutCancel(r.Context()))
			})
			<-ctx.Done()
			return s, work, n, notes
		}
		b := site.browser()
		site.works(b, func(s *pycket.SessionManager, _ *pycket.NotificationManager) error { return s.Set("a", "before") })
		s, work, n, notes := outlive(b)
		wantGet(t, work, "a", "before")
		count, err := pycket.Update(work, "n", 1, func(n int) (int, error) { return n + 1, nil })
		if err = errors.Join(err, work.Set("a", "after"), notes.Add("info", "ready")); count != 2 || err != nil {
			t.Errorf("%d, %v", count, err)
		}
		wantError(t, work.Rotate(), pycket.ErrHeadersSent, "rotate")
		site.visit(b, func(_ http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, n *pycket.NotificationManager) {
			text, err := pycket.Get(s, "a", "")
			messages, drainErr := n.Drain()
			if text != "after" || len(messages) != 1 || err != nil || drainErr != nil {
				t.Errorf("%q, %v, %v, %v", text, messages, err, drainErr)
			}
		})
		derived, cancel := context.WithTimeout(ctx, time.Hour) // a service's
		defer cancel()
		for _, errs := range []map[string]error{every(s, n), every(s.WithContext(derived), n.WithContext(derived))} {
			for name, err := range errs {
				if name == "Destroy" {
					if err != nil {
						t.Errorf("Destroy: %v", err)
					}
					continue
				}
				wantError(t, err, context.Canceled, "the request has ended")
			}
		}

		server.Do(0, "FLUSHALL")
		_, work, _, notes = outlive(site.browser())
		for name, err := range every(work, notes) {
			switch name {
			case "session.Set", "session.SetMany", "notifications.Set", "notifications.SetMany", "Update", "Increment", "Add":
				wantError(t, err, pycket.ErrHeadersSent)
			case "RevokeOthers": // of a session without a user
				wantError(t, err, nil, "call Login first")
			default:
				noError(t, err)
			}
		}
		if server.Size() != 0 {
			t.Errorf("%d keys were made", server.Size())
		}
	})
}

// An operation that is under way when the handler returns is told so, too.
func TestHandlerLeavesOperation(t *testing.T) {
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		site, proxy, b := heldSite(t, server, timeout)
		set := make(chan error, 2)
		site.visit(b, func(w http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
			w.WriteHeader(http.StatusNoContent) // which would wait
			proxy.Hold()
			go func() { set <- s.Set("a", "late") }()
			proxy.AwaitCommands(1)
		})
		defer proxy.Pass()
		wantError(t, <-set, context.Canceled, `set "a"`, "the request has ended", "may have been carried out")
	})
}

// leave sends a request and hangs up as soon as the handler says so; the handler is told by its context.
func (s *site) leave(b *browser, act func(hangUp func(), r *http.Request, s *pycket.SessionManager, n *pycket.NotificationManager)) {
	s.t.Helper()
	ctx, hangUp := context.WithCancel(s.t.Context())
	defer hangUp()
	finished := make(chan struct{})
	s.act = func(_ http.ResponseWriter, r *http.Request, m *pycket.SessionManager, n *pycket.NotificationManager) {
		defer close(finished)
		act(hangUp, r, m, n)
	}
	r, err := http.NewRequestWithContext(ctx, "GET", s.URL, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	b.send(r)
	<-finished
}

// Whoever asks to be logged out is, though the browser has hung up meanwhile.
func TestDestroyAfterHangUp(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		site := newSite(t, settings(server))
		b := site.browser()
		site.works(b, func(s *pycket.SessionManager, _ *pycket.NotificationManager) error { return s.Set("a", "before") })
		site.leave(b, func(hangUp func(), r *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
			hangUp()
			<-r.Context().Done()
			err := s.Set("a", "late")
			wantError(t, err, context.Canceled, `set "a"`)
			if errors.Is(err, pycket.ErrUnavailable) || strings.Contains(err.Error(), "has ended") {
				t.Errorf("the browser has hung up, and the error is %v", err)
			}
			noError(t, s.Destroy())
		})
		wantNothingLeft(t, server)
	})
}

// A logout that is under way when the browser hangs up is told what came of it, and does not wait for ever.
func TestDestroyWhileHangingUp(t *testing.T) {
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		site, proxy, b := heldSite(t, server, timeout)
		site.leave(b, func(hangUp func(), r *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
			proxy.Hold()
			destroyed := make(chan error)
			go func() { destroyed <- s.Destroy() }()
			proxy.AwaitCommands(1)
			hangUp()
			<-r.Context().Done()
			var err error
			select {
			case err = <-destroyed:
				t.Error("it has not waited for its answer")
			case <-time.After(20 * time.Millisecond):
				proxy.Pass()
				err = <-destroyed
			}
			noError(t, err)
		})
		wantNothingLeft(t, server)

		site, proxy, b = heldSite(t, server, waitTimeout)
		site.leave(b, func(hangUp func(), r *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
			hangUp()
			<-r.Context().Done()
			proxy.Hold()
			defer proxy.Pass()
			began := time.Now()
			wantError(t, s.Destroy(), pycket.ErrUnavailable, "destroy")
			wantWithin(t, began, 3*waitTimeout)
		})
	})
}

// A deadline bounds a logout, too, while its cancellation does not.
func TestDestroyWithDeadline(t *testing.T) {
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		site, proxy, b := heldSite(t, server, 20*time.Second)
		site.visit(b, func(_ http.ResponseWriter, r *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
			ctx, cancel := context.WithTimeout(r.Context(), 20*time.Millisecond)
			defer cancel()
			proxy.Hold()
			began := time.Now()
			wantError(t, s.WithContext(ctx).Destroy(), context.DeadlineExceeded, "destroy")
			wantWithin(t, began, 10*time.Second)
			proxy.Pass()
			ctx, cancel = context.WithTimeout(r.Context(), time.Hour)
			cancel()
			noError(t, s.WithContext(ctx).Destroy())
		})
		wantNothingLeft(t, server)
	})
}
