package pycket_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/gomodule/redigo/redis"

	"github.com/pycket/pycket"
	"github.com/pycket/pycket/internal/redistest"
)

// discard is a writer that costs next to nothing.
type discard struct{ header http.Header }

func (w *discard) Header() http.Header         { return w.header }
func (w *discard) Write(p []byte) (int, error) { return len(p), nil }
func (w *discard) WriteHeader(int)             {}

type handlerFunc func(s *pycket.SessionManager) error

// measured is a handler of an application, with a mixin.
type measured struct {
	pycket.SessionMixin
	use handlerFunc
}

func (h *measured) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := h.use(h.Session()); err != nil {
		panic(err)
	}
}

// BenchmarkRequest measures a request of each kind, against a real Redis, by one goroutine and without a
// server around it, next to a bare redigo GET in the same run:
//
//	go test -run - -bench Request -benchmem
func BenchmarkRequest(b *testing.B) {
	server := redistest.Start(b)
	app := newApp(b, settings(server))
	wrap := func(use handlerFunc) http.Handler { return app.Wrap(pycket.Handler(measured{use: use})) }

	fill := httptest.NewRecorder()
	wrap(func(s *pycket.SessionManager) error {
		return s.SetMany(pycket.Values{"name": "forty bytes of text, more or less, here", "count": 0})
	}).ServeHTTP(fill, httptest.NewRequest("GET", "/", nil))
	small := fill.Result().Cookies()[0]
	fill = httptest.NewRecorder()
	wrap(func(s *pycket.SessionManager) error {
		values := pycket.Values{}
		for i := range 50 {
			values[fmt.Sprintf("field%02d", i)] = fmt.Sprintf("%040d", i)
		}
		return s.SetMany(values)
	}).ServeHTTP(fill, httptest.NewRequest("GET", "/", nil))
	fifty := fill.Result().Cookies()[0]

	pool := &redis.Pool{MaxIdle: 4, Dial: func() (redis.Conn, error) { return redis.Dial("tcp", server.Addr) }}
	defer pool.Close()
	server.Do(0, "SET", "bare", `"forty bytes of text, more or less, here"`)
	get := func(*http.Request) error {
		c := pool.Get()
		defer c.Close()
		_, err := redis.Bytes(c.Do("GET", "bare"))
		return err
	}

	for _, bench := range []struct {
		name    string
		cookie  *http.Cookie
		handler http.Handler
	}{
		{"bare handler", small, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})},
		{"bare redigo GET", small, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if err := get(r); err != nil {
				panic(err)
			}
		})},
		{"untouched", small, wrap(func(*pycket.SessionManager) error { return nil })},
		{"read", small, wrap(func(s *pycket.SessionManager) error {
			_, err := pycket.Get(s, "name", "")
			return err
		})},
		{"Set", small, wrap(func(s *pycket.SessionManager) error { return s.Set("name", "forty bytes of text, more or less, here") })},
		{"Increment", small, wrap(func(s *pycket.SessionManager) error {
			_, err := s.Increment("count", 1)
			return err
		})},
		{"Update", small, wrap(func(s *pycket.SessionManager) error {
			_, err := pycket.Update(s, "count", 0, func(n int) (int, error) { return n + 1, nil })
			return err
		})},
		{"50 fields, read and Set", fifty, wrap(func(s *pycket.SessionManager) error {
			if _, err := pycket.Get(s, "field07", ""); err != nil {
				return err
			}
			return s.Set("field08", "forty bytes of text, more or less, here")
		})},
		{"first visit, Set", nil, wrap(func(s *pycket.SessionManager) error { return s.Set("name", "forty bytes of text, more or less, here") })},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			r := httptest.NewRequest("GET", "/", nil)
			if bench.cookie != nil {
				r.AddCookie(bench.cookie)
			}
			for b.Loop() {
				bench.handler.ServeHTTP(&discard{http.Header{}}, r)
			}
		})
	}
}
