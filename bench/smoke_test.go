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
		redis: redis, server: server, rounds: 1, slice: 30 * time.Millisecond,
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
		if (c.Commands > 0) != used || c.RoundTrips > c.Commands || c.Allocs <= 0 {
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
	plan := growthPlan{2, time.Millisecond, []int{100, 20_000}, []int{1, 2}}
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

func TestTargets(t *testing.T) {
	r := &report{
		Results: []result{
			{Workload: "A", Contestant: "pycket", Connections: 64, Ratio: spread{Median: 1.3}, CPURatio: spread{Median: 0.95}},
			{Workload: "C", Contestant: "pycket", Connections: 16, Ratio: spread{Median: 1}},
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
		"A, throughput / get":                      "met",
		"A, CPU of application and Redis / get":    "missed",
		"C, throughput / none":                     "not measured",
		"bytes in Redis for one value of 40":       "met",
		"reading out of 1000 fields / out of one":  "missed",
		"reading beside 100 KB / out of one field": "not measured",
	} {
		if verdicts[name] != want {
			t.Errorf("%s: %q, want %q", name, verdicts[name], want)
		}
	}
}
