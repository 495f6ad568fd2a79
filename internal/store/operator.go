package store

import (
	"cmp"
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/pycket/pycket/internal/redisconn"
)

// What follows is for an operator, who has no session's id, and for no request.

// A Stored is a value of a session, a notification or a message, as it is stored.
type Stored struct {
	Name  string // "" of a message
	Size  int    // in bytes
	Value []byte // if it was asked for
}

// A Shown is what is stored of a session.
type Shown struct {
	User, Agent                  string
	Created, Seen, Authenticated time.Time     // zero if that is not known
	Idle                         time.Duration // the idle timeout that Remember has set, 0 for none
	Left                         time.Duration // until the session expires, if it isn't used
	Size                         int64         // of names and values, in bytes

	Values, Notifications, Messages []Stored
}

// Show returns what is stored of a session, by its handle. It renews nothing. Without values, only their names and
// sizes leave Redis.
func (s *Store) Show(ctx context.Context, began Began, handle string, values bool) (Shown, Outcome, error) {
	c := s.show.On(2, s.key(handle))
	c.String("")
	c.Flag(values)
	r, o, err := s.ask(ctx, began, c)
	if err != nil || o.State != Alive {
		return Shown{}, o, err
	}
	items, _ := r.List()
	left, _ := items.Next()
	ms, _ := strconv.ParseInt(string(left), 10, 64)
	shown := Shown{Left: time.Duration(max(ms, 0)) * time.Millisecond}
	for {
		kind, more := items.Next()
		if !more {
			return shown, o, nil
		}
		name, _ := items.Next()
		size, _ := items.Next()
		value, _ := items.Next()
		if string(kind) == "s" && strings.HasPrefix(string(name), Reserved) {
			shown.reserved(string(name), value)
			continue
		}
		into := map[string]*[]Stored{"s": &shown.Values, "n": &shown.Notifications, "m": &shown.Messages}[string(kind)]
		if into == nil {
			return Shown{}, o, ErrMalformed
		}
		stored := Stored{Name: string(name)}
		stored.Size, _ = strconv.Atoi(string(size))
		if values {
			stored.Value = value
		}
		*into = append(*into, stored)
	}
}

// reserved notes a reserved field.
func (s *Shown) reserved(name string, value []byte) {
	switch name {
	case recordField:
		found := recorded("", value)
		s.Created, s.Size = found.Created, found.Size
	case UserField:
		s.User = string(value)
	case AuthField:
		s.Authenticated = Micros(value)
	case IdleField:
		ms, _ := strconv.ParseInt(string(value), 10, 64)
		s.Idle = time.Duration(ms) * time.Millisecond
	case Reserved + "seen":
		s.Seen = milliTime(value)
	case Reserved + "agent":
		s.Agent = string(value)
	}
}

// A Swept is a session as Sweep finds it.
type Swept struct {
	Handle   string
	Verifier string // another one after every rotation
	Created  time.Time
	Owned    bool  // it belongs to a user
	Own      bool  // its idle timeout is its own, by Remember
	Noted    bool  // notifications may be waiting
	Size     int64 // of names and values, in bytes
}

// recorded reads a session's record, which may be anything.
func recorded(handle string, record []byte) Swept {
	found := Swept{Handle: handle}
	if readable(record) {
		digit := record[flags-1] - '0'
		found.Noted = noted(record)
		found.Verifier, found.Created = string(record[:verifier]), milliTime(record[verifier:created])
		found.Owned, found.Own = digit&2 != 0, digit&4 != 0
		found.Size, _ = strconv.ParseInt(string(record[flags:]), 10, 64)
	}
	return found
}

// sweepKeys is at about how many keys a step of Sweep looks: it takes Redis a fraction of a millisecond.
const sweepKeys = 200

// Sweep goes through all sessions that are alive, by SCAN, and in a cluster through one master after the other. After
// each step it hands over what it has found, and which part of all it has looked at, and rests for as long as the step
// took. It finds a session that is alive throughout at least once and maybe several times, and one that begins or ends
// meanwhile perhaps. A failover makes it miss some. The timeout applies to each step.
func (s *Store) Sweep(ctx context.Context, each func(found []Swept, part float64)) error {
	servers, err := s.Servers(ctx)
	if err != nil {
		return err
	}
	for i, at := range servers {
		looked := 0.0
		for cursor := "0"; ; {
			began := Began{At: time.Now()}
			next, keys, found, err := s.sweepStep(ctx, began, at, cursor)
			if err != nil {
				return of(at, err)
			}
			looked += sweepKeys
			each(found, (float64(i)+min(looked/max(keys, 1), 1))/float64(len(servers)))
			if cursor = next; cursor == "0" {
				break
			}
			select {
			case <-time.After(time.Since(began.At)):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return nil
}

// sweepStep looks at some keys, and returns where the next step goes on and how many keys the server has.
func (s *Store) sweepStep(ctx context.Context, began Began, at redisconn.Probe, cursor string) (next string, keys float64, found []Swept, err error) {
	c := s.sweep.On(3, s.key(at.Tag))
	c.String(cursor)
	c.String(escapeGlob.Replace(s.config.Prefix) + "s:{*}")
	c.Int(sweepKeys)
	r, _, err := s.ask(ctx, began, c)
	if err != nil {
		return "", 0, nil, err
	}
	items, _ := r.List()
	cursorNow, _ := items.Next()
	size, _ := items.Next()
	keys, _ = strconv.ParseFloat(string(size), 64)
	for {
		key, more := items.Next()
		if !more {
			return cmp.Or(string(cursorNow), "0"), keys, found, nil
		}
		record, _ := items.Next()
		handle := strings.TrimSuffix(strings.TrimPrefix(string(key), s.config.Prefix+"s:{"), "}")
		if !IsHandle(handle) {
			continue
		}
		if len(record) == 0 {
			c := redisconn.NewCommand(s.key(handle), 3, "HGET")
			c.String(s.key(handle))
			c.String(recordField)
			r, err := s.redis.Do(ctx, began.At, c)
			if err != nil {
				return "", 0, nil, mapped(err)
			}
			if record = r.Value(); record == nil {
				continue
			}
		}
		found = append(found, recorded(handle, record))
	}
}

// escapeGlob makes text a pattern that matches nothing else.
var escapeGlob = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`)

// Servers returns the servers that have keys: one, or the masters of a cluster.
func (s *Store) Servers(ctx context.Context) ([]redisconn.Probe, error) {
	return s.redis.Probes(ctx, time.Now())
}

// Ask asks one of the Servers about itself, and returns the words of its answer. The question must change nothing,
// since it may be asked twice.
func (s *Store) Ask(ctx context.Context, at redisconn.Probe, question ...string) (answer []string, err error) {
	c := redisconn.NewCommand(s.key(at.Tag), len(question), question[0])
	for _, word := range question[1:] {
		c.String(word)
	}
	r, err := s.redis.Do(ctx, time.Now(), c)
	if err != nil {
		return nil, err
	}
	if items, ok := r.List(); ok {
		for item, more := items.Next(); more; item, more = items.Next() {
			answer = append(answer, string(item))
		}
		return answer, nil
	}
	return []string{string(r.Value())}, nil
}
