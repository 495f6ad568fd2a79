package store

import (
	"bytes"
	"context"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pycket/pycket/internal/redisconn"
)

// Content is what a request has read of a session: all of it, or the one value it asked for, or the names.
type Content struct {
	Whole bool
	Noted bool           // notifications may be waiting
	kept  bool           // other requests read it too
	items redisconn.List // names and values, if Whole; else names
	value []byte
}

// Value returns the value of a name, nil if there is none. If the content is not Whole, it returns the value
// that was asked for.
func (c Content) Value(name string) []byte {
	if !c.Whole {
		return c.value
	}
	for items := c.items; ; {
		n, ok := items.Next()
		if !ok {
			return nil
		}
		if v, _ := items.Next(); string(n) == name {
			if c.kept {
				v = bytes.Clone(v) // codecs may keep and change what they get
			}
			return v
		}
	}
}

// Names returns the names of all values, in no order.
func (c Content) Names() []string {
	names := []string{}
	for items := c.items; ; {
		name, ok := items.Next()
		if !ok {
			return names
		}
		if c.Whole {
			items.Next()
		}
		if !strings.HasPrefix(string(name), Reserved) {
			names = append(names, string(name))
		}
	}
}

// Read reads a session by plain commands, which cost Redis a fraction of a script. A session is read whole,
// unless it is known to be large: then Read returns the value of name alone, or, if again says that the caller
// has read another value of it before, all of one that is not too large. With CacheFor it may come from memory, and all of
// one that is not too large is read at once.
//
// A read that finds the idle timeout due for renewal, or the id dead, takes a second round trip.
func (s *Store) Read(ctx context.Context, began time.Time, id *ID, name string, again bool) (Content, Outcome, error) {
	if content, ok := s.cache.get(id); ok {
		return content, Outcome{}, nil
	}
	if size := s.sizes.of(id.Handle); size <= smallBytes || size <= wholeBytes && (again || s.cache != nil) {
		return s.readWhole(ctx, began, id)
	}
	return s.readOne(ctx, began, id, name)
}

// ReadNames reads the names of a session's values, or all of it if it is not too large.
func (s *Store) ReadNames(ctx context.Context, began time.Time, id *ID) (Content, Outcome, error) {
	if content, ok := s.cache.get(id); ok {
		return content, Outcome{}, nil
	}
	if s.sizes.of(id.Handle) <= wholeBytes {
		return s.readWhole(ctx, began, id)
	}
	_, o, err := s.readOne(ctx, began, id, recordField)
	if err != nil || o.State != Alive {
		return Content{}, o, err
	}
	c := redisconn.NewCommand(s.key(id.Handle), 2, "HKEYS")
	c.String(s.key(id.Handle))
	r, err := s.redis.Do(ctx, began, c)
	items, _ := r.List()
	return Content{items: items}, o, mapped(err)
}

const (
	// A session of up to smallBytes is read whole at a request's first read, and one of up to wholeBytes at the
	// second: a request that reads one value of many should not pay for all, and one that reads many should not
	// ask for each.
	smallBytes = 1024
	wholeBytes = 4096

	recordField = Reserved + "id"
	endedField  = Reserved + "ended"
)

func (s *Store) readWhole(ctx context.Context, began time.Time, id *ID) (Content, Outcome, error) {
	key := s.key(id.Handle)
	c := redisconn.NewCommand(key, 2, "HGETALL")
	c.String(key)
	now := s.cache.begin(id, c)
	r, err := s.redis.DoAll(ctx, began, s.askTimes(c, key))
	if err != nil {
		return Content{}, Outcome{}, mapped(err)
	}
	items, _ := r[0].List()
	var record, idle, ended []byte
	for rest := items; ; {
		name, more := rest.Next()
		if !more {
			break
		}
		value, _ := rest.Next()
		switch string(name) {
		case recordField:
			record = value
		case IdleField:
			idle = value
		case endedField:
			ended = value
		}
	}
	o, rest, err := s.verify(ctx, began, id, record, idle, ended, r)
	content := Content{Whole: true, Noted: noted(record), items: items, kept: rest > 0 && s.cache != nil}
	if content.kept {
		s.cache.keep(id, content, now, rest, c.Pairing())
	}
	return content, o, err
}

func (s *Store) readOne(ctx context.Context, began time.Time, id *ID, name string) (Content, Outcome, error) {
	key := s.key(id.Handle)
	c := redisconn.NewCommand(key, 6, "HMGET")
	for _, word := range []string{key, recordField, IdleField, endedField, name} {
		c.String(word)
	}
	r, err := s.redis.DoAll(ctx, began, s.askTimes(c, key))
	if err != nil {
		return Content{}, Outcome{}, mapped(err)
	}
	items, _ := r[0].List()
	record, _ := items.Next()
	idle, _ := items.Next()
	ended, _ := items.Next()
	value, _ := items.Next()
	o, _, err := s.verify(ctx, began, id, record, idle, ended, r)
	return Content{Noted: noted(record), value: value}, o, err
}

