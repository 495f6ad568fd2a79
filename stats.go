package pycket

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/pycket/pycket/internal/stats"
	"github.com/pycket/pycket/internal/store"
)

// Stats are what an App has counted since [New], and the state of its connections. It can be marshalled to JSON.
type Stats struct {
	// Operations are by name, as errors have it: "get", "set many", "login" … Those that were never called are not there.
	// The cookie's renewal, which no call asks for, is "cookie".
	Operations map[string]OperationStats

	// LatencyBounds are the upper bounds of the buckets in OperationStats.Latency.
	LatencyBounds []time.Duration

	RoundTrips uint64 // of all operations
	Retries    uint64 // of these, those that sent a command again: see [Operation]
	Renewals   uint64 // reads that renewed the idle timeout, with a second round trip
	Conflicts  uint64 // changes of [Update] that began again, since the value had changed meanwhile

	Connections ConnectionStats
	Cache       CacheStats
}

// OperationStats are what was counted of one kind of operation.
type OperationStats struct {
	Outcomes            map[string]uint64 // how many ended so: see [Operation]; those with 0 are not there
	RoundTrips, Retries uint64

	// Latency is a histogram of the operations that asked Redis. Latency[i] is how many took at most LatencyBounds[i], and
	// longer than the bound before; the last is how many took longer than all bounds.
	Latency []uint64
	Took    time.Duration // those operations, in all
}

// ConnectionStats are the state of the connections to Redis, added up over all servers. Those that watch for changes
// ([Settings.CacheFor]) and for a new master are not among them.
type ConnectionStats struct {
	Servers int // that are known; of a group that Redis Sentinel watches, the master
	Shared  int // connections that requests share: one to each server that is in use
	Queued  int // commands that are to be sent on them
	Waiting int // commands that were sent on them, and have no reply yet
	Alone   int // connections in use by one command each, such as a large one
	Idle    int // connections that are kept for such commands
	Max     int // how many may be open: [RedisSettings].MaxConnections for each server
}

// Stats returns the figures. It takes microseconds, and asks Redis nothing. To publish them at /debug/vars:
//
//	expvar.Publish("pycket", expvar.Func(func() any { return app.Stats() }))
func (a *App) Stats() Stats {
	s := Stats{
		Operations: map[string]OperationStats{}, LatencyBounds: slices.Clone(stats.Bounds[:]),
		Renewals: a.store.Renewals(), Conflicts: a.counters.Conflicts(),
		Connections: ConnectionStats(a.store.Connections()), Cache: a.CacheStats(),
	}
	for kind := range stats.Kinds {
		tally := a.counters.Of(kind)
		of := OperationStats{map[string]uint64{}, tally.Trips, tally.Retries, tally.Buckets[:], tally.Took}
		for i, n := range tally.Outcomes {
			if n > 0 {
				of.Outcomes[stats.Outcome(i).String()] = n // #nosec G115 -- one of a few
			}
		}
		if len(of.Outcomes) > 0 {
			s.Operations[kind.String()] = of
		}
		s.RoundTrips += of.RoundTrips
		s.Retries += of.Retries
	}
	return s
}

// An Operation is what [Settings.Observe] is told of one. It has no id, cookie, user, key or value in it.
type Operation struct {
	// Name is what errors call it: "get", "set many", "login" …
	Name string

	// Outcome is "ok", "gone" ([ErrGone]), "headers_sent" ([ErrHeadersSent]), "too_large" ([ErrTooLarge]), "unavailable"
	// ([ErrUnavailable]), "misconfigured" ([ErrMisconfigured]), "not_replicated" ([ErrNotReplicated]), "corrupt"
	// ([ErrCorrupt]), "cancelled" by the caller's context, or "failed" for any other reason, such as a value that can't be
	// encoded.
	Outcome string

	// Err is why it failed: what it returned, but without the operation's name and the key's.
	Err error

	// Began is when it began to wait for the session, after its value was encoded, and Took how long it took from then:
	// other operations of the same request, which take turns, and the function given to Update included.
	Began time.Time
	Took  time.Duration

	// RoundTrips is how often it asked Redis; 0 if the request knew the answer. Retries is how many of these repeated a
	// command: since the connection broke, the server did not know a script yet, or a cluster moved the key.
	RoundTrips, Retries int

	// Server is the address of the server that it asked last, host:port or the path of a socket. "" if it asked none.
	Server string
}

