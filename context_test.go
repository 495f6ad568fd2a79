package pycket_test

// How long an operation waits, and for what: for the other goroutines of its request, and until its context ends.

import (
	"encoding/json"
	"errors"
	"net/http"
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
