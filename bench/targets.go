// The targets: what the library is meant to reach, and whether it did.

package main

import "slices"

// targetConnections is the number of connections that the targets are about.
const targetConnections = 64

// A target is a bound on something measured.
type target struct {
	Name     string  `json:"name"`
	AtMost   bool    `json:"at_most"` // the bound is an upper one
	Bound    float64 `json:"bound"`
	Measured bool    `json:"measured"`
	Value    float64 `json:"value"`
	Met      bool    `json:"met"`
}

// with gives the target the value that was measured.
func (t target) with(value float64) target {
	t.Measured, t.Value = true, value
	t.Met = value >= t.Bound
	if t.AtMost {
		t.Met = value <= t.Bound
	}
	return t
}

// targetsOf looks up all targets in what was measured.
func targetsOf(r *report) []target {
	return []target{
		r.throughputTarget("A, read / get", "A", "pycket", targetConnections, 1.15),
		r.throughputTarget("A, read with CacheFor / get", "A", cachedPycket, targetConnections, 1.6),
		r.throughputTarget("B, Get and Update / get+setex", "B", "pycket", targetConnections, 1.1),
		r.throughputTarget("B, Increment / get+setex", "B", "pycket Increment", targetConnections, 1.4),
		r.throughputTarget("C, not used / none", "C", "pycket", targetConnections, 0.96),
		r.throughputTarget("D, first visit / setex", "D", "pycket", targetConnections, 0.97),
		r.throughputTarget("E, 50 fields / blob", "E", "pycket", targetConnections, 1.3),
		r.throughputTarget("A, read / get, at one connection", "A", "pycket", 1, 0.98),
		r.cpuTarget("A, CPU of application and Redis / get", 0.9),
		r.costTarget("A, Redis's CPU a read, pipelined, µs", "pycket", 1.8, func(c cost) (float64, bool) {
			if c.Pipelined == nil {
				return 0, false
			}
			return c.Pipelined.Processor, true
		}),
		r.costTarget("A, allocations of a read, over bare handler", "pycket", 12, allocationsOver),
		r.costTarget("A, allocations of a cached read, over bare", cachedPycket, 8, allocationsOver),
		r.footprintTarget("bytes in Redis for one value of 40", 200),
		r.growthTarget("reading out of 1000 fields / out of one", growingFields, 1.3),
		r.growthTarget("reading beside 100 KB / out of one field", growingBeside, 1.3),
	}
}

func allocationsOver(c cost) (float64, bool) { return c.OverBare, true }

func (r *report) throughputTarget(name, workload, contestant string, connections int, bound float64) target {
	t := target{Name: name, Bound: bound}
	if c, ok := r.result(workload, contestant, connections); ok {
		return t.with(c.Ratio.Median)
	}
	return t
}

func (r *report) cpuTarget(name string, bound float64) target {
	t := target{Name: name, Bound: bound, AtMost: true}
	if c, ok := r.result("A", "pycket", targetConnections); ok {
		return t.with(c.CPURatio.Median)
	}
	return t
}

// costTarget looks at a read.
func (r *report) costTarget(name, contestant string, bound float64, of func(cost) (float64, bool)) target {
	t := target{Name: name, Bound: bound, AtMost: true}
	for _, c := range r.Costs {
		if c.Workload != "A" || c.Contestant != contestant {
			continue
		}
		if value, ok := of(c); ok {
			return t.with(value)
		}
	}
	return t
}

func (r *report) footprintTarget(name string, bound float64) target {
	t := target{Name: name, Bound: bound, AtMost: true}
	i := slices.IndexFunc(r.Footprints, func(f footprint) bool { return f.Contestant == "pycket" })
	if i < 0 {
		return t
	}
	return t.with(float64(r.Footprints[i].OneValue))
}

// growthTarget looks at the last point, the most.
func (r *report) growthTarget(name, growing string, bound float64) target {
	t := target{Name: name, Bound: bound, AtMost: true}
	i := slices.IndexFunc(r.Growth, func(g growth) bool { return g.Name == growing })
	if i < 0 {
		return t
	}
	points := r.Growth[i].Points
	return t.with(points[len(points)-1].Ratio.Median)
}
