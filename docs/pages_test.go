package docs_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pycket/pycket"
	"github.com/pycket/pycket/embedded"
)

const secret = "a secret of these tests, which has 32 bytes and more"

// newApp returns an App and the URL of its Redis.
func newApp(t *testing.T) (*pycket.App, string) {
	t.Helper()
	redis, err := embedded.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(redis.Close)
	app, err := pycket.New(pycket.Settings{
		Secrets: []string{secret},
		Redis:   pycket.RedisSettings{URL: redis.URL()},
		Logger:  slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { app.Close() })
	return app, redis.URL()
}

// A browser keeps cookies for a site.
type browser struct {
	t    *testing.T
	site string
	*http.Client
}

func newBrowser(t *testing.T, site string) *browser {
	jar, _ := cookiejar.New(nil)
	return &browser{t, site, &http.Client{Jar: jar, Timeout: 30 * time.Second}}
}

// serve serves a handler to a browser.
func serve(t *testing.T, handler http.Handler) *browser {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return newBrowser(t, server.URL)
}

// read returns the status and body of an answer.
func (b *browser) read(response *http.Response, err error) (int, string) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

// wants visits a page and compares its body.
func (b *browser) wants(path string, want string) {
	b.t.Helper()
	if _, got := b.read(b.Get(b.site + path)); got != want {
		b.t.Errorf("GET %s: %q, want %q", path, got, want)
	}
}

// sends sends a form and compares the body of the answer.
func (b *browser) sends(path string, form url.Values, want string) {
	b.t.Helper()
	if _, got := b.read(b.PostForm(b.site+path, form)); got != want {
		b.t.Errorf("POST %s: %q, want %q", path, got, want)
	}
}

type Main struct {
	pycket.SessionMixin
	pycket.NotificationMixin
	Greeting string
}

func (h *Main) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name, err := pycket.Get(h.Session(), "name", "stranger")
	fmt.Fprint(w, h.Greeting, ", ", name, " ", err)
}

func TestConcepts(t *testing.T) {
	app, _ := newApp(t)
	serve(t, app.Wrap(pycket.Handler(Main{Greeting: "Hello"}))).wants("/", "Hello, stranger <nil>")
}

// Post is the handler of notifications.md.
type Post struct {
	pycket.SessionMixin
	pycket.NotificationMixin
}

func (h *Post) Save(w http.ResponseWriter, r *http.Request) {
	if err := h.Session().Set("draft", r.FormValue("text")); err != nil {
		http.Error(w, "Please try again in a moment.", http.StatusServiceUnavailable)
		return
	}
	h.Notifications().Add("success", "Your draft is saved.") // a lost message is no reason to fail
	http.Redirect(w, r, "/post", http.StatusSeeOther)
}

func (h *Post) Show(w http.ResponseWriter, r *http.Request) {
	messages, err := h.Notifications().Drain()
	if err != nil {
		http.Error(w, "Please try again in a moment.", http.StatusServiceUnavailable)
		return
	}
	for _, m := range messages {
		fmt.Fprintf(w, "%s: %s\n", m.Level, m.Text)
	}
}

// Import is what the handler of the same name has done.
type Import struct{ Lines, Skipped int }

func (h *Post) Import(w http.ResponseWriter, r *http.Request) {
	err := h.Notifications().Set("imported", Import{Lines: 120, Skipped: 3})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	http.Redirect(w, r, "/imported", http.StatusSeeOther)
}

func (h *Post) Imported(w http.ResponseWriter, r *http.Request) {
	imported, err := pycket.Get(h.Notifications(), "imported", Import{})
	fmt.Fprint(w, imported, " ", err)
}

func TestNotifications(t *testing.T) {
	app, _ := newApp(t)
	mux := http.NewServeMux()
	mux.Handle("POST /post", pycket.HandlerFunc(Post{}, (*Post).Save))
	mux.Handle("GET /post", pycket.HandlerFunc(Post{}, (*Post).Show))
	mux.Handle("POST /import", pycket.HandlerFunc(Post{}, (*Post).Import))
	mux.Handle("GET /imported", pycket.HandlerFunc(Post{}, (*Post).Imported))
	b := serve(t, app.Wrap(mux))
	b.sends("/post", url.Values{"text": {"…"}}, "success: Your draft is saved.\n")
	b.wants("/post", "")
	b.sends("/import", nil, "{120 3} <nil>")
	b.wants("/imported", "{0 0} <nil>")
}

// Account is the handler of accounts.md.
type Account struct {
	pycket.SessionMixin
	App *pycket.App
}

func (h *Account) Login(w http.ResponseWriter, r *http.Request) {
	user := struct{ Name, Theme string }{r.FormValue("user"), "dark"}
	if err := h.Session().Login(user.Name, pycket.Values{"theme": user.Theme}); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	var err error
	if r.FormValue("remember") != "" {
		err = h.Session().Remember(30 * 24 * time.Hour)
	}
	remembered, _ := h.Session().Remembered()
	fmt.Fprint(w, remembered, " ", err)
}

