package pycket_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/pycket/pycket"
)

// Visits is a handler of one route. Every request is served by a copy of it.
type Visits struct {
	pycket.SessionMixin
	Greeting string
}

func (h *Visits) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	visits, err := h.Session().Increment("visits", 1)
	fmt.Fprintln(w, h.Greeting, visits, err)
}

func ExampleHandler() {
	browser := serve(pycket.Handler(Visits{Greeting: "Hello"}))
	browser.get("/")
	browser.get("/")
	// Output:
	// Hello 1 <nil>
	// Hello 2 <nil>
}

func ExampleSessionMixin_Session() {
	browser := serve(pycket.Handler(Visits{Greeting: "Welcome"}))
	browser.get("/")
	// Output:
	// Welcome 1 <nil>
}

// A framework that makes a handler for each request itself binds it.
func ExampleBind() {
	serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := &Visits{Greeting: "Hello"}
		pycket.Bind(h, w, r)
		h.ServeHTTP(w, r)
	})).get("/")
	// Output:
	// Hello 1 <nil>
}

func ExampleNewSessionManager() {
	serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session := pycket.NewSessionManager(w, r)
		err := session.Set("foo", []string{"bar", "baz"})
		foo, _ := pycket.Get(session, "foo", []string{})
		fmt.Fprintln(w, foo, err)
	})).get("/")
	// Output:
	// [bar baz] <nil>
}

func ExampleGet() {
	serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session := pycket.NewSessionManager(w, r)
		name, err := pycket.Get(session, "this doesn't exist", "so give me this instead")
		fmt.Fprintln(w, name, err)
	})).get("/")
	// Output:
	// so give me this instead <nil>
}

// Two tabs that add at once both succeed.
func ExampleUpdate() {
	browser := serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session := pycket.NewSessionManager(w, r)
		cart, err := pycket.Update(session, "cart", nil, func(cart map[string]int) (map[string]int, error) {
			if cart == nil {
				cart = map[string]int{}
			}
			cart[r.FormValue("item")]++ // may run again, so it has no other effect
			return cart, nil
		})
		fmt.Fprintln(w, cart, err)
	}))
	browser.get("/?item=tea")
	browser.get("/?item=tea")
	// Output:
	// map[tea:1] <nil>
	// map[tea:2] <nil>
}

func ExampleSessionManager_Set() {
	serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session := pycket.NewSessionManager(w, r)
		if err := session.Set("theme", "dark"); err != nil {
			http.Error(w, "Please try again in a moment.", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "stored")
	})).get("/")
	// Output:
	// stored
}

func ExampleSessionManager_SetMany() {
	serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session := pycket.NewSessionManager(w, r)
		err := session.SetMany(pycket.Values{"theme": "dark", "size": 12}) // both, or neither
		names, _ := session.Keys()
		fmt.Fprintln(w, names, err)
	})).get("/")
	// Output:
	// [size theme] <nil>
}

func ExampleSessionManager_Lookup() {
	serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session := pycket.NewSessionManager(w, r)
		var size int
		found, err := session.Lookup("size", &size)
		fmt.Fprintln(w, found, size, err)
	})).get("/")
	// Output:
	// false 0 <nil>
}

func ExampleSessionManager_Has() {
	serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session := pycket.NewSessionManager(w, r)
		session.Set("theme", "dark")
		has, err := session.Has("theme")
		fmt.Fprintln(w, has, err)
	})).get("/")
	// Output:
	// true <nil>
}

func ExampleSessionManager_Keys() {
	serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session := pycket.NewSessionManager(w, r)
		session.SetMany(pycket.Values{"b": 2, "a": 1})
		names, err := session.Keys()
		fmt.Fprintln(w, names, err)
	})).get("/")
	// Output:
	// [a b] <nil>
}

func ExampleSessionManager_Delete() {
	serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session := pycket.NewSessionManager(w, r)
		session.SetMany(pycket.Values{"a": 1, "b": 2, "c": 3})
		err := session.Delete("a", "b", "not there")
		names, _ := session.Keys()
		fmt.Fprintln(w, names, err)
	})).get("/")
	// Output:
	// [c] <nil>
}

func ExampleSessionManager_Increment() {
	serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session := pycket.NewSessionManager(w, r)
		session.Increment("tries", 1)
		tries, err := session.Increment("tries", 1)
		fmt.Fprintln(w, tries, err)
	})).get("/")
	// Output:
	// 2 <nil>
}

