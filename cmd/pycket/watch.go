package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/pycket/pycket/internal/store"
)

// A mark is a hash of a handle, or of a verifier: millions of them fit into memory.
type mark uint64

func markOf(text string) mark {
	sum := sha256.Sum256([]byte(text))
	return mark(binary.LittleEndian.Uint64(sum[:]))
}

// sweep goes through all sessions, and calls each once for every session. It returns the verifier of each, by its
// handle.
func (t *tool) sweep(sessions *store.Store, each func(store.Swept)) (map[mark]mark, error) {
	found := map[mark]mark{}
	line := progress{to: t.err}
	defer line.clear()
	err := sessions.Sweep(t, func(some []store.Swept, part float64) {
		for _, s := range some {
			handle := markOf(s.Handle)
			if _, twice := found[handle]; !twice {
				each(s)
			}
			found[handle] = markOf(s.Verifier)
		}
		line.say(part, len(found))
	})
	return found, err
}

// watch says how many sessions begin, rotate and end.
type watch struct {
	Interval time.Duration `default:"10s" help:"From the end of one sweep to the beginning of the next."`
	Sweeps   int           `placeholder:"N" help:"Stop after so many; 0 means never."`
}

// Help implements kong.HelpProvider.
func (*watch) Help() string {
	return `Counts all sessions again and again, as count does, and says what has changed since the last time: how many live, and how many have begun, got a new id (Login, Rotate), and ended or expired. It shows no id, handle or user. What happens between two sweeps is not seen: a session that begins and ends there, or the second rotation of one. So it costs Redis the same however busy it is, unlike MONITOR, and needs no setting, unlike keyspace notifications.

With --json, a line for each sweep. Interrupt it to end it; that is exit code 0. While Redis can't be reached, it says so and tries again.

Examples:

  pycket watch
  pycket watch --interval 1m --json`
}

// A change is what has happened between two sweeps.
type change struct {
	Time    time.Time `json:"time"`
	Live    int       `json:"live"`
	Begun   int       `json:"begun"`
	Rotated int       `json:"rotated"`
	Ended   int       `json:"ended"`
}

// changed compares two sweeps. before is nil if there was none.
func changed(before, now map[mark]mark) change {
	c := change{Live: len(now)}
	if before == nil {
		return c
	}
	for handle, verifier := range now {
		old, known := before[handle]
		switch {
		case !known:
			c.Begun++
		case old != verifier:
			c.Rotated++
		}
	}
	for handle := range before {
		if _, alive := now[handle]; !alive {
			c.Ended++
		}
	}
	return c
}

// Run implements the command.
func (w *watch) Run(t *tool) error {
	if w.Interval <= 0 || w.Sweeps < 0 {
		return usageError{errors.New("--interval must be positive, and --sweeps not negative")}
	}
	app, sessions, err := t.open()
	if err != nil {
		return err
	}
	defer app.Close()
	if !t.JSON {
		fmt.Fprintf(t.out, "%-8s  %10s  %8s  %8s  %8s\n", "TIME", "LIVE", "BEGUN", "ROTATED", "ENDED")
	}
	var before map[mark]mark
	for sweeps := 0; ; {
		now, err := t.sweep(sessions, func(store.Swept) {})
		switch {
		case errors.Is(err, context.Canceled):
			return nil
		case err != nil && before == nil:
			return fmt.Errorf("watch: %w", err)
		case err != nil:
			fmt.Fprintf(t.err, "pycket: %s\n", plain(fromSettings.Replace(err.Error())))
		default:
			c := changed(before, now)
			c.Time = time.Now().UTC().Truncate(time.Millisecond)
			if err := w.print(t, c); err != nil {
				return err
			}
			before = now
			sweeps++
		}
		if sweeps == w.Sweeps && sweeps > 0 {
			return nil
		}
		select {
		case <-time.After(w.Interval):
		case <-t.Done():
			return nil
		}
	}
}

func (w *watch) print(t *tool, c change) error {
	if t.JSON {
		return t.out.json(c)
	}
	_, err := fmt.Fprintf(t.out, "%-8s  %10s  %8s  %8s  %8s\n", c.Time.Format("15:04:05"), number(c.Live), number(c.Begun), number(c.Rotated), number(c.Ended))
	return err
}
