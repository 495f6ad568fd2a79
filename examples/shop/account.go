package main

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/pycket/pycket"
)

// rememberFor is how long a browser stays logged in without use, if its user asked for that.
const rememberFor = 30 * 24 * time.Hour

// accounts are the hashes of passwords by user. A real shop has them in a database.
type accounts map[string][]byte

// A demoAccount is shown on the login page.
type demoAccount struct{ User, Password string }

var demo = []demoAccount{{"ada", "analytical"}, {"grace", "compiler"}}

// demoAccounts takes its time, as a good hash does.
var demoAccounts = sync.OnceValue(func() accounts {
	a := accounts{}
	for _, account := range append(demo, demoAccount{"", "nobody"}) {
		hash, err := bcrypt.GenerateFromPassword([]byte(account.Password), bcrypt.DefaultCost)
		if err != nil {
			panic(err) // only for a password of more than 72 bytes
		}
		a[account.User] = hash
	}
	return a
})

// check reports whether that is the user's password. It takes as long for a user who doesn't exist, so that nobody
// learns who does. A real shop also limits how often one may try.
func (a accounts) check(user, password string) bool {
	hash, known := a[user]
	if !known {
		hash = a[""]
	}
	return bcrypt.CompareHashAndPassword(hash, []byte(password)) == nil && known && user != ""
}

func (s *shop) showLogin(w http.ResponseWriter, r *http.Request) error {
	// A notification is gone once it has been read: after a failed login the name is in the form, but not the next time.
	name, err := pycket.Get(s.Notifications(), "name", "")
	if err != nil {
		return err
	}
	return s.show(w, r, http.StatusOK, "login.html", "Log in", struct {
		Name     string
		Accounts []demoAccount
	}{name, demo})
}

func (s *shop) login(w http.ResponseWriter, r *http.Request) error {
	name, err := field(r, "name")
	if err != nil {
		return err
	}
	name = strings.ToLower(strings.TrimSpace(name))
	if !s.accounts.check(name, r.PostForm.Get("password")) {
		if err := s.Notifications().Set("name", name); err != nil {
			return err
		}
		return s.goToWith(w, r, "/login", failure, "That is not the name and password of an account.")
	}

	// Login gives the session a new id, so that nobody who knew the old one, or planted it in this browser, is logged in
	// too. The cart of a stranger stays; what another user has left is deleted.
	if err := s.Session().Login(name, nil); err != nil {
		return err
	}
	if r.PostForm.Get("remember") != "" {
		// Without this, the cookie ends with the browser, and the session after a day without use.
		if err := s.Session().Remember(rememberFor); err != nil {
			return err
		}
	}
	if err := s.Notifications().Add(success, "Welcome, "+name+"."); err != nil {
		return err
	}
	c, err := pycket.Get(s.Session(), "cart", cart{})
	if err != nil {
		return err
	}
	if c.Count() > 0 {
		if err := s.Notifications().Add(success, "Your cart is still yours."); err != nil {
			return err
		}
	}
	// Where the visitor wanted to go: see mustLogIn.
	next, err := pycket.Get(s.Notifications(), "next", "/")
	if err != nil {
		return err
	}
	return s.goTo(w, r, next)
}

// mustLogIn sends a stranger to the login, which leads back to this page. That is kept here, in a notification, and not
// in a URL, where others could write something else.
func (s *shop) mustLogIn(w http.ResponseWriter, r *http.Request) error {
	err := s.Notifications().Set("next", r.URL.Path)
	if err == nil {
		err = s.Notifications().Add(warning, "Please log in first.")
	}
	// If another device has just ended this session, it takes no more notes, but a login will begin another.
	if err != nil && !errors.Is(err, pycket.ErrGone) {
		return err
	}
	return s.goTo(w, r, "/login")
}

func (s *shop) logout(w http.ResponseWriter, r *http.Request) error {
	if err := s.Session().Destroy(); err != nil {
		return err
	}
	// The old session has ended on every server. The message is the first thing in a new one.
	return s.goToWith(w, r, "/", success, "You are logged out.")
}

// A device is a session of the user, as the user knows it.
type device struct {
	pycket.SessionInfo
}

// Name says which browser it is, as well as the browser does.
func (d device) Name() string {
	first := func(words ...string) string { // pairs: a word of the user agent, and what it means
		for i := 0; i < len(words); i += 2 {
			if strings.Contains(d.UserAgent, words[i]) {
				return words[i+1]
			}
		}
		return ""
	}
	browser := first("Edg", "Edge", "Firefox", "Firefox", "Chrom", "Chrome", "Safari", "Safari", "curl", "curl")
	system := first("Android", "Android", "iPhone", "iPhone", "iPad", "iPad", "Windows", "Windows", "Mac OS", "macOS",
		"Linux", "Linux")
	switch {
	case browser == "":
		return "Another program"
	case system == "":
		return browser
	}
	return browser + " on " + system
}

func (s *shop) showAccount(w http.ResponseWriter, r *http.Request) error {
	user, err := s.Session().User()
	if err != nil {
		return err
	}
	if user == "" {
		return s.mustLogIn(w, r)
	}
	var data struct {
		Devices    []device
		Remembered bool
		Until      time.Time // when this device is logged out, if it is not used
	}
	// With the request's context, Sessions marks the session of this request.
	sessions, err := s.app.Sessions(r.Context(), user)
	if err != nil {
		return err
	}
	for _, info := range sessions {
		data.Devices = append(data.Devices, device{info})
	}
	if data.Remembered, err = s.Session().Remembered(); err != nil {
		return err
	}
	if data.Until, _, err = s.Session().Expiry(); err != nil {
		return err
	}
	return s.show(w, r, http.StatusOK, "account.html", "Your account", data)
}

// endDevice logs out one of the user's devices.
func (s *shop) endDevice(w http.ResponseWriter, r *http.Request) error {
	user, err := s.Session().User()
	if err != nil {
		return err
	}
	if user == "" {
		return s.goTo(w, r, "/account")
	}
	sessions, err := s.app.Sessions(r.Context(), user)
	if err != nil {
		return err
	}
	// The handle comes from a browser. It must be one of this user's own.
	handle := r.PathValue("handle")
	if !slices.ContainsFunc(sessions, func(i pycket.SessionInfo) bool { return i.Handle == handle }) {
		return s.goToWith(w, r, "/account", warning, "That device was logged out already.")
	}
	if err := s.app.Revoke(r.Context(), handle); err != nil {
		return err
	}
	return s.goToWith(w, r, "/account", success, "That device is logged out.")
}

// endOthers logs out all of the user's devices but this one.
func (s *shop) endOthers(w http.ResponseWriter, r *http.Request) error {
	user, err := s.Session().User()
	if err != nil {
		return err
	}
	if user == "" {
		return s.goTo(w, r, "/account")
	}
	n, err := s.Session().RevokeOthers()
	if err != nil {
		return err
	}
	switch n {
	case 0:
		return s.goToWith(w, r, "/account", warning, "No other device was logged in.")
	case 1:
		return s.goToWith(w, r, "/account", success, "One other device is logged out.")
	}
	return s.goToWith(w, r, "/account", success, fmt.Sprintf("%d other devices are logged out.", n))
}
