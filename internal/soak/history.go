//go:build unix

package main

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// A step is one operation on a single value, and what came of it.
type step struct {
	do, value string // what was set or, of a read, seen
	known     bool   // value is what the operation returned
	done      bool   // it was carried out; otherwise it may have been, or be later
	confirmed bool   // by a replica, if the processes wait for one
	from, to  time.Time
	early     time.Duration // by which what was read may be older than from
}

func (s step) writes() bool { return s.do != "get" && s.do != "number" }

// A history is what browsers know of one value of one session.
type history []step

// apply returns the value after a step, and whether the step can have returned what it did. "" is no value.
func apply(value string, s step) (after string, ok bool) {
	switch s.do {
	case "set", "set pair", "notify":
		return s.value, true
	case "delete":
		return "", true
	case "increment", "update":
		n, _ := strconv.Atoi(value)
		after = strconv.Itoa(n + 1)
		return after, !s.known || s.value == after
	case "take", "pop":
		return "", !s.known || s.value == value
	}
	return value, !s.known || s.value == value
}

var model = porcupine.Model{
	Init: func() any { return "" },
	Step: func(state, input, _ any) (bool, any) {
		after, ok := apply(state.(string), input.(step))
		return ok, after
	},
}

// checking is how long a history may take to check.
const checking = 10 * time.Second

// check reports whether the steps can have been carried out one after the other, each between its beginning and its
// end, or after its beginning if its outcome is not known.
func (h history) check() porcupine.CheckResult {
	operations := make([]porcupine.Operation, len(h))
	for i, s := range h {
		end := int64(math.MaxInt64)
		if s.done {
			end = s.to.UnixNano()
		}
		operations[i] = porcupine.Operation{ClientId: i, Input: s, Call: s.from.Add(-s.early).UnixNano(), Return: end}
	}
	return porcupine.CheckOperationsTimeout(model, operations, checking)
}

// lost reports whether an acknowledged write is missing from what was read last: whatever else was read, and whatever
// became of writes that were not confirmed.
func (h history) lost() bool {
	var kept history
	for i, s := range h {
		switch {
		case s.writes():
			s.known, s.done = false, s.done && s.confirmed
			kept = append(kept, s)
		case i == len(h)-1:
			kept = append(kept, s)
		}
	}
	return kept.check() == porcupine.Illegal
}

// String lists the steps in the order in which they began.
func (h history) String() string {
	h = slices.SortedFunc(slices.Values(h), func(a, b step) int { return a.from.Compare(b.from) })
	var lines strings.Builder
	for _, s := range h {
		outcome := s.value
		switch {
		case !s.done:
			outcome += " ?"
		case !s.confirmed:
			outcome += " (not replicated)"
		}
		fmt.Fprintf(&lines, "\n    %v–%v %s %s", s.from.Sub(h[0].from).Round(time.Microsecond*10), s.to.Sub(h[0].from).Round(time.Microsecond*10), s.do, outcome)
	}
	return lines.String()
}
