package pycket_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
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
				_, err := s.Has("b")
				return errors.Join(err, s.Destroy())
			}
		}
		for name, destroy := range destroys {
			for _, read := range []bool{false, true} {
				for _, set := range []bool{false, true} {
					t.Run(fmt.Sprint(name, ", read before: ", read, ", set after: ", set), func(t *testing.T) {
						server.Do(0, "FLUSHALL")
						b := site.browser()
						b.must("set:a:before", "note:waiting:note")
						old := b.cookie()
						a := site.works(b, func(s *pycket.SessionManager, n *pycket.NotificationManager) error {
							if read {
								s.Has("a")
							}
							if err := destroy(t, s); err != nil || !set {
								return err
							}
							return n.Set("bye", "you have been logged out")
						})
						lines := a.header["Set-Cookie"]
						if len(lines) != 1 || b.cookie() == old || (b.cookie() == "") == set {
							t.Errorf("Set-Cookie: %q", lines)
						}
						if got := a.header.Get("Clear-Site-Data"); got == "" {
							t.Errorf("Clear-Site-Data: %q", got)
						}
						wantAnonymous(t, site, old)
						if !set {
							wantNothingLeft(t, server)
							return
						}
						b.want([]outcome{{Value: []any{}}, {Value: []any{"bye"}}}, "keys", "nkeys")
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
		for _, first := range []string{"rotate", "signin:ann:name:Ann"} {
			for name, loss := range losses {
				for _, second := range []string{"rotate", "signin:ann:name:Ann", "set:b:1", "get:a", "setuser:ann", "delete:b", "add:i:t"} {
					t.Run(fmt.Sprint(first, ", ", name, ", ", second), func(t *testing.T) {
						server.Do(0, "FLUSHALL")
						b := site.browser()
						b.must("set:a:before", "note:waiting:note")
						old := b.cookie()
						a := site.visit(b, func(w http.ResponseWriter, r *http.Request, _ *pycket.SessionManager, _ *pycket.NotificationManager) {
							h := operate(w, r)
							loss(proxy, true)
							_, err := h.do(w, strings.Split(first, ":"))
							wantError(t, err, pycket.ErrUnavailable)
							loss(proxy, false)
							for _, op := range []string{second, "get:a"} {
								if value, err := h.do(w, strings.Split(op, ":")); err != nil || op == "get:a" && value != "before" {
									t.Errorf("then %s: %v, %v", op, value, err)
								}
							}
						})
						rotates := name == "the answer is lost" || second == "rotate" || strings.HasPrefix(second, "signin")
						if n := len(a.header["Set-Cookie"]); rotates && (n != 1 || b.cookie() == old) || !rotates && n != 0 {
							t.Errorf("Set-Cookie: %q", a.header["Set-Cookie"])
						}
						user := ""
						if first != "rotate" && name == "the answer is lost" || strings.HasSuffix(second, ":ann") || strings.HasPrefix(second, "signin") {
							user = "ann"
						}
						b.want([]outcome{{Value: "note"}, {Value: "before"}, {Value: user}}, "take:waiting", "get:a", "user")
						if rotates {
							wantAnonymous(t, site, old)
						}
					})
				}
			}
		}
		// lost runs Rotate in a request that is not told what came of it, and goes on.
		lost := func(t *testing.T, drop func(on bool), then func(w http.ResponseWriter, s *pycket.SessionManager, b *browser)) (answer, *browser) {
			b := site.browser()
			b.must("set:a:before")
			return site.visit(b, func(w http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
				drop(true)
				wantError(t, s.Rotate(), pycket.ErrUnavailable)
				drop(false)
				then(w, s, b)
			}), b
		}
		t.Run("another request has rotated", func(t *testing.T) {
			a, _ := lost(t, proxy.DropCommands, func(_ http.ResponseWriter, s *pycket.SessionManager, b *browser) {
				b.tab().must("rotate")
				wantError(t, s.Rotate(), pycket.ErrGone)
				wantError(t, s.Set("a", "late"), pycket.ErrGone)
			})
			if a.setsCookie() {
				t.Errorf("Set-Cookie: %q", a.header["Set-Cookie"])
			}
		})
		t.Run("the headers are sent", func(t *testing.T) { // and with them the old id: there is no way back
			lost(t, proxy.DropReplies, func(w http.ResponseWriter, s *pycket.SessionManager, _ *browser) {
				w.WriteHeader(http.StatusOK)
				wantError(t, s.Set("a", "late"), pycket.ErrGone)
			})
		})
		t.Run("Destroy", func(t *testing.T) { // the id that was tried is not given to the session that begins then
			_, b := lost(t, proxy.DropCommands, func(_ http.ResponseWriter, s *pycket.SessionManager, _ *browser) {
				noError(t, errors.Join(s.Destroy(), s.Set("a", "after"), s.Rotate()))
			})
			b.want([]outcome{{Value: "after"}}, "get:a")
		})
	})
}

// A request that was not told what became of a write reads its session again: what it has read may be another user's.
func TestReadAfterLostAnswer(t *testing.T) {
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		proxy, s := proxied(t, server)
		site := newSite(t, s)
		knowScripts(t, site)
		for op, want := range map[string]string{
			"login:bob": "", "setuser:bob": "", "set:a:new": "new", "delete:a": "", "setmany:a:new": "new", "destroy": "",
			"clear": "", "pop:a": "",
		} {
			for name, loss := range losses {
				t.Run(op+", "+name, func(t *testing.T) {
					site.browser().must("set:a:old", op) // Redis has then seen the script
					b := site.browser()
					b.must("login:ann", "set:a:old")
					site.visit(b, func(w http.ResponseWriter, r *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
						h := operate(w, r)
						if _, err := h.do(w, []string{"get", "a"}); err != nil {
							t.Fatal(err)
						}
						loss(proxy, true)
						_, err := h.do(w, strings.Split(op, ":"))
						wantError(t, err, pycket.ErrUnavailable)
						loss(proxy, false)
						want := want
						if name == "the command is lost" {
							want = "old"
						}
						if got, _ := h.do(w, []string{"get", "a"}); got != want {
							t.Errorf("a is %q afterwards, want %q", got, want)
						}
					})
				})
			}
		}
	})
}

