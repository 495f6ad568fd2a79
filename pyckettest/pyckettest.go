// Package pyckettest tests handlers that use sessions, beside net/http/httptest: a request that already has a session
// in one line, and afterwards what the handler has left in it.
//
//	func TestCheckout(t *testing.T) {
//		app := pyckettest.New(t, pycket.Settings{})
//		r := app.Request("POST", "/checkout", nil, pyckettest.Session{User: "ann", Values: pycket.Values{"cart": []string{"tea"}}})
//		w, after := app.Serve(newHandler(app.App), r)
//		if w.Code != http.StatusSeeOther || len(after.Keys) > 0 {
//			t.Errorf("%d, and the session still has %q", w.Code, after.Keys)
//		}
//	}
//
// It needs nothing but Go: each App has a Redis inside the test. [Redis.Advance] lets time pass without waiting, and
// [Redis.SetDown] shows what visitors see when Redis is down. Settings.CacheFor is off, since that Redis can't say what
// has changed. Package pycket doesn't depend on this one, so programs don't contain it.
package pyckettest

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/gomodule/redigo/redis"

	"github.com/pycket/pycket"
	"github.com/pycket/pycket/internal/backdoor"
	"github.com/pycket/pycket/internal/store"
)

// An App is a [pycket.App] for one test, and its Redis. Both end with the test.
type App struct {
	*pycket.App
	*Redis

	t        testing.TB
	inside   backdoor.App
	keyspace keyspace
	absolute time.Duration
}

// New makes an App with a Redis of its own. Settings are those of the program. New fills in Redis and, if there are
// none, Secrets, and leaves CacheFor off; the rest of Settings.Redis, such as Prefix, counts. A bad setting, and every
// other failure of this package, ends the test with t.Fatal.
func New(t testing.TB, settings pycket.Settings) *App {
	t.Helper()
	return NewRedis(t).New(t, settings)
}

// A Session is what a request's session has in it before the request. It may be left empty: then there is none.
type Session struct {
	Values        pycket.Values
	User          string           // has logged in, see [pycket.SessionManager.Login]
	AuthTime      time.Time        // when User was authenticated; zero means now
	Notifications pycket.Values    // wait to be read
	Messages      []pycket.Message // wait to be drained
}

// Request returns a request, as httptest.NewRequest does, of a browser that has a session with this in it. For the
// browser's next request see [State.Request]; for a browser without a session use httptest.NewRequest.
func (a *App) Request(method, target string, body io.Reader, s Session) *http.Request {
	a.t.Helper()
	r := httptest.NewRequest(method, target, body)
	w := httptest.NewRecorder()
	// The request is one of this machine's, which may have a Secure cookie without TLS.
	a.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.begin(pycket.NewSessionManager(w, r), pycket.NewNotificationManager(w, r), s)
	})).ServeHTTP(w, httptest.NewRequest("GET", "http://localhost/", nil))
	after := a.after(w, httptest.NewRequest("GET", "/", nil))
	if !s.AuthTime.IsZero() {
		key := a.keyspace.prefix + "s:{" + after.handle + "}"
		a.Redis.do(redis.Args{"SELECT", a.keyspace.sessions}, redis.Args{"HSET", key, store.AuthField, s.AuthTime.UnixMicro()})
	}
	if after.browser != nil {
		r.AddCookie(after.browser)
	}
	return r
}

// begin puts into a session what it is to have.
func (a *App) begin(session *pycket.SessionManager, notifications *pycket.NotificationManager, s Session) {
	a.t.Helper()
	var err error
	switch {
	case s.User != "":
		err = session.Login(s.User, s.Values)
	case s.AuthTime.IsZero():
		err = session.SetMany(s.Values)
	default:
		err = errors.New("a Session has an AuthTime and no User")
	}
	if err == nil {
		err = notifications.SetMany(s.Notifications)
	}
	for _, m := range s.Messages {
		if err == nil {
			err = notifications.Add(m.Level, m.Text)
		}
	}
	if err != nil {
		a.t.Fatal("pyckettest: the session of a request: ", err)
	}
}

// Serve serves a request, through [pycket.App.Wrap] if the handler isn't wrapped itself. It returns the response, and
// the session as the response has left it. Looking at a session doesn't renew it.
func (a *App) Serve(handler http.Handler, r *http.Request) (*httptest.ResponseRecorder, State) {
	a.t.Helper()
	w := httptest.NewRecorder()
	a.Wrap(handler).ServeHTTP(w, r)
	return w, a.after(w, r)
}
