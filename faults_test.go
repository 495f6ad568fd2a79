package pycket_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gomodule/redigo/redis"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/pycket/pycket"
	"github.com/pycket/pycket/internal/redistest"
)

// What happens when Redis, or the network, does not do what is wanted: connections break, answers come late, twice or
// never, and writes are refused.

// losses are what can happen to a command of whose outcome a request is not told.
var losses = map[string]func(b *redistest.Proxy, on bool){
	"the answer is lost":  func(b *redistest.Proxy, on bool) { b.DropReplies(on) },
	"the command is lost": func(b *redistest.Proxy, on bool) { b.DropCommands(on) },
}

// knowScripts shows Redis the scripts that end an id, so that they are run at once from then on.
func knowScripts(t *testing.T, site *site) {
	t.Helper()
	site.use(signIn(t, site, "warm"), func(s *pycket.SessionManager) {
		noError(t, errors.Join(s.Rotate(), s.Destroy()))
	})
}

// A Destroy that is done twice, by the library or by a handler that was not told what came of the first, is as
// good as one: it is the request's own, and not somebody else's.
func TestDestroyAgain(t *testing.T) {
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		proxy, s := proxied(t, server)
		s.Cookies.ClearSiteData = true
		site := newSite(t, s)
		knowScripts(t, site)
		destroys := map[string]func(t *testing.T, s *pycket.SessionManager) error{
			"repeated by the library": func(t *testing.T, s *pycket.SessionManager) error {
				cuts := proxy.Cuts()
				proxy.DropReply()
				err := s.Destroy()
				if proxy.Cuts() == cuts {
					t.Error("nothing was broken")
				}
				return err
			},
		}
		for name, loss := range losses {
			lose := func(t *testing.T, s *pycket.SessionManager) {
				loss(proxy, true)
				wantError(t, s.Destroy(), pycket.ErrUnavailable, "destroy")
				loss(proxy, false)
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
						server.Do(0, "FLUSHALL")
						b := site.browser()
						site.works(b, func(s *pycket.SessionManager, n *pycket.NotificationManager) error {
							return errors.Join(s.Set("a", "before"), n.Set("waiting", "note"))
						})
						old := b.cookie()
						a := site.visit(b, func(_ http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, n *pycket.NotificationManager) {
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
						site.visit(b.with(old), func(_ http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, n *pycket.NotificationManager) {
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
						site.visit(b, func(_ http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, n *pycket.NotificationManager) {
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
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		proxy, s := proxied(t, server)
		site := newSite(t, s)
		knowScripts(t, site)
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
						server.Do(0, "FLUSHALL")
						b := site.browser()
						site.works(b, func(s *pycket.SessionManager, n *pycket.NotificationManager) error {
							return errors.Join(s.Set("a", "before"), n.Set("waiting", "note"))
						})
						old := b.cookie()
						a := site.visit(b, func(_ http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, n *pycket.NotificationManager) {
							loss(proxy, true)
							wantError(t, begin(s, n), pycket.ErrUnavailable)
							loss(proxy, false)
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
						site.visit(b, func(_ http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, n *pycket.NotificationManager) {
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
							site.visit(b.with(old), func(_ http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, n *pycket.NotificationManager) {
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
			b := site.browser()
			site.use(b, func(s *pycket.SessionManager) { s.Set("a", "before") })
			a := site.use(b, func(s *pycket.SessionManager) {
				proxy.DropCommands(true)
				wantError(t, s.Rotate(), pycket.ErrUnavailable)
				proxy.DropCommands(false)
				handleCookie(site, b.cookie(), func(s *pycket.SessionManager) {
					noError(t, s.Rotate())
				})
				wantError(t, s.Rotate(), pycket.ErrGone)
				wantError(t, s.Set("a", "late"), pycket.ErrGone)
			})
			if a.setsCookie() {
				t.Errorf("Set-Cookie: %q", a.header["Set-Cookie"])
			}
		})
		t.Run("the headers are sent", func(t *testing.T) { // and with them the old id: there is no way back
			b := site.browser()
			site.use(b, func(s *pycket.SessionManager) { s.Set("a", "before") })
			site.visit(b, func(w http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
				proxy.DropReplies(true)
				wantError(t, s.Rotate(), pycket.ErrUnavailable)
				proxy.DropReplies(false)
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

// wantUnavailable checks that nothing works and everything says so, in time, with a status below 500: the handler goes
// on. What may be answered all the same is named.
func wantUnavailable(t *testing.T, b *browser, may ...string) {
	t.Helper()
	var wg sync.WaitGroup
	for _, op := range everyOperation {
		wg.Go(func() {
			began := time.Now()
			a, list, err := b.try(op)
			if err != nil || len(list) != 1 || list[0].Err != "ErrUnavailable" && !(list[0].Err == "" && slices.Contains(may, op)) {
				t.Errorf("%s: %v, %v; want ErrUnavailable", op, list, err)
			}
			if a.setsCookie() {
				t.Errorf("%s sets a cookie", op)
			}
			if took := time.Since(began); took > bound {
				t.Errorf("%s took %v, and the timeout is %v", op, took, shortTimeout)
			}
		})
	}
	wg.Wait()
	if _, list, err := b.with("").try("get:a", "take:a"); err != nil || list[0].Err+list[1].Err != "" {
		t.Errorf("a stranger needs no Redis to be a stranger: %v, %v", list, err)
	}
	a, list, err := b.with("").try("set:a:b")
	if err != nil || list[0].Err != "ErrUnavailable" || a.setsCookie() {
		t.Errorf("a first visit: %v, %v, cookie set: %v", list, err, a.setsCookie())
	}
}

// outageSite is a site with a short timeout, warm connections and a browser with a session.
func outageSite(t *testing.T, server *redistest.Server) (*site, *browser) {
	t.Helper()
	s := settings(server)
	s.Redis.Timeout = shortTimeout
	site := newSite(t, s)
	b := site.browser()
	b.must("set:a:b")
	parallel(8, func(int) { b.tab().try("set:a:b", "get:a") })
	return site, b
}

func TestRedisHangs(t *testing.T) {
	server := redistest.Start(t)
	_, b := outageSite(t, server)
	server.Suspend()
	wantUnavailable(t, b)
	server.Resume()
	b.want([]outcome{{}, {Value: "after"}}, "set:a:after", "get:a")
}

// The deadline of a request's context ends an operation before the timeout does, and so does its end; the
// other requests on the same connection are not touched.
func TestContextEnds(t *testing.T) {
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		proxy, s := proxied(t, server)
		s.Redis.Timeout = 20 * time.Second
		app := newApp(t, s)
		run := func(ctx context.Context, cookie string, f func(s *pycket.SessionManager)) *http.Response {
			w := httptest.NewRecorder()
			r := httptest.NewRequestWithContext(ctx, "GET", "/", nil)
			r.Header.Set("Cookie", cookie)
			app.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { f(pycket.NewSessionManager(w, r)) })).ServeHTTP(w, r)
			heard.response(w.Result())
			return w.Result()
		}
		var cookie string
		response := run(t.Context(), "", func(s *pycket.SessionManager) {
			if _, err := s.Increment("n", 0); err != nil { // Redis then knows the script
				t.Error(err)
			}
			noError(t, s.Set("a", "b"))
		})
		cookie = "PYCKET_ID=" + response.Cookies()[0].Value

		for name, context := range map[string]func() (context.Context, func()){
			"deadline": func() (context.Context, func()) {
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
				return ctx, func() { <-ctx.Done(); cancel() }
			},
			"cancel": func() (context.Context, func()) {
				ctx, cancel := context.WithCancel(t.Context())
				return ctx, cancel
			},
		} {
			t.Run(name, func(t *testing.T) {
				proxy.Hold() // answers are kept back
				ctx, end := context()
				var wg sync.WaitGroup
				for range 4 {
					wg.Go(func() {
						run(ctx, cookie, func(s *pycket.SessionManager) {
							_, err := s.Increment("n", 1)
							wantError(t, err, ctx.Err(), `increment "n"`, "may have been carried out")
							_, err = pycket.Get(s, "a", "")
							wantError(t, err, ctx.Err(), `get "a"`)
						})
					})
				}
				patient := make(chan error)
				proxy.AwaitCommands(4)
				for range 4 {
					go run(t.Context(), cookie, func(s *pycket.SessionManager) {
						got, err := pycket.Get(s, "a", "")
						if err == nil && got != "b" {
							err = errors.New("got " + got)
						}
						patient <- err
					})
				}
				proxy.AwaitCommands(8)
				end()
				wg.Wait() // at once, although no answer comes
				proxy.Pass()
				for range 4 {
					if err := <-patient; err != nil {
						t.Errorf("a neighbour: %v", err)
					}
				}
			})
		}
		run(t.Context(), cookie, func(s *pycket.SessionManager) {
			if n, err := pycket.Get(s, "n", 0); n != 8 || err != nil {
				t.Errorf("%d increments were carried out, want 8: %v", n, err)
			}
		})
		if got := proxy.Connections(); got != 1 {
			t.Errorf("%d connections were opened, want 1", got)
		}
	})
}

func TestRedisIsKilled(t *testing.T) {
	server := redistest.Start(t)
	_, b := outageSite(t, server)
	server.Kill()
	wantUnavailable(t, b)
	server.Restart()
	b.must("set:a:after") // what it held is gone with it: a fresh session
	b.want([]outcome{{Value: "after"}}, "get:a")
}

// Connections that died while idle cost nobody a request, and no PING finds them.
func TestRedisRestartsWhileIdle(t *testing.T) {
	server := redistest.Start(t)
	proxy, s := proxied(t, server)
	site := newSite(t, s)
	b := site.browser()
	b.must("set:a:b")
	parallel(32, func(int) { b.tab().try("slowupdate:n", "get:a") })
	server.Kill()
	proxy.Cut()
	server.Restart()
	b.must("set:a:b") // the data is gone, a fresh session
	server.Kill()
	proxy.Cut()
	server.Restart()
	for i := range 100 {
		if _, list, err := b.try("get:a"); err != nil || list[0].Err != "" {
			t.Fatalf("read %d after the restart: %v, %v", i, list, err)
		}
	}
	if strings.Contains(strings.ToUpper(proxy.Sent()), "\r\nPING\r\n") {
		t.Error("a PING was sent")
	}
}

// Also what is not safe to repeat works on the first try, after connections died while idle.
func TestConnectionsDieWhileIdle(t *testing.T) {
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		proxy, s := proxied(t, server)
		site := newSite(t, s)
		b := site.browser()
		b.must("inc:n:0")
		for _, op := range []string{"get:a", "set:a:b", "inc:n:1", "update:n", "note:a:b", "take:a", "add:i:t", "drain", "rotate"} {
			parallel(8, func(int) { b.tab().try("slowupdate:n") })
			time.Sleep(100 * time.Millisecond) // idle
			proxy.Cut()
			b.must(op)
		}
	})
}

// A connection that breaks under a command: what is safe to repeat is repeated, the rest says that it
// may have been carried out.
func TestConnectionBreaksUnderCommand(t *testing.T) {
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		for op, repeatable := range map[string]bool{
			"get:a": true, "keys": true, "rotate": true, "destroy": true, "peek:a": true,
			"set:a:c": false, "delete:a": false, "note:a:b": false, "inc:n:1": false, "take:a": false, "add:i:t": false, "drain": false,
		} {
			t.Run(op, func(t *testing.T) {
				proxy, s := proxied(t, server)
				site := newSite(t, s)
				b := site.browser()
				b.must("set:a:b", "note:a:b", "add:i:t")
				cuts := proxy.Cuts()
				proxy.DropReply()
				_, list := b.do(op)
				if repeatable != (list[0].Err == "") || !repeatable && list[0].Err != "ErrUnavailable" {
					t.Errorf("%v, want an error: %v", list, !repeatable)
				}
				if proxy.Cuts() == cuts {
					t.Error("nothing was broken")
				}
			})
		}
		t.Run("the message", func(t *testing.T) {
			proxy, s := proxied(t, server)
			site := newSite(t, s)
			site.use(site.browser(), func(s *pycket.SessionManager) {
				noError(t, s.Set("a", 1))
				proxy.DropReply()
				_, err := s.Increment("n", 1)
				wantError(t, err, pycket.ErrUnavailable, `increment "n"`, "may have been carried out")
			})
		})
	})
}

func TestScriptsAreFlushed(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		site := newSite(t, settings(server))
		for _, op := range everyOperation {
			b := site.browser()
			b.must("inc:n:1", "note:a:b", "add:i:t")
			server.Do(0, "SCRIPT", "FLUSH")
			b.must(op)
		}
	})
}

// Redis repeats the arguments of a command that it does not know: what was to be stored, or a password. Servers and
// proxies that lack a command are not rare.
func TestUnknownCommand(t *testing.T) {
	server := redistest.Start(t, "--rename-command", "EVALSHA", "")
	site := newSite(t, settings(server))
	site.visit(site.browser(), func(_ http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, n *pycket.NotificationManager) {
		for _, err := range []error{s.Set("", "a small value"), n.Set("", "a small value"), n.Add("", "of a message"), s.Login("ann", nil)} {
			wantError(t, err, pycket.ErrUnavailable, "unknown command")
			if strings.Contains(fmt.Sprint(err), "args") {
				t.Errorf("%v repeats arguments", err)
			}
		}
	})

	server = redistest.Start(t, "--rename-command", "AUTH", "")
	s := settings(server)
	s.Redis.URL = "redis://ann:the%20PASSWORD@" + server.Addr
	inCluster := settings(server)
	inCluster.Redis.URL, inCluster.Redis.Cluster, inCluster.Redis.Timeout = "redis://ann:the%20PASSWORD@", []string{server.Addr}, time.Second
	for _, s := range []pycket.Settings{s, inCluster} {
		err := newApp(t, s).Ping(t.Context())
		wantError(t, err, pycket.ErrUnavailable, "unknown command 'AUTH'")
		if strings.Contains(fmt.Sprint(err), "PASSWORD") {
			t.Errorf("%v repeats the password", err)
		}
	}
}

func TestOutOfMemory(t *testing.T) {
	server := redistest.Start(t)
	_, b := outageSite(t, server)
	server.Do(0, "CONFIG", "SET", "maxmemory-policy", "noeviction")
	server.Do(0, "CONFIG", "SET", "maxmemory", "1")
	before := fmt.Sprintf("%q", server.Do(0, "HGETALL", server.OnlyKey()))
	for _, op := range []string{"set:a:c", "inc:n:1", "update:n", "note:a:b", "add:i:t", "rotate"} {
		if _, list := b.do(op); list[0].Err != "ErrUnavailable" {
			t.Errorf("%s: %v", op, list)
		}
	}
	if after := fmt.Sprintf("%q", server.Do(0, "HGETALL", server.OnlyKey())); after != before {
		t.Errorf("%s has become %s", before, after)
	}
	b.want([]outcome{{Value: "b"}}, "get:a")
	server.Do(0, "CONFIG", "SET", "maxmemory", "0")
	b.want([]outcome{{}, {Value: "c"}}, "set:a:c", "get:a")
}

func TestReadOnlyReplica(t *testing.T) {
	server := redistest.Start(t)
	_, b := outageSite(t, server)
	server.Do(0, "REPLICAOF", "127.0.0.1", "1") // no such master: the data stays, and is read-only
	b.want([]outcome{{Value: "b"}, {Err: "ErrUnavailable"}, {Err: "ErrUnavailable"}}, "get:a", "set:a:c", "destroy")
	server.Do(0, "REPLICAOF", "NO", "ONE")
	b.must("set:a:c")
}

// A client that hangs up is no outage: the error is the context's own, and says if a command may have been carried
// out. What takes longer than the timeout is one, whatever the context says later.
func TestClientHangsUp(t *testing.T) {
	server := redistest.Start(t)
	lost := redistest.Vanished(t)
	app := func(redis pycket.RedisSettings) *pycket.App {
		return newApp(t, pycket.Settings{Secrets: []string{secret}, Redis: redis})
	}
	for name, test := range map[string]struct {
		redis pycket.RedisSettings
		held  bool // the command is written, and not answered
	}{
		"connecting":            {pycket.RedisSettings{URL: "redis://" + lost}, false},
		"connecting to cluster": {pycket.RedisSettings{Cluster: []string{lost}}, false},
		"waiting":               {pycket.RedisSettings{}, true},
	} {
		for _, value := range []any{1, strings.Repeat("x", 20<<10)} { // over the shared connection, and over another
			for _, cause := range []error{context.Canceled, context.DeadlineExceeded} {
				t.Run(fmt.Sprintf("%s, %T, %v", name, value, cause), func(t *testing.T) {
					redis := test.redis
					redis.Timeout = 4 * bound
					var v *visitor
					if test.held {
						proxy := redistest.NewProxy(t, server)
						redis.URL = proxy.URL()
						v = newVisitor(t, app(redis))
						v.do(func(s *pycket.SessionManager) { s.Set("a", value) }) // the connection is there
						proxy.Hold()
						defer proxy.Pass()
					}
					ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
					defer cancel()
					if cause == context.Canceled {
						ctx, cancel = context.WithCancel(t.Context())
						time.AfterFunc(50*time.Millisecond, cancel)
					}
					r := httptest.NewRequestWithContext(ctx, "GET", "/", nil)
					use := app(redis)
					if v != nil {
						use = v.app
						r.AddCookie(v.cookie)
					}
					var err error
					began := time.Now()
					handle(use, r, func(s *pycket.SessionManager) { err = s.Set("a", value) })
					wantError(t, err, cause, `set "a"`)
					if errors.Is(err, pycket.ErrUnavailable) {
						t.Errorf("%v is an outage", err)
					}
					if said := strings.Contains(fmt.Sprint(err), "may have been carried out"); said != test.held {
						t.Errorf("%v, and the command was written: %v", err, test.held)
					}
					if took := time.Since(began); took > bound {
						t.Errorf("it took %v", took)
					}
					if value == 1 {
						err := use.Ping(ctx)
						if wantError(t, err, cause, "ping"); errors.Is(err, pycket.ErrUnavailable) {
							t.Errorf("%v is an outage", err)
						}
					}
				})
			}
		}
	}
}

// Connections break all the time, under load: what was acknowledged is there, what was not may be, and no
// answer ever reaches another request.
func TestRandomCuts(t *testing.T) {
	const visitors = 16
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		wantCuts := 10_000
		if server.Embedded() {
			wantCuts = 1_000 // miniredis is slow
		}
		proxy := redistest.NewProxy(t, server)
		proxy.CutRandomly(1)
		s := settings(server)
		s.Redis.URL = proxy.URL()
		app := newApp(t, s)
		var failures, successes atomic.Int64
		parallel(visitors, func(i int) {
			v := newVisitor(t, app)
			// What "value" and "count" may be. A write that was not acknowledged may be carried out at any
			// time, even after later ones: it may lie in a buffer on the way.
			possible, acknowledged := map[string]bool{}, ""
			var least, most int64
			check := func(s *pycket.SessionManager) bool {
				value, err := pycket.Get(s, "value", "")
				if err != nil {
					return false
				}
				count, err := pycket.Get(s, "count", int64(0))
				if err != nil {
					return false
				}
				if !possible[value] && value != acknowledged {
					t.Errorf("visitor %d reads %q, which can't be", i, value)
				}
				if count < least || count > most {
					t.Errorf("visitor %d counts %d, and it must be %d to %d", i, count, least, most)
				}
				least = count // what was read is sure
				return true
			}
			for n := 0; proxy.Cuts() < wantCuts; n++ {
				v.do(func(s *pycket.SessionManager) {
					value := fmt.Sprintf("%d of visitor %d", n, i)
					if err := s.Set("value", value); err == nil {
						acknowledged = value
						successes.Add(1)
					} else {
						possible[value] = true
						failures.Add(1)
					}
					most++
					if sum, err := s.Increment("count", 1); err == nil {
						least++
						if sum < least || sum > most {
							t.Errorf("visitor %d counts %d, and it must be %d to %d", i, sum, least, most)
						}
						least = sum
					}
				})
				v.do(func(s *pycket.SessionManager) { check(s) })
			}
			proxy.Calm()
			for range 100 { // the last connection may break still
				sure := false
				v.do(func(s *pycket.SessionManager) { sure = check(s) })
				if sure {
					return
				}
			}
			t.Errorf("visitor %d can't read after the last cut", i)
		})
		t.Logf("%d cuts, %d writes acknowledged, %d not", proxy.Cuts(), successes.Load(), failures.Load())
		if successes.Load() == 0 {
			t.Error("nothing worked")
		}
	})
}

// An answer that does not come in time fails everything behind it, in time, and the connection is replaced.
func TestNoAnswerInTime(t *testing.T) {
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		proxy, s := proxied(t, server)
		s.Redis.Timeout = shortTimeout
		app := newApp(t, s)
		v := newVisitor(t, app)
		proxy.Hold()
		parallel(8, func(i int) {
			v.do(func(s *pycket.SessionManager) {
				_, err := s.Increment("n", 1)
				wantError(t, err, pycket.ErrUnavailable, "may have been carried out")
			})
			v.do(func(s *pycket.SessionManager) {
				_, err := pycket.Get(s, "made", false)
				wantError(t, err, pycket.ErrUnavailable)
			})
		})
		proxy.Pass()
		v.do(func(s *pycket.SessionManager) {
			if made, err := pycket.Get(s, "made", false); !made || err != nil {
				t.Errorf("after: %v, %v", made, err)
			}
		})
	})
}

// While Redis is down, requests fail fast and knock together, at most once in a while.
func TestReconnecting(t *testing.T) {
	server := redistest.StartEmbedded(t)
	proxy := redistest.NewProxy(t, server)
	server.Kill()
	app := newApp(t, pycket.Settings{Secrets: []string{secret}, Redis: pycket.RedisSettings{URL: proxy.URL(), Timeout: timeout}})
	began := time.Now()
	var failed atomic.Int64
	parallel(64, func(int) {
		for range 10 {
			handle(app, httptest.NewRequest("GET", "/", nil), func(s *pycket.SessionManager) {
				wantError(t, s.Set("a", 1), pycket.ErrUnavailable)
				failed.Add(1)
			})
		}
	})
	// The pauses between two tries grow to 50 to 100 ms, by way of 2.5, 5, 10, 20, 40.
	if most := 6 + int(time.Since(began)/(50*time.Millisecond)); proxy.Connections() > most {
		t.Errorf("%d requests dialed %d times, and may at most %d times", failed.Load(), proxy.Connections(), most)
	}
}

// Close waits for what is on its way, and leaves nothing behind.
func TestCloseWaits(t *testing.T) {
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		proxy, s := proxied(t, server)
		ignore := goleak.IgnoreCurrent()
		app := newApp(t, s)
		v := newVisitor(t, app)
		proxy.Hold()
		set := make(chan error, 1)
		go v.do(func(s *pycket.SessionManager) { set <- s.Set("a", 1) })
		proxy.AwaitCommands(1)
		closed := make(chan struct{})
		go func() {
			defer close(closed)
			app.Close()
		}()
		for stacks := make([]byte, 1<<20); !bytes.Contains(stacks[:runtime.Stack(stacks, true)], []byte("(*lane).close(")); {
			runtime.Gosched() // until Close has begun
		}
		select {
		case <-closed:
			t.Error("Close has not waited")
		default:
		}
		proxy.Pass()
		<-closed
		if err := <-set; err != nil { // as it does if Close hangs up before the answer
			t.Errorf("what was on its way: %v", err)
		}
		goleak.VerifyNone(t, ignore)
	})
}

// After an outage in the middle of a load, and Close, no goroutine and no connection is left.
func TestNothingIsLeftBehind(t *testing.T) {
	server := redistest.Start(t)
	ignore := goleak.IgnoreCurrent()
	app, err := heard.newApp(settings(server))
	if err != nil {
		t.Fatal(err)
	}
	visitors := make([]*visitor, 8)
	for i := range visitors {
		visitors[i] = newVisitor(t, app)
	}
	load := func() {
		parallel(len(visitors), func(i int) {
			for range 20 {
				visitors[i].do(func(s *pycket.SessionManager) {
					s.Set("a", string(make([]byte, 20<<10))) // large: a connection of its own
					s.Set("b", 1)
				})
			}
		})
	}
	load()
	server.Do(0, "CLIENT", "KILL", "TYPE", "normal")
	load()
	app.Close()
	goleak.VerifyNone(t, ignore)
	for range 500 { // Redis takes note of closed connections when it gets to it
		if list := server.Do(0, "CLIENT", "LIST").([]byte); len(list) > 0 && bytes.Count(list, []byte("\n")) == 1 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("connections are left:\n%s", server.Do(0, "CLIENT", "LIST"))
}

// After a failover behind one address, the connection to the old master is given up, under load too.
func TestFailoverBehindOneAddress(t *testing.T) {
	old, next := redistest.Start(t), redistest.Start(t)
	proxy := redistest.NewProxy(t, old)
	app := newApp(t, pycket.Settings{Secrets: []string{secret}, Redis: pycket.RedisSettings{URL: proxy.URL(), Timeout: timeout}})
	v := newVisitor(t, app)
	old.Do(0, "REPLICAOF", "127.0.0.1", "1")
	proxy.Upstream(next.Addr)
	parallel(8, func(int) {
		var err error
		for range 20 { // the first are told that it is read-only, and the next go to the new one
			v.do(func(s *pycket.SessionManager) { err = s.Set("a", 1) })
			if err == nil {
				return
			}
		}
		t.Errorf("after the failover: %v", err)
	})
}

// A request that went away leaves its reply behind; that does not hide that the connection has died.
func TestAbandonedThenRestarted(t *testing.T) {
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		proxy := redistest.NewProxy(t, server)
		app := newApp(t, pycket.Settings{Secrets: []string{secret}, Redis: pycket.RedisSettings{URL: proxy.URL(), Timeout: timeout}})
		v := newVisitor(t, app)
		proxy.Hold()
		ctx, cancel := context.WithCancel(t.Context())
		r := httptest.NewRequestWithContext(ctx, "GET", "/", nil)
		r.AddCookie(v.cookie)
		left := make(chan error)
		go handle(app, r, func(s *pycket.SessionManager) { _, err := s.Keys(); left <- err })
		proxy.AwaitCommands(1)
		cancel()
		if err := <-left; err == nil {
			t.Error("no error")
		}
		proxy.DropReply() // the connection breaks with the answer that nobody waits for
		proxy.Pass()
		time.Sleep(50 * time.Millisecond) // idle
		v.do(func(s *pycket.SessionManager) {
			if err := s.Set("a", 1); err != nil {
				t.Errorf("the next request: %v", err)
			}
		})
	})
}

