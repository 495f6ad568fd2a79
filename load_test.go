package pycket_test

// A load is visitors who use their sessions all the time, and for each a model: what may be stored, what was handed out,
// which sessions have ended. What they find is compared with it while a fault begins, lasts and ends.
//
//	l := newLoad(t, settings(server), nothing)
//	l.during(server.Suspend, server.Resume)
//	l.scan(server)

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gomodule/redigo/redis"

	"github.com/pycket/pycket"
	"github.com/pycket/pycket/internal/redistest"
)

// A loss is what of the acknowledged writes a fault may lose.
type loss int

const (
	nothing loss = iota
	keys         // whole ones: a session, its notifications
	moments      // the last: all goes back to what it was before
)

// A kind is a kind of operation.
type kind int

const (
	reads kind = iota
	writes
	takes // of notifications
	logouts
	kinds
)

// The phases of a load. An operation that is in two of them may end either way.
const (
	before = iota
	beginning
	outage
	ending
	after
)

type load struct {
	t        *testing.T
	site     *site
	timeout  time.Duration
	loses    loss
	enough   int // reads and writes in the outage, before it ends
	visitors []*regular
	phase    atomic.Int32
	proxy    *redistest.Proxy     // to the server, if the network is at fault
	resolves func(address string) // says what the server's name stands for, if DNS is
	back     atomic.Int32         // how often the server has come back without its last moments
	over     atomic.Bool

	mu      sync.Mutex
	answers [kinds]answers
}

// answers are those to the operations of one kind.
type answers struct {
	worked, refused int           // in the outage
	longest         time.Duration // in the outage, or when it began or ended
}

func (a answers) all() int { return a.worked + a.refused }

// visitors is how many a load has. Every second logs out now and then, and every fourth has large values.
const visitors = 8

// newLoad is a load on a site with these settings, whose server loses no more than that in a fault.
func newLoad(t *testing.T, s pycket.Settings, loses loss) *load {
	l := &load{t: t, site: unstartedSite(t, s), timeout: s.Redis.Timeout, loses: loses, enough: 1}
	for i := range visitors {
		v := &regular{load: l, user: fmt.Sprint("visitor", i), leaves: i%2 == 0, step: 5 * i}
		if i%4 == 3 {
			v.pad = large
		}
		l.visitors = append(l.visitors, v)
	}
	return l
}

// during runs the load, lets a fault begin and end in the middle of it, and checks what was promised.
func (l *load) during(begin, end func()) {
	l.t.Helper()
	var running sync.WaitGroup
	defer running.Wait()
	defer l.over.Store(true)
	for _, v := range l.visitors {
		running.Go(func() {
			for !l.over.Load() {
				v.next()
				time.Sleep(time.Millisecond)
			}
		})
	}
	l.awaitRequests(20)
	l.phase.Store(beginning)
	begin()
	l.awaitRequests(1) // those under way
	if l.loses == moments {
		l.back.Add(1)
	}
	l.phase.Store(outage)
	await(l.t, "answers in the outage", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return min(l.answers[reads].all(), l.answers[writes].all()) >= l.enough && l.answers[logouts].all() > 0
	})
	l.phase.Store(ending)
	end()
	l.phase.Store(after)
	l.awaitRequests(10)
	l.over.Store(true)
	running.Wait()
	for _, v := range l.visitors {
		v.in = v.in && v.read()
		for _, cookie := range v.ended {
			wantAnonymous(l.t, l.site, cookie)
		}
	}
	noError(l.t, l.site.app.Ping(l.t.Context()))
	for kind, name := range []string{"reads", "writes", "takes", "logouts"} {
		a := l.answers[kind]
		l.t.Logf("%-8s %4d worked, %4d refused, the longest took %v", name+":", a.worked, a.refused, a.longest.Round(time.Millisecond))
	}
}

