package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pycket/pycket"
	"github.com/pycket/pycket/internal/redistest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	redistest.StopShared()
	os.Exit(code)
}

const (
	password = "Pass-0f6f"
	secret   = "Secret-1c2d-1c2d-1c2d-1c2d-1c2d-1c2d-1c2d"
	value    = "Value-7a7a"
)

// A result is what a run of the command has said.
type result struct {
	out, err string
	code     int
}

// command runs the command with an environment of NAME=value words, and then arguments. What it prints must hold no
// password, secret or value, unless the arguments ask for that.
func command(t *testing.T, words ...string) result {
	t.Helper()
	env := map[string]string{}
	for len(words) > 0 && regexp.MustCompile(`^[A-Z_]+=`).MatchString(words[0]) {
		name, value, _ := strings.Cut(words[0], "=")
		env[name], words = value, words[1:]
	}
	var out, err bytes.Buffer
	code := run(t.Context(), words, func(name string) string { return env[name] }, &out, &err)
	r := result{out.String(), err.String(), code}
	for _, private := range []string{password, secret, value} {
		asked := private == value && slices.Contains(words, "--values") || private == secret && slices.Contains(words, "--rotate")
		if !asked && strings.Contains(r.out+r.err, private) || strings.Contains(r.err, private) {
			t.Errorf("%q prints %s:\n%s%s", words, private, r.out, r.err)
		}
	}
	return r
}

// wants fails the test unless a run ended with this code, and said this.
func (r result) wants(t *testing.T, code int, said ...string) {
	t.Helper()
	if r.code != code {
		t.Errorf("exit code %d, want %d\n%s%s", r.code, code, r.out, r.err)
	}
	for _, text := range said {
		if !strings.Contains(r.out+r.err, text) {
			t.Errorf("it doesn't say %q:\n%s%s", text, r.out, r.err)
		}
	}
}

// parse reads what --json has printed.
func parse[T any](t *testing.T, r result) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(r.out), &v); err != nil {
		t.Fatalf("%v: %q, %s", err, r.out, r.err)
	}
	return v
}

// A site is an application.
type site struct {
	t   *testing.T
	app *pycket.App
	env string // for the command
}

func newSite(t *testing.T, server *redistest.Server, codec pycket.Codec) *site {
	t.Helper()
	s := &site{t: t, env: "REDIS_URL=" + server.URL()}
	settings := pycket.Settings{Secrets: []string{secret}, Redis: pycket.RedisSettings{URL: server.URL()}, Codec: codec}
	if server.Nodes() != nil {
		settings.Redis.URL, settings.Redis.Cluster = "", []string{server.Addr}
		s.env = "REDIS_CLUSTER=" + server.Addr
	}
	var err error
	if s.app, err = pycket.New(settings); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.app.Close() })
	return s
}

// as does something in a request of a browser with a cookie, nil for a new one, and returns its cookie and handle.
func (s *site) as(cookie *http.Cookie, do func(*pycket.SessionManager, *pycket.NotificationManager) error) (*http.Cookie, string) {
	s.t.Helper()
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("User-Agent", "Browser\x1b[31m")
	if cookie != nil {
		r.AddCookie(cookie)
	}
	w := httptest.NewRecorder()
	var handle string
	s.app.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session := pycket.NewSessionManager(w, r)
		if err := do(session, pycket.NewNotificationManager(w, r)); err != nil {
			s.t.Fatal(err)
		}
		handle, _ = session.Handle()
	})).ServeHTTP(w, r)
	for _, set := range w.Result().Cookies() {
		cookie = set
	}
	return cookie, handle
}

// login logs a user in, with a value, a notification and a message, and returns the handle.
func (s *site) login(user string) string {
	s.t.Helper()
	_, handle := s.as(nil, func(session *pycket.SessionManager, notifications *pycket.NotificationManager) error {
		err := session.Login(user, pycket.Values{"token": value})
		if err == nil {
			err = notifications.Set("note", value)
		}
		if err == nil {
			err = notifications.Add("info", value)
		}
		return err
	})
	return handle
}

// visit begins a session of a stranger.
func (s *site) visit() (*http.Cookie, string) {
	s.t.Helper()
	return s.as(nil, func(session *pycket.SessionManager, _ *pycket.NotificationManager) error {
		return session.Set("token", value)
	})
}

