package pycket_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pycket/pycket"
	"github.com/pycket/pycket/internal/redistest"
)

// journal is a log that a test reads.
type journal struct {
	lockedWriter
	text bytes.Buffer
}

func newJournal() (*journal, *slog.Logger) {
	j := new(journal)
	j.w = &j.text
	return j, slog.New(slog.NewJSONHandler(&j.lockedWriter, nil))
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// warning is a line of the log.
type warning struct {
	Level, Msg, Hash string
	Skipped          int
}

func (j *journal) warnings(t *testing.T) (list []warning) {
	t.Helper()
	for line := range strings.Lines(j.String()) {
		var w warning
		if err := json.Unmarshal([]byte(line), &w); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		list = append(list, w)
	}
	return list
}

// wantSkipped wants a warning a line, and so many to have been skipped before each.
func (j *journal) wantSkipped(t *testing.T, skipped ...int) {
	t.Helper()
	var got []int
	for _, w := range j.warnings(t) {
		if got = append(got, w.Skipped); w.Level != "WARN" || !strings.HasPrefix(w.Msg, "pycket: ") {
			t.Errorf("the log: %s", j)
		}
	}
	if diff := cmp.Diff(skipped, got); diff != "" {
		t.Fatalf("skipped (-want +got):\n%s", diff)
	}
}

// forgery is a cookie's value that looks as the site's own and was signed by nobody that it trusts.
func forgery(t *testing.T, n int) string {
	t.Helper()
	return signed(t, otherSecret, "PYCKET_ID", fmt.Appendf(nil, "%044d", n), 0)
}

// A cookie that could have been the application's own, but for its signature, is worth a line for the
// operator: a hash to know it by, and nothing that helps who reads the log.
func TestForgedCookieIsLogged(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		for name, forge := range map[string]func(own string) string{
			"signed with another secret": func(own string) string { return forgery(t, 1) },
			"one character changed": func(own string) string {
				return own[:70] + string('A'+(own[70]+1)%26) + own[71:]
			},
			"signed for another name": func(own string) string { return signed(t, secret, "OTHER_ID", idOf(t, own), 0) },
			"not even base64":         func(own string) string { return strings.Repeat("!", len(own)) },
		} {
			t.Run(name, func(t *testing.T) {
				log, site := logged(t, settings(server))
				b := site.browser()
				b.must("set:a:x")
				own := b.cookie()
				if got := log.String(); got != "" {
					t.Fatalf("before: %s", got)
				}
				forged := forge(own)
				site.browser().with(forged).want([]outcome{{Value: ""}, {Value: ""}, {Value: []any{}}}, "get:a", "take:a", "keys")
				list := log.warnings(t)
				if len(list) != 1 || list[0].Level != "WARN" || !strings.HasPrefix(list[0].Msg, "pycket: ") || list[0].Skipped != 0 {
					t.Fatalf("the log: %s", log)
				}
				if !regexp.MustCompile(`^[0-9a-f]{16}$`).MatchString(list[0].Hash) {
					t.Errorf("the hash is %q", list[0].Hash)
				}
				for what, text := range map[string]string{
					"the cookie": forged, "the cookie's beginning": forged[:16], "the cookie's middle": forged[64:80], "the cookie's end": forged[len(forged)-16:],
					"a living cookie": own, "a secret": secret, "a living session's key": server.Keys(0)[0],
				} {
					if strings.Contains(log.String(), text) {
						t.Errorf("%s is in the log: %s", what, log)
					}
				}
				// Another process has another salt: hashes can't be looked up elsewhere.
				other, process := logged(t, settings(server))
				process.browser().with(forged).must("get:a")
				if list := log.warnings(t); list[0].Hash == other.warnings(t)[0].Hash {
					t.Error("the hash is the same in another process")
				}
				server.Do(0, "FLUSHALL")
			})
		}
	})
}

