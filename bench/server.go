// The application's process: a child that serves all apps, so that its processor time can be told from
// the load generator's.

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

// childVariable is the environment variable that makes this program the child: the address of Redis.
const childVariable = "PYCKET_BENCH_REDIS"

// ownGroup keeps an interrupt at the terminal from the children, which this process stops in order.
var ownGroup = &syscall.SysProcAttr{Setpgid: true}

// control is the name under which the child offers what only the benchmark asks for.
const control = "control"

// serveApps is the child. It says on its output where each app listens, and ends with its input, that
// is, with its parent.
func serveApps(redisAddress string) error {
	addresses := map[string]string{}
	serve := func(name string, handler http.Handler) error {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		addresses[name] = listener.Addr().String()
		go func() { log.Fatal(http.Serve(listener, handler)) }()
		return nil
	}
	for name, open := range apps {
		handler, err := open(redisAddress)
		if err == nil {
			err = serve(name, handler)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if err := serve(control, controls()); err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(addresses); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

func controls() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/cpu", func(w http.ResponseWriter, _ *http.Request) {
		var usage syscall.Rusage
		err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
		answer(w, strconv.FormatInt(usage.Utime.Nano()+usage.Stime.Nano(), 10), err)
	})
	// The garbage of one contestant must not be collected at the next one's expense.
	mux.HandleFunc("/gc", func(w http.ResponseWriter, _ *http.Request) {
		runtime.GC()
		answer(w, "0", nil)
	})
	return mux
}

// An appServer is the child as its parent sees it.
type appServer struct {
	addresses map[string]string
	command   *exec.Cmd
	stdin     io.Closer
	drained   chan error
}

func startApps(redisAddress string) (*appServer, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	s := &appServer{command: exec.Command(program), drained: make(chan error, 1)}
	s.command.Env = append(os.Environ(), childVariable+"="+redisAddress)
	s.command.Stderr = os.Stderr
	s.command.SysProcAttr = ownGroup
	if s.stdin, err = s.command.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := s.command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.command.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewReader(stdout)
	line, err := lines.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &s.addresses)
	}
	// Some stores print their errors to the standard output.
	go func() {
		_, err := io.Copy(os.Stderr, lines)
		s.drained <- err
	}()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the application did not start: %w", err), s.stop())
	}
	return s, nil
}

// stop ends the child and waits for it.
func (s *appServer) stop() error {
	err := s.stdin.Close()
	force := time.AfterFunc(10*time.Second, func() { _ = s.command.Process.Kill() })
	defer force.Stop()
	return errors.Join(err, <-s.drained, s.command.Wait())
}

// cpu is the processor time that the child has used.
func (s *appServer) cpu() (time.Duration, error) {
	n, err := s.ask("/cpu")
	return time.Duration(n), err
}

func (s *appServer) collectGarbage() error {
	_, err := s.ask("/gc")
	return err
}

func (s *appServer) ask(path string) (int64, error) {
	response, err := http.Get("http://" + s.addresses[control] + path)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(string(body), 10, 64)
}
