package pycket_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pycket/pycket/internal/redistest"
)

// Redis's clock decides how long a session lasts. These tests say what happens when somebody sets it, and that the
// application's own does not matter.

// hours is how far clocks are off: less than an idle timeout, and more than a tenth of it.
const hours = 6 * time.Hour

// wantLife wants a session to last for the idle timeout, or for nine tenths of it.
func wantLife(t *testing.T, server *redistest.Server, key string, idle time.Duration) {
	t.Helper()
	left := time.Duration(server.Do(0, "PTTL", key).(int64)) * time.Millisecond
	if left > idle || left < idle*9/10-time.Minute {
		t.Errorf("the session lasts for another %v, and its idle timeout is %v", left, idle)
	}
}

// A clock that jumps by hours on Redis's machine, and back, ends no session that still has time left and lets none that
// is used last longer than it should. Whatever reads or writes it first sets that right.
func TestRedisClockJumps(t *testing.T) {
	server := redistest.StartClocked(t)
	for _, absolute := range []time.Duration{0, 72 * time.Hour} {
		s := settings(server)
		s.AbsoluteTimeout = absolute
		site := newSite(t, s)
		for _, jump := range [][]time.Duration{{0, -hours}, {0, hours}, {hours, 0}, {0, -hours, hours}} {
			for _, op := range []string{"get:a", "peek:x", "set:b:c", "user"} {
				t.Run(fmt.Sprint(jump, ", absolute timeout ", absolute, ", ", op), func(t *testing.T) {
					server := server.On(t)
					server.SetClock(jump[0])
					server.Do(0, "FLUSHALL")
					b := site.browser()
					b.must("login:ann", "set:a:b", "note:x:y", "add:i:t")
					key := keyOf(idOf(t, b.cookie()))
					for _, at := range jump[1:] {
						server.SetClock(at)
						b.tab().must(op)
						wantLife(t, server, key, 24*time.Hour)
					}
					b.want([]outcome{{Value: "b"}, {Value: "ann"}, {Value: 1.0}, {Value: "y"}, {Value: "i=t"}, {}, {}},
						"get:a", "user", "inc:n:1", "take:x", "drain", "rotate", "login:ann")
					equal(t, "sessions", 1, len(list(t, site, "ann")))
					wantLife(t, server, key, 24*time.Hour)
					if n, err := site.app.RevokeUser(t.Context(), "ann"); n != 1 || err != nil {
						t.Errorf("%d were ended: %v", n, err)
					}
					wantAnonymous(t, site, b.cookie())
				})
			}
		}
	}
}

// A clock that jumps beyond the idle timeout ends the sessions there are, as time would have. New ones begin at once,
// and go on when the clock is set right.
func TestRedisClockJumpsFar(t *testing.T) {
	server := redistest.StartClocked(t)
	site := newSite(t, settings(server))
	for name, jump := range map[string]time.Duration{"a month ahead": 30 * 24 * time.Hour, "to 1970": time.Hour - time.Duration(time.Now().UnixNano())} {
		t.Run(name, func(t *testing.T) {
			server := server.On(t)
			server.SetClock(0)
			server.Do(0, "FLUSHALL")
			b := site.browser()
			b.must("login:ann", "set:a:b")
			old := b.cookie()
			server.SetClock(jump)
			if jump > 0 {
				wantAnonymous(t, site, old)
			}
			b = site.browser() // at 1970, the old session is still there
			b.must("login:ann", "set:a:c", "note:x:y")
			b.want([]outcome{{Value: "c"}, {Value: "ann"}}, "get:a", "user")
			key := keyOf(idOf(t, b.cookie()))
			wantLife(t, server, key, 24*time.Hour)
			if record := server.Hash(0, key)["pycket:id"]; jump < 0 && !strings.HasPrefix(record[22:], "000000360") {
				t.Errorf("the record says it was created at %.13s", record[22:])
			}
			b.want([]outcome{{Value: "y"}, {}}, "take:x", "note:x:z")
			server.SetClock(0)
			if jump > 0 { // what began in the future has more time left than it should
				b.want([]outcome{{Value: "c"}, {Value: "ann"}, {Value: "z"}}, "get:a", "user", "take:x")
				wantLife(t, server, key, 24*time.Hour)
			} else {
				wantAnonymous(t, site, b.cookie())
			}
			b.must("login:ann", "set:a:d")
			b.want([]outcome{{Value: "d"}}, "get:a")
		})
	}
}

// A session that was ended before the clock was set back has ended some time ago: its user may log in again, with the
// cookie that the browser still has.
func TestLoginAfterClockIsSetBack(t *testing.T) {
	server := redistest.StartClocked(t)
	site := newSite(t, settings(server))
	b := signIn(t, site, "ann")
	old := b.cookie()
	if n, err := site.app.RevokeUser(t.Context(), "ann"); n != 1 || err != nil {
		t.Fatalf("%d were ended: %v", n, err)
	}
	server.SetClock(-hours)
	for _, op := range []string{"login:ann", "set:a:b"} {
		late := b.with(old)
		late.want([]outcome{{}, {Value: "ann"}}[:1], op)
		if late.cookie() == old || keyOf(idOf(t, late.cookie())) == keyOf(idOf(t, old)) {
			t.Errorf("%s: the old session is back", op)
		}
	}
	wantAnonymous(t, site, old)
}

// A server whose clock is hours off serves the sessions of the others. Durations it measures by a clock that nobody
// sets; the time in a cookie that another has signed is off either way, and the cookie is given again.
func TestOwnClockIsOff(t *testing.T) {
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		s := settings(server)
		s.Cookies.ExpiresDays = 1
		site := newSite(t, s)
		for name, age := range map[string]time.Duration{"ahead": hours, "behind": -hours} {
			b := site.browser()
			b.must("set:a:b")
			id := idOf(t, b.cookie())
			other := b.with(signedFor(t, secret, "PYCKET_ID", id, age, 24*time.Hour))
			a := other.want([]outcome{{Value: "b"}, {}}, "get:a", "set:a:c")
			if got := strings.Join(a.header["Set-Cookie"], ""); !strings.Contains(got, "Max-Age=86400") {
				t.Errorf("%s: Set-Cookie: %q; the browser would drop the cookie of a session in use", name, got)
			}
			b.want([]outcome{{Value: "c"}}, "get:a")
		}
	})
}
