package pycket_test

// What has gone wrong in session libraries, one test a class, with a public case: the section "Threats" of
// docs/security.md, which says what stands in the way of each.

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/gob"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"log/slog"
	"maps"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gomodule/redigo/redis"
	"github.com/google/go-cmp/cmp"

	"github.com/pycket/pycket"
	"github.com/pycket/pycket/internal/redistest"
)

// receive is a browser at this site with the session that another has elsewhere.
func (s *site) receive(other *browser) *browser {
	s.t.Helper()
	return s.browser().with(other.cookie())
}

// contents is all that stands in the first databases.
func contents(t *testing.T, server *redistest.Server) map[string]any {
	t.Helper()
	all := map[string]any{}
	for db := range 2 {
		for _, key := range server.Keys(db) {
			if mayLag(server, key) {
				continue
			}
			name := fmt.Sprint(db, " ", key)
			switch kind := server.Do(db, "TYPE", key); kind {
			case "hash":
				all[name] = server.Hash(db, key)
			case "list":
				all[name], _ = redis.Strings(server.Do(db, "LRANGE", key, 0, -1), nil)
			case "zset":
				all[name], _ = redis.Strings(server.Do(db, "ZRANGE", key, 0, -1, "WITHSCORES"), nil)
			default:
				t.Fatalf("%s is a %v", key, kind)
			}
		}
	}
	return all
}

// givenCookie is the value of the session's cookie in an answer as it came over the wire, "" if there is
// none.
func givenCookie(text string) string {
	_, rest, _ := strings.Cut(text, "Set-Cookie: PYCKET_ID=")
	value, _, _ := strings.Cut(rest, ";")
	return value
}

// A request under way brings a session back that was ended meanwhile: CVE-2025-46336 (rack-session). Or
// it saves the old state under a new id.
//
// Every way to end an id, and all that can be done late, by a request that has seen the session alive or its
// notifications, or nothing yet. TestInFlight has more that the request may have done before, and renewal.
func TestThreatResurrection(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		s := settings(server)
		s.MaxSessionsPerUser = 1
		site := newSite(t, s)
		for ending, end := range map[string]func(b *browser) error{
			"destroyed":    func(b *browser) error { b.must("destroy"); return nil },
			"rotated":      func(b *browser) error { b.must("rotate"); return nil },
			"logged in":    func(b *browser) error { b.must("login:ann"); return nil },
			"pushed out":   func(*browser) error { site.browser().must("login:ann"); return nil },
			"user revoked": func(*browser) error { _, err := site.app.RevokeUser(t.Context(), "ann"); return err },
			"one revoked":  func(*browser) error { return revokeFirst(t, site, "ann") },
		} {
			lives := ending == "rotated" || ending == "logged in"
			for i, late := range append(slices.Clone(lateWrites), "login:bob", "signin:bob:a:late", "setuser:bob", "setuser:", "remember", "others", "take:waiting", "drain", "destroy") {
				before := []string{"get:a"}
				if i < len(lateWrites) && strings.HasSuffix(ending, "revoked") {
					before = []string{"get:a", "nhas:x", ""}
				}
				for _, before := range before {
					t.Run(ending+", "+before+", "+late, func(t *testing.T) {
						server.Do(0, "FLUSHALL")
						b := site.browser()
						b.must("signin:ann:a:before", "note:waiting:note", "add:info:message")
						old := b.cookie()
						slow := b.tab()
						a, list := site.whileHeld(slow, strings.Fields(before+" hold "+late+" "+late), func() { noError(t, end(b)) })
						if a.setsCookie() {
							t.Errorf("the late response sets %q", a.header["Set-Cookie"])
						}
						for _, o := range list[len(list)-2:] {
							switch late {
							case "take:waiting", "drain": // they only read
								if o.Value != "" || o.Err != "" {
									t.Errorf("the late read answered %v", o)
								}
							case "destroy":
								if o.Err != "" && o.Err != "ErrGone" {
									t.Errorf("the late logout answered %v", o)
								}
							default:
								if o.Err != "ErrGone" {
									t.Errorf("the late write answered %v", o)
								}
							}
						}
						wantAnonymous(t, site, old)
						if infos, err := site.app.Sessions(t.Context(), "bob"); len(infos) != 0 || err != nil {
							t.Errorf("bob has %v: %v", infos, err)
						}
						if lives {
							b.want([]outcome{{Value: "ann"}, {Value: "before"}, {Value: "note"}, {Value: "info=message"}}, "user", "get:a", "take:waiting", "drain")
						} else if fields := server.Hash(0, keyOf(idOf(t, old))); len(fields) != 1 || fields["pycket:ended"] == "" {
							t.Errorf("the old key holds %v", fields)
						} else if ending != "pushed out" { // there another lives
							wantNothingLeft(t, server)
						}
					})
				}
			}
		}
	})
}

// revokeFirst revokes the first session of a user, if there is one.
func revokeFirst(t *testing.T, site *site, user string) error {
	infos, err := site.app.Sessions(t.Context(), user)
	if err != nil || len(infos) == 0 {
		return err
	}
	return site.app.Revoke(t.Context(), infos[0].Handle)
}

// Two requests of one session undo each other's writes: flask-session #71, rack-session #24.
//
// Here all requests, of two servers, have read the session before the first of them writes. TestNoLostWrites
// does it for 20 rounds with another process, TestGoroutinesOfOneRequest within one request.
func TestThreatLostUpdate(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		one, two := newSite(t, settings(server)), newSite(t, settings(server))
		b := one.browser()
		b.must("set:here:before", "inc:increments:0", "inc:updates:0", "note:here:before")
		contend(one, two, b, func(i int) []string {
			return []string{"keys", "number:updates", "number:increments", "hold",
				fmt.Sprintf("set:name%d:x", i), fmt.Sprintf("note:note%d:x", i), "add:info:x", "update:updates", "inc:increments:1"}
		})
		got := b.must("keys", "nkeys", "number:updates", "number:increments", "drain")
		want := []any{contenders + 3, contenders + 1, float64(contenders), float64(contenders), strings.Repeat(" info=x", contenders)[1:]}
		if diff := cmp.Diff(want, []any{len(got[0].([]any)), len(got[1].([]any)), got[2], got[3], got[4]}); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// contend has requests of one session, at two sites in turn, of which each comes to its "hold" before any goes on.
func contend(one, two *site, b *browser, ops func(i int) []string) [][]outcome {
	one.t.Helper()
	lists := make([][]outcome, contenders)
	var wg sync.WaitGroup
	for i := range contenders {
		visitor := b.tab()
		if i%2 == 1 {
			visitor = two.receive(b)
		}
		wg.Go(func() {
			_, list, err := visitor.try(ops(i)...)
			for _, o := range list {
				if o.Err != "" {
					one.t.Error(o.Err)
				}
			}
			if lists[i] = list; err != nil || len(list) != len(ops(i)) {
				one.t.Error(list, err)
				lists[i] = make([]outcome, len(ops(i)))
			}
		})
	}
	for range contenders {
		select {
		case <-one.holding:
		case <-two.holding:
		}
	}
	close(one.release)
	close(two.release)
	wg.Wait()
	return lists
}

// A one-shot message is shown twice or never: Django's SessionStorage of messages, connect-flash.
//
// Here all readers, at two servers, know that the notification is there before the first of them takes it.
// TestOneReader does it for 20 rounds with another process.
func TestThreatNotificationTwice(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		one, two := newSite(t, settings(server)), newSite(t, settings(server))
		b := one.browser()
		b.must("note:saved:once", "add:info:only")
		read := map[any]int{}
		for _, list := range contend(one, two, b, func(int) []string {
			return []string{"nhas:saved", "peek:saved", "nkeys", "hold", "take:saved", "drain"}
		}) {
			read[list[4].Value]++
			read[list[5].Value]++
		}
		if read["once"] != 1 || read["info=only"] != 1 {
			t.Errorf("the notification had %d readers, the message %d, want 1", read["once"], read["info=only"])
		}
	})
}

