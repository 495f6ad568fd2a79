package pycket_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pycket/pycket"
)

// goroutines is a handler that uses its session in many goroutines at once.
func goroutines() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		parallel(contenders, func(i int) {
			s := pycket.NewSessionManager(w, r)
			s.Set(fmt.Sprint("name", i), i)
			s.Increment("count", 1)
			pycket.Update(s, "updates", 0, func(n int) (int, error) { return n + 1, nil })
			s.Keys()
		})
		s := pycket.NewSessionManager(w, r)
		names, _ := s.Keys()
		count, _ := pycket.Get(s, "count", 0)
		fmt.Fprintln(w, len(names)-2, "names,", count, "counted")
	})
}

// lateWrites are all operations that write.
var lateWrites = []string{"set:a:late", "setmany:a:late:b:late", "update:n", "inc:n:1", "delete:a", "note:a:late", "notemany:a:late", "add:late:late", "ndelete:a", "rotate"}

// Promise 3, no resurrection: a request is under way while another of the same browser ends the id.
func TestInFlight(t *testing.T) {
	for _, ending := range []string{"destroy", "rotate"} {
		for _, before := range []struct{ name, op string }{
			{"the session was loaded", "get:a"},
			{"a notification was looked for", "nhas:x"},
			{"nothing was touched", ""},
			{"a value was set", "set:early:x"},
		} {
			t.Run(ending+", "+before.name, func(t *testing.T) {
				everyServer(t, func(t *testing.T, server *redisServer) {
					site := newSite(t, settings(server))
					for _, late := range append(lateWrites, "get:a") {
						t.Run(late, func(t *testing.T) {
							server.do(0, "FLUSHALL")
							b := site.browser()
							b.must("set:a:before", "inc:n:1", "note:waiting:note", "add:info:message")
							old := b.cookie()

							ops := []string{"hold", late, late}
							if before.op != "" {
								ops = append([]string{before.op}, ops...)
							}
							slow := b.tab()
							a, list := site.whileHeld(slow, ops, func() {
								ended := b.want([]outcome{{}}, ending)
								if !ended.setsCookie() {
									t.Errorf("%s sets no cookie", ending)
								}
								if late == "get:a" { // only reads, with renewal due
									server.do(0, "PEXPIRE", server.sessionKey(), 30_000)
								}
							})
							if a.setsCookie() {
								t.Error("the late response sets a cookie")
							}
							for _, o := range list[len(list)-2:] {
								switch {
								case late != "get:a" && o.Err != "ErrGone":
									t.Errorf("the late write answered %v", o)
								case late == "get:a" && (o.Err != "" || before.op != "get:a" && o.Value != ""):
									t.Errorf("the late read answered %v", o)
								}
							}
							if late == "get:a" {
								if left := server.do(0, "PTTL", server.sessionKey()).(int64); left > 30_000 {
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

// wantAnonymous checks that a cookie opens nothing.
func wantAnonymous(t *testing.T, site *site, cookie string) {
	t.Helper()
	if cookie == "" {
		t.Fatal("there was no cookie")
	}
	stale := site.browser().with(cookie)
	stale.want([]outcome{{Value: ""}, {Value: []any{}}, {Value: ""}, {Value: []any{}}, {Value: ""}}, "get:a", "keys", "take:waiting", "nkeys", "drain")
}

// wantNothingLeft checks that after a Destroy nothing is left but the mark, for a minute.
func wantNothingLeft(t *testing.T, server *redisServer) {
	t.Helper()
	if keys := server.keys(1); len(keys) != 0 {
		t.Errorf("notifications are left: %v", keys)
	}
	for _, key := range server.keys(0) {
		if server.mayLag(key) {
			continue
		}
		fields := server.do(0, "HKEYS", key).([]any)
		if len(fields) != 1 || string(fields[0].([]byte)) != "pycket:ended" {
			t.Errorf("%s holds %q", key, fields)
		}
		if left := server.do(0, "PTTL", key).(int64); left <= 0 || left > time.Minute.Milliseconds() {
			t.Errorf("the mark stays for %d ms", left)
		}
	}
}

// A second logout that was under way does no harm, and does not delete a newer cookie.
func TestInFlightDestroy(t *testing.T) {
	for ending, want := range map[string]outcome{"destroy": {}, "rotate": {Err: "ErrGone"}} {
		t.Run(ending, func(t *testing.T) {
			everyServer(t, func(t *testing.T, server *redisServer) {
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
	everyServer(t, func(t *testing.T, server *redisServer) {
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
	everyServer(t, func(t *testing.T, server *redisServer) {
		site := newSite(t, settings(server))
		for _, write := range []string{"set:a:fresh", "setmany:a:fresh", "inc:n:1", "update:n", "note:a:fresh", "add:info:fresh"} {
			for _, before := range []string{"", "get:a"} {
				t.Run(write+" after "+before, func(t *testing.T) {
					server.do(0, "FLUSHALL")
					b := site.browser()
					b.must("set:old:before")
					old, key := b.cookie(), server.sessionKey()
					server.do(0, "DEL", key)
					ops := []string{write}
					if before != "" {
						ops = []string{before, write}
					}
					b.must(ops...)
					if b.cookie() == old {
						t.Error("the id is the old one")
					}
					if server.sessionKey() == key {
						t.Error("the key is the old one")
					}
					b.want([]outcome{{Value: ""}}, "get:old")
				})
			}
		}
		t.Run("not when this request saw it alive", func(t *testing.T) {
			server.do(0, "FLUSHALL")
			b := site.browser()
			b.must("set:a:before")
			slow := b.tab()
			done := make(chan []outcome)
			go func() {
				_, list, _ := slow.try("get:a", "hold", "set:a:late")
				done <- list
			}()
			<-site.holding
			server.do(0, "FLUSHALL") // even the mark of a Destroy is gone by now
			site.release <- struct{}{}
			if list := <-done; list[2].Err != "ErrGone" {
				t.Error(list)
			}
		})
		t.Run("reads and deletes are quiet", func(t *testing.T) {
			server.do(0, "FLUSHALL")
			b := site.browser()
			b.must("set:a:before")
			server.do(0, "FLUSHALL")
			a := b.want([]outcome{{}, {}, {Value: ""}, {}, {}}, "delete:a", "ndelete:a", "get:a", "rotate", "destroy")
			if a.setsCookie() || server.size() != 0 {
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
			everyServer(t, func(t *testing.T, server *redisServer) {
				site := newSite(t, settings(server))
				b := site.browser()
				b.must("set:a:before")
				lost := b.tab()
				b.must(ending)
				key := server.sessionKey()
				for _, op := range []string{"set:a:x", "rotate", "note:a:b"} {
					if _, list := lost.do(op); list[0].Err != "ErrGone" {
						t.Errorf("%s, at once: %v", op, list)
					}
				}
				server.do(0, "HSET", key, "pycket:ended", time.Now().Add(-6*time.Second).UnixMilli())
				old := lost.cookie()
				lost.must("destroy", "rotate", "set:a:afresh")
				if lost.cookie() == old {
					t.Error("the id is the old one")
				}
				lost.want([]outcome{{Value: "afresh"}}, "get:a")
			})
		})
	}
}

func TestRotate(t *testing.T) {
	everyServer(t, func(t *testing.T, server *redisServer) {
		site := newSite(t, settings(server))
		b := site.browser()
		b.must("setmany:a:1:b:2", "note:waiting:note", "add:info:message")
		first := b.cookie()
		created := string(server.do(0, "HGET", server.sessionKey(), "pycket:id").([]byte))[22:35]
		b.must("rotate", "set:c:3")
		second := b.cookie()
		if first == second {
			t.Error("the id is the old one")
		}
		b.must("rotate", "rotate")
		wantAnonymous(t, site, first)
		wantAnonymous(t, site, second)
		if now := string(server.do(0, "HGET", server.sessionKey(), "pycket:id").([]byte))[22:35]; now != created {
			t.Errorf("created at %s, was %s", now, created)
		}
		b.want([]outcome{{Value: "1"}, {Value: "2"}, {Value: "3"}, {Value: "note"}, {Value: "info=message"}}, "get:a", "get:b", "get:c", "take:waiting", "drain")

		// Requests that the browser sent long after the rotation are not under way: a write starts afresh.
		server.do(0, "HSET", server.sessionKey(), "pycket:ended", time.Now().Add(-6*time.Second).UnixMilli())
		stale := b.with(first)
		stale.must("set:mine:x")
		stale.want([]outcome{{Value: "x"}, {Value: ""}}, "get:mine", "get:a")
		if strings.Contains(stale.cookie(), first) {
			t.Error("the id is the old one")
		}
	})
}
