package pycket

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// request is what the library knows of one request: the one owner of the pair, the id and what was read
// of the session. App.Wrap makes it; both managers, and every mixin of the request, are views of it, so
// they share one id and one Set-Cookie. It is its own context, and the response's writer, so that an
// untouched request costs two allocations.
type request struct {
	context.Context
	response

	app   *App
	http  *http.Request
	began time.Time
	over  atomic.Bool // the handler has returned: the server is about to cancel the context

	session       SessionManager
	notifications NotificationManager

	// mu is held during every operation, its round trip included: two goroutines of one request then
	// make one session, not two, and the headers wait for a session that is being made.
	mu         queueLock
	current    operation // of who holds mu
	touched    bool      // an operation was begun: the response depends on the cookie
	identified bool      // the request's cookie was looked for
	id         *sessionID
	place      place
	lifetime   int64 // of the browser's cookie, in seconds; 0 is until it is closed
	issued     int64 // when the browser's cookie was signed: Unix time
	renew      bool  // the browser's cookie has another lifetime now
	seen       bool  // this request has found or made the session alive
	ended      bool  // somebody else ended it: no write of this request may start another
	snapshot   snapshot
	cookie     cookieChange

	// before: the session had ended before this request began, so that a login may start another, even while
	// ended keeps all other writes from that.
	before bool

	// ending names this request in the marks of the sessions that it destroys.
	ending string

	// tried is the id of a rotation, nil if there is none of which it is not known what came of it; and
	// triedFor is what its cookie's lifetime would be.
	tried    *sessionID
	triedFor int64
}

// operation is what one on the session may take: it is over when its context ends, or Timeout after it began.
type operation struct {
	context.Context
	began time.Time
}

// cookieChange is what the response does to the browser's cookie.
type cookieChange int

const (
	keepCookie cookieChange = iota
	setCookie
	deleteCookie
)

// snapshot is what a request has read of its session, and what it has written since.
type snapshot struct {
	whole bool    // what is neither in read nor in known is not in the session
	begun bool    // something of it was read
	read  answer  // as Redis answered
	known []known // newer than read, once each
}

// known is a value that was read or written by itself; nil if it is not there.
type known struct {
	name  string
	value []byte
}

func (s *snapshot) lookup(name string) (value []byte, ok bool) {
	if i := s.find(name); i >= 0 {
		return s.known[i].value, true
	}
	if !s.whole {
		return nil, false
	}
	value, _ = s.read.field(name)
	return value, true
}

func (s *snapshot) learn(name string, value []byte) {
	if i := s.find(name); i >= 0 {
		s.known[i].value = value
	} else {
		s.known = append(s.known, known{name, value})
	}
}

func (s *snapshot) find(name string) int {
	return slices.IndexFunc(s.known, func(k known) bool { return k.name == name })
}

func (s *snapshot) names() []string {
	names := slices.DeleteFunc(s.read.names(), func(name string) bool { return s.find(name) >= 0 })
	for _, k := range s.known {
		if k.value != nil && !strings.HasPrefix(k.name, reserved) {
			names = append(names, k.name)
		}
	}
	slices.Sort(names)
	return names
}

type requestKey struct{}

// within is a context in which a request is found: by requestKey, whatever its App, and by its App.
type within struct {
	context.Context
	request *request
}

func (c within) Value(key any) any {
	if key == (requestKey{}) || key == any(c.request.app) {
		return c.request
	}
	return c.Context.Value(key)
}

// Value lets the request be found in its own context.
func (q *request) Value(key any) any { return within{q.Context, q}.Value(key) }

// requestOf finds the state of a request, by its context or, where a framework has replaced that, by
// its writer.
func requestOf(w http.ResponseWriter, r *http.Request) *request {
	if r != nil {
		if q, ok := r.Context().Value(requestKey{}).(*request); ok {
			return q
		}
	}
	return ownerOf(w, func(*request) bool { return true })
}

