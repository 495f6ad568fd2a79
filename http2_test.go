package pycket_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pycket/pycket"
	"github.com/pycket/pycket/internal/redistest"
)

// newHTTP2Site is newSite over TLS and HTTP/2. It counts the connections that are opened.
func newHTTP2Site(t *testing.T, s pycket.Settings) (site *site, connections *atomic.Int64) {
	t.Helper()
	site, connections = unstartedSite(t, s), new(atomic.Int64)
	h := site.Config.Handler
	site.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 || r.TLS == nil {
			t.Errorf("a request over %s, TLS: %v", r.Proto, r.TLS != nil)
		}
		h.ServeHTTP(w, r)
	})
	site.EnableHTTP2 = true
	site.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	site.StartTLS()
	return site, connections
}

// A first visit gets one cookie, which is Secure since the request came over TLS; a later one none.
func TestHTTP2Visit(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		site, _ := newHTTP2Site(t, settings(server))
		b := site.browser()
		if a := b.want([]outcome{{Value: ""}}, "get:a"); a.setsCookie() || server.Size() != 0 {
			t.Errorf("a read sets %q and makes %d keys", a.header["Set-Cookie"], server.Size())
		}
		lines := b.want([]outcome{{}, {Value: 1.0}, {}}, "set:a:x", "inc:n:1", "note:waiting:note").header["Set-Cookie"]
		if len(lines) != 1 {
			t.Fatalf("%d cookies are set, want 1: %q", len(lines), lines)
		}
		for _, attribute := range []string{"Secure", "HttpOnly", "SameSite=Lax", "Path=/"} {
			if !slices.Contains(strings.Split(lines[0], "; "), attribute) {
				t.Errorf("%q lacks %s", lines[0], attribute)
			}
		}
		if a := b.want([]outcome{{Value: "x"}, {Value: 2.0}, {Value: "note"}}, "get:a", "inc:n:1", "take:waiting"); a.setsCookie() {
			t.Errorf("a later visit sets %q", a.header["Set-Cookie"])
		}
		old := b.cookie()
		if a := b.want([]outcome{{}}, "destroy"); len(a.header["Set-Cookie"]) != 1 || b.cookie() != "" {
			t.Errorf("a logout sets %q", a.header["Set-Cookie"])
		}
		wantAnonymous(t, site, old)
	})
}

// Flush sends the headers: a stranger's session is refused after it, and has its cookie before it. An
// empty body or a Flush before the body do not lose it.
func TestHTTP2HeadersSent(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		site, _ := newHTTP2Site(t, settings(server))
		for name, send := range map[string]func(w http.ResponseWriter) error{
			"Flush":        func(w http.ResponseWriter) error { w.(http.Flusher).Flush(); return nil },
			"a controller": func(w http.ResponseWriter) error { return http.NewResponseController(w).Flush() },
			"Write":        func(w http.ResponseWriter) error { _, err := io.WriteString(w, "sent"); return err },
			"WriteHeader":  func(w http.ResponseWriter) error { w.WriteHeader(http.StatusNoContent); return nil },
		} {
			t.Run(name, func(t *testing.T) {
				server.Do(0, "FLUSHALL")
				a := site.visit(site.browser(), func(w http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, n *pycket.NotificationManager) {
					noError(t, send(w))
					_, incrementErr := s.Increment("n", 1)
					for op, err := range map[string]error{
						"set": s.Set("a", 1), "increment": incrementErr, "notify": n.Set("a", 1), "add": n.Add("i", "t"), "login": s.Login("me", nil),
					} {
						wantError(t, err, pycket.ErrHeadersSent, op)
					}
				})
				if a.setsCookie() || server.Size() != 0 {
					t.Errorf("Set-Cookie %q, %d keys", a.header["Set-Cookie"], server.Size())
				}

				b := site.browser()
				a = site.visit(b, func(w http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, n *pycket.NotificationManager) {
					noError(t, errors.Join(s.Set("a", "first"), send(w), s.Set("a", "second"), n.Add("i", "t")))
					wantError(t, s.Rotate(), pycket.ErrHeadersSent, "rotate")
				})
				if len(a.header["Set-Cookie"]) != 1 || b.cookie() == "" {
					t.Errorf("Set-Cookie %q", a.header["Set-Cookie"])
				}
				b.want([]outcome{{Value: "second"}, {Value: "i=t"}}, "get:a", "drain")
			})
		}
		t.Run("nothing is written", func(t *testing.T) {
			b := site.browser()
			site.use(b, func(s *pycket.SessionManager) { noError(t, s.Set("a", "x")) })
			b.want([]outcome{{Value: "x"}}, "get:a")
		})
	})
}

