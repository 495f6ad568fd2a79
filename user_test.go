package pycket_test

// Login and what comes with it: Remember, AuthTime, the user's devices. userlist_test.go has what becomes of the list of
// a user's sessions.

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/pycket/pycket"
	"github.com/pycket/pycket/internal/redistest"
)

func TestLogin(t *testing.T) {
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		proxy, s := proxied(t, server)
		site := newSite(t, s)
		b := site.browser()
		b.must("set:cart:kept", "note:note:kept", "inc:counts:1")
		before := b.cookie()
		began := time.Now().Add(-time.Second)
		login := func(s *pycket.SessionManager) {
			trips := proxy.Trips(func() { noError(t, s.Login("ann", pycket.Values{"name": "Ann", "role": "admin"})) })
			if trips > 1 {
				t.Errorf("Login took %d round trips", trips)
			}
			user, err := s.User()
			name, nameErr := pycket.Get(s, "name", "")
			if user != "ann" || name != "Ann" || err != nil || nameErr != nil {
				t.Errorf("in the same request: %q, %q, %v, %v", user, name, err, nameErr)
			}
		}
		signIn(t, site, "warm") // Redis has then seen the script
		site.use(b, func(s *pycket.SessionManager) { login(s) })
		if b.cookie() == before {
			t.Error("the id is the old one")
		}
		user, at := who(t, site, b)
		if user != "ann" || at.Before(began) || at.After(time.Now().Add(time.Second)) {
			t.Errorf("%q, authenticated at %v", user, at)
		}
		b.want([]outcome{{Value: "kept"}, {Value: "admin"}, {Value: "kept"}, {Value: []any{"cart", "counts", "name", "role"}}}, "get:cart", "get:role", "take:note", "keys")
		b.with(before).want([]outcome{{Value: ""}}, "user")

		// On a first visit, and once more for another user; SetUser needs no new id.
		b = site.browser()
		site.use(b, func(s *pycket.SessionManager) { login(s) })
		wantSessions(t, site, "ann", 2)
		site.works(b, func(s *pycket.SessionManager, _ *pycket.NotificationManager) error { return s.SetUser("bob") })
		cookie := b.cookie()
		if user, at := who(t, site, b); user != "bob" || !at.IsZero() || b.cookie() != cookie {
			t.Errorf("after SetUser: %q, %v", user, at)
		}
		wantSessions(t, site, "ann", 1)
		wantSessions(t, site, "bob", 1)
		b.must("setuser:")
		b.want([]outcome{{Value: ""}}, "user")
		wantSessions(t, site, "bob", 0)
	})
}

func TestLoginRefusals(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		site := newSite(t, settings(server))
		b := site.browser()
		a := site.visit(b, func(w http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
			wantError(t, s.Login("", nil), nil, "login", "empty")
			long := strings.Repeat("a long name ", 86)
			heard.hide("user", long)
			wantError(t, s.Login(long, nil), pycket.ErrTooLarge, "login")
			wantError(t, s.Login("ann", pycket.Values{"pycket:user": "bob"}), pycket.ErrReserved, "login")
			wantError(t, s.Login("ann", pycket.Values{"a": make(chan int)}), nil, "login", "chan int")
			wantError(t, s.Remember(-1), nil, "remember", "use 1s or more")
			w.WriteHeader(http.StatusOK)
			wantError(t, s.Login("ann", nil), pycket.ErrHeadersSent, "login")
			wantError(t, s.SetUser("ann"), pycket.ErrHeadersSent, "set user")
			wantError(t, s.Remember(time.Hour), pycket.ErrHeadersSent, "remember")
		})
		wantNothingStored(t, server, a)
		b = signIn(t, site, "ann")
		site.visit(b, func(w http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
			w.WriteHeader(http.StatusOK)
			wantError(t, s.Login("bob", nil), pycket.ErrHeadersSent, "login")
		})
		b.want([]outcome{{Value: "ann"}}, "user")
		for _, handle := range []string{"", "short", "}{aaaaaaaaaaaaaa", strings.Repeat("a", 17)} {
			wantError(t, site.app.Revoke(t.Context(), handle), nil, "revoke", "not a handle")
			_, err := site.app.RevokeUser(t.Context(), "ann", handle)
			wantError(t, err, nil, "revoke user", "not a handle")
		}
	})
}

