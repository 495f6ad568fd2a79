package main

import (
	"bufio"
	"context"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pycket/pycket"
	"github.com/pycket/pycket/embedded"
	"github.com/pycket/pycket/pyckettest"
)

// A screen is what a browser shows.
type screen struct {
	Name, Visits      string
	Entries, Messages []string
}

func show(page string) (s screen) {
	all := func(pattern string) (found []string) {
		for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(page, -1) {
			found = append(found, html.UnescapeString(strings.Join(m[1:], ": ")))
		}
		return found
	}
	s.Name = strings.Join(all(`<strong id="name">(.*?)</strong>`), "")
	s.Visits = strings.Join(all(`<span id="visits">(.*?)</span>`), "")
	s.Entries = all(`(?s)<p class="text">(.*?)</p>`)
	s.Messages = all(`<p class="message (\w+)".*?>(.*?)</p>`)
	return s
}

func check(t *testing.T, when string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", when, diff)
	}
}

func form(r *http.Request) *http.Request {
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return r
}

func fields(name, value string) io.Reader {
	return strings.NewReader(url.Values{name: {value}}.Encode())
}

// A visitor sees each page after the redirect of a form, as a browser does.
type visitor struct {
	t       *testing.T
	app     *pyckettest.App
	handler http.Handler
	after   pyckettest.State
}

func newVisitor(t *testing.T, before pyckettest.Session) *visitor {
	v := &visitor{t: t, app: pyckettest.New(t, pycket.Settings{})}
	v.handler = newHandler(v.app.App)
	_, v.after = v.app.Serve(http.NotFoundHandler(), v.app.Request("GET", "/", nil, before))
	return v
}

func (v *visitor) visit() screen {
	v.t.Helper()
	w, after := v.app.Serve(v.handler, v.after.Request("GET", "/", nil))
	v.after = after
	if w.Code != http.StatusOK || w.Header().Get("Cache-Control") != "no-store" {
		v.t.Errorf("the page: status %d, Cache-Control %q", w.Code, w.Header().Get("Cache-Control"))
	}
	return show(w.Body.String())
}

func (v *visitor) submit(path, name, value string) screen {
	v.t.Helper()
	w, after := v.app.Serve(v.handler, form(v.after.Request("POST", path, fields(name, value))))
	v.after = after
	if w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/" {
		v.t.Errorf("%s: status %d, Location %q", path, w.Code, w.Header().Get("Location"))
	}
	return v.visit()
}

func TestTour(t *testing.T) {
	v := newVisitor(t, pyckettest.Session{})
	check(t, "a stranger", v.visit(), screen{})
	if v.after.Live || v.after.Cookie != nil {
		t.Error("a stranger who only looked has a session")
	}
	noName := []string{"error: Please give a name of up to 40 characters."}
	check(t, "no name", v.submit("/login", "name", "  "), screen{Messages: noName})
	check(t, "a long name", v.submit("/login", "name", strings.Repeat("é", 41)), screen{Messages: noName})
	check(t, "after it", v.visit(), screen{})
	notNow := []string{"error: Please log in and write up to 280 characters."}
	check(t, "a stranger writes", v.submit("/entries", "text", "Hello"), screen{Messages: notNow})

	stranger := v.after
	check(t, "login", v.submit("/login", "name", " Ada <3 \xff"),
		screen{Name: "Ada <3 \uFFFD", Visits: "1", Messages: []string{"info: Welcome, Ada <3 \uFFFD."}})
	if _, old := v.app.Serve(v.handler, stranger.Request("GET", "/", nil)); old.Live {
		t.Error("the id from before the login is good")
	}
	check(t, "second visit", v.visit(), screen{Name: "Ada <3 \uFFFD", Visits: "2"})

	thanks := []string{"info: Thank you, it’s in the book."}
	check(t, "an entry", v.submit("/entries", "text", "one"),
		screen{Name: "Ada <3 \uFFFD", Visits: "3", Entries: []string{"one"}, Messages: thanks})
	check(t, "another", v.submit("/entries", "text", "<script>"),
		screen{Name: "Ada <3 \uFFFD", Visits: "4", Entries: []string{"<script>", "one"}, Messages: thanks})
	check(t, "nothing", v.submit("/entries", "text", " "),
		screen{Name: "Ada <3 \uFFFD", Visits: "5", Entries: []string{"<script>", "one"}, Messages: notNow})

	check(t, "another user", v.submit("/login", "name", "Grace"),
		screen{Name: "Grace", Visits: "1", Messages: []string{"info: Welcome, Grace."}})
	grace := v.after
	check(t, "logout", v.submit("/logout", "", ""), screen{Messages: []string{"info: You have been logged out."}})
	if _, old := v.app.Serve(v.handler, grace.Request("GET", "/", nil)); old.Live {
		t.Error("the id from before the logout is good")
	}
}

func TestOldestEntriesMakeRoom(t *testing.T) {
	var full []string
	for i := range 100 {
		full = append(full, fmt.Sprint("entry ", i))
	}
	v := newVisitor(t, pyckettest.Session{User: "ada", Values: pycket.Values{"entries": full}})
	v.submit("/entries", "text", strings.Repeat("é", 280))
	v.submit("/entries", "text", strings.Repeat("é", 281))
	check(t, "the entries", pyckettest.Value[[]string](v.after, "entries"), append([]string{strings.Repeat("é", 280)}, full[:99]...))
}

