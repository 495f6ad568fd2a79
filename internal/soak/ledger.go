//go:build unix

package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"
)

// A ledger knows what has happened in a run: operations, faults, and what must not have happened.
type ledger struct {
	out   io.Writer
	began time.Time

	mu         sync.Mutex
	operations map[string]int
	errors     map[string]int
	faults     map[string]*toll
	windows    []*window
	failovers  []time.Time // when another master was noticed
	suspects   []suspect
	counts     map[string]int // of what a failover may take
	histories  int            // that were checked
	unchecked  int            // of them, because it would take too long
	violations []string
}

// A toll is what the faults of one kind have cost.
type toll struct {
	times, failed int
	taken         int           // sessions and values, by failovers meanwhile, though a replica had confirmed them
	longest       time.Duration // answer
}

// A window is the time of a fault, until all should be well again.
type window struct {
	kind     string
	from, to time.Time // to is zero until it has ended
	failover bool      // it may replace a master
	app      bool      // it kills a process of the application
	full     bool      // Redis has no memory
}

// calm is the kind of the time in which there is no fault.
const calm = "no fault"

func newLedger(out io.Writer) *ledger {
	return &ledger{
		out: out, began: time.Now(), operations: map[string]int{}, errors: map[string]int{},
		faults: map[string]*toll{calm: {}}, counts: map[string]int{},
	}
}

// begin notes that a fault begins.
func (l *ledger) begin(w window) *window {
	l.mu.Lock()
	defer l.mu.Unlock()
	w.from = time.Now()
	l.windows = append(l.windows, &w)
	if l.faults[w.kind] == nil {
		l.faults[w.kind] = new(toll)
	}
	l.faults[w.kind].times++
	return &w
}

// end notes that all is well again.
func (l *ledger) end(w *window) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w.to = time.Now()
}

func (w *window) overlaps(from, to time.Time) bool {
	return w.from.Before(to) && (w.to.IsZero() || w.to.After(from))
}

// An excuse says what makes a suspect innocent.
type excuse func(l *ledger, from, to time.Time) bool

// during excuses what overlaps with a fault.
func during(is func(*window) bool) excuse {
	return func(l *ledger, from, to time.Time) bool {
		return slices.ContainsFunc(l.windows, func(w *window) bool { return is(w) && w.overlaps(from, to) })
	}
}

var (
	duringFault    = either(during(func(w *window) bool { return true }), duringFailover)
	whileAppKilled = during(func(w *window) bool { return w.app })
	whileFull      = during(func(w *window) bool { return w.full })
)

// unlessFull excuses what has no other cause than that Redis has no memory.
func unlessFull(l *ledger, from, to time.Time) bool {
	return !slices.ContainsFunc(l.windows, func(w *window) bool {
		return w.full && w.from.Before(from) && (w.to.IsZero() || w.to.After(to))
	})
}

// duringFailover excuses what overlaps with a failover, also one that no fault has asked for.
func duringFailover(l *ledger, from, to time.Time) bool {
	if during(func(w *window) bool { return w.failover })(l, from, to) {
		return true
	}
	return slices.ContainsFunc(l.failovers, func(at time.Time) bool {
		return at.After(from.Add(-5*time.Second)) && at.Before(to.Add(5*time.Second))
	})
}

func either(excuses ...excuse) excuse {
	return func(l *ledger, from, to time.Time) bool {
		return slices.ContainsFunc(excuses, func(e excuse) bool { return e(l, from, to) })
	}
}

// A suspect is what must not happen, unless there is an excuse: one may only be known later.
type suspect struct {
	from, to time.Time
	text     string
	excuse   excuse
	counts   []string // what is counted if it is excused
	taken    bool     // and that a replica had confirmed it
}

// suspect notes a suspect.
func (l *ledger) suspect(s suspect) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.suspects = append(l.suspects, s)
}

// violation notes what must never happen.
func (l *ledger) violation(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.violate(time.Now(), fmt.Sprintf(format, args...))
}