// Remember, and then a Rotate whose answer is lost: the browser gets the new id, for as long as Remember says.
func TestRememberThenLostRotate(t *testing.T) {
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		proxy, s := proxied(t, server)
		site := newSite(t, s)
		knowScripts(t, site)
		b := site.browser()
		b.must("login:ann", "set:a:b")
		a := site.visit(b, func(_ http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
			noError(t, s.Remember(30*24*time.Hour))
			proxy.DropReplies(true)
			wantError(t, s.Rotate(), pycket.ErrUnavailable)
			proxy.DropReplies(false)
		})
		if got := strings.Join(a.header["Set-Cookie"], "\n"); !strings.Contains(got, "Max-Age=2592000") {
			t.Errorf("Set-Cookie: %q", got)
		}
		b.want([]outcome{{Value: "b"}}, "get:a")
	})
}

// The cookie of a rotation or a login whose answer was lost, and that was carried out, lasts as long as the session's
// cookie should from then on: what Remember has set stays by Rotate, and ends when another user logs in.
func TestCookieLifetimeAgain(t *testing.T) {
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		for _, test := range []struct {
			days           float64
			op             string
			remembered, is string // the Set-Cookie's lifetime before and after
		}{
			{0, "rotate", "Max-Age=2592000", "Max-Age=2592000"},
			{10, "rotate", "Max-Age=2592000", "Max-Age=2592000"},
			{0, "login:ann", "Max-Age=2592000", "Max-Age=2592000"},
			{10, "login:ann", "Max-Age=2592000", "Max-Age=2592000"},
			{0, "login:bob", "Max-Age=2592000", ""},
			{10, "login:bob", "Max-Age=2592000", "Max-Age=864000"},
		} {
			t.Run(fmt.Sprint(test.op, ", ExpiresDays ", test.days), func(t *testing.T) {
				proxy, s := proxied(t, server)
				s.Cookies.ExpiresDays = test.days
				site := newSite(t, s)
				knowScripts(t, site)
				b := site.browser()
				lifetime := func(a answer) string {
					return regexp.MustCompile("Max-Age=[0-9]*").FindString(strings.Join(a.header["Set-Cookie"], "\n"))
				}
				if a, _ := b.do("login:ann", "remember"); lifetime(a) != test.remembered {
					t.Errorf("Set-Cookie: %q", a.header["Set-Cookie"])
				}
				old := b.cookie()
				a := site.visit(b, func(w http.ResponseWriter, r *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
					proxy.DropReplies(true)
					_, err := operate(w, r).do(w, strings.Split(test.op, ":"))
					wantError(t, err, pycket.ErrUnavailable)
					proxy.DropReplies(false)
					noError(t, s.Set("a", "then"))
				})
				if lifetime(a) != test.is || len(a.header["Set-Cookie"]) != 1 || b.cookie() == old {
					t.Errorf("Set-Cookie: %q, want %q", a.header["Set-Cookie"], test.is)
				}
				b.want([]outcome{{Value: "then"}}, "get:a")
			})
		}
	})
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
		site := unstartedSite(t, s)
		b := site.browser()
		b.must("inc:n:0", "set:a:b") // Redis then knows the script
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
				var hasty, patient sync.WaitGroup
				for range 4 {
					hasty.Go(func() {
						site.use(b.within(ctx), func(s *pycket.SessionManager) {
							_, err := s.Increment("n", 1)
							wantError(t, err, ctx.Err(), `increment "n"`, "may have been carried out")
							_, err = pycket.Get(s, "a", "")
							wantError(t, err, ctx.Err(), `get "a"`)
						})
					})
				}
				proxy.AwaitCommands(4)
				for range 4 {
					patient.Go(func() { b.want([]outcome{{Value: "b"}}, "get:a") })
				}
				proxy.AwaitCommands(8)
				end()
				hasty.Wait() // at once, although no answer comes
				proxy.Pass()
				patient.Wait()
			})
		}
		b.want([]outcome{{Value: 8.0}}, "number:n")
		equal(t, "connections", 1, proxy.Connections())
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