// The server takes an id that the client made up: CVE-2024-38513 (fiber), CVE-2018-12071 (CodeIgniter).
func TestThreatChosenID(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		site := newSite(t, settings(server))
		victim := site.browser()
		victim.must("set:a:secret")
		known := idOf(t, victim.cookie())
		unknown := make([]byte, 44)
		rand.Read(unknown)
		before := contents(t, server)
		for name, sent := range map[string]struct {
			id    []byte
			value string
		}{
			"unsigned":                             {unknown, base64.URLEncoding.EncodeToString(unknown)},
			"signed with another secret":           {unknown, signed(t, otherSecret, "PYCKET_ID", unknown, 0)},
			"known, unsigned":                      {known, base64.URLEncoding.EncodeToString(known)},
			"known, signed with another secret":    {known, signed(t, otherSecret, "PYCKET_ID", known, 0)},
			"well signed, but of no session":       {unknown, signed(t, secret, "PYCKET_ID", unknown, 0)},
			"well signed, the line of a session":   {slices.Concat(known[:12], unknown[12:]), signed(t, secret, "PYCKET_ID", slices.Concat(known[:12], unknown[12:]), 0)},
			"well signed, the secret of a session": {slices.Concat(unknown[:12], known[12:]), signed(t, secret, "PYCKET_ID", slices.Concat(unknown[:12], known[12:]), 0)},
		} {
			for _, write := range []string{"set:a:mine", "setmany:a:mine", "inc:a:1", "update:a", "note:a:mine", "add:info:mine", "login:eve", "setuser:eve", "remember"} {
				text := raw(t, site, "op="+write+"&op=has:a", "PYCKET_ID="+sent.value)
				given := givenCookie(text)
				if write == "remember" { // there is no session to remember, and none is made
					if given != "" || strings.Contains(text, "secret") || !strings.Contains(text, "no session to remember") {
						t.Errorf("%s, %s: %q", name, write, text)
					}
					continue
				}
				if given == "" || strings.Contains(text, "secret") || strings.Contains(text, `"err"`) {
					t.Errorf("%s, %s: %q", name, write, text)
					continue
				}
				if id := idOf(t, given); bytes.Equal(id[:12], sent.id[:12]) || bytes.Equal(id[12:], sent.id[12:]) {
					t.Errorf("%s, %s: the id that was sent is in the one that was given", name, write)
				}
				if key := keyOf(sent.id); before["0 "+key] == nil && slices.Contains(server.Keys(0), key) {
					t.Errorf("%s, %s: there is a session under the id that was sent", name, write)
				}
			}
		}
		after := contents(t, server)
		for key, want := range before {
			if diff := cmp.Diff(want, after[key]); diff != "" {
				t.Errorf("the session of another visitor has changed (-want +got):\n%s", diff)
			}
		}
	})
}

// The id stays at login, so that who planted it is logged in too: CVE-2022-25896 (passport),
// CVE-2023-29019 (fastify-passport).
func TestThreatFixation(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		one, two := newSite(t, settings(server)), newSite(t, settings(server))
		for _, login := range []string{"rotate", "login:ann", "signin:ann:role:admin"} {
			attacker := one.browser()
			attacker.must("set:cart:kept", "note:waiting:kept", "add:info:kept")
			victim := attacker.tab() // the attacker has planted the id
			planted := attacker.cookie()
			victim.must(login, "set:a:private")
			first := victim.cookie()
			for _, site := range []*site{one, two} {
				wantAnonymous(t, site, planted)
				site.receive(attacker).want([]outcome{{Value: ""}, {Value: false}}, "user", "authtime")
			}
			victim.must(login) // to authenticate once more is a new id, too
			if bytes.Equal(idOf(t, first)[12:], idOf(t, victim.cookie())[12:]) || bytes.Equal(idOf(t, first)[12:], idOf(t, planted)[12:]) {
				t.Errorf("%s: the secret has not changed", login)
			}
			wantAnonymous(t, two, first)
			two.receive(victim).want([]outcome{{Value: "private"}, {Value: "kept"}, {Value: "kept"}, {Value: "info=kept"}}, "get:a", "get:cart", "take:waiting", "drain")
		}
	})
}

// Sessions and other things of one store are taken for each other: CVE-2022-46170 (CodeIgniter),
// CVE-2011-4136 (Django).
func TestThreatSharedKeyspace(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		for name, change := range map[string]func(*pycket.Settings){
			"names":     func(s *pycket.Settings) { s.Cookies.Name = "OTHER_ID" },
			"prefixes":  func(s *pycket.Settings) { s.Redis.Prefix = "other:" },
			"databases": func(s *pycket.Settings) { s.Redis.DBSessions, s.Redis.DBNotifications = new(2), new(3) },
		} {
			if name == "databases" && server.Nodes() != nil { // a cluster has one
				continue
			}
			t.Run("applications with other "+name, func(t *testing.T) {
				server.Do(0, "FLUSHALL")
				s := settings(server)
				one := newSite(t, s)
				change(&s)
				two := newSite(t, s)
				names := map[*site]string{one: "PYCKET_ID", two: s.Cookies.Name}
				if s.Cookies.Name == "" {
					names[two] = "PYCKET_ID"
				}
				cookies := map[*site]string{}
				for site, value := range map[*site]string{one: "one", two: "two"} {
					text := raw(t, site, "op=signin:ann:a:"+value+"&op=note:a:"+value)
					_, rest, _ := strings.Cut(text, "Set-Cookie: "+names[site]+"=")
					cookies[site], _, _ = strings.Cut(rest, ";")
				}
				for site, foreign := range map[*site]string{one: cookies[two], two: cookies[one]} {
					text := raw(t, site, "op=get:a&op=keys&op=user&op=take:a&op=rotate&op=destroy", names[site]+"="+foreign)
					if !strings.Contains(text, `[{"value":""},{"value":[]},{"value":""},{"value":""},{},{}]`) {
						t.Errorf("a swapped cookie: %q", text)
					}
					text = raw(t, site, "op=set:a:three", names[site]+"="+foreign)
					if !strings.Contains(text, "Set-Cookie: "+names[site]) || strings.Contains(text, foreign) {
						t.Errorf("a write with a swapped cookie: %q", text)
					}
				}
				for site, want := range map[*site]string{one: "one", two: "two"} {
					text := raw(t, site, "op=get:a&op=user&op=take:a", names[site]+"="+cookies[site])
					if !strings.Contains(text, fmt.Sprintf(`[{"value":%q},{"value":"ann"},{"value":%[1]q}]`, want)) {
						t.Errorf("its own cookie: %q", text)
					}
					infos, err := site.app.Sessions(t.Context(), "ann")
					if (name != "names") != (len(infos) == 1) || err != nil {
						t.Errorf("ann has %v: %v", infos, err)
					}
				}
			})
		}

		// A cookie is good for one prefix, even if the same session stands under another.
		server.Do(0, "FLUSHALL")
		s := settings(server)
		b := newSite(t, s).browser()
		b.must("set:a:one")
		s.Redis.Prefix = "other:"
		key := keyOf(idOf(t, b.cookie()))
		server.Do(0, "HSET", append([]any{strings.Replace(key, "pycket:", "other:", 1)}, server.Do(0, "HGETALL", key).([]any)...)...)
		if got := newSite(t, s).receive(b).must("get:a")[0]; got != "" {
			t.Errorf("another prefix: the cookie opens %q", got)
		}

		// Keys of the application's own, of every type, in the place of a session.
		for name, put := range map[string][]any{
			"a string":                   {"SET", `{"user":"admin"}`},
			"a list":                     {"RPUSH", "admin"},
			"a set":                      {"SADD", "admin"},
			"a sorted set":               {"ZADD", 1, "admin"},
			"a hash":                     {"HSET", "a", `"foreign"`, "pycket:user", "admin"},
			"a hash with another record": {"HSET", "a", `"foreign"`, "pycket:user", "admin", "pycket:id", strings.Repeat("A", 22) + "1795378841163013"},
			"a hash with an odd record":  {"HSET", "a", `"foreign"`, "pycket:user", "admin", "pycket:id", ""},
		} {
			if name == "a hash with an odd record" && server.Nodes() != nil {
				continue // in a cluster sessions have an end, and this is one of long ago
			}
			t.Run(name, func(t *testing.T) {
				site := newSite(t, settings(server))
				for _, op := range append([]string{"user", "authtime", "login:eve", "setuser:eve", "remember"}, everyOperation...) {
					server.Do(0, "FLUSHALL")
					id := append([]byte("a line of 12"), bytes.Repeat([]byte("s"), 32)...)
					key := keyOf(id)
					server.Do(0, put[0].(string), append([]any{key}, put[1:]...)...)
					before := server.Do(0, "TYPE", key)
					text := raw(t, site, "op="+op, "PYCKET_ID="+signed(t, secret, "PYCKET_ID", id, 0))
					typed := strings.Contains(text, `"err":"pycket: `) && strings.Contains(text, "another Redis type")
					if op == "remember" && before == "hash" { // which is no session to remember
						typed = strings.Contains(text, "no session to remember")
					}
					if strings.Contains(text, "foreign") || strings.Contains(text, "admin") || strings.HasPrefix(text, "HTTP/1.1 5") || strings.Contains(text, `"err"`) && !typed {
						t.Errorf("%s: %q", op, text)
					}
					if before != "hash" && !typed && op != "destroy" {
						t.Errorf("%s: no clear error: %q", op, text)
					}
					if before != server.Do(0, "TYPE", key) || server.Do(0, "PTTL", key).(int64) != -1 {
						t.Errorf("%s has touched the foreign key", op)
					}
					if before == "hash" && server.Hash(0, key)["a"] != `"foreign"` {
						t.Errorf("%s has changed the foreign key: %v", op, server.Hash(0, key))
					}
				}
			})
		}
	})
}

