package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"html"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/http/httptrace"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pycket/pycket"
	"github.com/pycket/pycket/embedded"
)

const secret = "a secret for tests, and for tests only"

// A site is the guestbook with its own Redis.
type site struct {
	*httptest.Server
	redis *embedded.Server
	log   bytes.Buffer // read it when no request is under way
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{redis: newRedis(t, "127.0.0.1:0")}
	app, err := pycket.New(pycket.Settings{
		Secrets: []string{secret},
		Redis:   pycket.RedisSettings{URL: s.redis.URL()},
	})
	require(t, err)
	t.Cleanup(func() {
		if err := app.Close(); err != nil {
			t.Error(err)
		}
	})
	s.Server = httptest.NewServer(newHandler(app, slog.New(slog.NewTextHandler(&s.log, nil))))
	t.Cleanup(s.Server.Close)
	return s
}

func newRedis(t *testing.T, address string) *embedded.Server {
	t.Helper()
	redis, err := embedded.Start(address)
	require(t, err)
	t.Cleanup(redis.Close)
	return redis
}

// A browser keeps cookies and follows redirects.
type browser struct {
	t      *testing.T
	site   string
	client http.Client
}

func newBrowser(t *testing.T, site string) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	require(t, err)
	return &browser{t, site, http.Client{Jar: jar}}
}

// A screen is what a browser shows.
type screen struct {
	Status   int
	Name     string
	Visits   string
	Entries  []string
	Draft    string
	Messages []string // "level: text"
}

func (b *browser) visit() screen {
	b.t.Helper()
	return b.show(b.client.Get(b.site + "/"))
}

// submit posts a form and shows the page that the redirect leads to.
func (b *browser) submit(path string, fields ...string) screen {
	b.t.Helper()
	return b.show(b.client.PostForm(b.site+path, form(fields)))
}

func form(fields []string) url.Values {
	values := url.Values{}
	for i := 0; i < len(fields); i += 2 {
		values.Set(fields[i], fields[i+1])
	}
	return values
}

// post posts a form and doesn't follow the redirect.
func (b *browser) post(path string, fields ...string) *http.Response {
	b.t.Helper()
	client := b.client
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	response, err := client.PostForm(b.site+path, form(fields))
	if err != nil {
		b.t.Fatal(err)
	}
	response.Body.Close()
	return response
}

func (b *browser) show(response *http.Response, err error) screen {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	s := screen{
		Status: response.StatusCode,
		Name:   first(`<strong id="name">(.*?)</strong>`, body),
		Visits: first(`<span id="visits">(.*?)</span>`, body),
		Draft:  first(`(?s)<textarea.*?>(.*?)</textarea>`, body),
	}
	for _, entry := range all(`(?s)<p class="text">(.*?)</p>`, body) {
		s.Entries = append(s.Entries, entry[0])
	}
	for _, message := range all(`<p class="message (\w+)".*?>(.*?)</p>`, body) {
		s.Messages = append(s.Messages, message[0]+": "+message[1])
	}
	return s
}

func all(pattern string, body []byte) (found [][]string) {
	for _, match := range regexp.MustCompile(pattern).FindAllStringSubmatch(string(body), -1) {
		for i := range match {
			match[i] = html.UnescapeString(match[i])
		}
		found = append(found, match[1:])
	}
	return found
}

func first(pattern string, body []byte) string {
	if found := all(pattern, body); len(found) > 0 {
		return found[0][0]
	}
	return ""
}

// cookie is the value of the session's cookie, "" if there is none.
func (b *browser) cookie() string {
	b.t.Helper()
	u, err := url.Parse(b.site)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, c := range b.client.Jar.Cookies(u) {
		if c.Name == "PYCKET_ID" {
			return c.Value
		}
	}
	return ""
}

// with returns a browser that has somebody's cookie.
func (b *browser) with(cookie string) *browser {
	b.t.Helper()
	other := newBrowser(b.t, b.site)
	u, err := url.Parse(b.site)
	if err != nil {
		b.t.Fatal(err)
	}
	other.client.Jar.SetCookies(u, []*http.Cookie{{Name: "PYCKET_ID", Value: cookie}})
	return other
}

func check(t *testing.T, when string, got, want screen) {
	t.Helper()
	if want.Status == 0 {
		want.Status = http.StatusOK
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s: the page is not as wanted (-want +got):\n%s", when, diff)
	}
}