// Connections that died while idle cost nobody a request, not even one that is not safe to repeat, and no PING finds
// them.
func TestConnectionsDieWhileIdle(t *testing.T) {
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		proxy, s := proxied(t, server)
		b := newSite(t, s).browser()
		b.must("inc:n:0")
		for _, op := range []string{"get:a", "set:a:b", "inc:n:1", "update:n", "note:a:b", "take:a", "add:i:t", "drain", "rotate"} {
			parallel(8, func(int) { b.tab().try("slowupdate:n") })
			time.Sleep(100 * time.Millisecond) // idle
			proxy.Cut()
			b.must(op)
		}
		for _, op := range []string{"set:a:b", "get:a"} { // the data is gone: a fresh session
			parallel(32, func(int) { b.tab().try("slowupdate:n", "get:a") })
			server.Kill()
			proxy.Cut()
			server.Restart()
			for range 100 {
				b.must(op)
			}
		}
		if strings.Contains(strings.ToUpper(proxy.Sent()), "\r\nPING\r\n") {
			t.Error("a PING was sent")
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
			"handle": true, "expiry": true, "clear": false, "pop:a": false, "login:ann": false, "setuser:ann": false, "remember": false,
		} {
			t.Run(op, func(t *testing.T) {
				proxy, s := proxied(t, server)
				site := newSite(t, s)
				b := site.browser()
				b.must("set:a:b", "note:a:b", "add:i:t")
				cuts := proxy.Cuts()
				proxy.DropReply()
				var failure error
				site.failed = func(err error) { failure = err }
				b.do(op)
				switch {
				case repeatable && failure != nil:
					t.Error(failure)
				case !repeatable:
					wantError(t, failure, pycket.ErrUnavailable, "may have been carried out")
				}
				if proxy.Cuts() == cuts {
					t.Error("nothing was broken")
				}
			})
		}

		// What comes second in an operation: putting back is no more repeatable than taking, since others may take it in
		// between.
		proxy, s := proxied(t, server)
		site := newSite(t, s)
		stubbornly = proxy.DropReply
		for name, act := range map[string]func(s *pycket.SessionManager, n *pycket.NotificationManager) error{
			"Pop, put back": func(s *pycket.SessionManager, _ *pycket.NotificationManager) error {
				_, err := pycket.Pop(s, "a", stubborn{})
				return err
			},
			"Get, put back": func(_ *pycket.SessionManager, n *pycket.NotificationManager) error {
				_, err := pycket.Get(n, "a", stubborn{})
				return err
			},
			"Update": func(s *pycket.SessionManager, _ *pycket.NotificationManager) error {
				_, err := pycket.Update(s, "n", 0, func(n int) (int, error) {
					proxy.DropReply()
					return n + 1, nil
				})
				return err
			},
		} {
			b := site.browser()
			b.must("set:a:b", "note:a:b")
			cuts := proxy.Cuts()
			site.visit(b, func(_ http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, n *pycket.NotificationManager) {
				wantError(t, act(s, n), pycket.ErrUnavailable, "may have been carried out")
			})
			if proxy.Cuts() == cuts {
				t.Errorf("%s: nothing was broken", name)
			}
		}
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
		wantError(t, err, pycket.ErrUnavailable, "unknown command", "AUTH")
		if strings.Contains(fmt.Sprint(err), "PASSWORD") {
			t.Errorf("%v repeats the password", err)
		}
	}
}

// large is a value that goes over a connection of its own.
var large = strings.Repeat("x", 20<<10)