// requestOf finds the state that a request has already, where Wrap stands within Wrap; between the two there may be
// another App's. A context alone does not make the same request of it: a handler may serve others with its own.
func (a *App) requestOf(w http.ResponseWriter, r *http.Request) *request {
	if q := ownerOf(w, func(q *request) bool { return q.app == a }); q != nil {
		return q
	}
	if q, ok := r.Context().Value(a).(*request); ok && !q.over.Load() && slices.Equal(r.Header["Cookie"], q.http.Header["Cookie"]) {
		return q
	}
	return nil
}

func ownerOf(w http.ResponseWriter, fits func(*request) bool) *request {
	for w != nil {
		if own, ok := w.(interface{ owner() *request }); ok {
			if q := own.owner(); fits(q) {
				return q
			}
		}
		wrapper, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return nil
		}
		w = wrapper.Unwrap()
	}
	return nil
}

// enter begins an operation. If it returns no error, mu is locked.
func (q *request) enter(ctx context.Context) error {
	op := operation{ctx, time.Now()}
	err := ctx.Err()
	if err == nil {
		err = q.mu.lockBy(ctx, op.began.Add(q.app.store.timeout))
	}
	if err != nil {
		return q.orOver(err)
	}
	q.current = op
	q.touched = true
	q.identify()
	return nil
}

// orOver says of an operation's error that the request has ended, where that is why its context was cancelled:
// it is the request's own, or one that was derived from it.
func (q *request) orOver(err error) error {
	if q.over.Load() && q.Context.Err() != nil && errors.Is(err, context.Canceled) {
		return fmt.Errorf("the request has ended: %w", err)
	}
	return err
}

// end is the end of the handler, which may have written nothing.
func (q *request) end() {
	q.commit()
	q.over.Store(true)
}

// identify looks for the request's cookie, once.
func (q *request) identify() {
	if q.identified {
		return
	}
	q.identified, q.lifetime = true, q.app.cookies.lifetime
	found, forged := q.app.cookies.find(q.http.Header)
	if found != nil {
		q.adopt(found.id)
		q.lifetime, q.issued = found.lifetime, found.issued
	} else if forged != "" {
		q.app.warnings.forged(forged)
	}
}

func (q *request) adopt(id *sessionID) {
	q.id, q.place, q.tried = id, q.app.store.place(id), nil
}

// next is the id for a rotation: if it is not known what came of one before, the same.
func (q *request) next(lifetime int64) *sessionID {
	if q.tried == nil {
		q.tried = q.id.rotated()
	}
	q.triedFor = lifetime
	return q.tried
}

// underWay is how long after an id was ended requests may still arrive that the browser had sent before
// it knew: what a network takes at the slow end. For so long the browser that never got its new cookie
// can't have another, but by a login after its session was destroyed.
const underWay = 5 * time.Second

// tick is how exactly the scripts tell the time.
const tick = time.Millisecond

// isDead takes note that the id was found not to be alive.
//
// A session that expired by itself, or was ended before this request was sent, may be followed by
// another. If it was ended later, this request's writes must not go anywhere: the browser has a newer
// cookie by now. A request that saw it alive, or that began before the marks that Redis still has, can't
// tell, and counts as one from before. A request that has ended it itself, and was not told, knows its mark.
func (q *request) isDead(v verdict, a answer) {
	if v == destroyed && q.ending != "" && a.token == q.ending {
		q.isDestroyed()
		return
	}
	age := time.Since(q.began)
	if v != expired && a.time < age+underWay || q.seen || age > late {
		q.ended = true
	}
	q.renew = false
	q.before = v == destroyed && !q.seen && a.time-tick > age
	q.id, q.lifetime = nil, q.app.cookies.lifetime
	q.snapshot = snapshot{whole: true}
	if q.cookie == setCookie { // of an id that is dead now
		q.cookie = keepCookie
	}
}