// A cookie of one name is good under another: Laravel before 7.22.4.
func TestThreatSwappedName(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		for _, encrypt := range []bool{false, true} {
			s := settings(server)
			s.Cookies.Encrypt = encrypt
			one := newSite(t, s)
			s.Cookies.Name = "REMEMBER_ID"
			two := newSite(t, s)
			b := one.browser()
			b.must("set:a:one")
			if text := raw(t, one, "op=get:a", "PYCKET_ID="+b.cookie()); !strings.Contains(text, `"one"`) {
				t.Errorf("its own name: %q", text)
			}
			for site, line := range map[*site]string{two: "REMEMBER_ID=" + b.cookie(), one: "pycket_id=" + b.cookie()} {
				if text := raw(t, site, "op=get:a", line); strings.Contains(text, `"one"`) || !strings.HasPrefix(text, "HTTP/1.1 200") {
					t.Errorf("%s: %q", line, text)
				}
			}
			_, rest, _ := strings.Cut(raw(t, two, "op=set:a:two"), "Set-Cookie: REMEMBER_ID=")
			value, _, _ := strings.Cut(rest, ";")
			if text := raw(t, one, "op=get:a", "PYCKET_ID="+value); value == "" || strings.Contains(text, `"two"`) {
				t.Errorf("the other way: %q", text)
			}
		}
	})
}

// An empty or odd id is one session that everybody shares: CVE-2015-3982 (Django).
func TestThreatOddID(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		site := newSite(t, settings(server))
		b := site.browser()
		b.must("signin:ann:a:secret")
		odd := hostileCookies(t, b.cookie())
		for name, id := range map[string][]byte{
			"zeros": make([]byte, 44), "line alone": idOf(t, b.cookie())[:12], "too long": append(idOf(t, b.cookie()), 0),
			"line and zeros": append(idOf(t, b.cookie())[:12:12], make([]byte, 32)...),
		} {
			odd[name+", signed"] = signed(t, secret, "PYCKET_ID", id, 0)
		}
		writers := maps.Clone(odd)
		random := mathrand.New(mathrand.NewPCG(1, 2))
		text := func(length int, alphabet string) string {
			value := make([]byte, length)
			for i := range value {
				value[i] = alphabet[random.IntN(len(alphabet))]
			}
			return string(value)
		}
		for i := range 5000 {
			odd[fmt.Sprint("random ", i)] = text(random.IntN(200), "!#$%&'()*+-./0123456789:<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[]^_`abcdefghijklmnopqrstuvwxyz{|}~")
			odd[fmt.Sprint("random, of the right length and alphabet ", i)] = text(len(b.cookie()), "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
		}
		before := contents(t, server)
		client := newBrowser(t, site.URL)
		client.client.Jar = nil
		names := slices.Collect(maps.Keys(odd))
		var next atomic.Int64
		parallel(8, func(int) {
			for i := int(next.Add(1)); i <= len(names); i = int(next.Add(1)) {
				name, value := names[i-1], odd[names[i-1]]
				ops := "op=get:a&op=keys&op=user&op=authtime&op=take:a&op=drain&op=delete:a&op=rotate&op=destroy"
				a, err := client.fetch("/?"+ops, "Cookie: PYCKET_ID="+value)
				if err != nil { // net/http refuses to send it: send it by hand
					text := raw(t, site, ops, "PYCKET_ID="+value)
					if strings.HasPrefix(text, "HTTP/1.1 400") && strings.Contains(value, "\x00") { // net/http answers by itself
						continue
					}
					a.header, a.body = http.Header{}, text[strings.LastIndex(text, "\n[")+1:]
					if fmt.Sscanf(text, "HTTP/1.1 %d", &a.status); strings.Contains(text, "Set-Cookie") {
						t.Errorf("%s: %q", name, text)
					}
				}
				want := `[{"value":""},{"value":[]},{"value":""},{"value":false},{"value":""},{"value":""},{},{},{}]` + "\n"
				if a.status != http.StatusOK || a.setsCookie() || a.body != want {
					t.Errorf("%s: %d %q, cookie set: %v", name, a.status, a.body, a.setsCookie())
				}
			}
		})
		if diff := cmp.Diff(before, contents(t, server)); diff != "" {
			t.Errorf("something has changed (-before +after):\n%s", diff)
		}
		// Two of them that write do not meet: each gets an id of the library's making.
		given := map[string]bool{}
		for name, value := range writers {
			for range 2 {
				if text := raw(t, site, "op=get:mine", "PYCKET_ID="+value); strings.Contains(text, "MINE") {
					t.Errorf("%s: reads what another has written", name)
				}
				text := raw(t, site, "op=set:mine:MINE", "PYCKET_ID="+value)
				if strings.HasPrefix(text, "HTTP/1.1 400") && strings.Contains(value, "\x00") {
					continue
				}
				cookie := givenCookie(text)
				if cookie == "" || cookie == value || given[cookie] {
					t.Errorf("%s: two visitors share a session: %q", name, text)
				}
				b.with(cookie).want([]outcome{{Value: []any{"mine"}}, {Value: "MINE"}}, "keys", "get:mine")
				given[cookie] = true
			}
		}
		b.want([]outcome{{Value: "secret"}}, "get:a")
	})
}

// Strangers fill the store: CVE-2015-5143, CVE-2015-5963 (Django).
//
// TestStrangersLeaveNothing has 10 000 without a cookie. These have cookies of sessions that ended long
// ago.
func TestThreatStrangersRecords(t *testing.T) {
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		site := newSite(t, settings(server))
		visits := 10_000
		if server.Embedded() {
			visits = 1_000 // miniredis is slow
		}
		client := newBrowser(t, site.URL)
		client.client.Jar = nil
		ops := []string{"get:a", "has:a", "keys", "user", "authtime", "take:a", "peek:a", "nkeys", "drain", "delete:a", "ndelete:a", "rotate", "destroy"}
		var next atomic.Int64
		parallel(8, func(int) {
			for i := int(next.Add(1)); i <= visits; i = int(next.Add(1)) {
				id := make([]byte, 44)
				rand.Read(id)
				a, err := client.fetch("/?op="+ops[i%len(ops)]+"&op="+ops[i*7%len(ops)], "Cookie: PYCKET_ID="+signed(t, secret, "PYCKET_ID", id, 0))
				if err != nil || a.setsCookie() || a.status != 200 || strings.Contains(a.body, `"err"`) {
					t.Error(a, err)
				}
			}
		})
		for db := range 2 {
			if n := server.Do(db, "DBSIZE"); n != int64(0) {
				t.Errorf("%d strangers left %d keys in database %d", visits, n, db)
			}
		}
	})
}

