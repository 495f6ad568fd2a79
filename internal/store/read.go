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

// Names returns the names of all values, in no particular order.
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

// Read reads a session by plain commands, which cost Redis a fraction of what a script does. A session is read whole,
// unless it is known to be large. Then Read returns the value of name alone; but if again says that the caller has read
// another value before, a session that is not too large is read whole. With CacheFor it may come from memory, and one that
// is not too large is always read whole.
//
// A read that finds the idle timeout due for renewal, or the id dead, takes a second round trip.
func (s *Store) Read(ctx context.Context, began Began, id *ID, name string, again bool) (Content, Outcome, error) {
	if content, ok := s.cache.get(id); ok {
		return content, Outcome{}, nil
	}
	if size := s.sizes.of(id.Handle); size <= smallBytes || size <= wholeBytes && (again || s.cache != nil) {
		return s.readWhole(ctx, began, id)
	}
	return s.readOne(ctx, began, id, name)
}

// ReadNames reads the names of a session's values, or all of it if it is not too large.
func (s *Store) ReadNames(ctx context.Context, began Began, id *ID) (Content, Outcome, error) {
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
	r, err := s.redis.Do(ctx, began.At, c.Counted(began.Trips))
	items, _ := r.List()
	return Content{items: items}, o, mapped(err)
}

// Check asks Redis, never memory, what became of a session.
func (s *Store) Check(ctx context.Context, began Began, id *ID) (Outcome, error) {
	_, o, err := s.readOne(ctx, began, id, recordField)
	return o, err
}

// CheckUser is Check that also returns the session's user, "" if it has none.
func (s *Store) CheckUser(ctx context.Context, began Began, id *ID) (string, Outcome, error) {
	content, o, err := s.readOne(ctx, began, id, UserField)
	return string(content.value), o, err
}

