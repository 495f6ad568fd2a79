package main

import (
	"bytes"
	"context"
	"html"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pycket/pycket"
	"github.com/pycket/pycket/pyckettest"
)

const secret = "a secret for tests, and for tests only"

// A site is a running shop.
type site struct {
	*httptest.Server
	log bytes.Buffer // read it when no request is under way
}

// newSite starts a shop. change changes it before.
func newSite(t *testing.T, redis *pyckettest.Redis, change func(*shop)) *site {
	t.Helper()
	site := &site{}
	s := newShop(redis.New(t, settings(secret, "")).App, slog.New(slog.NewTextHandler(&site.log, nil)), 5*time.Minute)
	s.askWarehouse = func(context.Context) {}
	if change != nil {
		change(&s)
	}
	site.Server = httptest.NewServer(s.handler())
	t.Cleanup(site.Server.Close)
	return site
}

func require(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A browser keeps cookies and follows redirects.
type browser struct {
	t      *testing.T
	site   string
	client http.Client
}

func newBrowser(t *testing.T, site *site) *browser {
	jar, err := cookiejar.New(nil)
	require(t, err)
	return &browser{t, site.URL, http.Client{Jar: jar}}
}

// A screen is what a browser shows.
type screen struct {
	Status   int    // 0 means 200
	Path     string // of the page
	Title    string
	User     string
	Cart     string // how many things
	Messages []string
}

var (
	titles   = regexp.MustCompile(`<h1>(.*?)</h1>`)
	counts   = regexp.MustCompile(`<span class="count">(\d+)</`)
	users    = regexp.MustCompile(`href="/account"`)
	messages = regexp.MustCompile(`<li class="(\w+)"><span class="unseen">.*?</span>(.*?)</li>`)
)

func (b *browser) get(path string) (screen, string) {
	b.t.Helper()
	response, err := b.client.Get(b.site + path)
	return b.show(response, err)
}

// post posts a form and shows the page that the redirect leads to.
func (b *browser) post(path string, fields ...string) (screen, string) {
	b.t.Helper()
	values := url.Values{}
	for i := 0; i < len(fields); i += 2 {
		values.Set(fields[i], fields[i+1])
	}
	response, err := b.client.PostForm(b.site+path, values)
	return b.show(response, err)
}

func (b *browser) login(user string) {
	b.t.Helper()
	for _, account := range demo {
		if account.User == user {
			if s, _ := b.post("/login", "name", user, "password", account.Password); s.User == "" {
				b.t.Fatalf("%s is not logged in: %+v", user, s)
			}
		}
	}
}

func (b *browser) show(response *http.Response, err error) (screen, string) {
	b.t.Helper()
	if err != nil {
		b.t.Error(err)
		return screen{}, ""
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		b.t.Error(err)
	}
	body := html.UnescapeString(string(data))
	s := screen{Path: response.Request.URL.Path, Title: first(titles, body), Cart: first(counts, body)}
	if response.StatusCode != http.StatusOK {
		s.Status = response.StatusCode
	}
	if users.MatchString(body) {
		s.User = "somebody"
	}
	for _, m := range messages.FindAllStringSubmatch(body, -1) {
		s.Messages = append(s.Messages, m[1]+": "+m[2])
	}
	return s, body
}

func first(pattern *regexp.Regexp, body string) string {
	if found := pattern.FindStringSubmatch(body); found != nil {
		return found[1]
	}
	return ""
}

// cookie is the value of the session's cookie, "" if there is none.
func (b *browser) cookie() string {
	u, err := url.Parse(b.site)
	require(b.t, err)
	for _, c := range b.client.Jar.Cookies(u) {
		return c.Value
	}
	return ""
}

func check(t *testing.T, when string, got screen, want screen) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s: the page is not as wanted (-want +got):\n%s", when, diff)
	}
}

func wantHas(t *testing.T, body string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(body, text) {
			t.Errorf("the page has no %q:\n%s", text, body)
		}
	}
}

