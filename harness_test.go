package pycket_test

// What the tests are made of: a site, browsers, and a handler that carries out what a browser asks it to. The servers
// are those of internal/redistest.
//
//	proxy, s := proxied(t, server)
//	site := newSite(t, s)          // or unstartedSite, whose browsers call its handler without a network
//	b := site.browser()            // keeps cookies
//	b.must("set:a:b", "note:x:y")  // one request, two operations that must succeed
//	b.want([]outcome{{Value: "b"}, {Err: "ErrGone"}}, "get:a", "set:a:late")
//	site.use(b, func(s *pycket.SessionManager) { noError(t, s.Set("a", 1)) }) // one request, in Go
//	b.within(ctx).try("get:a")     // one request that ends with ctx

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pycket/pycket"
	"github.com/pycket/pycket/internal/redistest"
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
	beginRestricted()
	code := m.Run()
	redistest.StopShared()
	os.Exit(max(code, heard.judge(os.Stderr, code == 0)))
}

// served is a handler, for one request of a browser.
type served func(w http.ResponseWriter, r *http.Request, s *pycket.SessionManager, n *pycket.NotificationManager)

// site is an application under test.
type site struct {
	*httptest.Server
	t       testing.TB
	app     *pycket.App
	acts    sync.Map      // what visit's requests are to do
	act     served        // serves other requests without operations, if set
	holding chan struct{} // a request says that it has come to "hold"
	release chan struct{} // and waits for this
	failed  func(error)   // is told of every error of an operation, if set
}

// settings are settings for a server.
func settings(server *redistest.Server) pycket.Settings {
	s := pycket.Settings{
		Secrets: []string{secret},
		Redis:   pycket.RedisSettings{URL: server.URL(), Timeout: timeout},
		Logger:  slog.New(slog.DiscardHandler),
	}
	if server.Nodes() != nil {
		s.Redis.URL, s.Redis.Cluster = account(server), []string{server.Addr}
	}
	return s
}

// account is a server's URL with the user and the password only.
func account(server *redistest.Server) string { return strings.TrimSuffix(server.URL(), server.Addr) }

// childURL is the server for childMain.
func childURL(server *redistest.Server) string {
	if server.Nodes() != nil {
		return strings.Replace(server.URL(), "redis:", "cluster:", 1)
	}
	return server.URL()
}

func newApp(t testing.TB, s pycket.Settings) *pycket.App {
	t.Helper()
	app, err := heard.newApp(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		heard.stats(app)
		app.Close()
	})
	return app
}

// proxied is a proxy to a server, and settings that lead through it.
func proxied(t testing.TB, server *redistest.Server) (*redistest.Proxy, pycket.Settings) {
	t.Helper()
	proxy, s := redistest.NewProxy(t, server), settings(server)
	s.Redis.URL = proxy.URL()
	return proxy, s
}

// newSite serves the operations handler, and what visit says, or the handler given.
func newSite(t testing.TB, s pycket.Settings, handler ...http.Handler) *site {
	t.Helper()
	site := unstartedSite(t, s)
	if len(handler) > 0 {
		site.Config.Handler = site.app.Wrap(handler[0])
	}
	site.Start()
	return site
}

func unstartedSite(t testing.TB, s pycket.Settings) *site {
	t.Helper()
	site := &site{t: t, app: newApp(t, s), holding: make(chan struct{}), release: make(chan struct{})}
	ops := pycket.Handler(operations{site: site})
	site.Server = httptest.NewUnstartedServer(site.app.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		act := site.act
		if visit, ok := site.acts.LoadAndDelete(r.Header.Get("X-Visit")); ok {
			act = visit.(served)
		}
		if act == nil || r.URL.Query().Has("op") {
			ops.ServeHTTP(w, r)
			return
		}
		act(w, r, pycket.NewSessionManager(w, r), pycket.NewNotificationManager(w, r))
	})))
	t.Cleanup(site.Server.Close)
	return site
}

// visit is one request of a browser. Browsers may visit a site at the same time.
func (s *site) visit(b *browser, act served) answer {
	s.t.Helper()
	return b.answer(s.serve(b.request("/"), act))
}