// A client that hangs up is no outage: the error is the context's own, and says if a command may have been carried
// out. What takes longer than the timeout is one, whatever the context says later.
func TestClientHangsUp(t *testing.T) {
	all := t
	server := redistest.Start(t)
	lost := redistest.Vanished(t)
	for name, redis := range map[string]pycket.RedisSettings{
		"connecting":            {URL: "redis://" + lost},
		"connecting to cluster": {Cluster: []string{lost}},
		"waiting":               {}, // the command is written, and not answered
	} {
		for _, value := range []string{"small", large} {
			for _, cause := range []error{context.Canceled, context.DeadlineExceeded} {
				t.Run(fmt.Sprintf("%s, %d, %v", name, len(value), cause), func(t *testing.T) {
					proxy, s := proxied(t, server)
					if name != "waiting" {
						s.Redis = redis
					}
					s.Redis.Timeout = 4 * bound
					site := unstartedSite(all, s) // to close one that connects takes until the timeout
					site.t = t
					b := site.browser()
					if name == "waiting" {
						b.must("set:a:" + value) // the connection is there
						proxy.Hold()
						defer proxy.Pass()
					}
					ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
					defer cancel()
					if cause == context.Canceled {
						ctx, cancel = context.WithCancel(t.Context())
						time.AfterFunc(50*time.Millisecond, cancel)
					}
					began := time.Now()
					wantCause := func(err error, op string) {
						t.Helper()
						wantError(t, err, cause, op)
						if errors.Is(err, pycket.ErrUnavailable) {
							t.Errorf("%v is an outage", err)
						}
						if took := time.Since(began); took > bound {
							t.Errorf("it took %v", took)
						}
					}
					site.use(b.within(ctx), func(s *pycket.SessionManager) {
						err := s.Set("a", value)
						wantCause(err, `set "a"`)
						if said := strings.Contains(fmt.Sprint(err), "may have been carried out"); said != (name == "waiting") {
							t.Errorf("%v, and the command was written: %v", err, !said)
						}
					})
					wantCause(site.app.Ping(ctx), "ping")
				})
			}
		}
	}
}

// Connections break all the time, under load: what was acknowledged is there, what was not may be, and no
// answer ever reaches another request.
func TestRandomCuts(t *testing.T) {
	const sites, browsers = 4, 16 // each site waits between its attempts to connect
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		wantCuts := 10_000 / sites
		if server.Embedded() {
			wantCuts = 1_000 / sites // miniredis is slow
		}
		var proxies [sites]*redistest.Proxy
		var served [sites]*site
		for i := range sites {
			var s pycket.Settings
			proxies[i], s = proxied(t, server)
			served[i] = unstartedSite(t, s)
			proxies[i].CutRandomly(uint64(i))
		}
		var failures, successes atomic.Int64
		parallel(sites*browsers, func(i int) {
			proxy, site := proxies[i%sites], served[i%sites]
			b := site.browser()
			for b.cookie() == "" {
				b.try("set:made:x")
			}
			// What "value" and "count" may be. A write that was not acknowledged may be carried out at any
			// time, even after later ones: it may lie in a buffer on the way.
			possible, acknowledged := map[string]bool{}, ""
			var least, most float64
			count := func(n float64) {
				if n < least || n > most {
					t.Errorf("browser %d counts %v, and it must be %v to %v", i, n, least, most)
				}
				least = n // what was read is sure
			}
			check := func() (sure bool) {
				_, list, err := b.try("get:value", "number:n")
				if err != nil || list[0].Err+list[1].Err != "" {
					return false
				}
				if value := list[0].Value.(string); !possible[value] && value != acknowledged {
					t.Errorf("browser %d reads %q, which can't be", i, value)
				}
				count(list[1].Value.(float64))
				return true
			}
			for n := 0; proxy.Cuts() < wantCuts; n++ {
				value := fmt.Sprintf("%d of browser %d", n, i)
				_, list, err := b.try("set:value:"+value, "inc:n:1")
				noError(t, err)
				if list[0].Err == "" {
					acknowledged = value
					successes.Add(1)
				} else {
					possible[value] = true
					failures.Add(1)
				}
				most++
				if list[1].Err == "" {
					least++
					count(list[1].Value.(float64))
				}
				check()
			}
			proxy.Calm()
			for range 100 { // the last connection may break still
				if check() {
					return
				}
			}
			t.Errorf("browser %d can't read after the last cut", i)
		})
		t.Logf("at least %d cuts, %d writes acknowledged, %d not", sites*wantCuts, successes.Load(), failures.Load())
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
		site := unstartedSite(t, s)
		b := site.browser()
		b.must("set:a:b")
		proxy.Hold()
		parallel(8, func(int) {
			site.use(b, func(s *pycket.SessionManager) {
				_, err := s.Increment("n", 1)
				wantError(t, err, pycket.ErrUnavailable, "may have been carried out")
			})
			b.want([]outcome{{Value: "", Err: "ErrUnavailable"}}, "get:a")
		})
		proxy.Pass()
		b.want([]outcome{{Value: "b"}}, "get:a")
	})
}

