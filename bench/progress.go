// The progress bar: a line that is written over on a terminal, and a line now and then elsewhere.

package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

type progress struct {
	out         io.Writer
	terminal    bool
	total, done time.Duration // as expected
	began, said time.Time
}

func newProgress(out *os.File, total time.Duration) *progress {
	info, err := out.Stat()
	terminal := err == nil && info.Mode()&os.ModeCharDevice != 0
	return &progress{out: out, terminal: terminal, total: total, began: time.Now()}
}

// step says what begins now, and is expected to take so long. Writing to stderr may fail; the measurement goes on.
func (p *progress) step(what string, expected time.Duration) {
	now := time.Now()
	pause := 20 * time.Second
	if p.terminal {
		pause = 100 * time.Millisecond
	}
	if now.Sub(p.said) >= pause {
		p.said = now
		part := float64(p.done) / float64(max(p.total, 1))
		left := p.total - p.done
		if p.done > 0 {
			left = time.Duration(float64(now.Sub(p.began)) * float64(left) / float64(p.done))
		}
		left = left.Round(time.Second)
		if p.terminal {
			full := int(part * 30)
			_, _ = fmt.Fprintf(p.out, "\r[%s%s] %3.0f %%, %s left  %-40.40s",
				strings.Repeat("#", full), strings.Repeat(".", 30-full), part*100, left, what)
		} else {
			_, _ = fmt.Fprintf(p.out, "%3.0f %%, %s left: %s\n", part*100, left, what)
		}
	}
	p.done += expected
}

// end clears the line.
func (p *progress) end() {
	if p.terminal {
		_, _ = fmt.Fprintf(p.out, "\r%-90s\r", "")
	}
}
