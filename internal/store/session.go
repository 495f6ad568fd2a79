package store

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/pycket/pycket/internal/redisconn"
)

// A Field is a name and its encoded value.
type Field struct {
	Name  string
	Value []byte
}

// Reserved begins the names of the fields that hold the session's own state.
const Reserved = "pycket:"

// Fields that callers read by name, with [Store.Read].
const (
	UserField = Reserved + "user" // the user
	AuthField = Reserved + "auth" // when the user was authenticated: see [Micros]
	IdleField = Reserved + "idle" // the idle timeout that Remember has set, in milliseconds
)

// Set sets values, all or none. If fresh, the id is new and the session begins.
func (s *Store) Set(ctx context.Context, began Began, id *ID, fresh bool, fields []Field) (Outcome, error) {
	_, o, err := s.write(ctx, began, id, s.onFields(s.set, id, fresh, fields))
	return o, err
}

// onFields begins a write of fields.
func (s *Store) onFields(script *redisconn.Script, id *ID, fresh bool, fields []Field) *redisconn.Command {
	c := s.on(script, id, 1+2*len(fields))
	c.Flag(fresh)
	for _, f := range fields {
		c.String(f.Name)
		c.Bytes(f.Value)
	}
	return c
}

// Swap sets a value if the stored one still equals seen, nil for none. Otherwise swapped is false and now is the stored
// one.
func (s *Store) Swap(ctx context.Context, began Began, id *ID, fresh bool, f Field, seen []byte) (swapped bool, now []byte, o Outcome, err error) {
	n := 3
	if seen != nil {
		n++
	}
	c := s.on(s.swap, id, n)
	c.Flag(fresh)
	c.String(f.Name)
	c.Bytes(f.Value)
	if seen != nil {
		c.Bytes(seen)
	}
	a, o, err := s.write(ctx, began, id, c)
	return a.done, a.value, o, err
}

// Increment adds to a whole number and returns the sum in decimal digits.
func (s *Store) Increment(ctx context.Context, began Began, id *ID, fresh bool, name string, by int64) ([]byte, Outcome, error) {
	c := s.on(s.increment, id, 3)
	c.Flag(fresh)
	c.String(name)
	c.Int(by)
	a, o, err := s.write(ctx, began, id, c)
	return a.value, o, err
}

// Delete deletes values.
func (s *Store) Delete(ctx context.Context, began Began, id *ID, names []string) (Outcome, error) {
	_, o, err := s.write(ctx, began, id, s.onNames(s.drop, id, names))
	return o, err
}

// Clear deletes all values.
func (s *Store) Clear(ctx context.Context, began Began, id *ID) (Outcome, error) {
	_, o, err := s.write(ctx, began, id, s.on(s.clear, id, 0))
	return o, err
}

// Pop takes a value out: only one caller gets it. It is nil if there is none.
func (s *Store) Pop(ctx context.Context, began Began, id *ID, name string) ([]byte, Outcome, error) {
	c := s.on(s.pop, id, 1)
	c.String(name)
	a, o, err := s.write(ctx, began, id, c)
	return a.value, o, err
}

// Unpop puts back a value that was taken out, unless one of that name has been set since.
func (s *Store) Unpop(ctx context.Context, began Began, id *ID, f Field) (Outcome, error) {
	_, o, err := s.write(ctx, began, id, s.onField(s.unpop, id, f))
	return o, err
}

// onField begins a command that puts a field back.
func (s *Store) onField(script *redisconn.Script, id *ID, f Field) *redisconn.Command {
	c := s.on(script, id, 2)
	c.String(f.Name)
	c.Bytes(f.Value)
	return c
}

// onNames begins a command on names, each once.
func (s *Store) onNames(script *redisconn.Script, id *ID, names []string) *redisconn.Command {
	names = slices.Compact(slices.Sorted(slices.Values(names)))
	c := s.on(script, id, len(names))
	for _, name := range names {
		c.String(name)
	}
	return c
}

// Rotate gives the session the id next instead of id.
func (s *Store) Rotate(ctx context.Context, began Began, id, next *ID) (Outcome, error) {
	c := s.on(s.rotate, id, 1)
	c.String(next.verifier)
	_, o, err := s.write(ctx, began, id, c)
	return o, err
}

// Micros parses the time in [AuthField]. It returns the zero time if there is none.
func Micros(text []byte) time.Time { return sinceEpoch(text, time.UnixMicro) }

func milliTime(text []byte) time.Time { return sinceEpoch(text, time.UnixMilli) }

func sinceEpoch(text []byte, from func(int64) time.Time) time.Time {
	n, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil || n <= 0 {
		return time.Time{}
	}
	return from(n)
}
