package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/alexedwards/scs/redisstore"
	"github.com/alexedwards/scs/v2"
	"github.com/boj/redistore"
	ginsessions "github.com/gin-contrib/sessions"
	ginredis "github.com/gin-contrib/sessions/redis"
	"github.com/gin-gonic/gin"
	"github.com/gofiber/fiber/v3"
	"github.com/gofiber/fiber/v3/middleware/adaptor"
	fibersession "github.com/gofiber/fiber/v3/middleware/session"
	"github.com/gorilla/sessions"
	"github.com/pycket/pycket"
)

// The cells of docs/comparison.md that can be run. Each library is used as its documentation shows, one request after
// the other as well as in parallel.

// A peer is a library: its handler lets use work on the session of each request. What use leaves is saved.
type peer func(t *testing.T, address string, use func(path string, s peerSession) string) http.Handler

// A peerSession is what the libraries have in common. There is no flash if a library has none of its own.
type peerSession interface {
	get(name string) string
	set(name, value string)
	flash() string // takes the flash "flash" out, if there is one
	addFlash(text string)
	destroy()
}

var peers = map[string]peer{"pycket": pycketPeer, "scs": scsPeer, "gorilla": gorillaPeer, "gin": ginPeer, "fiber": fiberPeer}

type pycketSession struct {
	s *pycket.SessionManager
	n *pycket.NotificationManager
}

func (p pycketSession) get(name string) string { v, _ := pycket.Get(p.s, name, ""); return v }
func (p pycketSession) set(name, value string) { _ = p.s.Set(name, value) } // ErrGone is what the page shows next
func (p pycketSession) flash() string          { v, _ := pycket.Get(p.n, "flash", ""); return v }
func (p pycketSession) addFlash(text string)   { _ = p.n.Set("flash", text) }
func (p pycketSession) destroy()               { _ = p.s.Destroy() }

func pycketPeer(t *testing.T, address string, use func(string, peerSession) string) http.Handler {
	app, err := pycket.New(pycketSettings(address, 0))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = app.Close() })
	return app.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, use(r.URL.Path, pycketSession{pycket.NewSessionManager(w, r), pycket.NewNotificationManager(w, r)}))
	}))
}

type scsSession struct {
	m *scs.SessionManager
	r *http.Request
}

func (s scsSession) get(name string) string { return s.m.GetString(s.r.Context(), name) }
func (s scsSession) set(name, value string) { s.m.Put(s.r.Context(), name, value) }
func (s scsSession) flash() string          { return s.m.PopString(s.r.Context(), "flash") }
func (s scsSession) addFlash(text string)   { s.m.Put(s.r.Context(), "flash", text) }
func (s scsSession) destroy()               { _ = s.m.Destroy(s.r.Context()) }

func scsPeer(_ *testing.T, address string, use func(string, peerSession) string) http.Handler {
	manager := scs.New()
	manager.Store = redisstore.New(newPool(address))
	return manager.LoadAndSave(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, use(r.URL.Path, scsSession{manager, r}))
	}))
}

type gorillaSession struct{ *sessions.Session }

func (s gorillaSession) get(name string) string { v, _ := s.Values[name].(string); return v }
func (s gorillaSession) set(name, value string) { s.Values[name] = value }
func (s gorillaSession) addFlash(text string)   { s.AddFlash(text) }
func (s gorillaSession) destroy()               { s.Options.MaxAge = -1 }
func (s gorillaSession) flash() string {
	if flashes := s.Flashes(); len(flashes) > 0 {
		return fmt.Sprint(flashes...)
	}
	return ""
}

func gorillaPeer(t *testing.T, address string, use func(string, peerSession) string) http.Handler {
	store, err := redistore.NewRediStoreWithPool(newPool(address), []byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session, err := store.Get(r, cookieName)
		var body string
		if err == nil {
			body = use(r.URL.Path, gorillaSession{session})
			err = session.Save(r, w)
		}
		answer(w, body, err)
	})
}

type ginSession struct{ ginsessions.Session }

func (s ginSession) get(name string) string { v, _ := s.Get(name).(string); return v }
func (s ginSession) set(name, value string) { s.Set(name, value) }
func (s ginSession) addFlash(text string)   { s.AddFlash(text) }
func (s ginSession) destroy()               { s.Options(ginsessions.Options{MaxAge: -1}) }
func (s ginSession) flash() string {
	if flashes := s.Flashes(); len(flashes) > 0 {
		return fmt.Sprint(flashes...)
	}
	return ""
}