// While Redis is down, requests fail fast, and one connection attempt, now and then, serves them all.
func TestReconnecting(t *testing.T) {
	server := redistest.StartEmbedded(t)
	proxy, s := proxied(t, server)
	server.Kill()
	site := unstartedSite(t, s)
	began := time.Now()
	parallel(64, func(int) {
		for range 10 {
			site.browser().want([]outcome{{Err: "ErrUnavailable"}}, "set:a:b")
		}
	})
	// The pauses between two tries grow to 50 to 100 ms, by way of 2.5, 5, 10, 20, 40.
	if most := 6 + int(time.Since(began)/(50*time.Millisecond)); proxy.Connections() > most {
		t.Errorf("640 requests dialed %d times, and may at most %d times", proxy.Connections(), most)
	}
}

// Close waits for what is on its way, and leaves nothing behind.
func TestCloseWaits(t *testing.T) {
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		proxy, s := proxied(t, server)
		ignore := goleak.IgnoreCurrent()
		site := unstartedSite(t, s)
		b := site.browser()
		b.must("set:a:b")
		proxy.Hold()
		set, closed := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(set)
			b.want([]outcome{{}}, "set:a:c") // an error if Close hangs up before the answer
		}()
		proxy.AwaitCommands(1)
		go func() {
			defer close(closed)
			site.app.Close()
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
		<-set
		goleak.VerifyNone(t, ignore)
	})
}

// After an outage in the middle of a load, and Close, no goroutine and no connection is left.
func TestNothingIsLeftBehind(t *testing.T) {
	server := redistest.Start(t)
	ignore := goleak.IgnoreCurrent()
	site := unstartedSite(t, settings(server))
	load := func() {
		parallel(8, func(int) {
			b := site.browser()
			for range 20 {
				b.try("set:a:"+large, "set:b:1")
			}
		})
	}
	load()
	server.Do(0, "CLIENT", "KILL", "TYPE", "normal")
	load()
	site.app.Close()
	goleak.VerifyNone(t, ignore)
	for range 500 { // Redis takes note of closed connections when it gets to it
		if list := server.Do(0, "CLIENT", "LIST").([]byte); len(list) > 0 && bytes.Count(list, []byte("\n")) == 1 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("connections are left:\n%s", server.Do(0, "CLIENT", "LIST"))
}

// After a failover behind one address, the connection to the old master is given up, under load too: by writes, which
// it refuses, and by reads, which it answers, but whose renewal it refuses.
func TestFailoverBehindOneAddress(t *testing.T) {
	for name, ops := range map[string][]string{"writes": {"set:b:c", "get:a"}, "reads": {"get:a"}} {
		t.Run(name, func(t *testing.T) {
			old, next := redistest.Start(t), redistest.Start(t)
			proxy, s := proxied(t, old)
			b := newSite(t, s).browser()
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
			parallel(8, func(int) {
				began := time.Now()
				for n := 0; n < 20 || name == "reads" && time.Since(began) < bound; n++ { // the first writes are refused
					if _, list, _ := b.try(ops...); list[0].Err == "" && list[len(list)-1].Value == "next" {
						return
					}
				}
				t.Error("the old master is still asked")
			})
		})
	}
}

// A caller that goes leaves its reply behind. When that comes late, it does not break the connection; nor does it hide
// that the connection has died.
func TestCallerGoes(t *testing.T) {
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		for connections, happens := range map[int]func(proxy *redistest.Proxy){
			1: func(proxy *redistest.Proxy) { proxy.Pass(); time.Sleep(2 * shortTimeout) },
			2: func(proxy *redistest.Proxy) { proxy.DropReply(); proxy.Pass(); time.Sleep(50 * time.Millisecond) }, // idle
		} {
			proxy, s := proxied(t, server)
			s.Redis.Timeout = shortTimeout
			b := unstartedSite(t, s).browser()
			b.must("set:a:b")
			proxy.Hold()
			ctx, cancel := context.WithCancel(t.Context())
			left := make(chan struct{})
			go func() {
				defer close(left)
				b.within(ctx).want([]outcome{{Err: `pycket: set "a": the command may have been carried out: context canceled`}}, "set:a:left")
			}()
			proxy.AwaitCommands(1)
			cancel()
			<-left
			happens(proxy)
			b.want([]outcome{{}, {Value: "left"}}, "set:b:next", "get:a")
			equal(t, "connections", connections, proxy.Connections())
		}
	})
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
			site := unstartedSite(t, pycket.Settings{Secrets: []string{secret}, Redis: redis})
			inTime := func(name string, f func()) {
				t.Helper()
				began := time.Now()
				f()
				if took := time.Since(began); took > bound {
					t.Errorf("%s took %v, and the timeout is %v", name, took, shortTimeout)
				}
			}
			for _, value := range []string{"small", large} {
				inTime("Set", func() { site.browser().want([]outcome{{Err: "ErrUnavailable"}}, "set:a:"+value) })
			}
			inTime("Ping", func() { wantError(t, site.app.Ping(t.Context()), pycket.ErrUnavailable) })
			inTime("RevokeUser", func() {
				_, err := site.app.RevokeUser(t.Context(), "ann")
				wantError(t, err, pycket.ErrUnavailable)
			})
			go site.app.Ping(t.Context())
			inTime("Close", func() { site.app.Close() })
		})
	}
}

