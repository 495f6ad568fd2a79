package pyckettest_test

import (
	"fmt"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/pycket/pycket"
	"github.com/pycket/pycket/pyckettest"
)

var t = new(testing.T) // in a test, its own

// A handler's test, with the mixins' handler shop and newHandler(app *pycket.App) http.Handler.
func Example() {
	app := pyckettest.New(t, pycket.Settings{})
	r := app.Request("POST", "/cart?item=cake", nil, pyckettest.Session{
		User:   "ann",
		Values: pycket.Values{"cart": []string{"tea"}},
	})
	w, after := app.Serve(newHandler(app.App), r)
	fmt.Println(w.Code, after.User, pyckettest.Value[[]string](after, "cart"), pyckettest.Notification[int](after, "added"))
	// Output: 303 ann [tea cake] 2
}

func ExampleApp_Request() {
	app := pyckettest.New(t, pycket.Settings{})
	r := app.Request("POST", "/checkout", nil, pyckettest.Session{
		User:     "ann",
		AuthTime: time.Now().Add(-time.Hour),
		Messages: []pycket.Message{{Level: "info", Text: "Welcome."}},
	})
	w, after := app.Serve(newHandler(app.App), r)
	fmt.Println(w.Header().Get("Location"), after.Messages)
	// Output: /login [{info Welcome.}]
}

func ExampleState_Request() {
	app := pyckettest.New(t, pycket.Settings{})
	handler := newHandler(app.App)
	_, after := app.Serve(handler, httptest.NewRequest("POST", "/login?user=ann", nil))
	w, _ := app.Serve(handler, after.Request("GET", "/cart", nil))
	fmt.Println(w.Body)
	// Output: user: "ann"
}

func ExampleRedis_New() {
	redis := pyckettest.NewRedis(t)
	one, other := redis.New(t, pycket.Settings{}), redis.New(t, pycket.Settings{})
	_, after := one.Serve(newHandler(one.App), httptest.NewRequest("POST", "/login?user=ann", nil))
	w, _ := other.Serve(newHandler(other.App), after.Request("GET", "/cart", nil))
	fmt.Println(w.Body)
	// Output: user: "ann"
}

func ExampleRedis_Advance() {
	app := pyckettest.New(t, pycket.Settings{IdleTimeout: 30 * time.Minute})
	r := app.Request("GET", "/cart", nil, pyckettest.Session{User: "ann"})
	app.Advance(31 * time.Minute)
	_, after := app.Serve(newHandler(app.App), r)
	fmt.Println(after.Live)
	// Output: false
}

func ExampleRedis_SetDown() {
	app := pyckettest.New(t, pycket.Settings{})
	r := app.Request("GET", "/cart", nil, pyckettest.Session{User: "ann"})
	app.SetDown(true)
	w, _ := app.Serve(newHandler(app.App), r)
	fmt.Println(w.Code, w.Body)
	// Output: 503 Please come back later.
}
