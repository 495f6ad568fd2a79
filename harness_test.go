package pycket_test

// What the tests are made of: two servers, browsers, a handler that carries out what a browser asks it
// to, and a proxy that sees every command on its way to Redis.

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gomodule/redigo/redis"
	"github.com/google/go-cmp/cmp"

	"github.com/pycket/pycket"
	"github.com/pycket/pycket/embedded"
)

const (
	secret      = "the first secret of these tests, 32 bytes and more"
	otherSecret = "another secret of these tests, 32 bytes and more"
	timeout     = 3 * time.Second
)

func TestMain(m *testing.M) {
	if url := os.Getenv("PYCKET_TEST_CHILD"); url != "" {
		childMain(url)
		return
	}
	beginToHear()
	code := m.Run()
	sharedCluster.stop()
	os.Exit(max(code, heard.judge(os.Stderr, code == 0)))
}

// everyServer runs a test against a real Redis, the embedded one and a cluster.
func everyServer(t *testing.T, test func(t *testing.T, server *redisServer)) {
	t.Helper()
	bothServers(t, test)
	t.Run("cluster", func(t *testing.T) { test(t, clusterOf(t)) })
}

// bothServers runs a test against a real Redis and against the embedded one.
func bothServers(t *testing.T, test func(t *testing.T, server *redisServer)) {
	t.Helper()
	t.Run("redis", func(t *testing.T) { test(t, startRedis(t)) })
	t.Run("embedded", func(t *testing.T) {
		server, err := embedded.Start("127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(server.Close)
		test(t, &redisServer{t: t, addr: server.Addr()})
	})
}

// skipOrFail skips a test for want of a program; where nothing may be skipped, it fails.
func skipOrFail(t testing.TB, program, install string) {
	t.Helper()
	message := fmt.Sprintf("%s is not installed; on Debian: apt-get install %s", program, install)
	if os.Getenv("PYCKET_TEST_REQUIRE") == "all" {
		t.Fatal(message)
	}
	t.Skip(message)
}

func needRedis(t testing.TB) {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		skipOrFail(t, "redis-server", "redis-server")
	}
}

// redisServer is a Redis to test against.
type redisServer struct {
	t       testing.TB
	addr    string
	tls     bool
	process *exec.Cmd // nil: embedded
	args    []string
	nodes   []*redisServer // of a cluster, of which this is the first
}

// startRedis starts a redis-server that ends with the test.
func startRedis(t testing.TB, args ...string) *redisServer {
	t.Helper()
	needRedis(t)
	for range 20 {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s := &redisServer{t: t, addr: listener.Addr().String(), args: args}
		listener.Close()
		if slices.Contains(args, "--cluster-enabled") && !hasBus(s.addr) {
			continue
		}
		if s.start() == nil {
			t.Cleanup(s.kill)
			return s
		}
	}
	t.Fatal("redis-server does not start")
	return nil
}