func TestTour(t *testing.T) {
	site := newSite(t, pyckettest.NewRedis(t), nil)
	b := newBrowser(t, site)

	got, _ := b.get("/")
	check(t, "a stranger", got, screen{Path: "/", Title: "Things for your pocket"})
	got, _ = b.get("/cart")
	check(t, "an empty cart", got, screen{Path: "/cart", Title: "Your cart"})
	if b.cookie() != "" {
		t.Error("a stranger who only looked has a cookie")
	}

	got, _ = b.post("/cart", "product", "compass")
	check(t, "add", got, screen{Path: "/", Title: "Things for your pocket", Cart: "1",
		Messages: []string{"success: Compass: added to your cart."}})
	stranger := b.cookie()
	got, body := b.post("/cart/watch", "quantity", "5")
	check(t, "more than there are", got, screen{Path: "/cart", Title: "Your cart", Cart: "4",
		Messages: []string{"warning: Pocket watch: there are only 3.", "success: Pocket watch: now 3."}})
	wantHas(t, body, "€360.00", "€384.00")
	got, _ = b.get("/")
	check(t, "messages are shown once", got, screen{Path: "/", Title: "Things for your pocket", Cart: "4"})
	got, _ = b.post("/cart", "product", "watch")
	check(t, "one more", got, screen{Path: "/", Title: "Things for your pocket", Cart: "4",
		Messages: []string{"warning: Pocket watch: there are only 3, and you have them all."}})

	got, _ = b.get("/checkout")
	check(t, "checkout by a stranger", got, screen{Path: "/login", Title: "Log in", Cart: "4",
		Messages: []string{"warning: Please log in first."}})
	got, body = b.post("/login", "name", " Ada ", "password", "wrong")
	check(t, "a wrong password", got, screen{Path: "/login", Title: "Log in", Cart: "4",
		Messages: []string{"error: That is not the name and password of an account."}})
	wantHas(t, body, `value="ada"`)
	got, body = b.post("/login", "name", " Ada ", "password", "analytical")
	check(t, "login", got, screen{Path: "/checkout", Title: "Check out", User: "somebody", Cart: "4",
		Messages: []string{"success: Welcome, ada.", "success: Your cart is still yours."}})
	wantHas(t, body, "To ada", "3 × Pocket watch", "€384.00")
	if b.cookie() == stranger {
		t.Error("the login did not rotate the id")
	}

	got, body = b.post("/checkout")
	check(t, "order", got, screen{Path: "/order", Title: "Your order", User: "somebody",
		Messages: []string{"success: Thank you. Your order is placed."}})
	wantHas(t, body, "3 × Pocket watch", "€384.00")
	_, body = b.get("/order")
	wantHas(t, body, "No receipt is waiting.")
	got, _ = b.get("/checkout")
	check(t, "checkout without a cart", got, screen{Path: "/cart", Title: "Your cart", User: "somebody",
		Messages: []string{"warning: Your cart is empty."}})

	got, _ = b.post("/cart/pen", "quantity", "2")
	check(t, "two pens", got, screen{Path: "/cart", Title: "Your cart", User: "somebody", Cart: "2",
		Messages: []string{"success: Brass pen: now 2."}})
	got, _ = b.post("/cart/pen", "quantity", "0")
	check(t, "no pens", got, screen{Path: "/cart", Title: "Your cart", User: "somebody",
		Messages: []string{"success: Brass pen: removed."}})
	for _, quantity := range []string{"", "-1", "1.5", "many"} {
		got, _ = b.post("/cart/pen", "quantity", quantity)
		check(t, "quantity "+quantity, got, screen{Path: "/cart", Title: "Your cart", User: "somebody",
			Messages: []string{"error: Please give a whole number."}})
	}

	got, _ = b.post("/logout")
	check(t, "logout", got, screen{Path: "/", Title: "Things for your pocket",
		Messages: []string{"success: You are logged out."}})
	got, _ = b.get("/account")
	check(t, "account of nobody", got, screen{Path: "/login", Title: "Log in",
		Messages: []string{"warning: Please log in first."}})
	if site.log.Len() > 0 {
		t.Errorf("the log is not empty: %s", &site.log)
	}
}

// TestTwentyAtOnce holds all requests between their reading and their writing. Update loses none of them, and of what
// reads, changes and writes, one is left.
func TestTwentyAtOnce(t *testing.T) {
	var together sync.WaitGroup
	together.Add(20)
	site := newSite(t, pyckettest.NewRedis(t), func(s *shop) {
		s.askWarehouse = func(context.Context) { together.Done(); together.Wait() }
	})
	b := newBrowser(t, site)
	b.post("/pencils/none")
	var requests sync.WaitGroup
	for range 20 {
		requests.Go(func() { b.post("/pencils") })
	}
	requests.Wait()
	_, body := b.get("/")
	wantHas(t, body, `<dd id="kept">20</dd>`, `<dd id="naive">1</dd>`)

	b.post("/pencils/none")
	_, body = b.get("/")
	wantHas(t, body, `<dd id="kept">0</dd>`, `<dd id="naive">0</dd>`)
}

