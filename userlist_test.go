package pycket_test

// The list of a user's sessions, which user.go and internal/store keep: it misses no living session and shows no dead
// one, whatever Redis loses and whichever of a cluster's servers is down. user_test.go has what Login does.

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pycket/pycket"
	"github.com/pycket/pycket/internal/redistest"
)

// apart is a cluster in which a browser's session lies on one server and a user's list on another.
type apart struct {
	*site
	server  *redistest.Server
	user    string
	session string // the session's key
	list    string // the list's
	b       *browser
}

func newApart(t *testing.T, server *redistest.Server, s pycket.Settings) *apart {
	t.Helper()
	a := &apart{site: newSite(t, s), server: server}
	a.b = a.browser()
	require(t, a.use(func(s *pycket.SessionManager) error { return s.Set("cart", "kept") }))
	a.session = server.OnlyKey()
	for i := 0; a.user == ""; i++ {
		user := fmt.Sprint("user", i)
		if key := listKey(user); server.NodeOf(key).Addr != server.NodeOf(a.session).Addr {
			a.user, a.list = user, key
		}
	}
	return a
}

// use is one request of the browser.
func (a *apart) use(f func(s *pycket.SessionManager) error) (err error) {
	a.t.Helper()
	a.site.use(a.b, func(s *pycket.SessionManager) { err = f(s) })
	return err
}

func (a *apart) login(s *pycket.SessionManager) error {
	return s.Login(a.user, pycket.Values{"role": "admin"})
}

// age makes the session's renewal due, with so much of its time left.
func (a *apart) age(left time.Duration) {
	a.t.Helper()
	a.server.Do(0, "HSET", a.session, "pycket:seen", 1)
	a.server.Do(0, "PEXPIRE", a.session, left.Milliseconds())
}

// ttl returns how long a key has left.
func (a *apart) ttl(key string) time.Duration {
	a.t.Helper()
	return time.Duration(a.server.Do(0, "PTTL", key).(int64)) * time.Millisecond
}

// covered checks that the list names the session, and lasts as long.
func (a *apart) covered() {
	a.t.Helper()
	score := a.server.Do(0, "ZSCORE", a.list, handleIn(a.session))
	if left := a.ttl(a.session); left <= 0 || score == nil || a.ttl(a.list) < left {
		a.t.Errorf("the session lasts %v, the list %v, and the place on it is %s", left, a.ttl(a.list), score)
	}
}

// listed is how many sessions the user has.
func (a *apart) listed() int {
	a.t.Helper()
	return len(list(a.t, a.site, a.user))
}

// In a cluster the list comes first: without it there is no login, and nothing is changed.
func TestLoginWithoutItsList(t *testing.T) {
	server := redistest.StartCluster(t, 3, 0)
	for name, bind := range map[string]func(a *apart, s *pycket.SessionManager) error{
		"login":    func(a *apart, s *pycket.SessionManager) error { return a.login(s) },
		"set user": func(a *apart, s *pycket.SessionManager) error { return s.SetUser(a.user) },
	} {
		t.Run(name, func(t *testing.T) {
			server := server.On(t)
			server.Do(0, "FLUSHALL")
			s := settings(server)
			s.Redis.Timeout = shortTimeout
			a := newApart(t, server, s)
			cookie := a.b.cookie()
			stopped := server.NodeOf(a.list)
			stopped.Suspend()
			defer stopped.Resume()
			wantError(t, a.use(func(s *pycket.SessionManager) error { return bind(a, s) }), pycket.ErrUnavailable, name)
			if a.b.cookie() != cookie {
				t.Error("the cookie has changed")
			}
			user, _ := who(t, a.site, a.b)
			var cart, role string
			err := a.use(func(s *pycket.SessionManager) (err error) {
				cart, err = pycket.Get(s, "cart", "")
				role, _ = pycket.Get(s, "role", "")
				return err
			})
			if user != "" || cart != "kept" || role != "" || err != nil {
				t.Errorf("user %q, cart %q, role %q: %v", user, cart, role, err)
			}
			stopped.Resume()
			noError(t, a.use(func(s *pycket.SessionManager) error { return bind(a, s) }))
			a.covered()
		})
	}
}