// wantInTime wants an operation to fail in time, with a timeout of shortTimeout.
func wantInTime(t *testing.T, name string, operation func() error) {
	t.Helper()
	began := time.Now()
	wantError(t, operation(), pycket.ErrUnavailable)
	if took := time.Since(began); took > bound {
		t.Errorf("%s took %v, and the timeout is %v", name, took, shortTimeout)
	}
}

// Connecting is bounded by the timeout, too, where nobody says that it is refused.
func TestConnectingHangs(t *testing.T) {
	lost := redistest.Vanished(t)
	slots := redistest.Fake(t, func(words []string) string { // a cluster of one server, which is lost
		host, port, _ := net.SplitHostPort(lost)
		return fmt.Sprintf("*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$%d\r\n%s\r\n:%s\r\n", len(host), host, port)
	})
	for name, redis := range map[string]pycket.RedisSettings{
		"single":         {URL: "redis://" + lost},
		"TLS":            {URL: "rediss://" + lost},
		"cluster":        {Cluster: []string{slots}},
		"cluster's seed": {Cluster: []string{lost}},
	} {
		t.Run(name, func(t *testing.T) {
			redis.Timeout = shortTimeout
			app := newApp(t, pycket.Settings{Secrets: []string{secret}, Redis: redis})
			for _, value := range []any{1, string(make([]byte, 20<<10))} { // over the shared connection, and over another
				wantInTime(t, "Set", func() (err error) {
					handle(app, httptest.NewRequest("GET", "/", nil), func(s *pycket.SessionManager) { err = s.Set("a", value) })
					return err
				})
			}
			wantInTime(t, "Ping", func() error { return app.Ping(t.Context()) })
			wantInTime(t, "RevokeUser", func() error { _, err := app.RevokeUser(t.Context(), "ann"); return err })
			go app.Ping(t.Context())
			began := time.Now()
			app.Close()
			if took := time.Since(began); took > bound {
				t.Errorf("Close took %v, and the timeout is %v", took, shortTimeout)
			}
		})
	}
}

