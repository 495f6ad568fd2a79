package pycket_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pycket/pycket"
	"github.com/pycket/pycket/internal/redistest"
)

// A session that would need a cookie after the headers are gone is refused, and nothing is stored; a
// living session is written to as before.
func TestHeadersSent(t *testing.T) {
	ways := map[string]func(w http.ResponseWriter){
		"Write":        func(w http.ResponseWriter) { fmt.Fprint(w, "sent") },
		"WriteString":  func(w http.ResponseWriter) { io.WriteString(w, "sent") },
		"WriteHeader":  func(w http.ResponseWriter) { w.WriteHeader(http.StatusOK) },
		"Flush":        func(w http.ResponseWriter) { w.(http.Flusher).Flush() },
		"a controller": func(w http.ResponseWriter) { http.NewResponseController(w).Flush() },
		"ReadFrom":     func(w http.ResponseWriter) { io.Copy(w, strings.NewReader("sent")) },
		"Error":        func(w http.ResponseWriter) { http.Error(w, "sent", http.StatusTeapot) },
		"Redirect":     func(w http.ResponseWriter) { w.Header().Set("Location", "/"); w.WriteHeader(http.StatusSeeOther) },
	}
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		site := newSite(t, settings(server))
		for name, send := range ways {
			t.Run(name, func(t *testing.T) {
				server.Do(0, "FLUSHALL")
				a := site.visit(site.browser(), func(w http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, n *pycket.NotificationManager) {
					send(w)
					_, incrementErr := s.Increment("n", 1)
					_, updateErr := pycket.Update(s, "n", 1, func(n int) (int, error) { return n, nil })
					for op, err := range map[string]error{
						"set": s.Set("a", 1), "set many": s.SetMany(pycket.Values{"a": 1}), "increment": incrementErr,
						"update": updateErr, "notify": n.Set("a", 1), "add": n.Add("i", "t"),
					} {
						wantError(t, err, pycket.ErrHeadersSent, op)
					}
					noError(t, errors.Join(s.Delete("a"), s.Rotate(), s.Destroy()))
				})
				wantNothingStored(t, server, a)

				b := site.browser()
				a = site.visit(b, func(w http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, n *pycket.NotificationManager) {
					noError(t, s.Set("a", "first"))
					send(w)
					if err := errors.Join(s.Set("a", "second"), n.Set("b", "note"), n.Add("i", "t")); err != nil {
						t.Errorf("a living session: %v", err)
					}
					wantError(t, s.Rotate(), pycket.ErrHeadersSent, "rotate")
				})
				if len(a.header["Set-Cookie"]) != 1 {
					t.Errorf("%d cookies are set, want 1", len(a.header["Set-Cookie"]))
				}
				site.visit(b, func(w http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, n *pycket.NotificationManager) {
					send(w)
					text, err := pycket.Get(s, "a", "")
					if text != "second" || err != nil || s.Set("a", "third") != nil {
						t.Errorf("a living session, after the headers: %q, %v", text, err)
					}
					// Logging out still works; only the cookie stays.
					noError(t, s.Destroy())
				})
				wantNothingLeft(t, server)
			})
		}
	})
}

// Flush before the first write, and an informational answer: the cookie comes with the real headers.
func TestInformationalAnswers(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		site := newSite(t, settings(server))
		site.act = func(w http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
			w.Header().Set("Link", "</style.css>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
			noError(t, s.Set("a", 1))
			w.WriteHeader(http.StatusEarlyHints)
			http.NewResponseController(w).Flush()
			fmt.Fprint(w, "body")
		}
		b := site.browser()
		a, hints := b.getHints()
		if len(hints) != 2 || hints[0].Get("Link") == "" || hints[1].Get("Set-Cookie") != "" {
			t.Errorf("informational answers: %v", hints)
		}
		if a.body != "body" || b.cookie() == "" {
			t.Errorf("%q, cookie %q", a.body, b.cookie())
		}
	})
}

// can lists what a writer can do.
func can(w http.ResponseWriter) []string {
	var list []string
	if _, ok := w.(http.Flusher); ok {
		list = append(list, "Flusher")
	}
	if _, ok := w.(http.Hijacker); ok {
		list = append(list, "Hijacker")
	}
	if _, ok := w.(io.ReaderFrom); ok {
		list = append(list, "ReaderFrom")
	}
	if _, ok := w.(http.Pusher); ok {
		list = append(list, "Pusher")
	}
	if _, ok := w.(io.StringWriter); ok {
		list = append(list, "StringWriter")
	}
	if http.NewResponseController(w).SetWriteDeadline(time.Time{}) == nil {
		list = append(list, "deadlines")
	}
	return list
}