// The request's own session, the list and its sessions are three commands, and have one timeout.
func TestYourDevicesTakeOneTimeout(t *testing.T) {
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		proxy, s := proxied(t, server)
		s.Redis.Timeout = time.Second
		site := newSite(t, s)
		b := signIn(t, site, "ann")
		signIn(t, site, "ann")
		site.visit(b, func(_ http.ResponseWriter, r *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
			_, err := site.app.Sessions(r.Context(), "ann") // Redis has then seen the scripts
			noError(t, err)
			s.Refresh()
			proxy.Delay(400 * time.Millisecond)
			defer proxy.Delay(0)
			_, err = site.app.Sessions(r.Context(), "ann")
			wantError(t, err, pycket.ErrUnavailable)
		})
		site.use(b, func(s *pycket.SessionManager) {
			proxy.Delay(400 * time.Millisecond)
			defer proxy.Delay(0)
			_, err := s.RevokeOthers()
			wantError(t, err, pycket.ErrUnavailable)
		})
	})
}

func TestYourDevices(t *testing.T) {
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		proxy, s := proxied(t, server)
		site := newSite(t, s)
		began := time.Now()
		browsers := []*browser{signIn(t, site, "ann"), signIn(t, site, "ann"), signIn(t, site, "ann")}
		other := signIn(t, site, "bob")
		var infos []pycket.SessionInfo
		site.visit(browsers[1], func(_ http.ResponseWriter, r *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
			s.Set("used", true)
			var err error
			infos, err = site.app.Sessions(r.Context(), "ann")
			noError(t, err)
		})
		near := cmpopts.EquateApproxTime(5 * time.Second)
		want := pycket.SessionInfo{Created: began, LastSeen: began, SignedIn: began, UserAgent: "Go-http-client/1.1"}
		for i, info := range infos {
			if len(info.Handle) != 16 || strings.Contains(browsers[i].cookie(), info.Handle) {
				t.Errorf("handle %q", info.Handle)
			}
			want.Handle, want.Current = info.Handle, i == 1
			if diff := cmp.Diff(want, info, near); diff != "" {
				t.Errorf("session %d (-want +got):\n%s", i, diff)
			}
		}
		if len(infos) != 3 {
			t.Fatalf("ann has %d sessions", len(infos))
		}

		// The first of two cookies may be that of a session that has ended.
		gone := signIn(t, site, "ann")
		old := gone.cookie()
		gone.must("destroy")
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Cookie", "PYCKET_ID="+old+"; PYCKET_ID="+browsers[1].cookie())
		site.app.Wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			again, err := site.app.Sessions(r.Context(), "ann")
			noError(t, err)
			if len(again) != 3 || !again[1].Current {
				t.Errorf("%+v", again)
			}
		})).ServeHTTP(httptest.NewRecorder(), r)

		// A handle stays the same after a rotation, and revoking by it is at once.
		site.works(browsers[0], func(s *pycket.SessionManager, _ *pycket.NotificationManager) error { return s.Rotate() })
		revoke := func() { noError(t, site.app.Revoke(t.Context(), infos[0].Handle)) }
		revoke() // Redis has then seen the script
		if trips := proxy.Trips(revoke); trips != 1 {
			t.Errorf("Revoke took %d round trips", trips)
		}
		browsers[0].want([]outcome{{Value: ""}}, "user")
		if trips := proxy.Trips(func() { infos = list(t, site, "ann") }); trips > 2 || len(infos) != 2 {
			t.Errorf("Sessions took %d round trips, and ann has %d", trips, len(infos))
		}

		wantRevoked(t, site, 1, "ann", infos[1].Handle)
		if trips := proxy.Trips(func() { wantRevoked(t, site, 0, "ann", infos[1].Handle) }); trips > 2 {
			t.Errorf("again, RevokeUser took %d round trips", trips)
		}
		for i, want := range []string{"", "", "ann"} {
			browsers[i].want([]outcome{{Value: want}}, "user")
		}
		other.want([]outcome{{Value: "bob"}}, "user")
		wantRevoked(t, site, 1, "ann")
		wantSessions(t, site, "ann", 0)
		wantSessions(t, site, "bob", 1)
	})
}