func TestMessagesAreShownOnceAndInOrder(t *testing.T) {
	v := newVisitor(t, pyckettest.Session{User: "ada", Messages: []pycket.Message{{Level: "info", Text: "one"}, {Level: "error", Text: "two"}}})
	check(t, "first", v.visit(), screen{Name: "ada", Visits: "1", Messages: []string{"info: one", "error: two"}})
	check(t, "then", v.visit(), screen{Name: "ada", Visits: "2"})
}

func TestSessionExpires(t *testing.T) {
	v := newVisitor(t, pyckettest.Session{User: "ada"})
	v.app.Advance(23 * time.Hour)
	check(t, "in time", v.visit(), screen{Name: "ada", Visits: "1"})
	v.app.Advance(25 * time.Hour)
	check(t, "too late", v.visit(), screen{})
}

func TestOtherSitesMayNotPost(t *testing.T) {
	v := newVisitor(t, pyckettest.Session{User: "ada"})
	for header, value := range map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://example.org"} {
		r := v.after.Request("POST", "/logout", nil)
		r.Header.Set(header, value)
		if w, after := v.app.Serve(v.handler, r); w.Code != http.StatusForbidden || !after.Live {
			t.Errorf("%s: status %d, live %v", header, w.Code, after.Live)
		}
	}
}

func TestRedisDown(t *testing.T) {
	v := newVisitor(t, pyckettest.Session{User: "ada"})
	v.app.SetDown(true)
	if w, _ := v.app.Serve(v.handler, httptest.NewRequest("GET", "/", nil)); w.Code != http.StatusOK {
		t.Errorf("a stranger, who needs no Redis, gets status %d", w.Code)
	}
	for _, r := range []*http.Request{
		v.after.Request("GET", "/", nil),
		form(v.after.Request("POST", "/entries", fields("text", "Hello"))),
		form(v.after.Request("POST", "/login", fields("name", "Bob"))),
		v.after.Request("POST", "/logout", nil),
	} {
		if w, after := v.app.Serve(v.handler, r); w.Code != http.StatusServiceUnavailable || after.Cookie != nil {
			t.Errorf("%s %s: status %d, cookie %v", r.Method, r.URL, w.Code, after.Cookie)
		}
	}
	v.app.SetDown(false)
	check(t, "afterwards", v.visit(), screen{Name: "ada", Visits: "1"})
}

// A form that arrives when another tab has just logged out writes nothing, and leads to the page.
func TestLogoutMeanwhile(t *testing.T) {
	v := newVisitor(t, pyckettest.Session{User: "ada"})
	late := form(v.after.Request("POST", "/entries", fields("text", "too late")))
	late.Body = io.NopCloser(io.MultiReader(reading(func() { v.app.Serve(v.handler, v.after.Request("POST", "/logout", nil)) }), late.Body))
	w, after := v.app.Serve(v.handler, late)
	if w.Code != http.StatusSeeOther || after.Cookie != nil || after.Live {
		t.Errorf("status %d, %+v", w.Code, after)
	}
}

// reading is a body with nothing in it, of which the handler's reading is told.
type reading func()

func (f reading) Read([]byte) (int, error) { f(); return 0, io.EOF }

// The program, with another Redis and a secret: sessions outlive it. On its own, it brings both.
func TestProgram(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "guestbook")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	redis, err := embedded.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	start := func(env []string, args ...string) (page string, stop func()) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		program := exec.CommandContext(ctx, binary, args...)
		program.Env = append(os.Environ(), env...)
		stderr, err := program.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := program.Start(); err != nil {
			t.Fatal(err)
		}
		stop = func() { cancel(); program.Wait() }
		t.Cleanup(stop)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			if found := regexp.MustCompile(`http://[\d.:]+/$`).FindString(lines.Text()); found != "" {
				return found, stop
			}
			page += lines.Text()
		}
		return page, stop
	}
	jar, _ := cookiejar.New(nil)
	browser := &http.Client{Jar: jar}
	read := func(response *http.Response, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		return string(body)
	}
	kept := []string{"REDIS_URL=" + redis.URL(), "SECRET=" + strings.Repeat("s", 32)}
	page, stop := start(kept)
	check(t, "login", show(read(browser.PostForm(page+"login", url.Values{"name": {"Ada"}}))),
		screen{Name: "Ada", Visits: "1", Messages: []string{"info: Welcome, Ada."}})
	if style := read(browser.Get(page + "pages/style.css")); !strings.Contains(style, "color-scheme") {
		t.Error("there is no style sheet")
	}
	stop()
	_, stop = start(kept, "-addr", strings.Trim(page, "htp:/"))
	check(t, "after a restart", show(read(browser.Get(page))), screen{Name: "Ada", Visits: "2"})
	stop()
	redis.Close()
	alone, stop := start([]string{"REDIS_URL=", "SECRET="})
	check(t, "on its own", show(read(browser.Get(alone))), screen{})
	stop()

	for want, c := range map[string]struct{ env, args []string }{
		"redis is unavailable":    {kept, nil},
		"Redis.URL":               {[]string{"REDIS_URL=http://localhost"}, nil},
		"32 or more random bytes": {[]string{"REDIS_URL=", "SECRET=short"}, nil},
		"nowhere":                 {[]string{"REDIS_URL=", "SECRET="}, []string{"-addr", "nowhere"}},
		"-port":                   {nil, []string{"-port", "80"}},
	} {
		if said, _ := start(c.env, c.args...); !strings.Contains(said, want) {
			t.Errorf("it says %q, want something about %q", said, want)
		}
	}
}