// Who came while somebody else tried to connect has his own time: the next try may be quick.
func TestLateForSlowConnecting(t *testing.T) {
	const timeout = 2 * time.Second
	server := redistest.Start(t)
	lost := redistest.VanishedListener(t)
	app := newApp(t, pycket.Settings{Secrets: []string{secret}, Redis: pycket.RedisSettings{URL: "redis://" + lost.Addr().String(), Timeout: timeout}})
	first := make(chan struct{})
	go func() {
		defer close(first)
		handle(app, httptest.NewRequest("GET", "/", nil), func(s *pycket.SessionManager) { s.Set("a", 1) })
	}()
	time.Sleep(timeout * 7 / 10)
	go func() { // it is there again; the first knocks again when it is too late
		for {
			c, err := lost.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				redis, err := net.Dial("tcp", server.Addr)
				if err != nil {
					return
				}
				defer redis.Close()
				go io.Copy(redis, c)
				io.Copy(c, redis)
			}()
		}
	}()
	handle(app, httptest.NewRequest("GET", "/", nil), func(s *pycket.SessionManager) {
		noError(t, s.Set("a", 1))
	})
	<-first
}

// A connection that goes silent is replaced, although every context ends before the timeout, so that nobody waits
// until then.
func TestConnectionGoesSilent(t *testing.T) {
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		for name, pause := range map[string]time.Duration{"under load": 0, "now and then": 100 * time.Millisecond} {
			t.Run(name, func(t *testing.T) {
				const timeout, patience = 500 * time.Millisecond, 100 * time.Millisecond
				proxy := redistest.NewProxy(t, server)
				app := newApp(t, pycket.Settings{Secrets: []string{secret}, Redis: pycket.RedisSettings{URL: proxy.URL(), Timeout: timeout}})
				v := newVisitor(t, app)
				proxy.Mute()
				began := time.Now()
				set := func() (err error) {
					ctx, cancel := context.WithTimeout(t.Context(), patience)
					defer cancel()
					r := httptest.NewRequestWithContext(ctx, "GET", "/", nil)
					r.AddCookie(v.cookie)
					handle(app, r, func(s *pycket.SessionManager) { err = s.Set("a", 1) })
					return err
				}
				for set() != nil {
					if time.Since(began) > bound {
						t.Fatalf("nothing has worked for %v, and the timeout is %v", bound, timeout)
					}
					time.Sleep(pause)
				}
				if got := proxy.Connections(); got != 2 {
					t.Errorf("%d connections were opened, want 2", got)
				}
				for range 10 {
					if err := set(); err != nil {
						t.Errorf("after: %v", err)
					}
				}
			})
		}
	})
}