// What a handler finds its writer to be able to do is what the server's writer can do.
func TestWriterIsAsWithoutWrap(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		app := newApp(t, settings(server))
		for name, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
			t.Run(name, func(t *testing.T) {
				var bare, wrapped []string
				handler := func(list *[]string) http.Handler {
					return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						*list = can(w)
						fmt.Fprint(w, r.Proto)
					})
				}
				mux := http.NewServeMux()
				mux.Handle("/bare", handler(&bare))
				mux.Handle("/wrapped", app.Wrap(handler(&wrapped)))
				s := httptest.NewUnstartedServer(mux)
				s.EnableHTTP2 = http2
				s.StartTLS()
				defer s.Close()
				for _, path := range []string{"/bare", "/wrapped"} {
					response, err := s.Client().Get(s.URL + path)
					require(t, err)
					proto, _ := io.ReadAll(response.Body)
					response.Body.Close()
					if http2 != (string(proto) == "HTTP/2.0") {
						t.Errorf("over %s", proto)
					}
				}
				if diff := cmp.Diff(bare, wrapped); diff != "" || len(bare) == 0 {
					t.Errorf("(-bare +wrapped):\n%s", diff)
				}
			})
		}
	})
}

// Writers of middleware outside of Wrap keep at least what they have in common with net/http's.
func TestWritersOfMiddleware(t *testing.T) {
	app := newApp(t, pycket.Settings{Secrets: []string{secret}})
	recorder := func() *httptest.ResponseRecorder { return httptest.NewRecorder() }
	type flushing struct {
		http.ResponseWriter
		http.Flusher
	}
	for name, test := range map[string]struct {
		w    http.ResponseWriter
		want []string
	}{
		"nothing": {struct{ http.ResponseWriter }{recorder()}, []string{"StringWriter"}},
		"flush":   {recorder(), []string{"Flusher", "StringWriter"}},
		"hijack": {struct {
			http.ResponseWriter
			http.Hijacker
		}{recorder(), nil}, []string{"Hijacker", "StringWriter"}},
		"flush and hijack": {struct {
			flushing
			http.Hijacker
		}{flushing{recorder(), recorder()}, nil}, []string{"Flusher", "Hijacker", "StringWriter"}},
		"flush and read": {struct {
			flushing
			io.ReaderFrom
		}{flushing{recorder(), recorder()}, nil}, []string{"Flusher", "ReaderFrom", "StringWriter"}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			app.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { got = can(w) })).ServeHTTP(test.w, httptest.NewRequest("GET", "/", nil))
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSendfile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	content := strings.Repeat("0123456789", 100_000)
	require(t, os.WriteFile(path, []byte(content), 0o600))
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		site := newSite(t, settings(server))
		b := site.browser()
		a := site.visit(b, func(w http.ResponseWriter, r *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
			noError(t, s.Set("downloads", 1))
			http.ServeFile(w, r, path)
		})
		if a.body != content || b.cookie() == "" {
			t.Errorf("%d bytes, cookie %q", len(a.body), b.cookie())
		}
	})
}

func TestHijack(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		site := newSite(t, settings(server))
		b := site.browser()
		b.must("set:a:x")
		for visitor, want := range map[*browser]string{b: "x <nil>", site.browser(): " ErrHeadersSent"} {
			a := site.visit(visitor, func(w http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
				hijack(t, w, func() string {
					text, err := pycket.Get(s, "a", "")
					noError(t, err)
					if err = s.Set("a", "y"); err != nil {
						return text + " " + errorName(err)
					}
					return text + " <nil>"
				})
			})
			if a.body != want {
				t.Errorf("%q, want %q", a.body, want)
			}
		}
	})
}

// hijack takes the connection over, and answers by itself.
func hijack(t *testing.T, w http.ResponseWriter, answer func() string) {
	t.Helper()
	conn, buffer, err := w.(http.Hijacker).Hijack()
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	fmt.Fprintf(buffer, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n%s", answer())
	buffer.Flush()
}

// A goroutine of the request may be changing the session while the handler hijacks.
func TestHijackWhileSessionChanges(t *testing.T) {
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		site := newSite(t, settings(server))
		for range 20 {
			site.visit(site.browser(), func(w http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
				var changes sync.WaitGroup
				begun := make(chan struct{})
				changes.Go(func() {
					err := s.Set("a", 1)
					for close(begun); err == nil; { // until a new session is refused
						err = errors.Join(s.Destroy(), s.Set("a", 1))
					}
				})
				<-begun
				hijack(t, w, func() string { changes.Wait(); return "" })
			})
		}
		wantNothingLeft(t, server)
	})
}

type noHijacker struct{ http.ResponseWriter }

func (noHijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return nil, nil, errors.New("not this connection")
}

