// How cost grows: with the fields of a session, with what lies beside the value that is read, with that
// value, with the sessions in Redis and with the connections.

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pycket/pycket"
)

// A growth is one quantity that grows, and what reading one value costs with it.
type growth struct {
	Name       string        `json:"name"`
	Axis       string        `json:"axis"`        // what grows
	Unit       string        `json:"unit"`        // of the values
	RelativeTo string        `json:"relative_to"` // what the ratios compare with
	Points     []growthPoint `json:"points"`
}

type growthPoint struct {
	X     string  `json:"x"`
	Value float64 `json:"value"` // the median of the rounds
	Ratio spread  `json:"ratio"`
}

// The names of what grows, which the targets look for.
const (
	growingFields = "fields"
	growingBeside = "beside"
)

// A growthPlan is how much of it is measured.
type growthPlan struct {
	rounds           int
	slice            time.Duration
	sessions         []int // in Redis
	connections      []int
	connectionRounds int // whose turns are as long as those of the workloads
}

func growthPlanOf(quick bool) growthPlan {
	if quick {
		return growthPlan{5, 10 * time.Millisecond, []int{1_000, 10_000, 100_000}, []int{1, 16, 256}, 1}
	}
	return growthPlan{25, 80 * time.Millisecond, []int{1_000, 10_000, 100_000, 1_000_000}, []int{1, 4, 16, 64, 256, 1024}, 4}
}

var (
	fieldCounts = []int{1, 10, 50, 100, 300, 1000}
	valueSizes  = []int{10, 100, 1_000, 10_000, 100_000}
)

// sessionsPerPoint are so many sessions that reading them in turn is not reading one over and over.
const sessionsPerPoint = 64

// A reading is one point: visitors that read their value of some session, and what the rounds gave.
type reading struct {
	x       string
	base    *reading // what it is compared with
	callers []*caller
	medians []float64 // of each round's latencies
}

// time is about what measuring takes, if each turn of the connections takes that long.
func (p growthPlan) time(turn time.Duration) time.Duration {
	readings := p.rounds * (len(fieldCounts) + 2*len(valueSizes) + len(p.sessions))
	turns := p.connectionRounds * 2 * len(p.connections)
	return time.Duration(readings)*p.slice + time.Duration(turns)*turn
}

// measureGrowth reads in this process, so that HTTP does not hide what Redis and the library take; only
// the connections are those of HTTP.
func (b *bench) measureGrowth(ctx context.Context, plan growthPlan) ([]growth, error) {
	overHTTP, err := b.growConnections(ctx, plan)
	if err != nil {
		return nil, err
	}
	inProcess, err := b.growReadings(ctx, plan)
	if err != nil {
		return nil, err
	}
	return append(inProcess, overHTTP...), b.redis.flush()
}

func (b *bench) growReadings(ctx context.Context, plan growthPlan) ([]growth, error) {
	var byFields, beside, bySize, bySessions []*reading
	for _, n := range fieldCounts {
		values := fields(n - 1) // and the one that is read
		values["user"] = userValue
		r, err := b.newReading(0, strconv.Itoa(n), values)
		if err != nil {
			return nil, err
		}
		byFields = append(byFields, r)
	}
	for _, n := range valueSizes {
		big := strings.Repeat("x", n)
		r, err := b.newReading(0, sizeName(n), pycket.Values{"user": userValue, "big": big})
		if err != nil {
			return nil, err
		}
		beside = append(beside, r)
		if r, err = b.newReading(0, sizeName(n), pycket.Values{"user": big}); err != nil {
			return nil, err
		}
		bySize = append(bySize, r)
	}
	for i, n := range plan.sessions {
		db := 2 + i // each number in a database of its own; 0 and 1 have the others
		r, err := b.newReading(db, strconv.Itoa(n), pycket.Values{"user": userValue})
		if err != nil {
			return nil, err
		}
		if err := b.redis.fillUp(db, n); err != nil {
			return nil, err
		}
		bySessions = append(bySessions, r)
	}
	for _, r := range slices.Concat(byFields, beside) {
		r.base = byFields[0]
	}
	for _, r := range bySize {
		r.base = bySize[0]
	}
	for _, r := range bySessions {
		r.base = bySessions[0]
	}

	if err := b.takeReadings(ctx, plan, slices.Concat(byFields, beside, bySize, bySessions)); err != nil {
		return nil, err
	}
	of := func(name, axis, relativeTo string, readings []*reading) growth {
		g := growth{Name: name, Axis: axis, Unit: "µs", RelativeTo: relativeTo}
		for _, r := range readings {
			g.Points = append(g.Points, r.point())
		}
		return g
	}
	return []growth{
		of(growingFields, "fields in the session", "one field", byFields),
		of(growingBeside, "size of another value in the session", "one field", beside),
		of("size", "size of the value", "10 B", bySize),
		of("sessions", "sessions in Redis", bySessions[0].x+" sessions", bySessions),
	}, nil
}