// An answer that comes late, to calls that nobody waits for any more, does not break the connection.
func TestLateAnswers(t *testing.T) {
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		proxy := redistest.NewProxy(t, server)
		app := newApp(t, pycket.Settings{Secrets: []string{secret}, Redis: pycket.RedisSettings{URL: proxy.URL(), Timeout: shortTimeout}})
		v := newVisitor(t, app)
		proxy.Hold()
		ctx, cancel := context.WithCancel(t.Context())
		left := make(chan error)
		go func() {
			r := httptest.NewRequestWithContext(ctx, "GET", "/", nil)
			r.AddCookie(v.cookie)
			handle(app, r, func(s *pycket.SessionManager) { left <- s.Set("a", 1) })
		}()
		proxy.AwaitCommands(1)
		cancel()
		<-left
		proxy.Pass()
		time.Sleep(2 * shortTimeout)
		v.do(func(s *pycket.SessionManager) {
			if a, err := pycket.Get(s, "a", 0); a != 1 || err != nil {
				t.Errorf("%v, %v", a, err)
			}
		})
		if got := proxy.Connections(); got != 1 {
			t.Errorf("%d connections were opened, want 1", got)
		}
	})
}

// An answer that comes twice is nobody's the second time, and everybody still gets his own.
func TestAnswerComesTwice(t *testing.T) {
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		for _, after := range []time.Duration{0, 2 * time.Millisecond} { // with the first, and by itself
			for _, size := range []int{1, 20 << 10} { // over the shared connection, and over another
				t.Run(fmt.Sprint(after, size), func(t *testing.T) {
					proxy, s := proxied(t, server)
					s.Redis.MaxConnections = 2
					app := newApp(t, s)
					ann, bob := newVisitor(t, app), newVisitor(t, app)
					set := func(v *visitor, value string) {
						v.do(func(s *pycket.SessionManager) {
							noError(t, s.Set("a", strings.Repeat(value, size)))
						})
					}
					get := func(v *visitor) (first string) {
						v.do(func(s *pycket.SessionManager) {
							value, err := pycket.Get(s, "a", "")
							if len(value) != size || err != nil {
								t.Errorf("%d bytes, %v", len(value), err)
							}
							first = value[:min(1, len(value))]
						})
						return first
					}
					set(ann, "a")
					set(bob, "b")
					for i := range 10 {
						again := make(<-chan struct{})
						if after == 0 {
							proxy.Twice()
						} else {
							again = proxy.TwiceAfter(after)
						}
						if i%2 == 0 {
							get(ann)
						} else {
							set(ann, "a")
						}
						if after > 0 {
							<-again
						}
						for range 3 {
							if got := get(bob) + get(ann); got != "ba" {
								t.Fatalf("Bob and Ann read %q", got)
							}
						}
					}
				})
			}
		}
	})
}

