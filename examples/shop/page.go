package main

import (
	"bytes"
	"context"
	"embed"
	"html/template"
	"net/http"

	"github.com/pycket/pycket"
)

//go:embed pages
var files embed.FS

// Each page is the frame with its own content.
var pages = parse("shelf.html", "cart.html", "login.html", "account.html", "checkout.html", "confirm.html",
	"order.html", "sorry.html")

func parse(names ...string) map[string]*template.Template {
	pages := map[string]*template.Template{}
	for _, name := range names {
		page := template.New(name).Funcs(pycket.TemplateFuncs()) // for the frame, which shows the messages
		pages[name] = template.Must(page.ParseFS(files, "pages/frame.html", "pages/"+name))
	}
	return pages
}

// A page is what the templates get.
type page struct {
	Context context.Context // of the request
	Title   string
	User    string // "" if nobody is logged in
	Cart    cart
	Apology bool // the page must not need Redis
	Data    any  // what this page alone shows
}

// show shows a page. A stranger leaves nothing behind: without a cookie, reading sends nothing to Redis, and since
// nothing is written, no cookie is set. With a cookie, the first of these reads fetches the session, and the other finds
// its answer there. So do the messages of the frame, if none are waiting.
func (s *shop) show(w http.ResponseWriter, r *http.Request, status int, name, title string, data any) error {
	p := page{Context: r.Context(), Title: title, Data: data}
	var err error
	if p.User, err = s.Session().User(); err != nil {
		return err
	}
	if p.Cart, err = pycket.Get(s.Session(), "cart", cart{}); err != nil {
		return err
	}
	return p.render(w, status, name)
}

// render makes the whole page before it sends the first byte, so that an error page can still be sent instead.
func (p page) render(w http.ResponseWriter, status int, name string) error {
	var body bytes.Buffer
	if err := pages[name].ExecuteTemplate(&body, "frame", p); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store") // after a logout, the Back button must not show it
	w.WriteHeader(status)
	body.WriteTo(w) // fails only if the browser is gone, and then nobody waits for the rest
	return nil
}