func TestTour(t *testing.T) {
	site := newSite(t)
	b := newBrowser(t, site.URL)

	check(t, "a stranger", b.visit(), screen{})
	if b.cookie() != "" {
		t.Error("a stranger who only looked has a cookie")
	}

	check(t, "login without a name", b.submit("/login", "name", "  "), screen{Messages: []string{"error: Please give a name."}})
	check(t, "after it", b.visit(), screen{})
	stranger := b.cookie()
	if stranger == "" {
		t.Fatal("the message came without a session")
	}

	check(t, "login", b.submit("/login", "name", " Ada <3 "), screen{Name: "Ada <3", Visits: "1", Messages: []string{"info: Welcome, Ada <3."}})
	ada := b.cookie()
	if ada == stranger || ada == "" {
		t.Error("login did not rotate the id")
	}
	check(t, "with the id from before the login", b.with(stranger).visit(), screen{})

	check(t, "second visit", b.visit(), screen{Name: "Ada <3", Visits: "2"})
	check(t, "third visit", b.visit(), screen{Name: "Ada <3", Visits: "3"})

	thanks := []string{"info: Thank you, it’s in the book."}
	check(t, "first entry", b.submit("/entries", "text", "one\r\ntwo"),
		screen{Name: "Ada <3", Visits: "4", Entries: []string{"one\ntwo"}, Messages: thanks})
	check(t, "second entry", b.submit("/entries", "text", "<script>"),
		screen{Name: "Ada <3", Visits: "5", Entries: []string{"<script>", "one\ntwo"}, Messages: thanks})
	check(t, "after it", b.visit(),
		screen{Name: "Ada <3", Visits: "6", Entries: []string{"<script>", "one\ntwo"}})
	if b.cookie() != ada {
		t.Error("the cookie changed without need")
	}

	check(t, "logout", b.submit("/logout"), screen{Messages: []string{"info: You have been logged out."}})
	check(t, "after it", b.visit(), screen{})
	if c := b.cookie(); c == ada || c == "" {
		t.Error("logout did not start a fresh session")
	}
	check(t, "with the id from before the logout", b.with(ada).visit(), screen{})

	check(t, "another login", b.submit("/login", "name", "Ada"),
		screen{Name: "Ada", Visits: "1", Messages: []string{"info: Welcome, Ada."}})
	if site.log.Len() > 0 {
		t.Errorf("the log is not empty: %s", &site.log)
	}
}

func TestMessagesWaitInOrder(t *testing.T) {
	b := newBrowser(t, newSite(t).URL)
	for _, answer := range []*http.Response{
		b.post("/login", "name", "Ada"),
		b.post("/entries", "text", "Hello"),
		b.post("/entries"),
	} {
		if answer.StatusCode != http.StatusSeeOther || answer.Header.Get("Location") != "/" {
			t.Errorf("%s: %s, Location %q", answer.Request.URL.Path, answer.Status, answer.Header.Get("Location"))
		}
	}
	check(t, "all at once", b.visit(), screen{Name: "Ada", Visits: "1", Entries: []string{"Hello"}, Messages: []string{
		"info: Welcome, Ada.", "info: Thank you, it’s in the book.", "error: Please write something.",
	}})
	check(t, "after it", b.visit(), screen{Name: "Ada", Visits: "2", Entries: []string{"Hello"}})
}

func TestAnotherLogin(t *testing.T) {
	b := newBrowser(t, newSite(t).URL)
	b.submit("/login", "name", "Ada")
	b.submit("/entries", "text", "Hello")
	check(t, "the same user", b.submit("/login", "name", "Ada"),
		screen{Name: "Ada", Visits: "3", Entries: []string{"Hello"}, Messages: []string{"info: Welcome, Ada."}})
	check(t, "another user", b.submit("/login", "name", "Grace"),
		screen{Name: "Grace", Visits: "1", Messages: []string{"info: Welcome, Grace."}})
}

func TestDraftComesBackOnce(t *testing.T) {
	b := newBrowser(t, newSite(t).URL)
	check(t, "a stranger writes", b.submit("/entries", "text", "Hello"),
		screen{Messages: []string{"error: Please log in first. Your text is kept until then."}})
	check(t, "login", b.submit("/login", "name", "Ada"),
		screen{Name: "Ada", Visits: "1", Draft: "Hello", Messages: []string{"info: Welcome, Ada."}})
	check(t, "after it", b.visit(), screen{Name: "Ada", Visits: "2"})

	long := strings.Repeat("é", maxText+1)
	check(t, "too long a text", b.submit("/entries", "text", long),
		screen{Name: "Ada", Visits: "3", Draft: long, Messages: []string{"error: Your text has 281 characters, and there is room for 280."}})
	check(t, "after it", b.visit(), screen{Name: "Ada", Visits: "4"})
}

