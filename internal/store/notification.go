package store

import (
	"context"

	"github.com/pycket/pycket/internal/redisconn"
)

// Notify sets notifications, all or none. If fresh, the id is new and the session begins.
func (s *Store) Notify(ctx context.Context, began Began, id *ID, fresh bool, fields []Field) (Outcome, error) {
	_, o, err := s.write(ctx, began, id, s.onFields(s.notify, id, fresh, fields))
	return o, err
}

// Restore puts back a notification that was taken, unless one of that name has been set since.
func (s *Store) Restore(ctx context.Context, began Began, id *ID, f Field) (Outcome, error) {
	_, o, err := s.write(ctx, began, id, s.onField(s.restore, id, f))
	return o, err
}

// Peek reads a notification without taking it out. The value is nil if there is none.
func (s *Store) Peek(ctx context.Context, began Began, id *ID, name string) ([]byte, Outcome, error) {
	c := s.on(s.peek, id, 1)
	c.String(name)
	items, o, err := s.noted(ctx, began, id, c)
	value, _ := items.Next()
	return value, o, err
}

// PeekNames returns the names of all notifications.
func (s *Store) PeekNames(ctx context.Context, began Began, id *ID) ([]string, Outcome, error) {
	items, o, err := s.noted(ctx, began, id, s.on(s.peek, id, 0))
	return Content{items: items}.Names(), o, err
}

// TakeOne takes a notification out: only one caller gets it. It is nil if there is none.
func (s *Store) TakeOne(ctx context.Context, began Began, id *ID, name string) ([]byte, Outcome, error) {
	c := s.on(s.take, id, 1)
	c.String(name)
	items, o, err := s.noted(ctx, began, id, c)
	value, _ := items.Next()
	return value, o, err
}

// Take takes notifications out unread.
func (s *Store) Take(ctx context.Context, began Began, id *ID, names []string) (Outcome, error) {
	_, o, err := s.noted(ctx, began, id, s.onNames(s.take, id, names))
	return o, err
}

// noted is for a script that returns notifications. The first item of its reply is the hash of the user's list, if the
// session is to take its place there again; noted does that, and returns the others. What is kept in memory stays: it may
// say that notifications are waiting which this has taken, and never that none are.
func (s *Store) noted(ctx context.Context, began Began, id *ID, c *redisconn.Command) (redisconn.List, Outcome, error) {
	r, o, err := s.ask(ctx, began, c)
	items, _ := r.List()
	if hash, _ := items.Next(); len(hash) > 0 {
		s.heal(ctx, began, hash, id.Handle)
	}
	return items, o, err
}

// Add queues a message, the value of the one field. If fresh, the id is new and the session begins.
func (s *Store) Add(ctx context.Context, began Began, id *ID, fresh bool, message []Field) (Outcome, error) {
	c := s.on(s.add, id, 2)
	c.Flag(fresh)
	c.Bytes(message[0].Value)
	_, o, err := s.write(ctx, began, id, c)
	return o, err
}

// Drain takes all messages out, oldest first.
func (s *Store) Drain(ctx context.Context, began Began, id *ID) (messages [][]byte, o Outcome, err error) {
	items, o, err := s.noted(ctx, began, id, s.on(s.drain, id, 0))
	for item, ok := items.Next(); ok; item, ok = items.Next() {
		messages = append(messages, item)
	}
	return messages, o, err
}
