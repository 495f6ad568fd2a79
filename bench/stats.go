// Statistics: quartiles of what the rounds gave, and a histogram of latencies.

package main

import (
	"math/bits"
	"slices"
	"time"
)

// A spread is the median of some rounds, and the quartiles around it.
type spread struct {
	Q1     float64 `json:"q1"`
	Median float64 `json:"median"`
	Q3     float64 `json:"q3"`
}

// spreadOf interpolates between the values; of none at all it is zero.
func spreadOf(values []float64) spread {
	if len(values) == 0 {
		return spread{}
	}
	sorted := slices.Sorted(slices.Values(values))
	at := func(q float64) float64 {
		place := q * float64(len(sorted)-1)
		i := int(place)
		if i == len(sorted)-1 {
			return sorted[i]
		}
		return sorted[i] + (place-float64(i))*(sorted[i+1]-sorted[i])
	}
	return spread{at(0.25), at(0.5), at(0.75)}
}

const (
	// subBits makes 32 buckets of every doubling, so that a bucket is 3 % wide.
	subBits = 5

	// bucketCount reaches beyond four minutes.
	bucketCount = 34 << subBits
)

// A histogram counts durations in buckets of logarithmic width.
type histogram struct {
	counts [bucketCount]uint32
	total  int
}

func bucketOf(d time.Duration) int {
	n := uint64(max(d, 0))
	if n < 1<<subBits {
		return int(n)
	}
	shift := bits.Len64(n) - 1 - subBits
	return min(shift<<subBits+int(n>>shift), bucketCount-1)
}

// bucketMiddle is the duration that stands for a bucket.
func bucketMiddle(i int) time.Duration {
	if i < 1<<subBits {
		return time.Duration(i)
	}
	shift := i>>subBits - 1
	low := (i - shift<<subBits) << shift
	return time.Duration(low + (1<<shift)/2)
}

func (h *histogram) add(d time.Duration) {
	h.counts[bucketOf(d)]++
	h.total++
}

func (h *histogram) merge(other *histogram) {
	for i, n := range other.counts {
		h.counts[i] += n
	}
	h.total += other.total
}

// quantile is the duration that the part q of all was not longer than.
func (h *histogram) quantile(q float64) time.Duration {
	rank := int(q * float64(h.total))
	for i, n := range h.counts {
		if rank -= int(n); rank < 0 {
			return bucketMiddle(i)
		}
	}
	return 0
}
