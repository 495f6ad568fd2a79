package pycket_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pycket/pycket"
	"github.com/pycket/pycket/internal/redistest"
)

const (
	rounds     = 20
	contenders = 32
)

// fleet are browsers with one session, each of a process of the application: this one and another.
func fleet(t *testing.T, server *redistest.Server, b *browser, n int) []*browser {
	t.Helper()
	child := startChild(t, childURL(server))
	fleet := make([]*browser, n)
	for i := range fleet {
		fleet[i] = b.tab()
		if i%2 == 1 {
			other := newBrowser(t, child)
			other.client.Jar.SetCookies(other.base, b.client.Jar.Cookies(b.base))
			fleet[i] = other
		}
	}
	return fleet
}

// all runs one list of operations for each browser at once, wants all of them to succeed, and returns their values.
func all(fleet []*browser, ops func(i int) []string) [][]any {
	values := make([][]any, len(fleet))
	parallel(len(fleet), func(i int) { values[i] = fleet[i].must(ops(i)...) })
	return values
}

// Promise 2: parallel requests, in two processes, set different names of one session, and count in others. Every request
// has read the session before, and works between load and write.
func TestNoLostWrites(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		site := newSite(t, settings(server))
		b := site.browser()
		b.must("set:here:before", "inc:increments:0", "inc:updates:0")
		browsers := fleet(t, server, b, contenders)
		for round := range rounds {
			all(browsers, func(i int) []string {
				return []string{
					"get:here", "sleep:2ms", fmt.Sprintf("set:round%d name%d:x", round, i),
					"number:increments", "sleep:2ms", "inc:increments:1", "number:updates", "slowupdate:updates",
				}
			})
			count := float64((round + 1) * contenders)
			b.want([]outcome{{Value: count}, {Value: count}}, "number:increments", "number:updates")
		}
		equal(t, "names", rounds*contenders+3, len(b.must("keys")[0].([]any)))
	})
}

// Promise 4: one notification, many readers in two processes.
func TestOneReader(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		site := newSite(t, settings(server))
		b := site.browser()
		b.must("set:a:b")
		browsers := fleet(t, server, b, contenders)
		for round := range rounds {
			b.must("note:saved:once", "add:info:only")
			var named, queued int
			for _, values := range all(browsers, func(int) []string { return []string{"take:saved", "drain"} }) {
				if values[0] == "once" {
					named++
				}
				if values[1] == "info=only" {
					queued++
				}
			}
			if named != 1 || queued != 1 {
				t.Errorf("round %d: the notification had %d readers, the message %d, want 1", round, named, queued)
			}
		}
	})
}

// A reader and a writer of notifications at once lose nothing, and keep the order.
func TestReaderAndWriterOfNotifications(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		const messages = 300
		site := newSite(t, settings(server))
		b := site.browser()
		b.must("set:a:b")
		browsers := fleet(t, server, b, 2)

		var written atomic.Bool
		var wg sync.WaitGroup
		wg.Go(func() {
			defer written.Store(true)
			for i := range messages {
				browsers[0].must(fmt.Sprintf("add:n:%d", i), fmt.Sprintf("note:name%d:x", i))
			}
		})
		var read []string
		names := map[any]bool{}
		for last := false; !last; {
			last = written.Load() // once more after the last was written
			values := browsers[1].must("drain", "nkeys")
			read = append(read, strings.Fields(values[0].(string))...)
			for _, name := range values[1].([]any) {
				equal(t, "value", []any{"x"}, browsers[1].must("take:"+name.(string)))
				if names[name] {
					t.Errorf("%s was read twice", name)
				}
				names[name] = true
			}
		}
		wg.Wait()
		equal(t, "names", messages, len(names))
		equal(t, "read", messages, len(read))
		for i, text := range read {
			equal(t, "message", fmt.Sprintf("n=%d", i), text)
		}
	})
}