// Expiry returns in how much time a session expires if it is not used, and in how much at the latest, 0 if there is no
// absolute timeout. It renews nothing.
func (s *Store) Expiry(ctx context.Context, began Began, id *ID) (idle, absolute time.Duration, o Outcome, err error) {
	f, err := s.readFields(ctx, began, id, recordField)
	if err != nil {
		return 0, 0, Outcome{}, err
	}
	l := s.life(id, f)
	switch {
	case !l.alive:
		o, err = s.fate(ctx, began, id, f)
		return 0, 0, o, err
	case l.left < 0: // somebody has removed its TTL, and the next use gives it one
		l.left = l.lasts
	}
	if s.absolute() > 0 {
		absolute = time.Duration(l.most) * time.Millisecond
	}
	return time.Duration(min(l.left, l.lasts)) * time.Millisecond, absolute, Outcome{}, nil
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

func (s *Store) readWhole(ctx context.Context, began Began, id *ID) (Content, Outcome, error) {
	key := s.key(id.Handle)
	c := redisconn.NewCommand(key, 2, "HGETALL")
	c.String(key)
	now := s.cache.begin(id, c)
	r, err := s.redis.DoAll(ctx, began.At, s.askTimes(c, key).Counted(began.Trips))
	if err != nil {
		return Content{}, Outcome{}, mapped(err)
	}
	items, _ := r[0].List()
	f := fields{replies: r}
	for rest := items; ; {
		name, more := rest.Next()
		if !more {
			break
		}
		value, _ := rest.Next()
		switch string(name) {
		case recordField:
			f.record = value
		case IdleField:
			f.idle = value
		case endedField:
			f.ended = value
		}
	}
	o, rest, err := s.verify(ctx, began, id, f)
	content := Content{Whole: true, Noted: noted(f.record), items: items, kept: rest > 0 && s.cache != nil}
	if content.kept {
		s.cache.keep(id, content, now, rest, c.Pairing())
	}
	return content, o, err
}

func (s *Store) readOne(ctx context.Context, began Began, id *ID, name string) (Content, Outcome, error) {
	f, err := s.readFields(ctx, began, id, name)
	if err != nil {
		return Content{}, Outcome{}, err
	}
	o, _, err := s.verify(ctx, began, id, f)
	return Content{Noted: noted(f.record), value: f.value}, o, err
}

// The fields of a session that a read checks.
type fields struct {
	record, idle, ended []byte
	value               []byte            // of the name that was asked for
	replies             redisconn.Replies // of which the second and third are those of askTimes
}

// readFields reads the fields to check, and the value of name.
func (s *Store) readFields(ctx context.Context, began Began, id *ID, name string) (fields, error) {
	key := s.key(id.Handle)
	c := redisconn.NewCommand(key, 6, "HMGET")
	for _, word := range []string{key, recordField, IdleField, endedField, name} {
		c.String(word)
	}
	r, err := s.redis.DoAll(ctx, began.At, s.askTimes(c, key).Counted(began.Trips))
	if err != nil {
		return fields{}, mapped(err)
	}
	f := fields{replies: r}
	items, _ := r[0].List()
	f.record, _ = items.Next()
	f.idle, _ = items.Next()
	f.ended, _ = items.Next()
	f.value, _ = items.Next()
	return f, nil
}

// askTimes appends to a read what else verify must know: how long the key lasts and, if that matters, the time by
// Redis's clock.
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

// readable reports whether a record has this version's layout: flags above 7 are a later one's.
func readable(record []byte) bool { return len(record) >= flags && record[flags-1] <= '7' }

// noted reports whether the record says that notifications may be waiting.
func noted(record []byte) bool { return len(record) >= flags && (record[flags-1]-'0')&1 == 1 }

// A life is how long a session lasts, in milliseconds.
type life struct {
	alive bool  // the id opens it; else the rest is not known
	idle  int64 // its idle timeout
	most  int64 // what is left until the absolute timeout, if there is one
	lasts int64 // what would be left if it were renewed
	left  int64 // what is left
}

// life does in Go what open.lua does: it checks the record.
func (s *Store) life(id *ID, f fields) life {
	if !readable(f.record) || string(f.record[:verifier]) != id.verifier {
		return life{} // also of a later layout, about which a script says more
	}
	l := life{alive: true, idle: s.config.Idle.Milliseconds()}
	if f.record[flags-1] >= '4' { // it has its own idle timeout
		if own, err := strconv.ParseFloat(string(f.idle), 64); err == nil && own >= 1000 && own <= float64(LongestIdle.Milliseconds()) {
			l.idle = int64(own)
		}
	}
	l.lasts = l.idle
	if absolute := s.absolute().Milliseconds(); absolute > 0 {
		since, _ := strconv.ParseInt(string(f.record[verifier:created]), 10, 64)
		l.most = since + absolute - serverTime(f.replies[2])
		l.alive, l.lasts = l.most > 0, min(l.idle, l.most)
	}
	l.left, _ = f.replies[1].Number()
	return l
}

// fate returns what became of a session that an id doesn't open. If only Redis can tell, it asks.
func (s *Store) fate(ctx context.Context, began Began, id *ID, f fields) (Outcome, error) {
	s.sizes.forget(id.Handle)
	if f.record == nil && f.ended == nil {
		return Outcome{State: Expired}, nil
	}
	return s.renewed(ctx, began, id) // which tells how it ended, and deletes it at the absolute timeout
}

// verify checks that a session is alive. It also renews it if a tenth of its idle timeout has passed, so that reads
// seldom write. If it was not renewed, rest is how long it will neither be due for renewal nor expire.
func (s *Store) verify(ctx context.Context, began Began, id *ID, f fields) (o Outcome, rest time.Duration, err error) {
	l := s.life(id, f)
	if !l.alive {
		o, err = s.fate(ctx, began, id, f)
		return o, 0, err
	}
	size, _ := strconv.ParseInt(string(f.record[flags:]), 10, 64)
	s.sizes.remember(id.Handle, size)
	spare := l.idle/10 - (l.lasts - l.left)
	inTime := l.left >= 0 && spare >= 0 && l.left-l.lasts <= l.idle/10 // it lasts too long if Redis's clock was set back
	if inTime || s.refused.recent() {
		return Outcome{}, time.Duration(min(spare, l.idle/10, l.left, l.lasts)) * time.Millisecond, nil
	}
	o, err = s.renewed(ctx, began, id)
	if err != nil { // a Redis that refuses to write still answers reads
		s.refused.note()
		return Outcome{}, 0, nil
	}
	s.renewals.Add(1)
	return o, 0, nil
}

// A moment is when something last happened, by the clock that nobody sets.
type moment struct{ at atomic.Pointer[time.Time] }

func (m *moment) note() { now := time.Now(); m.at.Store(&now) }

// recent reports whether that was less than refusedFor ago.
func (m *moment) recent() bool {
	at := m.at.Load()
	return at != nil && time.Since(*at) < refusedFor
}

// refusedFor is how long reads renew nothing after a renewal has failed: each would take a second round trip and, after
// READONLY, close the shared connection, to look for the master.
const refusedFor = 100 * time.Millisecond

// renewed renews a session, if it is alive.
func (s *Store) renewed(ctx context.Context, began Began, id *ID) (Outcome, error) {
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

// sizes remembers which sessions are larger than smallBytes. Its memory is bounded: when it is full it forgets some,
// and they are read whole once more.
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
