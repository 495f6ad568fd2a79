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
	throughput := func(c result) float64 { return c.Ratio.Median }
	cpu := func(c result) float64 { return c.CPURatio.Median }
	return []target{
		r.resultTarget("A, throughput / get", "A", "pycket", 1.2, false, throughput),
		r.resultTarget("B, Get and Update, throughput / get+setex", "B", "pycket", 1.1, false, throughput),
		r.resultTarget("B, Increment, throughput / get+setex", "B", "pycket Increment", 1.5, false, throughput),
		r.resultTarget("C, throughput / none", "C", "pycket", 0.95, false, throughput),
		r.resultTarget("D, throughput / setex", "D", "pycket", 1.0, false, throughput),
		r.resultTarget("E, throughput / blob", "E", "pycket", 1.4, false, throughput),
		r.resultTarget("A, CPU of application and Redis / get", "A", "pycket", 0.9, true, cpu),
		r.footprintTarget("bytes in Redis for one value of 40", 200),
		r.growthTarget("reading out of 1000 fields / out of one", growingFields, 1.3),
		r.growthTarget("reading beside 100 KB / out of one field", growingBeside, 1.3),
	}
}

func (r *report) resultTarget(name, workload, contestant string, bound float64, atMost bool, of func(result) float64) target {
	t := target{Name: name, Bound: bound, AtMost: atMost}
	i := slices.IndexFunc(r.Results, func(c result) bool {
		return c.Workload == workload && c.Contestant == contestant && c.Connections == targetConnections
	})
	if i < 0 {
		return t
	}
	return t.with(of(r.Results[i]))
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