// Goroutines of one request share one manager, and on a first visit make one session.
func TestGoroutinesOfOneRequest(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		site := newSite(t, settings(server))
		a := site.visit(site.browser(), func(w http.ResponseWriter, r *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
			parallel(contenders, func(i int) {
				s := pycket.NewSessionManager(w, r)
				s.Set(fmt.Sprint("name", i), i)
				s.Increment("count", 1)
				pycket.Update(s, "updates", 0, func(n int) (int, error) { return n + 1, nil })
				s.Keys()
			})
			names, err := s.Keys()
			count, countErr := pycket.Get(s, "count", 0)
			updates, updatesErr := pycket.Get(s, "updates", 0)
			noError(t, errors.Join(err, countErr, updatesErr))
			equal(t, "names, counted, updated", []int{contenders + 2, contenders, contenders}, []int{len(names), count, updates})
		})
		if n := len(a.header["Set-Cookie"]); n != 1 || len(server.Keys(0)) != 1 {
			t.Errorf("%d cookies, %d sessions, want one of each", n, len(server.Keys(0)))
		}
	})
}

// lateWrites are all operations that write.
var lateWrites = []string{"set:a:late", "setmany:a:late:b:late", "update:n", "inc:n:1", "delete:a", "note:a:late", "notemany:a:late", "add:late:late", "ndelete:a", "rotate", "clear", "pop:a"}

// Promise 3, no resurrection: a request is under way while another of the same browser ends the id.
func TestInFlight(t *testing.T) {
	for _, ending := range []string{"destroy", "rotate"} {
		for _, before := range []string{"get:a", "nhas:x", "", "set:early:x"} {
			t.Run(ending+", after "+before, func(t *testing.T) {
				redistest.Every(t, func(t *testing.T, server *redistest.Server) {
					site := newSite(t, settings(server))
					for _, late := range append(lateWrites, "get:a") {
						t.Run(late, func(t *testing.T) {
							server.Do(0, "FLUSHALL")
							b := site.browser()
							b.must("set:a:before", "inc:n:1", "note:waiting:note", "add:info:message")
							old := b.cookie()

							a, list := site.whileHeld(b.tab(), strings.Fields(before+" hold "+late+" "+late), func() {
								ended := b.want([]outcome{{}}, ending)
								if !ended.setsCookie() {
									t.Errorf("%s sets no cookie", ending)
								}
								if late == "get:a" { // only reads, with renewal due
									server.Do(0, "PEXPIRE", server.OnlyKey(), 30_000)
								}
							})
							if a.setsCookie() {
								t.Error("the late response sets a cookie")
							}
							for _, o := range list[len(list)-2:] {
								switch {
								case late != "get:a" && o.Err != "ErrGone":
									t.Errorf("the late write answered %v", o)
								case late == "get:a" && (o.Err != "" || before != "get:a" && o.Value != ""):
									t.Errorf("the late read answered %v", o)
								}
							}
							if late == "get:a" {
								if left := server.Do(0, "PTTL", server.OnlyKey()).(int64); left > 30_000 {
									t.Errorf("the late read has renewed an ended id: %d ms", left)
								}
							}
							wantAnonymous(t, site, old)
							if ending == "rotate" {
								b.want([]outcome{{Value: "before"}, {Value: 1.0}, {Value: "note"}, {Value: "info=message"}}, "get:a", "number:n", "take:waiting", "drain")
							} else {
								wantNothingLeft(t, server)
							}
						})
					}
				})
			})
		}
	}
}

// A second logout that was under way does no harm, and does not delete a newer cookie.
func TestInFlightDestroy(t *testing.T) {
	for ending, want := range map[string]outcome{"destroy": {}, "rotate": {Err: "ErrGone"}} {
		t.Run(ending, func(t *testing.T) {
			redistest.Every(t, func(t *testing.T, server *redistest.Server) {
				site := newSite(t, settings(server))
				b := site.browser()
				b.must("set:a:before")
				slow := b.tab()
				b.must(ending)
				a := slow.want([]outcome{want, {Err: "ErrGone"}}, "destroy", "note:bye:x")
				if a.setsCookie() {
					t.Error("the late Destroy touches the cookie")
				}
			})
		})
	}
}

