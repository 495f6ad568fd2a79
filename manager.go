package pycket

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/pycket/pycket/internal/stats"
	"github.com/pycket/pycket/internal/store"
	"github.com/pycket/pycket/internal/warn"
)

// Values are names and values to be set together.
type Values map[string]any

// A Manager is what [SessionManager] and [NotificationManager] have in common.
//
// A name may be any string, even an empty one, unless it begins with "pycket:" ([ErrReserved]). A value may be anything
// that the codec encodes. Every operation takes at most one round trip to Redis, which carries it out in one step; when
// it returns nil, Redis has acknowledged it. An operation ends with the context of the request that App.Wrap was given,
// or with that of WithContext. Managers may be used by several goroutines of a request at once.
type Manager interface {
	// Set stores a value. The first Set of a new visitor makes the session and its cookie.
	Set(name string, value any) error

	// SetMany stores several values, all or none.
	SetMany(values Values) error

	// Lookup reads a value into the variable that into points to, and reports whether there was one. If the value
	// can't be read into that type, the variable is unchanged. Lookup takes a notification out.
	Lookup(name string, into any) (found bool, err error)

	// Has reports whether there is a value. It doesn't take a notification out.
	Has(name string) (bool, error)

	// Keys returns the names of all values, sorted.
	Keys() ([]string, error)

	// Delete removes values. A name without a value is not an error.
	Delete(names ...string) error
}

var (
	_ Manager = (*SessionManager)(nil)
	_ Manager = (*NotificationManager)(nil)
)

// Get returns a value. If there is none, or on an error other than [ErrNotReplicated], it returns fallback itself, not a
// copy. A session's value comes from the request's snapshot. A notification is taken out: no other request gets it.
func Get[T any](m Manager, name string, fallback T) (T, error) {
	var value T
	found, err := m.Lookup(name, &value)
	if !found {
		return fallback, err
	}
	return value, err
}

// manager is the part of both managers that finds its request.
type manager struct {
	request *request
	context context.Context // of WithContext; nil means the request's
	cause   error           // why there is no request
}

func (m manager) withContext(ctx context.Context) manager {
	m.context = ctx
	return m
}

// ctx returns the context that operations end with.
func (m *manager) ctx() context.Context {
	if m.context != nil {
		return m.context
	}
	return m.request.Context
}

// bound returns an error if there is no request to work on.
func (m *manager) bound() error {
	if m.cause != nil {
		return warn.Stray(m.cause)
	}
	return nil
}

// begin begins an operation, as part of a call. The caller must call its end method.
func (m *manager) begin(c *call) (operation, error) {
	if err := m.bound(); err != nil {
		return operation{}, err
	}
	return m.request.begin(m.ctx(), c)
}

// fields encodes values. The request is not locked yet, since codecs run the application's code, which may use the
// session.
func (m *manager) fields(values Values) ([]store.Field, error) {
	if err := m.bound(); err != nil {
		return nil, err
	}
	fields := make([]store.Field, 0, len(values))
	for name, value := range values {
		f, err := m.field(name, value)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", name, err)
		}
		fields = append(fields, f)
	}
	return fields, nil
}

// A setter is an operation of the store that sets fields.
type setter func(s *store.Store, ctx context.Context, began store.Began, id *store.ID, fresh bool, fields []store.Field) (store.Outcome, error)

func (m *manager) setOne(k stats.Kind, kind valueKind, set setter, name string, value any) (err error) {
	c := m.callOn(k, name)
	defer c.end(&err)
	f, err := m.field(name, value)
	if err != nil {
		return err
	}
	return m.set(&c, kind, set, f)
}

func (m *manager) setMany(k stats.Kind, kind valueKind, set setter, values Values) (err error) {
	c := m.call(k)
	defer c.end(&err)
	fields, err := m.fields(values)
	if err != nil || len(fields) == 0 {
		return err
	}
	return m.set(&c, kind, set, fields...)
}

func (m *manager) set(c *call, kind valueKind, set setter, fields ...store.Field) error {
	op, err := m.begin(c)
	if err != nil {
		return err
	}
	defer op.end(c)
	for op.next() {
		op.wrote(set(op.app.store, op.ctx, op.began, op.id, op.fresh, op.seal(kind, fields)))
	}
	switch {
	case kind != sessionValue:
		op.snapshot.quiet = false
	case op.err == nil:
		op.snapshot.learn(op.sealed...)
	}
	return cmp.Or(op.err, op.unconfirmed)
}