// A list that was lost comes back as its sessions are renewed. While it can't be reached, they are used as ever.
func TestListHeals(t *testing.T) {
	server := redistest.StartCluster(t, 3, 0)
	s := settings(server)
	s.Redis.Timeout = 2 * shortTimeout
	s.IdleTimeout = time.Hour
	a := newApart(t, server, s)
	require(t, a.use(a.login))
	a.covered()
	for name, use := range map[string]func(s *pycket.SessionManager) error{
		"read":      func(s *pycket.SessionManager) error { _, err := pycket.Get(s, "role", ""); return err },
		"set":       func(s *pycket.SessionManager) error { return s.Set("a", 1) },
		"update":    func(s *pycket.SessionManager) error { _, err := pycket.Update(s, "u", 0, add(1)); return err },
		"increment": func(s *pycket.SessionManager) error { _, err := s.Increment("n", 1); return err },
		"delete":    func(s *pycket.SessionManager) error { return s.Delete("a") },
		"rotate":    func(s *pycket.SessionManager) error { return s.Rotate() },
		"set user":  func(s *pycket.SessionManager) error { return s.SetUser(a.user) },
		"login":     func(s *pycket.SessionManager) error { return a.login(s) },
		"remember":  func(s *pycket.SessionManager) error { return s.Remember(2 * time.Hour) },
	} {
		server.Do(0, "DEL", a.list)
		a.age(50 * time.Minute)
		if err := a.use(use); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		a.covered()
		if n := a.listed(); n != 1 {
			t.Errorf("%s: after the list was lost, %d sessions are listed", name, n)
		}
		if left := a.ttl(a.session); left < 59*time.Minute {
			t.Errorf("%s: the session lasts %v", name, left)
		}
	}
	if role, err := a.count("role"); role != "admin" || err != nil {
		t.Errorf("%q, %v", role, err)
	}

	a.age(30 * time.Minute)
	stopped := server.NodeOf(a.list)
	stopped.Suspend()
	defer stopped.Resume()
	for range 3 {
		noError(t, a.use(func(s *pycket.SessionManager) error { return s.Set("a", 2) }))
	}
	if left := a.ttl(a.session); left < 59*time.Minute {
		t.Errorf("without its list, the session lasts %v", left)
	}
}

func add(n int) func(int) (int, error) { return func(m int) (int, error) { return m + n, nil } }

func (a *apart) count(name string) (value string, err error) {
	err = a.use(func(s *pycket.SessionManager) (err error) { value, err = pycket.Get(s, name, ""); return err })
	return value, err
}

// A session with an idle timeout of its own gets a place for that long, whatever came first.
func TestRememberedPlaceOnTheList(t *testing.T) {
	server := redistest.SharedCluster(t)
	const month = 30 * 24 * time.Hour
	remember := func(s *pycket.SessionManager) error { return s.Remember(month) }
	for name, steps := range map[string]func(a *apart) []func(s *pycket.SessionManager) error{
		"login, remember": func(a *apart) []func(s *pycket.SessionManager) error {
			return []func(s *pycket.SessionManager) error{a.login, remember}
		},
		"remember, set user": func(a *apart) []func(s *pycket.SessionManager) error {
			return []func(s *pycket.SessionManager) error{remember, func(s *pycket.SessionManager) error { return s.SetUser(a.user) }}
		},
		"another user": func(a *apart) []func(s *pycket.SessionManager) error {
			return []func(s *pycket.SessionManager) error{
				func(s *pycket.SessionManager) error { return s.Login("another", nil) }, remember,
				func(s *pycket.SessionManager) error { return s.SetUser(a.user) },
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			server.Do(0, "FLUSHALL")
			s := settings(server)
			s.MaxValueBytes = 8 << 20
			a := newApart(t, server, s)
			if err := a.use(func(s *pycket.SessionManager) error { // in one request, after which nothing may come for a month
				for _, step := range steps(a) {
					if err := step(s); err != nil {
						return err
					}
				}
				return nil
			}); err != nil {
				t.Error(err)
			}
			a.covered()
			if left := a.ttl(a.session); left < month-time.Minute {
				t.Errorf("the session stands for %v", left)
			}
			if n := a.listed(); n != 1 {
				t.Errorf("%d sessions are listed", n)
			}

			// A login that was refused had taken a shorter place.
			large := pycket.Values{"large": strings.Repeat("x", 5<<20)}
			wantError(t, a.use(func(s *pycket.SessionManager) error { return s.Login(a.user, large) }), pycket.ErrTooLarge, "login")
			a.covered()
		})
	}
}

