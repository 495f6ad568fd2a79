package pycket_test

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"

	"github.com/pycket/pycket"
	"github.com/pycket/pycket/embedded"
)

// Shop is a handler of several routes: the mixins are embedded by value.
type Shop struct {
	pycket.SessionMixin
	pycket.NotificationMixin
	Currency string // whatever else the handler needs
}

// AddToCart appends to a list, and loses nothing to another tab that does the same.
func (h *Shop) AddToCart(w http.ResponseWriter, r *http.Request) {
	cart, err := pycket.Update(h.Session(), "cart", nil, func(cart []string) ([]string, error) {
		return append(cart, r.FormValue("item")), nil
	})
	if err == nil {
		err = h.Notifications().Add("info", fmt.Sprintf("%d in the cart", len(cart)))
	}
	if err != nil {
		http.Error(w, "Please come back later.", http.StatusServiceUnavailable)
		return
	}
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// Show is the page: every message is shown once.
func (h *Shop) Show(w http.ResponseWriter, r *http.Request) {
	cart, err := pycket.Get(h.Session(), "cart", []string{})
	if err != nil {
		http.Error(w, "Please come back later.", http.StatusServiceUnavailable)
		return
	}
	messages, _ := h.Notifications().Drain()
	fmt.Fprintln(w, h.Currency, strings.Join(cart, ", "), messages)
}

func ExampleHandlerFunc() {
	redis, err := embedded.Start("127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer redis.Close()
	app, err := pycket.New(pycket.Settings{
		Secrets: []string{"32 random bytes: openssl rand -base64 32"},
		Redis:   pycket.RedisSettings{URL: redis.URL()},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer app.Close()

	shop := Shop{Currency: "EUR"}
	mux := http.NewServeMux()
	mux.Handle("GET /", pycket.HandlerFunc(shop, (*Shop).Show))
	mux.Handle("POST /cart", pycket.HandlerFunc(shop, (*Shop).AddToCart))
	server := httptest.NewServer(app.Wrap(mux))
	defer server.Close()

	jar, _ := cookiejar.New(nil)
	browser := &http.Client{Jar: jar}
	for _, item := range []string{"tea", "cake"} {
		response, err := browser.PostForm(server.URL+"/cart", url.Values{"item": {item}})
		if err != nil {
			log.Fatal(err)
		}
		page, _ := io.ReadAll(response.Body)
		response.Body.Close()
		fmt.Print(string(page))
	}
	// Output:
	// EUR tea [{info 1 in the cart}]
	// EUR tea, cake [{info 2 in the cart}]
}

// Logging in, and "log out everywhere else".
func ExampleApp_RevokeUser() {
	redis, err := embedded.Start("127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer redis.Close()
	secret := "32 random bytes: openssl rand -base64 32"
	codec, err := pycket.Sealed(pycket.JSON{}, secret) // values are encrypted at rest
	if err != nil {
		log.Fatal(err)
	}
	app, err := pycket.New(pycket.Settings{
		Secrets: []string{secret},
		Codec:   codec,
		Redis:   pycket.RedisSettings{URL: redis.URL(), DBSessions: new(10), DBNotifications: new(11)},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer app.Close()

	mux := http.NewServeMux()
	mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		session := pycket.NewSessionManager(w, r) // without a mixin
		if err := session.Login("ann", pycket.Values{"theme": "dark"}); err != nil {
			http.Error(w, "Please come back later.", http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("POST /others", func(w http.ResponseWriter, r *http.Request) {
		devices, err := app.Sessions(r.Context(), "ann")
		if err != nil {
			http.Error(w, "Please come back later.", http.StatusServiceUnavailable)
			return
		}
		var mine string
		for _, device := range devices {
			if device.Current {
				mine = device.Handle
			}
		}
		ended, err := app.RevokeUser(r.Context(), "ann", mine)
		fmt.Fprintln(w, len(devices), "devices,", ended, "logged out", err)
	})
	server := httptest.NewServer(app.Wrap(mux))
	defer server.Close()

	var last *http.Client
	for range 3 {
		jar, _ := cookiejar.New(nil)
		last = &http.Client{Jar: jar}
		if _, err := last.PostForm(server.URL+"/login", nil); err != nil {
			log.Fatal(err)
		}
	}
	response, err := last.PostForm(server.URL+"/others", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	page, _ := io.ReadAll(response.Body)
	fmt.Print(string(page))
	// Output:
	// 3 devices, 2 logged out <nil>
}
