package pycket_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/pycket/pycket/internal/redistest"
)

// The round trips of every operation, counted on the wire (promise 8).
func TestRoundTrips(t *testing.T) {
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		proxy, s := proxied(t, server)
		site := newSite(t, s)
		for _, warm := range []string{"set:a:b", "get:a", "setmany:a:b", "inc:n:1", "update:u", "delete:a", "note:a:b", "peek:a", "take:a", "add:i:t", "drain", "rotate", "login:ann", "remember", "remembered", "destroy"} {
			b := site.browser() // Redis has then seen every script
			b.must("set:a:b")
			b.must(warm)
		}
		for _, test := range []struct {
			name string
			have []string // what an earlier request of the browser did
			ops  []string
			want int
		}{
			{"untouched, a stranger", nil, nil, 0},
			{"untouched, with a session", []string{"set:a:b"}, nil, 0},
			{"a stranger reads", nil, []string{"get:a", "has:a", "keys", "take:a", "peek:a", "nhas:a", "nkeys", "drain"}, 0},
			{"a stranger deletes, rotates, destroys", nil, []string{"delete:a", "ndelete:a", "rotate", "destroy"}, 0},
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
			{"Login of another account", []string{"login:ann", "set:a:b", "note:a:b", "add:i:t"}, []string{"login:bob"}, 1},
			{"SetUser of another account", []string{"login:ann", "set:a:b", "note:a:b", "add:i:t"}, []string{"setuser:bob"}, 1},
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
				got := proxy.Trips(func() {
					a, list := b.do(test.ops...)
					for i, o := range list {
						if o.Err != "" {
							t.Errorf("%s: %s", test.ops[i], o.Err)
						}
					}
					sets = a.setsCookie()
				})
				if got != test.want {
					t.Errorf("%d round trips, want %d", got, test.want)
				}
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
			if got := proxy.Trips(func() { b.must("get:a") }); got != 2 {
				t.Errorf("%d round trips, want 2", got)
			}
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
			if got := proxy.Trips(func() { b.must("get:name7", "get:name7") }); got != 1 {
				t.Errorf("one value read twice: %d round trips, want 1", got)
			}
		})
	})
}
