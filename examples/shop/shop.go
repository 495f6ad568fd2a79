package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/pycket/pycket"
)

// maxForm is how much a visitor may send, in bytes.
const maxForm = 64 << 10

// A shop serves one request: pycket.HandlerFunc makes a copy for each request and binds the copy's mixins to it. Embed
// mixins by value.
type shop struct {
	pycket.SessionMixin
	pycket.NotificationMixin

	// What all requests share.
	app           *pycket.App
	accounts      accounts
	passwordAgain time.Duration             // how long after a login the checkout asks for the password
	askWarehouse  func(ctx context.Context) // returns when the warehouse has answered
	log           *slog.Logger
}

func newShop(app *pycket.App, log *slog.Logger, passwordAgain time.Duration) shop {
	return shop{app: app, accounts: demoAccounts(), passwordAgain: passwordAgain, askWarehouse: askWarehouse, log: log}
}

func (s shop) handler() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, serve handler) { mux.Handle(pattern, pycket.HandlerFunc(s, serve.orSorry)) }

	handle("GET /{$}", (*shop).showShelf)
	handle("POST /cart", (*shop).addToCart)
	handle("GET /cart", (*shop).showCart)
	handle("POST /cart/{product}", (*shop).changeCart)
	handle("POST /pencils", (*shop).takePencil)
	handle("POST /pencils/none", (*shop).returnPencils)

	handle("GET /login", (*shop).showLogin)
	handle("POST /login", (*shop).login)
	handle("POST /logout", (*shop).logout)
	handle("GET /account", (*shop).showAccount)
	handle("POST /account/others", (*shop).endOthers)
	handle("POST /account/devices/{handle}", (*shop).endDevice)

	handle("GET /checkout", (*shop).showCheckout)
	handle("POST /checkout", (*shop).checkOut)
	handle("GET /confirm", (*shop).showConfirm)
	handle("POST /confirm", (*shop).confirm)
	handle("GET /order", (*shop).showOrder)

	handle("GET /", (*shop).notFound)
	// A request that doesn't use its session costs nothing, so all requests can go through app.Wrap.
	for _, file := range []string{"/style.css", "/shop.js", "/icon.svg"} {
		mux.HandleFunc("GET "+file, func(w http.ResponseWriter, r *http.Request) {
			http.ServeFileFS(w, r, files, "pages"+file)
		})
	}

	// The cookie is SameSite=Lax, so a form on another site is sent without it. That is not enough: such a form could
	// still log a visitor in, and a form on another subdomain is sent with the cookie.
	protection := http.NewCrossOriginProtection()
	return withHeaders(protection.Handler(withCost(s.app.Wrap(http.MaxBytesHandler(mux, maxForm)))))
}

func withHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "+
			"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		header.Set("Referrer-Policy", "same-origin")
		header.Set("X-Content-Type-Options", "nosniff")
		next.ServeHTTP(w, r)
	})
}

// A handler may return an error, for which the visitor gets a page that says sorry.
type handler func(s *shop, w http.ResponseWriter, r *http.Request) error

func (serve handler) orSorry(s *shop, w http.ResponseWriter, r *http.Request) {
	if err := serve(s, w, r); err != nil {
		s.sorry(w, r, err)
	}
}

// sorry responds to a request that failed. The visitor gets a page, and the log gets the details: pycket's errors name
// the operation and the key, never a value.
func (s *shop) sorry(w http.ResponseWriter, r *http.Request, err error) {
	p, status := page{Context: r.Context(), Apology: true}, http.StatusInternalServerError
	switch {
	case errors.Is(err, pycket.ErrGone):
		// Another request, perhaps in another tab or on another device, has ended the session while this one ran. Nothing
		// was written; the page shows the current state.
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	case errors.Is(err, errForm):
		status = http.StatusBadRequest
		p.Title, p.Data = "That didn’t arrive whole", "The form could not be read."
	case errors.Is(err, pycket.ErrUnavailable):
		status = http.StatusServiceUnavailable
		p.Title, p.Data = "Back in a moment", "The shop cannot reach its memory just now. Please try again: nothing is lost."
		w.Header().Set("Retry-After", "5")
	default:
		p.Title, p.Data = "Something went wrong", "It is our fault, not yours. Please try again."
	}
	if status >= 500 {
		s.log.ErrorContext(r.Context(), "request failed", "route", r.Pattern, "error", err)
	}
	if err := p.render(w, status, "sorry.html"); err != nil {
		s.log.ErrorContext(r.Context(), "page cannot be made", "page", "sorry.html", "error", err)
		http.Error(w, http.StatusText(status), status)
	}
}

func (s *shop) notFound(w http.ResponseWriter, r *http.Request) error {
	return s.show(w, r, http.StatusNotFound, "sorry.html", "There is no such page", "Perhaps it has moved.")
}

// goTo ends every POST, so that reloading the page that follows doesn't send the form again. That page shows the
// messages added before. They are in Redis before the browser gets the redirect, and each is shown once.
func (s *shop) goTo(w http.ResponseWriter, r *http.Request, path string) error {
	http.Redirect(w, r, path, http.StatusSeeOther)
	return nil
}

// goToWith is goTo with a message.
func (s *shop) goToWith(w http.ResponseWriter, r *http.Request, path, level, text string) error {
	if err := s.Notifications().Add(level, text); err != nil {
		return err
	}
	return s.goTo(w, r, path)
}

// The levels of messages, which style.css knows too.
const (
	success = "success"
	warning = "warning"
	failure = "error"
)

var errForm = errors.New("the form cannot be read")

// field returns a field of a form. It replaces bytes that are not UTF-8: JSON can't encode them, and pycket would
// refuse them.
func field(r *http.Request, name string) (string, error) {
	if err := r.ParseForm(); err != nil {
		return "", fmt.Errorf("%w: %w", errForm, err)
	}
	return strings.ToValidUTF8(r.PostForm.Get(name), "\uFFFD"), nil
}
