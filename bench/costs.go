// What a request costs that needs no load to tell: allocations, commands and round trips, and what a
// session takes in Redis. The handlers are called in this process, one request at a time.

package main

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"time"
)

// A recorder is an http.ResponseWriter that is used again and again, so that it adds no allocations.
type recorder struct {
	header http.Header
	status int
	body   []byte
}

func (r *recorder) Header() http.Header { return r.header }

func (r *recorder) WriteHeader(status int) { r.status = status }

func (r *recorder) Write(p []byte) (int, error) {
	r.body = append(r.body, p...)
	return len(p), nil
}

func (r *recorder) WriteString(s string) (int, error) {
	r.body = append(r.body, s...)
	return len(s), nil
}

// A caller is a visitor of a handler in this process.
type caller struct {
	*visitor
	handler  http.Handler
	request  *http.Request
	recorder recorder
	check    func(*visitor, []byte, bool) bool
}

func newCaller(handler http.Handler, path string, v *visitor, check func(*visitor, []byte, bool) bool) (*caller, error) {
	request, err := http.NewRequest(http.MethodGet, path, nil)
	if err != nil {
		return nil, err
	}
	request.RequestURI = path
	if v.cookie != "" {
		request.Header.Set("Cookie", v.cookie)
	}
	return &caller{visitor: v, handler: handler, request: request, recorder: recorder{header: http.Header{}}, check: check}, nil
}

// call makes one request. It is a copy, since some libraries keep things in the request.
func (c *caller) call() error {
	request := *c.request
	clear(c.recorder.header)
	c.recorder.status, c.recorder.body = http.StatusOK, c.recorder.body[:0]
	c.handler.ServeHTTP(&c.recorder, &request)
	if c.recorder.status != http.StatusOK || !c.check(c.visitor, c.recorder.body, c.recorder.header["Set-Cookie"] != nil) {
		return fmt.Errorf("%s answered %d, %.80q", c.request.URL.Path, c.recorder.status, c.recorder.body)
	}
	return nil
}

// visitHere makes a visitor of a handler in this process.
func visitHere(handler http.Handler, path string) (*visitor, error) {
	c, err := newCaller(handler, path, &visitor{}, isFirstAnswer)
	if err != nil {
		return nil, err
	}
	if err := c.call(); err != nil {
		return nil, err
	}
	cookie, _, _ := strings.Cut(c.recorder.header.Get("Set-Cookie"), ";")
	return &visitor{cookie: cookie}, nil
}

// A cost is what one request of a contestant costs.
type cost struct {
	Workload   string  `json:"workload"`
	Contestant string  `json:"contestant"`
	Allocs     float64 `json:"allocations"`
	OverBare   float64 `json:"allocations_over_bare_handler"`
	Bytes      float64 `json:"allocated_bytes"`
	Commands   float64 `json:"redis_commands"`
	RoundTrips float64 `json:"redis_round_trips"`

	Kinds     map[string]float64 `json:"redis_commands_by_kind"`
	Pipelined *pipelined         `json:"pipelined"` // nil if the commands can't be sent again, or there are none
}

// A footprint is what one session takes in Redis: the sum of MEMORY USAGE over its keys.
type footprint struct {
	Contestant string `json:"contestant"`
	OneValue   int    `json:"one_value_bytes"`    // one value of 40 bytes
	Wide       int    `json:"fifty_values_bytes"` // 50 of them
}

func openApps(address string) (map[string]http.Handler, error) {
	handlers := map[string]http.Handler{}
	for name, open := range apps {
		handler, err := open(address)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		handlers[name] = handler
	}
	return handlers, nil
}

// costTime is about what one contestant takes in one of the two passes of measureCosts.
const costTime = 200 * time.Millisecond

func timeOfCosts(chosen []workload) time.Duration {
	n := 0
	for _, w := range chosen {
		n += 2 * len(w.entries)
	}
	return time.Duration(n) * costTime
}

