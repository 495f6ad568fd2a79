// Guestbook is a small website that uses most of pycket: log in, count visits, keep a list, show messages after a
// redirect, log out.
//
//	go run ./examples/guestbook
//
// It brings its own Redis. To keep sessions when the program ends, use another Redis, and each time the same secret,
// which signs the cookies:
//
//	export REDIS_URL=redis://localhost:6379
//	export SECRET=$(openssl rand -base64 32)
//	go run ./examples/guestbook -addr 127.0.0.1:8080
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"embed"
	"errors"
	"flag"
	"fmt"
	"html/template"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pycket/pycket"
	"github.com/pycket/pycket/embedded"
)

// What a visitor may send, and how much is kept.
const (
	maxName    = 40       // characters
	maxText    = 280      // characters
	maxEntries = 100      // the oldest make room
	maxForm    = 64 << 10 // bytes
)

// A guestbook serves one request: pycket.HandlerFunc makes a copy for each request and binds the copy's
// mixins to it. Embed mixins by value.
type guestbook struct {
	pycket.SessionMixin
	pycket.NotificationMixin
	log *slog.Logger // and whatever else the handlers need, such as a *sql.DB
}

// An entry is a line in the book. A session can hold anything that encoding/json can encode.
type entry struct {
	Text    string    `json:"text"`
	Written time.Time `json:"written"`
}

func newHandler(app *pycket.App, log *slog.Logger) http.Handler {
	book := guestbook{log: log}
	mux := http.NewServeMux()
	mux.Handle("GET /{$}", pycket.HandlerFunc(book, orSorry((*guestbook).show)))
	mux.Handle("POST /login", pycket.HandlerFunc(book, orSorry((*guestbook).login)))
	mux.Handle("POST /entries", pycket.HandlerFunc(book, orSorry((*guestbook).write)))
	mux.Handle("POST /logout", pycket.HandlerFunc(book, orSorry((*guestbook).logout)))
	// A request that doesn't use its session costs nothing, so all requests can go through app.Wrap.
	mux.HandleFunc("GET /style.css", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFileFS(w, r, files, "pages/style.css")
	})
	// The cookie is SameSite=Lax, so a form on another site is sent without it. That is not enough: such a
	// form could still log a visitor in, and a form on another subdomain is sent with the cookie.
	return http.NewCrossOriginProtection().Handler(app.Wrap(http.MaxBytesHandler(mux, maxForm)))
}

// show shows the page. A stranger leaves nothing behind: without a cookie, reading sends nothing to Redis,
// and since nothing is written, no cookie is set.
func (g *guestbook) show(w http.ResponseWriter, r *http.Request) error {
	var page struct {
		Name     string
		Visits   int64
		Entries  []entry
		Draft    string
		Messages []pycket.Message
		MaxName  int
		MaxText  int
	}
	page.MaxName, page.MaxText = maxName, maxText
	var err error
	if page.Name, err = pycket.Get(g.Session(), "name", ""); err != nil {
		return err
	}
	if page.Name != "" {
		// Redis does the addition, so two tabs that load at once are counted as two.
		if page.Visits, err = g.Session().Increment("visits", 1); err != nil {
			return err
		}
		if page.Entries, err = pycket.Get(g.Session(), "entries", []entry{}); err != nil {
			return err
		}
		// A notification is gone once it has been read: the text is in the form now, but not the next time.
		if page.Draft, err = pycket.Get(g.Notifications(), "draft", ""); err != nil {
			return err
		}
	}
	if page.Messages, err = g.Notifications().Drain(); err != nil {
		return err
	}
	return render(w, http.StatusOK, "page.html", page)
}

func (g *guestbook) login(w http.ResponseWriter, r *http.Request) error {
	name, err := field(r, "name")
	if err != nil {
		return err
	}
	switch n := utf8.RuneCountInString(name); {
	case n == 0:
		return g.backToPage(w, r, "error", "Please give a name.")
	case n > maxName:
		return g.backToPage(w, r, "error", fmt.Sprintf("Please give a name of up to %d characters.", maxName))
	}
	// Login gives the session a new id, so that nobody who knew the old one, or planted it in this browser,
	// is logged in too. The user and the values are stored in the same step. What a stranger has left in the
	// session stays; what another user has left is deleted.
	if err := g.Session().Login(name, pycket.Values{"name": name}); err != nil {
		return err
	}
	return g.backToPage(w, r, "info", "Welcome, "+name+".")
}

func (g *guestbook) write(w http.ResponseWriter, r *http.Request) error {
	text, err := field(r, "text")
	if err != nil {
		return err
	}
	name, err := pycket.Get(g.Session(), "name", "")
	if err != nil {
		return err
	}
	complaint := ""
	switch n := utf8.RuneCountInString(text); {
	case name == "":
		complaint = "Please log in first. Your text is kept until then."
	case n == 0:
		complaint = "Please write something."
	case n > maxText:
		complaint = fmt.Sprintf("Your text has %d characters, and there is room for %d.", n, maxText)
	}
	if complaint != "" {
		// A notification brings the text back into the form.
		if err := g.Notifications().Set("draft", text); err != nil {
			return err
		}
		return g.backToPage(w, r, "error", complaint)
	}

	// Get, append and Set would lose an entry that another tab adds in between. Update doesn't: if the list
	// has changed meanwhile, Update calls the function again with the new list.
	written := time.Now()
	if _, err := pycket.Update(g.Session(), "entries", nil, func(entries []entry) ([]entry, error) {
		entries = append([]entry{{text, written}}, entries...)
		return entries[:min(len(entries), maxEntries)], nil
	}); err != nil {
		return err
	}
	return g.backToPage(w, r, "info", "Thank you, it’s in the book.")
}

