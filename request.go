package pycket

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pycket/pycket/internal/queue"
	"github.com/pycket/pycket/internal/store"
)

// A request is the state of one HTTP request. It alone owns the session's id and what was read of the session; both
// managers, and every mixin, are views of it, so they share one id and one Set-Cookie. It is also the request's context
// and the response's writer, so that an untouched request costs two allocations.
type request struct {
	context.Context
	response

	app   *App
	http  *http.Request
	began time.Time
	over  atomic.Bool // the handler has returned: the server is about to cancel the context

	session       SessionManager
	notifications NotificationManager

	// lock is held during every operation, its round trips included: two goroutines of one request then begin one
	// session, not two, and the headers wait for a session that is being made.
	lock queue.Lock

	skip    int       // how many of the request's cookies have been tried
	id      *store.ID // of the session; nil if there is none
	touched bool      // by an operation: the response depends on the cookie
	state   standing
	late    bool // a session of one of its cookies ended so late that no write may start another
	before  bool // it ended before this request began, though: a Login may start another

	// pending is the new id of a rotation whose result this request doesn't know. trying means that the request now uses
	// it as the session's id.
	trying  bool
	pending *store.ID

	// mark is the token in the marks of the sessions that this request destroys, by which it recognizes them.
	mark string

	trips    store.Trips // of the operation that has the lock
	snapshot snapshot
	lifetime int64 // of the browser's cookie, in seconds; 0 if it ends with the browser, or asStored
	issued   int64 // when the browser's cookie was signed, in Unix time
	cookie   cookieChange
	renew    bool // Remember has given the browser's cookie another lifetime
	clears   bool // it has destroyed a session
}

// A standing is what a request knows of whether its session is alive.
type standing int8

const (
	unknown standing = iota
	alive            // this request has found or made it alive
	ended            // another request has ended it: no write of this one may start another session
)

// asStored is a lifetime that depends on whether Remember holds for the session.
const asStored = -1

// A cookieChange is what the response does to the browser's cookie.
type cookieChange int8

const (
	keepCookie cookieChange = iota
	setCookie
	deleteCookie
)

type requestKey struct{}

// within is a context in which a request can be found, by requestKey (whatever its App) and by its App.
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

// requestOf finds the state of a request, by its context or, where a framework has replaced that, by its writer.
func requestOf(w http.ResponseWriter, r *http.Request) *request {
	if r != nil {
		if q, ok := r.Context().Value(requestKey{}).(*request); ok {
			return q
		}
	}
	return ownerOf(w, func(*request) bool { return true })
}

// requestOf finds the state that an outer Wrap of the same App has made, even if another App's Wrap is in between. The
// same context doesn't make it the same request: a handler may serve other requests with its own context.
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

// end is called when the handler has returned, which may have written nothing.
func (q *request) end() {
	q.commit()
	q.over.Store(true)
}

// An operation is one use of the session. It holds the request's lock from begin to end, round trips included, and is
// over when its context ends, or Timeout after it began.
//
// One that needs a session asks while there is an id to ask about:
//
//	for op.asks() {
//		op.heard(op.app.store.Delete(op.ctx, op.began, op.id, names))
//	}
//
// One that may begin the session tries until it has written or failed:
//
//	for op.next() {
//		op.wrote(op.app.store.Set(op.ctx, op.began, op.id, op.fresh, fields))
//	}
type operation struct {
	*request
	ctx   context.Context
	began store.Began

	login  bool // it may start a session after one that ended before the request began
	fresh  bool // the write begins a session
	tries  int
	done   bool // it has found the session alive
	err    error
	sealed []store.Field // what was last written

	unconfirmed error // ErrNotReplicated: the operation is done, and returns this
}

// begin begins an operation. Its timeout includes the wait for the lock.
func (q *request) begin(ctx context.Context, c *call) (operation, error) {
	now := time.Now()
	if c.began.IsZero() {
		c.began = now
	}
	if !c.since.IsZero() {
		now = c.since
	}
	op := operation{request: q, ctx: ctx, began: store.Began{At: now, Trips: &q.trips}}
	err := ctx.Err()
	if err == nil {
		err = q.lock.LockBy(ctx, op.began.At.Add(q.app.settings.Redis.Timeout))
	}
	if err == os.ErrDeadlineExceeded {
		err = fmt.Errorf("%w: other operations of the request are under way: %w", ErrUnavailable, err)
	}
	if err != nil {
		return op, q.cancelled(err)
	}
	if !q.touched {
		q.touched = true
		q.nextCookie()
	}
	return op, nil
}

// end ends an operation that is part of a call. The operation doesn't know the call, which would then be on the heap.
func (op *operation) end(c *call) {
	c.pays(op.trips.Take())
	op.lock.Unlock()
}

// cancelled adds to an operation's error that the request has ended, if that is why its context was cancelled.
func (q *request) cancelled(err error) error {
	if q.over.Load() && q.Context.Err() != nil && errors.Is(err, context.Canceled) {
		return fmt.Errorf("the request has ended: %w", err)
	}
	return err
}

