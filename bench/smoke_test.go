package main

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"log"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestMain lets the test's own binary be the application's process, as the command's is.
func TestMain(m *testing.M) {
	if address := os.Getenv(childVariable); address != "" {
		if err := serveApps(address); err != nil {
			log.Fatal(err)
		}
		return
	}
	os.Exit(m.Run())
}

// newBench starts Redis and the application for a test.
func newBench(t *testing.T) *bench {
	t.Helper()
	redis, err := startRedis(t.Context())
	if errors.Is(err, errNoRedis) && os.Getenv("PYCKET_TEST_REQUIRE") != "all" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := redis.stop(); err != nil {
			t.Error(err)
		}
	})
	server, err := startApps(redis.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.stop(); err != nil {
			t.Error(err)
		}
	})
	return &bench{
		redis: redis, server: server, sessions: 20, rounds: 1, slice: 30 * time.Millisecond,
		order: rand.New(rand.NewPCG(seed, seed)), progress: &progress{out: io.Discard},
	}
}

func TestEveryContestant(t *testing.T) {
	b := newBench(t)
	r := &report{workloads: workloads}
	connections := []int{1, 3}
	for _, w := range workloads {
		results, err := b.run(t.Context(), w, connections)
		if err != nil {
			t.Fatal(err)
		}
		if want := len(w.entries) * len(connections); len(results) != want {
			t.Errorf("workload %s has %d results, want %d", w.Letter, len(results), want)
		}
		for _, c := range results {
			if c.Requests == 0 || c.Failures > 0 || c.Ratio.Median <= 0 {
				t.Errorf("workload %s, %s: %+v", w.Letter, c.Contestant, c)
			}
		}
		r.Results = append(r.Results, results...)
	}

	var err error
	if r.Costs, err = b.measureCosts(t.Context(), workloads, 20); err != nil {
		t.Fatal(err)
	}
	for _, c := range r.Costs {
		used := c.Workload != "C" || c.Contestant == "scs" // which loads the session of every request
		if strings.HasSuffix(c.Contestant, "cache") {
			used = false
			if c.Commands < 0.1 { // to renew something, or to see that Redis is there
				c.Commands = 0
			}
		}
		if (c.Commands > 0) != used || c.RoundTrips > c.Commands && used || c.Allocs <= 0 {
			t.Errorf("%+v", c)
		}
	}
	if r.Footprints, err = b.footprints(); err != nil {
		t.Fatal(err)
	}
	for _, f := range r.Footprints {
		if f.OneValue < 40 || f.Wide < 50*40 {
			t.Errorf("%+v", f)
		}
	}
	plan := growthPlan{2, time.Millisecond, []int{100, 20_000}, []int{1, 2}, 1}
	if r.Growth, err = b.measureGrowth(t.Context(), plan); err != nil {
		t.Fatal(err)
	}
	for _, g := range r.Growth {
		for _, p := range g.Points {
			if p.Ratio.Median <= 0 {
				t.Errorf("%s: %+v", g.Name, p)
			}
		}
	}
	if uses := r.redisUses(); len(uses) != 0 {
		t.Errorf("nothing was measured at %d connections, but Redis spends %+v", targetConnections, uses)
	}
	for i := range r.Results { // the table is about more connections than a test needs
		if r.Results[i].Connections == 3 {
			r.Results[i].Connections = targetConnections
		}
	}
	r.Redis = r.redisUses()
	for _, name := range []string{"A get", "A scs", "B pycket Increment", "E pycket", "F get+lpop"} {
		i := slices.IndexFunc(r.Redis, func(u redisUse) bool { return u.Workload+" "+u.Contestant == name })
		if i < 0 {
			t.Errorf("what Redis spends on %s is missing", name)
			continue
		}
		u := r.Redis[i]
		repeated := u.Workload != "B" && u.Workload != "E"
		if u.InCommands <= 0 || u.InCommands > 1000 || u.PerCore <= 0 || (u.Pipelined != nil) != repeated {
			t.Errorf("%+v", u)
		}
	}
	r.Targets = targetsOf(r)
	checkReport(t, r)
}