// Nobody who signs in is missed by those who look or sign out everybody meanwhile, and none that ended is
// shown, though the list may still name it.
func TestListWhileSessionsComeAndGo(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		site := newSite(t, settings(server))
		site.act = func(_ http.ResponseWriter, r *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
			if r.URL.Path == "/logout" {
				s.Destroy()
			} else if err := s.Login("ann", nil); err != nil {
				t.Error(err)
			}
		}
		const logins = 60
		var signedIn atomic.Int64
		var looking sync.WaitGroup
		done := make(chan struct{})
		looking.Go(func() {
			for {
				before := signedIn.Load()
				if n := len(list(t, site, "ann")); int64(n) < before {
					t.Errorf("%d had signed in, and %d are listed", before, n)
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
		browsers := make([]*browser, logins)
		parallel(logins, func(i int) {
			browsers[i] = site.browser()
			browsers[i].get("/")
			signedIn.Add(1)
		})
		close(done)
		looking.Wait()
		for _, b := range browsers[:20] {
			b.get("/logout")
		}
		infos := list(t, site, "ann")
		for _, info := range infos[:10] { // expired
			server.Do(0, "DEL", "pycket:s:{"+info.Handle+"}")
		}
		server.Do(0, "HSET", "pycket:s:{"+infos[10].Handle+"}", "pycket:user", "bob") // another's
		if left := list(t, site, "ann"); len(infos) != logins-20 || len(left) != logins-31 {
			t.Errorf("%d are listed after 20 of %d logouts, %d after 10 expired and one is another's", len(infos), logins, len(left))
		}
		wantRevoked(t, site, logins-31, "ann")
	})
}

// listKey is the key of a user's list.
func listKey(user string) string {
	sum := sha256.Sum256([]byte(user))
	return "pycket:u:{" + base64.RawURLEncoding.EncodeToString(sum[:]) + "}"
}

// However short the idle timeout, a session in use keeps its place.
func TestShortPlaceOnTheList(t *testing.T) {
	server := redistest.SharedCluster(t)
	s := settings(server)
	s.IdleTimeout = time.Second
	a := newApart(t, server, s)
	require(t, a.use(a.login))
	for began := time.Now(); time.Since(began) < 3*time.Second; {
		if role, err := a.count("role"); role != "admin" || err != nil {
			t.Fatalf("after %v in use: %q, %v", time.Since(began), role, err)
		}
		a.covered()
	}
}

// While a server does not answer, what others have is listed not at all, since it is not all, but ended.
func TestRevokeUserWithAServerDown(t *testing.T) {
	server := redistest.StartCluster(t, 3, 0)
	s := settings(server)
	s.Redis.Timeout = 3 * shortTimeout
	site := newSite(t, s)
	var down *redistest.Server
	reachable := 0
	for range 1100 { // more than one look at the list
		response := handle(site.app, httptest.NewRequest("GET", "/", nil), func(s *pycket.SessionManager) {
			noError(t, s.Login("ann", nil))
		})
		on := server.Nodes()[server.SlotOf(keyOf(idOf(t, response.Cookies()[0].Value)))/64%3]
		if down == nil && on.Addr != server.NodeOf(listKey("ann")).Addr {
			down = on
		}
		if down == nil || on.Addr != down.Addr {
			reachable++
		}
	}
	down.Suspend()
	defer down.Resume()
	_, err := site.app.Sessions(t.Context(), "ann")
	wantError(t, err, pycket.ErrUnavailable, "sessions")
	n, err := site.app.RevokeUser(t.Context(), "ann")
	wantError(t, err, pycket.ErrUnavailable, "revoke user")
	if n != reachable {
		t.Errorf("%d were ended, and %d could be", n, reachable)
	}
	down.Resume()
	for range 2 { // what Redis had read before may be done late
		site.app.RevokeUser(t.Context(), "ann")
	}
	wantSessions(t, site, "ann", 0)
}

// What is dead is taken off the list by whoever reads it, and now and then by a login, unless it may be about to be
// bound.
func TestListIsPruned(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		site := newSite(t, settings(server))
		b := signIn(t, site, "ann")
		key := listKey("ann")
		place := func(ago time.Duration, handle string) {
			server.Do(0, "ZADD", key, time.Now().Add(-ago).UnixMicro(), handle)
		}
		wantListed := func(want int64, what string) {
			t.Helper()
			if n := server.Do(0, "ZCARD", key); n != want {
				t.Errorf("%s: %d are on the list, want %d", what, n, want)
			}
		}
		place(2*time.Minute, "missing-for-long")
		place(time.Second, "about-to-sign-in")
		wantSessions(t, site, "ann", 1)
		wantListed(2, "after it was read")
		for range 20 {
			ended := signIn(t, site, "ann")
			site.use(ended, func(s *pycket.SessionManager) { s.Destroy() })
		}
		wantSessions(t, site, "ann", 1)
		b.want([]outcome{{Value: "ann"}}, "user")

		// Nobody needs to read it.
		server.Do(0, "DEL", key)
		for i := range 63 {
			place(2*time.Minute, fmt.Sprintf("missing%09d", i))
		}
		again := signIn(t, site, "ann")
		wantListed(1, "after the 64th login")

		// Logging in again in a session that has a place takes none.
		for i := range 63 {
			place(2*time.Minute, fmt.Sprintf("missing%09d", i))
		}
		again.must("login:ann")
		wantListed(64, "after a login that took no place")
	})
}

