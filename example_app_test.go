package pycket_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/pycket/pycket"
)

// The settings of a site that thousands use. The zero value of all but Secrets is a good default.
func ExampleNew() {
	app, err := pycket.New(pycket.Settings{
		Secrets:         []string{"32 random bytes: openssl rand -base64 32"},
		Redis:           pycket.RedisSettings{URL: "rediss://pycket:password@redis.example:6379"},
		Cookies:         pycket.CookieSettings{Name: "__Host-id", Secure: pycket.SecureAlways},
		AbsoluteTimeout: 30 * 24 * time.Hour,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer app.Close()

	_, err = pycket.New(pycket.Settings{Secrets: []string{"too short"}})
	fmt.Println(err)
	// Output:
	// pycket: new: setting Secrets[0] is only 9 bytes long; use 32 or more random bytes, such as the output of "openssl rand -base64 32"
}

func ExampleApp_Wrap() {
	app := serve(http.NotFoundHandler()).app
	mux := http.NewServeMux()
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, pycket.NewSessionManager(w, r).Set("a", 1))
	})
	server := &http.Server{Addr: ":8080", Handler: app.Wrap(mux)}

	w := httptest.NewRecorder()
	server.Handler.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	fmt.Print(w.Body)
	// Output:
	// <nil>
}

// At the start of a program: what can't work is known before the first request.
func ExampleApp_Ping() {
	app := serve(http.NotFoundHandler()).app
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	fmt.Println(app.Ping(ctx))
	// Output:
	// <nil>
}

// At the end of a program, after the server's Shutdown has returned.
func ExampleApp_Close() {
	app := serve(http.NotFoundHandler()).app
	fmt.Println(app.Close())
	fmt.Println(errors.Is(app.Ping(context.Background()), pycket.ErrUnavailable))
	// Output:
	// <nil>
	// true
}

func ExampleApp_Sessions() {
	browser := serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, pycket.NewSessionManager(w, r).Login("ann", nil))
	}))
	browser.get("/")
	browser.another().get("/")
	devices, err := browser.app.Sessions(context.Background(), "ann")
	for _, d := range devices {
		fmt.Println(d.UserAgent, !d.SignedIn.IsZero(), d.Current)
	}
	fmt.Println(err)
	// Output:
	// <nil>
	// <nil>
	// Go-http-client/1.1 true false
	// Go-http-client/1.1 true false
	// <nil>
}

func ExampleApp_Revoke() {
	browser := serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session := pycket.NewSessionManager(w, r)
		if r.URL.Path == "/login" {
			session.Login("ann", nil)
		}
		user, err := session.User()
		fmt.Fprintf(w, "%q %v\n", user, err)
	}))
	browser.get("/login")
	devices, _ := browser.app.Sessions(context.Background(), "ann")
	for _, d := range devices {
		fmt.Println(browser.app.Revoke(context.Background(), d.Handle))
	}
	browser.get("/")
	// Output:
	// "ann" <nil>
	// <nil>
	// "" <nil>
}

func ExampleApp_CacheStats() {
	stats := serve(http.NotFoundHandler()).app.CacheStats()
	fmt.Println(stats.Hits, stats.Misses) // Settings.CacheFor is off
	// Output:
	// 0 0
}

// Values that only the application can read.
func ExampleSealed() {
	codec, err := pycket.Sealed(pycket.JSON{}, "32 random bytes: openssl rand -base64 32")
	if err != nil {
		fmt.Println(err)
		return
	}
	app, err := pycket.New(pycket.Settings{
		Secrets: []string{"32 other bytes: openssl rand -base64 32"},
		Codec:   codec,
	})
	fmt.Println(app != nil, err)
	// Output:
	// true <nil>
}