// Early hints are no headers of the answer: a session may still be made after them, and its cookie comes
// with the real ones.
func TestHTTP2EarlyHints(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		site, _ := newHTTP2Site(t, settings(server))
		site.act = func(w http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
			w.Header().Set("Link", "</style.css>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
			noError(t, s.Set("a", "x"))
			w.WriteHeader(http.StatusEarlyHints)
			fmt.Fprint(w, "body")
		}
		b := site.browser()
		a, hints := b.getHints()
		if len(hints) != 2 || hints[0].Get("Link") == "" || hints[0].Get("Set-Cookie") != "" || hints[1].Get("Set-Cookie") != "" {
			t.Errorf("informational answers: %v", hints)
		}
		if a.body != "body" || len(a.header["Set-Cookie"]) != 1 {
			t.Errorf("%q, Set-Cookie %q", a.body, a.header["Set-Cookie"])
		}
		b.want([]outcome{{Value: "x"}}, "get:a")
	})
}

// A stream of events writes to its session, sees what requests on the same connection have written, and
// brings nothing back after a logout.
func TestHTTP2EventStream(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		site, connections := newHTTP2Site(t, settings(server))
		next := make(chan struct{})
		site.act = func(w http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
			w.Header().Set("Content-Type", "text/event-stream")
			controller := http.NewResponseController(w)
			noError(t, controller.Flush())
			for range next {
				s.Refresh()
				text, err := pycket.Get(s, "a", "none")
				count, incrementErr := s.Increment("events", 1)
				if errors.Is(incrementErr, pycket.ErrGone) {
					incrementErr = pycket.ErrGone
				}
				fmt.Fprintf(w, "data: %s %d %v %v\n\n", text, count, err, incrementErr)
				noError(t, controller.Flush())
			}
		}
		b := site.browser()
		b.must("set:a:1")
		response, err := b.client.Get(site.URL)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		lines := bufio.NewScanner(response.Body)
		want := func(want string) {
			t.Helper()
			next <- struct{}{}
			for lines.Scan() && lines.Text() == "" {
			}
			if diff := cmp.Diff(want, lines.Text()); diff != "" {
				t.Error(diff)
			}
		}
		want("data: 1 1 <nil> <nil>")
		b.must("set:a:2")
		want("data: 2 2 <nil> <nil>")
		b.want([]outcome{{Value: 2.0}}, "number:events")
		b.must("destroy")
		want(fmt.Sprint("data: none 0 <nil> ", pycket.ErrGone))
		close(next)
		if lines.Scan() && lines.Text() != "" {
			t.Errorf("more came: %q", lines.Text())
		}
		wantNothingLeft(t, server)
		equal(t, "connections", 1, connections.Load())
	})
}

// The controller's deadlines reach the server's writer. One that breaks the response takes back nothing
// of what the session has acknowledged.
func TestHTTP2Deadlines(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		site, _ := newHTTP2Site(t, settings(server))
		b := site.browser()
		site.visit(b, func(w http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
			controller := http.NewResponseController(w)
			far := time.Now().Add(time.Hour)
			noError(t, errors.Join(controller.SetReadDeadline(far), controller.SetWriteDeadline(far), s.Set("a", "first")))
		})
		b.want([]outcome{{Value: "first"}}, "get:a")

		finished := make(chan struct{})
		site.act = func(w http.ResponseWriter, r *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
			defer close(finished)
			noError(t, s.Set("a", "second"))
			noError(t, http.NewResponseController(w).SetWriteDeadline(time.Unix(1, 0)))
			<-r.Context().Done() // the server has reset the stream
			wantError(t, s.Set("a", "third"), r.Context().Err(), "set")
		}
		if a, err := b.send(b.request("/")); err == nil {
			t.Errorf("status %d after the deadline for writing", a.status)
		}
		<-finished
		b.want([]outcome{{Value: "second"}}, "get:a")
	})
}

// What runs in parallel on one connection loses no name and no count.
func TestHTTP2Parallel(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		const requests = 64
		s := settings(server)
		s.Redis.Timeout = 30 * time.Second // the updates wait for one another
		site, connections := newHTTP2Site(t, s)
		b := site.browser()
		b.must("set:first:x")
		parallel(requests, func(i int) {
			a, list, err := b.try(fmt.Sprintf("set:name%02d:%d", i, i), "inc:n:1", "update:u", fmt.Sprintf("note:note%02d:%d", i, i))
			if err != nil || a.setsCookie() || len(list) != 4 || list[0].Err+list[1].Err+list[2].Err+list[3].Err != "" {
				t.Errorf("request %d: %v, %v, Set-Cookie %q", i, list, err, a.header["Set-Cookie"])
			}
		})
		b.want([]outcome{{Value: float64(requests)}, {Value: float64(requests)}}, "number:n", "number:u")
		names := b.must("keys", "nkeys")
		equal(t, "names", []int{requests + 3, requests}, []int{len(names[0].([]any)), len(names[1].([]any))})
		equal(t, "connections", 1, connections.Load())
	})
}
