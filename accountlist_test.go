package pycket_test

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pycket/pycket"
)

// apart is a cluster in which a browser's session lies on one server and an account's list on another.
type apart struct {
	*stage
	server  *redisServer
	user    string
	session string // the session's key
	list    string // the list's
	b       *browser
}

func newApart(t *testing.T, server *redisServer, s pycket.Settings) *apart {
	t.Helper()
	a := &apart{stage: newStage(t, s), server: server}
	a.b = a.browser()
	a.use(func(s *pycket.SessionManager) error { return s.Set("cart", "kept") })
	a.session = server.sessionKey()
	for i := 0; a.user == ""; i++ {
		user := fmt.Sprint("user", i)
		if key := listKey(user); server.nodeOf(key).addr != server.nodeOf(a.session).addr {
			a.user, a.list = user, key
		}
	}
	return a
}

// use is one request of the browser.
func (a *apart) use(f func(s *pycket.SessionManager) error) (err error) {
	a.t.Helper()
	a.visit(a.b, func(_ http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
		err = f(s)
	})
	return err
}

func (a *apart) login(s *pycket.SessionManager) error {
	return s.Login(a.user, pycket.Values{"role": "admin"})
}

// age lets the place of the session on its list come to its end in so long.
func (a *apart) age(left time.Duration) {
	a.t.Helper()
	a.server.do(0, "HSET", a.session, "pycket:listed", time.Now().Add(left).UnixMilli())
	a.server.do(0, "HDEL", a.session, "pycket:asked")
	a.server.do(0, "PEXPIRE", a.session, left.Milliseconds())
}

// ttl is how long a key may still stand.
func (a *apart) ttl(key string) time.Duration {
	a.t.Helper()
	return time.Duration(a.server.do(0, "PTTL", key).(int64)) * time.Millisecond
}

// covered checks that the list names the session, and for at least as long as it stands.
func (a *apart) covered() {
	a.t.Helper()
	score, _ := a.server.do(0, "ZSCORE", a.list, strings.TrimSuffix(strings.TrimPrefix(a.session, "pycket:s:{"), "}")).([]byte)
	var till int64
	fmt.Sscan(string(score), &till)
	if left, stands := time.Until(time.UnixMicro(till)), a.ttl(a.session); stands <= 0 || left < stands || a.ttl(a.list) < stands {
		a.t.Errorf("the session stands for %v, its place on the list for %v, and the list for %v", stands, left, a.ttl(a.list))
	}
}

// listed is how many sessions the account has.
func (a *apart) listed() int {
	a.t.Helper()
	return len(list(a.t, a.stage, a.user))
}

// In a cluster the list comes first: without it there is no login, and nothing is changed.
func TestLoginWithoutItsList(t *testing.T) {
	server := startCluster(t, 3, 0)
	for name, bind := range map[string]func(a *apart, s *pycket.SessionManager) error{
		"login":    func(a *apart, s *pycket.SessionManager) error { return a.login(s) },
		"set user": func(a *apart, s *pycket.SessionManager) error { return s.SetUser(a.user) },
	} {
		t.Run(name, func(t *testing.T) {
			server := *server
			server.t = t
			server.do(0, "FLUSHALL")
			s := settings(&server)
			s.Redis.Timeout = shortTimeout
			a := newApart(t, &server, s)
			cookie := a.b.cookie()
			stopped := server.nodeOf(a.list)
			stopped.signal(syscall.SIGSTOP)
			defer stopped.signal(syscall.SIGCONT)
			wantError(t, a.use(func(s *pycket.SessionManager) error { return bind(a, s) }), pycket.ErrUnavailable, name)
			if a.b.cookie() != cookie {
				t.Error("the cookie has changed")
			}
			user, _ := who(t, a.stage, a.b)
			var cart, role string
			err := a.use(func(s *pycket.SessionManager) (err error) {
				cart, err = pycket.Get(s, "cart", "")
				role, _ = pycket.Get(s, "role", "")
				return err
			})
			if user != "" || cart != "kept" || role != "" || err != nil {
				t.Errorf("user %q, cart %q, role %q: %v", user, cart, role, err)
			}
			stopped.signal(syscall.SIGCONT)
			if err := a.use(func(s *pycket.SessionManager) error { return bind(a, s) }); err != nil {
				t.Error(err)
			}
			a.covered()
		})
	}
}