// Who writes, for himself or for others, may go though nobody reads what he writes.
func TestWritingBlocks(t *testing.T) {
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		for name, test := range map[string]struct {
			size, callers, times int
			patience             time.Duration
		}{
			"shared connection": {15 << 10, 32, 32, 20 * time.Millisecond}, // 15 MiB, which no kernel keeps
			"another":           {8 << 20, 2, 1, 2 * time.Second},
		} {
			t.Run(name, func(t *testing.T) {
				proxy := redistest.NewProxy(t, server)
				app := newApp(t, pycket.Settings{
					Secrets: []string{secret}, Redis: pycket.RedisSettings{URL: proxy.URL(), Timeout: 4 * bound},
					MaxValueBytes: 16 << 20, MaxSessionBytes: 64 << 20,
				})
				v := newVisitor(t, app)
				value := strings.Repeat("x", test.size)
				if name == "another" { // over connections that are there: a new one would wait for an answer first
					proxy.Hold()
					warm := make(chan struct{})
					go func() {
						defer close(warm)
						parallel(2, func(i int) {
							v.do(func(s *pycket.SessionManager) { s.Set(fmt.Sprint("a", i), strings.Repeat("x", 20<<10)) })
							v.do(func(s *pycket.SessionManager) { s.Delete(fmt.Sprint("a", i)) })
						})
					}()
					proxy.AwaitCommands(4) // both select their databases
					proxy.Pass()
					<-warm
				}
				proxy.Clog()
				parallel(test.callers, func(i int) {
					for range test.times {
						ctx, cancel := context.WithTimeout(t.Context(), test.patience)
						r := httptest.NewRequestWithContext(ctx, "GET", "/", nil)
						r.AddCookie(v.cookie)
						began := time.Now()
						handle(app, r, func(s *pycket.SessionManager) {
							// One command on the connection is still read.
							if err := s.Set(fmt.Sprint("a", i), value); err != nil && !errors.Is(err, context.DeadlineExceeded) {
								t.Error(err)
							}
						})
						cancel()
						if took := time.Since(began); took > bound {
							t.Errorf("it took %v to notice that the context has ended", took)
							return
						}
					}
				})
				proxy.Pass() // what was begun is carried out
				for range 1000 {
					set := 0
					v.do(func(s *pycket.SessionManager) {
						keys, err := s.Keys()
						if err != nil {
							t.Fatal(err)
						}
						set = len(keys) - 1
					})
					if set == test.callers {
						return
					}
					time.Sleep(10 * time.Millisecond)
				}
				t.Error("what was begun is not carried out")
			})
		}
	})
}