// A value of any size is stored: CVE-2016-4423 (Symfony).
//
// TestRefusals has the messages, TestSessionLimitInParallel many writers at once.
func TestThreatUnboundedValue(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		s := settings(server)
		s.MaxValueBytes, s.MaxSessionBytes = 100, 400
		site := newSite(t, s)
		b := site.browser()
		fill := strings.Repeat("x", 88)
		b.must("setmany:a:"+fill+":b:"+fill, "note:c:"+fill, "add:info:"+fill[:40], "set:n:1")
		cookie, before := b.cookie(), contents(t, server)
		large, medium, name := strings.Repeat("y", 99), strings.Repeat("y", 60), strings.Repeat("n", 60)
		writes := []string{
			"set:new:" + large, "setmany:d:1:new:" + large, "note:new:" + large, "notemany:d:1:new:" + large, "add:info:" + large, "signin:ann:new:" + large,
			"login:" + strings.Repeat("u", 1025), "setuser:" + strings.Repeat("u", 1025),
			"set:new:" + medium, "setmany:d:1:new:" + medium, "note:new:" + medium, "notemany:d:1:new:" + medium, "add:info:" + medium[:40], "signin:ann:new:" + medium,
			"set:" + name + ":", "inc:" + name + ":1", "update:" + name, "note:" + name + ":", "signin:ann:" + name + ":",
		}
		for _, write := range writes {
			a, list := b.do(write)
			if len(list) != 1 || list[0].Err != "ErrTooLarge" {
				t.Errorf("%s: %v", write, list)
			}
			if a.setsCookie() || b.cookie() != cookie {
				t.Errorf("%s sets a cookie", write)
			}
			if diff := cmp.Diff(before, contents(t, server)); diff != "" {
				t.Fatalf("%s has changed something (-before +after):\n%s", write, diff)
			}
		}
		for _, write := range writes[:8] { // nor does it make a session
			if a := site.browser().want([]outcome{{Err: "ErrTooLarge"}}, write); a.setsCookie() {
				t.Errorf("%s sets a cookie for a stranger", write)
			}
		}
		if diff := cmp.Diff(before, contents(t, server)); diff != "" {
			t.Errorf("strangers have changed something (-before +after):\n%s", diff)
		}
		b.want([]outcome{{Value: fill}, {}, {}, {Value: "y"}}, "get:a", "set:a:y", "set:new:"+medium, "get:a") // smaller is allowed, and makes room
	})
}

// A shared cache keeps one visitor's page for others: CVE-2023-30861 and CVE-2026-27205 (Flask).
func TestThreatCachedPrivateResponse(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		s := settings(server)
		s.Cookies.ExpiresDays = 10
		var app *pycket.App
		operations := pycket.Handler(operations{})
		site := newSite(t, s, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header()["Cache-Control"] = r.URL.Query()["cache"]
			w.Header().Set("Vary", "Accept-Encoding")
			if r.URL.Query().Has("devices") { // which one is the visitor's own
				_, err := app.Sessions(r.Context(), "ann")
				noError(t, err)
			}
			operations.ServeHTTP(w, r)
		}))
		app = site.app
		want := func(a answer, vary, cache string, cookies int) {
			t.Helper()
			got := []any{strings.Join(a.header["Vary"], ", "), strings.Join(a.header["Cache-Control"], "|"), len(a.header["Set-Cookie"])}
			if diff := cmp.Diff([]any{vary, cache, cookies}, got); diff != "" || strings.Contains(a.body, `"err"`) {
				t.Errorf("%s (-want +got):\n%s", a.body, diff)
			}
		}
		stranger := func() *browser { return site.browser() }
		member := func() *browser { b := stranger(); b.must("login:ann"); return b }
		liar := func() *browser { b := member(); return b.with("x" + b.cookie()[1:]) }
		due := func() *browser {
			return stranger().with(signedFor(t, secret, "PYCKET_ID", idOf(t, member().cookie()), 48*time.Hour, 240*time.Hour))
		}
		const both, public = "Accept-Encoding, Cookie", "public, max-age=60"
		for _, read := range []string{"devices", "op=get:a", "op=has:a", "op=keys", "op=number:n", "op=user", "op=authtime", "op=remembered", "op=take:a", "op=peek:a", "op=nhas:a", "op=nkeys", "op=drain"} {
			for _, b := range []*browser{stranger(), member(), liar()} {
				want(b.get("/?"+read), both, "", 0)
				want(b.get("/?"+read+"&cache="+url.QueryEscape(public)), both, public, 0)
			}
		}
		for _, test := range []struct {
			by  func() *browser
			ops string
		}{
			{stranger, "op=set:a:1"}, {stranger, "op=inc:n:1"}, {stranger, "op=note:a:1"}, {stranger, "op=login:ann"},
			{member, "op=login:ann"}, {member, "op=rotate"}, {member, "op=remember"}, {member, "op=destroy"}, {member, "op=destroy&op=set:a:1"}, {due, "op=has:a"},
		} {
			want(test.by().get("/?"+test.ops), both, "private, no-store", 1)
			for _, own := range []string{public, "s-maxage=60", `no-cache="private"`} {
				want(test.by().get("/?"+test.ops+"&cache="+url.QueryEscape(own)), both, "private, no-store", 1)
			}
		}
		// What only writes has looked at the cookie, too; what uses no session has not.
		want(member().get("/?op=set:a:1"), both, "", 0)
		want(member().get("/"), "Accept-Encoding", "", 0)
	})
}

// grandTour uses everything the library has, users and faults included.
func grandTour(t *testing.T, site *site, server *redistest.Server) (cookies []string) {
	t.Helper()
	cookies = tour(t, site, server)
	for _, late := range []string{"rotate", "login:bob", "setuser:bob", "setuser:", "remember", "user", "authtime", "destroy", "set:a:STORED"} {
		b := site.browser()
		for _, op := range []string{"set:a:STORED", "signin:ann:b:STORED", "remember", late} {
			b.do(op)
			cookies = append(cookies, b.cookie())
		}
		if _, err := site.app.Sessions(t.Context(), "ann"); err != nil {
			t.Error(err)
		}
		noError(t, revokeFirst(t, site, "ann"))
		b.do(late, "set:a:STORED")
		cookies = append(cookies, b.cookie())
	}
	_, err := site.app.RevokeUser(t.Context(), "ann")
	noError(t, err)
	return cookies
}

// Who reads the store can log in: CVE-2019-16782 (Rack).
//
// What MONITOR sees, every argument of every command, and what is published, never holds an id in any
// form.
func TestThreatIDInStore(t *testing.T) {
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		proxy, s := proxied(t, server)
		site := newSite(t, s)
		var seen []func() string
		if !server.Embedded() { // miniredis has neither
			server.Do(0, "CONFIG", "SET", "notify-keyspace-events", "KEA")
			seen = append(seen, listen(t, server, "MONITOR"), listen(t, server, "PSUBSCRIBE", "*"))
		}
		cookies := grandTour(t, site, server)
		if !server.Embedded() {
			server.Do(0, "PUBLISH", "end", "the end of the tour")
		}
		everything := proxy.Sent()
		for _, wait := range seen {
			text := wait()
			if len(text) < 1000 {
				t.Errorf("nothing was heard: %q", text)
			}
			everything += text
		}
		everything += fmt.Sprint(contents(t, server))
		for _, hidden := range secretsOf(t, cookies) {
			if strings.Contains(everything, hidden) {
				t.Errorf("%q is in Redis", hidden)
			}
		}
		// A reader of Redis makes what he can of what he has read: it opens nothing.
		b := site.browser()
		b.must("set:a:secret")
		key := keyOf(idOf(t, b.cookie()))
		record := server.Hash(0, key)["pycket:id"]
		handle, verifier := must(t, handleIn(key)), must(t, record[:22]+"==")
		for name, id := range map[string][]byte{
			"handle and verifier": append(append(handle[:12:12], verifier...), make([]byte, 16)...),
			"verifier and handle": append(append(verifier[:16:16], handle...), make([]byte, 16)...),
			"as text":             []byte((handleIn(key) + record + strings.Repeat("0", 44))[:44]),
		} {
			for _, secret := range []string{secret, otherSecret} { // even with the secret
				if got := b.with(signed(t, secret, "PYCKET_ID", id, 0)).must("get:a")[0]; got != "" {
					t.Errorf("%s: opens %q", name, got)
				}
			}
		}
	})
}

// listen keeps what Redis sends after a command, until it speaks of the end of the tour.
func listen(t *testing.T, server *redistest.Server, command string, args ...any) func() string {
	t.Helper()
	c, err := redis.Dial("tcp", server.Addr)
	require(t, err)
	t.Cleanup(func() { c.Close() })
	if _, err := c.Do(command, args...); err != nil {
		t.Fatal(err)
	}
	heard := make(chan string)
	go func() {
		var all strings.Builder
		for {
			said, err := c.Receive()
			fmt.Fprintf(&all, "%s\n", said)
			if err != nil || strings.Contains(fmt.Sprintf("%s", said), "the end of the tour") {
				heard <- all.String()
				return
			}
		}
	}()
	return func() string { return <-heard }
}

