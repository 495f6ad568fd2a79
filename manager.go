package pycket

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Values are names and values to be set together.
type Values map[string]any

// A Manager is what [SessionManager] and [NotificationManager] have in common.
//
// Names may be any bytes, the empty name too, but not begin with "pycket:" (ErrReserved). Values are
// what the codec takes. Every operation is one round trip to Redis at most, is carried out by Redis in
// one step, and ends with the context of the request that App.Wrap was given, or with that of WithContext.
// Managers may be used by several goroutines of a request at once. An operation that returns nil was
// acknowledged by Redis.
type Manager interface {
	// Set stores a value. The first Set of a new visitor makes the session and its cookie.
	Set(name string, value any) error

	// SetMany stores several values, all or none.
	SetMany(values Values) error

	// Lookup reads a value into the variable that into points to and says whether there was one. If it
	// can't be read into that type, the variable is left as it was. A notification is taken out by it.
	Lookup(name string, into any) (found bool, err error)

	// Has says whether there is a value, and leaves it.
	Has(name string) (bool, error)

	// Keys gives the names of all values, sorted.
	Keys() ([]string, error)

	// Delete removes values. Names that are not there are no error.
	Delete(names ...string) error
}

var (
	_ Manager = (*SessionManager)(nil)
	_ Manager = (*NotificationManager)(nil)
)

// Get reads a value; if there is none, or an error, it returns the fallback, and no copy of it. Of a session, values come
// from the request's snapshot. A notification is taken out: no other request gets it.
func Get[T any](m Manager, name string, fallback T) (T, error) {
	var value T
	found, err := m.Lookup(name, &value)
	if err != nil || !found {
		return fallback, err
	}
	return value, nil
}

// manager is the part of both managers that finds its request.
type manager struct {
	request *request
	context context.Context // of WithContext; nil: the request's
	cause   error           // why there is no request
}

func (m manager) withContext(ctx context.Context) manager {
	m.context = ctx
	return m
}

// ctx is the context that operations end with. There is a request.
func (m *manager) ctx() context.Context {
	if m.context != nil {
		return m.context
	}
	return m.request.Context
}

// enter begins an operation. If it returns no error, the request is locked.
func (m *manager) enter() (*request, error) {
	if m.cause != nil {
		return nil, stray(m.cause)
	}
	return m.request, m.request.enter(m.ctx())
}

// write makes arguments and then carries out an operation with them, unless there are none. They are made
// before the request is locked: codecs run code of the application, which may use the session itself.
func (m *manager) write(encode func(*request) ([]any, error), operation func(*request, []any) error) error {
	if m.cause != nil {
		return stray(m.cause)
	}
	args, err := encode(m.request)
	if err != nil || len(args) == 0 {
		return err
	}
	q, err := m.enter()
	if err != nil {
		return err
	}
	defer q.mu.Unlock()
	return operation(q, args)
}

// A SessionManager is the session of one request: values kept in Redis under the id in the browser's
// cookie. Get one by [SessionMixin] or [NewSessionManager].
//
// A request reads its session once, at its first read, and sees its own writes. Large sessions (over
// 4 KB) are read by the value instead. Writes change only what they name, so that parallel requests do
// not undo each other's; [SessionManager.Increment] and [Update] lose no change even of one value.
//
// A write to a session that another request has destroyed or rotated meanwhile returns [ErrGone]; to
// one that expired, it starts a new session under a new id. So does a [SessionManager.Login] to one that
// was destroyed before the request began.
type SessionManager struct{ manager }

// NewSessionManager gives the session of a request, wherever the pair of writer and request is at hand.
// All managers of one request are one. Redis is not touched before the first operation.
func NewSessionManager(w http.ResponseWriter, r *http.Request) *SessionManager {
	if q := requestOf(w, r); q != nil {
		return &q.session
	}
	return &SessionManager{manager{cause: ErrNoApp}}
}