// A session in use keeps its place on the list, and gets it back if the list was lost; while the list can't be
// reached, it is used as ever, but doesn't stand longer than its place.
func TestPlaceOnTheListIsRenewed(t *testing.T) {
	server := startCluster(t, 3, 0)
	s := settings(server)
	s.Redis.Timeout = 2 * shortTimeout
	s.IdleTimeout = time.Hour
	a := newApart(t, server, s)
	if err := a.use(a.login); err != nil {
		t.Fatal(err)
	}
	a.covered()
	for name, use := range map[string]func(s *pycket.SessionManager) error{
		"read":      func(s *pycket.SessionManager) error { _, err := pycket.Get(s, "role", ""); return err },
		"set":       func(s *pycket.SessionManager) error { return s.Set("a", 1) },
		"increment": func(s *pycket.SessionManager) error { _, err := s.Increment("n", 1); return err },
		"rotate":    func(s *pycket.SessionManager) error { return s.Rotate() },
		"set user":  func(s *pycket.SessionManager) error { return s.SetUser(a.user) },
		"login":     func(s *pycket.SessionManager) error { return a.login(s) },
		"remember":  func(s *pycket.SessionManager) error { return s.Remember(2 * time.Hour) },
	} {
		server.do(0, "DEL", a.list)
		a.age(50 * time.Minute)
		if err := a.use(use); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		a.covered()
		if n := a.listed(); n != 1 {
			t.Errorf("%s: after the list was lost, %d sessions are listed", name, n)
		}
		if left := a.ttl(a.session); left < 59*time.Minute {
			t.Errorf("%s: the session stands for %v", name, left)
		}
		if err := a.use(func(s *pycket.SessionManager) error { return errors.Join(s.Login("another", nil), a.login(s)) }); err != nil { // forgets Remember
			t.Error(err)
		}
	}
	if n, err := a.count("role"); n != "admin" || err != nil {
		t.Errorf("%q, %v", n, err)
	}

	a.age(30 * time.Minute)
	stopped := server.nodeOf(a.list)
	stopped.signal(syscall.SIGSTOP)
	defer stopped.signal(syscall.SIGCONT)
	for range 3 {
		if err := a.use(func(s *pycket.SessionManager) error { return s.Set("a", 2) }); err != nil {
			t.Error(err)
		}
	}
	if left := a.ttl(a.session); left > 30*time.Minute+time.Second || left < 29*time.Minute {
		t.Errorf("the session stands for %v, its place for 30 minutes", left)
	}
	server.do(0, "HDEL", a.session, "pycket:listed", "pycket:asked") // as one from before there was a cluster
	if err := a.use(func(s *pycket.SessionManager) error { return s.Set("a", 2) }); err != nil || a.ttl(a.session) < 29*time.Minute {
		t.Errorf("a session without a place stands for %v: %v", a.ttl(a.session), err)
	}
	wantError(t, a.use(func(s *pycket.SessionManager) error { return s.Remember(24 * time.Hour) }), pycket.ErrUnavailable, "remember")
	if idle := server.do(0, "HGET", a.session, "pycket:idle"); idle != nil {
		t.Errorf("Remember failed and has set %q", idle)
	}
	stopped.signal(syscall.SIGCONT)
	server.do(0, "HDEL", a.session, "pycket:asked")
	a.use(func(s *pycket.SessionManager) error { return s.Set("a", 3) })
	a.covered()
	if left := a.ttl(a.session); left < 59*time.Minute {
		t.Errorf("when the list is back, the session stands for %v", left)
	}
}