// Whoever sends forged cookies must not fill the disk with the log: a line a second, at most, and the next says how
// many were skipped. The clock is a fake one here, so there is no network: a forged cookie has no session to be
// looked for in Redis.
func TestSkippedWarningsAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, logger := newJournal()
		app, err := heard.newApp(pycket.Settings{Secrets: []string{secret}, Logger: logger})
		require(t, err)
		handler := app.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if found, err := pycket.NewSessionManager(w, r).Has("a"); found || err != nil {
				t.Error(found, err)
			}
		}))
		cookies := make([]string, 1000)
		for i := range cookies {
			cookies[i] = forgery(t, i)
		}
		forge := func(n int) {
			r := httptest.NewRequest("GET", "/", nil)
			r.Header.Set("Cookie", "PYCKET_ID="+cookies[n])
			handler.ServeHTTP(httptest.NewRecorder(), r)
		}
		parallel(len(cookies), forge)
		log.wantSkipped(t, 0)
		time.Sleep(time.Second - time.Nanosecond)
		forge(0)
		log.wantSkipped(t, 0)
		time.Sleep(time.Nanosecond)
		forge(0)
		log.wantSkipped(t, 0, 1000)
		forge(1)
		time.Sleep(time.Hour)
		forge(0)
		log.wantSkipped(t, 0, 1000, 1)
		time.Sleep(time.Second)
		forge(0)
		log.wantSkipped(t, 0, 1000, 1, 0)

		list := log.warnings(t)
		if list[1].Hash != list[2].Hash || list[2].Hash != list[3].Hash {
			t.Errorf("one cookie has several hashes:\n%s", log)
		}
	})
}

// What no library of this kind has made is noise, of which the internet is full; and a cookie that has
// expired, or whose session has, is nobody's fault. Nor does a request warn that finds its own cookie, or
// that doesn't use its session.
func TestQuietCookies(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		log, site := logged(t, settings(server))
		b := site.browser()
		b.must("set:a:x")
		own := b.cookie()
		id := idOf(t, own)
		for name, cookie := range map[string]string{
			"nothing": "", "empty": "PYCKET_ID=", "no value": "PYCKET_ID", "short": "PYCKET_ID=x", "a UUID": "PYCKET_ID=0beaca0a-3cb0-4001-a8af-8579f3691b41",
			"one character less": "PYCKET_ID=" + own[1:], "one character more": "PYCKET_ID=" + own + "A",
			"long": "PYCKET_ID=" + strings.Repeat("A", 5000), "another name": "OTHER_ID=" + forgery(t, 1), "the name in lower case": "pycket_id=" + forgery(t, 1),
			"expired":               "PYCKET_ID=" + signedFor(t, secret, "PYCKET_ID", id, time.Hour, time.Minute),
			"its session has ended": "PYCKET_ID=" + signed(t, secret, "PYCKET_ID", make([]byte, 44), 0),
			"its own":               "PYCKET_ID=" + own,
			"a forged one first":    "PYCKET_ID=" + forgery(t, 1) + "; PYCKET_ID=" + own,
			"a forged one last":     "PYCKET_ID=" + own + "; PYCKET_ID=" + forgery(t, 1),
		} {
			t.Run(name, func(t *testing.T) {
				raw(t, site, "op=get:a&op=take:a&op=keys", cookie)
				if got := log.String(); got != "" {
					t.Errorf("the log: %s", got)
				}
			})
		}
		raw(t, site, "", "PYCKET_ID="+forgery(t, 1)) // the session isn't used
		if got := log.String(); got != "" {
			t.Errorf("an unused session: %s", got)
		}
		raw(t, site, "op=get:a", "PYCKET_ID="+forgery(t, 1)) // or nothing at all is logged
		if len(log.warnings(t)) != 1 {
			t.Errorf("the log: %s", log)
		}
	})
}

// A Secure cookie over plain HTTP is one that browsers drop, and users would sign in forever: that is said
// once, unless the host is one for which browsers make an exception.
func TestSecureCookieOverPlainHTTP(t *testing.T) {
	for name, test := range map[string]struct {
		policy       pycket.SecurePolicy
		host, header string
		want         bool
	}{
		"plain":              {pycket.SecureAlways, "shop.example", "", true},
		"with a port":        {pycket.SecureAlways, "shop.example:8080", "", true},
		"an address":         {pycket.SecureAlways, "192.0.2.1:80", "", true},
		"an address, IPv6":   {pycket.SecureAlways, "[2001:db8::1]:80", "", true},
		"as good as no host": {pycket.SecureAlways, "notlocalhost", "", true},
		"a plain proxy":      {pycket.SecureAlways, "shop.example", "X-Forwarded-Proto: http", true},
		"a proxy with TLS":   {pycket.SecureAlways, "shop.example", "X-Forwarded-Proto: https", false},
		"RFC 7239":           {pycket.SecureAlways, "shop.example", "Forwarded: proto=https", false},
		"localhost":          {pycket.SecureAlways, "localhost", "", false},
		"localhost, port":    {pycket.SecureAlways, "LocalHost:8080", "", false},
		"below localhost":    {pycket.SecureAlways, "shop.localhost:8080", "", false},
		"loopback":           {pycket.SecureAlways, "127.0.0.2:8080", "", false},
		"loopback, IPv6":     {pycket.SecureAlways, "[::1]:8080", "", false},
		"SecureAuto":         {pycket.SecureAuto, "shop.example", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			redistest.Both(t, func(t *testing.T, server *redistest.Server) {
				s := settings(server)
				s.Cookies.Secure = test.policy
				log, site := logged(t, s)
				visit := func(op string) {
					t.Helper()
					_, err := newBrowser(t, site.URL).fetch("/?op="+op, "Host: "+test.host, test.header)
					require(t, err)
				}
				visit("get:a")
				if got := log.String(); got != "" {
					t.Errorf("no cookie is set, and the log says: %s", got)
				}
				parallel(4, func(int) { visit("set:a:x") })
				list := log.warnings(t)
				if !test.want && len(list) > 0 {
					t.Errorf("the log: %s", log)
				}
				if test.want && (len(list) != 1 || list[0].Level != "WARN" || !strings.Contains(list[0].Msg, "Cookies.Secure is SecureAlways, and a session's cookie was sent over plain HTTP") || !strings.Contains(list[0].Msg, "X-Forwarded-Proto")) {
					t.Errorf("not one warning:\n%s", log)
				}
				if strings.Contains(log.String(), "shop") {
					t.Errorf("a client's own words are in the log: %s", log)
				}
			})
		})
	}
}