// TestParallelTabs reads the messages of many requests by many tabs: each is shown, and each once.
func TestParallelTabs(t *testing.T) {
	b := newBrowser(t, newSite(t, pyckettest.NewRedis(t), nil))
	b.get("/")
	b.post("/cart", "product", "pen")
	noRedirect := *b
	noRedirect.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	for range 5 {
		noRedirect.post("/cart", "product", "pen")
	}
	var mu sync.Mutex
	var tabs sync.WaitGroup
	shown := 0
	for range 10 {
		tabs.Go(func() {
			s, _ := b.get("/")
			mu.Lock()
			defer mu.Unlock()
			shown += len(s.Messages)
		})
	}
	tabs.Wait()
	if shown != 5 {
		t.Errorf("%d messages were shown, want 5", shown)
	}
}

func TestTwoShopsShareLogins(t *testing.T) {
	redis := pyckettest.NewRedis(t)
	one, other := newSite(t, redis, nil), newSite(t, redis, nil)
	b := newBrowser(t, one)
	b.post("/cart", "product", "pen")
	b.login("ada")
	b.site = other.URL
	got, _ := b.get("/account")
	check(t, "at the other shop", got, screen{Path: "/account", Title: "Your account", User: "somebody", Cart: "1"})
	b.post("/logout")
	b.site = one.URL
	got, _ = b.get("/")
	check(t, "logged out by the other shop", got, screen{Path: "/", Title: "Things for your pocket"})
}

var handles = regexp.MustCompile(`action="/account/devices/(.*?)"`)

func TestDevices(t *testing.T) {
	site := newSite(t, pyckettest.NewRedis(t), nil)
	laptop, phone, grace := newBrowser(t, site), newBrowser(t, site), newBrowser(t, site)
	laptop.login("ada")
	_, body := laptop.get("/account")
	if n := len(handles.FindAllString(body, -1)); n != 0 {
		t.Errorf("%d other devices, want none", n)
	}
	got, _ := laptop.post("/account/others")
	check(t, "no other device", got, screen{Path: "/account", Title: "Your account", User: "somebody",
		Messages: []string{"warning: No other device was logged in."}})

	phone.login("ada")
	grace.login("grace")
	_, body = laptop.get("/account")
	phones := first(handles, body)

	// What is in the form of one user is of no use to another.
	got, _ = grace.post("/account/devices/" + phones)
	check(t, "somebody else's device", got, screen{Path: "/account", Title: "Your account", User: "somebody",
		Messages: []string{"warning: That device was logged out already."}})
	if got, _ := phone.get("/"); got.User == "" {
		t.Error("grace has logged out ada's phone")
	}

	got, _ = laptop.post("/account/devices/" + phones)
	check(t, "end the phone", got, screen{Path: "/account", Title: "Your account", User: "somebody",
		Messages: []string{"success: That device is logged out."}})
	got, _ = phone.get("/account")
	if got.Path != "/login" {
		t.Errorf("the phone is at %s, want /login", got.Path)
	}

	phone, tablet := newBrowser(t, site), newBrowser(t, site)
	phone.login("ada")
	tablet.login("ada")
	got, _ = laptop.post("/account/others")
	check(t, "end all others", got, screen{Path: "/account", Title: "Your account", User: "somebody",
		Messages: []string{"success: 2 other devices are logged out."}})
	for name, b := range map[string]*browser{"phone": phone, "tablet": tablet} {
		if got, _ := b.get("/"); got.User != "" {
			t.Errorf("the %s is still logged in", name)
		}
	}
	if got, _ := grace.get("/"); got.User == "" {
		t.Error("grace is logged out")
	}
}

func TestDeviceNames(t *testing.T) {
	for agent, want := range map[string]string{
		"": "Another program",
		"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0":             "Firefox on Linux",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) … Chrome/143.0.0.0 Safari/537.36 Edg/143": "Edge on Windows",
		"Mozilla/5.0 (Linux; Android 10; K) … Chrome/143.0.0.0 Mobile Safari/537.36":         "Chrome on Android",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) … Version/18.6 Safari/604":   "Safari on iPhone",
		"curl/8.5.0": "curl",
	} {
		if got := (device{pycket.SessionInfo{UserAgent: agent}}).Name(); got != want {
			t.Errorf("%s: %q, want %q", agent, got, want)
		}
	}
}

