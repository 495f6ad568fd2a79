//go:build linux

package main

import (
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/pycket/pycket/internal/redistest"
)

// onTerminal runs the command on a terminal and returns what is on it.
func onTerminal(t *testing.T, env map[string]string, args ...string) string {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skip("there are no terminals: mount devpts on /dev/pts")
	}
	defer master.Close()
	control := func(request uintptr, argument *int32) {
		t.Helper()
		if _, _, failed := syscall.Syscall(syscall.SYS_IOCTL, master.Fd(), request, uintptr(unsafe.Pointer(argument))); failed != 0 {
			t.Fatal(failed)
		}
	}
	var locked, number int32
	control(syscall.TIOCSPTLCK, &locked)
	control(syscall.TIOCGPTN, &number)
	terminal, err := os.OpenFile("/dev/pts/"+strconv.Itoa(int(number)), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	seen := make(chan string)
	go func() {
		text, _ := io.ReadAll(master) // ends with an error when the other side is closed
		seen <- string(text)
	}()
	run(t.Context(), args, func(name string) string { return env[name] }, terminal, terminal)
	terminal.Close()
	return <-seen
}

// Colours and progress are for terminals.
func TestTerminal(t *testing.T) {
	s := newSite(t, redistest.StartEmbedded(t), nil)
	s.visit()
	url := strings.TrimPrefix(s.env, "REDIS_URL=")
	if text := onTerminal(t, map[string]string{"REDIS_URL": url}, "doctor"); !strings.Contains(text, "\x1b[32mok      \x1b[0m use") {
		t.Errorf("no colours: %q", text)
	}
	for _, without := range []string{"NO_COLOR=1", "TERM=dumb"} {
		name, value, _ := strings.Cut(without, "=")
		if text := onTerminal(t, map[string]string{"REDIS_URL": url, name: value}, "doctor"); strings.Contains(text, "\x1b") || !strings.Contains(text, "ok       use") {
			t.Errorf("colours in spite of %s: %q", without, text)
		}
	}
	if text := onTerminal(t, map[string]string{"REDIS_URL": url}, "count"); !strings.Contains(text, "\r100%  1 session\x1b[K\r\x1b[K1 session,") {
		t.Errorf("no progress: %q", text)
	}
	if r := command(t, s.env, "count"); r.err != "" || strings.Contains(r.out, "\x1b") {
		t.Errorf("%+v", r)
	}
}