func (g *guestbook) logout(w http.ResponseWriter, r *http.Request) error {
	if err := g.Session().Destroy(); err != nil {
		return err
	}
	// The old session has ended on every server. The message is the first thing in a new one.
	return g.backToPage(w, r, "info", "You have been logged out.")
}

// backToPage ends every POST: the page that follows shows the message, and reloading that page neither shows
// the message again nor sends the form again. The message is in Redis before the browser gets the redirect.
func (g *guestbook) backToPage(w http.ResponseWriter, r *http.Request, level, text string) error {
	if err := g.Notifications().Add(level, text); err != nil {
		return err
	}
	http.Redirect(w, r, "/", http.StatusSeeOther)
	return nil
}

// orSorry lets handlers return errors.
func orSorry(
	serve func(*guestbook, http.ResponseWriter, *http.Request) error,
) func(*guestbook, http.ResponseWriter, *http.Request) {
	return func(g *guestbook, w http.ResponseWriter, r *http.Request) {
		if err := serve(g, w, r); err != nil {
			g.sorry(w, r, err)
		}
	}
}

var errForm = errors.New("the form cannot be read")

// sorry responds to a request that failed. The visitor gets a page, and the log gets the details: pycket's
// errors name the operation and the key, never a value.
func (g *guestbook) sorry(w http.ResponseWriter, r *http.Request, err error) {
	var page struct{ Title, Text string }
	status := http.StatusInternalServerError
	switch {
	case errors.Is(err, pycket.ErrGone):
		// Another request, perhaps in another tab, has logged in or out while this one ran. Nothing was
		// written; the page shows the current state.
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	case errors.Is(err, errForm):
		status = http.StatusBadRequest
		page.Title, page.Text = "That didn’t arrive whole", "The form could not be read. It may be too long."
	case errors.Is(err, pycket.ErrUnavailable):
		status = http.StatusServiceUnavailable
		page.Title, page.Text = "Back in a moment", "The guestbook cannot be reached just now. Please try again."
		w.Header().Set("Retry-After", "5")
	default:
		page.Title, page.Text = "Something went wrong", "It is our fault, not yours. Please try again."
	}
	if status >= 500 {
		g.log.ErrorContext(r.Context(), "request failed", "route", r.Pattern, "error", err)
	}
	if err := render(w, status, "sorry.html", page); err != nil {
		g.log.ErrorContext(r.Context(), "page cannot be made", "page", "sorry.html", "error", err)
		http.Error(w, http.StatusText(status), status)
	}
}

// field returns a field of a form, without the white space around it. It replaces bytes that are not UTF-8:
// JSON can't encode them, and pycket would refuse them.
func field(r *http.Request, name string) (string, error) {
	if err := r.ParseForm(); err != nil {
		return "", fmt.Errorf("%w: %w", errForm, err)
	}
	text := strings.ToValidUTF8(r.PostForm.Get(name), "\uFFFD")
	return strings.TrimSpace(strings.ReplaceAll(text, "\r\n", "\n")), nil
}

//go:embed pages
var files embed.FS

var pages = template.Must(template.ParseFS(files, "pages/*.html"))

// render makes the whole page before it sends the first byte, so that an error page can still be sent instead.
func render(w http.ResponseWriter, status int, name string, data any) error {
	var page bytes.Buffer
	if err := pages.ExecuteTemplate(&page, name, data); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store") // after a logout, the Back button must not show it
	w.WriteHeader(status)
	page.WriteTo(w) // fails only if the browser is gone, and then nobody waits for the rest
	return nil
}

// run is the program. main passes in the outside world.
func run(ctx context.Context, args []string, stdout io.Writer) (err error) {
	flags := flag.NewFlagSet("guestbook", flag.ContinueOnError)
	address := flags.String("addr", "127.0.0.1:0", "`host:port` to listen on; port 0 means any free port")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}

	redisURL := os.Getenv("REDIS_URL")
	if redisURL == "" {
		redis, err := embedded.Start("127.0.0.1:0")
		if err != nil {
			return err
		}
		defer redis.Close()
		redisURL = redis.URL()
		fmt.Fprintf(stdout, "Redis:  embedded, at %s; it ends with the program (set REDIS_URL to use another)\n", redisURL)
	} else {
		fmt.Fprintf(stdout, "Redis:  %s, from REDIS_URL\n", withoutPassword(redisURL))
	}

	secret := os.Getenv("SECRET")
	if secret == "" {
		random := make([]byte, 32)
		rand.Read(random)
		secret = string(random)
		fmt.Fprintln(stdout, "Secret: random, so sessions end with the program (set SECRET to keep them)")
	}

	app, err := pycket.New(pycket.Settings{
		Secrets: []string{secret},
		Redis:   pycket.RedisSettings{URL: redisURL, Prefix: "guestbook:"},
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, app.Close()) }()
	// pycket connects when it first needs to. Ping finds out about a wrong URL now.
	if err := app.Ping(ctx); err != nil {
		return err
	}

	listener, err := net.Listen("tcp", *address)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "Page:   http://%s/\n", listener.Addr())
	server := &http.Server{
		Handler:           newHandler(app, slog.Default()),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	// Let requests under way finish before Redis goes away.
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return server.Shutdown(ctx)
}

func withoutPassword(redisURL string) string {
	u, err := url.Parse(redisURL)
	if err != nil {
		return "unreadable"
	}
	u.User = nil
	return u.String()
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "guestbook:", err)
		os.Exit(1)
	}
}
