// The load generator wrk, which is used where it is installed. It takes a third of the processor that the generator of
// load.go takes, and leaves the rest to the application. It sees the status of an answer, not whether the answer is right.

package main

import (
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

//go:embed wrk.lua
var wrkScript string

type wrk struct{ program, version, script string }

// findWrk returns nil if wrk is not installed.
func findWrk() (*wrk, error) {
	program, err := exec.LookPath("wrk")
	if err != nil {
		return nil, nil
	}
	output, err := exec.Command(program, "-v").CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) { // it prints its usage too, and exits with 1
		return nil, err
	}
	version, _, _ := strings.Cut(string(output), " [")
	script, err := os.CreateTemp("", "pycket-bench-*.lua")
	if err != nil {
		return nil, err
	}
	w := &wrk{program, strings.TrimPrefix(version, "wrk "), script.Name()}
	_, err = script.WriteString(wrkScript)
	if err := errors.Join(err, script.Close()); err != nil {
		return nil, errors.Join(err, w.close())
	}
	return w, nil
}

func (w *wrk) close() error { return os.Remove(w.script) }

// load sends requests with the cookies of the visitors in turn, over some connections, for whole seconds.
func (w *wrk) load(address, path string, visitors []*visitor, connections int, d time.Duration) (*slice, error) {
	command := exec.Command(w.program,
		"--threads", "1", "--connections", strconv.Itoa(connections),
		"--duration", strconv.Itoa(int(d/time.Second))+"s", "--timeout", "10s",
		"--script", w.script, "http://"+address+path, "--")
	for _, v := range visitors {
		v.seen = false
		if v.cookie != "" {
			command.Args = append(command.Args, v.cookie)
		}
	}
	command.SysProcAttr = ownGroup
	output, err := command.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("wrk: %w: %s", err, output)
	}
	return parseWrk(string(output))
}

// parseWrk finds the line that wrk.lua prints.
func parseWrk(output string) (*slice, error) {
	for line := range strings.Lines(output) {
		numbers, ours := strings.CutPrefix(line, "numbers ")
		if !ours {
			continue
		}
		s := &slice{}
		var elapsed, p50, p99 int64
		if _, err := fmt.Sscan(numbers, &s.requests, &s.failures, &elapsed, &p50, &p99); err != nil {
			return nil, fmt.Errorf("wrk printed %q: %w", line, err)
		}
		s.requests = max(0, s.requests-s.failures)
		s.elapsed = time.Duration(elapsed) * time.Microsecond
		s.p50, s.p99 = time.Duration(p50)*time.Microsecond, time.Duration(p99)*time.Microsecond
		return s, nil
	}
	return nil, fmt.Errorf("wrk printed no numbers: %s", output)
}