// restore makes the network pass on everything, on new connections. What was on its way is lost, and so may a write be
// that comes before the application has seen that its connection is cut.
func (l *load) restore() {
	for range 2 { // connections, and those that were begun in between
		l.proxy.Cut()
		l.proxy.Calm()
		l.proxy.Pass()
		l.proxy.Delay(0)
		l.proxy.Trickle(0)
		l.proxy.Corrupt(nil)
		l.proxy.DropReplies(false)
	}
	l.awaitRequests(1)
}

// awaitRequests waits until each visitor has done so many requests more, the one under way included.
func (l *load) awaitRequests(n int64) {
	l.t.Helper()
	for _, v := range l.visitors {
		enough := v.requests.Load() + n
		await(l.t, "requests", func() bool { return v.requests.Load() >= enough })
	}
}

// await waits until something is so.
func await(t testing.TB, what string, is func() bool) {
	t.Helper()
	for began := time.Now(); !is(); time.Sleep(time.Millisecond) {
		if time.Since(began) > time.Minute {
			t.Fatalf("%s are awaited in vain", what)
		}
	}
}

// note records the answer to an operation that began in a phase, and checks that it may be so.
func (l *load) note(k kind, began int32, took time.Duration, err error) {
	heard.err(err)
	now := l.phase.Load()
	l.mu.Lock()
	defer l.mu.Unlock()
	a := &l.answers[k]
	if now > before && began < after {
		a.longest = max(a.longest, took)
	}
	if began == outage && now == outage {
		if err == nil {
			a.worked++
		} else {
			a.refused++
		}
	}
	if took > bound {
		l.t.Errorf("an operation took %v, and the timeout is %v: %v", took, l.timeout, err)
	}
	if err == nil {
		return
	}
	if l.over.Load() || began == after || now == before {
		l.t.Errorf("without an outage: %v", err)
	}
	if !errors.Is(err, pycket.ErrUnavailable) {
		l.t.Errorf("an error that no outage explains: %v", err)
	}
}

// wants checks what came of the operations of a kind in the outage.
func (l *load) wants(name string, k kind, want service) {
	l.t.Helper()
	a := l.answers[k]
	if want == works && a.refused > 0 || want == fails && a.worked > 0 {
		l.t.Errorf("of the %s, %d worked and %d were refused; want %s", name, a.worked, a.refused, want)
	}
}

// A service is what a kind of operation gets in an outage.
type service string

const (
	works  service = "that all work"
	fails  service = "that none does"
	either service = "nothing in particular"
)

// A regular is one browser after the other, all of one user.
type regular struct {
	load     *load
	user     string
	pad      string // makes values large
	leaves   bool   // it logs out now and then
	step     int
	requests atomic.Int64
	back     int32 // what load.back was

	// The model. What was not acknowledged may be carried out at any time, even after later writes: it may lie in a
	// buffer on the way.
	browser     *browser
	in          bool // it has a session
	leaving     bool // it has tried to log out, and does not know what came of it
	serial      int
	stored      string          // the pair that was acknowledged last
	unsure      map[string]bool // pairs that were not acknowledged
	written     map[string]bool // all
	least, most int64           // what was counted
	sent        map[string]bool // messages
	handed      map[string]bool // messages that were handed out
	ended       []string        // cookies of sessions that have ended
}

// next does what comes next.
func (v *regular) next() {
	if !v.in {
		v.signIn()
		return
	}
	acts := []func(){func() { v.read() }, v.write, v.count, v.notify, func() { v.read() }, v.queue, v.write}
	v.step++
	phase := v.load.phase.Load()
	switch {
	case v.leaving, v.leaves && v.step%17 == 0 && phase != beginning, v.leaves && v.step%3 == 0 && phase == outage:
		if v.read() {
			v.logOut()
		}
	default:
		acts[v.step%len(acts)]()
	}
}