// A write that is refused since the headers are gone leaves a trace, even if the handler ignores its error: a
// line a minute, without the name. The clock is a fake one, so there is no network: nothing of this asks Redis.
func TestRefusedWritesAreLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, logger := newJournal()
		app, err := heard.newApp(pycket.Settings{Secrets: []string{secret}, Logger: logger})
		require(t, err)
		visit := func(use func(s *pycket.SessionManager, n *pycket.NotificationManager)) {
			handler := app.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(http.StatusOK)
				use(pycket.NewSessionManager(w, r), pycket.NewNotificationManager(w, r))
			}))
			handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
		}
		visit(func(s *pycket.SessionManager, _ *pycket.NotificationManager) {
			s.Set("a telling name", "a telling value")
		})
		log.wantSkipped(t, 0)
		visit(func(s *pycket.SessionManager, n *pycket.NotificationManager) {
			s.SetMany(pycket.Values{"a telling name": 1})
			s.Increment("a telling name", 1)
			s.Login("a telling name", nil)
			s.Remember(time.Hour)
			n.Set("a telling name", 1)
			n.Add("a telling name", "a telling text")
		})
		time.Sleep(time.Minute - time.Nanosecond)
		visit(func(s *pycket.SessionManager, _ *pycket.NotificationManager) { s.Set("a telling name", 1) })
		log.wantSkipped(t, 0)
		time.Sleep(time.Nanosecond)
		visit(func(s *pycket.SessionManager, _ *pycket.NotificationManager) { s.Set("a telling name", 1) })
		log.wantSkipped(t, 0, 7)
		if strings.Contains(log.String(), "telling") || strings.Count(log.String(), pycket.ErrHeadersSent.Error()) != 2 {
			t.Errorf("the log names something, or no cause: %s", log)
		}
	})
}

// So does whatever is done with a mixin that is not bound, or in a request without an App, which have no
// Logger: it is this process's default. Only a process that has done nothing of the kind before can tell.
func TestUnboundIsLogged(t *testing.T) {
	const child = "PYCKET_TEST_UNBOUND"
	if os.Getenv(child) != "" {
		for range 3 {
			new(pycket.SessionMixin).Session().Set("a telling name", 1)
			new(pycket.NotificationMixin).Notifications().Delete("a telling name")
			pycket.NewSessionManager(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil)).Set("a telling name", 1)
		}
		return
	}
	command := exec.Command(os.Args[0], "-test.run=^TestUnboundIsLogged$")
	command.Env = append(os.Environ(), child+"=1")
	out, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, sentinel := range []error{pycket.ErrNotBound, pycket.ErrNoApp} {
		if n := strings.Count(string(out), sentinel.Error()); n != 1 {
			t.Errorf("%d lines, want one, of %q in:\n%s", n, sentinel, out)
		}
	}
	if strings.Contains(string(out), "telling") || !strings.Contains(string(out), "WARN pycket: ") {
		t.Errorf("the log: %s", out)
	}
}

// outageLines are the log's lines, without their times, and after what time Redis was available again.
func outageLines(t *testing.T, j *journal) (lines []string, after time.Duration) {
	t.Helper()
	for line := range strings.Lines(j.String()) {
		var said struct {
			Level, Msg string
			After      time.Duration
		}
		require(t, json.Unmarshal([]byte(line), &said))
		lines, after = append(lines, said.Level+" "+said.Msg), said.After
	}
	return lines, after
}

const (
	outageBegins = "ERROR pycket: redis is unavailable"
	outageEnds   = "INFO pycket: redis is available again"
)

