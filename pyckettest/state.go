package pyckettest

import (
	"crypto/sha256"
	"encoding/base64"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gomodule/redigo/redis"

	"github.com/pycket/pycket"
	"github.com/pycket/pycket/internal/signed"
	"github.com/pycket/pycket/internal/store"
)

// A State is the session of a browser after a response. [Value] and [Notification] read what is in it.
type State struct {
	// Cookie is the session's cookie in the response, nil if it has none. If its MaxAge is negative, it deletes the
	// browser's.
	Cookie *http.Cookie

	// Live reports whether the browser has a session that has neither ended nor expired. If it has none, all that follows
	// is empty.
	Live bool

	User          string           // "" if nobody has logged in
	AuthTime      time.Time        // when User was authenticated; zero if never
	Keys          []string         // the names of values, sorted
	Notifications []string         // the names of notifications that nobody has read, sorted
	Messages      []pycket.Message // that wait to be drained, in order

	app           *App
	handle        string
	browser       *http.Cookie // which the browser now has; nil if none
	values, notes map[string]string
}

// Value returns a value of the session. If there is none, or none of this type, the test ends.
func Value[T any](s State, name string) T {
	s.app.t.Helper()
	return decoded[T](s, 's', s.values, name)
}

// Notification returns a notification that waits to be read, and leaves it there. If there is none, or none of this
// type, the test ends.
func Notification[T any](s State, name string) T {
	s.app.t.Helper()
	return decoded[T](s, 'n', s.notes, name)
}

func decoded[T any](s State, kind byte, from map[string]string, name string) (value T) {
	s.app.t.Helper()
	stored, ok := from[name]
	if !ok {
		s.app.t.Fatalf("pyckettest: nothing is named %q; there is %q", name, slices.Sorted(maps.Keys(from)))
	}
	if err := s.app.inside.Decode(kind, s.handle, name, []byte(stored), &value); err != nil {
		s.app.t.Fatalf("pyckettest: %q: %v", name, err)
	}
	return value
}

// Request returns the next request of the same browser, as httptest.NewRequest does. Of its cookies it has the session's
// only.
func (s State) Request(method, target string, body io.Reader) *http.Request {
	r := httptest.NewRequest(method, target, body)
	if s.browser != nil {
		r.AddCookie(s.browser)
	}
	return r
}

// after returns the session of the browser that has sent r and got w.
func (a *App) after(w *httptest.ResponseRecorder, r *http.Request) State {
	a.t.Helper()
	s := State{app: a}
	sent := r.Cookies()
	for _, cookie := range w.Result().Cookies() {
		if cookie.Name == a.inside.Signer.Name {
			s.Cookie, sent = cookie, []*http.Cookie{cookie}
		}
	}
	for _, cookie := range sent {
		if cookie.Name != a.inside.Signer.Name || cookie.MaxAge < 0 {
			continue
		}
		s.browser = cookie
		if found := a.inside.Signer.Verify(cookie.Value); found != nil && !found.Expired() && a.read(&s, found) {
			break
		}
	}
	return s
}

// read reads the session that a cookie names, as docs/storage.md describes it, and reports whether it is alive. Unlike
// an App, it changes nothing.
func (a *App) read(s *State, cookie *signed.Value[*store.ID]) bool {
	a.t.Helper()
	key := func(kind string) string { return a.keyspace.prefix + kind + ":{" + cookie.Data.Handle + "}" }
	replies := a.Redis.do(
		redis.Args{"SELECT", a.keyspace.sessions}, redis.Args{"HGETALL", key("s")},
		redis.Args{"SELECT", a.keyspace.notifications}, redis.Args{"HGETALL", key("n")}, redis.Args{"LRANGE", key("m"), 0, -1},
	)
	fields, _ := redis.StringMap(replies[1], nil)
	record := fields["pycket:id"]
	verifier := sha256.Sum256(cookie.Data.Append(nil))
	if !strings.HasPrefix(record, base64.RawURLEncoding.EncodeToString(verifier[:16])) || len(record) < 36 {
		return false
	}
	created, _ := strconv.ParseInt(record[22:35], 10, 64)
	if a.absolute > 0 && time.Since(time.UnixMilli(created)) >= a.absolute {
		return false
	}
	s.Live, s.User, s.AuthTime = true, fields[store.UserField], store.Micros([]byte(fields[store.AuthField]))
	maps.DeleteFunc(fields, func(name, _ string) bool { return strings.HasPrefix(name, store.Reserved) })
	notes, _ := redis.StringMap(replies[3], nil)
	messages, _ := redis.ByteSlices(replies[4], nil)
	s.handle, s.values, s.notes = cookie.Data.Handle, fields, notes
	s.Keys, s.Notifications = slices.Sorted(maps.Keys(fields)), slices.Sorted(maps.Keys(notes))
	for _, stored := range messages {
		var message pycket.Message
		if err := a.inside.Decode('m', s.handle, "", stored, &message); err != nil {
			a.t.Fatal("pyckettest: a message: ", err)
		}
		s.Messages = append(s.Messages, message)
	}
	return true
}