func (s *redisServer) start() error {
	_, port, _ := net.SplitHostPort(s.addr)
	args := append([]string{"--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", s.t.TempDir()}, s.args...)
	s.process = exec.Command("redis-server", args...)
	if err := s.process.Start(); err != nil {
		return err
	}
	for range 200 {
		if c, err := redis.Dial("tcp", s.addr); err == nil {
			_, err = c.Do("PING")
			c.Close()
			if err == nil || strings.Contains(err.Error(), "NOAUTH") {
				return nil
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.kill()
	return errors.New("no answer")
}

func (s *redisServer) kill() {
	s.signal(syscall.SIGKILL)
	s.process.Wait()
}

func (s *redisServer) signal(signal syscall.Signal) { s.process.Process.Signal(signal) }

func (s *redisServer) url() string {
	if len(s.nodes) > 0 {
		return "cluster://" + s.addr // for childMain; settings knows better
	}
	if s.tls {
		return "rediss://" + s.addr
	}
	return "redis://" + s.addr
}

// do carries out a command in a database.
func (s *redisServer) do(db int, command string, args ...any) any {
	s.t.Helper()
	if len(s.nodes) > 0 {
		return s.doInCluster(command, args...)
	}
	c, err := redis.Dial("tcp", s.addr, redis.DialDatabase(db))
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	reply, err := c.Do(command, args...)
	if err != nil {
		s.t.Fatalf("%s: %v", command, err)
	}
	return reply
}

func (s *redisServer) keys(db int) []string {
	s.t.Helper()
	keys, err := redis.Strings(s.do(db, "KEYS", "*"), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	if len(s.nodes) > 0 { // which has one database: what would be in the other is told by the key
		return slices.DeleteFunc(keys, func(key string) bool {
			isNote := strings.HasPrefix(key, "pycket:n:") || strings.HasPrefix(key, "pycket:m:")
			return isNote != (db == 1)
		})
	}
	return keys
}

// size is the number of keys in the first databases.
func (s *redisServer) size() int {
	s.t.Helper()
	return len(s.keys(0)) + len(s.keys(1))
}

// sessionKey is the key of the one session there is.
func (s *redisServer) sessionKey() string {
	s.t.Helper()
	keys := s.keys(0)
	if len(keys) != 1 {
		s.t.Fatalf("there are %d sessions, not one", len(keys))
	}
	return keys[0]
}

// site is an application under test.
type site struct {
	*httptest.Server
	t       *testing.T
	app     *pycket.App
	holding chan struct{} // a request says that it has come to "hold"
	release chan struct{} // and waits for this
	failed  func(error)   // is told of every error of an operation, if set
}

// settings are settings for a server.
func settings(server *redisServer) pycket.Settings {
	s := pycket.Settings{
		Secrets: []string{secret},
		Redis:   pycket.RedisSettings{URL: server.url(), Timeout: timeout},
		Logger:  slog.New(slog.DiscardHandler),
	}
	if len(server.nodes) > 0 {
		s.Redis.URL, s.Redis.Cluster = "", []string{server.addr}
	}
	return s
}

func newApp(t testing.TB, s pycket.Settings) *pycket.App {
	t.Helper()
	app, err := heard.newApp(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { app.Close() })
	return app
}

// newSite serves the operations handler, or the handler given.
func newSite(t *testing.T, s pycket.Settings, handler ...http.Handler) *site {
	t.Helper()
	site := &site{t: t, app: newApp(t, s), holding: make(chan struct{}), release: make(chan struct{})}
	var h http.Handler = pycket.Handler(operations{site: site})
	if len(handler) > 0 {
		h = handler[0]
	}
	site.Server = httptest.NewServer(site.app.Wrap(h))
	t.Cleanup(site.Server.Close)
	return site
}

// operations is a handler that does what the query says: op=set:name:value&op=get:name …, one after the
// other, and answers what came of each.
type operations struct {
	pycket.SessionMixin
	pycket.NotificationMixin
	site *site
}

// outcome is what came of an operation.
type outcome struct {
	Value any    `json:"value,omitempty"`
	Err   string `json:"err,omitempty"`
}

func (h *operations) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	outcomes := []outcome{}
	for _, op := range r.URL.Query()["op"] {
		value, err := h.do(w, strings.Split(op, ":"))
		o := outcome{Value: value}
		if err != nil {
			o.Err = errorName(err)
			if h.site != nil && h.site.failed != nil {
				h.site.failed(err)
			}
		}
		outcomes = append(outcomes, o)
	}
	json.NewEncoder(w).Encode(outcomes)
}

func (h *operations) do(w http.ResponseWriter, op []string) (any, error) {
	arg := func(i int) string { return op[i] }
	s, n := h.Session(), h.Notifications()
	pairs := func() pycket.Values {
		values := pycket.Values{}
		for i := 1; i+1 < len(op); i += 2 {
			values[op[i]] = op[i+1]
		}
		return values
	}
	switch op[0] {
	case "set":
		return nil, s.Set(arg(1), arg(2))
	case "setmany":
		return nil, s.SetMany(pairs())
	case "get":
		return pycket.Get(s, arg(1), "")
	case "has":
		return s.Has(arg(1))
	case "keys":
		return s.Keys()
	case "delete":
		return nil, s.Delete(op[1:]...)
	case "inc":
		by, _ := strconv.ParseInt(arg(2), 10, 64)
		return s.Increment(arg(1), by)
	case "number":
		return pycket.Get(s, arg(1), 0)
	case "update":
		return pycket.Update(s, arg(1), 0, func(n int) (int, error) { return n + 1, nil })
	case "slowupdate":
		return pycket.Update(s, arg(1), 0, func(n int) (int, error) {
			time.Sleep(2 * time.Millisecond) // the work between load and write
			return n + 1, nil
		})
	case "rotate":
		return nil, s.Rotate()
	case "destroy":
		return nil, s.Destroy()
	case "login":
		return nil, s.Login(arg(1), nil)
	case "signin":
		return nil, s.Login(arg(1), pycket.Values{arg(2): arg(3)})
	case "setuser":
		return nil, s.SetUser(arg(1))
	case "authtime":
		at, err := s.AuthTime()
		return !at.IsZero(), err
	case "remember":
		return nil, s.Remember(30 * 24 * time.Hour)
	case "remembered":
		return s.Remembered()
	case "user":
		return s.User()
	case "refresh":
		s.Refresh()
	case "note":
		return nil, n.Set(arg(1), arg(2))
	case "notemany":
		return nil, n.SetMany(pairs())
	case "take":
		return pycket.Get(n, arg(1), "")
	case "peek":
		var text string
		_, err := n.Peek(arg(1), &text)
		return text, err
	case "nhas":
		return n.Has(arg(1))
	case "nkeys":
		return n.Keys()
	case "ndelete":
		return nil, n.Delete(op[1:]...)
	case "add":
		return nil, n.Add(arg(1), arg(2))
	case "drain":
		messages, err := n.Drain()
		texts := []string{}
		for _, m := range messages {
			texts = append(texts, m.Level+"="+m.Text)
		}
		return strings.Join(texts, " "), err
	case "sleep":
		d, _ := time.ParseDuration(arg(1))
		time.Sleep(d)
	case "flush":
		return nil, http.NewResponseController(w).Flush()
	case "hold":
		h.site.holding <- struct{}{}
		<-h.site.release
	default:
		return nil, errors.New("unknown operation " + op[0])
	}
	return nil, nil
}

// errorName is the name of the sentinel that an error is.
func errorName(err error) string {
	for name, sentinel := range map[string]error{
		"ErrNotBound": pycket.ErrNotBound, "ErrNoApp": pycket.ErrNoApp, "ErrGone": pycket.ErrGone,
		"ErrHeadersSent": pycket.ErrHeadersSent, "ErrTooLarge": pycket.ErrTooLarge,
		"ErrUnavailable": pycket.ErrUnavailable, "ErrReserved": pycket.ErrReserved,
	} {
		if errors.Is(err, sentinel) {
			return name
		}
	}
	return err.Error()
}

// browser keeps cookies for a site.
type browser struct {
	t      *testing.T
	base   *url.URL
	client *http.Client
}

func newBrowser(t *testing.T, base string) *browser {
	t.Helper()
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &browser{t, u, &http.Client{
		Jar:           jar,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       30 * time.Second,
	}}
}

func (s *site) browser() *browser { s.t.Helper(); return newBrowser(s.t, s.URL) }

// answer is a response, read.
type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) setsCookie() bool { return len(a.header["Set-Cookie"]) > 0 }

// outcomes are what the operations handler has answered.
func (a answer) outcomes() ([]outcome, error) {
	var list []outcome
	if err := json.Unmarshal([]byte(a.body), &list); err != nil {
		return nil, fmt.Errorf("status %d, %q: %w", a.status, a.body, err)
	}
	return list, nil
}

func (b *browser) send(r *http.Request) (answer, error) {
	response, err := b.client.Do(r)
	heard.request(r)
	if err != nil {
		return answer{}, err
	}
	heard.response(response)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return answer{response.StatusCode, response.Header, string(body)}, err
}

// get fetches a path.
func (b *browser) get(path string) answer {
	b.t.Helper()
	r, err := http.NewRequest("GET", b.base.String()+path, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	a, err := b.send(r)
	if err != nil {
		b.t.Fatal(err)
	}
	return a
}

// getHints fetches the start page, and what comes before its answer (1xx).
func (b *browser) getHints() (a answer, hints []textproto.MIMEHeader) {
	b.t.Helper()
	ctx := httptrace.WithClientTrace(b.t.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(_ int, header textproto.MIMEHeader) error {
			hints = append(hints, header)
			return nil
		},
	})
	r, err := http.NewRequestWithContext(ctx, "GET", b.base.String(), nil)
	if err != nil {
		b.t.Fatal(err)
	}
	if a, err = b.send(r); err != nil {
		b.t.Fatal(err)
	}
	return a, hints
}

// try asks the operations handler; it may be called by any goroutine.
func (b *browser) try(ops ...string) (answer, []outcome, error) {
	r, err := http.NewRequest("GET", b.base.String()+"/?"+url.Values{"op": ops}.Encode(), nil)
	if err != nil {
		return answer{}, nil, err
	}
	a, err := b.send(r)
	if err != nil {
		return a, nil, err
	}
	list, err := a.outcomes()
	return a, list, err
}

// do asks the operations handler.
func (b *browser) do(ops ...string) (answer, []outcome) {
	b.t.Helper()
	a, list, err := b.try(ops...)
	if err != nil {
		b.t.Fatal(err)
	}
	return a, list
}

// must asks the operations handler and wants every operation to succeed; it returns their values.
func (b *browser) must(ops ...string) []any {
	b.t.Helper()
	_, list := b.do(ops...)
	values := []any{}
	for i, o := range list {
		if o.Err != "" {
			b.t.Fatalf("%s: %s", ops[i], o.Err)
		}
		values = append(values, o.Value)
	}
	return values
}

// whileHeld asks the operations handler, of which one is "hold", and does something else while it holds.
func (s *site) whileHeld(b *browser, ops []string, meanwhile func()) (answer, []outcome) {
	s.t.Helper()
	var a answer
	var list []outcome
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		a, list, err = b.try(ops...)
	}()
	<-s.holding
	meanwhile()
	s.release <- struct{}{}
	<-done
	if err != nil {
		s.t.Fatal(err)
	}
	return a, list
}

// want asks the operations handler and compares.
func (b *browser) want(want []outcome, ops ...string) answer {
	b.t.Helper()
	a, got := b.do(ops...)
	if diff := cmp.Diff(want, got); diff != "" {
		b.t.Errorf("%v (-want +got):\n%s", ops, diff)
	}
	return a
}

// cookie is the value of the session's cookie, "" if there is none.
func (b *browser) cookie() string {
	for _, c := range b.client.Jar.Cookies(b.base) {
		if c.Name == "PYCKET_ID" {
			return c.Value
		}
	}
	return ""
}

// tab is a browser that has the cookies of this one now and does not share what comes later.
func (b *browser) tab() *browser {
	b.t.Helper()
	return b.with(b.cookie())
}

// with is a browser with this cookie.
func (b *browser) with(value string) *browser {
	b.t.Helper()
	other := newBrowser(b.t, b.base.String())
	if value != "" {
		other.client.Jar.SetCookies(b.base, []*http.Cookie{{Name: "PYCKET_ID", Value: value, Path: "/"}})
	}
	return other
}

// proxy stands between a site and its Redis.
type proxy struct {
	addr     string
	upstream string

	mu       sync.Mutex
	commands []string // the first words of each: "EVALSHA", "PING"
	sent     bytes.Buffer
	conns    map[net.Conn]bool
}

func newProxy(t *testing.T, server *redisServer) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{addr: listener.Addr().String(), upstream: server.addr, conns: map[net.Conn]bool{}}
	t.Cleanup(func() { listener.Close(); p.cut() })
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go p.serve(c)
		}
	}()
	return p
}