// Ids and secrets are written to the log: CVE-2023-20866 (Spring Session).
//
// Logs at debug level and every error in every form, under every fault.
func TestThreatIDInLogs(t *testing.T) {
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		var log, failures bytes.Buffer
		mu := new(sync.Mutex)
		failed := func(err error) {
			mu.Lock()
			defer mu.Unlock()
			fmt.Fprintf(&failures, "%v\n%+v\n%#v\n", err, err, err)
		}
		s := settings(server)
		s.MaxValueBytes = 1000
		s.Logger = slog.New(slog.NewTextHandler(&lockedWriter{w: &log}, &slog.HandlerOptions{Level: slog.LevelDebug}))
		site := newSite(t, s)
		site.failed = failed
		cookies := grandTour(t, site, server)

		// Values and keys that others have spoilt.
		b := site.browser()
		b.must("signin:ann:a:STORED", "note:a:STORED", "add:i:STORED")
		cookies = append(cookies, b.cookie())
		key := keyOf(idOf(t, b.cookie()))
		server.Do(0, "HSET", key, "a", `{"STORED`, "b", `STORED`, "c", `"STORED`, "d", `{"STORED": 1}`)
		server.Do(1, "RPUSH", strings.Replace(key, ":s:", ":m:", 1), "STORED")
		server.Do(1, "HSET", strings.Replace(key, ":s:", ":n:", 1), "a", `STORED`)
		b.do("get:a", "number:a", "update:b", "inc:c:1", "number:d", "get:d", "take:a", "peek:a", "drain", "set:e:"+strings.Repeat("STORED", 1000))
		server.Do(0, "DEL", key)
		server.Do(0, "SET", key, "STORED")
		for _, op := range append([]string{"login:ann", "user", "remember", "others"}, everyOperation...) {
			b.do(op)
		}
		if !server.Embedded() {
			server.Do(0, "CONFIG", "SET", "requirepass", "PASSWORD")
			s.Redis.URL = "redis://:PASSWORDS@" + server.Addr
			other := newSite(t, s)
			other.failed = failed
			other.browser().do("set:a:STORED")
			failed(newApp(t, s).Ping(t.Context()))
			server.Kill()
		}
		site.app.Close()
		for _, op := range everyOperation {
			b.do(op)
		}
		all := log.String() + failures.String()
		for _, hidden := range append(secretsOf(t, cookies), "STORED", "PASSWORD") {
			if strings.Contains(all, hidden) {
				t.Errorf("%q was logged or is in an error", hidden)
			}
		}
		for _, want := range []string{"a session cookie with a bad signature", "hash="} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("the log does not say %q: %q", want, log.String())
			}
		}
		if n := strings.Count(failures.String(), "\n"); n < 100 {
			t.Errorf("only %d lines of errors", n)
		}
	})
}

// How long the comparison of a signature takes tells how much of it is right: cookie-signature
// GHSA-92vm-wfm5-mxvv.
//
// Nothing is timed. A cookie's signature is compared by gorilla/securecookie alone, which does it in
// constant time; and no bit of a cookie can be changed.
func TestThreatTiming(t *testing.T) {
	decodes := false
	for _, file := range []string{"cookies.go", "internal/signed/signed.go", "internal/signed/memory.go"} {
		source, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		require(t, err)
		for _, path := range source.Imports {
			switch path.Path.Value {
			case `"crypto/hmac"`, `"crypto/subtle"`, `"bytes"`, `"reflect"`:
				t.Errorf("%s imports %s: does it compare signatures itself?", file, path.Path.Value)
			}
		}
		ast.Inspect(source, func(node ast.Node) bool {
			f, ok := node.(*ast.FuncDecl)
			if !ok || f.Name.Name != "verify" {
				return true
			}
			ast.Inspect(f, func(node ast.Node) bool {
				if call, ok := node.(*ast.CallExpr); ok {
					if selector, ok := call.Fun.(*ast.SelectorExpr); ok && selector.Sel.Name == "Decode" && len(call.Args) == 3 {
						decodes = true
					}
				}
				return true
			})
			return false
		})
	}
	if !decodes {
		t.Error("verify in internal/signed does not call securecookie's Decode")
	}
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/gorilla/securecookie").Output()
	require(t, err)
	library, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "securecookie.go"))
	if err != nil || !bytes.Contains(library, []byte("subtle.ConstantTimeCompare(")) {
		t.Errorf("securecookie does not compare in constant time: %v", err)
	}

	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		site := newSite(t, settings(server))
		b := site.browser()
		b.must("set:a:secret")
		good := b.cookie()
		b.must("get:a") // the server remembers the cookie now
		plain := must(t, good)
		client := newBrowser(t, site.URL)
		client.client.Jar = nil
		for bit := range len(plain) * 8 {
			changed := slices.Clone(plain)
			changed[bit/8] ^= 1 << (bit % 8)
			if a, err := client.fetch("/?op=get:a", "Cookie: PYCKET_ID="+base64.URLEncoding.EncodeToString(changed)); err != nil || strings.Contains(a.body, "secret") {
				t.Errorf("with bit %d changed: %q, %v", bit, a.body, err)
			}
		}
	})
}

// Encryption is asked for, and what is only signed is accepted all the same: CVE-2026-39324.
func TestThreatPlainForEncrypted(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		s := settings(server)
		plain := newSite(t, s)
		s.Cookies.Encrypt = true
		encrypted := newSite(t, s)
		b := plain.browser()
		b.must("set:a:secret")
		id := idOf(t, b.cookie())
		for name, value := range hostileCookies(t, b.cookie()) {
			if text := raw(t, encrypted, "op=get:a", "PYCKET_ID="+value); strings.Contains(text, "secret") {
				t.Errorf("%s: %q", name, text)
			}
		}
		for n := range 33 { // whatever its length
			value := signed(t, secret, "PYCKET_ID", append(make([]byte, n), id...), 0)
			if text := raw(t, encrypted, "op=get:a", "PYCKET_ID="+value); strings.Contains(text, "secret") {
				t.Errorf("signed, %d bytes more: %q", n, text)
			}
		}
		e := encrypted.browser()
		e.must("set:a:secret")
		e.want([]outcome{{Value: "secret"}}, "get:a")
		b.with(e.cookie()).want([]outcome{{Value: ""}}, "get:a") // nor is an encrypted one taken for a signed one

		// The id is behind the IV, and can't be read. What is encrypted is signed by a key of its own.
		body := must(t, strings.Split(string(must(t, e.cookie())), "|")[1])
		block, err := aes.NewCipher(cookieKey(t, secret, "encrypt cookie"))
		require(t, err)
		opened := slices.Clone(body)
		cipher.NewCTR(block, body[:16]).XORKeyStream(opened[16:], body[16:])
		if hidden := opened[16:60]; len(body) != 16+48 || bytes.Contains(body, hidden[:12]) || !slices.Contains(server.Keys(0), keyOf(hidden)) {
			t.Errorf("of %d bytes; the id can be read: %v", len(body), bytes.Contains(body, hidden[:12]))
		}
		for purpose, want := range map[string]string{"sign encrypted cookie": "secret", "sign cookie": ""} {
			if got := e.with(signedWith(t, cookieKey(t, secret, purpose), "PYCKET_ID", body, 0)).must("get:a")[0]; got != want {
				t.Errorf("encrypted, and signed by the key of %q: opens %q", purpose, got)
			}
		}
		text := raw(t, encrypted, "op=set:a:mine", "PYCKET_ID="+b.cookie())
		if given := givenCookie(text); given == "" || len(given) == len(b.cookie()) {
			t.Errorf("a write: %q", text)
		}
	})
}

// The old cookie is good after a logout: CVE-2024-31999 (@fastify/secure-session).
func TestThreatReplayAfterLogout(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		s := settings(server)
		s.MaxSessionsPerUser = 1
		one, two := newSite(t, s), newSite(t, s)
		for name, logout := range map[string]func(b *browser) error{
			"Destroy":            func(b *browser) error { b.must("destroy"); return nil },
			"Revoke":             func(*browser) error { return revokeFirst(t, one, "ann") },
			"RevokeUser":         func(*browser) error { _, err := one.app.RevokeUser(t.Context(), "ann"); return err },
			"MaxSessionsPerUser": func(*browser) error { one.browser().must("login:ann"); return nil },
			"expiry":             func(b *browser) error { server.Do(0, "PEXPIRE", keyOf(idOf(t, b.cookie())), 0); return nil },
		} {
			server.Do(0, "FLUSHALL")
			b := one.browser()
			b.must("signin:ann:a:before", "note:waiting:note", "add:info:message", "remember")
			old := b.cookie()
			for _, site := range []*site{one, two} { // both know the cookie well
				site.receive(b).want([]outcome{{Value: "before"}, {Value: "ann"}}, "get:a", "user")
			}
			noError(t, logout(b.tab()))
			for _, later := range []bool{false, true} { // at once, and when nothing is remembered of it
				if later {
					server.Do(0, "DEL", keyOf(idOf(t, old)))
				}
				for _, site := range []*site{one, two} {
					replay := site.browser().with(old)
					a := replay.want([]outcome{{Value: ""}, {Value: ""}, {Value: false}, {Value: []any{}}, {Value: ""}, {Value: ""}}, "get:a", "user", "authtime", "keys", "take:waiting", "drain")
					if a.setsCookie() {
						t.Errorf("%s: a replay sets %q", name, a.header["Set-Cookie"])
					}
					_, list := replay.do("set:mine:x")
					if err := list[0].Err; err != "" && err != "ErrGone" || later && err != "" {
						t.Errorf("%s: a write by a replay: %v", name, list)
					}
					if replay.cookie() != old {
						replay.want([]outcome{{Value: []any{"mine"}}, {Value: ""}}, "keys", "user")
						if keyOf(idOf(t, replay.cookie())) == keyOf(idOf(t, old)) {
							t.Errorf("%s: the key is the old one", name)
						}
					}
				}
			}
		}
	})
}