// A login by a request that began after its session had ended starts a fresh one: no need to wait for the requests
// that may still be on their way.
func TestLoginAfterEnd(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		s := settings(server)
		s.MaxSessionsPerUser = 1
		site := newSite(t, s)
		for ending, end := range map[string]func(b *browser) error{
			"destroyed":    func(b *browser) error { b.tab().must("destroy"); return nil },
			"revoked":      func(*browser) error { return revokeFirst(t, site, "ann") },
			"user revoked": func(*browser) error { _, err := site.app.RevokeUser(t.Context(), "ann"); return err },
			"pushed out":   func(*browser) error { site.browser().must("login:ann"); return nil },
		} {
			for _, before := range [][]string{{}, {"user"}, {"destroy"}, {"user", "destroy"}, {"user", "take:waiting"}} {
				t.Run(fmt.Sprint(ending, before), func(t *testing.T) {
					server.Do(0, "FLUSHALL")
					b := site.browser()
					b.must("signin:ann:a:before", "remember", "note:waiting:note")
					old := b.cookie()
					require(t, end(b))
					late := b.tab()
					for _, write := range []string{"set:a:late", "setuser:ann", "rotate", "remember", "note:x:y"} { // these may have been on their way
						if a := late.want([]outcome{{Err: "ErrGone"}}, write); a.setsCookie() {
							t.Errorf("%s sets a cookie", write)
						}
					}
					var list []outcome
					ops := append(slices.Clone(before), "login:ann", "set:b:c", "get:a", "user")
					for began := time.Now(); ; { // Redis's clock tells milliseconds, and not which came first in one
						var a answer
						a, list = b.do(ops...)
						if list[len(before)].Err == "" {
							if line := strings.Join(a.header["Set-Cookie"], "\n"); strings.Count(line, "PYCKET_ID") != 1 || strings.Contains(line, "Max-Age") {
								t.Errorf("Set-Cookie: %q", line)
							}
							break
						}
						if a.setsCookie() || time.Since(began) > 2*time.Second {
							t.Fatalf("%v after the end: %v, cookie set: %v", time.Since(began), list, a.setsCookie())
						}
					}
					want := make([]outcome, len(before), len(ops))
					for i, op := range before {
						if op != "destroy" {
							want[i].Value = ""
						}
					}
					if diff := cmp.Diff(append(want, outcome{}, outcome{}, outcome{Value: ""}, outcome{Value: "ann"}), list); diff != "" {
						t.Errorf("%q (-want +got):\n%s", ops, diff)
					}
					b.want([]outcome{{Value: "ann"}, {Value: []any{"b"}}, {Value: []any{}}}, "user", "keys", "nkeys")
					if keyOf(idOf(t, b.cookie())) == keyOf(idOf(t, old)) {
						t.Error("the line is the old one")
					}
					wantAnonymous(t, site, old)
					if infos, err := site.app.Sessions(t.Context(), "ann"); len(infos) != 1 || err != nil {
						t.Errorf("ann has %v: %v", infos, err)
					}
				})
			}
			for _, ops := range [][]string{{"hold", "login:ann"}, {"hold", "user", "login:ann"}, {"hold", "destroy", "login:ann"}, {"user", "hold", "destroy", "login:ann"}} {
				t.Run(fmt.Sprint(ending, " under way ", ops), func(t *testing.T) {
					server.Do(0, "FLUSHALL")
					b := site.browser()
					b.must("login:ann", "set:a:before")
					slow := b.tab()
					a, list := site.whileHeld(slow, ops, func() { noError(t, end(b)) })
					if a.setsCookie() || list[len(list)-1].Err != "ErrGone" {
						t.Errorf("%v, cookie set: %v", list, a.setsCookie())
					}
				})
			}
		}

		// A browser may have another id of the same session by now: then a login waits like any write.
		b := site.browser()
		b.must("set:cart:full")
		late := b.tab()
		b.must("login:ann")
		if a := late.want([]outcome{{Err: "ErrGone"}}, "login:ann"); a.setsCookie() {
			t.Error("a login that may have been on its way sets a cookie")
		}
		b.want([]outcome{{Value: "full"}}, "get:cart")

		// Destroy and then Login, in one request.
		old := b.cookie()
		if a := b.want([]outcome{{}, {}, {Value: ""}, {Value: "bob"}}, "destroy", "login:bob", "get:cart", "user"); len(a.header["Set-Cookie"]) != 1 {
			t.Errorf("Set-Cookie: %q", a.header["Set-Cookie"])
		}
		b.want([]outcome{{Value: "bob"}, {Value: []any{}}}, "user", "keys")
		wantAnonymous(t, site, old)
	})
}