func TestNotificationAfterDestroy(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		site := newSite(t, settings(server))
		b := site.browser()
		b.must("set:a:before", "note:old:note")
		old := b.cookie()
		a, _ := b.do("destroy", "note:bye:you have been logged out", "get:a", "take:old")
		if n := len(a.header["Set-Cookie"]); n != 1 {
			t.Errorf("%d cookies are set, want 1: %v", n, a.header["Set-Cookie"])
		}
		if b.cookie() == old || b.cookie() == "" {
			t.Error("there is no fresh id")
		}
		b.want([]outcome{{Value: "you have been logged out"}, {Value: ""}, {Value: ""}}, "take:bye", "get:a", "take:old")
		wantAnonymous(t, site, old)
	})
}

// Expired long ago is different from ended just now: a write starts a fresh session under a new id.
func TestExpiredByItself(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		site := newSite(t, settings(server))
		for _, write := range []string{"set:a:fresh", "setmany:a:fresh", "inc:n:1", "update:n", "note:a:fresh", "add:info:fresh"} {
			for _, before := range []string{"", "get:a"} {
				t.Run(write+" after "+before, func(t *testing.T) {
					server.Do(0, "FLUSHALL")
					b := site.browser()
					b.must("set:old:before")
					old, key := b.cookie(), server.OnlyKey()
					server.Do(0, "DEL", key)
					b.must(strings.Fields(before + " " + write)...)
					if b.cookie() == old {
						t.Error("the id is the old one")
					}
					if server.OnlyKey() == key {
						t.Error("the key is the old one")
					}
					b.want([]outcome{{Value: ""}}, "get:old")
				})
			}
		}
		t.Run("not when this request saw it alive", func(t *testing.T) {
			server.Do(0, "FLUSHALL")
			b := site.browser()
			b.must("set:a:before")
			_, list := site.whileHeld(b.tab(), []string{"get:a", "hold", "set:a:late"}, func() {
				server.Do(0, "FLUSHALL") // even the mark of a Destroy is gone by now
			})
			if list[2].Err != "ErrGone" {
				t.Error(list)
			}
		})
		t.Run("not when the mark of its end may be gone", func(t *testing.T) {
			for age, want := range map[time.Duration]error{30 * time.Second: nil, 61 * time.Second: pycket.ErrGone} {
				server.Do(0, "FLUSHALL")
				b := site.browser()
				b.must("set:a:before")
				server.Do(0, "FLUSHALL")
				site.visit(b, func(_ http.ResponseWriter, r *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
					pycket.MakeOlder(r, age)
					if err := s.Set("a", "late"); !errors.Is(err, want) {
						t.Errorf("of a request that began %v ago: %v", age, err)
					}
				})
			}
		})
		t.Run("reads and deletes are quiet", func(t *testing.T) {
			server.Do(0, "FLUSHALL")
			b := site.browser()
			b.must("set:a:before")
			server.Do(0, "FLUSHALL")
			a := b.want([]outcome{{}, {}, {Value: ""}, {}, {}}, "delete:a", "ndelete:a", "get:a", "rotate", "destroy")
			if a.setsCookie() || server.Size() != 0 {
				t.Error("an expired session left something")
			}
		})
	})
}

// A browser that never got the answer to its logout or login is not locked out: its next requests start
// afresh.
func TestLostAnswer(t *testing.T) {
	for _, ending := range []string{"destroy", "rotate"} {
		t.Run(ending, func(t *testing.T) {
			redistest.Every(t, func(t *testing.T, server *redistest.Server) {
				site := newSite(t, settings(server))
				b := site.browser()
				b.must("set:a:before")
				lost := b.tab()
				b.must(ending)
				key := server.OnlyKey()
				for _, op := range []string{"set:a:x", "rotate", "note:a:b"} {
					if _, list := lost.do(op); list[0].Err != "ErrGone" {
						t.Errorf("%s, at once: %v", op, list)
					}
				}
				server.Do(0, "HSET", key, "pycket:ended", time.Now().Add(-6*time.Second).UnixMilli())
				old := lost.cookie()
				lost.must("destroy", "rotate", "set:b:afresh")
				if lost.cookie() == old {
					t.Error("the id is the old one")
				}
				lost.want([]outcome{{Value: "afresh"}, {Value: ""}}, "get:b", "get:a")
			})
		})
	}
}