// isDestroyed takes note that this request has ended the session.
func (q *request) isDestroyed() {
	q.id, q.seen, q.lifetime = nil, false, q.app.cookies.lifetime
	q.snapshot = snapshot{whole: true}
	q.cookie, q.renew = deleteCookie, false
}

// run runs a script on the session. If its id was rotated away, it may be that this request did that and was not
// told: then the session lives under the id that it has tried.
func (q *request) run(s *script, args ...any) (verdict, answer, error) {
	v, a, err := q.app.store.run(q.current.Context, q.current.began, s, q.place, args...)
	if err != nil || v != rotated || q.tried == nil || q.committed.Load() {
		return v, a, err
	}
	next := q.tried
	v, a, err = q.app.store.run(q.current.Context, q.current.began, s, q.app.store.place(next), args...)
	if err == nil && v != expired && v != destroyed && v != rotated {
		q.adopt(next)
		q.cookie, q.lifetime, q.snapshot = setCookie, q.triedFor, snapshot{}
	}
	return v, a, err
}

// inquire runs a script that makes no session. With no session alive it answers expired.
func (q *request) inquire(s *script, args ...any) (verdict, answer, error) {
	if q.id == nil {
		return expired, answer{}, nil
	}
	v, a, err := q.run(s, args...)
	if err != nil {
		return 0, a, q.orOver(err)
	}
	switch v {
	case done:
		q.seen = true
	case expired, destroyed, rotated:
		q.isDead(v, a)
	case unlisted:
	default:
		return 0, answer{}, errMalformed
	}
	return v, a, nil
}

// write runs a script that may make the session. The first of its arguments says whether it may, and is
// filled in here.
func (q *request) write(s *script, args []any) (answer, error) {
	return q.writeAs(s, args, false, func(bool, time.Duration) error { return nil })
}

// writeAs is write for arguments that depend on the id: they are filled in by prepare, which is told whether
// the session is made by it, and the session's idle timeout as far as is known. login says that it may start
// another session after one that was over.
func (q *request) writeAs(s *script, args []any, login bool, prepare func(fresh bool, idle time.Duration) error) (answer, error) {
	idle := q.app.settings.IdleTimeout
	for range 4 { // once; a fresh session after an expired one; another id for one in use; longer on the list
		if q.ended && !(login && q.before) {
			return answer{}, ErrGone
		}
		fresh := q.id == nil
		if fresh {
			if q.committed.Load() {
				return answer{}, q.app.warnings.headersSent()
			}
			q.adopt(newID())
		}
		args[0] = flag(fresh)
		var v verdict
		var a answer
		err := prepare(fresh, idle)
		if err == nil {
			v, a, err = q.run(s, args...)
		}
		if fresh && (err != nil || v != done) {
			q.id = nil
		}
		if err != nil {
			return a, q.orOver(err)
		}
		switch v {
		case done:
			if fresh && a.kind == '_' { // a swap that found nothing to swap with: nothing was made
				q.id = nil
				return a, nil
			}
			if fresh {
				q.cookie = setCookie
				q.snapshot = snapshot{whole: true}
				q.ended, q.before = false, false
			}
			q.seen = true
			return a, nil
		case expired, destroyed, rotated:
			q.isDead(v, a)
		case taken:
		case unlisted:
			idle = a.time
		case tooLarge:
			return a, fmt.Errorf("%w: the session would take more than Settings.MaxSessionBytes, %d bytes", ErrTooLarge, q.app.settings.MaxSessionBytes)
		case notNumber:
			return a, errNotNumber
		}
	}
	return answer{}, errMalformed
}