// nextCookie goes on to the session of the next correctly signed cookie, if there is one. A browser may send several of
// one name: see docs/security.md.
func (q *request) nextCookie() {
	q.id, q.lifetime = nil, q.app.cookies.lifetime
	found, forged := q.app.cookies.find(q.http.Header, q.skip)
	q.skip++
	switch {
	case found != nil:
		q.id, q.lifetime, q.issued = found.Data, found.Lifetime, found.Signed
	case forged != "" && q.skip == 1:
		q.app.warnings.Forged(forged)
	}
}

// underWay is how long after the end of an id a request may still arrive that the browser sent without knowing. Until
// then, a browser that never got its new cookie can't get another, except by a login after its session was destroyed.
const underWay = 5 * time.Second

// tick is the precision of the times that scripts return.
const tick = time.Millisecond

// settle records an operation's outcome and reports whether the session is alive. If it isn't, the request goes on with
// another id if it has one, or without a session.
func (q *request) settle(o store.Outcome) bool {
	switch {
	case o.State == store.Alive:
		if q.trying { // the rotation was carried out
			q.app.warnings.Rotated(q.Context)
			q.trying, q.cookie, q.lifetime, q.snapshot = false, setCookie, asStored, snapshot{}
		}
		q.state = alive
		return true
	case o.State == store.Rotated && q.pending != nil && !q.committed.Load():
		q.id, q.pending, q.trying = q.pending, nil, true
	case o.State == store.Destroyed && q.mark != "" && o.Token == q.mark:
		q.destroyed()
	default:
		q.dead(o)
	}
	return false
}

// dead records that the session is not alive.
//
// A session that has expired, or that ended before this request was sent, may be followed by another. If it ended
// later, the browser has a newer cookie by now, and this request's writes must fail. So must those of a request that
// has seen the session alive, or that is older than any mark: it can't tell. With several cookies, one such session is
// enough.
func (q *request) dead(o store.Outcome) {
	age, wasAlive := time.Since(q.began), q.state == alive
	q.pending, q.trying, q.renew = nil, false, false
	if q.cookie == setCookie { // of an id that is dead now
		q.cookie = keepCookie
		if q.clears {
			q.cookie = deleteCookie
		}
	}
	if wasAlive || age > store.Late || o.State != store.Expired && o.Ago < age+underWay {
		before := o.State == store.Destroyed && !wasAlive && o.Ago-tick > age
		q.late, q.before = true, before && (q.before || !q.late)
	}
	if !wasAlive {
		if q.nextCookie(); q.id != nil {
			q.snapshot = snapshot{}
			return
		}
	}
	q.id, q.lifetime = nil, q.app.cookies.lifetime
	q.snapshot = snapshot{whole: true}
	if q.late {
		q.state = ended
	}
}

// destroyed records that this request has ended the session.
func (q *request) destroyed() {
	q.id, q.state, q.lifetime = nil, unknown, q.app.cookies.lifetime
	q.pending, q.trying, q.renew = nil, false, false
	q.snapshot = snapshot{whole: true}
	q.cookie, q.clears = deleteCookie, true
	q.app.warnings.Ended(q.Context)
}

// asks reports whether there is an id to ask about.
func (op *operation) asks() bool { return op.id != nil && !op.done && op.err == nil }

// heard records the answer.
func (op *operation) heard(o store.Outcome, err error) {
	if err != nil {
		op.err = op.cancelled(err)
		return
	}
	if op.done = op.settle(o); op.done {
		op.unconfirmed = o.Unconfirmed
	}
}

// changed is heard for a command that changes the session.
func (op *operation) changed(o store.Outcome, err error) {
	if op.heard(o, err); err != nil {
		op.uncertain()
	}
}

// uncertain drops what was read: a command that has failed may have been carried out all the same.
func (op *operation) uncertain() { op.snapshot = snapshot{} }

// maxTries bounds how often a write is tried: once for each cookie, since all their sessions may have ended, then under
// a new id, and under another if that is in use.
const maxTries = maxCookies + 3

// next reports whether to try a write under op.id, which is new if op.fresh.
func (op *operation) next() bool {
	if op.done || op.err != nil {
		return false
	}
	op.tries++
	op.fresh = op.id == nil
	switch {
	case op.tries > maxTries:
		op.err = fmt.Errorf("no session was found, and none could be made, in %d attempts", maxTries)
	case op.state == ended && !(op.login && op.before):
		op.err = ErrGone
	case op.fresh && op.committed.Load():
		op.err = op.app.warnings.Refused(ErrHeadersSent)
	case op.fresh:
		op.id = store.NewID()
	}
	return op.err == nil
}

// wrote records the result of a write.
func (op *operation) wrote(o store.Outcome, err error) {
	if op.fresh && (err != nil || o.State != store.Alive) {
		op.id = nil
	}
	if err != nil {
		op.err = op.cancelled(err)
		if !errors.Is(err, ErrTooLarge) && !errors.Is(err, store.ErrNotNumber) {
			op.uncertain()
		}
		return
	}
	op.unconfirmed = o.Unconfirmed
	if op.done = o.State != store.Taken && op.settle(o); op.done && op.fresh {
		op.cookie, op.before = setCookie, false
		op.snapshot = snapshot{whole: true}
		op.app.warnings.Began(op.Context)
	}
}