func (m *manager) field(name string, value any) (store.Field, error) {
	if err := m.bound(); err != nil {
		return store.Field{}, err
	}
	if err := checkName(name); err != nil {
		return store.Field{}, err
	}
	data, err := m.request.app.encode(value)
	return store.Field{Name: name, Value: data}, err
}

func checkName(name string) error {
	if strings.HasPrefix(name, store.Reserved) {
		return ErrReserved
	}
	return nil
}

func checkNames(names []string) error {
	for _, name := range names {
		if err := checkName(name); err != nil {
			return fmt.Errorf("%q: %w", name, err)
		}
	}
	return nil
}

// A SessionManager is the session of one request: values kept in Redis under the id in the browser's cookie. Get
// one from [SessionMixin] or [NewSessionManager].
//
// A request reads its session once, at its first read, and sees its own writes. It reads a large session (over 4 KB)
// value by value. A write changes only what it names, so parallel requests don't undo each other's writes;
// [SessionManager.Increment] and [Update] lose no change even of one value.
//
// If another request has destroyed or rotated the session meanwhile, a write returns [ErrGone]. If the session has
// expired, a write starts a new one under a new id. So does a [SessionManager.Login] if the session was destroyed
// before the request began.
type SessionManager struct{ manager }

// NewSessionManager returns the session of a request, wherever you have the ResponseWriter and the Request. All
// managers of a request share one session. Redis is not touched before the first operation.
//
// The request is found by its context or, if a middleware has replaced that by one of its own, by the writer, through
// the Unwrap methods of those around it. w may be nil if the context is enough: see [SessionFrom].
func NewSessionManager(w http.ResponseWriter, r *http.Request) *SessionManager {
	if q := requestOf(w, r); q != nil {
		return &q.session
	}
	return &SessionManager{manager{cause: ErrNoApp}}
}

// SessionFrom returns the session of the request that ctx belongs to, where only a context is at hand: in a service, in
// a template's function. ctx is the context of the request that App.Wrap has passed on, or one derived from it, and
// operations end with it. They return [ErrNoApp] if it is neither.
func SessionFrom(ctx context.Context) *SessionManager { return &SessionManager{managerFrom(ctx)} }

func managerFrom(ctx context.Context) manager {
	if ctx != nil {
		if q, ok := ctx.Value(requestKey{}).(*request); ok {
			return manager{request: q, context: ctx}
		}
	}
	return manager{cause: ErrNoApp}
}

// WithContext returns the same session of the same request, whose operations end with ctx instead of the request's
// context; RedisSettings.Timeout bounds them all the same. A service passes its own context, which has a deadline:
//
//	count, err := session.WithContext(ctx).Increment("searches", 1)
//
// A request's context ends when the handler returns, and later operations return an error. Work that goes on needs
// another context:
//
//	session := session.WithContext(context.WithoutCancel(ctx))
//	go func() {
//		err := session.Set("report", write(report))
//		…
//	}()
//
// Such work may write to a session that exists. Beginning a session, or giving it a new id, returns [ErrHeadersSent],
// since its cookie can no longer be sent. What the request has read is kept: see [SessionManager.Refresh].
func (m *SessionManager) WithContext(ctx context.Context) *SessionManager {
	return &SessionManager{m.withContext(ctx)}
}

// Set stores a value: see [Manager].
func (m *SessionManager) Set(name string, value any) error {
	return m.setOne(stats.Set, sessionValue, (*store.Store).Set, name, value)
}

// SetMany stores several values, all or none: see [Manager].
func (m *SessionManager) SetMany(values Values) error {
	return m.setMany(stats.SetMany, sessionValue, (*store.Store).Set, values)
}

// Lookup reads a value from the request's snapshot: see [Manager].
func (m *SessionManager) Lookup(name string, into any) (found bool, err error) {
	c := m.callOn(stats.Get, name)
	defer c.end(&err)
	_, plain, err := m.get(&c, name, into)
	if err == nil && plain != nil {
		err = m.request.app.decode(plain, into)
	}
	return err == nil && plain != nil, err
}

// get returns a value as it is stored, and as the codec encoded it; nil if there is none.
func (m *SessionManager) get(c *call, name string, into any) (stored, plain []byte, err error) {
	if err := errors.Join(checkName(name), checkTarget(into)); err != nil {
		return nil, nil, err
	}
	op, err := m.begin(c)
	if err != nil {
		return nil, nil, err
	}
	defer op.end(c)
	stored, err = op.value(name)
	if err == nil && stored != nil {
		plain, err = op.open(sessionValue, name, stored)
	}
	return stored, plain, err
}