// Large values on a slow network keep those who read them, and nobody else.
func TestLargeAnswers(t *testing.T) {
	const readers, size, rate = 32, 256 << 10, 4 << 20 // all at once take two seconds
	server := redistest.Start(t)
	writer := newApp(t, settings(server))
	s := settings(server)
	proxy := redistest.NewProxy(t, server)
	proxy.Narrow(rate)
	s.Redis.URL, s.Redis.Timeout = proxy.URL(), time.Second
	app := newApp(t, s)
	small := newVisitor(t, writer)
	small.app = app
	var large [4]*visitor
	for i := range large {
		large[i] = newVisitor(t, writer)
		large[i].do(func(s *pycket.SessionManager) {
			if err := s.Set("large", strings.Repeat("x", size)); err != nil {
				t.Fatal(err)
			}
		})
		large[i].app = app
		large[i].do(func(s *pycket.SessionManager) {
			if value, err := pycket.Get(s, "large", ""); len(value) != size || err != nil {
				t.Fatalf("%d bytes, %v", len(value), err)
			}
		})
	}
	var read atomic.Int64
	var wg sync.WaitGroup
	for i := range readers {
		wg.Go(func() {
			for began := time.Now(); time.Since(began) < 3*time.Second; {
				large[i%len(large)].do(func(s *pycket.SessionManager) {
					if value, err := pycket.Get(s, "large", ""); len(value) == size && err == nil {
						read.Add(1)
					}
				})
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	for n := 0; ; n++ {
		small.do(func(s *pycket.SessionManager) {
			if made, err := pycket.Get(s, "made", false); !made || err != nil {
				t.Errorf("the small read number %d: %v", n, err)
			}
			if err := s.Set("n", n); err != nil {
				t.Errorf("the small write number %d: %v", n, err)
			}
		})
		select {
		case <-done:
			t.Logf("%d large reads, %d small ones", read.Load(), n)
			return
		default:
		}
	}
}

// A refusal is why a Redis that answers refuses to be written to.
type refusal struct {
	name       string
	begin, end func(server *redistest.Server)
}

func refusals() []refusal {
	config := func(pairs ...any) func(*redistest.Server) {
		return func(server *redistest.Server) {
			for i := 0; i < len(pairs); i += 2 {
				server.Do(0, "CONFIG", "SET", pairs[i], pairs[i+1])
			}
		}
	}
	return []refusal{
		{"OOM", config("maxmemory-policy", "noeviction", "maxmemory", "1"), config("maxmemory", "0")},
		{"NOREPLICAS", config("min-replicas-to-write", 1), config("min-replicas-to-write", 0)},
		{"MISCONF", func(server *redistest.Server) {
			config("save", "3600 1")(server)
			path, _ := redis.Strings(server.Do(0, "CONFIG", "GET", "dir"), nil)
			os.Mkdir(filepath.Join(path[1], "dump.rdb"), 0o700) // where the file would be
			for {
				info, _ := redis.String(server.Do(0, "INFO", "persistence"), nil)
				if strings.Contains(info, "rdb_last_bgsave_status:err") {
					break
				}
				if strings.Contains(info, "rdb_bgsave_in_progress:0") {
					server.Do(0, "BGSAVE")
				}
				time.Sleep(5 * time.Millisecond)
			}
		}, config("save", "")},
		{"READONLY",
			func(server *redistest.Server) { server.Do(0, "REPLICAOF", "127.0.0.1", "1") }, // no such master: the data stays
			func(server *redistest.Server) { server.Do(0, "REPLICAOF", "NO", "ONE") },
		},
	}
}

// refuse runs a test against a Redis, and a cluster, that begins to refuse writes when the test says so.
func refuse(t *testing.T, names string, test func(t *testing.T, server *redistest.Server, begin, end func())) {
	t.Helper()
	for _, r := range refusals() {
		if !strings.Contains(names, r.name) {
			continue
		}
		t.Run(r.name, func(t *testing.T) {
			t.Run("redis", func(t *testing.T) {
				server := redistest.Start(t)
				test(t, server, func() { r.begin(server) }, func() { r.end(server) })
			})
			if r.name == "READONLY" { // where a replica of a cluster says where its master is
				return
			}
			t.Run("cluster", func(t *testing.T) {
				server := redistest.SharedCluster(t)
				each := func(f func(*redistest.Server)) {
					for _, node := range server.Nodes() {
						f(node)
					}
				}
				t.Cleanup(func() { each(r.end) })
				test(t, server, func() { each(r.begin) }, func() { each(r.end) })
			})
		})
	}
}

// overdue makes the next use of a session renew its timeout and, in a cluster, its place on its account's list.
func overdue(server *redistest.Server, key string) {
	half := 12 * time.Hour
	server.Do(0, "PEXPIRE", key, half.Milliseconds())
	if server.Nodes() != nil {
		server.Do(0, "HSET", key, "pycket:listed", time.Now().Add(half).UnixMilli())
		server.Do(0, "HDEL", key, "pycket:asked")
	}
}

// To end a session takes no memory: nobody stays signed in because Redis is full.
func TestEndingNeedsNoMemory(t *testing.T) {
	for name, end := range map[string]func(site *site, b *browser, handle string) error{
		"destroy": func(_ *site, b *browser, _ string) error {
			if a := b.want([]outcome{{}}, "destroy"); !a.setsCookie() || b.cookie() != "" {
				return errors.New("the cookie stays")
			}
			return nil
		},
		"revoke": func(site *site, _ *browser, handle string) error { return site.app.Revoke(site.t.Context(), handle) },
		"revoke user": func(site *site, _ *browser, _ string) error {
			n, err := site.app.RevokeUser(site.t.Context(), "ann")
			if n != 1 {
				err = errors.Join(err, fmt.Errorf("%d were ended", n))
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			refuse(t, "OOM", func(t *testing.T, server *redistest.Server, begin, recover func()) {
				site := newSite(t, settings(server))
				b := site.browser()
				b.must("login:ann", "set:a:b", "rotate", "note:x:y", "add:i:t")
				late, old := b.tab(), b.cookie()
				key := keyOf(idOf(t, old))
				server.Do(0, "HDEL", key, "pycket:ended") // as if never rotated: the mark is that of the end
				overdue(server, key)
				begin()
				_, list := site.whileHeld(late, []string{"hold", "set:a:late"}, func() {
					noError(t, end(site, b, strings.Trim(strings.TrimPrefix(key, "pycket:s:"), "{}")))
				})
				if list[1].Err != "ErrGone" {
					t.Errorf("a late write: %v", list)
				}
				wantAnonymous(t, site, old)
				recover()
				late.want([]outcome{{Err: "ErrGone"}}, "set:a:late") // so the mark was made, too
				wantAnonymous(t, site, old)
				wantNothingLeft(t, server)
			})
		})
	}
}

// Without room for the mark, too, a session ends, and a late write starts a fresh one at most.
func TestEndingWithoutMark(t *testing.T) {
	server := redistest.Start(t)
	site := newSite(t, settings(server))
	b := site.browser()
	b.must("login:ann", "set:a:b", "rotate", "note:x:y")
	late, old := b.tab(), b.cookie()
	key := keyOf(idOf(t, old))
	server.Do(0, "HDEL", key, "pycket:ended") // as if never rotated
	server.Do(0, "ACL", "SETUSER", "default", "-hset")
	b.must("destroy")
	if n := server.Size(); n != 0 || b.cookie() != "" {
		t.Errorf("%d keys stand; the cookie: %q", n, b.cookie())
	}
	server.Do(0, "ACL", "SETUSER", "default", "+hset")
	late.want([]outcome{{}, {Value: ""}}, "set:c:late", "get:a")
	wantAnonymous(t, site, old)
	if id := idOf(t, late.cookie()); keyOf(id) == key {
		t.Error("the old session stands again")
	}
}

// A login takes memory, and is refused like every other write.
func TestLoginNeedsMemory(t *testing.T) {
	refuse(t, "OOM", func(t *testing.T, server *redistest.Server, begin, recover func()) {
		site := newSite(t, settings(server))
		b := site.browser()
		b.must("login:ann", "set:a:b")
		key := keyOf(idOf(t, b.cookie()))
		before := server.Hash(0, key)
		begin()
		for _, user := range []string{"ann", "bob"} {
			b.want([]outcome{{Err: "ErrUnavailable"}}, "login:"+user)
			b.with("").want([]outcome{{Err: "ErrUnavailable"}}, "login:"+user)
		}
		recover()
		if diff := cmp.Diff(before, server.Hash(0, key)); diff != "" {
			t.Errorf("(-before +after):\n%s", diff)
		}
		b.want([]outcome{{Value: "b"}, {Value: "ann"}}, "get:a", "user")
	})
}

// A Redis that refuses writes still answers reads, though the idle timeout should be renewed by them; and when it
// takes writes again, it is.
func TestReadsWhileWritesAreRefused(t *testing.T) {
	refuse(t, "OOM NOREPLICAS MISCONF READONLY", func(t *testing.T, server *redistest.Server, begin, recover func()) {
		s := settings(server)
		s.AbsoluteTimeout = 48 * time.Hour
		site := newSite(t, s)
		b, noted := site.browser(), site.browser()
		b.must("login:ann", "set:a:b")
		noted.must("login:ann", "note:x:y", "add:i:t")
		keys := []string{keyOf(idOf(t, b.cookie())), keyOf(idOf(t, noted.cookie()))}
		began := func(ago time.Duration) {
			for _, key := range keys {
				record := []byte(server.Hash(0, key)["pycket:id"])
				copy(record[22:35], fmt.Sprintf("%013d", time.Now().Add(-ago).UnixMilli()))
				server.Do(0, "HSET", key, "pycket:id", record)
			}
		}
		for _, key := range keys {
			overdue(server, key)
		}
		begin()
		for range 2 { // the first may take longer than the next
			for op, want := range map[string]any{
				"get:a": "b", "has:a": true, "keys": []any{"a"}, "user": "ann", "authtime": true,
				"peek:x": "", "nhas:x": false, "nkeys": []any{}, "take:x": "", "drain": "",
			} {
				b.want([]outcome{{Value: want}}, op)
			}
			for op, want := range map[string]any{"peek:x": "y", "nhas:x": true, "nkeys": []any{"x"}, "user": "ann"} {
				noted.want([]outcome{{Value: want}}, op)
			}
		}
		if infos, err := site.app.Sessions(t.Context(), "ann"); len(infos) != 2 || err != nil {
			t.Errorf("%d sessions: %v", len(infos), err)
		}
		recover()

		awaitRenewal := func() {
			t.Helper()
			for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
				b.must("get:a")
				if left := server.Do(0, "PTTL", keys[0]).(int64); left > (23 * time.Hour).Milliseconds() {
					return
				}
				if time.Since(began) > bound {
					t.Fatal("the idle timeout is not renewed")
				}
			}
		}
		overdue(server, keys[0])
		awaitRenewal()
		noted.want([]outcome{{Value: "y"}, {Value: "i=t"}}, "take:x", "drain")

		began(49 * time.Hour)
		begin()
		for range 2 {
			b.want([]outcome{{Value: ""}, {Value: ""}, {Value: ""}}, "user", "get:a", "take:x")
			b.tab().want([]outcome{{Value: []any{}}}, "keys")
		}
		recover()
	})
}

// What would be taken stays where it is, and is not handed out.
func TestTakesWhileWritesAreRefused(t *testing.T) {
	refuse(t, "NOREPLICAS MISCONF READONLY", func(t *testing.T, server *redistest.Server, begin, recover func()) {
		site := newSite(t, settings(server))
		b := site.browser()
		b.must("note:x:y", "add:i:t")
		for range 2 {
			overdue(server, keyOf(idOf(t, b.cookie())))
			begin()
			b.want([]outcome{{Value: "", Err: "ErrUnavailable"}, {Value: "", Err: "ErrUnavailable"}}, "take:x", "drain")
			recover()
		}
		b.want([]outcome{{Value: "y"}, {Value: "i=t"}}, "take:x", "drain")
	})
}

// After a failover behind one address, a read is answered by the old master, which refuses its renewal, and leads
// to the new one.
func TestReadsFindTheMaster(t *testing.T) {
	old, next := redistest.Start(t), redistest.Start(t)
	proxy := redistest.NewProxy(t, old)
	s := settings(old)
	s.Redis.URL = proxy.URL()
	site := newSite(t, s)
	b := site.browser()
	b.must("set:a:old")
	key := old.OnlyKey()
	for name, value := range old.Hash(0, key) {
		next.Do(0, "HSET", key, name, value)
	}
	next.Do(0, "HSET", key, "a", `"next"`)
	overdue(old, key)
	overdue(next, key)
	old.Do(0, "REPLICAOF", "127.0.0.1", "1")
	proxy.Upstream(next.Addr)
	for began := time.Now(); ; {
		if value := b.must("get:a")[0]; value == "next" {
			break
		}
		if time.Since(began) > bound {
			t.Fatal("the old master is still asked")
		}
	}
}

// In a cluster, nobody signs in without a place on the account's list: not because Redis refuses to write it down
// either. Only a key that is not pycket's is passed over.
func TestLoginWhenItsListRefuses(t *testing.T) {
	for _, r := range refusals() {
		if r.name == "READONLY" {
			continue
		}
		t.Run(r.name, func(t *testing.T) {
			server := redistest.SharedCluster(t)
			a := newApart(t, server, settings(server))
			cookie, before := a.b.cookie(), server.Hash(0, a.session)
			node := server.NodeOf(a.list)
			t.Cleanup(func() { r.end(node) })
			r.begin(node)
			wantError(t, a.use(a.login), pycket.ErrUnavailable, "login", r.name)
			wantError(t, a.use(func(s *pycket.SessionManager) error { return s.SetUser(a.user) }), pycket.ErrUnavailable, "set user", r.name)
			if diff := cmp.Diff(before, server.Hash(0, a.session)); diff != "" || a.b.cookie() != cookie {
				t.Errorf("cookie changed: %v; (-before +after):\n%s", a.b.cookie() != cookie, diff)
			}
			r.end(node)
			noError(t, a.use(a.login))
			a.covered()
			if n, err := a.app.RevokeUser(t.Context(), a.user); n != 1 || err != nil {
				t.Errorf("%d were ended: %v", n, err)
			}
		})
	}
	t.Run("wrong type", func(t *testing.T) {
		server := redistest.SharedCluster(t)
		a := newApart(t, server, settings(server))
		server.Do(0, "SET", a.list, "not pycket's")
		noError(t, a.use(a.login))
	})
}

// An answer that no script gives is an error, and no reason to run the script again.
func TestUnknownVerdict(t *testing.T) {
	var run atomic.Int64
	fake := redistest.Fake(t, func(words []string) string {
		if words[0] == "EVALSHA" {
			run.Add(1)
			return ":99\r\n"
		}
		return "+OK\r\n"
	})
	server := redistest.Start(t)
	b := newSite(t, settings(server)).browser()
	b.must("set:a:b")
	s := settings(server)
	s.Redis.URL = "redis://" + fake
	site := newSite(t, s)
	for _, visitor := range []*browser{site.receive(b), site.browser()} {
		for _, op := range everyOperation {
			run.Store(0)
			a, list := visitor.tab().do(op)
			if n := run.Load(); n > 1 || n == 1 && !strings.Contains(list[0].Err, "malformed") || a.setsCookie() {
				t.Errorf("%s: %v, after %d runs; cookie set: %v", op, list, n, a.setsCookie())
			}
		}
	}
	wantError(t, site.app.Revoke(t.Context(), "0123456789abcdef"), nil, "revoke", "malformed")
}

// A server that refuses writes may be one that others have left: it does not say that nobody was signed in.
func TestRevokeUserWhileWritesAreRefused(t *testing.T) {
	refuse(t, "NOREPLICAS MISCONF READONLY", func(t *testing.T, server *redistest.Server, begin, recover func()) {
		site := newSite(t, settings(server))
		site.browser().must("login:ann")
		begin()
		for _, user := range []string{"ann", "bob"} {
			n, err := site.app.RevokeUser(t.Context(), user)
			wantError(t, err, pycket.ErrUnavailable, "revoke user")
			if n != 0 {
				t.Errorf("%d were ended", n)
			}
		}
		recover()
		if n, err := site.app.RevokeUser(t.Context(), "ann"); n != 1 || err != nil {
			t.Errorf("%d were ended: %v", n, err)
		}
	})
}

// After a renewal was refused, reads do without for a while, and take one round trip.
func TestReadsDoWithoutRenewal(t *testing.T) {
	server := redistest.Start(t)
	proxy := redistest.NewProxy(t, server)
	s := settings(server)
	s.Redis.URL = "redis://" + proxy.Addr
	b := newSite(t, s).browser()
	b.must("set:a:b")
	overdue(server, server.OnlyKey())
	server.Do(0, "CONFIG", "SET", "min-replicas-to-write", 1)
	for range 20 { // of which some come soon after another
		if proxy.Trips(func() { b.want([]outcome{{Value: "b"}}, "get:a") }) == 1 {
			return
		}
	}
	t.Error("every read tries to renew the session")
}