func (h *Account) Sensitive(w http.ResponseWriter, r *http.Request) {
	at, err := h.Session().AuthTime()
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	if time.Since(at) > 10*time.Minute {
		http.Redirect(w, r, "/password", http.StatusSeeOther)
		return
	}
	fmt.Fprint(w, "sensitive")
}

func (h *Account) Devices(w http.ResponseWriter, r *http.Request) {
	user, _ := h.Session().User()
	devices, err := h.App.Sessions(r.Context(), user)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	for _, d := range devices {
		fmt.Fprintln(w, d.Handle, d.UserAgent, d.LastSeen.Format(time.DateTime), d.Current)
	}
}

func (h *Account) Revoke(w http.ResponseWriter, r *http.Request) {
	user, _ := h.Session().User()
	devices, err := h.App.Sessions(r.Context(), user)
	mine := slices.ContainsFunc(devices, func(d pycket.SessionInfo) bool { return d.Handle == r.FormValue("handle") })
	if mine {
		err = h.App.Revoke(r.Context(), r.FormValue("handle"))
	}
	fmt.Fprint(w, mine, " ", err)
}

func (h *Account) Others(w http.ResponseWriter, r *http.Request) {
	ended, err := h.Session().RevokeOthers()
	fmt.Fprint(w, ended, " ", err)
}

func (h *Account) Close(ctx context.Context, user string) (int, error) {
	ended, err := h.App.RevokeUser(ctx, user)
	return ended, err
}

func TestAccounts(t *testing.T) {
	app, _ := newApp(t)
	account := Account{App: app}
	mux := http.NewServeMux()
	for pattern, serve := range map[string]func(*Account, http.ResponseWriter, *http.Request){
		"POST /login": (*Account).Login, "GET /sensitive": (*Account).Sensitive, "GET /devices": (*Account).Devices,
		"POST /revoke": (*Account).Revoke, "POST /others": (*Account).Others,
	} {
		mux.Handle(pattern, pycket.HandlerFunc(account, serve))
	}
	mux.HandleFunc("GET /password", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "password?") })
	phone := serve(t, app.Wrap(mux))
	laptop, tablet := newBrowser(t, phone.site), newBrowser(t, phone.site)
	phone.wants("/sensitive", "password?")
	ann := url.Values{"user": {"ann"}}
	phone.sends("/login", url.Values{"user": {"ann"}, "remember": {"on"}}, "true <nil>")
	laptop.sends("/login", ann, "false <nil>")
	tablet.sends("/login", ann, "false <nil>")
	phone.wants("/sensitive", "sensitive")
	_, list := phone.read(phone.Get(phone.site + "/devices"))
	lines := strings.Split(strings.TrimSpace(list), "\n")
	if len(lines) != 3 || strings.Count(list, "true") != 1 {
		t.Fatalf("devices:\n%s", list)
	}
	for _, line := range lines {
		if strings.HasSuffix(line, "false") { // of the laptop or the tablet
			phone.sends("/revoke", url.Values{"handle": {strings.Fields(line)[0]}}, "true <nil>")
			break
		}
	}
	phone.sends("/revoke", url.Values{"handle": {"not mine"}}, "false <nil>")
	phone.sends("/others", nil, "1 <nil>")
	if ended, err := account.Close(t.Context(), "ann"); ended != 1 || err != nil {
		t.Errorf("%d sessions ended, %v", ended, err)
	}
	phone.wants("/sensitive", "password?")
}

func requireUser(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, err := pycket.NewSessionManager(w, r).User()
		switch {
		case err != nil:
			http.Error(w, "Please try again in a moment.", http.StatusServiceUnavailable)
		case user == "":
			http.Redirect(w, r, "/login", http.StatusSeeOther)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func logRequests(next http.Handler) http.Handler { return next }

// Carts is a service: its methods have a context, and no request.
type Carts struct{}

func (s *Carts) Count(ctx context.Context) (int, error) {
	cart, err := pycket.Get(pycket.SessionFrom(ctx), "cart", []string{})
	return len(cart), err
}

func TestRecipeMiddlewareAndContext(t *testing.T) {
	app, _ := newApp(t)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		count, err := new(Carts).Count(r.Context())
		w.Header().Set("Cache-Control", "no-store")
		fmt.Fprint(w, count, " ", err)
	})
	handler := logRequests(app.Wrap(requireUser(mux)))
	site := http.NewServeMux()
	site.Handle("/", handler)
	site.Handle("/login", app.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "login ", pycket.NewSessionManager(w, r).Login("ann", pycket.Values{"cart": []string{"tea"}}))
	})))
	b := serve(t, site)
	b.wants("/", "login <nil>") // sent there by requireUser
	b.wants("/", "1 <nil>")
}