// A request that comes while another is connecting has its own time: the next attempt may be quick.
func TestLateForSlowConnecting(t *testing.T) {
	const timeout = 2 * time.Second
	server := redistest.Start(t)
	lost := redistest.VanishedListener(t)
	site := unstartedSite(t, pycket.Settings{Secrets: []string{secret}, Redis: pycket.RedisSettings{URL: "redis://" + lost.Addr().String(), Timeout: timeout}})
	first := make(chan struct{})
	go func() {
		defer close(first)
		site.browser().try("set:a:b")
	}()
	time.Sleep(timeout * 7 / 10)
	redistest.NewProxyOn(t, lost, server) // it is there again; the first request tries again when it is too late
	site.browser().must("set:a:b")
	<-first
}

// A connection that goes silent is replaced, although every context ends before the timeout, so that nobody waits
// until then.
func TestConnectionGoesSilent(t *testing.T) {
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		for name, pause := range map[string]time.Duration{"under load": 0, "now and then": 100 * time.Millisecond} {
			t.Run(name, func(t *testing.T) {
				proxy, s := proxied(t, server)
				s.Redis.Timeout = 500 * time.Millisecond
				b := unstartedSite(t, s).browser()
				b.must("set:a:b")
				proxy.Mute()
				began := time.Now()
				set := func() string {
					ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
					defer cancel()
					_, list, _ := b.within(ctx).try("set:a:b")
					return list[0].Err
				}
				for set() != "" {
					if time.Since(began) > bound {
						t.Fatalf("nothing has worked for %v, and the timeout is %v", bound, s.Redis.Timeout)
					}
					time.Sleep(pause)
				}
				equal(t, "connections", 2, proxy.Connections())
				for range 10 {
					if err := set(); err != "" {
						t.Errorf("after: %v", err)
					}
				}
			})
		}
	})
}