// Whoever signs in does not get what the user before has left: values, notifications and all that is known of
// its browser. What a stranger has put into the cart stays.
func TestUserChanges(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		s := settings(server)
		s.MaxSessionBytes = 4 << 10
		site := newSite(t, s)
		record := func(b *browser) string { return server.Hash(0, keyOf(idOf(t, b.cookie())))["pycket:id"] }
		visit := func(b *browser, agent string, use func(s *pycket.SessionManager, n *pycket.NotificationManager) error) {
			t.Helper()
			site.act = func(_ http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, n *pycket.NotificationManager) {
				noError(t, use(s, n))
			}
			_, err := b.fetch("/", "User-Agent: "+agent)
			require(t, err)
		}
		type contents struct {
			User, Text string
			Names      []string
			Notes      []string
			Messages   int
		}
		look := func(s *pycket.SessionManager, n *pycket.NotificationManager) (c contents) {
			t.Helper()
			var errs [5]error
			c.User, errs[0] = s.User()
			c.Names, errs[1] = s.Keys()
			c.Text, errs[2] = pycket.Get(s, "address", "")
			c.Notes, errs[3] = n.Keys()
			messages, err := n.Drain()
			c.Messages, errs[4] = len(messages), err
			noError(t, errors.Join(errs[:]...))
			return c
		}
		many := pycket.Values{} // HDEL by more than one step
		for i := range 250 {
			many[fmt.Sprint(i)] = i
		}
		first := func(s *pycket.SessionManager, n *pycket.NotificationManager) error {
			return errors.Join(s.Login("ann", pycket.Values{"address": "Ann's"}), s.SetMany(many), n.Set("waiting", "for Ann"), n.Add("info", "for Ann"))
		}
		for name, change := range map[string]struct {
			do    func(s *pycket.SessionManager) error
			want  contents
			bytes int // of names and values
		}{
			"Login":             {func(s *pycket.SessionManager) error { return s.Login("bob", nil) }, contents{User: "bob"}, 0},
			"Login with values": {func(s *pycket.SessionManager) error { return s.Login("bob", pycket.Values{"1": "own"}) }, contents{User: "bob", Names: []string{"1"}}, 6},
			"SetUser":           {func(s *pycket.SessionManager) error { return s.SetUser("bob") }, contents{User: "bob"}, 0},
			"SetUser to nobody": {func(s *pycket.SessionManager) error { return s.SetUser("") }, contents{}, 0},
			"nobody between":    {func(s *pycket.SessionManager) error { return errors.Join(s.SetUser(""), s.Login("bob", nil)) }, contents{User: "bob"}, 0},
			"a large value": {func(s *pycket.SessionManager) error {
				return s.Login("bob", pycket.Values{"large": strings.Repeat("x", 3800)})
			}, contents{User: "bob", Names: []string{"large"}}, 3800 + 7},
		} {
			for _, read := range []bool{false, true} {
				t.Run(fmt.Sprint(name, ", read before: ", read), func(t *testing.T) {
					server.Do(0, "FLUSHALL")
					b := site.browser()
					visit(b, "Ann's", first)
					if change.want.Names == nil {
						change.want.Names = []string{}
					}
					change.want.Notes = []string{}
					visit(b, "Bob's", func(s *pycket.SessionManager, n *pycket.NotificationManager) error {
						if read {
							if c := look(s, n); c.Text != "Ann's" || len(c.Names) != 251 || c.Messages != 1 {
								t.Errorf("before: %v", c)
							}
						}
						if err := change.do(s); err != nil {
							return err
						}
						if diff := cmp.Diff(change.want, look(s, n)); diff != "" {
							t.Errorf("in the same request (-want +got):\n%s", diff)
						}
						return nil
					})
					visit(b, "Bob's", func(s *pycket.SessionManager, n *pycket.NotificationManager) error {
						if diff := cmp.Diff(change.want, look(s, n)); diff != "" {
							t.Errorf("in the next (-want +got):\n%s", diff)
						}
						return nil
					})
					if keys := server.Keys(1); len(keys) != 0 {
						t.Errorf("notifications are left: %q", keys)
					}
					if got := record(b)[36:]; got != fmt.Sprint(change.bytes) {
						t.Errorf("it takes %s bytes, want %d", got, change.bytes)
					}
					wantSessions(t, site, "ann", 0)
					if infos := list(t, site, "bob"); change.want.User == "bob" && (len(infos) != 1 || infos[0].UserAgent != "Bob's") {
						t.Errorf("bob has %v", infos)
					}
					visit(b, "Bob's", func(s *pycket.SessionManager, n *pycket.NotificationManager) error {
						err := errors.Join(n.Set("own", "note"), n.Add("info", "own"))
						if c := look(s, n); !slices.Equal(c.Notes, []string{"own"}) || c.Messages != 1 {
							t.Errorf("notifications of his own: %v", c)
						}
						return err
					})
				})
			}
		}

		t.Run("refused", func(t *testing.T) { // nothing is changed
			server.Do(0, "FLUSHALL")
			b := site.browser()
			visit(b, "Ann's", first)
			before := record(b)
			visit(b, "Bob's", func(s *pycket.SessionManager, n *pycket.NotificationManager) error {
				wantError(t, s.Login("bob", pycket.Values{"large": strings.Repeat("x", 4<<10)}), pycket.ErrTooLarge, "login")
				if c := look(s, n); c.User != "ann" || c.Text != "Ann's" || len(c.Names) != 251 || len(c.Notes) != 1 || c.Messages != 1 {
					t.Errorf("%v", c)
				}
				return n.Add("info", "for Ann")
			})
			if got := record(b); got != before {
				t.Errorf("the record is %q, was %q", got, before)
			}
		})
		t.Run("the same user", func(t *testing.T) {
			server.Do(0, "FLUSHALL")
			b := site.browser()
			visit(b, "a stranger's", func(s *pycket.SessionManager, n *pycket.NotificationManager) error {
				return errors.Join(s.Set("cart", "full"), n.Add("info", "for whoever signs in"))
			})
			visit(b, "Ann's", func(s *pycket.SessionManager, n *pycket.NotificationManager) error {
				return errors.Join(first(s, n), s.Login("ann", nil), s.SetUser("ann"))
			})
			visit(b, "Ann's", func(s *pycket.SessionManager, n *pycket.NotificationManager) error {
				if c := look(s, n); c.User != "ann" || c.Text != "Ann's" || len(c.Names) != 252 || len(c.Notes) != 1 || c.Messages != 2 {
					t.Errorf("%v", c)
				}
				return nil
			})
		})
	})
}

