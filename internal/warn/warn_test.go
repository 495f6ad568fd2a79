package warn_test

import (
	"bytes"
	"errors"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pycket/pycket/internal/warn"
)

// newLog returns Warnings, and a function that returns the lines logged since it was last called, without their times.
func newLog() (*warn.Warnings, func() []string) {
	var text bytes.Buffer
	w := warn.New(slog.New(slog.NewTextHandler(&text, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == "hash" {
			return slog.Attr{}
		}
		return a
	}})))
	return w, func() (lines []string) {
		for line := range strings.Lines(text.String()) {
			lines = append(lines, strings.TrimSpace(line))
		}
		text.Reset()
		return lines
	}
}

// One warning of a kind is logged in a while, with how many were skipped before it.
func TestSkipped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, lines := newLog()
		for range 3 {
			w.Forged("cookie")
		}
		time.Sleep(time.Second)
		w.Forged("cookie")
		cause := errors.New("too late")
		if err := w.Refused(cause); err != cause {
			t.Errorf("Refused returns %v", err)
		}
		want := []string{
			`level=WARN msg="pycket: a session cookie with a bad signature" skipped=0`,
			`level=WARN msg="pycket: a session cookie with a bad signature" skipped=2`,
			`level=WARN msg="pycket: a write was refused: write to the session before the response" error="too late" skipped=0`,
		}
		if diff := cmp.Diff(want, lines()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// An outage is over when no operation has failed for a while, and lasted until one succeeded.
func TestOutage(t *testing.T) {
	const (
		begins = `level=ERROR msg="pycket: redis is unavailable" error=`
		ends   = `level=INFO msg="pycket: redis is available again" after=`
	)
	type (
		lost  = bool // whether it is a refusal to write
		found = int  // 1 for a write
	)
	const read, write found = 0, 1
	pass := func(d time.Duration) time.Duration { return d }
	for name, test := range map[string]struct {
		events []any // lost, found, or time that passes
		want   []string
	}{
		"healthy": {events: []any{read, write, pass(time.Hour), read}},
		"down": {
			events: []any{false, pass(time.Second), read, false, pass(100 * time.Millisecond), read, pass(900 * time.Millisecond), read, pass(1), read, read},
			want:   []string{begins + "no", ends + "1.1s"},
		},
		"nobody asks": {
			events: []any{false, pass(time.Hour), read},
			want:   []string{begins + "no", ends + "1h0m0s"},
		},
		"back too soon": {
			events: []any{
				false, pass(2 * time.Second), read, pass(10*time.Minute - 1), false, pass(time.Second), read, pass(30 * time.Second), read,
				false, pass(time.Second), read, pass(59 * time.Second), read, pass(1), read,
			},
			want: []string{begins + "no", ends + "2s", begins + "no", ends + "32s"},
		},
		"another": {
			events: []any{false, pass(2 * time.Second), read, pass(10 * time.Minute), false, pass(time.Second), read, pass(1), read},
			want:   []string{begins + "no", ends + "2s", begins + "no", ends + "1s"},
		},
		"full": {
			events: []any{true, pass(time.Hour), read, true, pass(time.Hour), read, pass(time.Hour), write, pass(time.Hour), read},
			want:   []string{begins + "full", ends + "3h0m0s"},
		},
		"full, then down": {
			events: []any{true, true, false, true, false, pass(2 * time.Second), read},
			want:   []string{begins + "full", begins + "no", ends + "2s"},
		},
		"down, then full": {
			events: []any{false, true, pass(2 * time.Second), read},
			want:   []string{begins + "no", ends + "2s"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, lines := newLog()
				for _, event := range test.events {
					switch event := event.(type) {
					case lost:
						w.Lost(errors.New(map[bool]string{true: "full", false: "no"}[event]), event)
					case found:
						w.Found(event == write)
					case time.Duration:
						time.Sleep(event)
					}
				}
				if diff := cmp.Diff(test.want, lines()); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			})
		})
	}
}

// What needs saying only once is said once; of what can't be bound, once for each type, if it has something to bind.
func TestOnce(t *testing.T) {
	w, lines := newLog()
	has := func(reflect.Type) bool { return true }
	for range 2 {
		w.Plain()
		w.Uncached(errors.New("no tracking"))
		w.MayEvict("allkeys-lru")
		w.Unbindable(reflect.TypeFor[int](), has)
		w.Unbindable(reflect.TypeFor[string](), has)
		w.Unbindable(reflect.TypeFor[bool](), func(reflect.Type) bool { return false })
	}
	if got := lines(); len(got) != 5 {
		t.Errorf("%d lines:\n%s", len(got), strings.Join(got, "\n"))
	}
}