// A call is one call of an operation, which ends with its end method. It counts what the operation costs, and gives its
// error the form of this package's errors.
type call struct {
	app   *App // nil if the manager has no request
	ctx   context.Context
	kind  stats.Kind
	name  string // of the key
	named bool
	other bool         // its error is that of a function of the application's
	began time.Time    // zero before it does
	since time.Time    // what the timeout of all its steps counts from; zero if each step has its own
	trips *store.Trips // of steps that need no turn with the session; nil if there were none
	cost  store.Cost
}

// call begins a call.
func (m *manager) call(kind stats.Kind) call {
	if m.request == nil {
		return call{kind: kind}
	}
	return call{app: m.request.app, ctx: m.ctx(), kind: kind}
}

// callOn is call for an operation on one name.
func (m *manager) callOn(kind stats.Kind, name string) call {
	c := m.call(kind)
	c.name, c.named = name, true
	return c
}

// call begins a call that is no request's.
func (a *App) call(ctx context.Context, kind stats.Kind) call {
	return call{app: a, ctx: ctx, kind: kind, began: time.Now()}
}

// start returns when a step began that needs no turn with the session. It is the call's first, or has its own timeout.
func (c *call) start() store.Began {
	if c.trips == nil {
		c.trips = new(store.Trips)
	}
	return store.Began{At: c.began, Trips: c.trips}
}

// pays adds to what the call has cost.
func (c *call) pays(cost store.Cost) {
	c.cost.RoundTrips += cost.RoundTrips
	c.cost.Retries += cost.Retries
	if cost.Server != "" {
		c.cost.Server = cost.Server
	}
}

// end ends the call with the error that it is about to return.
func (c *call) end(err *error) {
	if c.app != nil {
		c.count(*err)
	}
	switch {
	case *err == nil:
	case c.named:
		*err = failedOn(c.kind.String(), c.name, *err)
	default:
		*err = failed(c.kind.String(), *err)
	}
}

func (c *call) count(err error) {
	if c.trips != nil {
		c.pays(c.trips.Take())
	}
	outcome, observe := outcomeOf(err), c.app.settings.Observe
	var took time.Duration
	if c.cost.RoundTrips > 0 || observe != nil {
		if c.began.IsZero() {
			c.began = time.Now()
		}
		took = time.Since(c.began)
	}
	c.app.counters.Add(c.kind, outcome, took, c.cost.RoundTrips, c.cost.Retries)
	c.warn(outcome, err)
	if observe != nil {
		observe(c.ctx, Operation{
			Name: c.kind.String(), Outcome: outcome.String(), Err: err, Began: c.began, Took: took,
			RoundTrips: c.cost.RoundTrips, Retries: c.cost.Retries, Server: c.cost.Server,
		})
	}
}

// warn logs what an operator should know of the call.
func (c *call) warn(outcome stats.Outcome, err error) {
	switch {
	case c.other:
	case outcome == stats.OK && c.cost.RoundTrips > 0:
		c.app.warnings.Found(c.kind.Writes())
	case outcome == stats.Unavailable, outcome == stats.Misconfigured:
		c.app.warnings.Lost(err, errors.As(err, new(store.Refusal)))
	case outcome == stats.Corrupt, outcome == stats.NotReplicated:
		c.app.warnings.Fault(failed(c.kind.String(), err))
	}
}

// renewed ends the call of a cookie's renewal, which has asked Redis nothing if none was due.
func (c *call) renewed(err error) {
	if c.cost.RoundTrips > 0 || err != nil {
		c.count(err)
	}
}

// outcomeOf returns how an operation that returned err has ended.
func outcomeOf(err error) stats.Outcome {
	if err == nil {
		return stats.OK
	}
	for _, known := range outcomes {
		if errors.Is(err, known.err) {
			return known.outcome
		}
	}
	return stats.Failed
}

// outcomes are those of errors. An error may be several: the first counts.
var outcomes = []struct {
	err     error
	outcome stats.Outcome
}{
	{ErrNotReplicated, stats.NotReplicated},
	{ErrMisconfigured, stats.Misconfigured},
	{ErrUnavailable, stats.Unavailable},
	{ErrGone, stats.Gone},
	{ErrHeadersSent, stats.HeadersSent},
	{ErrTooLarge, stats.TooLarge},
	{ErrCorrupt, stats.Corrupt},
	{context.Canceled, stats.Cancelled},
	{context.DeadlineExceeded, stats.Cancelled},
}