// WithContext gives the same session of the same request, whose operations end with ctx in place of the
// request's context; RedisSettings.Timeout bounds them all the same. A service hands down its own, with its
// deadline:
//
//	count, err := session.WithContext(ctx).Increment("searches", 1)
//
// The context of a request ends with its handler, and operations after that say so. Work that goes on
// takes one that does not:
//
//	session := session.WithContext(context.WithoutCancel(ctx))
//	go func() {
//		err := session.Set("report", write(report))
//		…
//	}()
//
// It may write to a session that there is. One that would be made, or be given a new id, is refused
// with [ErrHeadersSent], since the answer with its cookie has gone. What the request has read is kept: see
// [SessionManager.Refresh].
func (m *SessionManager) WithContext(ctx context.Context) *SessionManager {
	return &SessionManager{m.withContext(ctx)}
}

// Set stores a value: see [Manager].
func (m *SessionManager) Set(name string, value any) error {
	return failedOn("set", name, m.set(func(q *request) ([]any, error) { return q.pair(nil, name, value) }))
}

// SetMany stores several values, all or none: see [Manager].
func (m *SessionManager) SetMany(values Values) error {
	return failed("set many", m.set(func(q *request) ([]any, error) { return q.pairs(values) }))
}

func (m *SessionManager) set(encode func(*request) ([]any, error)) error {
	return m.write(encode, func(q *request, args []any) error {
		if _, err := q.write(&q.app.store.set, args); err != nil {
			return err
		}
		for i := 1; i < len(args); i += 2 {
			q.snapshot.learn(args[i].(string), args[i+1].([]byte))
		}
		return nil
	})
}

// Lookup reads a value from the request's snapshot: see [Manager].
func (m *SessionManager) Lookup(name string, into any) (found bool, err error) {
	data, err := m.get(name, into)
	if err == nil && data != nil {
		err = decodeInto(m.request.app.settings.Codec, data, into)
	}
	return err == nil && data != nil, failedOn("get", name, err)
}

func (m *SessionManager) get(name string, into any) ([]byte, error) {
	if err := errors.Join(checkName(name), checkTarget(into)); err != nil {
		return nil, err
	}
	q, err := m.enter()
	if err != nil {
		return nil, err
	}
	defer q.mu.Unlock()
	return q.value(name)
}

// Has says whether there is a value: see [Manager].
func (m *SessionManager) Has(name string) (bool, error) {
	var unused any
	data, err := m.get(name, &unused)
	return data != nil, failedOn("has", name, err)
}

// Keys gives the names of all values, sorted: see [Manager].
func (m *SessionManager) Keys() ([]string, error) {
	q, err := m.enter()
	if err != nil {
		return nil, failed("keys", err)
	}
	defer q.mu.Unlock()
	names, err := q.names()
	return names, failed("keys", err)
}

// Delete removes values: see [Manager]. A session without values is still a session.
func (m *SessionManager) Delete(names ...string) error {
	return failedOn("delete", strings.Join(names, ", "), m.delete(names))
}

func (m *SessionManager) delete(names []string) error {
	q, err := m.enter()
	if err != nil {
		return err
	}
	defer q.mu.Unlock()
	args, err := nameArgs(names)
	if err != nil || len(args) == 0 {
		return err
	}
	if q.ended {
		return ErrGone
	}
	if _, _, err := q.inquire(&q.app.store.drop, args...); err != nil {
		return err
	}
	if q.ended {
		return ErrGone
	}
	for _, name := range names {
		q.snapshot.learn(name, nil)
	}
	return nil
}

// Increment adds to a whole number, in one step in Redis, and returns the sum. A name without a value
// counts as 0. If what is there is no whole number, or the sum would not fit an int64, nothing changes.
func (m *SessionManager) Increment(name string, by int64) (int64, error) {
	if m.cause == nil && !m.request.app.digits {
		return update(m, "increment", name, 0, func(n int64) (int64, error) {
			if sum := n + by; (sum > n) == (by > 0) || by == 0 {
				return sum, nil
			}
			return n, errNotNumber
		})
	}
	sum, err := m.increment(name, by)
	return sum, failedOn("increment", name, err)
}

