package pycket_test

import (
	"bytes"
	"context"
	"expvar"
	"fmt"
	"html/template"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

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
	shop := Shop{Currency: "EUR"}
	mux := http.NewServeMux()
	mux.Handle("GET /", pycket.HandlerFunc(shop, (*Shop).Show))
	mux.Handle("POST /cart", pycket.HandlerFunc(shop, (*Shop).AddToCart))

	browser := serve(mux)
	browser.post("/cart", "item", "tea")
	browser.post("/cart", "item", "cake")
	// Output:
	// EUR tea [{info 1 in the cart}]
	// EUR tea, cake [{info 2 in the cart}]
}

// A service layer, where only a context is at hand.
func ExampleSessionFrom() {
	search := func(ctx context.Context, words string) (string, error) {
		count, err := pycket.SessionFrom(ctx).Increment("searches", 1)
		return fmt.Sprintf("search %d: %s", count, words), err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /search", func(w http.ResponseWriter, r *http.Request) {
		reply(w, func() (any, error) { return search(r.Context(), r.FormValue("q")) })
	})

	browser := serve(mux)
	browser.get("/search?q=tea")
	browser.get("/search?q=cake")
	// Output:
	// search 1: tea
	// search 2: cake
}

func ExampleNotificationsFrom() {
	save := func(ctx context.Context, draft string) error {
		return pycket.NotificationsFrom(ctx).Add("success", draft+" is saved")
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		reply(w, func() (any, error) { return pycket.NewNotificationManager(w, r).Drain() })
	})
	mux.HandleFunc("POST /save", func(w http.ResponseWriter, r *http.Request) {
		if err := save(r.Context(), r.FormValue("draft")); err != nil {
			http.Error(w, "Please come back later.", http.StatusServiceUnavailable)
			return
		}
		http.Redirect(w, r, "/", http.StatusSeeOther)
	})

	serve(mux).post("/save", "draft", "Chapter 1")
	// Output:
	// [{success Chapter 1 is saved}]
}

// A layout that shows all messages, on whatever page they come.
func ExampleTemplateFuncs() {
	page := template.Must(template.New("page").Funcs(pycket.TemplateFuncs()).Parse(
		`{{range messages .Context}}<p class="{{.Level}}">{{.Text}}</p> {{end}}{{with notification .Context "tip"}}<i>{{.}}</i> {{end}}Hello!`))

	mux := http.NewServeMux()
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		var html bytes.Buffer // so that an error leaves no half page
		if err := page.Execute(&html, r); err != nil {
			http.Error(w, "Please come back later.", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, &html)
	})
	mux.HandleFunc("POST /order", func(w http.ResponseWriter, r *http.Request) {
		notifications := pycket.NewNotificationManager(w, r)
		notifications.Add("success", "Tea & cake are on their way.")
		notifications.Set("tip", "Water it.")
		http.Redirect(w, r, "/", http.StatusSeeOther)
	})

	browser := serve(mux)
	browser.post("/order")
	browser.get("/")
	// Output:
	// <p class="success">Tea &amp; cake are on their way.</p> <i>Water it.</i> Hello!
	// Hello!
}

// The state of a login at another site is used once, and by one of two requests that bring it back.
func ExamplePop() {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /login", func(w http.ResponseWriter, r *http.Request) {
		reply(w, func() (any, error) { return "off", pycket.NewSessionManager(w, r).Set("state", "xyzzy") }) // rand.Text()
	})
	mux.HandleFunc("GET /callback", func(w http.ResponseWriter, r *http.Request) {
		reply(w, func() (any, error) {
			state, err := pycket.Pop(pycket.NewSessionManager(w, r), "state", "")
			return state != "" && state == r.FormValue("state"), err
		})
	})

	browser := serve(mux)
	browser.get("/login")
	browser.get("/callback?state=xyzzy")
	browser.get("/callback?state=xyzzy")
	// Output:
	// off
	// true
	// false
}

// The cart and everything else is gone, and Ann is still logged in.
func ExampleSessionManager_Clear() {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /login", func(w http.ResponseWriter, r *http.Request) {
		reply(w, func() (any, error) {
			return "hello", pycket.NewSessionManager(w, r).Login("ann", pycket.Values{"cart": []string{"tea"}, "theme": "dark"})
		})
	})
	mux.HandleFunc("GET /reset", func(w http.ResponseWriter, r *http.Request) {
		reply(w, func() (any, error) {
			session := pycket.NewSessionManager(w, r)
			if err := session.Clear(); err != nil {
				return nil, err
			}
			names, err := session.Keys()
			if err != nil {
				return nil, err
			}
			user, err := session.User()
			return fmt.Sprint(len(names), " values, user ", user), err
		})
	})

	browser := serve(mux)
	browser.get("/login")
	browser.get("/reset")
	// Output:
	// hello
	// 0 values, user ann
}

// A page that warns of the end. It may ask again and again: that is no use of the session.
func ExampleSessionManager_Expiry() {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /begin", func(w http.ResponseWriter, r *http.Request) {
		reply(w, func() (any, error) { return "begun", pycket.NewSessionManager(w, r).Set("a", "b") })
	})
	mux.HandleFunc("GET /expiry", func(w http.ResponseWriter, r *http.Request) {
		reply(w, func() (any, error) {
			idle, absolute, err := pycket.NewSessionManager(w, r).Expiry()
			return fmt.Sprintf("in %v if you do nothing; at the latest: %v", time.Until(idle).Round(time.Hour), !absolute.IsZero()), err
		})
	})

	browser := serve(mux)
	browser.get("/begin")
	browser.get("/expiry")
	// Output:
	// begun
	// in 24h0m0s if you do nothing; at the latest: false
}

