package pyckettest_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pycket/pycket"
	"github.com/pycket/pycket/pyckettest"
)

// A shop is what the examples test.
type shop struct {
	pycket.SessionMixin
	pycket.NotificationMixin
}

func newHandler(app *pycket.App) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("POST /login", pycket.HandlerFunc(shop{}, (*shop).login))
	mux.Handle("POST /logout", pycket.HandlerFunc(shop{}, (*shop).logout))
	mux.Handle("GET /cart", pycket.HandlerFunc(shop{}, (*shop).show))
	mux.Handle("POST /cart", pycket.HandlerFunc(shop{}, (*shop).add))
	mux.Handle("POST /checkout", pycket.HandlerFunc(shop{}, (*shop).checkOut))
	return app.Wrap(mux)
}

func (h *shop) login(w http.ResponseWriter, r *http.Request) {
	err := h.Session().Login(r.FormValue("user"), nil)
	if err == nil && r.FormValue("remember") != "" {
		err = h.Session().Remember(30 * 24 * time.Hour)
	}
	redirect(w, r, "/cart", err)
}

func (h *shop) logout(w http.ResponseWriter, r *http.Request) {
	redirect(w, r, "/", h.Session().Destroy())
}

func (h *shop) show(w http.ResponseWriter, r *http.Request) {
	user, err := h.Session().User()
	if err != nil {
		http.Error(w, "Please come back later.", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintf(w, "user: %q", user)
}

func (h *shop) add(w http.ResponseWriter, r *http.Request) {
	cart, err := pycket.Update(h.Session(), "cart", nil, func(cart []string) ([]string, error) {
		return append(cart, r.FormValue("item")), nil
	})
	if err == nil {
		err = h.Notifications().Set("added", len(cart))
	}
	redirect(w, r, "/cart", err)
}

// checkOut asks for the password again if it was given more than ten minutes ago.
func (h *shop) checkOut(w http.ResponseWriter, r *http.Request) {
	at, err := h.Session().AuthTime()
	if err == nil && time.Since(at) > 10*time.Minute {
		redirect(w, r, "/login", nil)
		return
	}
	if err == nil {
		err = h.Session().Delete("cart")
	}
	if err == nil {
		err = h.Notifications().Add("success", "Thank you.")
	}
	redirect(w, r, "/thanks", err)
}

func redirect(w http.ResponseWriter, r *http.Request, to string, err error) {
	switch {
	case errors.Is(err, pycket.ErrUnavailable):
		http.Error(w, "Please come back later.", http.StatusServiceUnavailable)
	case err != nil:
		http.Error(w, "Something went wrong.", http.StatusInternalServerError)
	default:
		http.Redirect(w, r, to, http.StatusSeeOther)
	}
}

func TestAddToCart(t *testing.T) {
	app := pyckettest.New(t, pycket.Settings{})
	r := app.Request("POST", "/cart?item=cake", nil, pyckettest.Session{
		Values: pycket.Values{"cart": []string{"tea"}},
	})
	_, after := app.Serve(newHandler(app.App), r)
	if cart := pyckettest.Value[[]string](after, "cart"); !slices.Equal(cart, []string{"tea", "cake"}) {
		t.Errorf("the cart has %q", cart)
	}
	if added := pyckettest.Notification[int](after, "added"); added != 2 {
		t.Errorf("the notification says %d", added)
	}
	if after.Cookie != nil {
		t.Error("the browser got another cookie")
	}
}

func TestTour(t *testing.T) {
	app := pyckettest.New(t, pycket.Settings{})
	handler := newHandler(app.App)

	login := httptest.NewRequest("POST", "/login", strings.NewReader(url.Values{"user": {"ann"}}.Encode()))
	login.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	_, after := app.Serve(handler, login)
	if after.User != "ann" || after.Cookie == nil {
		t.Errorf("after the login: user %q, cookie %v", after.User, after.Cookie)
	}

	w, after := app.Serve(handler, after.Request("GET", "/cart", nil))
	if got := w.Body.String(); got != `user: "ann"` {
		t.Error(got)
	}

	_, after = app.Serve(handler, after.Request("POST", "/logout", nil))
	if after.Live || after.Cookie == nil || after.Cookie.MaxAge >= 0 {
		t.Errorf("after the logout: live %v, cookie %v", after.Live, after.Cookie)
	}
}

func TestCheckoutAsksForThePassword(t *testing.T) {
	app := pyckettest.New(t, pycket.Settings{})
	r := app.Request("POST", "/checkout", nil, pyckettest.Session{User: "ann"})
	app.Advance(11 * time.Minute)
	w, after := app.Serve(newHandler(app.App), r)
	if to := w.Header().Get("Location"); to != "/login" {
		t.Errorf("a redirect to %q", to)
	}
	if !after.Live {
		t.Error("the session has ended")
	}
}

func TestIdleTimeout(t *testing.T) {
	app := pyckettest.New(t, pycket.Settings{IdleTimeout: 30 * time.Minute})
	r := app.Request("GET", "/cart", nil, pyckettest.Session{User: "ann"})
	app.Advance(31 * time.Minute)
	w, _ := app.Serve(newHandler(app.App), r)
	if got := w.Body.String(); got != `user: ""` {
		t.Error(got)
	}
}

func TestRedisDown(t *testing.T) {
	app := pyckettest.New(t, pycket.Settings{})
	r := app.Request("POST", "/cart?item=tea", nil, pyckettest.Session{User: "ann"})
	app.SetDown(true)
	w, _ := app.Serve(newHandler(app.App), r)
	if w.Code != http.StatusServiceUnavailable {
		t.Errorf("status %d while Redis is down", w.Code)
	}
	app.SetDown(false)
	_, after := app.Serve(newHandler(app.App), r)
	if cart := pyckettest.Value[[]string](after, "cart"); !slices.Equal(cart, []string{"tea"}) {
		t.Errorf("the cart has %q", cart)
	}
}

func TestTwentyTabs(t *testing.T) {
	app := pyckettest.New(t, pycket.Settings{})
	handler := newHandler(app.App)
	_, after := app.Serve(handler, httptest.NewRequest("POST", "/login?user=ann", nil))
	var tabs sync.WaitGroup
	for range 20 {
		r := after.Request("POST", "/cart?item=tea", nil)
		tabs.Go(func() { handler.ServeHTTP(httptest.NewRecorder(), r) })
	}
	tabs.Wait()
	_, after = app.Serve(handler, after.Request("GET", "/cart", nil))
	if cart := pyckettest.Value[[]string](after, "cart"); len(cart) != 20 {
		t.Errorf("of 20 items, the cart has %d", len(cart))
	}
}

func TestTwoServers(t *testing.T) {
	redis := pyckettest.NewRedis(t)
	one, other := redis.New(t, pycket.Settings{}), redis.New(t, pycket.Settings{})
	_, after := one.Serve(newHandler(one.App), httptest.NewRequest("POST", "/login?user=ann", nil))
	w, _ := other.Serve(newHandler(other.App), after.Request("GET", "/cart", nil))
	if got := w.Body.String(); got != `user: "ann"` {
		t.Error(got)
	}
}