// Has reports whether there is a value: see [Manager].
func (m *SessionManager) Has(name string) (found bool, err error) {
	c := m.callOn(stats.Has, name)
	defer c.end(&err)
	if err := checkName(name); err != nil {
		return false, err
	}
	stored, err := m.own(&c, name)
	return stored != nil, err
}

// own returns a value as it is stored. The name may be one of the library's own fields.
func (m *SessionManager) own(c *call, name string) ([]byte, error) {
	op, err := m.begin(c)
	if err != nil {
		return nil, err
	}
	defer op.end(c)
	return op.value(name)
}

// Keys returns the names of all values, sorted: see [Manager].
func (m *SessionManager) Keys() (names []string, err error) {
	c := m.call(stats.Keys)
	defer c.end(&err)
	op, err := m.begin(&c)
	if err != nil {
		return nil, err
	}
	defer op.end(&c)
	return op.names()
}

// Delete removes values: see [Manager]. A session without values is still a session.
func (m *SessionManager) Delete(names ...string) (err error) {
	c := m.callOn(stats.Delete, strings.Join(names, ", "))
	defer c.end(&err)
	op, err := m.begin(&c)
	if err != nil {
		return err
	}
	defer op.end(&c)
	if err := checkNames(names); err != nil || len(names) == 0 {
		return err
	}
	for op.asks() {
		op.changed(op.app.store.Delete(op.ctx, op.began, op.id, names))
	}
	if err := op.gone(); err != nil {
		return err
	}
	for _, name := range names {
		op.snapshot.learn(store.Field{Name: name})
	}
	return op.unconfirmed
}

// Clear deletes all values, in one step in Redis. The session stays, with its user, the time of authentication and
// [SessionManager.Remember], and so do its notifications. What other requests set afterwards stays too.
func (m *SessionManager) Clear() (err error) {
	c := m.call(stats.Clear)
	defer c.end(&err)
	op, err := m.begin(&c)
	if err != nil {
		return err
	}
	defer op.end(&c)
	for op.asks() {
		op.changed(op.app.store.Clear(op.ctx, op.began, op.id))
	}
	if err := op.gone(); err != nil {
		return err
	}
	if op.done {
		op.snapshot = snapshot{}
	}
	return op.unconfirmed
}

// Pop returns a value and deletes it, in one step in Redis: of several requests that pop it at once, one gets it. Use it
// for what may be used once, such as the state of a login at another site. If there is no value, or on an error other
// than [ErrNotReplicated], Pop returns fallback itself, not a copy. A value that can't be read as a T is put back.
func Pop[T any](s *SessionManager, name string, fallback T) (T, error) {
	var value T
	found, err := s.pop(name, &value)
	if !found {
		return fallback, err
	}
	return value, err
}

func (m *SessionManager) pop(name string, into any) (found bool, err error) {
	c := m.callOn(stats.Pop, name)
	defer c.end(&err)
	stored, plain, err := m.take(&c, name)
	return m.handOut(&c, sessionValue, (*store.Store).Unpop, store.Field{Name: name, Value: stored}, plain, err, into)
}

// take takes a value out. It returns the value as it is stored, and as the codec encoded it; nil if there is none.
func (m *SessionManager) take(c *call, name string) (stored, plain []byte, err error) {
	if err := checkName(name); err != nil {
		return nil, nil, err
	}
	op, err := m.begin(c)
	if err != nil {
		return nil, nil, err
	}
	defer op.end(c)
	for op.asks() {
		var o store.Outcome
		stored, o, err = op.app.store.Pop(op.ctx, op.began, op.id, name)
		op.changed(o, err)
	}
	if err := op.gone(); err != nil {
		return nil, nil, err
	}
	op.snapshot.learn(store.Field{Name: name})
	if stored != nil {
		plain, err = op.open(sessionValue, name, stored)
		err = cmp.Or(err, op.unconfirmed)
	}
	return stored, plain, err
}

// A restorer is an operation of the store that puts back what was taken out.
type restorer func(s *store.Store, ctx context.Context, began store.Began, id *store.ID, f store.Field) (store.Outcome, error)