var errNotNumber = errors.New("what is stored is no whole number, or the sum does not fit 64 bits")

func (m *SessionManager) increment(name string, by int64) (int64, error) {
	if err := checkName(name); err != nil {
		return 0, err
	}
	q, err := m.enter()
	if err != nil {
		return 0, err
	}
	defer q.mu.Unlock()
	a, err := q.write(&q.app.store.increment, []any{nil, name, by})
	if err != nil {
		return 0, err
	}
	digits := a.value()
	sum, err := strconv.ParseInt(string(digits), 10, 64)
	if err != nil {
		return 0, errMalformed
	}
	q.snapshot.learn(name, digits)
	return sum, nil
}

// Update changes one value by a function of what it was, and returns what it became; a name without a
// value counts as initial, of which change gets a copy, as the codec makes it: initial may be shared by
// all visitors, and change may change what it gets in place. No change of another request is lost: if the
// value has changed meanwhile, change is called again with the new one. change must therefore have no other
// effects than its result; if it returns an error, nothing is changed and Update returns that error. With an
// error, the result is initial.
func Update[T any](s *SessionManager, name string, initial T, change func(T) (T, error)) (T, error) {
	return update(s, "update", name, initial, change)
}

func update[T any](s *SessionManager, op, name string, initial T, change func(T) (T, error)) (T, error) {
	for {
		var value T
		seen, err := s.get(name, &value)
		if err != nil {
			return initial, failedOn(op, name, err)
		}
		if seen == nil {
			err = copyInto(s.request, &value, initial)
		} else {
			err = decodeInto(s.request.app.settings.Codec, seen, &value)
		}
		if err != nil {
			return initial, failedOn(op, name, err)
		}
		next, err := change(value)
		if err != nil {
			return initial, failedOn(op, name, err)
		}
		swapped, err := s.swap(name, seen, next)
		if err != nil {
			return initial, failedOn(op, name, err)
		}
		if swapped {
			return next, nil
		}
	}
}

// copyInto copies a value that nobody may change: by the codec, if there is something in it to be changed.
func copyInto[T any](q *request, into *T, value T) error {
	if !shares(reflect.ValueOf(value)) {
		*into = value
		return nil
	}
	data, err := q.encode(value)
	if err == nil {
		err = decodeInto(q.app.settings.Codec, data, into)
	}
	if err != nil {
		return fmt.Errorf("the initial value: %w", err)
	}
	return nil
}

// shares reports whether an assignment of v leaves the two with memory in common.
func shares(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Map, reflect.Pointer, reflect.Chan, reflect.Func, reflect.UnsafePointer:
		return !v.IsNil()
	case reflect.Slice:
		return v.Cap() > 0
	case reflect.Interface:
		return shares(v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			if shares(v.Field(i)) {
				return true
			}
		}
	case reflect.Array:
		for i := range v.Len() {
			if shares(v.Index(i)) {
				return true
			}
		}
	}
	return false
}

// swap sets a value if what stands in Redis is what was seen, and otherwise learns what stands there.
func (m *SessionManager) swap(name string, seen []byte, value any) (bool, error) {
	data, err := m.request.encode(value)
	if err != nil {
		return false, err
	}
	q, err := m.enter()
	if err != nil {
		return false, err
	}
	defer q.mu.Unlock()
	args := append(make([]any, 0, 4), nil, name, data)
	if seen != nil {
		args = append(args, seen)
	}
	a, err := q.write(&q.app.store.swap, args)
	if err != nil {
		return false, err
	}
	if a.kind != 0 { // something else stands there
		q.snapshot.learn(name, a.value())
		return false, nil
	}
	q.snapshot.learn(name, data)
	return true, nil
}