// measureCosts counts over a number of requests of every contestant.
func (b *bench) measureCosts(ctx context.Context, chosen []workload, requests int) ([]cost, error) {
	direct, err := openApps(b.redis.address)
	if err != nil {
		return nil, err
	}
	bare, err := newCaller(direct["floor"], "/idle", &visitor{}, isIdleAnswer)
	if err != nil {
		return nil, err
	}
	bareAllocs, _, err := allocations(bare, requests)
	if err != nil {
		return nil, err
	}
	var costs []cost
	for _, w := range chosen {
		for _, e := range w.entries {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			b.progress.step("allocations: "+e.name, costTime)
			caller, err := w.caller(direct[e.app], e)
			if err != nil {
				return nil, err
			}
			allocs, bytes, err := allocations(caller, requests)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", e.name, err)
			}
			costs = append(costs, cost{Workload: w.Letter, Contestant: e.name, Allocs: allocs, OverBare: max(0, allocs-bareAllocs), Bytes: bytes})
		}
	}
	// The proxy allocates too, so it takes a second pass.
	if err := b.countCommands(ctx, chosen, costs); err != nil {
		return nil, err
	}
	return costs, b.redis.flush()
}

// countCommands fills in the costs, which are in the order of the workloads' entries.
func (b *bench) countCommands(ctx context.Context, chosen []workload, costs []cost) error {
	p, err := startProxy(b.redis.address)
	if err != nil {
		return err
	}
	proxied, err := openApps(p.address())
	if err != nil {
		return err
	}
	i := 0
	for _, w := range chosen {
		for _, e := range w.entries {
			if err := ctx.Err(); err != nil {
				return err
			}
			b.progress.step("commands: "+e.name, costTime)
			caller, err := w.caller(proxied[e.app], e)
			if err != nil {
				return err
			}
			const warm, counted = 10, 50
			if err := callTimes(caller, warm); err != nil {
				return fmt.Errorf("%s: %w", e.name, err)
			}
			p.take()
			roundTrips := p.roundTrips.Load()
			if err := callTimes(caller, counted); err != nil {
				return fmt.Errorf("%s: %w", e.name, err)
			}
			commands := p.take()
			c := &costs[i]
			i++
			c.Commands = float64(len(commands)) / counted
			c.RoundTrips = float64(p.roundTrips.Load()-roundTrips) / counted
			c.Kinds = kindsOf(commands, counted)
			if !w.repeatable || len(commands) < counted {
				continue // a cache asks Redis now and then
			}
			if err := caller.call(); err != nil {
				return fmt.Errorf("%s: %w", e.name, err)
			}
			if c.Pipelined, err = b.redis.pipeline(p.take()); err != nil {
				return fmt.Errorf("%s, pipelined: %w", e.name, err)
			}
		}
	}
	return p.stop()
}

// caller is a visitor of one entry in this process, with its session if it needs one.
func (w workload) caller(handler http.Handler, e entry) (*caller, error) {
	v := &visitor{}
	if w.prepare != "" {
		var err error
		if v, err = visitHere(handler, w.prepare); err != nil {
			return nil, fmt.Errorf("%s: %w", e.name, err)
		}
	}
	return newCaller(handler, e.path, v, w.check)
}

func callTimes(c *caller, n int) error {
	for range n {
		if err := c.call(); err != nil {
			return err
		}
	}
	return nil
}

// allocations counts what n requests allocate in this process, per request.
func allocations(c *caller, n int) (allocs, bytes float64, err error) {
	if err := callTimes(c, n/10); err != nil {
		return 0, 0, err
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := callTimes(c, n); err != nil {
		return 0, 0, err
	}
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / float64(n), float64(after.TotalAlloc-before.TotalAlloc) / float64(n), nil
}

// footprints measures the sessions of all apps, as their first requests leave them.
func (b *bench) footprints() ([]footprint, error) {
	var footprints []footprint
	for _, e := range []entry{
		{name: "pycket", app: "pycket"}, {name: "scs", app: "scs"}, {name: "gorilla+boj", app: "boj"},
		{name: "gorilla+rbcervilla", app: "rbcervilla"}, {name: "gin", app: "gin"},
	} {
		handler, err := apps[e.app](b.redis.address)
		if err != nil {
			return nil, err
		}
		f := footprint{Contestant: e.name}
		for path, into := range map[string]*int{"/first": &f.OneValue, "/fill": &f.Wide} {
			if err := b.redis.flush(); err != nil {
				return nil, err
			}
			if _, err := visitHere(handler, path); err != nil {
				return nil, fmt.Errorf("%s: %w", e.name, err)
			}
			if *into, err = b.redis.memory(); err != nil {
				return nil, err
			}
		}
		footprints = append(footprints, f)
	}
	return footprints, b.redis.flush()
}