// handOut decodes what was taken out: f, as it is stored, and plain, as the codec encoded it, with the error of taking
// it. If it can't be read, it is put back.
func (m *manager) handOut(c *call, kind valueKind, put restorer, f store.Field, plain []byte, err error, into any) (found bool, _ error) {
	if f.Value == nil {
		return false, err
	}
	var unconfirmed error
	if errors.Is(err, ErrNotReplicated) {
		unconfirmed, err = err, nil
	}
	if err == nil {
		err = m.request.app.decode(plain, into)
	}
	if err == nil {
		return true, unconfirmed
	}
	if lost := m.restore(c, kind, put, f); lost != nil {
		return false, fmt.Errorf("%w, and it could not be put back: %w", err, lost)
	}
	return false, err
}

// restore puts back what was taken out, even if the browser has hung up.
func (m *manager) restore(c *call, kind valueKind, put restorer, f store.Field) error {
	restoring := m.withContext(context.WithoutCancel(m.ctx()))
	op, err := restoring.begin(c)
	if err != nil {
		return err
	}
	defer op.end(c)
	for op.asks() {
		op.heard(put(op.app.store, op.ctx, op.began, op.id, f))
	}
	if kind == sessionValue {
		op.snapshot = snapshot{} // another may have been set meanwhile
	} else {
		op.snapshot.quiet = false // the session may have been read since it was taken
	}
	if op.err == nil && !op.done {
		return ErrGone
	}
	return op.err
}

// Increment adds to a whole number, in one step in Redis, and returns the sum. A name without a value counts as 0. If
// the value is not a whole number, or the sum does not fit an int64, nothing changes.
func (m *SessionManager) Increment(name string, by int64) (sum int64, err error) {
	c := m.callOn(stats.Increment, name)
	defer c.end(&err)
	if m.cause == nil && !m.request.app.digits {
		return update(m, &c, name, 0, func(n int64) (int64, error) {
			if sum := n + by; (sum > n) == (by > 0) || by == 0 {
				return sum, nil
			}
			return n, store.ErrNotNumber
		})
	}
	if err := checkName(name); err != nil {
		return 0, err
	}
	op, err := m.begin(&c)
	if err != nil {
		return 0, err
	}
	defer op.end(&c)
	var digits []byte
	for op.next() {
		var o store.Outcome
		digits, o, err = op.app.store.Increment(op.ctx, op.began, op.id, op.fresh, name, by)
		op.wrote(o, err)
	}
	if op.err != nil {
		return 0, op.err
	}
	if sum, err = strconv.ParseInt(string(digits), 10, 64); err != nil {
		return 0, store.ErrMalformed
	}
	op.snapshot.learn(store.Field{Name: name, Value: digits})
	return sum, op.unconfirmed
}

// Update sets a value to what change returns for the current one, and returns it. A name without a value counts as
// initial, of which change gets a copy made by the codec: initial may be shared by all visitors, and change may modify
// what it gets. No change of another request is lost: if the value has changed meanwhile, change is called again with
// the new one, so it must have no effect other than its result. If change returns an error, nothing is changed and
// Update returns that error. On any error but [ErrNotReplicated], the value returned is initial. RedisSettings.Timeout
// bounds an Update as a whole, less the time that change takes.
func Update[T any](s *SessionManager, name string, initial T, change func(T) (T, error)) (value T, err error) {
	c := s.callOn(stats.Update, name)
	defer c.end(&err)
	return update(s, &c, name, initial, change)
}

func update[T any](s *SessionManager, c *call, name string, initial T, change func(T) (T, error)) (T, error) {
	c.since = time.Now()
	for swapped := false; ; {
		var value T
		seen, plain, err := s.get(c, name, &value)
		switch {
		case err != nil:
		case plain == nil:
			err = copyInto(s.request.app, &value, initial)
		default:
			err = s.request.app.decode(plain, &value)
		}
		if err == nil {
			called := time.Now()
			value, err = change(value)
			c.other = err != nil
			c.since = c.since.Add(time.Since(called))
		}
		if err == nil {
			swapped, err = s.swap(c, name, seen, value)
		}
		switch {
		case swapped:
			return value, err
		case err != nil:
			return initial, err
		}
		s.request.app.counters.Conflict()
	}
}

// copyInto copies a value, by the codec if an assignment might leave the copy sharing memory with the original.
func copyInto[T any](a *App, into *T, value T) error {
	kind := reflect.TypeFor[T]().Kind()
	if kind <= reflect.Complex128 || kind == reflect.String || reflect.ValueOf(&value).Elem().IsZero() {
		*into = value
		return nil
	}
	data, err := a.encode(value)
	if err == nil {
		err = a.decode(data, into)
	}
	if err != nil {
		return fmt.Errorf("the initial value: %w", err)
	}
	return nil
}