func (p *proxy) serve(client net.Conn) {
	defer client.Close()
	p.mu.Lock()
	upstream := p.upstream
	p.mu.Unlock()
	redis, err := net.Dial("tcp", upstream)
	if err != nil {
		return
	}
	defer redis.Close()
	p.mu.Lock()
	p.conns[client], p.conns[redis] = true, true
	p.mu.Unlock()
	go func() {
		io.Copy(client, redis)
		client.Close()
	}()
	in := bufio.NewReader(client)
	for {
		var command bytes.Buffer
		words, err := readCommand(in, &command)
		if err != nil {
			return
		}
		p.mu.Lock()
		p.commands = append(p.commands, words)
		p.sent.Write(command.Bytes())
		p.mu.Unlock()
		if _, err := redis.Write(command.Bytes()); err != nil {
			return
		}
	}
}

// readCommand reads an array of bulk strings and returns its first.
func readCommand(in *bufio.Reader, raw *bytes.Buffer) (string, error) {
	line := func(want byte) (int, error) {
		s, err := in.ReadString('\n')
		if err != nil {
			return 0, err
		}
		raw.WriteString(s)
		if s[0] != want {
			return 0, fmt.Errorf("not a command: %q", s)
		}
		return strconv.Atoi(strings.TrimSpace(s[1:]))
	}
	count, err := line('*')
	if err != nil {
		return "", err
	}
	var first string
	for i := range count {
		n, err := line('$')
		if err != nil {
			return "", err
		}
		word := make([]byte, n+2)
		if _, err := io.ReadFull(in, word); err != nil {
			return "", err
		}
		raw.Write(word)
		if i == 0 {
			first = string(word[:n])
		}
	}
	return first, nil
}