// askTimes appends to a read what verify must know besides: how long the key lasts and, if that matters, the
// time by Redis's clock.
func (s *Store) askTimes(c *redisconn.Command, key string) *redisconn.Command {
	c.Then(2, "PTTL")
	c.String(key)
	if s.absolute() > 0 {
		c.Then(1, "TIME")
	}
	return c
}

// Where the verifier, the time of creation and the flags end in the record: see docs/storage.md.
const verifier, created, flags = 22, 35, 36

// noted reports whether the record says that notifications may be waiting.
func noted(record []byte) bool { return len(record) >= flags && (record[flags-1]-'0')&1 == 1 }

// verify tells from what was read what became of the session, and renews it if that is due: when a tenth of its
// idle timeout has passed, so that a read is seldom a write. It does in Go what open.lua does. If the session is alive and
// was not renewed, rest is how long it will neither have to be, nor end by itself.
func (s *Store) verify(ctx context.Context, began time.Time, id *ID, record, idleText, ended []byte, r redisconn.Replies) (o Outcome, rest time.Duration, err error) {
	if len(record) < flags || string(record[:verifier]) != id.verifier {
		s.sizes.forget(id.Handle)
		if record == nil && ended == nil {
			return Outcome{State: Expired}, 0, nil
		}
		o, err = s.renewed(ctx, began, id) // which tells how it ended
		return o, 0, err
	}
	size, _ := strconv.ParseInt(string(record[flags:]), 10, 64)
	s.sizes.remember(id.Handle, size)
	idle := s.config.Idle.Milliseconds()
	if record[flags-1] >= '4' { // it has an idle timeout of its own
		if own, err := strconv.ParseFloat(string(idleText), 64); err == nil && own >= 1000 && own <= float64(LongestIdle.Milliseconds()) {
			idle = int64(own)
		}
	}
	lasts := idle
	if absolute := s.absolute().Milliseconds(); absolute > 0 {
		since, _ := strconv.ParseInt(string(record[verifier:created]), 10, 64)
		left := since + absolute - serverTime(r[2])
		if left <= 0 {
			o, err = s.renewed(ctx, began, id) // which deletes it
			return o, 0, err
		}
		lasts = min(idle, left)
	}
	left, _ := r[1].Number()
	spare := idle/10 - (lasts - left)
	if left >= 0 && spare >= 0 || s.refused.recent() {
		return Outcome{}, time.Duration(min(spare, idle/10, left, lasts)) * time.Millisecond, nil
	}
	o, err = s.renewed(ctx, began, id)
	if err != nil { // a Redis that refuses to write still answers reads
		s.refused.note()
		return Outcome{}, 0, nil
	}
	return o, 0, nil
}

// A moment is when something happened last.
type moment struct{ unixNano atomic.Int64 }

func (m *moment) note() { m.unixNano.Store(time.Now().UnixNano()) }

// recent reports whether it was a moment ago.
func (m *moment) recent() bool { return time.Now().UnixNano()-m.unixNano.Load() < int64(refusedFor) }

// refusedFor is how long reads renew nothing after a renewal has failed: each would take a second round trip and, where
// READONLY leads to looking for the master, cost everybody the connection.
const refusedFor = 100 * time.Millisecond

// renewed renews a session, if it is alive.
func (s *Store) renewed(ctx context.Context, began time.Time, id *ID) (Outcome, error) {
	_, o, err := s.write(ctx, began, id, s.on(s.renew, id, 0))
	return o, err
}

// serverTime reads the reply to TIME, in milliseconds since 1970.
func serverTime(r redisconn.Reply) int64 {
	items, _ := r.List()
	seconds, _ := items.Next()
	micros, _ := items.Next()
	s, _ := strconv.ParseInt(string(seconds), 10, 64)
	us, _ := strconv.ParseInt(string(micros), 10, 64)
	return s*1000 + us/1000
}

// sizes remembers which sessions are larger than small, in bounded memory. It forgets some when it is full: then
// they are read whole once more.
type sizes struct {
	mu    sync.RWMutex
	bytes map[string]int64
}

const maxSizes = 4096

// of returns what is known of a session's size, 0 if nothing is.
func (z *sizes) of(handle string) int64 {
	z.mu.RLock()
	defer z.mu.RUnlock()
	return z.bytes[handle]
}

func (z *sizes) remember(handle string, bytes int64) {
	if known := z.of(handle); known == bytes || known == 0 && bytes <= smallBytes {
		return
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	if bytes <= smallBytes {
		delete(z.bytes, handle)
		return
	}
	if z.bytes == nil {
		z.bytes = map[string]int64{}
	}
	for other := range z.bytes {
		if len(z.bytes) < maxSizes {
			break
		}
		delete(z.bytes, other)
	}
	z.bytes[handle] = bytes
}

func (z *sizes) forget(handle string) { z.remember(handle, 0) }