func TestSessions(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		s := newSite(t, server, nil)
		command(t, s.env, "sessions", "ann").wants(t, exitFound, "ann has no session")
		if r := command(t, s.env, "sessions", "ann", "--json"); r.code != exitFound || r.out != "[]\n" {
			t.Errorf("%+v", r)
		}
		first, second := s.login("ann"), s.login("ann")
		_, stranger := s.visit()

		r := command(t, s.env, "sessions", "ann")
		r.wants(t, exitOK, first, second, `Browser\x1b[31m`, "s ago)")
		if strings.Contains(r.out, "\x1b") || strings.Contains(r.out, stranger) {
			t.Errorf("%q", r.out)
		}
		list := parse[[]sessionJSON](t, command(t, s.env, "sessions", "ann", "--json"))
		if len(list) != 2 || list[0].Handle != first || list[1].Handle != second || time.Since(list[0].SignedIn).Abs() > time.Minute {
			t.Errorf("%+v", list)
		}

		command(t, s.env, "show", first).wants(t, exitOK, first, "ann", "value token", "notification note", "message", "12 bytes", "expires", "in 23h")
		command(t, s.env, "show", first, "--values").wants(t, exitOK, `"`+value+`"`)
		shown := parse[sessionJSON](t, command(t, s.env, "show", first, "--json"))
		if diff := cmp.Diff([]itemOf{{Name: "token", Bytes: 12}}, shown.Values); diff != "" || shown.User != "ann" {
			t.Errorf("%+v\n%s", shown, diff)
		}
		shown = parse[sessionJSON](t, command(t, s.env, "show", first, "--json", "--values"))
		if diff := cmp.Diff([]itemOf{{Name: "note", Bytes: 12, Value: new(`"` + value + `"`)}}, shown.Notifications); diff != "" || len(shown.Messages) != 1 {
			t.Errorf("%+v\n%s", shown, diff)
		}
		command(t, s.env, "show", stranger).wants(t, exitOK, "user         -", "signed in    -")
		command(t, s.env, "show", "0123456789abcdef").wants(t, exitFound, "no such session")
		command(t, s.env, "show", "short").wants(t, exitUsage, "not a handle")
		for _, handle := range []string{"-123456789abcdef", "--23456789abcdef", "-h-----json-----"} { // which are no flags
			command(t, s.env, "show", handle, "--values").wants(t, exitFound, "no such session")
			command(t, s.env, "show", "--json", "--", handle).wants(t, exitFound, "no such session")
			command(t, s.env, "revoke", handle).wants(t, exitFound, "no such session")
		}

		command(t, s.env, "count").wants(t, exitOK, "3 sessions, 2 of users")
		if got := parse[tally](t, command(t, s.env, "count", "--json")); got.Sessions != 3 || got.OfUsers != 2 || got.Notified != 2 || got.Bytes < 36 {
			t.Errorf("%+v", got)
		}
		command(t, s.env, "count", "--prefix", "other:").wants(t, exitOK, "0 sessions")

		command(t, s.env, "revoke", stranger).wants(t, exitOK, "1 session ended")
		command(t, s.env, "revoke", stranger).wants(t, exitFound, "no such session")
		command(t, s.env, "show", stranger).wants(t, exitFound, "has ended")
		command(t, s.env, "revoke", "--user", "bob").wants(t, exitFound, "bob has no session")
		if got := parse[map[string]int](t, command(t, s.env, "revoke", "--user", "ann", "--json")); got["ended"] != 2 {
			t.Errorf("%v", got)
		}
		command(t, s.env, "sessions", "ann").wants(t, exitFound)
		command(t, s.env, "count").wants(t, exitOK, "0 sessions")
	})
}

// Sealed values are not shown, and neither is what isn't text.
func TestSealed(t *testing.T) {
	codec, err := pycket.Sealed(nil, secret)
	if err != nil {
		t.Fatal(err)
	}
	s := newSite(t, redistest.StartEmbedded(t), codec)
	handle := s.login("ann")
	r := command(t, s.env, "show", handle, "--values")
	r.wants(t, exitOK, "56 bytes, sealed or not text")
	shown := parse[sessionJSON](t, command(t, s.env, "show", handle, "--values", "--json"))
	if diff := cmp.Diff([]itemOf{{Name: "token", Bytes: 56, Opaque: true}}, shown.Values); diff != "" {
		t.Error(diff)
	}
}

