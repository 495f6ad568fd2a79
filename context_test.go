package pycket_test

// How long an operation waits, and for what: for the other goroutines of its request, and until its context ends.

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
)

// heldStage is a stage whose Redis can be made to hang, with a browser that has a session.
func heldStage(t *testing.T, server *redisServer, timeout time.Duration) (*stage, *breaker, *browser) {
	t.Helper()
	breaker := newBreaker(t, server)
	s := settings(server)
	s.Redis.URL, s.Redis.Timeout = "redis://"+breaker.addr, timeout
	stage := newStage(t, s)
	b := stage.browser()
	stage.visit(b, func(_ http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
		if err := errors.Join(s.Set("a", "before"), s.Set("b", "before")); err != nil {
			t.Error(err)
		}
	})
	return stage, breaker, b
}

const waitTimeout = time.Second

// Goroutines of one request wait for each other; that takes none of them longer than Timeout.
func TestWaitForOwnRequest(t *testing.T) {
	bothServers(t, func(t *testing.T, server *redisServer) {
		const goroutines = 6
		stage, breaker, b := heldStage(t, server, waitTimeout)
		stage.visit(b, func(_ http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, n *pycket.NotificationManager) {
			breaker.hold()
			defer breaker.pass()
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
				if took := time.Since(began); took > 3*waitTimeout {
					t.Errorf("operation %d has taken %v, and Timeout is %v", i, took, waitTimeout)
				}
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

// The headers wait for operations that are under way, and not longer than Timeout. What then has no cookie has
// not been acknowledged.
func TestHeadersWaitWithinTimeout(t *testing.T) {
	bothServers(t, func(t *testing.T, server *redisServer) {
		stage, breaker, known := heldStage(t, server, waitTimeout)
		for name, b := range map[string]*browser{"a living session": known, "a first visit": stage.browser()} {
			t.Run(name, func(t *testing.T) {
				a := stage.visit(b, func(w http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
					breaker.hold()
					defer breaker.pass()
					var begun, ended sync.WaitGroup
					begun.Add(6)
					for range 6 {
						ended.Go(func() {
							if err := s.Set("a", announced{&begun}); err == nil {
								t.Error("Redis hangs, and Set returns nil")
							}
						})
					}
					breaker.awaitCommands(1)
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
	bothServers(t, func(t *testing.T, server *redisServer) {
		stage, breaker, _ := heldStage(t, server, timeout)
		b := stage.browser()
		stage.visit(b, func(w http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
			breaker.hold()
			set := make(chan error)
			go func() { set <- s.Set("a", "first") }()
			breaker.awaitCommands(1)
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
			breaker.pass()
			if err := <-set; err != nil {
				t.Error(err)
			}
			<-sent
		})
		stage.visit(b, func(_ http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
			if text, err := pycket.Get(s, "a", ""); text != "first" || err != nil {
				t.Errorf("%q, %v", text, err)
			}
		})
	})
}

// A view's operations end with its context, though the request goes on: those that wait for Redis, and those that
// wait for the request's own.
func TestWithContext(t *testing.T) {
	bothServers(t, func(t *testing.T, server *redisServer) {
		stage, breaker, b := heldStage(t, server, 20*time.Second)
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
				stage.visit(b, func(_ http.ResponseWriter, r *http.Request, s *pycket.SessionManager, n *pycket.NotificationManager) {
					began := time.Now()
					breaker.hold()
					ctx, cancel := start(r.Context())
					defer cancel()
					err := s.WithContext(ctx).Set("a", "late")
					wantError(t, err, ctx.Err(), `set "a"`, "may have been carried out")

					under := make(chan error)
					go func() { under <- s.Set("b", "patient") }()
					breaker.awaitCommands(2)
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
					if took := time.Since(began); took > 10*time.Second {
						t.Errorf("it has taken %v", took)
					}
					breaker.pass()
					if err := <-under; err != nil {
						t.Error(err)
					}
					if text, err := pycket.Get(s, "b", ""); text != "patient" || err != nil {
						t.Errorf("%q, %v", text, err)
					}
				})
			})
		}
	})
}

// Work that goes on when the handler has returned takes a context that does, too. It writes to the session that
// there is and makes none, since there is no way to send a cookie. Without such a context, it is told why it fails.
func TestWorkOutlivesHandler(t *testing.T) {
	everyServer(t, func(t *testing.T, server *redisServer) {
		stage := newStage(t, settings(server))
		var ctx context.Context
		// outlive is a request that has ended: it leaves its managers, and views of them that go on.
		outlive := func(b *browser) (s, work *pycket.SessionManager, n, notes *pycket.NotificationManager) {
			stage.visit(b, func(_ http.ResponseWriter, r *http.Request, session *pycket.SessionManager, notifications *pycket.NotificationManager) {
				s, n, ctx = session, notifications, r.Context()
				work, notes = s.WithContext(context.WithoutCancel(r.Context())), n.WithContext(context.WithoutCancel(r.Context()))
			})
			<-ctx.Done()
			return s, work, n, notes
		}
		b := stage.browser()
		stage.visit(b, func(_ http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
			if err := s.Set("a", "before"); err != nil {
				t.Error(err)
			}
		})
		s, work, n, notes := outlive(b)
		if text, err := pycket.Get(work, "a", ""); text != "before" || err != nil {
			t.Errorf("%q, %v", text, err)
		}
		count, err := pycket.Update(work, "n", 1, func(n int) (int, error) { return n + 1, nil })
		if err = errors.Join(err, work.Set("a", "after"), notes.Add("info", "ready")); count != 2 || err != nil {
			t.Errorf("%d, %v", count, err)
		}
		wantError(t, work.Rotate(), pycket.ErrHeadersSent, "rotate")
		stage.visit(b, func(_ http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, n *pycket.NotificationManager) {
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

		server.do(0, "FLUSHALL")
		_, work, _, notes = outlive(stage.browser())
		for name, err := range every(work, notes) {
			switch name {
			case "session.Set", "session.SetMany", "notifications.Set", "notifications.SetMany", "Update", "Increment", "Add":
				wantError(t, err, pycket.ErrHeadersSent)
			default:
				if err != nil {
					t.Error(err)
				}
			}
		}
		if server.size() != 0 {
			t.Errorf("%d keys were made", server.size())
		}
	})
}

// An operation that is under way when the handler returns is told so, too.
func TestHandlerLeavesOperation(t *testing.T) {
	bothServers(t, func(t *testing.T, server *redisServer) {
		stage, breaker, b := heldStage(t, server, timeout)
		set := make(chan error, 2)
		stage.visit(b, func(w http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
			w.WriteHeader(http.StatusNoContent) // which would wait
			breaker.hold()
			go func() { set <- s.Set("a", "late") }()
			breaker.awaitCommands(1)
		})
		defer breaker.pass()
		wantError(t, <-set, context.Canceled, `set "a"`, "the request has ended", "may have been carried out")
	})
}

// leave sends a request and hangs up as soon as the handler says so; the handler is told by its context.
func (s *stage) leave(b *browser, act func(hangUp func(), r *http.Request, s *pycket.SessionManager, n *pycket.NotificationManager)) {
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
	everyServer(t, func(t *testing.T, server *redisServer) {
		stage := newStage(t, settings(server))
		b := stage.browser()
		stage.visit(b, func(_ http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
			if err := s.Set("a", "before"); err != nil {
				t.Error(err)
			}
		})
		stage.leave(b, func(hangUp func(), r *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
			hangUp()
			<-r.Context().Done()
			err := s.Set("a", "late")
			wantError(t, err, context.Canceled, `set "a"`)
			if errors.Is(err, pycket.ErrUnavailable) || strings.Contains(err.Error(), "has ended") {
				t.Errorf("the browser has hung up, and the error is %v", err)
			}
			if err := s.Destroy(); err != nil {
				t.Error(err)
			}
		})
		wantNothingLeft(t, server)
	})
}

// A logout that is under way when the browser hangs up is told what came of it, and does not wait for ever.
func TestDestroyWhileHangingUp(t *testing.T) {
	bothServers(t, func(t *testing.T, server *redisServer) {
		stage, breaker, b := heldStage(t, server, timeout)
		stage.leave(b, func(hangUp func(), r *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
			breaker.hold()
			destroyed := make(chan error)
			go func() { destroyed <- s.Destroy() }()
			breaker.awaitCommands(1)
			hangUp()
			<-r.Context().Done()
			var err error
			select {
			case err = <-destroyed:
				t.Error("it has not waited for its answer")
			case <-time.After(20 * time.Millisecond):
				breaker.pass()
				err = <-destroyed
			}
			if err != nil {
				t.Error(err)
			}
		})
		wantNothingLeft(t, server)

		stage, breaker, b = heldStage(t, server, waitTimeout)
		stage.leave(b, func(hangUp func(), r *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
			hangUp()
			<-r.Context().Done()
			breaker.hold()
			defer breaker.pass()
			began := time.Now()
			wantError(t, s.Destroy(), pycket.ErrUnavailable, "destroy")
			if took := time.Since(began); took > 3*waitTimeout {
				t.Errorf("it has taken %v, and Timeout is %v", took, waitTimeout)
			}
		})
	})
}

// A deadline bounds a logout, too, while its cancellation does not.
func TestDestroyWithDeadline(t *testing.T) {
	bothServers(t, func(t *testing.T, server *redisServer) {
		stage, breaker, b := heldStage(t, server, 20*time.Second)
		stage.visit(b, func(_ http.ResponseWriter, r *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
			ctx, cancel := context.WithTimeout(r.Context(), 20*time.Millisecond)
			defer cancel()
			breaker.hold()
			began := time.Now()
			wantError(t, s.WithContext(ctx).Destroy(), context.DeadlineExceeded, "destroy")
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("it has taken %v", took)
			}
			breaker.pass()
			ctx, cancel = context.WithTimeout(r.Context(), time.Hour)
			cancel()
			if err := s.WithContext(ctx).Destroy(); err != nil {
				t.Error(err)
			}
		})
		wantNothingLeft(t, server)
	})
}

// impatient is a codec for a browser that hangs up while a value is decoded.
type impatient struct {
	pycket.JSON
	decode func() error
}

func (c impatient) Decode(data []byte, into any) error {
	if _, read := into.(*int); read {
		return c.decode()
	}
	return c.JSON.Decode(data, into)
}

// A notification that cannot be read is put back, though the browser has hung up when that is found out.
func TestPutBackAfterHangUp(t *testing.T) {
	everyServer(t, func(t *testing.T, server *redisServer) {
		var decode func() error
		s := settings(server)
		s.Codec = impatient{decode: func() error { return decode() }}
		stage := newStage(t, s)
		b := stage.browser()
		stage.visit(b, func(_ http.ResponseWriter, _ *http.Request, _ *pycket.SessionManager, n *pycket.NotificationManager) {
			if err := n.Set("saved", "once"); err != nil {
				t.Error(err)
			}
		})
		stage.leave(b, func(hangUp func(), r *http.Request, _ *pycket.SessionManager, n *pycket.NotificationManager) {
			decode = func() error {
				hangUp()
				<-r.Context().Done()
				return errors.New("no number")
			}
			_, err := pycket.Get(n, "saved", 0)
			wantError(t, err, pycket.ErrCorrupt, `take "saved"`)
		})
		stage.visit(b, func(_ http.ResponseWriter, _ *http.Request, _ *pycket.SessionManager, n *pycket.NotificationManager) {
			if text, err := pycket.Get(n, "saved", ""); text != "once" || err != nil {
				t.Errorf("%q, %v", text, err)
			}
		})
	})
}