// A request that writes, for itself or for others, may end although nobody reads what it writes.
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
				proxy, s := proxied(t, server)
				s.Redis.Timeout, s.MaxValueBytes, s.MaxSessionBytes = 4*bound, 16<<20, 64<<20
				site := unstartedSite(t, s)
				b := site.browser()
				b.must("set:made:x")
				value := strings.Repeat("x", test.size)
				if name == "another" { // over connections that are there: a new one would wait for an answer first
					proxy.Hold()
					warm := make(chan struct{})
					go func() {
						defer close(warm)
						parallel(2, func(i int) { b.must(fmt.Sprint("set:a", i, ":", large), fmt.Sprint("delete:a", i)) })
					}()
					proxy.AwaitCommands(4) // both select their databases
					proxy.Pass()
					<-warm
				}
				proxy.Clog()
				parallel(test.callers, func(i int) {
					for range test.times {
						ctx, cancel := context.WithTimeout(t.Context(), test.patience)
						began := time.Now()
						site.use(b.within(ctx), func(s *pycket.SessionManager) {
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
					if len(b.must("keys")[0].([]any)) == 1+test.callers {
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
	writer := unstartedSite(t, settings(server))
	proxy, s := proxied(t, server)
	proxy.Narrow(rate)
	s.Redis.Timeout = time.Second
	site := unstartedSite(t, s)
	value := strings.Repeat("x", size)
	browsers := make([]*browser, 4)
	for i := range browsers {
		b := writer.browser()
		b.must("set:large:" + value)
		browsers[i] = site.browser().with(b.cookie())
		browsers[i].want([]outcome{{Value: value}}, "get:large")
	}
	small := writer.browser()
	small.must("set:made:x")
	small = site.browser().with(small.cookie())
	var read atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		parallel(readers, func(i int) {
			for began := time.Now(); time.Since(began) < 3*time.Second; {
				if _, list, err := browsers[i%len(browsers)].try("get:large"); err == nil && list[0].Value == value {
					read.Add(1)
				}
			}
		})
	}()
	for n := 0; ; n++ {
		small.want([]outcome{{Value: "x"}, {}}, "get:made", fmt.Sprint("set:n:", n))
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

// overdue makes the next use of a session renew its timeout and, in a cluster, its place on its user's list.
func overdue(server *redistest.Server, key string) {
	server.Do(0, "PEXPIRE", key, (12 * time.Hour).Milliseconds())
	server.Do(0, "HSET", key, "pycket:seen", 1)
}

// endings are ways to end the session of a browser that ann has logged in with.
var endings = map[string]func(site *site, b *browser) error{
	"destroy": func(_ *site, b *browser) error {
		if a := b.want([]outcome{{}}, "destroy"); !a.setsCookie() || b.cookie() != "" {
			return errors.New("the cookie stays")
		}
		return nil
	},
	"revoke": func(site *site, b *browser) error {
		return site.app.Revoke(site.t.Context(), list(site.t, site, "ann")[0].Handle)
	},
	"revoke user": func(site *site, _ *browser) error {
		n, err := site.app.RevokeUser(site.t.Context(), "ann")
		if n != 1 {
			err = errors.Join(err, fmt.Errorf("%d were ended", n))
		}
		return err
	},
}

// To end a session takes no memory: nobody stays signed in because Redis is full.
func TestEndingNeedsNoMemory(t *testing.T) {
	for name, end := range endings {
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
					noError(t, end(site, b))
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
	server.Do(0, "ACL", "SETUSER", server.User(), "-hset")
	b.must("destroy")
	if n := server.Size(); n != 0 || b.cookie() != "" {
		t.Errorf("%d keys are left; the cookie: %q", n, b.cookie())
	}
	server.Do(0, "ACL", "SETUSER", server.User(), "+hset")
	late.want([]outcome{{}, {Value: ""}}, "set:c:late", "get:a")
	wantAnonymous(t, site, old)
	if id := idOf(t, late.cookie()); keyOf(id) == key {
		t.Error("the old session is back")
	}
}

// What takes memory is refused, logins too, and nothing is changed.
func TestOutOfMemory(t *testing.T) {
	refuse(t, "OOM", func(t *testing.T, server *redistest.Server, begin, recover func()) {
		b := newSite(t, settings(server)).browser()
		b.must("login:ann", "set:a:b")
		key := keyOf(idOf(t, b.cookie()))
		before := server.Hash(0, key)
		begin()
		for _, op := range []string{"set:a:c", "inc:n:1", "update:n", "note:a:b", "add:i:t", "rotate", "login:ann", "login:bob"} {
			for _, b := range []*browser{b, b.with("")} {
				if _, list := b.do(op); list[0].Err != "ErrUnavailable" && !(op == "rotate" && b.cookie() == "") {
					t.Errorf("%s: %v", op, list)
				}
			}
		}
		recover()
		equal(t, "what is stored", before, server.Hash(0, key))
		b.want([]outcome{{Value: "b"}, {Value: "ann"}, {}, {Value: "c"}}, "get:a", "user", "set:a:c", "get:a")
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
		equal(t, "sessions", 2, len(list(t, site, "ann")))
		for tries := 0; ; tries++ { // reads do without renewal for a while, and take one round trip
			server.Scripts()
			b.want([]outcome{{Value: "b"}}, "get:a")
			if run, refused := server.Scripts(); run == 1 && refused == 0 {
				break
			}
			if tries == 20 { // of which some come soon after another
				t.Fatal("every read tries to renew the session")
			}
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

		for _, key := range keys {
			begunAgo(server, key, 49*time.Hour)
		}
		begin()
		for range 2 {
			b.want([]outcome{{Value: ""}, {Value: ""}, {Value: ""}}, "user", "get:a", "take:x")
			b.tab().want([]outcome{{Value: []any{}}}, "keys")
		}
		recover()
	})
}

// To renew a session takes no memory either.
func TestRenewingNeedsNoMemory(t *testing.T) {
	for _, read := range []string{"get:a", "peek:x", "take:x"} {
		t.Run(read, func(t *testing.T) {
			refuse(t, "OOM", func(t *testing.T, server *redistest.Server, begin, recover func()) {
				b := newSite(t, settings(server)).browser()
				b.must("login:ann", "set:a:b")
				key := keyOf(idOf(t, b.cookie()))
				overdue(server, key)
				begin()
				b.must(read)
				if left := server.Do(0, "PTTL", key).(int64); left < (23 * time.Hour).Milliseconds() {
					t.Errorf("%v are left", time.Duration(left)*time.Millisecond)
				}
			})
		})
	}
}

// A Redis that refuses writes says so. What would be taken stays where it is, and is not handed out. And that nobody is
// signed in, it can't say: it may be one that others have left.
func TestWritesAreRefused(t *testing.T) {
	refuse(t, "NOREPLICAS MISCONF READONLY", func(t *testing.T, server *redistest.Server, begin, recover func()) {
		site := newSite(t, settings(server))
		b := site.browser()
		b.must("login:ann", "set:a:b", "note:x:y", "add:i:t")
		for range 2 {
			overdue(server, keyOf(idOf(t, b.cookie())))
			begin()
			b.want([]outcome{{Value: "", Err: "ErrUnavailable"}, {Value: "", Err: "ErrUnavailable"}}, "take:x", "drain")
			b.want([]outcome{{Err: "ErrUnavailable"}, {Err: "ErrUnavailable"}}, "set:a:c", "destroy")
			for _, user := range []string{"ann", "bob"} {
				n, err := site.app.RevokeUser(t.Context(), user)
				wantError(t, err, pycket.ErrUnavailable, "revoke user")
				if n != 0 {
					t.Errorf("%d were ended", n)
				}
			}
			recover()
		}
		b.want([]outcome{{Value: "y"}, {Value: "i=t"}, {Value: "b"}, {}}, "take:x", "drain", "get:a", "set:a:c")
		if n, err := site.app.RevokeUser(t.Context(), "ann"); n != 1 || err != nil {
			t.Errorf("%d were ended: %v", n, err)
		}
	})
}

// In a cluster, nobody signs in without a place on the user's list: not because Redis refuses to write it down
// either. Only a key that is not pycket's is passed over.
func TestLoginWhenItsListRefuses(t *testing.T) {
	server := redistest.SharedCluster(t)
	site := newSite(t, settings(server))
	for _, r := range append(refusals()[:3], refusal{name: "WRONGTYPE"}) {
		t.Run(r.name, func(t *testing.T) {
			server := server.On(t)
			server.Do(0, "FLUSHALL")
			b := site.browser()
			b.must("set:a:b")
			session, user := server.OnlyKey(), "user"
			for server.NodeOf(listKey(user)).Addr == server.NodeOf(session).Addr {
				user += "s"
			}
			login := func() {
				b.must("login:" + user)
				if n, err := site.app.RevokeUser(t.Context(), user); r.begin != nil && (n != 1 || err != nil) {
					t.Errorf("%d were ended: %v", n, err)
				}
			}
			if r.begin == nil {
				server.Do(0, "SET", listKey(user), "not pycket's")
				login()
				return
			}
			cookie, before, node := b.cookie(), server.Hash(0, session), server.NodeOf(listKey(user))
			t.Cleanup(func() { r.end(node) })
			r.begin(node)
			site.use(b, func(s *pycket.SessionManager) {
				wantError(t, s.Login(user, nil), pycket.ErrUnavailable, "login", r.name)
				wantError(t, s.SetUser(user), pycket.ErrUnavailable, "set user", r.name)
			})
			if diff := cmp.Diff(before, server.Hash(0, session)); diff != "" || b.cookie() != cookie {
				t.Errorf("cookie changed: %v; (-before +after):\n%s", b.cookie() != cookie, diff)
			}
			r.end(node)
			login()
		})
	}
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
	said := ""
	site.failed = func(err error) { said = err.Error() }
	for _, visitor := range []*browser{site.browser().with(b.cookie()), site.browser()} {
		for _, op := range everyOperation {
			run.Store(0)
			a, list := visitor.tab().do(op)
			if n := run.Load(); n > 1 || n == 1 && (list[0].Err != "ErrUnavailable" || !strings.Contains(said, "malformed")) || a.setsCookie() {
				t.Errorf("%s: %v (%s), after %d runs; cookie set: %v", op, list, said, n, a.setsCookie())
			}
		}
	}
	wantError(t, site.app.Revoke(t.Context(), "0123456789abcdef"), pycket.ErrUnavailable, "revoke", "malformed")
}