// trips counts the commands that are sent while f runs.
func (p *proxy) trips(f func()) int {
	p.mu.Lock()
	p.commands = nil
	p.mu.Unlock()
	f()
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.commands)
}

// everything is all that was ever sent.
func (p *proxy) everything() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sent.String()
}

// cut breaks all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.(*net.TCPConn).CloseWrite() // at once; Close waits for who is reading
		c.Close()
	}
	p.conns = map[net.Conn]bool{}
}

// childMain is another process of the application: it serves the operations handler until its standard
// input ends, and prints its URL first.
func childMain(redisURL string) {
	s := pycket.Settings{Secrets: []string{secret}, Redis: pycket.RedisSettings{URL: redisURL, Timeout: timeout}}
	if seed, ok := strings.CutPrefix(redisURL, "cluster://"); ok {
		s.Redis.URL, s.Redis.Cluster = "", []string{seed}
	}
	app, err := pycket.New(s)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	server := httptest.NewServer(app.Wrap(pycket.Handler(operations{})))
	fmt.Println(server.URL)
	io.Copy(io.Discard, os.Stdin)
}

// startChild starts another process of the application and returns its URL.
func startChild(t *testing.T, server *redisServer) string {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), "PYCKET_TEST_CHILD="+server.url())
	child.Stderr = heard.beside(os.Stderr)
	stdin, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		child.Wait()
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// parallel runs f for 0 to n-1 at once and waits.
func parallel(n int, f func(i int)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			f(i)
		})
	}
	close(start)
	wg.Wait()
}