func TestLimits(t *testing.T) {
	b := newBrowser(t, newSite(t).URL)
	check(t, "too long a name", b.submit("/login", "name", strings.Repeat("x", maxName+1)),
		screen{Messages: []string{"error: Please give a name of up to 40 characters."}})
	check(t, "bytes that are no text", b.submit("/login", "name", "A\xffda"),
		screen{Name: "A\uFFFDda", Visits: "1", Messages: []string{"info: Welcome, A\uFFFDda."}})
	check(t, "too large a form", b.submit("/entries", "text", strings.Repeat("x", maxForm)),
		screen{Status: http.StatusBadRequest})

	var newest []string
	for i := range maxEntries + 2 {
		b.post("/entries", "text", fmt.Sprint(i))
		newest = append([]string{fmt.Sprint(i)}, newest...)
	}
	if diff := cmp.Diff(newest[:maxEntries], b.visit().Entries); diff != "" {
		t.Errorf("the oldest entries did not make room (-want +got):\n%s", diff)
	}
}

func TestOtherSitesMayNotPost(t *testing.T) {
	b := newBrowser(t, newSite(t).URL)
	b.submit("/login", "name", "Ada")
	for header, value := range map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://example.com"} {
		request, err := http.NewRequest("POST", b.site+"/logout", nil)
		require(t, err)
		request.Header.Set(header, value)
		check(t, header, b.show(b.client.Do(request)), screen{Status: http.StatusForbidden})
	}
	check(t, "after it", b.visit(), screen{Name: "Ada", Visits: "2"})
}

func TestPageIsNotKept(t *testing.T) {
	b := newBrowser(t, newSite(t).URL)
	b.submit("/login", "name", "Ada")
	response, err := b.client.Get(b.site + "/")
	require(t, err)
	response.Body.Close()
	if got := response.Header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control is %q", got)
	}
}

func TestRedisDown(t *testing.T) {
	site := newSite(t)
	b := newBrowser(t, site.URL)
	b.submit("/login", "name", "Ada")
	b.submit("/entries", "text", "Hello")
	cookie, address := b.cookie(), site.redis.Addr()

	site.redis.Close()
	check(t, "a stranger", newBrowser(t, site.URL).visit(), screen{}) // doesn't need Redis
	check(t, "Ada", b.visit(), screen{Status: http.StatusServiceUnavailable})
	check(t, "Ada writes", b.submit("/entries", "text", "Hello again"), screen{Status: http.StatusServiceUnavailable})
	check(t, "Ada leaves", b.submit("/logout"), screen{Status: http.StatusServiceUnavailable})
	if b.cookie() != cookie {
		t.Error("the cookie did not stay")
	}

	log := site.log.String()
	if got := strings.Count(log, "level=ERROR"); got != 3 {
		t.Errorf("%d lines in the log, want 3:\n%s", got, log)
	}
	for _, private := range []string{"Ada", "Hello", cookie} {
		if strings.Contains(log, private) {
			t.Errorf("the log holds %q:\n%s", private, log)
		}
	}

	newRedis(t, address)
	check(t, "with an empty Redis", b.visit(), screen{})
	check(t, "login", b.submit("/login", "name", "Ada"),
		screen{Name: "Ada", Visits: "1", Messages: []string{"info: Welcome, Ada."}})
}

// TestLogoutMeanwhile ends a session while another of its requests is under way.
func TestLogoutMeanwhile(t *testing.T) {
	site := newSite(t)
	b := newBrowser(t, site.URL)
	b.submit("/login", "name", "Ada")
	late := b.with(b.cookie())

	// The server asks for the form when the handler reads it, so the request has got that far.
	form, send := io.Pipe()
	reads := make(chan bool)
	trace := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got100Continue: func() { close(reads) }})
	request, err := http.NewRequestWithContext(trace, "POST", site.URL+"/entries", form)
	require(t, err)
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Expect", "100-continue")
	before := late.cookie()
	type answer struct {
		*http.Response
		error
	}
	answers := make(chan answer, 1)
	go func() {
		response, err := late.client.Do(request)
		answers <- answer{response, err}
	}()
	select {
	case <-reads:
	case got := <-answers:
		t.Fatalf("the late request did not wait for its form: %+v", got)
	}
	b.submit("/logout")
	io.WriteString(send, "text=too+late")
	send.Close()
	got := <-answers
	check(t, "the late entry", late.show(got.Response, got.error), screen{})
	if late.cookie() != before {
		t.Error("the late request set a cookie")
	}
	check(t, "login after it", b.submit("/login", "name", "Ada"),
		screen{Name: "Ada", Visits: "1", Messages: []string{"info: Welcome, Ada."}})
}