// do is one request, and reports whether all that it did has worked.
func (v *regular) do(k kind, act func(s *pycket.SessionManager, n *pycket.NotificationManager) error) bool {
	if back := v.load.back.Load(); back != v.back {
		v.back = back
		v.stored, v.unsure, v.least, v.handed, v.ended = "", maps.Clone(v.written), 0, map[string]bool{}, nil
	}
	var err error
	began, phase := time.Now(), v.load.phase.Load()
	a := v.load.site.visit(v.browser, func(_ http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, n *pycket.NotificationManager) {
		err = act(s, n)
	})
	took := time.Since(began)
	v.load.note(k, phase, took, err)
	v.requests.Add(1)
	if v.in && k != logouts && a.setsCookie() {
		v.lost("has begun another session")
		return false
	}
	return err == nil
}

// lost is for a visitor whose session is not there any more.
func (v *regular) lost(how string) {
	if v.load.loses == nothing {
		v.load.t.Errorf("%s %s, and there was one", v.user, how)
	}
	v.in, v.leaving = false, false
}

// pair is a value that is stored under two names at once.
func (v *regular) pair() string {
	v.serial++
	value := fmt.Sprint(v.serial, " of ", v.user, v.pad)
	v.written[value] = true
	return value
}

func (v *regular) signIn() {
	v.browser = v.load.site.browser()
	v.unsure, v.written, v.sent, v.handed = map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]bool{}
	v.least, v.most = 0, 0
	value := v.pair()
	v.in = v.do(writes, func(s *pycket.SessionManager, _ *pycket.NotificationManager) error {
		return s.Login(v.user, pycket.Values{"owner": v.user, "a": value, "b": value})
	})
	v.stored = value
}

// read compares what is stored with the model, and reports whether there is a session.
func (v *regular) read() bool {
	var owner, a, b string
	var n int64
	if !v.do(reads, func(s *pycket.SessionManager, _ *pycket.NotificationManager) (err error) {
		if owner, err = pycket.Get(s, "owner", ""); err == nil {
			a, err = pycket.Get(s, "a", "")
		}
		if err == nil {
			b, err = pycket.Get(s, "b", "")
		}
		if err == nil {
			n, err = pycket.Get(s, "n", int64(0))
		}
		return err
	}) {
		return v.in
	}
	large := v.pad != "" // and read value by value
	switch {
	case owner == "" && a == "" && b == "" && n == 0, large && v.load.loses > nothing && (a == "" || b == "" || n == 0 && v.least > 0):
		if !v.leaving {
			v.lost("has no session")
		}
	case owner != v.user:
		v.load.t.Errorf("%s finds the session of %q", v.user, owner)
	case a != b && !large:
		v.load.t.Errorf("%s finds half of a write: %q and %q", v.user, short(a), short(b))
	case a != v.stored && !v.unsure[a], b != v.stored && !v.unsure[b]:
		v.load.t.Errorf("%s finds %q and %q, which can't be", v.user, short(a), short(b))
	case n < v.least || n > v.most:
		v.load.t.Errorf("%s counts %d, and it must be %d to %d", v.user, n, v.least, v.most)
	}
	v.least = max(v.least, n)
	return v.in
}

func short(s string) string { return s[:min(len(s), 40)] }

func (v *regular) write() {
	value := v.pair()
	if v.do(writes, func(s *pycket.SessionManager, _ *pycket.NotificationManager) error {
		return s.SetMany(pycket.Values{"a": value, "b": value})
	}) {
		v.stored = value
	} else {
		v.unsure[value] = true
	}
}

func (v *regular) count() {
	v.most++
	var n int64
	if v.do(writes, func(s *pycket.SessionManager, _ *pycket.NotificationManager) (err error) {
		n, err = s.Increment("n", 1)
		return err
	}) {
		if n <= v.least || n > v.most {
			v.load.t.Errorf("%s counts %d, and it must be more than %d, and at most %d", v.user, n, v.least, v.most)
		}
		v.least = n
	}
}