func ginPeer(t *testing.T, address string, use func(string, peerSession) string) http.Handler {
	store, err := ginredis.NewStoreWithPool(newPool(address), []byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	gin.SetMode(gin.ReleaseMode)
	engine := gin.New()
	engine.Use(ginsessions.Sessions(cookieName, store))
	engine.NoRoute(func(c *gin.Context) {
		session := ginSession{ginsessions.Default(c)}
		body := use(c.Request.URL.Path, session)
		if err := session.Save(); err != nil {
			body = err.Error()
		}
		c.String(http.StatusOK, "%s", body)
	})
	return engine
}

type fiberSession struct{ *fibersession.Middleware }

func (s fiberSession) get(name string) string { v, _ := s.Get(name).(string); return v }
func (s fiberSession) set(name, value string) { s.Set(name, value) }
func (s fiberSession) addFlash(text string)   { s.Set("flash", text) }
func (s fiberSession) destroy()               { _ = s.Destroy() }
func (s fiberSession) flash() string {
	text := s.get("flash")
	s.Delete("flash")
	return text
}

// fiberPeer keeps sessions in memory, since fiber's Redis storage has the same two operations, get and set.
func fiberPeer(_ *testing.T, _ string, use func(string, peerSession) string) http.Handler {
	app := fiber.New()
	app.Use(fibersession.New())
	app.Use(func(c fiber.Ctx) error {
		return c.SendString(use(c.Path(), fiberSession{fibersession.FromContext(c)}))
	})
	return adaptor.FiberApp(app)
}

// meeting lets n requests go on when all have come.
type meeting struct {
	sync.WaitGroup
}

func meet(n int) *meeting {
	m := new(meeting)
	m.Add(n)
	return m
}

func (m *meeting) come() {
	m.Done()
	m.Wait()
}

// compared are the results of a library.
type compared struct {
	Names   int  // of 8 names that parallel requests set, how many are kept
	Flashed int  // of 8 parallel requests, how many get one flash
	Back    bool // a request under way brings a session back that has ended
}

func compare(t *testing.T, address string, open peer) (result compared) {
	const n = 8
	var lock sync.Mutex
	loaded, late, ended := meet(n), meet(2), make(chan bool)
	var handler http.Handler
	use := func(path string, s peerSession) string {
		switch path {
		case "/begin":
			s.set("user", "ann")
			s.addFlash("flash")
		case "/meet":
			// Every request has its session before one of them changes it.
			s.get("user")
			loaded.come()
			got := s.flash()
			lock.Lock()
			name := fmt.Sprint("name", result.Names)
			result.Names++
			if got != "" {
				result.Flashed++
			}
			lock.Unlock()
			s.set(name, "set")
		case "/count":
			kept := 0
			for i := range n {
				if s.get(fmt.Sprint("name", i)) != "" {
					kept++
				}
			}
			return fmt.Sprint(kept)
		case "/late":
			s.get("user")
			late.come()
			<-ended
			s.set("late", "set")
		case "/end":
			s.destroy()
		case "/user":
			return s.get("user")
		}
		return ""
	}
	handler = open(t, address, use)
	server := httptest.NewServer(handler)
	defer server.Close()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Jar: jar, Timeout: time.Minute}
	get := func(path string) string {
		response, err := browser.Get(server.URL + path)
		if err != nil {
			t.Error(err)
			return ""
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Error(err)
		}
		return string(body)
	}
	get("/begin")
	var tabs sync.WaitGroup
	for range n {
		tabs.Go(func() { get("/meet") })
	}
	tabs.Wait()
	result.Names = 0
	_, _ = fmt.Sscan(get("/count"), &result.Names)

	get("/begin")
	cookies := jar.Cookies(mustParse(t, server.URL))
	tabs.Go(func() { get("/late") })
	late.come()
	get("/end")
	close(ended)
	tabs.Wait()
	// Whoever kept the cookie looks again.
	jar.SetCookies(mustParse(t, server.URL), cookies)
	result.Back = get("/user") == "ann"
	return result
}

func TestComparison(t *testing.T) {
	b := newBench(t)
	kept := map[string]compared{"pycket": {Names: 8, Flashed: 1}}
	for name, open := range peers {
		t.Run(name, func(t *testing.T) {
			got := compare(t, b.redis.address, open)
			want, promised := kept[name]
			if !promised {
				want = compared{Names: 1, Flashed: 8, Back: true}
			}
			if got != want {
				t.Errorf("%+v, want %+v", got, want)
			}
		})
	}
}

// A Redis that hangs holds a request of every library that keeps sessions there for longer than pycket's timeout.
func TestComparisonHang(t *testing.T) {
	b := newBench(t)
	var names []string
	servers := map[string]*httptest.Server{}
	for name, open := range peers {
		if name == "fiber" { // has no Redis here
			continue
		}
		names = append(names, name)
		servers[name] = httptest.NewServer(open(t, b.redis.address, func(_ string, s peerSession) string {
			s.set("user", "ann")
			return s.get("user")
		}))
		defer servers[name].Close()
	}
	slices.Sort(names)
	browsers := map[string]*http.Client{}
	for _, name := range names {
		jar, err := cookiejar.New(nil)
		if err != nil {
			t.Fatal(err)
		}
		browsers[name] = &http.Client{Jar: jar}
		if _, err := browsers[name].Get(servers[name].URL); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.redis.command.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	answered := make(chan string, len(names))
	var requests sync.WaitGroup
	for _, name := range names {
		requests.Go(func() {
			if response, err := browsers[name].Get(servers[name].URL); err == nil {
				_ = response.Body.Close()
				answered <- name
			}
		})
	}
	first := <-answered
	if first != "pycket" {
		t.Errorf("%s was the first to answer", first)
	}
	if err := b.redis.command.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	requests.Wait()
}

func mustParse(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}