// value returns a value, nil if there is none. It reads the session if the value is not in the snapshot.
func (op *operation) value(name string) ([]byte, error) {
	for {
		if value, known := op.snapshot.lookup(name); known || op.id == nil {
			return value, nil
		}
		content, o, err := op.app.store.Read(op.ctx, op.began, op.id, name, op.snapshot.asked)
		if err != nil {
			return nil, op.cancelled(err)
		}
		if op.settle(o) {
			op.snapshot.read(name, content)
		}
	}
}

// names returns the names of all values, sorted.
func (op *operation) names() ([]string, error) {
	for op.id != nil && !op.snapshot.whole {
		content, o, err := op.app.store.ReadNames(op.ctx, op.began, op.id)
		switch {
		case err != nil:
			return nil, op.cancelled(err)
		case !op.settle(o):
		case !content.Whole:
			return slices.Sorted(slices.Values(content.Names())), nil
		default:
			op.snapshot.read("", content)
		}
	}
	return op.snapshot.names(), nil
}

func (op *operation) rotate() error {
	for op.asks() {
		if op.committed.Load() {
			return op.app.warnings.Refused(ErrHeadersSent)
		}
		next := op.rotation()
		op.changed(op.app.store.Rotate(op.ctx, op.began, op.id, next))
		switch {
		case op.err != nil:
			op.pending = next
		case op.done:
			if op.pending != nil { // it may be the second time, after a Login
				op.lifetime = asStored
			}
			op.rotated(next)
		}
	}
	return op.result() // without a session there is nothing to do: the first write makes a new id anyway
}

// rotation returns the id for a rotation: that of the last one if its result is not known.
func (q *request) rotation() *store.ID {
	if q.pending != nil {
		return q.pending
	}
	return q.id.Rotated()
}

func (q *request) rotated(next *store.ID) {
	q.id, q.pending, q.cookie = next, nil, setCookie
	q.app.warnings.Rotated(q.Context)
}

// destroy ends the session. Only the request that ended it deletes the cookie: any other might delete the cookie of a
// newer session.
func (op *operation) destroy() error {
	if op.mark == "" {
		op.mark = rand.Text()
	}
	if op.state == ended && op.before { // nothing is left to end
		return nil
	}
	if err := op.gone(); err != nil {
		return err
	}
	for op.id != nil {
		o, err := op.app.store.Destroy(op.ctx, op.began, op.id, op.mark)
		op.unconfirmed = cmp.Or(op.unconfirmed, o.Unconfirmed)
		switch {
		case errors.Is(err, ErrCorrupt): // the key is not a session's: leave it, and delete the cookie
			op.destroyed()
		case err != nil:
			op.uncertain()
			return op.cancelled(err)
		case op.settle(o):
			op.destroyed()
			return op.unconfirmed
		case op.state == ended && o.State == store.Rotated: // it lives on, and this request can't end it
			return ErrGone
		}
	}
	return op.unconfirmed
}

// gone returns the operation's error, which is ErrGone if another request has ended the session while this one was
// under way.
func (op *operation) gone() error {
	if op.err == nil && op.state == ended {
		return ErrGone
	}
	return op.err
}

// result is gone for an operation that has nothing more to do.
func (op *operation) result() error { return cmp.Or(op.gone(), op.unconfirmed) }

// A snapshot is what a request has read of its session, and what it has written since.
type snapshot struct {
	whole   bool          // what is neither in content nor in known is not in the session
	quiet   bool          // no notifications were waiting, and this request has added none since
	asked   bool          // a value has been read
	content store.Content // if whole
	known   []store.Field // newer than content, each name once; the value is nil if there is none
}

func (s *snapshot) lookup(name string) (value []byte, known bool) {
	if i := s.find(name); i >= 0 {
		return s.known[i].Value, true
	}
	if !s.whole {
		return nil, false
	}
	return s.content.Value(name), true
}

// read records what a read for the value of name has returned.
func (s *snapshot) read(name string, content store.Content) {
	if content.Whole {
		*s = snapshot{whole: true, quiet: !content.Noted, content: content}
		return
	}
	s.asked, s.quiet = true, !content.Noted
	s.learn(store.Field{Name: name, Value: content.Value(name)})
}

func (s *snapshot) learn(fields ...store.Field) {
	for _, f := range fields {
		if i := s.find(f.Name); i >= 0 {
			s.known[i].Value = f.Value
		} else {
			s.known = append(s.known, f)
		}
	}
}

func (s *snapshot) find(name string) int {
	return slices.IndexFunc(s.known, func(f store.Field) bool { return f.Name == name })
}

func (s *snapshot) names() []string {
	names := slices.DeleteFunc(s.content.Names(), func(name string) bool { return s.find(name) >= 0 })
	for _, f := range s.known {
		if f.Value != nil && !strings.HasPrefix(f.Name, store.Reserved) {
			names = append(names, f.Name)
		}
	}
	slices.Sort(names)
	return names
}