// breaker is a proxy that can do to the answers of Redis what networks do.
type breaker struct {
	addr        string
	armed       atomic.Bool  // the next answer is not passed on, and its connection breaks
	lossy       atomic.Bool  // no answer is passed on, and connections break
	deaf        atomic.Bool  // no command is passed on, and connections break
	twice       atomic.Int64 // if not 0, the next answer is passed on twice, for the second time after so many nanoseconds
	again       atomic.Int64 // how many were passed on for a second time by themselves
	connections atomic.Int64

	mu       sync.Mutex
	changed  sync.Cond
	held     bool  // answers are kept back
	clogged  bool  // commands are
	commands int   // begun since hold
	muted    int64 // of the connections, those that are silent
}

func newBreaker(t *testing.T, server *redisServer) *breaker {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &breaker{addr: listener.Addr().String()}
	b.changed.L = &b.mu
	t.Cleanup(func() { listener.Close(); b.pass() })
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			redis, err := net.Dial("tcp", server.addr)
			if err != nil {
				client.Close()
				return
			}
			number := b.connections.Add(1)
			go func() {
				defer redis.Close()
				for in := bufio.NewReader(client); ; {
					var command bytes.Buffer
					b.mu.Lock()
					for b.clogged {
						b.changed.Wait()
					}
					b.mu.Unlock()
					if _, err := readCommand(in, &command); err != nil {
						return
					}
					if b.deaf.Load() {
						client.Close()
						return
					}
					redis.Write(command.Bytes())
					b.mu.Lock()
					b.commands++
					b.changed.Broadcast()
					b.mu.Unlock()
				}
			}()
			go func() {
				defer client.Close()
				defer redis.Close()
				answer := make([]byte, 64<<10)
				for {
					n, err := redis.Read(answer)
					b.mu.Lock()
					for b.held {
						b.changed.Wait()
					}
					muted := number <= b.muted
					b.mu.Unlock()
					if muted && err == nil {
						continue
					}
					if err != nil || b.lossy.Load() || b.armed.CompareAndSwap(true, false) {
						return
					}
					if again := b.twice.Swap(0); again == 1 {
						client.Write(append(answer[:n:n], answer[:n]...))
					} else if again > 0 {
						client.Write(answer[:n])
						time.Sleep(time.Duration(again))
						client.Write(answer[:n])
						b.again.Add(1)
					} else {
						client.Write(answer[:n])
					}
				}
			}()
		}
	}()
	return b
}

// mute makes the connections that there are silent for good.
func (b *breaker) mute() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.muted = b.connections.Load()
}

// clog reads nothing from now on, but for a command on each connection that there is: who writes much must wait.
func (b *breaker) clog() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.clogged = true
}

// hold keeps answers back from now on.
func (b *breaker) hold() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held, b.commands = true, 0
}

// awaitCommands waits until so many commands have gone to Redis since hold.
func (b *breaker) awaitCommands(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.commands < n {
		b.changed.Wait()
	}
}

// pass lets everything through again.
func (b *breaker) pass() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held, b.clogged = false, false
	b.changed.Broadcast()
}

// lockedWriter may be written to by several goroutines.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (w *lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.w.Write(p)
}

// must decodes base64.
func must(t *testing.T, text string) []byte {
	t.Helper()
	data, err := base64.URLEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