// A long request that looks again.
func ExampleSessionManager_Refresh() {
	serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session := pycket.NewSessionManager(w, r)
		session.Set("progress", 10)
		session.Refresh() // what follows is read from Redis, with what other requests have written
		progress, err := pycket.Get(session, "progress", 0)
		fmt.Fprintln(w, progress, err)
	})).get("/")
	// Output:
	// 10 <nil>
}

// Work that goes on when the response has been sent.
func ExampleSessionManager_WithContext() {
	done := make(chan error)
	browser := serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session := pycket.NewSessionManager(w, r)
		session.Set("report", "in work") // begins the session, while its cookie can be sent
		later := session.WithContext(context.WithoutCancel(r.Context()))
		go func() { done <- later.Set("report", "ready") }()
		fmt.Fprintln(w, "begun")
	}))
	browser.get("/")
	fmt.Println(<-done)
	// Output:
	// begun
	// <nil>
}

func ExampleSessionManager_Login() {
	browser := serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session := pycket.NewSessionManager(w, r)
		if r.URL.Path == "/login" { // and the password is right
			if err := session.Login("ann", pycket.Values{"theme": "dark"}); err != nil {
				http.Error(w, "Please try again in a moment.", http.StatusServiceUnavailable)
				return
			}
		}
		user, err := session.User()
		fmt.Fprintf(w, "%q %v\n", user, err)
	}))
	browser.get("/")
	browser.get("/login")
	browser.get("/")
	// Output:
	// "" <nil>
	// "ann" <nil>
	// "ann" <nil>
}

func ExampleSessionManager_User() {
	serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, err := pycket.NewSessionManager(w, r).User()
		if err == nil && user == "" {
			http.Error(w, "Please log in.", http.StatusUnauthorized)
			return
		}
		fmt.Fprintln(w, user, err)
	})).get("/")
	// Output:
	// Please log in.
}

func ExampleSessionManager_SetUser() {
	serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session := pycket.NewSessionManager(w, r)
		err := session.SetUser("ann") // nobody has proved anything
		at, _ := session.AuthTime()
		fmt.Fprintln(w, at.IsZero(), err)
	})).get("/")
	// Output:
	// true <nil>
}

// Ask for the password again if it was given long ago.
func ExampleSessionManager_AuthTime() {
	serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session := pycket.NewSessionManager(w, r)
		session.Login("ann", nil)
		at, err := session.AuthTime()
		if err == nil && time.Since(at) > 10*time.Minute {
			http.Redirect(w, r, "/password", http.StatusSeeOther)
			return
		}
		fmt.Fprintln(w, "go on", err)
	})).get("/")
	// Output:
	// go on <nil>
}

func ExampleSessionManager_Remember() {
	serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session := pycket.NewSessionManager(w, r)
		err := session.Login("ann", nil)
		if err == nil && r.FormValue("remember") != "" {
			err = session.Remember(30 * 24 * time.Hour)
		}
		remembered, _ := session.Remembered()
		fmt.Fprintln(w, remembered, err)
	})).get("/?remember=on")
	// Output:
	// true <nil>
}

func ExampleSessionManager_Remembered() {
	serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		remembered, err := pycket.NewSessionManager(w, r).Remembered()
		fmt.Fprintln(w, remembered, err)
	})).get("/")
	// Output:
	// false <nil>
}

// A user who becomes an administrator gets a new id.
func ExampleSessionManager_Rotate() {
	serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session := pycket.NewSessionManager(w, r)
		session.Set("role", "admin")
		err := session.Rotate()
		role, _ := pycket.Get(session, "role", "")
		fmt.Fprintln(w, role, err)
	})).get("/")
	// Output:
	// admin <nil>
}

// A logout. What another request of this browser is writing meanwhile is lost with the session, and it knows.
func ExampleSessionManager_Destroy() {
	browser := serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session := pycket.NewSessionManager(w, r)
		switch r.URL.Path {
		case "/login":
			fmt.Fprintln(w, session.Login("ann", nil))
		case "/logout":
			err := session.Destroy()
			if err == nil { // in a fresh session
				err = pycket.NewNotificationManager(w, r).Add("info", "You are logged out.")
			}
			fmt.Fprintln(w, err)
		default:
			user, err := session.User()
			if errors.Is(err, pycket.ErrUnavailable) {
				http.Error(w, "Please try again in a moment.", http.StatusServiceUnavailable)
				return
			}
			fmt.Fprintf(w, "%q\n", user)
		}
	}))
	browser.get("/login")
	browser.get("/logout")
	browser.get("/")
	// Output:
	// <nil>
	// <nil>
	// ""
}