// The list of a user heals itself: dead sessions are never listed, living ones always, and nothing is
// left of those that expired.
func TestUserListHeals(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		site := newSite(t, settings(server))
		signIn(t, site, "ann")
		dead := 100_000
		if server.Embedded() {
			dead = 3_000 // miniredis is slow
		}
		args := []any{listKey("ann")}
		for i := range dead { // sessions that expired
			args = append(args, i, fmt.Sprintf("%016d", i))
			if len(args) > 10_000 {
				server.Do(0, "ZADD", args...)
				args = args[:1]
			}
		}
		if len(args) > 1 {
			server.Do(0, "ZADD", args...)
		}
		wantSessions(t, site, "ann", 1)
		if n := server.Do(0, "ZCARD", listKey("ann")).(int64); n != 1 {
			t.Errorf("%d entries are left", n)
		}

		// A list that was lost comes back as its sessions are used; one whose sessions live on stays.
		b := signIn(t, site, "bob")
		for use, with := range map[string]func(s *pycket.SessionManager, n *pycket.NotificationManager){
			"set":   func(s *pycket.SessionManager, _ *pycket.NotificationManager) { s.Set("a", 1) },
			"get":   func(s *pycket.SessionManager, _ *pycket.NotificationManager) { s.Has("a") },
			"peek":  func(_ *pycket.SessionManager, n *pycket.NotificationManager) { n.Has("a") },
			"take":  func(_ *pycket.SessionManager, n *pycket.NotificationManager) { n.Delete("a") },
			"drain": func(_ *pycket.SessionManager, n *pycket.NotificationManager) { n.Drain() },
		} {
			server.Do(0, "DEL", listKey("bob"))
			key := keyOf(idOf(t, b.cookie()))
			server.Do(0, "HSET", key, "pycket:seen", 1) // a tenth of the idle timeout ago, and more
			server.Do(0, "PEXPIRE", key, time.Hour.Milliseconds())
			site.visit(b, func(_ http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, n *pycket.NotificationManager) {
				with(s, n)
			})
			if infos := list(t, site, "bob"); len(infos) != 1 {
				t.Errorf("after %s, bob has %d sessions", use, len(infos))
			}
		}
		// Many living sessions come in several answers.
		if !server.Embedded() {
			for range 1100 {
				signIn(t, site, "eve")
			}
			wantSessions(t, site, "eve", 1100)
			keep := list(t, site, "eve")[1050].Handle
			wantRevoked(t, site, 1099, "eve", keep)
			if infos := list(t, site, "eve"); len(infos) != 1 || infos[0].Handle != keep {
				t.Errorf("eve has %v", infos)
			}
		}
		for _, key := range server.Keys(0) {
			if left := server.Do(0, "PTTL", key).(int64); left <= 0 {
				t.Errorf("%s has a TTL of %d", key, left)
			}
		}
	})
}