// notify sends a notification, and takes it twice: once, it is there.
func (v *regular) notify() {
	v.serial++
	name, text, back, times := fmt.Sprint("note", v.serial), fmt.Sprint(v.serial, " to ", v.user), v.back, 0
	sent := v.do(writes, func(_ *pycket.SessionManager, n *pycket.NotificationManager) error { return n.Set(name, text) })
	for i := range 2 {
		got := ""
		took := v.in && v.do(takes, func(_ *pycket.SessionManager, n *pycket.NotificationManager) (err error) {
			got, err = pycket.Get(n, name, "")
			return err
		})
		switch {
		case got == text:
			times++
		case got != "":
			v.load.t.Errorf("%s is handed %q, not %q", v.user, got, text)
		case i == 0 && sent && took && v.load.loses == nothing:
			v.load.t.Errorf("%s is not handed %q", v.user, text)
		}
	}
	if times > 1 && back == v.back {
		v.load.t.Errorf("%s is handed %q twice", v.user, text)
	}
}

// queue sends a message and reads all that there are.
func (v *regular) queue() {
	v.serial++
	text := fmt.Sprint(v.serial, " for ", v.user)
	v.sent[text] = true
	sent := v.do(writes, func(_ *pycket.SessionManager, n *pycket.NotificationManager) error { return n.Add("info", text) })
	if !v.in {
		return
	}
	var messages []pycket.Message
	drained := v.do(takes, func(_ *pycket.SessionManager, n *pycket.NotificationManager) (err error) {
		messages, err = n.Drain()
		return err
	})
	for _, m := range messages {
		if !v.sent[m.Text] || v.handed[m.Text] {
			v.load.t.Errorf("%s is handed %q, sent: %v, handed out before: %v", v.user, m.Text, v.sent[m.Text], v.handed[m.Text])
		}
		v.handed[m.Text] = true
	}
	if sent && drained && !v.handed[text] && v.load.loses == nothing {
		v.load.t.Errorf("%s is not handed %q", v.user, text)
	}
}

// logOut ends the session, by itself or by a revoke.
func (v *regular) logOut() {
	cookie, known := v.browser.cookie(), !v.leaving
	if v.serial++; v.serial%2 == 0 {
		v.leaving = !v.do(logouts, func(s *pycket.SessionManager, _ *pycket.NotificationManager) error { return s.Destroy() })
	} else {
		n, phase := 0, v.load.phase.Load()
		v.leaving = !v.do(logouts, func(*pycket.SessionManager, *pycket.NotificationManager) (err error) {
			n, err = v.load.site.app.RevokeUser(v.load.t.Context(), v.user)
			return err
		})
		if !v.leaving && known && n == 0 {
			// The list may have been lost, and the session not. Or an answer was lost, and when the command was sent again, the
			// session had ended.
			if now := v.load.phase.Load(); v.load.loses == nothing && (now == before || phase == after) {
				v.load.t.Errorf("%s had a session, and none was revoked", v.user)
			}
			v.leaving = v.load.loses > nothing
		}
	}
	if !v.leaving {
		v.ended, v.in = append(v.ended, cookie), false
	}
}

// scan looks at all keys. Each has a TTL, no session lasts for more than its idle timeout, and none has half of what was
// written at once.
func (l *load) scan(server *redistest.Server) {
	l.t.Helper()
	for db := range 2 {
		for _, key := range server.Keys(db) {
			if !strings.HasPrefix(key, "pycket:") {
				continue
			}
			left := time.Duration(server.Do(db, "PTTL", key).(int64)) * time.Millisecond
			if left == -time.Millisecond {
				l.t.Errorf("%s has no TTL", key)
			}
			if !strings.HasPrefix(key, "pycket:s:") {
				continue
			}
			if left > 24*time.Hour && l.loses == nothing { // otherwise it may be one that nobody uses
				l.t.Errorf("%s lasts for another %v", key, left)
			}
			fields, err := redis.Strings(server.Do(db, "HMGET", key, "pycket:id", "owner", "a", "b"), nil)
			require(l.t, err)
			id, owner, a, b := fields[0], fields[1], fields[2], fields[3]
			if id != "" && (a != b || owner == "" && l.loses == nothing) {
				l.t.Errorf("%s has half of what was written: %q, %q, %q", key, owner, short(a), short(b))
			}
		}
	}
}