// violate notes a violation. mu must be locked.
func (l *ledger) violate(at time.Time, text string) {
	l.violations = append(l.violations, text)
	if len(l.violations) <= 50 {
		fmt.Fprintf(l.out, "VIOLATION after %v: %s\n", at.Sub(l.began).Round(time.Millisecond), text)
	}
}

// judge judges the suspects of the time before. mu must be locked.
func (l *ledger) judge(before time.Time) {
	l.suspects = slices.DeleteFunc(l.suspects, func(s suspect) bool {
		if s.to.After(before) {
			return false
		}
		if s.excuse != nil && s.excuse(l, s.from, s.to) {
			for _, count := range s.counts {
				l.counts[count]++
			}
			for _, w := range l.windows {
				if s.taken && w.failover && w.overlaps(s.from, s.to) {
					l.faults[w.kind].taken++
				}
			}
		} else {
			l.violate(s.to, s.text)
		}
		return true
	})
}

// operation notes what came of an operation.
func (l *ledger) operation(kind string, from, to time.Time, r result) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.operations[kind]++
	if r.Err != "" {
		l.errors[r.Err]++
	}
	failed := r.Err == unavailable || r.Err == noAnswer
	note := func(kind string) {
		t := l.faults[kind]
		t.longest = max(t.longest, r.Took)
		if failed {
			t.failed++
		}
	}
	alone := true
	for _, w := range slices.Backward(l.windows) {
		if w.overlaps(from, to) {
			note(w.kind)
			alone = false
		} else if !w.to.IsZero() && w.to.Before(from.Add(-time.Minute)) {
			break
		}
	}
	if alone {
		note(calm)
	}
}

// progress says in one line how far the run is.
func (l *ledger) progress() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.judge(time.Now().Add(-15 * time.Second))
	faults, now := 0, calm
	for _, w := range l.windows {
		faults++
		if w.to.IsZero() {
			now = w.kind
		}
	}
	fmt.Fprintf(l.out, "%5.0fs  %d operations, %d errors, %d faults (now: %s), %d violations\n",
		time.Since(l.began).Seconds(), total(l.operations), total(l.errors), faults, now, len(l.violations))
}

func total(counts map[string]int) (n int) {
	for _, count := range counts {
		n += count
	}
	return n
}

// summary judges what is left and says what has happened. It reports whether there was no violation.
func (l *ledger) summary(title string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.judge(time.Now())
	list := func(counts map[string]int) (text string) {
		for _, name := range slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
			return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b))
		}) {
			text += fmt.Sprintf(", %d %s", counts[name], name)
		}
		return cmp.Or(text, "  none")[2:]
	}
	fmt.Fprintf(l.out, "\n%s, %v\n\n", title, time.Since(l.began).Round(time.Second))
	fmt.Fprintf(l.out, "operations: %d (%s)\n", total(l.operations), list(l.operations))
	fmt.Fprintf(l.out, "errors:     %d (%s)\n", total(l.errors), list(l.errors))
	fmt.Fprintf(l.out, "histories:  %d checked", l.histories)
	if l.unchecked > 0 {
		fmt.Fprintf(l.out, ", %d too long to check", l.unchecked)
	}
	fmt.Fprintf(l.out, "\nfailovers:  %d; what they took: %s\n\n", len(l.failovers), list(l.counts))
	fmt.Fprintf(l.out, "| fault | times | operations that failed | confirmed, and lost | longest answer |\n| --- | --- | --- | --- | --- |\n")
	for _, kind := range slices.Sorted(maps.Keys(l.faults)) {
		t := l.faults[kind]
		fmt.Fprintf(l.out, "| %s | %d | %d | %d | %v |\n", kind, t.times, t.failed, t.taken, t.longest.Round(time.Millisecond))
	}
	fmt.Fprintf(l.out, "\nviolations: %d\n", len(l.violations))
	return len(l.violations) == 0
}

// failover notes that a master was replaced.
func (l *ledger) failover() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failovers = append(l.failovers, time.Now())
}