func TestMaxSessionsPerUser(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		s := settings(server)
		s.MaxSessionsPerUser = 2
		site := newSite(t, s)
		var browsers []*browser
		for range 4 {
			browsers = append(browsers, signIn(t, site, "ann"))
		}
		for i, want := range []string{"", "", "ann", "ann"} {
			browsers[i].want([]outcome{{Value: want}}, "user")
		}
		// Dead sessions do not count.
		server.Do(0, "DEL", "pycket:s:{"+list(t, site, "ann")[1].Handle+"}")
		browsers = append(browsers, signIn(t, site, "ann"))
		for i, want := range map[int]string{2: "ann", 3: "", 4: "ann"} {
			browsers[i].want([]outcome{{Value: want}}, "user")
		}
		parallel(8, func(int) { signInQuietly(site, "bob") })
		wantSessions(t, site, "bob", 2)

		// The session that has just signed in stays, though the clocks of the others' servers are ahead.
		for range 2 {
			b := signIn(t, site, "eve")
			server.Do(0, "HSET", keyOf(idOf(t, b.cookie())), "pycket:auth", time.Now().Add(time.Minute).UnixMicro())
		}
		signIn(t, site, "eve").want([]outcome{{Value: "eve"}}, "user")
	})
}

func TestRemember(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		s := settings(server)
		s.IdleTimeout = time.Hour
		site := newSite(t, s)
		const month = 30 * 24 * time.Hour
		b := site.browser()
		a := b.want([]outcome{{}, {}}, "set:a:x", "remember")
		if line := strings.Join(a.header["Set-Cookie"], "\n"); strings.Count(line, "PYCKET_ID") != 1 || !strings.Contains(line, "Max-Age=2592000") {
			t.Errorf("%q", line)
		}
		key := server.OnlyKey()
		near := func(what string, want time.Duration) {
			t.Helper()
			if left := time.Duration(server.Do(0, "PTTL", key).(int64)) * time.Millisecond; left > want || left < want-time.Minute {
				t.Errorf("%s: %v are left, want %v", what, left, want)
			}
		}
		near("Remember", month)
		for _, op := range []string{"set:b:1", "has:a", "rotate"} {
			server.Do(0, "PEXPIRE", key, (month * 8 / 10).Milliseconds())
			b.must(op)
			near(op, month)
		}

		// The cookie is renewed once a tenth of its life has passed, and keeps its lifetime.
		id := idOf(t, b.cookie())
		for age, want := range map[time.Duration]bool{2 * 24 * time.Hour: false, 4 * 24 * time.Hour: true, 31 * 24 * time.Hour: false} {
			a, _ := b.with(signedFor(t, secret, "PYCKET_ID", id, age, month)).do("has:a")
			if got := strings.Contains(strings.Join(a.header["Set-Cookie"], ""), "Max-Age=2592000"); got != want {
				t.Errorf("a cookie %v old is renewed: %v, want %v", age, got, want)
			}
		}
		due := b.with(signedFor(t, secret, "PYCKET_ID", id, 4*24*time.Hour, month))
		if a, _ := due.do(); a.setsCookie() {
			t.Error("an untouched session's cookie is renewed")
		}

		// But not if another request has rotated the id meanwhile.
		a, list := site.whileHeld(due, []string{"has:a", "hold"}, func() { due.tab().must("rotate") })
		if a.setsCookie() || list[0].Value != true {
			t.Error("a renewed cookie replaces that of a newer id")
		}

		// 400 days are the most.
		a = site.works(site.browser(), func(s *pycket.SessionManager, _ *pycket.NotificationManager) error {
			return errors.Join(s.Set("a", "x"), s.Remember(1000*24*time.Hour))
		})
		if line := strings.Join(a.header["Set-Cookie"], "\n"); !strings.Contains(line, "Max-Age=34560000") {
			t.Errorf("%q", line)
		}
	})
}