// A request whose time runs out while it sees to a list takes no connection from others.
func TestRenewalDisturbsNobody(t *testing.T) {
	server := redistest.StartCluster(t, 3, 0)
	s := settings(server)
	s.Redis.Timeout = shortTimeout
	a := newApart(t, server, s)
	require(t, a.use(a.login))
	// Others on the list's server.
	var others []*browser
	for len(others) < 8 {
		b := a.browser()
		a.site.use(b, func(s *pycket.SessionManager) { s.Set("n", 0) })
		if server.NodeOf(keyOf(idOf(t, b.cookie()))).Addr == server.NodeOf(a.list).Addr {
			others = append(others, b)
		}
	}
	a.act = func(_ http.ResponseWriter, r *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
		if r.URL.Path == "/renew" {
			s.User()
		} else if _, err := s.Increment("n", 1); err != nil {
			t.Error(err)
		}
	}
	done := make(chan struct{})
	var busy sync.WaitGroup
	for _, b := range others {
		busy.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					b.get("/")
				}
			}
		})
	}
	for range 3 {
		a.age(12 * time.Hour)
		// The first answer takes most of the time there is.
		server.NodeOf(a.session).Do(0, "CLIENT", "PAUSE", (shortTimeout * 3 / 4).Milliseconds(), "ALL")
		a.b.get("/renew")
	}
	close(done)
	busy.Wait()
}

// Two users whose names have one SHA-1 (https://shattered.io) share nothing.
func TestUsersOfOneSHA1(t *testing.T) {
	const prefix = "255044462d312e330a25e2e3cfd30a0a0a312030206f626a0a3c3c2f57696474682032203020522f4865696768742033203020522f547970652034203020522f537562747970652035203020522f46696c7465722036203020522f436f6c6f7253706163652037203020522f4c656e6774682038203020522f42697473506572436f6d706f6e656e7420383e3e0a73747265616d0affd8fffe00245348412d3120697320646561642121212121852fec092339759c39b1a1c63c4c97e1fffe01"
	var users [2]string
	for i, block := range []string{
		"7f46dc93a6b67e013b029aaa1db2560b45ca67d688c7f84b8c4c791fe02b3df614f86db1690901c56b45c1530afedfb76038e972722fe7ad728f0e4904e046c230570fe9d41398abe12ef5bc942be33542a4802d98b5d70f2a332ec37fac3514e74ddc0f2cc1a874cd0c78305a21566461309789606bd0bf3f98cda8044629a1",
		"7346dc9166b67e118f029ab621b2560ff9ca67cca8c7f85ba84c79030c2b3de218f86db3a90901d5df45c14f26fedfb3dc38e96ac22fe7bd728f0e45bce046d23c570feb141398bb552ef5a0a82be331fea48037b8b5d71f0e332edf93ac3500eb4ddc0decc1a864790c782c76215660dd309791d06bd0af3f98cda4bc4629b1",
	} {
		name, err := hex.DecodeString(prefix + block)
		require(t, err)
		users[i] = string(name)
	}
	if sha1.Sum([]byte(users[0])) != sha1.Sum([]byte(users[1])) {
		t.Fatal("the names have not one SHA-1")
	}
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		site := newSite(t, settings(server))
		for _, user := range users {
			signInQuietly(site, user) // signIn makes it a value, too, and it is no text
		}
		for range 2 { // who looks at the one list does not tidy the other's sessions away
			for _, user := range users {
				wantSessions(t, site, user, 1)
			}
		}
		lists := slices.DeleteFunc(server.Keys(0), func(key string) bool { return !strings.HasPrefix(key, "pycket:u:") })
		if want := []string{listKey(users[0]), listKey(users[1])}; len(lists) != 2 || !slices.Contains(lists, want[0]) || !slices.Contains(lists, want[1]) {
			t.Errorf("the lists are %q, want %q", lists, want)
		}
		for _, user := range users {
			wantRevoked(t, site, 1, user)
		}
	})
}

// A key of another type in the place of a user's list is no reason to lose a login.
func TestLoginWithSpoiltList(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		s := settings(server)
		s.MaxSessionsPerUser = 1
		site := newSite(t, s)
		signIn(t, site, "ann")
		server.Do(0, "SET", listKey("ann"), "of another type")
		b := signIn(t, site, "ann")
		b.want([]outcome{{Value: "ann"}}, "user")
		_, err := site.app.Sessions(t.Context(), "ann")
		wantError(t, err, pycket.ErrCorrupt, "sessions", "the key holds a value of another Redis type")
	})
}