// Where a handler fails to flush or to hijack, nothing is sent: a session may still be made, and its cookie comes
// with the headers.
func TestFailureSendsNoHeaders(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		app := newApp(t, settings(server))
		s := settings(server)
		s.Cookies.Name, s.Redis.Prefix = "OTHER", "other:"
		other := newApp(t, s)
		timeout := func(h http.Handler) http.Handler { return http.TimeoutHandler(h, time.Minute, "late") }
		flush := func(w http.ResponseWriter) error {
			err := http.NewResponseController(w).Flush()
			if !errors.Is(err, http.ErrNotSupported) {
				return fmt.Errorf("Flush: %v", err)
			}
			return nil
		}
		around := func(wrap func(http.ResponseWriter) http.ResponseWriter) func(http.Handler) http.Handler {
			return func(h http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(wrap(w), r) })
			}
		}
		for name, test := range map[string]struct {
			middleware func(http.Handler) http.Handler
			try        func(http.ResponseWriter) error
		}{
			"flush within http.TimeoutHandler": {timeout, flush},
			"flush within another writer": {func(h http.Handler) http.Handler {
				return timeout(around(func(w http.ResponseWriter) http.ResponseWriter { return wrappedWriter{w} })(h))
			}, flush},
			"flush within another App": {func(h http.Handler) http.Handler { return timeout(other.Wrap(h)) }, flush},
			"hijack": {around(func(w http.ResponseWriter) http.ResponseWriter { return noHijacker{w} }), func(w http.ResponseWriter) error {
				if _, _, err := http.NewResponseController(w).Hijack(); err == nil {
					return errors.New("the connection is hijacked")
				}
				return nil
			}},
		} {
			t.Run(name, func(t *testing.T) {
				handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					s := pycket.NewSessionManager(w, r)
					noError(t, errors.Join(test.try(w), s.Set("visits", 1)))
				})
				served := httptest.NewServer(test.middleware(app.Wrap(handler)))
				defer served.Close()
				b := newBrowser(t, served.URL)
				if a := b.get("/"); len(a.header["Set-Cookie"]) != 1 || b.cookie() == "" {
					t.Errorf("Set-Cookie: %q", a.header["Set-Cookie"])
				}
			})
		}
	})
}

// A stream of events goes on for long: it writes to its session and reads what others have written.
func TestEventStream(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		next := make(chan string)
		mux := http.NewServeMux()
		mux.HandleFunc("/events", func(w http.ResponseWriter, r *http.Request) {
			s := pycket.NewSessionManager(w, r)
			for name := range next {
				s.Refresh()
				text, err := pycket.Get(s, name, "none")
				count, incErr := s.Increment("events", 1)
				fmt.Fprintf(w, "data: %s %d %v %v\n\n", text, count, err, incErr)
				noError(t, http.NewResponseController(w).Flush())
			}
		})
		mux.Handle("/", pycket.Handler(operations{}))
		site := newSite(t, settings(server), mux)
		b := site.browser()
		b.must("set:a:1")
		r, _ := http.NewRequest("GET", site.URL+"/events", nil)
		response, err := func() (*http.Response, error) {
			go func() { next <- "a" }()
			return b.client.Do(r)
		}()
		require(t, err)
		defer response.Body.Close()
		lines := bufio.NewScanner(response.Body)
		event := func() string {
			for lines.Scan() {
				if lines.Text() != "" {
					return lines.Text()
				}
			}
			return ""
		}
		if got := event(); got != "data: 1 1 <nil> <nil>" {
			t.Error(got)
		}
		b.must("set:a:2")
		next <- "a"
		if got := event(); got != "data: 2 2 <nil> <nil>" {
			t.Error(got)
		}
		b.must("destroy")
		next <- "a"
		if got := event(); !strings.HasPrefix(got, "data: none 0 <nil> pycket: increment \"events\": ") {
			t.Error(got)
		}
		close(next)
	})
}

// The cookie is there whatever becomes of the handler, if something was stored; and a handler that was
// given up on (http.TimeoutHandler) can't make a session that nobody has the cookie of.
func TestTimeoutHandler(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		answered, late := make(chan struct{}), make(chan error)
		slow := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			<-answered
			late <- pycket.NewSessionManager(w, r).Set("a", 1)
		})
		site := newSite(t, settings(server), http.TimeoutHandler(slow, 20*time.Millisecond, "late"))
		if a := site.browser().get("/"); a.status != http.StatusServiceUnavailable || a.setsCookie() {
			t.Errorf("%d, cookie set: %v", a.status, a.setsCookie())
		}
		close(answered)
		if err := <-late; err == nil || server.Size() != 0 {
			t.Errorf("a session was made after the answer: %v", err)
		}

		quick := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.SetCookie(w, &http.Cookie{Name: "other", Value: "x"})
			fmt.Fprint(w, pycket.NewSessionManager(w, r).Set("a", 1))
		})
		site = newSite(t, settings(server), http.TimeoutHandler(quick, 10*time.Second, "late"))
		if a := site.browser().get("/"); len(a.header["Set-Cookie"]) != 2 {
			t.Errorf("cookies: %q", a.header["Set-Cookie"])
		}
	})
}