func (a *apart) count(name string) (value string, err error) {
	err = a.use(func(s *pycket.SessionManager) (err error) { value, err = pycket.Get(s, name, ""); return err })
	return value, err
}

// A session with an idle timeout of its own gets a place for that long, whatever came first.
func TestRememberedPlaceOnTheList(t *testing.T) {
	server := clusterOf(t)
	const month = 30 * 24 * time.Hour
	remember := func(s *pycket.SessionManager) error { return s.Remember(month) }
	for name, steps := range map[string]func(a *apart) []func(s *pycket.SessionManager) error{
		"login, remember": func(a *apart) []func(s *pycket.SessionManager) error {
			return []func(s *pycket.SessionManager) error{a.login, remember}
		},
		"remember, set user": func(a *apart) []func(s *pycket.SessionManager) error {
			return []func(s *pycket.SessionManager) error{remember, func(s *pycket.SessionManager) error { return s.SetUser(a.user) }}
		},
		"another account": func(a *apart) []func(s *pycket.SessionManager) error {
			return []func(s *pycket.SessionManager) error{
				func(s *pycket.SessionManager) error { return s.Login("another", nil) }, remember,
				func(s *pycket.SessionManager) error { return s.SetUser(a.user) },
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			server.do(0, "FLUSHALL")
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
	everyServer(t, func(t *testing.T, server *redisServer) {
		stage := newStage(t, settings(server))
		stage.act = func(_ http.ResponseWriter, r *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
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
				if n := len(list(t, stage, "ann")); int64(n) < before {
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
			browsers[i] = stage.browser()
			browsers[i].get("/")
			signedIn.Add(1)
		})
		close(done)
		looking.Wait()
		for _, b := range browsers[:20] {
			b.get("/logout")
		}
		infos := list(t, stage, "ann")
		for _, info := range infos[:10] { // expired
			server.do(0, "DEL", "pycket:s:{"+info.Handle+"}")
		}
		server.do(0, "HSET", "pycket:s:{"+infos[10].Handle+"}", "pycket:user", "bob") // another's
		if left := list(t, stage, "ann"); len(infos) != logins-20 || len(left) != logins-31 {
			t.Errorf("%d are listed after 20 of %d logouts, %d after 10 expired and one is another's", len(infos), logins, len(left))
		}
		if n, err := stage.app.RevokeUser(t.Context(), "ann"); n != logins-31 || err != nil {
			t.Errorf("%d were ended: %v", n, err)
		}
	})
}

// listKey is the key of an account's list.
func listKey(user string) string {
	return fmt.Sprintf("pycket:u:{%x}", sha256.Sum256([]byte(user)))
}

// However short the idle timeout, a session in use keeps its place.
func TestShortPlaceOnTheList(t *testing.T) {
	server := clusterOf(t)
	s := settings(server)
	s.IdleTimeout = time.Second
	a := newApart(t, server, s)
	if err := a.use(a.login); err != nil {
		t.Fatal(err)
	}
	for began := time.Now(); time.Since(began) < 3*time.Second; {
		if role, err := a.count("role"); role != "admin" || err != nil {
			t.Fatalf("after %v in use: %q, %v", time.Since(began), role, err)
		}
		a.covered()
	}
}

// When an idle timeout has become shorter, the place is renewed by the shorter.
func TestShortenedPlaceOnTheList(t *testing.T) {
	server := clusterOf(t)
	a := newApart(t, server, settings(server))
	if err := a.use(func(s *pycket.SessionManager) error {
		return errors.Join(a.login(s), s.Remember(30*24*time.Hour), s.Remember(time.Hour))
	}); err != nil {
		t.Fatal(err)
	}
	server.do(0, "DEL", a.list)
	a.use(func(s *pycket.SessionManager) error { return s.Set("a", 1) })
	a.covered()
}

// While a server does not answer, what others have is listed not at all, since it is not all, but ended.
func TestRevokeUserWithAServerDown(t *testing.T) {
	server := startCluster(t, 3, 0)
	s := settings(server)
	s.Redis.Timeout = shortTimeout
	stage := newStage(t, s)
	var down *redisServer
	reachable := 0
	for range 1100 { // more than one look at the list
		response := handle(stage.app, newRequest(), func(s *pycket.SessionManager) {
			if err := s.Login("ann", nil); err != nil {
				t.Error(err)
			}
		})
		on := server.nodes[server.slotOf(keyOf(idOf(t, response.Cookies()[0].Value)))/64%3]
		if down == nil && on.addr != server.nodeOf(listKey("ann")).addr {
			down = on
		}
		if down == nil || on.addr != down.addr {
			reachable++
		}
	}
	down.signal(syscall.SIGSTOP)
	defer down.signal(syscall.SIGCONT)
	_, err := stage.app.Sessions(t.Context(), "ann")
	wantError(t, err, pycket.ErrUnavailable, "sessions")
	n, err := stage.app.RevokeUser(t.Context(), "ann")
	wantError(t, err, pycket.ErrUnavailable, "revoke user")
	if n != reachable {
		t.Errorf("%d were ended, and %d could be", n, reachable)
	}
	down.signal(syscall.SIGCONT)
	for range 2 { // what Redis had read before may be done late
		stage.app.RevokeUser(t.Context(), "ann")
	}
	if n := len(list(t, stage, "ann")); n != 0 {
		t.Errorf("%d are left", n)
	}
}

// What has ended is taken off the list by whoever reads it; what is missing, when it can't be about to sign in.
func TestListIsPruned(t *testing.T) {
	everyServer(t, func(t *testing.T, server *redisServer) {
		stage := newStage(t, settings(server))
		b := signIn(t, stage, "ann")
		for range 20 {
			ended := signIn(t, stage, "ann")
			stage.visit(ended, func(_ http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
				s.Destroy()
			})
		}
		key := listKey("ann")
		now := time.Now()
		server.do(0, "ZADD", key, now.Add(26*time.Hour).UnixMicro(), "missing-for-long")
		server.do(0, "ZADD", key, now.Add(27*time.Hour).UnixMicro(), "about-to-sign-in")
		server.do(0, "ZADD", key, now.Add(-time.Second).UnixMicro(), "missing-and-past")
		if n := len(list(t, stage, "ann")); n != 1 {
			t.Errorf("%d are listed", n)
		}
		want := int64(1)
		if len(server.nodes) > 0 {
			want = 2
			if server.do(0, "ZSCORE", key, "about-to-sign-in") == nil {
				t.Error("a login would not be listed")
			}
		}
		if n := server.do(0, "ZCARD", key); n != want {
			t.Errorf("%d are on the list, want %d", n, want)
		}
		if user, _ := who(t, stage, b); user != "ann" {
			t.Errorf("%q", user)
		}

		// Nobody needs to read it: those who sign in drop what is past.
		server.do(0, "ZADD", key, now.Add(-time.Second).UnixMicro(), "missing-and-past")
		signIn(t, stage, "ann")
		if server.do(0, "ZSCORE", key, "missing-and-past") != nil {
			t.Error("a login leaves what is past on the list")
		}
	})
}

// The limit does not end the session that has just signed in, though the others' servers have clocks that are
// ahead.
func TestLimitWithSkewedClocks(t *testing.T) {
	everyServer(t, func(t *testing.T, server *redisServer) {
		s := settings(server)
		s.MaxSessionsPerUser = 2
		stage := newStage(t, s)
		for range 2 {
			b := signIn(t, stage, "ann")
			server.do(0, "HSET", keyOf(idOf(t, b.cookie())), "pycket:auth", time.Now().Add(time.Minute).UnixMicro())
		}
		if user, _ := who(t, stage, signIn(t, stage, "ann")); user != "ann" {
			t.Errorf("%q", user)
		}
	})
}

// A request whose time runs out while it sees to a list takes no connection from others.
func TestRenewalDisturbsNobody(t *testing.T) {
	server := startCluster(t, 3, 0)
	s := settings(server)
	s.Redis.Timeout = shortTimeout
	a := newApart(t, server, s)
	if err := a.use(a.login); err != nil {
		t.Fatal(err)
	}
	// Others on the list's server.
	var others []*browser
	for len(others) < 8 {
		b := a.browser()
		a.visit(b, func(_ http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
			s.Set("n", 0)
		})
		if server.nodeOf(keyOf(idOf(t, b.cookie()))).addr == server.nodeOf(a.list).addr {
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
		server.nodeOf(a.session).do(0, "CLIENT", "PAUSE", (shortTimeout * 3 / 4).Milliseconds(), "ALL")
		a.b.get("/renew")
	}
	close(done)
	busy.Wait()
}

// Two accounts whose names have one SHA-1 (https://shattered.io) share nothing.
func TestAccountsOfOneSHA1(t *testing.T) {
	const prefix = "255044462d312e330a25e2e3cfd30a0a0a312030206f626a0a3c3c2f57696474682032203020522f4865696768742033203020522f547970652034203020522f537562747970652035203020522f46696c7465722036203020522f436f6c6f7253706163652037203020522f4c656e6774682038203020522f42697473506572436f6d706f6e656e7420383e3e0a73747265616d0affd8fffe00245348412d3120697320646561642121212121852fec092339759c39b1a1c63c4c97e1fffe01"
	var users [2]string
	for i, block := range []string{
		"7f46dc93a6b67e013b029aaa1db2560b45ca67d688c7f84b8c4c791fe02b3df614f86db1690901c56b45c1530afedfb76038e972722fe7ad728f0e4904e046c230570fe9d41398abe12ef5bc942be33542a4802d98b5d70f2a332ec37fac3514e74ddc0f2cc1a874cd0c78305a21566461309789606bd0bf3f98cda8044629a1",
		"7346dc9166b67e118f029ab621b2560ff9ca67cca8c7f85ba84c79030c2b3de218f86db3a90901d5df45c14f26fedfb3dc38e96ac22fe7bd728f0e45bce046d23c570feb141398bb552ef5a0a82be331fea48037b8b5d71f0e332edf93ac3500eb4ddc0decc1a864790c782c76215660dd309791d06bd0af3f98cda4bc4629b1",
	} {
		name, err := hex.DecodeString(prefix + block)
		if err != nil {
			t.Fatal(err)
		}
		users[i] = string(name)
	}
	if sha1.Sum([]byte(users[0])) != sha1.Sum([]byte(users[1])) {
		t.Fatal("the names have not one SHA-1")
	}
	everyServer(t, func(t *testing.T, server *redisServer) {
		stage := newStage(t, settings(server))
		for _, user := range users {
			stage.visit(stage.browser(), func(_ http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
				if err := s.Login(user, nil); err != nil {
					t.Error(err)
				}
			})
		}
		for range 2 { // who looks at the one list does not tidy the other's sessions away
			for i, user := range users {
				if n := len(list(t, stage, user)); n != 1 {
					t.Errorf("%d sessions of account %d are listed", n, i)
				}
			}
		}
		lists := slices.DeleteFunc(server.keys(0), func(key string) bool { return !strings.HasPrefix(key, "pycket:u:") })
		if want := []string{listKey(users[0]), listKey(users[1])}; len(lists) != 2 || !slices.Contains(lists, want[0]) || !slices.Contains(lists, want[1]) {
			t.Errorf("the lists are %q, want %q", lists, want)
		}
		for i, user := range users {
			if n, err := stage.app.RevokeUser(t.Context(), user); n != 1 || err != nil {
				t.Errorf("%d sessions of account %d were ended: %v", n, i, err)
			}
		}
	})
}