// What anybody may have chosen is printed so that a terminal obeys none of it, and bytes are not printed at all.
func TestPlain(t *testing.T) {
	server := redistest.StartEmbedded(t)
	s := newSite(t, server, nil)
	const back = "\u202e" // writes from right to left
	_, handle := s.as(nil, func(session *pycket.SessionManager, _ *pycket.NotificationManager) error {
		return session.Login("ann\x1b[2J", pycket.Values{"name\x1b[2J": "text" + back})
	})
	server.Do(0, "HSET", "pycket:s:{"+handle+"}", "control", "\x1b[2J", "bytes", "\xff\xfe")
	r := command(t, s.env, "show", handle, "--values")
	r.wants(t, exitOK, `ann\x1b[2J`, `Browser\x1b[31m`, `value name\x1b[2J`, `"text\u202e"`, "2 bytes, sealed or not text", "4 bytes, sealed or not text")
	for _, r := range []result{
		r, command(t, s.env, "sessions", "\x1b[2J"), command(t, s.env, "\x1b[2J"), command(t, "REDIS_URL_FILE=\x1b[2J", "count"),
	} {
		if strings.ContainsAny(r.out+r.err, "\x1b"+back) {
			t.Errorf("%q, %q", r.out, r.err)
		}
	}
}

// Values leave Redis only if they are asked for.
func TestValuesStay(t *testing.T) {
	server := redistest.Start(t)
	s, proxy := newSite(t, server, nil), redistest.NewProxy(t, server)
	handle := s.login("ann")
	for _, asked := range []bool{false, true} {
		var replies bytes.Buffer
		proxy.Corrupt(func(reply []byte) []byte {
			replies.Write(reply)
			return reply
		})
		words := []string{"REDIS_URL=" + proxy.URL(), "show", handle}
		if asked {
			words = append(words, "--values")
		}
		command(t, words...).wants(t, exitOK, handle)
		proxy.Corrupt(nil)
		if strings.Contains(replies.String(), value) != asked {
			t.Errorf("asked: %t: %q", asked, replies.String())
		}
	}
}

func TestUnavailable(t *testing.T) {
	server := redistest.Start(t, "--requirepass", password)
	wrong, right := "REDIS_URL=redis://:wrong@"+server.Addr, "REDIS_URL=redis://:"+password+"@"+server.Addr
	command(t, right, "count").wants(t, exitOK, "0 sessions")
	for _, words := range [][]string{{"sessions", "ann"}, {"show", "0123456789abcdef"}, {"count"}, {"revoke", "--user", "ann"}, {"revoke", "0123456789abcdef"}, {"watch"}} {
		command(t, append([]string{wrong}, words...)...).wants(t, exitUnavailable, "password", "REDIS_URL")
	}
	command(t, wrong, "doctor").wants(t, exitFound, "problem  use", "use the server's user and password in REDIS_URL")
	server.Kill()
	for _, words := range [][]string{{"sessions", "ann"}, {"show", "0123456789abcdef"}, {"count"}, {"revoke", "--user", "ann"}, {"doctor"}, {"watch"}} {
		command(t, append([]string{right}, words...)...).wants(t, exitUnavailable, "unavailable")
	}
}