// A session without an end: CVE-2024-35220 (@fastify/session), spring-session #3357.
//
// TestEveryKeyExpires has every operation of sessions and notifications, TestIdleTimeout and
// TestAbsoluteTimeout how long they live.
func TestThreatLostExpiry(t *testing.T) {
	check := func(t *testing.T, server *redistest.Server, after string) {
		t.Helper()
		for db := range 2 {
			for _, key := range server.Keys(db) {
				if left := server.Do(db, "PTTL", key).(int64); left == -1 {
					t.Errorf("after %s, %s has no TTL", after, key)
				}
			}
		}
	}
	operations := append([]string{"login:ann", "signin:ann:a:b", "setuser:bob", "setuser:", "remember", "user", "authtime", "others"}, everyOperation...)
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		site := newSite(t, settings(server))
		for _, op := range operations {
			for _, before := range []string{"set:a:b", "login:ann", "remember", "note:a:b"} {
				b := site.browser()
				if before == "remember" {
					b.must("inc:n:1")
				}
				b.must(before)
				b.do(op, op)
				b.do("get:a")
				check(t, server, before+" and "+op)
			}
			noError(t, revokeFirst(t, site, "ann"))
		}
		_, err := site.app.RevokeUser(t.Context(), "ann")
		noError(t, err)
		check(t, server, "RevokeUser")
	})
	for name, persistence := range map[string][]string{"append-only file": {"--appendonly", "yes"}, "snapshot": {"--save", "3600 1000000"}} {
		t.Run("a kill under load, "+name, func(t *testing.T) {
			server := redistest.Start(t, append(persistence, "--dir", t.TempDir())...)
			s := settings(server)
			s.Redis.Timeout = shortTimeout
			site := newSite(t, s)
			var acknowledged atomic.Int64
			enough, killed := make(chan struct{}), make(chan struct{})
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() {
					for i := 0; ; i++ {
						select {
						case <-killed:
							return
						default:
						}
						b := site.browser()
						for _, op := range []string{"set:a:b", "note:a:b", "add:i:t", operations[i%len(operations)], "login:ann"} {
							if _, list, err := b.try(op); err == nil && list[0].Err == "" && acknowledged.Add(1) == 1000 {
								close(enough)
							}
						}
					}
				})
			}
			<-enough
			if name == "snapshot" {
				server.Do(0, "SAVE")
			}
			server.Kill()
			close(killed)
			wg.Wait()
			server.Restart()
			if n := len(server.Keys(0)); n < 100 || len(server.Keys(1)) == 0 {
				t.Errorf("only %d sessions came back", n)
			}
			check(t, server, "the restart")
		})
	}
}

// What stands in the store is trusted, and reading it runs code, panics or takes all memory:
// CVE-2020-9484 (Tomcat), CVE-2025-24813 (Tomcat), CVE-2018-15133 (Laravel).
func TestThreatStoredBytes(t *testing.T) {
	sealed, err := heard.sealed(pycket.JSON{}, secret)
	require(t, err)
	for name, codec := range map[string]pycket.Codec{"json": pycket.JSON{}, "gob": pycket.Gob{}, "sealed": sealed} {
		t.Run(name, func(t *testing.T) {
			redistest.Every(t, func(t *testing.T, server *redistest.Server) {
				s := settings(server)
				s.Codec = codec
				site := newSite(t, s)
				b := site.browser()
				site.works(b, func(s *pycket.SessionManager, _ *pycket.NotificationManager) error {
					return s.SetMany(pycket.Values{"good": "good", "a": map[string]any{"b": []string{"c"}}})
				})
				key := keyOf(idOf(t, b.cookie()))
				stored := []byte(server.Hash(0, key)["a"])
				random := mathrand.New(mathrand.NewPCG(3, 4))
				evil := [][]byte{
					nil, []byte("null"), []byte("{"), bytes.Repeat([]byte("["), 100_000), bytes.Repeat([]byte(`{"a":`), 20_000),
					[]byte(`"\ud800"`), []byte("1e999999999"), []byte(strings.Repeat("9", 100_000)), {0xff, 0xfe}, bytes.Repeat([]byte{0xff}, 1000),
					{0xf8, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}, claims(t),
				}
				for range 120 {
					data := slices.Clone(stored)
					for range 1 + random.IntN(4) {
						data[random.IntN(len(data))] = byte(random.IntN(256))
					}
					evil = append(evil, data[:random.IntN(len(data)+1)])
				}
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				for _, data := range evil {
					server.Do(0, "HSET", key, "evil", data)
					a := site.visit(b, func(w http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, n *pycket.NotificationManager) {
						var text string
						var number int
						var list []nested
						var tree map[string]map[string][]int
						var anything any
						for _, into := range []any{&text, &number, &list, &tree, &anything} {
							_, err := s.Lookup("evil", into)
							if err != nil && (!errors.Is(err, pycket.ErrCorrupt) || !strings.HasPrefix(err.Error(), `pycket: get "evil": `)) {
								t.Errorf("%.50q into %T: %v", data, into, err)
							}
						}
						good, err := pycket.Get(s, "good", "")
						if good != "good" || err != nil {
							t.Errorf("beside %.50q: %q, %v", data, good, err)
						}
						io.WriteString(w, "done")
					})
					if a.body != "done" {
						t.Errorf("%.50q: %d %q", data, a.status, a.body)
					}
				}
				runtime.ReadMemStats(&after)
				if took := (after.TotalAlloc - before.TotalAlloc) >> 20; took > 256 { // for over 100 requests that read 5 times each
					t.Errorf("reading took %d MiB", took)
				}

				// The library's own fields: a panic, or a session that opens for a stranger, would be a fault.
				whole := server.Hash(0, key)
				other := signed(t, secret, "PYCKET_ID", slices.Concat(idOf(t, b.cookie())[:12], make([]byte, 32)), 0)
				for _, field := range []string{"pycket:id", "pycket:ended", "pycket:user", "pycket:list", "pycket:auth", "pycket:seen", "pycket:idle", "pycket:agent"} {
					for i := range 12 {
						server.Do(0, "DEL", key)
						for name, value := range whole {
							server.Do(0, "HSET", key, name, value)
						}
						server.Do(0, "PEXPIRE", key, 1000) // a renewal is due
						data := []byte(whole["pycket:id"])
						switch {
						case i == 0:
							data = nil
						case i%2 == 0:
							data = data[:random.IntN(len(data))]
						case field == "pycket:id":
							data[22+random.IntN(len(data)-22)] = byte(random.IntN(256))
						default:
							data = []byte([]string{"nan", "inf", "-1", "1e308", "0x10", "99999999999999999999"}[i%6])
						}
						server.Do(0, "HSET", key, field, data)
						stranger := b.with(other)
						for _, visitor := range []*browser{b.tab(), stranger} {
							a := site.visit(visitor, func(w http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
								user, err := s.User()
								_, atErr := s.AuthTime()
								good, getErr := pycket.Get(s, "good", "")
								err = errors.Join(err, atErr, getErr, s.Set("mine", 1), s.SetUser("x"))
								if visitor == stranger && (user != "" || good != "") {
									t.Errorf("%s = %q: a stranger is %q, and reads %q: %v", field, data, user, good, err)
								}
								io.WriteString(w, "done")
							})
							if a.body != "done" {
								t.Errorf("%s = %q: %d %q", field, data, a.status, a.body)
							}
						}
					}
				}
			})
		})
	}
}

// claims is a gob that says that it is far longer than it is.
func claims(t *testing.T) []byte {
	t.Helper()
	var text bytes.Buffer
	require(t, gob.NewEncoder(&text).Encode(strings.Repeat("x", 200)))
	data := text.Bytes()
	return append([]byte{0xfc, 0x3f, 0xff, 0xff, 0xff}, data[2:]...)
}

