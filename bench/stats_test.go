package main

import (
	"testing"
	"time"
)

func TestSpread(t *testing.T) {
	for _, test := range []struct {
		values []float64
		want   spread
	}{
		{nil, spread{}},
		{[]float64{3}, spread{3, 3, 3}},
		{[]float64{2, 1}, spread{1.25, 1.5, 1.75}},
		{[]float64{5, 1, 4, 2, 3}, spread{2, 3, 4}},
	} {
		if got := spreadOf(test.values); got != test.want {
			t.Errorf("spreadOf(%v) is %v, want %v", test.values, got, test.want)
		}
	}
}

func TestSpreadLeavesItsValuesInOrder(t *testing.T) {
	values := []float64{3, 1, 2}
	spreadOf(values)
	if values[0] != 3 {
		t.Errorf("spreadOf sorted its argument: %v", values)
	}
}

func TestBucketsAreNarrow(t *testing.T) {
	for d := time.Duration(1); d < 4*time.Minute; d += d/7 + 1 {
		middle := bucketMiddle(bucketOf(d))
		if off := (middle - d).Abs(); off > d/32 {
			t.Fatalf("%v is counted as %v", d, middle)
		}
	}
}

func TestBucketsFollowEachOther(t *testing.T) {
	for i := range bucketCount {
		if got := bucketOf(bucketMiddle(i)); got != i {
			t.Fatalf("the middle of bucket %d lies in bucket %d", i, got)
		}
	}
	if got := bucketOf(-time.Second); got != 0 {
		t.Errorf("a clock that was set back counts in bucket %d", got)
	}
	if got := bucketOf(24 * time.Hour); got != bucketCount-1 {
		t.Errorf("a day counts in bucket %d, want the last", got)
	}
}

func TestQuantiles(t *testing.T) {
	var h, other histogram
	if got := h.quantile(0.5); got != 0 {
		t.Errorf("the median of nothing is %v", got)
	}
	for i := range 500 {
		h.add(time.Duration(i+1) * time.Microsecond)
		other.add(time.Duration(i+501) * time.Microsecond)
	}
	h.merge(&other)
	if h.total != 1000 {
		t.Fatalf("%d durations were counted, want 1000", h.total)
	}
	for q, want := range map[float64]time.Duration{0: 1, 0.5: 501, 0.99: 991} {
		want *= time.Microsecond
		if got := h.quantile(q); (got - want).Abs() > want/32 {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
}

func TestSummaryComparesWithinRounds(t *testing.T) {
	turn := func(requests int, cpu time.Duration) *slice {
		return &slice{requests: requests, elapsed: time.Second, appCPU: cpu / 2, redisCPU: cpu / 2}
	}
	floor := []*slice{turn(100, time.Second), turn(10, time.Second), turn(50, time.Second)}
	rounds := []*slice{turn(200, time.Second), turn(20, time.Second), {failures: 7, elapsed: time.Second}}
	r := summarize(rounds, floor)
	if want := (spread{2, 2, 2}); r.Ratio != want {
		t.Errorf("the ratio is %v, want %v", r.Ratio, want)
	}
	if want := (spread{0.5, 0.5, 0.5}); r.CPURatio != want {
		t.Errorf("the CPU ratio is %v, want %v", r.CPURatio, want)
	}
	if r.Requests != 220 || r.Failures != 7 {
		t.Errorf("%d requests and %d failures, want 220 and 7", r.Requests, r.Failures)
	}
}