func TestUsage(t *testing.T) {
	file := filepath.Join(t.TempDir(), "url")
	if err := os.WriteFile(file, []byte("redis://:"+password+"@host:port"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		words []string
		says  string
	}{
		{[]string{"bogus"}, "bogus"},
		{[]string{"sessions"}, "<user>"},
		{[]string{"revoke"}, "--user"},
		{[]string{"revoke", "0123456789abcdef", "--user", "ann"}, "--user"},
		{[]string{"count", "--secret", "x"}, "--secret"},
		{[]string{"revoke", "short"}, "not a handle"},
		{[]string{"watch", "--interval=-1s"}, "must be positive"},
		{[]string{"watch", "--sweeps=-1"}, "not negative"},
		{[]string{"count", "--timeout=-1s"}, "--timeout"},
		{[]string{"count", "--db-sessions=-1"}, "--db-sessions"},
		{[]string{"count", "--db-notifications=-1"}, "--db-notifications"},
		{[]string{"REDIS_URL=http://:" + password + "@host", "count"}, "REDIS_URL has the scheme"},
		{[]string{"REDIS_URL_FILE=" + file, "count"}, "REDIS_URL"},
		{[]string{"REDIS_URL_FILE=" + file, "REDIS_URL=redis://host", "count"}, "both set"},
		{[]string{"REDIS_URL_FILE=" + file + "x", "doctor"}, "REDIS_URL_FILE"},
		{[]string{"REDIS_URL=redis://host", "REDIS_CLUSTER=a:1", "count"}, "REDIS_CLUSTER"},
		{[]string{"REDIS_SENTINELS=a:1", "count"}, "REDIS_SENTINEL_MASTER is empty"},
		{[]string{"SECRET=" + secret, "SECRETS=" + secret, "doctor"}, "both set"},
		{[]string{"keygen", "--rotate"}, "SECRETS"},
	} {
		command(t, c.words...).wants(t, exitUsage, c.says)
	}
}

func TestHelp(t *testing.T) {
	for _, name := range []string{"", "keygen", "doctor", "sessions", "show", "count", "revoke", "watch"} {
		r := command(t, append(strings.Fields(name), "--help")...)
		r.wants(t, exitOK, "Examples:\n", "pycket "+name)
	}
	command(t).wants(t, exitOK, "REDIS_URL")
}

func TestKeygen(t *testing.T) {
	form := regexp.MustCompile(`^[A-Za-z0-9+/]{43}=\n$`)
	a, b := command(t, "keygen"), command(t, "keygen")
	if a.code != exitOK || !form.MatchString(a.out) || a.out == b.out || a.err != "" {
		t.Errorf("%+v, %+v", a, b)
	}
	if _, err := pycket.New(pycket.Settings{Secrets: []string{strings.TrimSpace(a.out)}}); err != nil {
		t.Error(err)
	}
	if got := parse[map[string]string](t, command(t, "keygen", "--json")); !form.MatchString(got["secret"] + "\n") {
		t.Errorf("%v", got)
	}

	file := filepath.Join(t.TempDir(), "secrets")
	other := strings.Repeat("other, ", 7)
	if err := os.WriteFile(file, []byte(secret+"\r\n"+other+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	short := "short"
	for env, want := range map[string][]string{
		"SECRET=" + secret:                        {secret},
		"SECRET=" + other:                         {other},
		"SECRETS=" + secret + ", " + short:        {secret, short},
		"SECRETS=" + secret + "\n" + short + "\n": {secret, short},
		"SECRETS_FILE=" + file:                    {secret, strings.TrimSpace(other)},
	} {
		r := command(t, env, "keygen", "--rotate")
		r.wants(t, exitOK, "The first secret signs", "new secret last")
		lines := strings.Split(strings.TrimSuffix(r.out, "\n"), "\n")
		if !form.MatchString(lines[0]+"\n") || !slices.Equal(lines[1:], want) {
			t.Errorf("%q: %q, want %q", env, lines, want)
		}
		if warned := strings.Contains(r.err, "fewer than 32 bytes"); warned != slices.Contains(want, short) {
			t.Errorf("%q: %s", env, r.err)
		}
		if got := parse[map[string][]string](t, command(t, env, "keygen", "--rotate", "--json")); !slices.Equal(got["secrets"][1:], want) {
			t.Errorf("%v", got)
		}
	}
}

// A feed is standard output or standard error of a command that runs.
type feed struct {
	t     *testing.T
	lines chan string
}

func (f *feed) Write(b []byte) (int, error) {
	f.lines <- string(b)
	return len(b), nil
}

// next returns the next line.
func (f *feed) next() string {
	f.t.Helper()
	select {
	case line := <-f.lines:
		return line
	case <-time.After(time.Minute):
		f.t.Fatal("the command says nothing")
		return ""
	}
}

func TestWatch(t *testing.T) {
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		s := newSite(t, server, nil)
		known, _ := s.visit()
		ctx, stop := context.WithCancel(t.Context())
		out, errs := &feed{t, make(chan string, 1000)}, &feed{t, make(chan string, 1000)}
		code := make(chan int, 1)
		go func() {
			code <- run(ctx, []string{"watch", "--interval", "20ms", "--json"}, func(name string) string {
				return map[string]string{"REDIS_URL": server.URL()}[name]
			}, out, errs)
		}()
		defer func() {
			stop()
			if got := <-code; got != exitOK {
				t.Errorf("exit code %d", got)
			}
		}()
		// until reads lines until so much has happened, and returns what has.
		until := func(done func(change) bool) (sum change) {
			t.Helper()
			for {
				var c change
				line := out.next()
				if err := json.Unmarshal([]byte(line), &c); err != nil {
					t.Fatalf("%v: %q", err, line)
				}
				sum = change{Live: c.Live, Begun: sum.Begun + c.Begun, Rotated: sum.Rotated + c.Rotated, Ended: sum.Ended + c.Ended}
				if done(sum) {
					return sum
				}
			}
		}
		if sum := until(func(change) bool { return true }); sum != (change{Live: 1}) {
			t.Errorf("at first: %+v", sum)
		}
		s.login("ann")
		if sum := until(func(c change) bool { return c.Begun > 0 }); sum != (change{Live: 2, Begun: 1}) {
			t.Errorf("after a login: %+v", sum)
		}
		known, _ = s.as(known, func(session *pycket.SessionManager, _ *pycket.NotificationManager) error { return session.Rotate() })
		if sum := until(func(c change) bool { return c.Rotated > 0 }); sum != (change{Live: 2, Rotated: 1}) {
			t.Errorf("after a rotation: %+v", sum)
		}
		s.as(known, func(session *pycket.SessionManager, _ *pycket.NotificationManager) error { return session.Destroy() })
		if sum := until(func(c change) bool { return c.Ended > 0 }); sum != (change{Live: 1, Ended: 1}) {
			t.Errorf("after a logout: %+v", sum)
		}
		server.Kill()
		if line := errs.next(); !strings.Contains(line, "unavailable") {
			t.Errorf("while Redis is down: %q", line)
		}
		server.Restart()
		if sum := until(func(c change) bool { return c.Ended > 0 }); sum != (change{Ended: 1}) {
			t.Errorf("after Redis has lost all: %+v", sum)
		}
	})
	s := newSite(t, redistest.StartEmbedded(t), nil)
	s.visit()
	r := command(t, s.env, "watch", "--sweeps", "2", "--interval", "10ms")
	r.wants(t, exitOK, "LIVE", "BEGUN")
	if n := strings.Count(r.out, "\n"); n != 3 {
		t.Errorf("%d lines: %s", n, r.out)
	}
	interrupted, stop := context.WithCancel(t.Context())
	stop()
	var errs bytes.Buffer
	code := run(interrupted, []string{"watch"}, func(name string) string {
		return map[string]string{"REDIS_URL": strings.TrimPrefix(s.env, "REDIS_URL=")}[name]
	}, new(bytes.Buffer), &errs)
	if code != exitOK || errs.Len() > 0 {
		t.Errorf("interrupted in a sweep: exit code %d, %s", code, errs.String())
	}
}

var (
	block   = regexp.MustCompile(`(?m)^    (?:[A-Z_]+=\S+ )*pycket (.*)$`)
	tail    = regexp.MustCompile(` +(\||>|#).*$`)
	example = "3yC_T6XdhxcKgLo-"
)

// The examples on the page and in --help work.
func TestExamples(t *testing.T) {
	page, err := os.ReadFile("../../docs/command.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(page)
	for _, name := range []string{"", "keygen", "doctor", "sessions", "show", "count", "revoke", "watch"} {
		text += command(t, append(strings.Fields(name), "--help")...).out
	}
	tried := map[string]bool{}
	server := redistest.Start(t)
	s := newSite(t, server, nil)
	for _, found := range block.FindAllStringSubmatch(text, -1) {
		line := tail.ReplaceAllString(found[1], "")
		if tried[line] {
			continue
		}
		tried[line] = true
		words := strings.Fields(strings.ReplaceAll(line, example, s.login("ann")))
		if words[0] == "watch" {
			words = append(words, "--sweeps", "1")
		}
		command(t, append([]string{s.env, "SECRET=" + secret}, words...)...).wants(t, exitOK)
	}
	if len(tried) < 12 {
		t.Errorf("only %d examples", len(tried))
	}
}