func TestRemember(t *testing.T) {
	redis := pyckettest.NewRedis(t)
	site := newSite(t, redis, nil)
	for remember, want := range map[string]bool{"": false, "yes": true} {
		b := newBrowser(t, site)
		b.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		response, err := b.client.PostForm(site.URL+"/login",
			url.Values{"name": {"ada"}, "password": {"analytical"}, "remember": {remember}})
		require(t, err)
		response.Body.Close()
		if keeps := strings.Contains(response.Header.Get("Set-Cookie"), "Max-Age="); keeps != want {
			t.Errorf("remember %q: %s", remember, response.Header.Get("Set-Cookie"))
		}
		_, body := b.get("/account")
		if closes := strings.Contains(body, "or when you close it"); closes == want {
			t.Errorf("remember %q: %s", remember, body)
		}
		redis.Advance(20 * 24 * time.Hour)
		if got, _ := b.get("/"); (got.User != "") != want {
			t.Errorf("remember %q: after 20 days the page is %+v", remember, got)
		}
	}
}

// adasPen is a session of ada, who has just logged in, and has a pen in the cart.
var adasPen = pyckettest.Session{User: "ada", Values: pycket.Values{"cart": cart{"pen": 1}}}

// TestPasswordAgain wants the checkout to ask for the password five minutes after the login.
func TestPasswordAgain(t *testing.T) {
	app := pyckettest.New(t, settings(secret, ""))
	shop := newShop(app.App, slog.New(slog.DiscardHandler), 5*time.Minute).handler()
	form := func(r *http.Request, values url.Values) *http.Request {
		r.Body, r.Form, r.PostForm = http.NoBody, values, values
		return r
	}

	r := app.Request("GET", "/checkout", nil, adasPen)
	w, after := app.Serve(shop, r)
	if w.Code != http.StatusOK {
		t.Errorf("after the login: %d to %s", w.Code, w.Header().Get("Location"))
	}
	app.Advance(5*time.Minute + time.Second)
	for _, method := range []string{"GET", "POST"} {
		if w, after = app.Serve(shop, after.Request(method, "/checkout", nil)); w.Header().Get("Location") != "/confirm" {
			t.Errorf("%s after five minutes: %d to %s", method, w.Code, w.Header().Get("Location"))
		}
	}
	w, after = app.Serve(shop, form(after.Request("POST", "/confirm", nil), url.Values{"password": {"wrong"}}))
	if w.Header().Get("Location") != "/confirm" || time.Since(after.AuthTime) < 5*time.Minute {
		t.Errorf("a wrong password: %d to %s", w.Code, w.Header().Get("Location"))
	}
	w, after = app.Serve(shop, form(after.Request("POST", "/confirm", nil), url.Values{"password": {"analytical"}}))
	if w.Header().Get("Location") != "/checkout" || after.Cookie == nil {
		t.Errorf("the password: %d to %s, and a new id: %t", w.Code, w.Header().Get("Location"), after.Cookie != nil)
	}
	w, after = app.Serve(shop, after.Request("POST", "/checkout", nil))
	if w.Header().Get("Location") != "/order" || len(after.Keys) > 0 {
		t.Errorf("the order: %d to %s, and the session still has %q", w.Code, w.Header().Get("Location"), after.Keys)
	}
	if diff := cmp.Diff(cart{"pen": 1}, pyckettest.Notification[cart](after, "order")); diff != "" {
		t.Errorf("the receipt is not as wanted (-want +got):\n%s", diff)
	}
}

// TestOrderOnce presses the last button twice at once: there is one order.
func TestOrderOnce(t *testing.T) {
	app := pyckettest.New(t, settings(secret, ""))
	shop := newShop(app.App, slog.New(slog.DiscardHandler), 5*time.Minute).handler()
	r := app.Request("POST", "/checkout", nil, adasPen)
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() { shop.ServeHTTP(httptest.NewRecorder(), r.Clone(t.Context())) })
	}
	both.Wait()
	_, after := app.Serve(shop, r.Clone(t.Context()))
	orders := 0
	for _, m := range after.Messages {
		if m.Level == success {
			orders++
		}
	}
	if orders != 1 {
		t.Errorf("%d orders, want 1: %q", orders, after.Messages)
	}
}