// value finds a value in the snapshot, which is read if it must be. It is nil if there is none.
func (q *request) value(name string) ([]byte, error) {
	if value, known := q.snapshot.lookup(name); known {
		return value, nil
	}
	v, a, err := q.inquire(&q.app.store.read, name, flag(q.snapshot.begun))
	switch {
	case err != nil:
		return nil, err
	case v != done:
		return nil, nil
	case a.ends('W'):
		q.snapshot = snapshot{whole: true, read: a}
		value, _ := a.field(name)
		return value, nil
	}
	q.snapshot.begun = true
	q.snapshot.learn(name, a.value())
	return a.value(), nil
}

// names gives the names of all values, sorted.
func (q *request) names() ([]string, error) {
	if !q.snapshot.whole {
		v, a, err := q.inquire(&q.app.store.read)
		switch {
		case err != nil:
			return nil, err
		case v == done && a.ends('W'):
			q.snapshot = snapshot{whole: true, read: a}
		case v == done:
			names := a.names()
			slices.Sort(names)
			return names, nil
		}
	}
	return q.snapshot.names(), nil
}

func (q *request) rotate() error {
	if q.ended {
		return ErrGone
	}
	if q.id == nil {
		return nil // the first write makes a new id anyway
	}
	if q.committed.Load() {
		return q.app.warnings.headersSent()
	}
	next := q.next(q.lifetime)
	v, _, err := q.inquire(&q.app.store.rotate, next.verifier)
	switch {
	case err != nil:
		return err
	case q.ended:
		return ErrGone
	case v == done:
		q.adopt(next)
		q.cookie = setCookie
	}
	return nil
}

// destroy ends the session. The cookie is only deleted by the request that ended it: by any other, it
// might be the cookie of a newer session.
func (q *request) destroy() error {
	if q.ended && !q.before {
		return ErrGone
	}
	if q.ending == "" {
		q.ending = rand.Text()
	}
	v, _, err := q.inquire(&q.app.store.destroy, q.ending)
	switch {
	case errors.Is(err, errWrongType): // not a session's: leave it, and let the browser go
		q.id, q.seen, q.snapshot, q.cookie = nil, false, snapshot{whole: true}, deleteCookie
	case err != nil:
		return err
	case v == rotated && q.ended: // it lives on, and this request can't end it
		return ErrGone
	case v == done:
		q.isDestroyed()
	}
	return nil
}

// headers writes what the response owes to the session. It is called once, when the response's headers
// are about to be sent, with mu locked.
func (q *request) headers(h http.Header) {
	if !q.touched {
		return
	}
	addVary(h)
	var line string
	if q.cookie == keepCookie && q.due() {
		q.cookie = setCookie
	}
	switch q.cookie {
	case keepCookie:
		return
	case setCookie:
		var err error
		if line, err = q.app.cookies.set(q.http, q.id, q.lifetime); err != nil {
			q.app.logger.Error("pycket: the session's cookie cannot be made", "error", err)
			return
		}
		if q.app.cookies.dropped(q.http) {
			q.app.warnings.plain()
		}
	case deleteCookie:
		line = q.app.cookies.delete(q.http)
		if q.app.settings.Cookies.ClearSiteData {
			clearSiteData(h)
		}
	}
	h.Add("Set-Cookie", line)
	forbidSharedCaching(h)
}

func addVary(h http.Header) {
	for _, line := range h["Vary"] {
		for field := range strings.SplitSeq(line, ",") {
			if field = strings.TrimSpace(field); field == "*" || strings.EqualFold(field, "Cookie") {
				return
			}
		}
	}
	h.Add("Vary", "Cookie")
}

// forbidSharedCaching keeps a response that carries a cookie out of every cache but the browser's.
// What the handler said is kept if it is at least as strict.
func forbidSharedCaching(h http.Header) {
	strict := false
	for _, line := range h["Cache-Control"] {
		for directive := range strings.SplitSeq(line, ",") {
			switch strings.ToLower(strings.TrimSpace(directive)) {
			case "no-store", "private":
				strict = true
			}
		}
	}
	if !strict {
		h.Set("Cache-Control", "private, no-store")
	}
}
