package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// An output is standard output, or standard error.
type output struct {
	io.Writer
	terminal bool
	colours  bool
}

func newOutput(w io.Writer, env environment) output {
	o := output{Writer: w}
	if file, ok := w.(*os.File); ok {
		info, err := file.Stat()
		o.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	o.colours = o.terminal && env("NO_COLOR") == "" && env("TERM") != "dumb"
	return o
}

// Colours, as terminals number them.
const (
	red    = 31
	green  = 32
	yellow = 33
	grey   = 90
)

// paint colours text, if that is wanted.
func (o output) paint(colour int, text string) string {
	if !o.colours {
		return text
	}
	return fmt.Sprintf("\x1b[%dm%s\x1b[0m", colour, text)
}

// json prints a value as one line of JSON.
func (o output) json(v any) error {
	encoder := json.NewEncoder(o)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(v)
}

// plain returns text without what a terminal would obey: names, browsers and values may hold anything.
func plain(text string) string {
	var b strings.Builder
	for _, r := range text {
		if unicode.IsPrint(r) || r == ' ' {
			b.WriteRune(r)
		} else {
			quoted := strconv.QuoteRune(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
	}
	return b.String()
}

// ago says when something was, to read.
func ago(at time.Time) string {
	if at.IsZero() {
		return "-"
	}
	return fmt.Sprintf("%s (%s ago)", at.UTC().Format("2006-01-02 15:04:05 UTC"), short(time.Since(at)))
}

// short is a duration in its two largest units.
func short(d time.Duration) string {
	d = max(d, 0)
	days, rest := d/(24*time.Hour), d%(24*time.Hour)
	switch {
	case days > 0:
		return fmt.Sprintf("%dd%dh", days, rest/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	case d >= time.Minute:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	}
	return fmt.Sprintf("%ds", d/time.Second)
}

// number is a number with commas.
func number[N int | int64](n N) string {
	digits := strconv.FormatInt(int64(n), 10)
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// counted is a number of things.
func counted[N int | int64](n N, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return number(n) + " " + many
}

// A progress is a line on a terminal that says how far a long scan is.
type progress struct {
	to    output
	shown time.Time
}

// say changes the line, at most ten times a second.
func (p *progress) say(part float64, sessions int) {
	if p.to.terminal && time.Since(p.shown) > 100*time.Millisecond {
		p.shown = time.Now()
		fmt.Fprintf(p.to, "\r%3.0f%%  %s\x1b[K", 100*part, counted(sessions, "session", "sessions"))
	}
}

// clear removes the line.
func (p *progress) clear() {
	if !p.shown.IsZero() {
		fmt.Fprint(p.to, "\r\x1b[K")
		p.shown = time.Time{}
	}
}
