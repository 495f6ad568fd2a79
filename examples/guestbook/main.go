// Guestbook is the smallest website that uses most of pycket: log in, count visits, keep a list, show messages after a
// redirect, log out.
//
//	go run ./examples/guestbook
//
// It brings its own Redis. To keep sessions when the program ends, set REDIS_URL to another, as in
// redis://localhost:6379, and SECRET to the output of "openssl rand -base64 32", which signs the cookies.
package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"embed"
	"errors"
	"flag"
	"html/template"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pycket/pycket"
	"github.com/pycket/pycket/embedded"
)

//go:embed pages
var files embed.FS

var pages = template.Must(template.ParseFS(files, "pages/*.html"))

// A guestbook serves one request: HandlerFunc makes a copy for each. Embed mixins by value.
type guestbook struct {
	pycket.SessionMixin
	pycket.NotificationMixin
}

func newHandler(app *pycket.App) http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, serve func(*guestbook, http.ResponseWriter, *http.Request) error) {
		mux.Handle(pattern, pycket.HandlerFunc(guestbook{}, func(g *guestbook, w http.ResponseWriter, r *http.Request) {
			switch err := serve(g, w, r); {
			case errors.Is(err, pycket.ErrGone): // another tab has logged in or out meanwhile
				http.Redirect(w, r, "/", http.StatusSeeOther)
			case err != nil: // pycket's errors name the operation and the key, never a value
				slog.ErrorContext(r.Context(), "request failed", "route", r.Pattern, "error", err)
				http.Error(w, "The guestbook can’t be reached just now. Please try again.", http.StatusServiceUnavailable)
			}
		}))
	}
	handle("GET /{$}", (*guestbook).show)
	handle("POST /login", (*guestbook).login)
	handle("POST /entries", (*guestbook).write)
	handle("POST /logout", (*guestbook).logout)
	mux.Handle("GET /pages/style.css", http.FileServerFS(files)) // a request that doesn't use its session costs nothing
	return http.NewCrossOriginProtection().Handler(app.Wrap(http.MaxBytesHandler(mux, 64<<10)))
}

// Visits and Entries are for the page.
func (g *guestbook) Visits() (int64, error) { return g.Session().Increment("visits", 1) }
func (g *guestbook) Entries() ([]string, error) {
	return pycket.Get(g.Session(), "entries", []string{})
}

func (g *guestbook) show(w http.ResponseWriter, r *http.Request) error {
	var page bytes.Buffer
	if err := pages.ExecuteTemplate(&page, "page.html", g); err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "no-store") // after a logout, the Back button must not show it
	page.WriteTo(w)
	return nil
}

func (g *guestbook) login(w http.ResponseWriter, r *http.Request) error {
	name := field(r, "name")
	if n := utf8.RuneCountInString(name); n == 0 || n > 40 {
		return g.back(w, r, nil, "error", "Please give a name of up to 40 characters.")
	}
	return g.back(w, r, g.Session().Login(name, nil), "info", "Welcome, "+name+".")
}

func (g *guestbook) write(w http.ResponseWriter, r *http.Request) error {
	user, err := g.Session().User()
	text := field(r, "text")
	if n := utf8.RuneCountInString(text); err == nil && (user == "" || n == 0 || n > 280) {
		return g.back(w, r, nil, "error", "Please log in and write up to 280 characters.")
	}
	if err == nil { // Update loses nothing that another tab adds at the same time
		_, err = pycket.Update(g.Session(), "entries", nil, func(entries []string) ([]string, error) {
			entries = append([]string{text}, entries...)
			return entries[:min(len(entries), 100)], nil
		})
	}
	return g.back(w, r, err, "info", "Thank you, it’s in the book.")
}

func (g *guestbook) logout(w http.ResponseWriter, r *http.Request) error {
	return g.back(w, r, g.Session().Destroy(), "info", "You have been logged out.")
}

// back ends every POST: the page that follows shows the message, once.
func (g *guestbook) back(w http.ResponseWriter, r *http.Request, err error, level, text string) error {
	if err == nil {
		err = g.Notifications().Add(level, text)
	}
	if err == nil {
		http.Redirect(w, r, "/", http.StatusSeeOther)
	}
	return err
}

func field(r *http.Request, name string) string {
	return strings.TrimSpace(strings.ToValidUTF8(r.PostFormValue(name), "\uFFFD"))
}

func main() {
	addr := flag.String("addr", "127.0.0.1:0", "`host:port` to listen on; port 0 means any free port")
	flag.Parse()
	secret := cmp.Or(os.Getenv("SECRET"), rand.Text()+rand.Text())
	redis := pycket.RedisSettings{URL: os.Getenv("REDIS_URL"), Prefix: "guestbook:"}
	if redis.URL == "" {
		server, err := embedded.Start("127.0.0.1:0")
		if err != nil {
			log.Fatal(err)
		}
		redis.URL = server.URL()
	}
	app, err := pycket.New(pycket.Settings{Secrets: []string{secret}, Redis: redis})
	if err == nil {
		err = app.Ping(context.Background()) // a wrong URL is found out now, not at the first request
	}
	if err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("tcp", *addr)
	if err != nil {
		log.Fatal(err)
	}
	log.Printf("the guestbook is at http://%s/", listener.Addr())
	server := &http.Server{Handler: newHandler(app), ReadHeaderTimeout: 10 * time.Second}
	log.Fatal(server.Serve(listener))
}
