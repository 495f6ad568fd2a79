package pycket_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pycket/pycket/internal/redistest"
)

// The round trips of every operation, counted on the wire (promise 8). In a cluster they are counted by its servers, and
// are the same, but for users: their list comes first.
func TestRoundTrips(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		var site *site
		var count func(f func()) int
		warm := 1
		if server.Nodes() == nil {
			proxy, s := proxied(t, server)
			site, count = newSite(t, s), proxy.Trips
		} else {
			site, warm = newSite(t, settings(server)), 100 // every server has then seen every script
			count = func(f func()) int {
				server.Scripts()
				f()
				run, refused := server.Scripts()
				if refused > 0 {
					t.Errorf("%d are refused", refused)
				}
				return run
			}
		}
		for range warm { // Redis has then seen every script
			site.browser().must("set:a:b", "refresh", "get:a", "setmany:a:b", "inc:n:1", "update:u", "delete:a", "clear", "pop:a", "handle", "expiry", "note:a:b", "peek:a", "take:a", "nkeys", "nhas:a", "ndelete:a",
				"add:i:t", "drain", "rotate", "login:ann", "remember", "remembered", "others", "setuser:bob", "destroy")
		}
		for _, test := range []struct {
			name string
			have []string // what an earlier request of the browser did
			ops  []string
			want int
		}{
			{"untouched, a stranger", nil, nil, 0},
			{"untouched, with a session", []string{"set:a:b"}, nil, 0},
			{"a stranger reads", nil, []string{"get:a", "has:a", "keys", "take:a", "peek:a", "nhas:a", "nkeys", "drain", "handle", "expiry"}, 0},
			{"a stranger deletes, rotates, destroys", nil, []string{"delete:a", "clear", "pop:a", "ndelete:a", "rotate", "destroy"}, 0},
			{"first read", []string{"set:a:b"}, []string{"get:a"}, 1},
			{"further reads", []string{"set:a:b"}, []string{"get:a", "get:a", "get:c", "has:a", "has:c", "keys"}, 1},
			{"keys, then further reads", []string{"set:a:b"}, []string{"keys", "get:a"}, 1},
			{"Set", []string{"set:a:b"}, []string{"set:a:c"}, 1},
			{"Set, then read it", []string{"set:a:b"}, []string{"set:a:c", "get:a"}, 1},
			{"Set on a first visit", nil, []string{"set:a:b"}, 1},
			{"Set on a first visit, then reads", nil, []string{"set:a:b", "get:a", "get:c", "keys"}, 1},
			{"SetMany", []string{"set:a:b"}, []string{"setmany:a:1:b:2:c:3"}, 1},
			{"SetMany on a first visit", nil, []string{"setmany:a:1:b:2:c:3"}, 1},
			{"Increment", []string{"set:a:b"}, []string{"inc:n:1"}, 1},
			{"Increment on a first visit", nil, []string{"inc:n:1"}, 1},
			{"read and Update", []string{"inc:n:1"}, []string{"number:n", "update:n"}, 2},
			{"Update on a first visit", nil, []string{"update:n"}, 1},
			{"Delete", []string{"set:a:b"}, []string{"delete:a:b"}, 1},
			{"Clear", []string{"setmany:a:b:c:d", "note:a:b", "add:i:t"}, []string{"clear"}, 1},
			{"Clear, then reads", []string{"set:a:b"}, []string{"get:a", "clear", "get:a", "keys"}, 3},
			{"Pop", []string{"set:a:b"}, []string{"pop:a"}, 1},
			{"Pop, none there", []string{"set:a:b"}, []string{"pop:c"}, 1},
			{"Pop, then read it", []string{"set:a:b"}, []string{"get:a", "pop:a", "get:a"}, 2},
			{"Handle", []string{"set:a:b"}, []string{"handle", "handle"}, 1},
			{"Handle, after a read", []string{"set:a:b"}, []string{"get:a", "handle"}, 1},
			{"Expiry", []string{"set:a:b"}, []string{"expiry"}, 1},
			{"Expiry, after a read", []string{"set:a:b"}, []string{"get:a", "expiry"}, 2},
			{"notification Set", []string{"set:a:b"}, []string{"note:a:b"}, 1},
			{"notification Set on a first visit", nil, []string{"note:a:b"}, 1},
			{"notification Get", []string{"note:a:b"}, []string{"take:a"}, 1},
			{"notification Get, none there", []string{"set:a:b"}, []string{"take:a"}, 1},
			{"notification Peek", []string{"note:a:b"}, []string{"peek:a"}, 1},
			{"Add", []string{"set:a:b"}, []string{"add:info:text"}, 1},
			{"Drain", []string{"add:info:text"}, []string{"drain"}, 1},
			{"a page, none waiting", []string{"set:a:b"}, []string{"get:a", "take:n", "peek:n", "nhas:n", "nkeys", "drain"}, 1},
			{"a page, none waiting any more", []string{"set:a:b", "note:n:o", "add:i:t", "take:n", "drain"}, []string{"keys", "drain"}, 1},
			{"a page, one waiting", []string{"set:a:b", "add:i:t"}, []string{"get:a", "drain"}, 2},
			{"a page that adds one itself", []string{"set:a:b"}, []string{"get:a", "add:i:t", "drain"}, 3},
			{"Rotate", []string{"setmany:a:b:c:d"}, []string{"rotate"}, 1},
			{"Rotate with notifications", []string{"set:a:b", "note:a:b", "add:i:t"}, []string{"rotate"}, 1},
			{"Destroy", []string{"set:a:b", "note:a:b", "add:i:t"}, []string{"destroy"}, 1},
			{"Login", []string{"set:a:b", "note:a:b"}, []string{"login:ann"}, 1},
			{"Login again, remembered", []string{"login:ann", "remember"}, []string{"login:ann"}, 1},
			{"Login of another user", []string{"login:ann", "set:a:b", "note:a:b", "add:i:t"}, []string{"login:bob"}, 1},
			{"SetUser of another user", []string{"login:ann", "set:a:b", "note:a:b", "add:i:t"}, []string{"setuser:bob"}, 1},
			{"Set by a user", []string{"login:ann"}, []string{"set:a:b"}, 1},
			{"RevokeOthers, none there", []string{"login:ann"}, []string{"others"}, 2},
			{"Destroy by a user", []string{"login:ann", "set:a:b"}, []string{"destroy"}, 1},
			{"Login and Remember", nil, []string{"login:ann", "remember", "remembered"}, 2},
			{"Remembered", []string{"login:ann", "remember"}, []string{"remembered"}, 1},
			{"Remembered, after a read", []string{"login:ann", "remember"}, []string{"get:a", "remembered"}, 1},
			{"Remembered, a stranger", nil, []string{"remembered"}, 0},
		} {
			t.Run(test.name, func(t *testing.T) {
				server.Do(0, "FLUSHALL")
				b := site.browser()
				if test.have != nil {
					b.must(test.have...)
				}
				size := server.Size()
				var sets bool
				want := test.want
				if server.Nodes() != nil {
					for _, op := range test.ops {
						switch name, _, _ := strings.Cut(op, ":"); name {
						case "login", "setuser", "remember":
							want++
						case "expiry", "others": // begin with HMGET, which scripts use too and so isn't counted
							want -= min(want, 1)
						}
					}
				}
				got := count(func() {
					a, list := b.do(test.ops...)
					for i, o := range list {
						if o.Err != "" {
							t.Errorf("%s: %s", test.ops[i], o.Err)
						}
					}
					sets = a.setsCookie()
				})
				equal(t, "round trips", want, got)
				if test.want == 0 && (sets || server.Size() != size) {
					t.Errorf("cookie set: %v, keys: %d, were %d", sets, server.Size(), size)
				}
			})
		}

		t.Run("read with renewal due", func(t *testing.T) {
			server.Do(0, "FLUSHALL")
			b := site.browser()
			b.must("set:a:b", "note:n:o", "add:i:t")
			key := server.OnlyKey()
			server.Do(0, "PEXPIRE", key, (12 * time.Hour).Milliseconds())
			b.must("get:a") // Redis has then seen the script
			server.Do(0, "PEXPIRE", key, (12 * time.Hour).Milliseconds())
			equal(t, "round trips", 2, count(func() { b.must("get:a") }))
			if left := server.Do(0, "PTTL", key).(int64); left < (23 * time.Hour).Milliseconds() {
				t.Errorf("not renewed: %d ms are left", left)
			}
		})

		t.Run("a large session", func(t *testing.T) {
			server.Do(0, "FLUSHALL")
			b := site.browser()
			ops := []string{}
			for i := range 200 {
				ops = append(ops, fmt.Sprintf("set:name%d:%040d", i, i))
			}
			b.must(ops...)
			equal(t, "round trips", 1, count(func() { b.must("get:name7", "get:name7") }))
		})
	})
}
