package pycket

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// A NotificationManager has the one-shot values of a session: what is read is taken out, and handed to
// one request only, whatever the number of requests, processes and servers. Get one by
// [NotificationMixin] or [NewNotificationManager].
//
// Notifications live as long as their session does. Setting one makes the session if there is none.
type NotificationManager struct{ manager }

// A Message is one of several messages that wait to be shown.
type Message struct {
	Level string `json:"level"` // the application's own: "info", "error" …
	Text  string `json:"text"`
}

// NewNotificationManager gives the notifications of a request, wherever the pair is at hand.
func NewNotificationManager(w http.ResponseWriter, r *http.Request) *NotificationManager {
	if q := requestOf(w, r); q != nil {
		return &q.notifications
	}
	return &NotificationManager{manager{cause: ErrNoApp}}
}

// WithContext gives the same notifications of the same request, whose operations end with ctx in place of the
// request's context: see [SessionManager.WithContext].
func (m *NotificationManager) WithContext(ctx context.Context) *NotificationManager {
	return &NotificationManager{m.withContext(ctx)}
}

// Set stores a notification: see [Manager]. One of the same name that nobody has read is replaced.
func (m *NotificationManager) Set(name string, value any) error {
	return failedOn("notify", name, m.set(func(q *request) ([]any, error) { return q.pair(nil, name, value) }))
}

// SetMany stores several notifications, all or none: see [Manager].
func (m *NotificationManager) SetMany(values Values) error {
	return failed("notify many", m.set(func(q *request) ([]any, error) { return q.pairs(values) }))
}

func (m *NotificationManager) set(encode func(*request) ([]any, error)) error {
	return m.write(encode, func(q *request, args []any) error {
		_, err := q.write(&q.app.store.notify, args)
		return err
	})
}

// Lookup takes a notification out: see [Manager]. If it can't be read into that type it is put back.
func (m *NotificationManager) Lookup(name string, into any) (found bool, err error) {
	found, err = m.lookup(name, into)
	return found, failedOn("take", name, err)
}

func (m *NotificationManager) lookup(name string, into any) (bool, error) {
	if err := errors.Join(checkName(name), checkTarget(into)); err != nil {
		return false, err
	}
	taken, err := m.ask(func(q *request) (answer, error) {
		_, a, err := q.inquire(&q.app.store.take, name)
		return a, err
	})
	if err != nil {
		return false, err
	}
	data, _ := taken.next()
	if data == nil {
		return false, nil
	}
	if err := decodeInto(m.request.app.settings.Codec, data, into); err != nil {
		lasting := m.WithContext(context.WithoutCancel(m.ctx())) // it would be lost with the browser's patience
		if _, lost := lasting.ask(func(q *request) (answer, error) {
			v, a, err := q.inquire(&q.app.store.notify, "r", name, data)
			if err == nil && v != done {
				err = ErrGone
			}
			return a, err
		}); lost != nil {
			return false, fmt.Errorf("%w, and it could not be put back: %w", err, lost)
		}
		return false, err
	}
	return true, nil
}

// ask carries out an operation and lets go of the request before its answer is decoded: codecs run code of
// the application, which may use the session itself.
func (m *NotificationManager) ask(operation func(*request) (answer, error)) (answer, error) {
	q, err := m.enter()
	if err != nil {
		return answer{}, err
	}
	defer q.mu.Unlock()
	return operation(q)
}

// Peek reads a notification and leaves it. If it can't be read into the type of the variable that into
// points to, the variable is left as it was.
func (m *NotificationManager) Peek(name string, into any) (found bool, err error) {
	data, err := m.peek(name, into)
	if err == nil && data != nil {
		err = decodeInto(m.request.app.settings.Codec, data, into)
	}
	return err == nil && data != nil, failedOn("peek", name, err)
}

func (m *NotificationManager) peek(name string, into any) ([]byte, error) {
	if err := errors.Join(checkName(name), checkTarget(into)); err != nil {
		return nil, err
	}
	q, err := m.enter()
	if err != nil {
		return nil, err
	}
	defer q.mu.Unlock()
	_, a, err := q.inquire(&q.app.store.peek, name)
	if err != nil {
		return nil, err
	}
	return a.value(), nil
}

// Has says whether there is a notification, and leaves it: see [Manager].
func (m *NotificationManager) Has(name string) (bool, error) {
	var unused any
	data, err := m.peek(name, &unused)
	return data != nil, failedOn("has", name, err)
}

// Keys gives the names of all notifications, sorted, and leaves them: see [Manager].
func (m *NotificationManager) Keys() ([]string, error) {
	q, err := m.enter()
	if err != nil {
		return nil, failed("keys", err)
	}
	defer q.mu.Unlock()
	_, a, err := q.inquire(&q.app.store.peek)
	if err != nil {
		return nil, failed("keys", err)
	}
	names := a.names()
	slices.Sort(names)
	return names, nil
}

// Delete removes notifications unread: see [Manager].
func (m *NotificationManager) Delete(names ...string) error {
	return failedOn("delete", strings.Join(names, ", "), m.delete(names))
}

func (m *NotificationManager) delete(names []string) error {
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
	if _, _, err := q.inquire(&q.app.store.take, args...); err != nil {
		return err
	}
	if q.ended {
		return ErrGone
	}
	return nil
}

// Add queues a message: unlike Set, it replaces none.
func (m *NotificationManager) Add(level, text string) error {
	return failed("add", m.add(Message{level, text}))
}

func (m *NotificationManager) add(message Message) error {
	return m.write(func(q *request) ([]any, error) {
		data, err := q.encode(message)
		return []any{nil, data}, err
	}, func(q *request, args []any) error {
		_, err := q.write(&q.app.store.add, args)
		return err
	})
}

// Drain takes all queued messages out, in the order in which they were added. Each is handed to one
// request only. Messages that can't be decoded are left out, and the error says how many.
func (m *NotificationManager) Drain() ([]Message, error) {
	a, err := m.ask(func(q *request) (answer, error) {
		_, a, err := q.inquire(&q.app.store.drain)
		return a, err
	})
	if err != nil {
		return nil, failed("drain", err)
	}
	var messages []Message
	var spoilt int
	var cause error
	for {
		data, more := a.next()
		if !more {
			break
		}
		var message Message
		if err := decodeInto(m.request.app.settings.Codec, data, &message); err != nil {
			spoilt, cause = spoilt+1, err
			continue
		}
		messages = append(messages, message)
	}
	if spoilt > 0 {
		return messages, failed("drain", fmt.Errorf("%d messages are spoilt: %w", spoilt, cause))
	}
	return messages, nil
}