func TestRecipeOtherSites(t *testing.T) {
	app, _ := newApp(t)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, pycket.NewSessionManager(w, r).Set("a", 1))
	})
	protection := http.NewCrossOriginProtection()
	handler := app.Wrap(protection.Handler(mux))
	b := serve(t, handler)
	b.sends("/", nil, "<nil>")
	r, _ := http.NewRequest("POST", b.site, nil)
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	if status, _ := b.read(b.Do(r)); status != http.StatusForbidden {
		t.Errorf("a request from another site: %d", status)
	}
}

func TestRecipeWorkThatGoesOn(t *testing.T) {
	app, _ := newApp(t)
	done := make(chan error, 1)
	b := serve(t, app.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/begin":
			fmt.Fprint(w, pycket.NewSessionManager(w, r).Set("asked", true))
		case "/order":
			session := pycket.NewSessionManager(w, r).WithContext(context.WithoutCancel(r.Context()))
			go func() {
				done <- session.Set("report", "ready")
			}()
		default:
			fmt.Fprint(w, func() string { v, _ := pycket.Get(pycket.NewSessionManager(w, r), "report", ""); return v }())
		}
	})))
	b.wants("/begin", "<nil>")
	b.wants("/order", "")
	if err := <-done; err != nil {
		t.Error(err)
	}
	b.wants("/", "ready")
}

func run(ctx context.Context, server *http.Server, app *pycket.App) error {
	defer app.Close()
	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServe() }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done(): // of signal.NotifyContext
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	return server.Shutdown(ctx) // returns when no request is under way
}

// A request that is under way when the program is told to end still writes.
func TestRecipeShutdown(t *testing.T) {
	app, _ := newApp(t)
	under, goOn := make(chan bool), make(chan bool)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	ctx, end := context.WithCancel(t.Context())
	server := &http.Server{Addr: address, Handler: app.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		under <- true
		<-goOn
		fmt.Fprint(w, pycket.NewSessionManager(w, r).Set("late", true))
	}))}
	shutting := make(chan bool)
	server.RegisterOnShutdown(func() { close(shutting) })
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, server, app) }()
	answered := make(chan string, 1)
	b := newBrowser(t, "http://"+address)
	go func() {
		for {
			response, err := b.Get(b.site)
			if err != nil {
				time.Sleep(10 * time.Millisecond) // it does not listen yet
				continue
			}
			body, _ := io.ReadAll(response.Body)
			response.Body.Close()
			answered <- string(body)
			return
		}
	}()
	<-under
	end()
	<-shutting
	close(goOn)
	if body := <-answered; body != "<nil>" {
		t.Errorf("the write of a request under way: %s", body)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestRecipeSeveralApps(t *testing.T) {
	shop, url := newApp(t)
	const adminSecret = "the admin's secret, which has 32 bytes and more"
	admin, err := pycket.New(pycket.Settings{
		Secrets: []string{adminSecret},
		Redis:   pycket.RedisSettings{URL: url, Prefix: "admin:"},
		Cookies: pycket.CookieSettings{Name: "ADMIN_ID", Path: "/admin"},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	count := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := pycket.NewSessionManager(w, r).Increment("n", 1)
		fmt.Fprint(w, n, " ", err)
	})
	mux := http.NewServeMux()
	mux.Handle("/", count)
	mux.Handle("/admin", admin.Wrap(count))
	b := serve(t, shop.Wrap(mux))
	b.wants("/", "1 <nil>")
	b.wants("/", "2 <nil>")
	b.wants("/admin", "1 <nil>")
}

func TestRecipeOutageAndSecrets(t *testing.T) {
	const oldSecret, newSecret = secret, "the new secret of these tests, 32 bytes and more"
	_, url := newApp(t)
	settings := pycket.Settings{
		Secrets: []string{oldSecret},
		Redis:   pycket.RedisSettings{URL: url, Timeout: time.Second},
		Logger:  slog.New(slog.DiscardHandler),
	}
	sites := map[string]*pycket.App{}
	for name, change := range map[string]func(){"old": func() {}, "new": func() {
		settings.Secrets = []string{newSecret, oldSecret}
	}, "down": func() { settings.Redis.URL = "redis://127.0.0.1:1" }} {
		kept := settings
		change()
		app, err := pycket.New(settings)
		if err != nil {
			t.Fatal(err)
		}
		defer app.Close()
		sites[name], settings = app, kept
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := pycket.NewSessionManager(w, r).Increment("n", 1)
		if errors.Is(err, pycket.ErrUnavailable) {
			w.Header().Set("Retry-After", "5")
			http.Error(w, "Please try again in a moment.", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprint(w, n, " ", err)
	})
	mux := http.NewServeMux()
	for name, app := range sites {
		mux.Handle("/"+name, app.Wrap(handler))
	}
	b := serve(t, mux)
	b.wants("/old", "1 <nil>")
	b.wants("/new", "2 <nil>")
	if status, _ := b.read(b.Get(b.site + "/down")); status != http.StatusServiceUnavailable {
		t.Errorf("without a Redis: %d", status)
	}
}