// Rotate gives the session a new id and the response the new cookie. Values and notifications stay; the
// old id is dead at once. Call it at login, and whenever the user's rights change, so that nobody who
// knew the id before shares the session after (session fixation). Without a session it does nothing:
// the first write makes a new id anyway. It returns ErrHeadersSent, and does nothing, if the cookie
// could not be sent. With ErrUnavailable it may have been carried out all the same: try again in the same
// request, or the browser may be left with the id that is dead.
func (m *SessionManager) Rotate() error {
	q, err := m.enter()
	if err != nil {
		return failed("rotate", err)
	}
	defer q.mu.Unlock()
	return failed("rotate", q.rotate())
}

// Destroy ends the session: call it at logout. Its values and notifications are deleted, the id is dead
// at once on every server, and the response deletes the cookie, unless its headers are already sent. A
// Set after it, in the same request, starts a new session. Without a session it does nothing.
//
// A browser that hangs up is logged out all the same: Destroy does not end when its context is cancelled,
// but by RedisSettings.Timeout, and by the context's deadline if it has one.
func (m *SessionManager) Destroy() error {
	if m.cause != nil {
		return failed("destroy", m.cause)
	}
	ctx, cancel := uncancelled(m.ctx())
	defer cancel()
	q, err := m.WithContext(ctx).enter()
	if err != nil {
		return failed("destroy", err)
	}
	defer q.mu.Unlock()
	return failed("destroy", q.destroy())
}

// uncancelled is a context that keeps nothing but values and the deadline of another.
func uncancelled(ctx context.Context) (context.Context, context.CancelFunc) {
	kept := context.WithoutCancel(ctx)
	if deadline, ok := ctx.Deadline(); ok {
		return context.WithDeadline(kept, deadline)
	}
	return kept, func() {}
}

// Refresh drops what this request has read, so that the next read asks Redis again. It is for requests
// that run long: events, websockets.
func (m *SessionManager) Refresh() {
	if m.request == nil {
		return
	}
	m.request.mu.Lock()
	defer m.request.mu.Unlock()
	if m.request.id != nil || !m.request.identified {
		m.request.snapshot = snapshot{}
	}
}

func checkName(name string) error {
	if strings.HasPrefix(name, reserved) {
		return ErrReserved
	}
	return nil
}

// nameArgs makes arguments of names, once each.
func nameArgs(names []string) ([]any, error) {
	args := make([]any, 0, len(names))
	for i, name := range names {
		if err := checkName(name); err != nil {
			return nil, fmt.Errorf("%q: %w", name, err)
		}
		if !slices.Contains(names[:i], name) {
			args = append(args, name)
		}
	}
	return args, nil
}

// encode encodes a value and refuses one that is too large.
func (q *request) encode(value any) ([]byte, error) {
	data, err := q.app.settings.Codec.Encode(value)
	if metValue != nil {
		metValue(value, data)
	}
	if err != nil {
		return nil, fmt.Errorf("a value of type %T cannot be encoded: %w", value, err)
	}
	if limit := q.app.settings.MaxValueBytes; len(data) > limit {
		return nil, fmt.Errorf("%w: the value takes %d bytes, and Settings.MaxValueBytes is %d", ErrTooLarge, len(data), limit)
	}
	if data == nil {
		data = []byte{} // nil would read as no value
	}
	return data, nil
}

// pair appends a name and its encoded value to the arguments of a write, of which the first is not the
// caller's: see write.
func (q *request) pair(args []any, name string, value any) ([]any, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	data, err := q.encode(value)
	if err != nil {
		return nil, err
	}
	if args == nil {
		args = make([]any, 1, 4)
	}
	return append(args, name, data), nil
}

// pairs is pair for several; without any there are no arguments.
func (q *request) pairs(values Values) (args []any, err error) {
	for name, value := range values {
		if args, err = q.pair(args, name, value); err != nil {
			if len(values) > 1 {
				err = fmt.Errorf("%q: %w", name, err)
			}
			return nil, err
		}
	}
	return args, nil
}