func TestOtherSitesMayNotPost(t *testing.T) {
	site := newSite(t, pyckettest.NewRedis(t), nil)
	b := newBrowser(t, site)
	b.login("ada")
	for header, value := range map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://example.com"} {
		request, err := http.NewRequest("POST", b.site+"/logout", nil)
		require(t, err)
		request.Header.Set(header, value)
		got, _ := b.show(b.client.Do(request))
		check(t, header, got, screen{Status: http.StatusForbidden, Path: "/logout"})
	}
	if got, _ := b.get("/"); got.User == "" {
		t.Error("ada is logged out")
	}
}

func TestHeaders(t *testing.T) {
	b := newBrowser(t, newSite(t, pyckettest.NewRedis(t), nil))
	b.login("ada")
	for _, path := range []string{"/", "/cart", "/account", "/order", "/nowhere", "/confirm"} {
		response, err := b.client.Get(b.site + path)
		require(t, err)
		response.Body.Close()
		if got := response.Header.Get("Cache-Control"); got != "no-store" {
			t.Errorf("%s: Cache-Control is %q", path, got)
		}
		if got := response.Header.Get("Content-Security-Policy"); !strings.HasPrefix(got, "default-src 'none'; ") ||
			strings.Contains(got, "unsafe") {
			t.Errorf("%s: Content-Security-Policy is %q", path, got)
		}
	}
}

func TestRedisDown(t *testing.T) {
	redis := pyckettest.NewRedis(t)
	site := newSite(t, redis, nil)
	b := newBrowser(t, site)
	b.login("ada")
	cookie := b.cookie()
	redis.SetDown(true)

	got, _ := newBrowser(t, site).get("/")
	check(t, "a stranger doesn't need Redis", got, screen{Path: "/", Title: "Things for your pocket"})
	down := screen{Status: http.StatusServiceUnavailable, Path: "/account", Title: "Back in a moment"}
	got, _ = b.get("/account")
	check(t, "ada", got, down)
	got, _ = b.post("/logout")
	down.Path = "/logout"
	check(t, "ada leaves", got, down)
	if b.cookie() != cookie {
		t.Error("the cookie did not stay")
	}
	redis.SetDown(false)
	got, _ = b.get("/")
	check(t, "Redis is back", got, screen{Path: "/", Title: "Things for your pocket", User: "somebody"})
	site.Close()
	if n := strings.Count(site.log.String(), "level=ERROR"); n != 2 || strings.Contains(site.log.String(), cookie) {
		t.Errorf("the log:\n%s", &site.log)
	}
}

var costs = regexp.MustCompile(`<p id="cost">(.*?)( \d+ µs in Redis\.)?</p>`)

// TestCost wants each page to say what it has cost, its messages included.
func TestCost(t *testing.T) {
	b := newBrowser(t, newSite(t, pyckettest.NewRedis(t), nil))
	for _, page := range []struct{ when, path, want string }{
		{"a stranger", "/", "This page: 4 operations, and nothing to ask Redis."},
		{"with a session", "/", "This page, up to here: 4 operations, 1 round trip,"},
		{"with a message", "/", "This page, up to here: 4 operations, 2 round trips,"},
		{"without a session's use", "/style.css", ""},
	} {
		switch page.when {
		case "with a session":
			b.post("/cart", "product", "pen")
		case "with a message":
			without := *b
			without.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
			without.post("/cart", "product", "pen")
		}
		_, body := b.get(page.path)
		if got := first(costs, body); got != page.want {
			t.Errorf("%s: %q, want %q", page.when, got, page.want)
		}
	}
}

func TestNotFound(t *testing.T) {
	b := newBrowser(t, newSite(t, pyckettest.NewRedis(t), nil))
	got, _ := b.get("/nowhere")
	check(t, "no such page", got, screen{Status: http.StatusNotFound, Path: "/nowhere", Title: "There is no such page"})
	got, _ = b.post("/cart", "product", "moon")
	check(t, "no such product", got, screen{Path: "/", Title: "Things for your pocket",
		Messages: []string{"error: We don’t have that."}})
	for _, file := range []string{"/style.css", "/shop.js", "/icon.svg"} {
		if got, _ := b.get(file); got.Status != 0 {
			t.Errorf("%s: %d", file, got.Status)
		}
	}
}