// Remember has returned nil, and then the browser can't be given the cookie that lasts: that leaves a trace, of which
// a session that has ended meanwhile has no need.
func TestRememberedCookieIsNotSent(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		for name, test := range map[string]struct {
			meanwhile func(site *site, b *browser)
			want      string // in the log
		}{
			"nothing":       {func(*site, *browser) {}, ""},
			"Redis fails":   {func(site *site, _ *browser) { site.app.Close() }, pycket.ErrUnavailable.Error()},
			"a new id":      {func(_ *site, b *browser) { b.must("rotate") }, "new id"},
			"the end":       {func(_ *site, b *browser) { b.must("destroy") }, ""},
			"it is renewed": {func(_ *site, b *browser) { b.must("get:a") }, ""},
		} {
			t.Run(name, func(t *testing.T) {
				log, site := logged(t, settings(server))
				b := site.browser()
				b.must("set:a:x")
				tab := b.tab()
				a, list := site.whileHeld(b, []string{"remember", "hold"}, func() { test.meanwhile(site, tab) })
				if list[0].Err != "" {
					t.Fatal(list)
				}
				lines := slices.DeleteFunc(log.warnings(t), func(w warning) bool { // the outage has a line of its own
					return w.Level == "ERROR" && name == "Redis fails"
				})
				if test.want == "" && len(lines) > 0 {
					t.Errorf("the log: %s", log)
				}
				if test.want != "" && (len(lines) != 1 || lines[0].Level != "WARN" || !strings.Contains(log.String(), test.want) || a.setsCookie()) {
					t.Errorf("a cookie is set: %v; the log: %s", a.setsCookie(), log)
				}
			})
		}
	})
}

// Remember does not outlast the absolute timeout. A session that is older than one that was set later is dead: the list
// doesn't show it.
func TestAbsoluteTimeoutAndRemember(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		s := settings(server)
		before := newSite(t, s)
		b := signIn(t, before, "ann")
		infos := list(t, before, "ann")
		key := "pycket:s:{" + infos[0].Handle + "}"
		record := server.Hash(0, key)["pycket:id"]
		server.Do(0, "HSET", key, "pycket:id", fmt.Sprintf("%s%013d%s", record[:22], time.Now().Add(-3*time.Hour).UnixMilli(), record[35:]))
		wantSessions(t, before, "ann", 1)
		s.AbsoluteTimeout = 2 * time.Hour
		after := newSite(t, s)
		wantSessions(t, after, "ann", 0)
		after.receive(b).want([]outcome{{Value: ""}}, "user")

		server.Do(0, "FLUSHALL")
		after.browser().must("login:ann", "remember")
		for _, key := range server.Keys(0) {
			if left := server.Do(0, "PTTL", key).(int64); left > (2*time.Hour).Milliseconds() && !mayLag(server, key) {
				t.Errorf("%s may stand %d ms", key, left)
			}
		}
	})
}

