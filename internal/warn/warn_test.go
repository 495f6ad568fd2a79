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

// An outage is over when no operation has failed for a while.
func TestOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, lines := newLog()
		w.Found()
		for range 3 {
			w.Lost(errors.New("no route"))
			w.Found()
			time.Sleep(time.Second)
		}
		w.Found()
		time.Sleep(time.Millisecond)
		w.Found()
		w.Found()
		want := []string{
			`level=ERROR msg="pycket: redis is unavailable" error="no route"`,
			`level=INFO msg="pycket: redis is available again" after=3.001s`,
		}
		if diff := cmp.Diff(want, lines()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
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