// serve says what a request of a browser is to do.
func (s *site) serve(r *http.Request, act served) *http.Request {
	r.Header.Set("X-Visit", rand.Text())
	s.acts.Store(r.Header.Get("X-Visit"), act)
	return r
}

// use is visit with the session only.
func (s *site) use(b *browser, act func(s *pycket.SessionManager)) answer {
	s.t.Helper()
	return s.visit(b, func(_ http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
		act(s)
	})
}

// works is visit for what must not fail.
func (s *site) works(b *browser, act func(s *pycket.SessionManager, n *pycket.NotificationManager) error) answer {
	s.t.Helper()
	return s.visit(b, func(_ http.ResponseWriter, _ *http.Request, m *pycket.SessionManager, n *pycket.NotificationManager) {
		if err := act(m, n); err != nil {
			s.t.Error(err)
		}
	})
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
		outcomes = append(outcomes, h.carryOut(w, op))
	}
	json.NewEncoder(w).Encode(outcomes)
}

func (h *operations) carryOut(w http.ResponseWriter, op string) outcome {
	words := strings.Split(op, ":")
	heard.hide("argument", words[1:]...) // keys, users, values
	value, err := h.do(w, words)
	if err == nil {
		return outcome{Value: value}
	}
	heard.err(err)
	if h.site != nil && h.site.failed != nil {
		h.site.failed(err)
	}
	return outcome{Value: value, Err: errorName(err)}
}

// operate is the operations handler, for use within a request.
func operate(w http.ResponseWriter, r *http.Request) *operations {
	h := new(operations)
	pycket.Bind(h, w, r)
	return h
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
	case "setnumber":
		n, _ := strconv.ParseInt(arg(2), 10, 64)
		return nil, s.Set(arg(1), n)
	case "setmany":
		return nil, s.SetMany(pairs())
	case "get":
		return pycket.Get(s, arg(1), "")
	case "any":
		return pycket.Get[any](s, arg(1), "none")
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
	case "xor":
		by, _ := strconv.ParseInt(arg(2), 10, 64)
		return pycket.Update(s, arg(1), int64(1), func(n int64) (int64, error) { return n ^ by, nil })
	case "slowupdate":
		return pycket.Update(s, arg(1), 0, func(n int) (int, error) {
			time.Sleep(2 * time.Millisecond) // the work between load and write
			return n + 1, nil
		})
	case "clear":
		return nil, s.Clear()
	case "pop":
		return pycket.Pop(s, arg(1), "")
	case "handle":
		return s.Handle()
	case "others":
		return s.RevokeOthers()
	case "expiry": // to the second
		idle, absolute, err := s.Expiry()
		seconds := func(at time.Time) float64 {
			if at.IsZero() {
				return 0
			}
			return max(math.Round(time.Until(at).Seconds()), 1) // 0 is for no time
		}
		return []float64{seconds(idle), seconds(absolute)}, err
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
	case "remember": // for 30 days, or as long as it says
		idle := 30 * 24 * time.Hour
		if len(op) > 1 {
			idle, _ = time.ParseDuration(arg(1))
		}
		return nil, s.Remember(idle)
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
	case "take": // or what it says, if there is none
		return pycket.Get(n, arg(1), strings.Join(op[2:], ":"))
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
		"ErrUnavailable": pycket.ErrUnavailable, "ErrReserved": pycket.ErrReserved, "ErrNotReplicated": pycket.ErrNotReplicated,
	} {
		if errors.Is(err, sentinel) {
			return name
		}
	}
	return err.Error()
}

// browser keeps cookies for a site.
type browser struct {
	t      testing.TB
	base   *url.URL
	client *http.Client
	ctx    context.Context // of its requests
}

func newBrowser(t testing.TB, base string) *browser {
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
	}, t.Context()}
}

// browser is a new browser of a site. If the site isn't started, its requests are calls of the handler: no network and
// no goroutine is in between, and headers may have any bytes.
func (s *site) browser() *browser {
	s.t.Helper()
	if s.URL == "" {
		b := newBrowser(s.t, "http://unstarted.test")
		b.client.Transport, b.client.Timeout = call{s.Config.Handler}, 0
		return b
	}
	b := newBrowser(s.t, s.URL)
	b.client.Transport = s.Client().Transport
	return b
}