// A redirect's target, fetched at once, sees the write: 1 000 times.
func TestRedirectSeesWrite(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		mux := http.NewServeMux()
		mux.HandleFunc("POST /", func(w http.ResponseWriter, r *http.Request) {
			noError(t, pycket.NewSessionManager(w, r).Set("a", r.URL.Query().Get("v")))
			http.Redirect(w, r, "/", http.StatusSeeOther)
		})
		mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
			text, err := pycket.Get(pycket.NewSessionManager(w, r), "a", "")
			fmt.Fprint(w, text, err)
		})
		site := newSite(t, settings(server), mux)
		b := site.browser()
		b.client.CheckRedirect = nil
		for i := range 1000 {
			r, _ := http.NewRequest("POST", fmt.Sprintf("%s/?v=%d", site.URL, i), nil)
			if a, err := b.send(r); err != nil || a.body != fmt.Sprintf("%d<nil>", i) {
				t.Fatalf("visit %d: %q, %v", i, a.body, err)
			}
		}
	})
}

func TestCachingHeaders(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		site := newSite(t, settings(server))
		b := site.browser()
		write := func(s *pycket.SessionManager) { s.Rotate(); s.Set("a", 1) }
		read := func(s *pycket.SessionManager) { s.Has("a") }
		for _, test := range []struct {
			cacheControl, vary  string // what the handler sets
			use                 func(*pycket.SessionManager)
			wantCache, wantVary string
		}{
			{"", "", write, "private, no-store", "Cookie"},
			{"public, max-age=60", "Accept-Encoding", write, "private, no-store", "Accept-Encoding|Cookie"},
			{"private, max-age=60", "accept, cookie", write, "private, max-age=60", "accept, cookie"},
			{"No-Store", "*", write, "No-Store", "*"},
			{"public, max-age=60", "", read, "public, max-age=60", "Cookie"},
			{"public, max-age=60", "", func(*pycket.SessionManager) {}, "public, max-age=60", ""},
		} {
			a := site.visit(b, func(w http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
				if test.cacheControl != "" {
					w.Header().Set("Cache-Control", test.cacheControl)
				}
				if test.vary != "" {
					w.Header().Set("Vary", test.vary)
				}
				test.use(s)
			})
			if got := strings.Join(a.header["Cache-Control"], "|"); got != test.wantCache {
				t.Errorf("Cache-Control %q became %q, want %q", test.cacheControl, got, test.wantCache)
			}
			if got := strings.Join(a.header["Vary"], "|"); got != test.wantVary {
				t.Errorf("Vary %q became %q, want %q", test.vary, got, test.wantVary)
			}
		}
	})
}

// A persistent cookie of ExpiresDays is renewed like one of Remember.
func TestPersistentCookieIsRenewed(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		s := settings(server)
		s.Cookies.ExpiresDays = 10
		site := newSite(t, s)
		b := site.browser()
		b.must("set:a:b")
		id := idOf(t, b.cookie())
		old := b.with(signedFor(t, secret, "PYCKET_ID", id, 25*time.Hour, 240*time.Hour))
		if a, _ := old.do("get:a"); !strings.Contains(strings.Join(a.header["Set-Cookie"], ""), "Max-Age=864000") {
			t.Errorf("%q", a.header["Set-Cookie"])
		}
		if string(idOf(t, old.cookie())) != string(id) {
			t.Error("the id has changed")
		}

		// A request that has not found the session alive does not ask for it, which may take long by then.
		cookie := signedFor(t, secret, "PYCKET_ID", id, 25*time.Hour, 240*time.Hour)
		if r := handleCookie(site, cookie, func(s *pycket.SessionManager) { s.Delete() }); r.Header.Get("Set-Cookie") != "" {
			t.Errorf("after no operation: %q", r.Header["Set-Cookie"])
		}
	})
}

func TestClearSiteData(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		for _, on := range []bool{true, false} {
			s := settings(server)
			s.Cookies.ClearSiteData = on
			site := newSite(t, s)
			b := site.browser()
			b.must("set:a:b")
			a, _ := b.do("destroy")
			if got := a.header.Get("Clear-Site-Data"); (got == `"cache", "storage"`) != on {
				t.Errorf("set: %v, Clear-Site-Data: %q", on, got)
			}
		}
	})
}