// swap sets a value if the stored one still equals seen; otherwise it learns the stored one.
func (m *SessionManager) swap(c *call, name string, seen []byte, value any) (swapped bool, err error) {
	f, err := m.field(name, value)
	if err != nil {
		return false, err
	}
	op, err := m.begin(c)
	if err != nil {
		return false, err
	}
	defer op.end(c)
	fields := []store.Field{f}
	for op.next() {
		sealed := op.seal(sessionValue, fields)[0]
		var now []byte
		var o store.Outcome
		swapped, now, o, err = op.app.store.Swap(op.ctx, op.began, op.id, op.fresh, sealed, seen)
		if err == nil && o.State == store.Alive && !swapped {
			if op.fresh { // nothing was made
				op.id = nil
			} else {
				op.settle(o)
			}
			op.snapshot.learn(store.Field{Name: name, Value: now})
			return false, nil
		}
		op.wrote(o, err)
	}
	if op.err == nil {
		op.snapshot.learn(op.sealed...)
	}
	return swapped && op.err == nil, cmp.Or(op.err, op.unconfirmed)
}

// Rotate gives the session a new id, and the response sets the new cookie. Values and notifications stay; the old id is
// dead at once. Call it when the user's rights change, so that nobody who knew the old id shares the session (session
// fixation). [SessionManager.Login] does it itself. Without a session Rotate does nothing: the first write makes a new
// id anyway. If the cookie can't be sent, it does nothing and returns ErrHeadersSent. If it returns ErrUnavailable, it
// may have been carried out all the same: try again in the same request, or the browser may be left with the dead id.
func (m *SessionManager) Rotate() (err error) {
	c := m.call(stats.Rotate)
	defer c.end(&err)
	op, err := m.begin(&c)
	if err != nil {
		return err
	}
	defer op.end(&c)
	return op.rotate()
}

// Destroy ends the session: call it at logout. Its values and notifications are deleted, the id is dead at once on
// every server, and the response deletes the cookie, unless its headers are already sent. A later Set in the same
// request starts a new session. Without a session Destroy does nothing.
//
// A browser that hangs up is logged out all the same: Destroy ignores that its context is cancelled. It is bounded by
// RedisSettings.Timeout, and by the context's deadline if it has one.
func (m *SessionManager) Destroy() (err error) {
	c := m.call(stats.Destroy)
	defer c.end(&err)
	if err := m.bound(); err != nil {
		return err
	}
	ctx := context.WithoutCancel(m.ctx())
	if deadline, ok := m.ctx().Deadline(); ok {
		limited, cancel := context.WithDeadline(ctx, deadline)
		defer cancel()
		ctx = limited
	}
	op, err := m.request.begin(ctx, &c)
	if err != nil {
		return err
	}
	defer op.end(&c)
	return op.destroy()
}

// Expiry returns when the session ends if it is not used from now on, and when it ends at the latest: to warn a user in
// time. absolute is zero without Settings.AbsoluteTimeout, except in a cluster, where it is 400 days after the session
// began. Both are zero without a session. What is left is counted by Redis's clock, and the times are by this machine's,
// so time.Until is right even if the two differ.
//
// Expiry always asks Redis, and is no use of the session itself: a page may ask again and again without renewing it.
func (m *SessionManager) Expiry() (idle, absolute time.Time, err error) {
	c := m.call(stats.Expiry)
	defer c.end(&err)
	op, err := m.begin(&c)
	if err != nil {
		return time.Time{}, time.Time{}, err
	}
	defer op.end(&c)
	var left, most time.Duration
	for op.asks() {
		var o store.Outcome
		left, most, o, err = op.app.store.Expiry(op.ctx, op.began, op.id)
		op.heard(o, err)
	}
	if op.err != nil || !op.done {
		return time.Time{}, time.Time{}, op.err
	}
	now := time.Now()
	if most > 0 {
		absolute = now.Add(most)
	}
	return now.Add(left), absolute, nil
}

// Refresh drops what this request has read, so that the next read asks Redis again, for notifications too, and with
// [Settings.CacheFor] too. It is for long requests, such as event streams and websockets, and for those that must not rely
// on memory.
func (m *SessionManager) Refresh() {
	if m.request == nil {
		return
	}
	m.request.lock.Lock()
	defer m.request.lock.Unlock()
	if !m.request.touched && m.request.app.settings.CacheFor > 0 {
		m.request.touched = true
		m.request.nextCookie()
	}
	if m.request.id != nil || !m.request.touched {
		m.request.snapshot = snapshot{}
	}
	m.request.app.store.Forget(m.request.id)
}