// call is a transport that calls a handler.
type call struct{ http.Handler }

func (c call) RoundTrip(r *http.Request) (*http.Response, error) {
	served := httptest.NewRequestWithContext(r.Context(), r.Method, r.URL.String(), nil)
	served.Header = r.Header
	w := httptest.NewRecorder()
	c.ServeHTTP(w, served)
	return w.Result(), nil
}

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

// request is one for a path.
func (b *browser) request(path string) *http.Request {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.ctx, "GET", b.base.String()+path, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	return r
}

// answer is send for what must not fail.
func (b *browser) answer(r *http.Request) answer {
	b.t.Helper()
	a, err := b.send(r)
	if err != nil {
		b.t.Fatal(err)
	}
	return a
}

// get fetches a path.
func (b *browser) get(path string) answer { b.t.Helper(); return b.answer(b.request(path)) }

// within is the same browser, whose requests end with a context.
func (b *browser) within(ctx context.Context) *browser {
	other := *b
	other.ctx = ctx
	return &other
}

// getHints fetches the start page, and what comes before its answer (1xx).
func (b *browser) getHints() (a answer, hints []textproto.MIMEHeader) {
	b.t.Helper()
	ctx := httptrace.WithClientTrace(b.ctx, &httptrace.ClientTrace{
		Got1xxResponse: func(_ int, header textproto.MIMEHeader) error {
			hints = append(hints, header)
			return nil
		},
	})
	a = b.within(ctx).get("/")
	return a, hints
}

// try asks the operations handler; it may be called by any goroutine.
func (b *browser) try(ops ...string) (answer, []outcome, error) {
	a, err := b.send(b.request("/?" + url.Values{"op": ops}.Encode()))
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
	func() {
		defer func() { s.release <- struct{}{} }() // or a test that ends meanwhile would hang
		meanwhile()
	}()
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
	equal(b.t, fmt.Sprint(ops), want, got)
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
	other.client.Transport, other.client.Timeout = b.client.Transport, b.client.Timeout
	if value != "" {
		other.client.Jar.SetCookies(b.base, []*http.Cookie{{Name: "PYCKET_ID", Value: value, Path: "/"}})
	}
	return other
}

// childMain is another process of the application: it serves the operations handler until its standard
// input ends, and prints its URL first.
func childMain(redisURL string) {
	s := pycket.Settings{Secrets: []string{secret}, Redis: pycket.RedisSettings{URL: redisURL, Timeout: timeout}}
	if seed, ok := strings.CutPrefix(redisURL, "cluster://"); ok {
		at := strings.LastIndex(seed, "@") + 1
		s.Redis.URL, s.Redis.Cluster = "redis://"+seed[:at], []string{seed[at:]}
	}
	s.CacheFor, _ = time.ParseDuration(os.Getenv("PYCKET_TEST_CACHE"))
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
func startChild(t *testing.T, redisURL string) string {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), "PYCKET_TEST_CHILD="+redisURL)
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

// equal wants two values to be the same.
func equal[T any](t testing.TB, what string, want, got T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// noError wants an operation to succeed.
func noError(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}

// wantError wants an error that names the operation and the key, and is the sentinel, if there is one.
func wantError(t testing.TB, err error, sentinel error, texts ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error; want one with %q", texts)
		return
	}
	heard.err(err)
	if sentinel != nil && !errors.Is(err, sentinel) {
		t.Errorf("%v is not %v", err, sentinel)
	}
	for _, text := range append(texts, "pycket: ") {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%q does not say %q", err, text)
		}
	}
}

// wantAnonymous checks that a cookie opens nothing.
func wantAnonymous(t testing.TB, site *site, cookie string) {
	t.Helper()
	if cookie == "" {
		t.Fatal("there was no cookie")
	}
	stale := site.browser().with(cookie)
	stale.want([]outcome{{Value: ""}, {Value: []any{}}, {Value: ""}, {Value: []any{}}, {Value: ""}}, "get:a", "keys", "take:waiting", "nkeys", "drain")
}