// An outage of Redis is two lines of the log, however many operations fail meanwhile. It lasted from the first failure to
// the first success, whenever that is known to be the end.
func TestOutageIsLogged(t *testing.T) {
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		journal, site := logged(t, settings(server))
		b := site.browser()
		b.must("set:a:b")
		server.Kill()
		before := time.Now()
		for range 5 {
			if _, list, _ := b.try("set:a:c", "get:a"); len(list) == 0 || list[0].Err != "ErrUnavailable" {
				t.Fatalf("%+v", list)
			}
		}
		failed := time.Now()
		server.Restart()
		least := time.Since(failed)
		b.must("set:a:d")
		most := time.Since(before)
		for len(journal.warnings(t)) == 1 {
			b.must("set:a:d")
		}
		lines, after := outageLines(t, journal)
		if diff := cmp.Diff([]string{outageBegins, outageEnds}, lines); diff != "" {
			t.Errorf("(-want +got):\n%s\n%s", diff, journal)
		}
		if after < least.Round(time.Millisecond) || after > most.Round(time.Millisecond) {
			t.Errorf("it lasted %v, not from %v to %v", after, least, most)
		}
	})
}

// While Redis refuses writes, reads and logouts that work don't end the outage.
func TestFullRedisIsLogged(t *testing.T) {
	refuse(t, "OOM", func(t *testing.T, server *redistest.Server, begin, recover func()) {
		journal, site := logged(t, settings(server))
		b, leaver := site.browser(), site.browser()
		b.must("set:a:b")
		leaver.must("login:ann")
		begin()
		for _, op := range []string{"set:a:c", "inc:n:1"} {
			if _, list := b.do(op); list[0].Err != "ErrUnavailable" {
				t.Errorf("%s: %v", op, list)
			}
		}
		time.Sleep(time.Second + time.Millisecond) // as long as it takes
		b.must("get:a")
		leaver.must("destroy")
		recover()
		b.must("get:a")
		if lines, _ := outageLines(t, journal); len(lines) != 1 {
			t.Errorf("the outage is over: %s", journal)
		}
		b.must("set:a:d")
		if lines, _ := outageLines(t, journal); !slices.Equal(lines, []string{outageBegins, outageEnds}) {
			t.Errorf("the log: %s", journal)
		}
	})
}

// A password that is wrong is in the log, whichever call fails first, with what to do. It is one line.
func TestWrongPasswordIsLogged(t *testing.T) {
	server := redistest.Start(t, "--requirepass", "right")
	for name, call := range map[string]func(site *site) error{
		"Ping":       func(site *site) error { return site.app.Ping(t.Context()) },
		"Sessions":   func(site *site) error { _, err := site.app.Sessions(t.Context(), "telling"); return err },
		"Revoke":     func(site *site) error { return site.app.Revoke(t.Context(), strings.Repeat("a", 16)) },
		"RevokeUser": func(site *site) error { _, err := site.app.RevokeUser(t.Context(), "telling"); return err },
		"Set": func(site *site) (err error) {
			handle(site.app, httptest.NewRequest("GET", "/", nil), func(s *pycket.SessionManager) { err = s.Set("a telling name", 1) })
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := settings(server)
			s.Redis.URL = "redis://:PASSWORD@" + server.Addr
			journal, site := logged(t, s)
			for range 3 {
				wantError(t, call(site), pycket.ErrMisconfigured)
			}
			lines, _ := outageLines(t, journal)
			if !slices.Equal(lines, []string{outageBegins}) || !strings.Contains(journal.String(), "WRONGPASS") || !strings.Contains(journal.String(), "password in Redis.URL") {
				t.Errorf("the log: %s", journal)
			}
			for _, secret := range []string{"PASSWORD", "telling"} {
				if strings.Contains(journal.String(), secret) {
					t.Errorf("%s is in the log: %s", secret, journal)
				}
			}
		})
	}
}

// What the function given to Update returns is the application's, and not for the log, whatever it wraps.
func TestErrorsOfOthersAreNotLogged(t *testing.T) {
	journal, site := logged(t, settings(redistest.StartEmbedded(t)))
	for _, cause := range []error{pycket.ErrUnavailable, pycket.ErrMisconfigured, pycket.ErrCorrupt} {
		handle(site.app, httptest.NewRequest("GET", "/", nil), func(s *pycket.SessionManager) {
			_, err := pycket.Update(s, "a", 0, func(int) (int, error) { return 0, fmt.Errorf("the application says: %w", cause) })
			wantError(t, err, cause)
		})
	}
	equal(t, "the log", "", journal.String())
}
