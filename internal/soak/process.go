//go:build unix

package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pycket/pycket"
)

// childVariable is the environment variable that makes this program one of the application's processes. It has a
// configuration.
const childVariable = "PYCKET_SOAK_PROCESS"

// A configuration says how a process reaches Redis.
type configuration struct {
	URL          string
	Master       string // of the group that the sentinels watch
	Sentinels    []string
	Known        map[string]string // where servers are, by the addresses that sentinels know them by
	Cluster      []string
	WaitReplicas int
	Timeout      time.Duration
	CacheFor     time.Duration
}

// A process is one of the application's. It is this program, started again.
type process struct {
	configuration

	mu      sync.Mutex
	command *exec.Cmd
	input   io.Closer // the process ends when it is closed
	address string
}

// start starts the process and returns when it serves.
func (p *process) start() error {
	text, err := json.Marshal(p.configuration)
	if err != nil {
		return err
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	command := exec.Command(program) // #nosec G204 -- this program
	command.Env = append(os.Environ(), childVariable+"="+string(text))
	command.Stderr = os.Stderr
	input, err := command.StdinPipe()
	if err != nil {
		return err
	}
	output, err := command.StdoutPipe()
	if err != nil {
		return err
	}
	if err := command.Start(); err != nil {
		return err
	}
	address, err := bufio.NewReader(output).ReadString('\n')
	if err != nil {
		command.Process.Kill()
		command.Wait()
		return fmt.Errorf("a process of the application does not serve: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.command, p.input, p.address = command, input, strings.TrimSpace(address)
	return nil
}

// kill kills the process and returns when it is gone.
func (p *process) kill() {
	p.mu.Lock()
	command, input := p.command, p.input
	p.mu.Unlock()
	command.Process.Kill()
	command.Wait()
	input.Close()
}

func (p *process) url() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return "http://" + p.address + "/"
}

// child is what a process does: it serves one operation a request, until its input ends.
func child(text string) error {
	var c configuration
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return err
	}
	app, err := pycket.New(pycket.Settings{
		Secrets:     []string{"all processes of the soak have this secret"},
		IdleTimeout: 10 * time.Minute,
		CacheFor:    c.CacheFor,
		Redis: pycket.RedisSettings{
			URL: c.URL, Cluster: c.Cluster, WaitReplicas: c.WaitReplicas, Timeout: c.Timeout,
			Sentinel: pycket.SentinelSettings{Master: c.Master, Addresses: c.Sentinels},
			Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, cmp.Or(c.Known[address], address))
			},
		},
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: app.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var o order
		if err := json.NewDecoder(r.Body).Decode(&o); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		json.NewEncoder(w).Encode(serve(app, w, r, o))
	}))}
	go func() {
		io.Copy(io.Discard, os.Stdin)
		server.Shutdown(context.Background())
		app.Close()
	}()
	fmt.Println(listener.Addr())
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// An order is one operation that a browser asks a process for.
type order struct{ Do, Name, Value string }

// A result is what came of an order.
type result struct {
	Value   string
	Owner   string   // whose the session is, of orders that read values
	Pair    []string // the two values of "pair", the messages of "drain"
	Current bool     // the user's list names the session
	Err     string   // the name of the error, "" for none
	Text    string   // of the error
	Took    time.Duration
}

// owner is the name of the value that says whose a session is. p and q are always set together, to the same.
const owner, p, q = "owner", "p", "q"

// serve carries out an order.
func serve(app *pycket.App, w http.ResponseWriter, r *http.Request, o order) (re result) {
	s, n := pycket.NewSessionManager(w, r), pycket.NewNotificationManager(w, r)
	began := time.Now()
	var err error
	// Whoever gets ErrUnavailable from these tries again in the same request, which knows the new id.
	insist := func(operation func() error) {
		for range 3 {
			began := time.Now()
			err = operation()
			re.Took = max(re.Took, time.Since(began))
			if !errors.Is(err, pycket.ErrUnavailable) {
				return
			}
		}
	}
	read := func(name string) (value string) {
		re.Owner, err = pycket.Get(s, owner, "")
		if err == nil {
			value, err = pycket.Get(s, name, "")
		}
		return value
	}
	switch o.Do {
	case "set":
		err = s.Set(o.Name, o.Value)
	case "get":
		re.Value = read(o.Name)
	case "number":
		var number int64
		re.Owner, err = pycket.Get(s, owner, "")
		if err == nil {
			number, err = pycket.Get(s, o.Name, int64(0))
		}
		if number != 0 {
			re.Value = strconv.FormatInt(number, 10)
		}
	case "delete":
		err = s.Delete(o.Name)
	case "pop":
		re.Value, err = pycket.Pop(s, o.Name, "")
	case "increment":
		var sum int64
		sum, err = s.Increment(o.Name, 1)
		re.Value = strconv.FormatInt(sum, 10)
	case "update":
		var sum int64
		sum, err = pycket.Update(s, o.Name, 0, func(n int64) (int64, error) { return n + 1, nil })
		re.Value = strconv.FormatInt(sum, 10)
	case "set pair":
		err = s.SetMany(pycket.Values{p: o.Value, q: o.Value})
	case "pair":
		if re.Value = read(p); err == nil {
			var second string
			second, err = pycket.Get(s, q, "")
			re.Pair = []string{re.Value, second}
		}
	case "notify":
		err = n.Set(o.Name, o.Value)
	case "take":
		re.Value, err = pycket.Get(n, o.Name, "")
	case "add":
		err = n.Add("info", o.Value)
	case "drain":
		var messages []pycket.Message
		messages, err = n.Drain()
		for _, m := range messages {
			re.Pair = append(re.Pair, m.Text)
		}
	case "login":
		insist(func() error { return s.Login(o.Value, nil) })
	case "rotate":
		insist(s.Rotate)
	case "destroy":
		err = s.Destroy()
	case "revoke user":
		_, err = app.RevokeUser(r.Context(), o.Value)
	case "sessions":
		var list []pycket.SessionInfo
		list, err = app.Sessions(r.Context(), o.Value)
		for _, info := range list {
			re.Current = re.Current || info.Current
		}
	default:
		err = fmt.Errorf("there is no order %q", o.Do)
	}
	if re.Took == 0 {
		re.Took = time.Since(began)
	}
	if err != nil {
		re.Err, re.Text = nameOf(err), err.Error()
	}
	return re
}

// The errors that an operation may return while Redis fails.
const (
	unavailable  = "ErrUnavailable"
	unreplicated = "ErrNotReplicated"
	gone         = "ErrGone"
	noAnswer     = "no answer" // from the process
)

// nameOf returns the name of an error, and "another error" for any that no fault explains.
func nameOf(err error) string {
	switch {
	case errors.Is(err, pycket.ErrMisconfigured):
	case errors.Is(err, pycket.ErrUnavailable):
		return unavailable
	case errors.Is(err, pycket.ErrNotReplicated):
		return unreplicated
	case errors.Is(err, pycket.ErrGone):
		return gone
	}
	return "another error"
}