func TestRotate(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		site := newSite(t, settings(server))
		b := site.browser()
		b.must("setmany:a:1:b:2", "note:waiting:note", "add:info:message")
		first := b.cookie()
		created := string(server.Do(0, "HGET", server.OnlyKey(), "pycket:id").([]byte))[22:35]
		b.must("rotate", "set:c:3")
		second := b.cookie()
		if first == second {
			t.Error("the id is the old one")
		}
		b.must("rotate", "rotate")
		wantAnonymous(t, site, first)
		wantAnonymous(t, site, second)
		if now := string(server.Do(0, "HGET", server.OnlyKey(), "pycket:id").([]byte))[22:35]; now != created {
			t.Errorf("created at %s, was %s", now, created)
		}
		b.want([]outcome{{Value: "1"}, {Value: "2"}, {Value: "3"}, {Value: "note"}, {Value: "info=message"}}, "get:a", "get:b", "get:c", "take:waiting", "drain")
	})
}

// What has begun a session begins none when it comes again: neither while the session lives nor after its end.
func TestBeginsOnce(t *testing.T) {
	for _, op := range []string{"set:a:b", "setmany:a:b:c:d", "inc:n:1", "update:n", "note:a:b", "add:info:text", "login:ann"} {
		t.Run(op, func(t *testing.T) {
			redistest.Both(t, func(t *testing.T, server *redistest.Server) {
				proxy, s := proxied(t, server)
				b := newSite(t, s).browser()
				b.must(op)
				sent := proxy.Sent()
				again := func() {
					before := contents(t, server)
					c, err := net.Dial("tcp", server.Addr)
					if err != nil {
						t.Fatal(err)
					}
					defer c.Close()
					fmt.Fprint(c, sent+"*1\r\n$4\r\nQUIT\r\n")
					io.Copy(io.Discard, c)
					equal(t, "what is stored", before, contents(t, server))
				}
				b.must("set:a:newer", "set:n:5", "take:a", "drain")
				again()
				b.must("destroy")
				again()
			})
		})
	}
}

// Of a browser's two cookies, another request has just ended the session of the first, and the browser has a newer one
// by now, which no response may replace. That of the second is used as ever.
func TestTwoCookiesOneJustEnded(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		site := newSite(t, settings(server))
		// visit asks with both cookies, and says what came. The second may be due for renewal.
		visit := func(ending, ops string, due bool) (text string, second *browser) {
			first, second := site.browser(), site.browser()
			first.must("set:a:first")
			second.must("set:a:second")
			old, other := first.cookie(), second.cookie()
			if due {
				other = signedFor(t, secret, "PYCKET_ID", idOf(t, other), 25*time.Hour, 240*time.Hour)
			}
			first.must(ending)
			time.Sleep(10 * time.Millisecond) // Redis's clock has then moved on
			if ops == "op=set:a:b" {
				server.Do(0, "DEL", keyOf(idOf(t, other)))
			}
			return raw(t, site, ops, "PYCKET_ID="+old+"; PYCKET_ID="+other), second
		}
		for name, test := range map[string]struct {
			ops  string
			due  bool
			want []string
		}{
			"the second lives":           {"op=get:a&op=set:b:c&op=get:b", false, []string{`"second"`, `"c"`}},
			"the second is due":          {"op=get:a", true, []string{`"second"`}},
			"the second has expired too": {"op=set:a:b", false, []string{"ErrGone"}},
		} {
			text, _ := visit("rotate", test.ops, test.due)
			for _, want := range test.want {
				if !strings.Contains(text, want) || strings.Contains(text, "Set-Cookie") {
					t.Errorf("%s: %q", name, text)
				}
			}
		}
		text, second := visit("destroy", "op=destroy", false)
		if got := second.must("get:a")[0]; got != "" || !strings.Contains(text, "Max-Age=0") {
			t.Errorf("Destroy: %q; the second session has %q", text, got)
		}
	})
}