// Remember stays when the same user signs in again, as before something that matters, and holds for whoever signs in if
// it was asked for in the same request. The next user of the browser, and a fresh session after an expired one, don't
// inherit it.
func TestRememberOutlivesLogin(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		site := newSite(t, settings(server))
		const month = 30 * 24 * time.Hour
		for _, test := range []struct {
			before, ops []string
			want        bool
		}{
			{[]string{"login:ann", "remember"}, []string{"login:ann"}, true},
			{[]string{"login:ann", "remember"}, []string{"login:ann", "login:ann"}, true},
			{[]string{"login:ann", "remember"}, []string{"get:a", "remembered", "signin:ann:a:b"}, true},
			{[]string{"login:ann", "remember"}, []string{"rotate", "login:ann", "rotate"}, true},
			{[]string{"setuser:ann", "remember"}, []string{"login:ann"}, true},
			{[]string{"login:ann", "remember"}, []string{"login:bob"}, false},
			{[]string{"login:ann", "remember"}, []string{"login:bob", "login:ann"}, false},
			{[]string{"login:ann", "remember"}, []string{"destroy", "login:ann"}, false},
			{[]string{"set:a:b", "remember"}, []string{"login:ann"}, false},
			{[]string{"set:a:b"}, []string{"remember", "login:ann"}, true},
			{[]string{"set:a:b"}, []string{"remember", "login:ann", "login:bob"}, false},
			{nil, []string{"login:ann", "remember", "login:bob"}, false},
			{nil, []string{"login:ann", "remember", "login:ann"}, true},
			{[]string{"login:ann"}, []string{"login:ann"}, false},
			{[]string{"login:ann", "remember", "expire"}, []string{"set:a:b"}, false},
		} {
			t.Run(fmt.Sprint(test.before, test.ops), func(t *testing.T) {
				server.Do(0, "FLUSHALL")
				b := site.browser()
				if before, expires := strings.CutSuffix(strings.Join(test.before, " "), " expire"); test.before != nil {
					b.must(strings.Fields(before)...)
					if expires {
						server.Do(0, "FLUSHALL")
					}
				}
				a, list := b.do(append(test.ops, "remembered")...)
				for i, o := range list[:len(test.ops)] {
					if o.Err != "" {
						t.Errorf("%s: %s", test.ops[i], o.Err)
					}
				}
				if got := list[len(test.ops)].Value; got != test.want {
					t.Errorf("in the same request, remembered: %v", got)
				}
				lines := a.header["Set-Cookie"]
				if len(lines) != 1 || strings.Contains(lines[0], "Max-Age=2592000") != test.want || strings.Contains(lines[0], "Max-Age") != test.want {
					t.Errorf("Set-Cookie: %q", lines)
				}
				b.want([]outcome{{Value: test.want}}, "remembered")
				left := time.Duration(server.Do(0, "PTTL", keyOf(idOf(t, b.cookie()))).(int64)) * time.Millisecond
				if (left > month-time.Minute) != test.want || !test.want && left > 24*time.Hour {
					t.Errorf("it stands for %v", left)
				}
			})
		}
	})
}

// A Remember that could not take effect says so, and what to do.
func TestRememberWithoutSession(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		site := newSite(t, settings(server))
		check := func(b *browser, want error) {
			t.Helper()
			size := server.Size()
			a := site.use(b, func(s *pycket.SessionManager) {
				for range 2 {
					err := s.Remember(time.Hour)
					if want == nil {
						wantError(t, err, nil, "remember", "Login")
					} else {
						wantError(t, err, want, "remember")
					}
				}
				if remembered, err := s.Remembered(); remembered || err != nil {
					t.Errorf("remembered: %v, %v", remembered, err)
				}
			})
			if a.setsCookie() || server.Size() != size {
				t.Errorf("Set-Cookie: %q, keys: %d, were %d", a.header["Set-Cookie"], server.Size(), size)
			}
		}
		check(site.browser(), nil)
		b := signIn(t, site, "ann")
		late := b.tab()
		site.works(b, func(s *pycket.SessionManager, _ *pycket.NotificationManager) error { return s.Destroy() })
		check(b, nil)
		check(late, pycket.ErrGone)
		server.Do(0, "FLUSHALL")
		check(late, nil) // it expired
		site.use(site.browser(), func(s *pycket.SessionManager) {
			wantError(t, s.Remember(time.Hour), nil, "remember", "Login")
			noError(t, errors.Join(s.Login("ann", nil), s.Remember(time.Hour)))
			names, err := s.Keys()
			remembered, rememberedErr := s.Remembered()
			if len(names) != 0 || !remembered || err != nil || rememberedErr != nil {
				t.Errorf("%q, remembered: %v; %v, %v", names, remembered, err, rememberedErr)
			}
		})
	})
}