func TestSorry(t *testing.T) {
	type answer struct {
		Status   int
		Location string
		Logged   bool
	}
	for _, c := range []struct {
		err  error
		want answer
	}{
		{pycket.ErrGone, answer{http.StatusSeeOther, "/", false}},
		{pycket.ErrUnavailable, answer{http.StatusServiceUnavailable, "", true}},
		{pycket.ErrTooLarge, answer{http.StatusInternalServerError, "", true}},
		{errors.New("any other"), answer{http.StatusInternalServerError, "", true}},
		{errForm, answer{http.StatusBadRequest, "", false}},
	} {
		var log bytes.Buffer
		g := guestbook{log: slog.New(slog.NewTextHandler(&log, nil))}
		w := httptest.NewRecorder()
		g.sorry(w, httptest.NewRequest("POST", "/entries", nil), fmt.Errorf("wrapped: %w", c.err))
		got := answer{w.Code, w.Header().Get("Location"), log.Len() > 0}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%v (-want +got):\n%s", c.err, diff)
		}
	}
}

// start runs the program until stop is called. It returns the page's URL and what was printed.
func start(t *testing.T, args ...string) (page, printed string, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	output, stdout := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := run(ctx, args, stdout)
		stdout.CloseWithError(err)
		ended <- err
	}()
	lines := bufio.NewScanner(output)
	for lines.Scan() {
		printed += lines.Text() + "\n"
		if address, ok := strings.CutPrefix(lines.Text(), "Page:"); ok {
			page = strings.TrimSuffix(strings.TrimSpace(address), "/")
			break
		}
	}
	if page == "" {
		t.Fatalf("run printed no page: %v\n%s", lines.Err(), printed)
	}
	return page, printed, func() {
		t.Helper()
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("run: %v", err)
			}
		case <-time.After(20 * time.Second):
			t.Error("run did not stop")
		}
	}
}

func TestRun(t *testing.T) {
	t.Setenv("REDIS_URL", "")
	t.Setenv("SECRET", "")
	page, printed, stop := start(t)
	for _, want := range []string{"Redis:  embedded, at redis://127.0.0.1:", "sessions end with the program"} {
		if !strings.Contains(printed, want) {
			t.Errorf("%q was not printed:\n%s", want, printed)
		}
	}
	b := newBrowser(t, page)
	check(t, "a stranger", b.visit(), screen{})
	check(t, "login", b.submit("/login", "name", "Ada"),
		screen{Name: "Ada", Visits: "1", Messages: []string{"info: Welcome, Ada."}})
	response, err := b.client.Get(page + "/style.css")
	require(t, err)
	response.Body.Close()
	if got := response.Header.Get("Content-Type"); got != "text/css; charset=utf-8" {
		t.Errorf("the style sheet is %s, %s", response.Status, got)
	}
	stop()
	if _, err := b.client.Get(page); err == nil {
		t.Error("the page is still there")
	}
}

func TestSessionsOutliveTheProgram(t *testing.T) {
	redis := newRedis(t, "127.0.0.1:0")
	t.Setenv("REDIS_URL", redis.URL())
	t.Setenv("SECRET", secret)
	page, printed, stop := start(t)
	want := fmt.Sprintf("Redis:  %s, from REDIS_URL\nPage:   %s/\n", redis.URL(), page)
	if diff := cmp.Diff(want, printed); diff != "" {
		t.Errorf("printed (-want +got):\n%s", diff)
	}
	b := newBrowser(t, page)
	b.submit("/login", "name", "Ada")
	stop()

	_, _, stop = start(t, "-addr", strings.TrimPrefix(page, "http://"))
	defer stop()
	check(t, "after a restart", b.visit(), screen{Name: "Ada", Visits: "2"})
}

func TestRunRefuses(t *testing.T) {
	redis := newRedis(t, "127.0.0.1:0")
	dead := redis.URL()
	redis.Close()
	for name, c := range map[string]struct {
		redisURL, secret string
		args             []string
		want             string
	}{
		"no Redis there":       {redisURL: dead, want: "redis is unavailable"},
		"no URL of a Redis":    {redisURL: "http://localhost", want: "Redis.URL"},
		"a short secret":       {secret: "short", want: "32 or more random bytes"},
		"an address with none": {args: []string{"-addr", "nowhere"}, want: "nowhere"},
		"an unknown flag":      {args: []string{"-port", "80"}, want: "-port"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("REDIS_URL", c.redisURL)
			t.Setenv("SECRET", c.secret)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			err := run(ctx, c.args, io.Discard)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("run: %v, want something about %q", err, c.want)
			}
		})
	}
}

func TestPasswordIsNotPrinted(t *testing.T) {
	for raw, want := range map[string]string{
		"redis://localhost:6379":          "redis://localhost:6379",
		"rediss://ada:secret@localhost/3": "rediss://localhost/3",
		"redis://secret@localhost":        "redis://localhost",
		"unix://:secret@/run/redis.sock":  "unix:///run/redis.sock",
		"redis://:sec%ret@localhost":      "unreadable",
	} {
		if got := withoutPassword(raw); got != want {
			t.Errorf("withoutPassword(%q) is %q, want %q", raw, got, want)
		}
	}
}

func require(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