// newReading makes sessions with these values, and callers that read "user".
func (b *bench) newReading(db int, x string, values pycket.Values) (*reading, error) {
	app, err := pycket.New(pycketSettings(b.redis.address, db))
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/read", pycket.HandlerFunc(pages{}, (*pages).read))
	mux.Handle("/make", pycket.Handler(maker{values: values}))
	handler := app.Wrap(mux)
	check := func(_ *visitor, body []byte, _ bool) bool { return string(body) == values["user"] }
	r := &reading{x: x}
	for range sessionsPerPoint {
		v, err := visitHere(handler, "/make")
		if err != nil {
			return nil, err
		}
		c, err := newCaller(handler, "/read", v, check)
		if err != nil {
			return nil, err
		}
		r.callers = append(r.callers, c)
	}
	return r, nil
}

// maker makes sessions with some values.
type maker struct {
	pycket.SessionMixin
	values pycket.Values
}

func (m *maker) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	answer(w, firstAnswer, m.Session().SetMany(m.values))
}

func (b *bench) takeReadings(ctx context.Context, plan growthPlan, readings []*reading) error {
	for range plan.rounds {
		for _, i := range b.order.Perm(len(readings)) {
			if err := ctx.Err(); err != nil {
				return err
			}
			b.progress.step("growth", plan.slice)
			if err := readings[i].take(plan.slice, b.order); err != nil {
				return err
			}
		}
	}
	return nil
}

// take reads for some time and keeps the median latency, which what else the machine does moves less
// than the mean.
func (r *reading) take(d time.Duration, order *rand.Rand) error {
	runtime.GC()
	var h histogram
	now := time.Now()
	for end := now.Add(d); now.Before(end); {
		if err := r.callers[order.IntN(len(r.callers))].call(); err != nil {
			return fmt.Errorf("growth, %s: %w", r.x, err)
		}
		began := now
		now = time.Now()
		h.add(now.Sub(began))
	}
	r.medians = append(r.medians, microseconds(h.quantile(0.5)))
	return nil
}

func (r *reading) point() growthPoint {
	ratios := make([]float64, len(r.medians))
	for i := range ratios {
		ratios[i] = r.medians[i] / r.base.medians[i]
	}
	return growthPoint{r.x, spreadOf(r.medians).Median, spreadOf(ratios)}
}

// growConnections takes workload A, and of it pycket and the floor, with more and more connections.
func (b *bench) growConnections(ctx context.Context, plan growthPlan) ([]growth, error) {
	w := workloads[0]
	w.entries = []entry{w.entries[0], {"pycket", "pycket", "/read"}}
	visitors, err := b.visitors(w, plan.connections)
	if err != nil {
		return nil, err
	}
	throughputs := make([][2][]float64, len(plan.connections)) // by connections, entry and round
	for range plan.connectionRounds {
		for _, i := range b.order.Perm(len(plan.connections)) {
			for _, j := range b.order.Perm(2) {
				if err := ctx.Err(); err != nil {
					return nil, err
				}
				n := plan.connections[i]
				b.progress.step(fmt.Sprintf("growth, %d connections", n), b.turnTime())
				s, err := b.take(w, w.entries[j], visitors[j], n)
				if err != nil {
					return nil, err
				}
				if s.failures > 0 {
					return nil, fmt.Errorf("growth, %d connections: %d requests of %s failed", n, s.failures, w.entries[j].name)
				}
				throughputs[i][j] = append(throughputs[i][j], s.throughput())
			}
		}
	}
	toOne := growth{Name: "connections", Axis: "connections", Unit: "requests/s", RelativeTo: "1 connection"}
	toFloor := growth{Name: "connections-floor", Axis: "connections", Unit: "requests/s", RelativeTo: w.entries[0].name}
	for i, n := range plan.connections {
		var one, floor []float64
		for round, value := range throughputs[i][1] {
			one = append(one, value/throughputs[0][1][round])
			floor = append(floor, value/throughputs[i][0][round])
		}
		value := spreadOf(throughputs[i][1]).Median
		toOne.Points = append(toOne.Points, growthPoint{strconv.Itoa(n), value, spreadOf(one)})
		toFloor.Points = append(toFloor.Points, growthPoint{strconv.Itoa(n), value, spreadOf(floor)})
	}
	return []growth{toOne, toFloor}, nil
}

func sizeName(n int) string {
	if n >= 1000 {
		return strconv.Itoa(n/1000) + " KB"
	}
	return strconv.Itoa(n) + " B"
}