// A line of the log that names the session, and gives nothing away.
func ExampleSessionManager_Handle() {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /pay", func(w http.ResponseWriter, r *http.Request) {
		reply(w, func() (any, error) {
			session := pycket.NewSessionManager(w, r)
			if err := session.Set("paid", true); err != nil {
				return nil, err
			}
			handle, err := session.Handle()
			if err != nil {
				return nil, err
			}
			slog.Debug("paid", "session", handle)
			return fmt.Sprint(len(handle), " characters"), nil
		})
	})

	serve(mux).get("/pay")
	// Output:
	// 16 characters
}

// "Log out everywhere else".
func ExampleSessionManager_RevokeOthers() {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		reply(w, func() (any, error) { return "hello", pycket.NewSessionManager(w, r).Login("ann", nil) })
	})
	mux.HandleFunc("POST /others", func(w http.ResponseWriter, r *http.Request) {
		reply(w, func() (any, error) {
			ended, err := pycket.NewSessionManager(w, r).RevokeOthers()
			return fmt.Sprint(ended, " logged out"), err
		})
	})

	laptop := serve(mux)
	laptop.post("/login")
	phone := laptop.another()
	phone.post("/login")
	phone.post("/others")
	phone.post("/others")
	laptop.post("/others") // it has no session any more
	// Output:
	// hello
	// hello
	// 1 logged out
	// 0 logged out
	// Please come back later.
}

// "Your devices", and the end of all of them: after a new password, say.
func ExampleApp_RevokeUser() {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		reply(w, func() (any, error) { return "hello", pycket.NewSessionManager(w, r).Login("ann", nil) })
	})
	browser := serve(mux)
	browser.post("/login")
	browser.another().post("/login")

	app := browser.app
	devices, err := app.Sessions(context.Background(), "ann")
	fmt.Println(len(devices), "devices", err)
	ended, err := app.RevokeUser(context.Background(), "ann")
	fmt.Println(ended, "logged out", err)
	// Output:
	// hello
	// hello
	// 2 devices <nil>
	// 2 logged out <nil>
}

// reply writes what a handler has to say, or that it has failed.
func reply(w http.ResponseWriter, f func() (any, error)) {
	text, err := f()
	if err != nil {
		http.Error(w, "Please come back later.", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, text)
}

// A visitor is a browser that prints the pages it gets.
type visitor struct {
	app    *pycket.App
	url    string
	client *http.Client
}

// serve serves a handler from a Redis of its own, and returns a browser.
func serve(handler http.Handler) visitor {
	redis, err := embedded.Start("127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	app, err := pycket.New(pycket.Settings{
		Secrets: []string{"32 random bytes: openssl rand -base64 32"},
		Redis:   pycket.RedisSettings{URL: redis.URL()},
	})
	if err != nil {
		log.Fatal(err)
	}
	server := httptest.NewServer(app.Wrap(handler))
	return visitor{app: app, url: server.URL}.another()
}

// another is another browser of the same site.
func (v visitor) another() visitor {
	jar, _ := cookiejar.New(nil)
	v.client = &http.Client{Jar: jar}
	return v
}

func (v visitor) get(path string) { v.show(v.client.Get(v.url + path)) }

// post posts a form of names and values in turn.
func (v visitor) post(path string, pairs ...string) {
	form := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		form.Set(pairs[i], pairs[i+1])
	}
	v.show(v.client.PostForm(v.url+path, form))
}

func (v visitor) show(response *http.Response, err error) {
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	page, _ := io.ReadAll(response.Body)
	fmt.Print(string(page))
}

// cost is what the operations of one page have cost.
type cost struct{ operations, roundTrips, micros atomic.Int64 }

type costKey struct{}

// observe is for Settings.Observe.
func observe(ctx context.Context, op pycket.Operation) {
	if page, ok := ctx.Value(costKey{}).(*cost); ok {
		page.operations.Add(1)
		page.roundTrips.Add(int64(op.RoundTrips))
		page.micros.Add(op.Took.Microseconds())
	}
}

func ExampleApp_Stats() {
	redis, err := embedded.Start("127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer redis.Close()
	app, err := pycket.New(pycket.Settings{
		Secrets: []string{"32 random bytes: openssl rand -base64 32"},
		Redis:   pycket.RedisSettings{URL: redis.URL()},
		Observe: observe,
	})
	if err != nil {
		log.Fatal(err)
	}
	defer app.Close()
	expvar.Publish("pycket", expvar.Func(func() any { return app.Stats() })) // for /debug/vars

	site := app.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		count, err := pycket.NewSessionManager(w, r).Increment("count", 1)
		if err != nil {
			http.Error(w, "Please come back later.", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, count, "visits")
	}))
	page := new(cost)
	r := httptest.NewRequest("GET", "/", nil)
	site.ServeHTTP(httptest.NewRecorder(), r.WithContext(context.WithValue(r.Context(), costKey{}, page)))

	fmt.Println("this page:", page.operations.Load(), "operation")
	fmt.Println("in all:", app.Stats().Operations["increment"].Outcomes)
	// Output:
	// this page: 1 operation
	// in all: map[ok:1]
}
