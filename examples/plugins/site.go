package main

import (
	"bytes"
	"fmt"
	"html/template"
	"log"
	"net/http"

	"github.com/pycket/pycket"
)

// Site has the pages: who the visitor is, how often they came, and what there is to tell them.
type Site struct {
	pycket.SessionMixin
	pycket.NotificationMixin
}

// The messages are found by the template itself, in the request's context.
var page = template.Must(template.New("page").Funcs(pycket.TemplateFuncs()).Parse(`<!doctype html>
<html lang="en"><title>pycket</title>
{{range messages .Context}}<p role="status">{{.Text}}</p>
{{end}}<p>Hello, {{or .User "stranger"}}. Visit {{.Visits}}.</p>
<form method="post" action="/login"><label>Name <input name="user" required></label> <button>Log in</button></form>
<form method="post" action="/logout"><button>Log out</button></form>
`))

// visit counts a visit, and returns what the page shows.
func visit(session *pycket.SessionManager) (user string, visits int64, err error) {
	if visits, err = session.Increment("visits", 1); err == nil {
		user, err = session.User()
	}
	return user, visits, err
}

// show answers a visit.
func show(w http.ResponseWriter, r *http.Request, user string, visits int64, err error) {
	var body bytes.Buffer // half a page never leaves the server
	if err == nil {
		err = page.Execute(&body, map[string]any{"Context": r.Context(), "User": user, "Visits": visits})
	}
	if err != nil {
		sorry(w, err)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	_, _ = body.WriteTo(w) // fails only if the browser has gone
}

// login logs a visitor in, and leaves a message for the next page.
func login(session *pycket.SessionManager, notifications *pycket.NotificationManager, user string) error {
	if err := session.Login(user, nil); err != nil { // check a password before
		return err
	}
	return notifications.Add("success", fmt.Sprintf("You are logged in as %s.", user))
}

func sorry(w http.ResponseWriter, err error) {
	log.Print(err)
	http.Error(w, "Please try again in a moment.", http.StatusServiceUnavailable)
}

// Show is GET /.
func (h *Site) Show(w http.ResponseWriter, r *http.Request) {
	user, visits, err := visit(h.Session())
	show(w, r, user, visits, err)
}

// Login is POST /login.
func (h *Site) Login(w http.ResponseWriter, r *http.Request) {
	back(w, r, login(h.Session(), h.Notifications(), r.FormValue("user")))
}

// Logout is POST /logout.
func (h *Site) Logout(w http.ResponseWriter, r *http.Request) {
	back(w, r, h.Session().Destroy())
}

func back(w http.ResponseWriter, r *http.Request, err error) {
	if err != nil {
		sorry(w, err)
		return
	}
	http.Redirect(w, r, "/", http.StatusSeeOther)
}
