// Package stats counts operations: of which kind, how they ended, how long they took, what they cost. It knows nothing
// of what they do.
package stats

import (
	"sync/atomic"
	"time"
)

// A Kind is a kind of operation.
type Kind uint8

// The kinds of operations. Both managers have Has, Keys and Delete.
const (
	Get Kind = iota
	Has
	Keys
	Set
	SetMany
	Delete
	Clear
	Pop
	Increment
	Update
	Rotate
	Destroy
	Expiry
	Login
	SetUser
	User
	AuthTime
	Remember
	Remembered
	Handle
	RevokeOthers
	Notify
	NotifyMany
	Take
	Peek
	Add
	Drain
	Sessions
	Revoke
	RevokeUser
	Ping
	Cookie // which the response renews
	Kinds  // how many there are
)

// String returns the name by which errors call the operation.
func (k Kind) String() string { return kinds[k] }

// Writes reports whether Redis carries out the operation only if it takes writes that need memory. Some others may write,
// or be refused, or neither.
func (k Kind) Writes() bool {
	switch k {
	case Set, SetMany, Increment, Update, Login, Notify, NotifyMany, Add, Ping:
		return true
	}
	return false
}

var kinds = [Kinds]string{
	"get", "has", "keys", "set", "set many", "delete", "clear", "pop", "increment", "update", "rotate", "destroy", "expiry", "login", "set user", "user",
	"authentication time", "remember", "remembered", "handle", "revoke others", "notify", "notify many", "take", "peek", "add", "drain", "sessions", "revoke",
	"revoke user", "ping", "cookie",
}

// An Outcome is how an operation has ended.
type Outcome uint8

// The outcomes of operations.
const (
	OK Outcome = iota
	Gone
	HeadersSent
	TooLarge
	Unavailable
	Misconfigured
	NotReplicated
	Corrupt
	Cancelled // by the caller
	Failed    // for any other reason: the application's, as a rule
	Outcomes  // how many there are
)

// String returns a word for the outcome, which metrics may use.
func (o Outcome) String() string { return outcomes[o] }

var outcomes = [Outcomes]string{
	"ok", "gone", "headers_sent", "too_large", "unavailable", "misconfigured", "not_replicated", "corrupt", "cancelled", "failed",
}

// Bounds are the upper bounds of the histogram's buckets, but for the last, which has none.
var Bounds = [...]time.Duration{
	50 * time.Microsecond, 100 * time.Microsecond, 200 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2 * time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond, 20 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second, 5 * time.Second,
}

// Counters count operations. The zero value is ready. Adding takes no lock and no memory.
type Counters struct {
	kinds     [Kinds]kind
	conflicts atomic.Uint64
}

type kind struct {
	outcomes       [Outcomes]atomic.Uint64
	trips, retries atomic.Uint64
	took           atomic.Int64 // in all, those that made a trip
	buckets        [len(Bounds) + 1]atomic.Uint64
}

// Add counts an operation. How long it took counts only if it made a trip to Redis.
func (c *Counters) Add(k Kind, o Outcome, took time.Duration, trips, retries int) {
	of := &c.kinds[k]
	of.outcomes[o].Add(1)
	if trips == 0 {
		return
	}
	of.trips.Add(uint64(trips)) // #nosec G115 -- a count
	if retries > 0 {
		of.retries.Add(uint64(retries)) // #nosec G115 -- a count
	}
	of.took.Add(int64(took))
	i := 0
	for i < len(Bounds) && took > Bounds[i] {
		i++
	}
	of.buckets[i].Add(1)
}

// Conflict counts a change that another one came before, and that was made again.
func (c *Counters) Conflict() { c.conflicts.Add(1) }

// Conflicts returns how many there were.
func (c *Counters) Conflicts() uint64 { return c.conflicts.Load() }

// A Tally is what was counted of one kind.
type Tally struct {
	Outcomes       [Outcomes]uint64
	Trips, Retries uint64
	Took           time.Duration
	Buckets        [len(Bounds) + 1]uint64
}

// Of returns what was counted of a kind. Operations under way may be in one figure and not yet in another.
func (c *Counters) Of(k Kind) (t Tally) {
	of := &c.kinds[k]
	for i := range of.outcomes {
		t.Outcomes[i] = of.outcomes[i].Load()
	}
	for i := range of.buckets {
		t.Buckets[i] = of.buckets[i].Load()
	}
	t.Trips, t.Retries, t.Took = of.trips.Load(), of.retries.Load(), time.Duration(of.took.Load())
	return t
}
