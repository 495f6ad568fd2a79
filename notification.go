package pycket

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/pycket/pycket/internal/stats"
	"github.com/pycket/pycket/internal/store"
)

// A NotificationManager is the one-shot values of a session. Reading one takes it out, so it is handed to one request
// only, across goroutines, processes and hosts. Get one from [NotificationMixin] or [NewNotificationManager].
//
// Notifications live as long as their session. Setting one begins the session if there is none.
//
// A request that has read its session knows whether notifications were waiting then. If there were none, it does not
// ask Redis for them; [SessionManager.Refresh] makes it ask again.
type NotificationManager struct{ manager }

// A Message is one of several messages that wait to be shown.
type Message struct {
	Level string `json:"level"` // chosen by the application: "info", "error" …
	Text  string `json:"text"`
}

// NewNotificationManager returns the notifications of a request, wherever you have the ResponseWriter and the Request.
func NewNotificationManager(w http.ResponseWriter, r *http.Request) *NotificationManager {
	if q := requestOf(w, r); q != nil {
		return &q.notifications
	}
	return &NotificationManager{manager{cause: ErrNoApp}}
}

// NotificationsFrom returns the notifications of the request that ctx belongs to, where only a context is at hand: see
// [SessionFrom].
func NotificationsFrom(ctx context.Context) *NotificationManager {
	return &NotificationManager{managerFrom(ctx)}
}

// WithContext returns the same notifications of the same request, whose operations end with ctx instead of the request's
// context: see [SessionManager.WithContext].
func (m *NotificationManager) WithContext(ctx context.Context) *NotificationManager {
	return &NotificationManager{m.withContext(ctx)}
}

// Set stores a notification: see [Manager]. It replaces one of the same name that nobody has read.
func (m *NotificationManager) Set(name string, value any) error {
	return m.setOne(stats.Notify, notification, (*store.Store).Notify, name, value)
}

// SetMany stores several notifications, all or none: see [Manager].
func (m *NotificationManager) SetMany(values Values) error {
	return m.setMany(stats.NotifyMany, notification, (*store.Store).Notify, values)
}

// Lookup takes a notification out: see [Manager]. If it can't be read into the variable's type, it is put back.
func (m *NotificationManager) Lookup(name string, into any) (found bool, err error) {
	c := m.callOn(stats.Take, name)
	defer c.end(&err)
	if err := checkTarget(into); err != nil {
		return false, err
	}
	stored, plain, err := m.read(&c, name, true, (*store.Store).TakeOne)
	return m.handOut(&c, notification, (*store.Store).Restore, store.Field{Name: name, Value: stored}, plain, err, into)
}

// Peek reads a notification without taking it out. If it can't be read into the type of the variable that into points
// to, the variable is unchanged.
func (m *NotificationManager) Peek(name string, into any) (found bool, err error) {
	c := m.callOn(stats.Peek, name)
	defer c.end(&err)
	if err := checkTarget(into); err != nil {
		return false, err
	}
	stored, plain, err := m.read(&c, name, true, (*store.Store).Peek)
	if err == nil && stored != nil {
		err = m.request.app.decode(plain, into)
	}
	return err == nil && stored != nil, err
}

// A getter is an operation of the store that reads a notification.
type getter func(s *store.Store, ctx context.Context, began store.Began, id *store.ID, name string) ([]byte, store.Outcome, error)

// read reads a notification. It returns the value as it is stored and, if opened is true, as the codec encoded it; nil
// if there is none. The caller decodes it when the request is no longer locked, since codecs run the application's
// code.
func (m *NotificationManager) read(c *call, name string, opened bool, get getter) (stored, plain []byte, err error) {
	if err := checkName(name); err != nil {
		return nil, nil, err
	}
	op, err := m.begin(c)
	if err != nil {
		return nil, nil, err
	}
	defer op.end(c)
	for !op.snapshot.quiet && op.asks() {
		var o store.Outcome
		stored, o, err = get(op.app.store, op.ctx, op.began, op.id, name)
		op.heard(o, err)
	}
	if op.err != nil || !op.done {
		return nil, nil, op.err
	}
	if stored != nil && opened {
		plain, err = op.open(notification, name, stored)
	}
	if stored != nil {
		err = cmp.Or(err, op.unconfirmed)
	}
	return stored, plain, err
}

// Has reports whether there is a notification, without taking it out: see [Manager].
func (m *NotificationManager) Has(name string) (found bool, err error) {
	c := m.callOn(stats.Has, name)
	defer c.end(&err)
	stored, _, err := m.read(&c, name, false, (*store.Store).Peek)
	return stored != nil, err
}

// Keys returns the names of all notifications, sorted, without taking them out: see [Manager].
func (m *NotificationManager) Keys() (names []string, err error) {
	c := m.call(stats.Keys)
	defer c.end(&err)
	op, err := m.begin(&c)
	if err != nil {
		return nil, err
	}
	defer op.end(&c)
	names = []string{}
	for !op.snapshot.quiet && op.asks() {
		var o store.Outcome
		names, o, err = op.app.store.PeekNames(op.ctx, op.began, op.id)
		op.heard(o, err)
	}
	slices.Sort(names)
	return names, op.err
}

// Delete removes notifications unread: see [Manager].
func (m *NotificationManager) Delete(names ...string) (err error) {
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
		op.heard(op.app.store.Take(op.ctx, op.began, op.id, names))
	}
	return op.result()
}

// Add queues a message. Unlike Set, it replaces none.
func (m *NotificationManager) Add(level, text string) (err error) {
	c := m.call(stats.Add)
	defer c.end(&err)
	f, err := m.field("", Message{level, text})
	if err != nil {
		return err
	}
	return m.set(&c, queuedMessage, (*store.Store).Add, f)
}

// Drain takes all queued messages out, in the order in which they were added. Each is handed to one request only.
// Messages that can't be decoded are dropped, and the error says how many.
func (m *NotificationManager) Drain() (messages []Message, err error) {
	c := m.call(stats.Drain)
	defer c.end(&err)
	queued, spoilt, cause := m.takeAll(&c)
	if cause != nil && spoilt == 0 && !errors.Is(cause, ErrNotReplicated) {
		return nil, cause
	}
	for _, plain := range queued {
		var message Message
		if err := m.request.app.decode(plain, &message); err != nil {
			spoilt, cause = spoilt+1, err
			continue
		}
		messages = append(messages, message)
	}
	if spoilt > 0 {
		return messages, fmt.Errorf("%d messages cannot be read: %w", spoilt, cause)
	}
	return messages, cause
}

// takeAll takes all messages out and returns them as the codec encoded them, with how many could not be opened, and
// why.
func (m *NotificationManager) takeAll(c *call) (queued [][]byte, spoilt int, cause error) {
	op, err := m.begin(c)
	if err != nil {
		return nil, 0, err
	}
	defer op.end(c)
	var items [][]byte
	for !op.snapshot.quiet && op.asks() {
		var o store.Outcome
		items, o, err = op.app.store.Drain(op.ctx, op.began, op.id)
		op.heard(o, err)
	}
	if op.err != nil {
		return nil, 0, op.err
	}
	for _, item := range items {
		plain, err := op.open(queuedMessage, "", item)
		if err != nil {
			spoilt, cause = spoilt+1, err
			continue
		}
		queued = append(queued, plain)
	}
	if len(items) > 0 {
		cause = cmp.Or(cause, op.unconfirmed)
	}
	return queued, spoilt, cause
}