// checkReport writes a report in all its forms.
func checkReport(t *testing.T, r *report) {
	t.Helper()
	var text strings.Builder
	if err := r.writeText(&text); err != nil {
		t.Error(err)
	}
	if !strings.Contains(text.String(), "Targets") || strings.Contains(text.String(), "NaN") {
		t.Errorf("the report is\n%s", &text)
	}

	dir := t.TempDir()
	file := filepath.Join(dir, "report.json")
	if err := r.writeJSON(file); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !json.Valid(data) {
		t.Error("the JSON is none")
	}

	if err := r.writePlots(dir); err != nil {
		t.Fatal(err)
	}
	plots, err := filepath.Glob(filepath.Join(dir, "*.svg"))
	if err != nil {
		t.Fatal(err)
	}
	if want := 2*len(r.workloads) + len(r.Growth); len(plots) != want {
		t.Errorf("there are %d plots, want %d", len(plots), want)
	}
	for _, plot := range plots {
		data, err := os.ReadFile(plot)
		if err != nil {
			t.Fatal(err)
		}
		if err := xml.Unmarshal(data, &struct{}{}); err != nil || strings.Contains(string(data), "NaN") {
			t.Errorf("%s: %v", filepath.Base(plot), err)
		}
	}
}

// TestWrk lets two count, in two rounds: what wrk has counted in the first must not confuse the second.
func TestWrk(t *testing.T) {
	b := newBench(t)
	b.wrk, b.rounds, b.slice = newWrk(t), 2, time.Second
	w := workloads[1]
	w.entries = w.entries[:2]
	results, err := b.run(t.Context(), w, []int{4})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range results {
		if c.Requests == 0 || c.Failures > 0 || c.Ratio.Median <= 0 || c.P50 <= 0 || c.AppCPU <= 0 {
			t.Errorf("%+v", c)
		}
	}
}

// TestWrongAnswersToWrk: wrk itself doesn't see them.
func TestWrongAnswersToWrk(t *testing.T) {
	b := newBench(t)
	b.wrk, b.slice = newWrk(t), time.Second
	w := workloads[2]
	w.entries, w.check = w.entries[:1], isUserValue
	results, err := b.run(t.Context(), w, []int{1})
	if err != nil {
		t.Fatal(err)
	}
	if results[0].Failures == 0 {
		t.Errorf("%+v", results[0])
	}
}

func TestTargets(t *testing.T) {
	r := &report{
		Results: []result{
			{Workload: "A", Contestant: "pycket", Connections: 64, Ratio: spread{Median: 1.3}, CPURatio: spread{Median: 0.95}},
			{Workload: "A", Contestant: "pycket", Connections: 1, Ratio: spread{Median: 0.9}},
			{Workload: "C", Contestant: "pycket", Connections: 16, Ratio: spread{Median: 1}},
		},
		Costs: []cost{
			{Workload: "A", Contestant: "pycket", OverBare: 12, Pipelined: &pipelined{Processor: 1.9}},
			{Workload: "B", Contestant: cachedPycket, OverBare: 1},
		},
		Footprints: []footprint{{Contestant: "pycket", OneValue: 200}},
		Growth:     []growth{{Name: growingFields, Points: []growthPoint{{}, {Ratio: spread{Median: 1.4}}}}},
	}
	verdicts := map[string]string{}
	for _, target := range targetsOf(r) {
		switch {
		case !target.Measured:
			verdicts[target.Name] = "not measured"
		case target.Met:
			verdicts[target.Name] = "met"
		default:
			verdicts[target.Name] = "missed"
		}
	}
	for name, want := range map[string]string{
		"A, read / get":                               "met",
		"A, read with CacheFor / get":                 "not measured",
		"A, read / get, at one connection":            "missed",
		"A, CPU of application and Redis / get":       "missed",
		"A, Redis's CPU a read, pipelined, µs":        "missed",
		"A, allocations of a read, over bare handler": "met",
		"A, allocations of a cached read, over bare":  "not measured",
		"C, not used / none":                          "not measured",
		"bytes in Redis for one value of 40":          "met",
		"reading out of 1000 fields / out of one":     "missed",
		"reading beside 100 KB / out of one field":    "not measured",
	} {
		if verdicts[name] != want {
			t.Errorf("%s: %q, want %q", name, verdicts[name], want)
		}
	}
}