// wantNothingLeft checks that after a Destroy nothing is left but the mark, for a minute.
func wantNothingLeft(t testing.TB, server *redistest.Server) {
	t.Helper()
	if keys := server.Keys(1); len(keys) != 0 {
		t.Errorf("notifications are left: %v", keys)
	}
	for _, key := range server.Keys(0) {
		if mayLag(server, key) {
			continue
		}
		fields := server.Do(0, "HKEYS", key).([]any)
		if len(fields) != 1 || string(fields[0].([]byte)) != "pycket:ended" {
			t.Errorf("%s holds %q", key, fields)
		}
		if left := server.Do(0, "PTTL", key).(int64); left <= 0 || left > time.Minute.Milliseconds() {
			t.Errorf("the mark stays for %d ms", left)
		}
	}
}

// shortTimeout is for tests in which Redis does not answer. Nothing here measures how fast anything is:
// "within the timeout" is checked against a bound far larger than it.
const (
	shortTimeout = 300 * time.Millisecond
	bound        = 5 * time.Second
)

// everyOperation is each operation of a session that exists, and what it does when Redis is there.
var everyOperation = []string{
	"get:a", "has:a", "keys", "set:a:c", "setmany:a:c:b:c", "delete:a", "inc:n:1", "update:n", "rotate", "destroy",
	"note:a:b", "notemany:a:b", "take:a", "peek:a", "nhas:a", "nkeys", "ndelete:a", "add:i:t", "drain",
	"clear", "pop:a", "handle", "expiry",
}

// keyOf is the session's key that docs/storage.md gives an id.
func keyOf(id []byte) string {
	sum := sha256.Sum256(append([]byte("pycket handle "), id[:12]...))
	return "pycket:s:{" + base64.RawURLEncoding.EncodeToString(sum[:12]) + "}"
}

// handleIn returns the handle in a session's key.
func handleIn(key string) string { return key[len("pycket:s:{") : len(key)-1] }

// mayLag tells whether a key is a user's list in a cluster: what it names may have ended. The tests of
// App.Sessions say what that may not mean.
func mayLag(s *redistest.Server, key string) bool {
	return s.Nodes() != nil && strings.HasPrefix(key, "pycket:u:")
}

// handle runs one request of an application, without a server around it.
func handle(app *pycket.App, r *http.Request, use func(s *pycket.SessionManager)) *http.Response {
	w := httptest.NewRecorder()
	app.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { use(pycket.NewSessionManager(w, r)) })).ServeHTTP(w, r)
	heard.request(r)
	heard.response(w.Result())
	return w.Result()
}

// signIn logs a new browser in.
func signIn(t testing.TB, site *site, user string) *browser {
	t.Helper()
	heard.hide("argument", user)
	b := site.browser()
	site.works(b, func(s *pycket.SessionManager, _ *pycket.NotificationManager) error {
		return s.Login(user, pycket.Values{"name": user})
	})
	return b
}

// who is the user that a browser's session is bound to.
func who(t testing.TB, site *site, b *browser) (user string, at time.Time) {
	t.Helper()
	site.use(b, func(s *pycket.SessionManager) {
		var err, atErr error
		user, err = s.User()
		if at, atErr = s.AuthTime(); err != nil || atErr != nil {
			t.Error(err, atErr)
		}
	})
	return user, at
}

// list is what App.Sessions says.
func list(t testing.TB, site *site, user string) []pycket.SessionInfo {
	t.Helper()
	infos, err := site.app.Sessions(t.Context(), user)
	noError(t, err)
	return infos
}

func signInQuietly(site *site, user string) {
	handle(site.app, httptest.NewRequest("GET", "/", nil), func(s *pycket.SessionManager) { s.Login(user, nil) })
}

// handleCookie runs a request with a cookie, without a server around it.
func handleCookie(site *site, cookie string, use func(*pycket.SessionManager)) *http.Response {
	r := httptest.NewRequest("GET", "/", nil)
	r.AddCookie(&http.Cookie{Name: "PYCKET_ID", Value: cookie})
	return handle(site.app, r, use)
}