// Settings become attributes or headers that nobody has asked for: CVE-2024-47764 (jshttp/cookie).
//
// TestSettingsAreChecked has what browsers would refuse.
func TestThreatAttributeInjection(t *testing.T) {
	for c := range 256 {
		if c > ' ' && c < 0x7f && c != ';' {
			continue
		}
		bad := "a" + string([]byte{byte(c)}) + "b"
		for field, cookies := range map[string]pycket.CookieSettings{"Name": {Name: bad}, "Path": {Path: "/" + bad}, "Domain": {Domain: bad + ".example"}} {
			if c == ' ' && field == "Path" { // it may
				continue
			}
			if app, err := heard.newApp(pycket.Settings{Secrets: []string{secret}, Cookies: cookies}); err == nil || app != nil {
				t.Errorf("Cookies.%s %q is accepted", field, bad)
			} else if !strings.Contains(err.Error(), "Cookies.") {
				t.Errorf("Cookies.%s %q: %v", field, bad, err)
			}
		}
	}
	// Nothing that a client sends comes back in a header.
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		s := settings(server)
		s.Cookies.Name = strings.Repeat("n", 4096-144)
		site := newSite(t, s)
		c, err := net.Dial("tcp", site.Listener.Addr().String())
		require(t, err)
		defer c.Close()
		fmt.Fprintf(c, "GET /?op=set:a:b HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\nX-Forwarded-Proto: evil; Domain=evil.example\r\nX-Forwarded-Host: evil.example\r\nForwarded: proto=evil;host=evil.example\r\nCookie: %s=evil; Path=/evil; Domain=evil.example\r\n\r\n", s.Cookies.Name)
		text, err := io.ReadAll(c)
		if err != nil || bytes.Contains(text, []byte("evil")) || bytes.Count(text, []byte("Set-Cookie: ")) != 1 {
			t.Errorf("%q, %v", text, err)
		}
		_, rest, _ := strings.Cut(string(text), "Set-Cookie: ")
		line, _, _ := strings.Cut(rest, "\r\n")
		pair, attributes, _ := strings.Cut(line, "; ")
		if len(pair) != 4096+1 || attributes != "Path=/; HttpOnly; SameSite=Lax" { // name and value, and the =
			t.Errorf("name and value take %d bytes, then: %q", len(pair)-1, attributes)
		}
	})
}

// A long Cookie header takes quadratic time: CVE-2024-7592 (Python). Of two cookies of one name the wrong
// one is taken: express-session #881.
//
// Nothing is timed: the good cookie is found after 64 KiB of anything, and four times as much takes about four
// times the memory. TestTwoCookiesOfOneName has more places.
func TestThreatCookieParsing(t *testing.T) {
	forged := "PYCKET_ID=" + signed(t, otherSecret, "PYCKET_ID", make([]byte, 44), 0)
	hostile := map[string]string{
		"semicolons": ";", "spaces": " ; ", "equals": "=;", "names": "PYCKET_ID;", "empty": "PYCKET_ID=; ", "others": "a=b; ",
		"quotes": `PYCKET_ID="\"\"; `, "backslashes": `a="\\\\\\"; `, "octal": `a="\054\073"; `, "forged": forged + "; ", "quoted": `PYCKET_ID="` + forged[10:] + `"; `,
		"bytes": "\xff\x80=\xff; ", "one long": strings.Repeat("A", 64<<10) + "; ", "one long value": "PYCKET_ID=" + strings.Repeat("A", 64<<10) + "; ",
	}
	app := newApp(t, pycket.Settings{Secrets: []string{secret}, Logger: slog.New(slog.DiscardHandler)})
	for name, part := range hostile {
		if len(part) > 1000 {
			continue
		}
		allocated := func(size int) uint64 {
			r := httptest.NewRequest("GET", "/", nil)
			r.Header.Set("Cookie", strings.Repeat(part, size/len(part)))
			visit := func() { handle(app, r, func(s *pycket.SessionManager) { s.Has("a") }) }
			visit()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for range 10 {
				visit()
			}
			runtime.ReadMemStats(&after)
			return after.TotalAlloc - before.TotalAlloc
		}
		if small, large := allocated(16<<10), allocated(64<<10); large > 6*small+1<<20 {
			t.Errorf("%s: 64 KiB take %d bytes of memory, 16 KiB %d", name, large, small)
		}
	}
	if t.Failed() {
		return // the rest would take forever
	}
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		site := newSite(t, settings(server))
		b := site.browser()
		b.must("set:a:mine")
		good := "PYCKET_ID=" + b.cookie()
		for name, part := range hostile {
			noise := strings.Repeat(part, (64<<10)/len(part)+1)
			for place, line := range map[string]string{"last": noise + good, "first": good + "; " + noise, "middle": noise + good + "; " + noise} {
				if text := raw(t, site, "op=get:a", line); !strings.HasPrefix(text, "HTTP/1.1 200") || !strings.Contains(text, `"mine"`) {
					t.Errorf("%s, the good one %s: %.200q", name, place, text)
				}
			}
			if text := raw(t, site, "op=get:a", noise); !strings.HasPrefix(text, "HTTP/1.1 200") || strings.Contains(text, "mine") || strings.Contains(text, "Set-Cookie") {
				t.Errorf("%s, without a good one: %.200q", name, text)
			}
			lines := slices.Repeat([]string{strings.TrimSuffix(strings.TrimSpace(part), ";")}, 300)
			if len(part) < 1000 {
				if text := raw(t, site, "op=get:a", append(lines, good)...); !strings.Contains(text, `"mine"`) {
					t.Errorf("%s, in 300 lines: %.200q", name, text)
				}
			}
		}
	})
}

// Redis is away, and the session is empty (Django's cache, redis-session-store), the request hangs
// (connect-redis 9) or panics.
//
// TestRedisHangs has a stopped Redis, TestRedisIsKilled a killed one, TestNoAnswerInTime one that answers no more
// in the middle, TestOutOfMemory a full one, TestWritesAreRefused a replica.
func TestThreatRedisDown(t *testing.T) {
	recovers := func(t *testing.T, b *browser) {
		t.Helper()
		b.want([]outcome{{}, {Value: "after"}}, "set:a:after", "get:a")
		b.want([]outcome{{Value: "after"}, {Value: 1.0}}, "get:a", "inc:m:1")
	}
	t.Run("paused", func(t *testing.T) {
		server := redistest.Start(t)
		_, b := outageSite(t, server)
		server.Do(0, "CLIENT", "PAUSE", 600_000, "WRITE")
		wantUnavailable(t, b, "get:a", "has:a", "keys", "handle", "expiry") // unless they come behind a write
		server.Do(0, "CLIENT", "UNPAUSE")
		recovers(t, b)
	})
	t.Run("paused in failover", func(t *testing.T) {
		server, replica := redistest.Start(t), redistest.Start(t)
		_, port, _ := net.SplitHostPort(server.Addr)
		server.Do(0, "CONFIG", "SET", "repl-diskless-sync-delay", 0)
		replica.Do(0, "REPLICAOF", "127.0.0.1", port)
		for !strings.Contains(string(server.Do(0, "INFO", "replication").([]byte)), "state=online") {
			time.Sleep(10 * time.Millisecond)
		}
		_, b := outageSite(t, server)
		replica.Suspend() // so that the failover waits for it
		server.Do(0, "SET", "behind", "x")
		server.Do(0, "FAILOVER")
		wantUnavailable(t, b, "get:a", "has:a", "keys", "handle", "expiry")
		server.Do(0, "FAILOVER", "ABORT")
		replica.Resume()
		recovers(t, b)
	})
	t.Run("loading", func(t *testing.T) {
		debug := redistest.Debuggable()
		server := redistest.Start(t, debug...)
		_, b := outageSite(t, server)
		if debug != nil {
			server.Do(0, "DEBUG", "POPULATE", 2000, "filler", 2000)
			server.Do(0, "CONFIG", "SET", "loading-process-events-interval-bytes", 1024)
			server.Do(0, "CONFIG", "SET", "key-load-delay", 20_000) // microseconds a key: 40 s, if nobody interferes
		} else { // it answers once in 2 MB, and nobody can interfere
			server.Do(0, "DEBUG", "POPULATE", 2000, "filler", 50_000)
			server.Do(0, "CONFIG", "SET", "rdbcompression", "no")
			server.Do(0, "CONFIG", "SET", "key-load-delay", 5_000)
		}
		c, err := redis.Dial("tcp", server.Addr)
		require(t, err)
		defer c.Close()
		c.Send("DEBUG", "RELOAD")
		c.Flush()
		loading := func() bool {
			c, err := redis.Dial("tcp", server.Addr)
			require(t, err)
			defer c.Close()
			_, err = c.Do("GET", "x")
			return err != nil && strings.HasPrefix(err.Error(), "LOADING")
		}
		for !loading() {
			runtime.Gosched()
		}
		wantUnavailable(t, b)
		if !loading() {
			t.Error("Redis was ready too early")
		}
		if debug != nil {
			server.Do(0, "CONFIG", "SET", "key-load-delay", 0)
		}
		if _, err := c.Receive(); err != nil {
			t.Fatal(err)
		}
		recovers(t, b)
	})
	t.Run("a replica without its master", func(t *testing.T) {
		server := redistest.Start(t)
		_, b := outageSite(t, server)
		server.Do(0, "CONFIG", "SET", "replica-serve-stale-data", "no")
		server.Do(0, "REPLICAOF", "127.0.0.1", "1")
		wantUnavailable(t, b)
		server.Do(0, "REPLICAOF", "NO", "ONE")
		recovers(t, b)
	})
	t.Run("nobody listens", func(t *testing.T) {
		redistest.Both(t, func(t *testing.T, server *redistest.Server) {
			s := settings(server)
			s.Redis.Timeout = shortTimeout
			b := newSite(t, s).browser()
			b.must("set:a:b")
			s.Redis.URL = "redis://127.0.0.1:1"
			wantUnavailable(t, newSite(t, s).receive(b))
		})
	})
}

// The answer comes before the write is stored: express-session #360, #309.
//
// The browser has its answer, and the handler has not returned: another server sees what was written.
// TestRedirectSeesWrite follows 1 000 redirects.
func TestThreatSaveAfterResponse(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		one, two := newSite(t, settings(server)), newSite(t, settings(server))
		for _, test := range []struct {
			write, read string
			want        any
		}{
			{"set:a:after", "get:a", "after"}, {"setmany:a:after:b:after", "get:b", "after"}, {"inc:n:41", "number:n", 41.0}, {"update:n", "number:n", 1.0},
			{"delete:a", "get:a", ""}, {"note:a:after", "peek:a", "after"}, {"add:info:after", "drain", "info=after"}, {"login:ann", "user", "ann"},
			{"rotate", "get:a", "before"}, {"destroy", "keys", []any{}},
		} {
			for range 10 {
				b := one.browser()
				b.must("set:a:before")
				r, _ := http.NewRequest("GET", one.URL+"/?"+url.Values{"op": {test.write, "flush", "hold"}}.Encode(), nil)
				response, err := b.client.Do(r) // returns with the headers
				require(t, err)
				<-one.holding
				two.receive(b).want([]outcome{{Value: test.want}}, test.read)
				one.release <- struct{}{}
				io.Copy(io.Discard, response.Body)
				response.Body.Close()
			}
		}
	})
}

// A cookie that is only given again replaces a newer one: starlette #2019, #3166.
//
// TestRemember has the renewed cookie that another request has overtaken, TestInFlight late writes.
func TestThreatClobberedCookie(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		for _, days := range []float64{0, 10} {
			s := settings(server)
			s.Cookies.ExpiresDays = days
			site := newSite(t, s)
			for _, op := range append([]string{"user", "authtime", "setuser:ann", "setuser:", "login:ann", "remember", "others"}, everyOperation...) {
				b := site.browser()
				if a, _ := b.do("set:a:b"); len(a.header["Set-Cookie"]) != 1 {
					t.Errorf("a new session sets %q", a.header["Set-Cookie"])
				}
				server.Do(0, "PEXPIRE", keyOf(idOf(t, b.cookie())), 60_000) // the session is due for renewal, the cookie is not
				a, _ := b.do(op, op)
				want := 0
				switch op {
				case "rotate", "login:ann", "destroy", "remember":
					want = 1
				}
				if got := a.header["Set-Cookie"]; len(got) != want {
					t.Errorf("ExpiresDays %v, %s: %d cookies are set, want %d: %q", days, op, len(got), want, got)
				}
			}
			// Requests that read while another rotates, destroys or logs in set nothing, whatever comes first.
			for _, end := range []string{"rotate", "login:ann", "destroy"} {
				for _, read := range []string{"get:a", "keys", "peek:a", "user", "set:b:c", "inc:n:1", "remember"} {
					b := site.browser()
					b.must("set:a:b")
					slow := b.tab()
					if a, _ := site.whileHeld(slow, []string{read, "hold"}, func() { b.must(end) }); a.setsCookie() {
						t.Errorf("%s, and then %s elsewhere: %q", read, end, a.header["Set-Cookie"])
					}
				}
			}
		}
	})
}

// Ids can be guessed. OWASP ASVS 7.2.3 asks for 128 bits from a CSPRNG; here are 256, each as often one as
// zero, and all new after a rotation.
func TestThreatGuessedID(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		site := newSite(t, settings(server))
		const sessions = 512
		seen := map[string]bool{}
		ones := make([]int, 44*8)
		b := site.browser()
		for i := range sessions {
			if i%2 == 0 {
				b = site.browser()
				b.must("inc:n:1")
			} else {
				b.must("rotate")
			}
			id := idOf(t, b.cookie())
			if seen[string(id[12:])] {
				t.Fatal("two ids are the same")
			}
			seen[string(id[12:])] = true
			for bit := range ones {
				ones[bit] += int(id[bit/8] >> (bit % 8) & 1)
			}
		}
		for bit, n := range ones { // nine standard deviations for the secret, six for the line, whose ids come twice
			if n < sessions/5 || n > sessions*4/5 {
				t.Errorf("bit %d of the id is set %d times of %d", bit, n, sessions)
			}
		}
	})
}

// The id is taken from, or given by, the URL: OWASP ASVS 14.2.1.
func TestThreatTokenInURL(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		site := newSite(t, settings(server))
		b := site.browser()
		a, _ := b.do("signin:ann:a:secret", "get:a", "remember", "rotate")
		id := b.cookie()
		for name, values := range a.header {
			if text := strings.Join(values, " "); name != "Set-Cookie" && strings.Contains(text, id) {
				t.Errorf("%s: %q", name, text)
			}
		}
		if strings.Contains(a.body, id) {
			t.Errorf("the body: %q", a.body)
		}
		stranger := newBrowser(t, site.URL)
		for _, path := range []string{"/?op=get:a&PYCKET_ID=" + id, "/;PYCKET_ID=" + id + "?op=get:a", "/" + id + "?op=get:a", "/?op=get:a#PYCKET_ID=" + id} {
			if a := stranger.get(path); strings.Contains(a.body, "secret") || a.setsCookie() {
				t.Errorf("%s: %q", path, a.body)
			}
		}
		for _, header := range []string{"Authorization", "X-Session-Id", "PYCKET_ID", "X-Pycket-Id", "Cookie2"} {
			r, _ := http.NewRequest("POST", site.URL+"/?op=get:a", strings.NewReader("PYCKET_ID="+id))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			for _, value := range []string{id, "Bearer " + id, "PYCKET_ID=" + id} {
				r.Header.Add(header, value)
			}
			if a, err := stranger.send(r); err != nil || strings.Contains(a.body, "secret") {
				t.Errorf("%s: %q, %v", header, a.body, err)
			}
		}
	})
}

// Every test that docs/security.md names is there, and every test of this file stands in it.
func TestThreatsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("docs/security.md")
	require(t, err)
	tests := namesOfTests(t)
	for name := range tests {
		if strings.HasPrefix(name, "TestThreat") && name != "TestThreatsAreDocumented" && !bytes.Contains(page, []byte("`"+name+"`")) {
			t.Errorf("docs/security.md does not name %s", name)
		}
	}
	for _, name := range regexp.MustCompile("`Test[A-Za-z]+`").FindAllString(string(page), -1) {
		if !tests[strings.Trim(name, "`")] {
			t.Errorf("docs/security.md names %s, which is not there", name)
		}
	}
}

// namesOfTests returns the names of all tests.
func namesOfTests(t *testing.T) map[string]bool {
	t.Helper()
	files, err := filepath.Glob("*_test.go")
	require(t, err)
	inner, err := filepath.Glob("internal/*/*_test.go")
	require(t, err)
	tests := map[string]bool{}
	for _, name := range append(files, inner...) {
		source, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		require(t, err)
		for _, decl := range source.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && strings.HasPrefix(f.Name.Name, "Test") {
				tests[f.Name.Name] = true
			}
		}
	}
	return tests
}
