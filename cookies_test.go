package pycket_test

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/securecookie"

	"github.com/pycket/pycket"
)

// signed makes a cookie's value as docs/storage.md describes it, of any age, for as long as a browser
// keeps it.
func signed(t *testing.T, secret, name string, id []byte, age time.Duration) string {
	t.Helper()
	return signedFor(t, secret, name, id, age, 0)
}

// signedFor is signed for a cookie with a lifetime.
func signedFor(t *testing.T, secret, name string, id []byte, age, lifetime time.Duration) string {
	t.Helper()
	payload := binary.BigEndian.AppendUint32(slices.Clone(id), uint32(lifetime.Seconds()))
	key, err := hkdf.Key(sha256.New, []byte(secret), nil, "pycket 1 sign cookie pycket:", 32)
	if err != nil {
		t.Fatal(err)
	}
	rest := fmt.Sprintf("%d|%s", time.Now().Add(-age).Unix(), base64.URLEncoding.EncodeToString(payload))
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s|%s", name, rest)
	value := base64.URLEncoding.EncodeToString(fmt.Appendf(nil, "%s|%s", rest, mac.Sum(nil)))
	heard.cookie("=" + value)
	return value
}

// idOf takes the id out of a cookie's value.
func idOf(t *testing.T, cookie string) []byte {
	t.Helper()
	raw, err := base64.URLEncoding.DecodeString(cookie)
	if err != nil {
		t.Fatal(err)
	}
	id, err := base64.URLEncoding.DecodeString(strings.Split(string(raw), "|")[1])
	if err != nil || len(id) != 48 {
		t.Fatalf("an id and a lifetime of %d bytes: %v", len(id), err)
	}
	return id[:44]
}

// securecookie's codecs refuse values older than 30 days unless told otherwise; ExpiresDays is obeyed.
func TestCookieAge(t *testing.T) {
	everyServer(t, func(t *testing.T, server *redisServer) {
		for _, test := range []struct {
			days float64
			age  time.Duration
			want string
		}{
			{0, 300 * 24 * time.Hour, "x"},
			{120, 119 * 24 * time.Hour, "x"},
			{120, 121 * 24 * time.Hour, ""},
			{0.5, 11 * time.Hour, "x"},
			{0.5, 13 * time.Hour, ""},
		} {
			s := settings(server)
			s.Cookies.ExpiresDays = test.days
			site := newSite(t, s)
			b := site.browser()
			b.must("set:a:x")
			old := b.with(signedFor(t, secret, "PYCKET_ID", idOf(t, b.cookie()), test.age, time.Duration(test.days*24*float64(time.Hour))))
			if got := old.must("get:a")[0]; got != test.want {
				t.Errorf("ExpiresDays %v, a cookie %v old: %q, want %q", test.days, test.age, got, test.want)
			}
		}
	})
}

func TestCookieAttributes(t *testing.T) {
	everyServer(t, func(t *testing.T, server *redisServer) {
		for _, test := range []struct {
			name    string
			cookies pycket.CookieSettings
			header  string // of the request
			want    []string
			without []string
		}{
			{"default", pycket.CookieSettings{}, "", []string{"PYCKET_ID=", "Path=/", "HttpOnly", "SameSite=Lax"}, []string{"Secure", "Domain", "Max-Age", "Expires", "Partitioned"}},
			{"behind a proxy", pycket.CookieSettings{}, "X-Forwarded-Proto: https", []string{"Secure"}, nil},
			{"behind two proxies", pycket.CookieSettings{}, "X-Forwarded-Proto: https, http", []string{"Secure"}, nil},
			{"behind a plain proxy", pycket.CookieSettings{}, "X-Forwarded-Proto: http", nil, []string{"Secure"}},
			{"behind an RFC 7239 proxy", pycket.CookieSettings{}, `Forwarded: for=192.0.2.43;Proto="https", for=198.51.100.17`, []string{"Secure"}, nil},
			{"behind a plain RFC 7239 proxy", pycket.CookieSettings{}, `Forwarded: for=192.0.2.43;proto=http;by=https`, nil, []string{"Secure"}},
			{"all set", pycket.CookieSettings{Name: "__Secure-id", Path: "/app", Domain: "127.0.0.1", ExpiresDays: 2, Secure: pycket.SecureAlways, SameSite: http.SameSiteStrictMode, Partitioned: true}, "",
				[]string{"__Secure-id=", "Path=/app", "Domain=127.0.0.1", "Max-Age=172800", "Secure", "HttpOnly", "SameSite=Strict", "Partitioned"}, nil},
			{"host prefix", pycket.CookieSettings{Name: "__Host-id", Secure: pycket.SecureAlways, SameSite: http.SameSiteNoneMode}, "", []string{"__Host-id=", "Path=/", "Secure", "SameSite=None"}, []string{"Domain"}},
		} {
			t.Run(test.name, func(t *testing.T) {
				s := settings(server)
				s.Cookies = test.cookies
				site := newSite(t, s)
				ask := func(op, cookie string) answer {
					r, _ := http.NewRequest("GET", site.URL+"/?op="+op, nil)
					if name, value, ok := strings.Cut(test.header, ": "); ok {
						r.Header.Set(name, value)
					}
					r.Header.Set("Cookie", cookie)
					a, err := newBrowser(t, site.URL).send(r)
					if err != nil {
						t.Fatal(err)
					}
					return a
				}
				check := func(a answer, want, without []string) string {
					t.Helper()
					line := strings.Join(a.header["Set-Cookie"], "\n")
					for _, part := range want {
						if !strings.Contains(line, part) {
							t.Errorf("%q lacks %q", line, part)
						}
					}
					for _, part := range without {
						if strings.Contains(line, part) {
							t.Errorf("%q has %q", line, part)
						}
					}
					if a.header.Get("Cache-Control") != "private, no-store" || a.header.Get("Vary") != "Cookie" {
						t.Errorf("Cache-Control: %q, Vary: %q", a.header.Get("Cache-Control"), a.header.Get("Vary"))
					}
					cookie, _, _ := strings.Cut(line, ";")
					return cookie
				}
				cookie := check(ask("set:a:b", ""), test.want, test.without)
				deleting := []string{"Max-Age=0", "Expires=Thu, 01 Jan 1970"}
				for _, part := range test.want {
					if !strings.HasPrefix(part, "Max-Age") {
						deleting = append(deleting, part)
					}
				}
				check(ask("destroy", cookie), deleting, nil)
			})
		}
	})
}

func TestCachingHeaders(t *testing.T) {
	everyServer(t, func(t *testing.T, server *redisServer) {
		stage := newStage(t, settings(server))
		b := stage.browser()
		write := func(s *pycket.SessionManager) { s.Rotate(); s.Set("a", 1) }
		read := func(s *pycket.SessionManager) { s.Has("a") }
		for _, test := range []struct {
			cacheControl, vary  string // what the handler sets
			use                 func(*pycket.SessionManager)
			wantCache, wantVary string
		}{
			{"", "", write, "private, no-store", "Cookie"},
			{"public, max-age=60", "Accept-Encoding", write, "private, no-store", "Accept-Encoding|Cookie"},
			{"private, max-age=60", "accept, cookie", write, "private, max-age=60", "accept, cookie"},
			{"No-Store", "*", write, "No-Store", "*"},
			{"public, max-age=60", "", read, "public, max-age=60", "Cookie"},
			{"public, max-age=60", "", func(*pycket.SessionManager) {}, "public, max-age=60", ""},
		} {
			a := stage.visit(b, func(w http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, _ *pycket.NotificationManager) {
				if test.cacheControl != "" {
					w.Header().Set("Cache-Control", test.cacheControl)
				}
				if test.vary != "" {
					w.Header().Set("Vary", test.vary)
				}
				test.use(s)
			})
			if got := strings.Join(a.header["Cache-Control"], "|"); got != test.wantCache {
				t.Errorf("Cache-Control %q became %q, want %q", test.cacheControl, got, test.wantCache)
			}
			if got := strings.Join(a.header["Vary"], "|"); got != test.wantVary {
				t.Errorf("Vary %q became %q, want %q", test.vary, got, test.wantVary)
			}
		}
	})
}

// Every way to read makes the response depend on the cookie, also where there is none.
func TestEveryReadVaries(t *testing.T) {
	everyServer(t, func(t *testing.T, server *redisServer) {
		site := newSite(t, settings(server))
		b := site.browser()
		b.must("set:a:b")
		for _, op := range []string{"get:a", "has:a", "keys", "number:n", "take:a", "peek:a", "nhas:a", "nkeys", "drain"} {
			for _, visitor := range []*browser{b, site.browser()} {
				if a, _ := visitor.do(op); a.header.Get("Vary") != "Cookie" {
					t.Errorf("%s: Vary: %q", op, a.header.Get("Vary"))
				}
			}
		}
		if a, _ := b.do(); a.header.Get("Vary") != "" {
			t.Error("an untouched session varies the response")
		}
	})
}

// raw sends a request with these Cookie lines as they are.
func raw(t *testing.T, site *site, ops string, cookies ...string) string {
	t.Helper()
	c, err := net.Dial("tcp", site.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	request := "GET /?" + ops + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
	for _, cookie := range cookies {
		request += "Cookie: " + cookie + "\r\n"
	}
	heard.head(request)
	fmt.Fprint(c, request+"\r\n")
	var answer strings.Builder
	buf := make([]byte, 4096)
	for {
		n, err := c.Read(buf)
		answer.Write(buf[:n])
		if err != nil {
			heard.head(answer.String())
			return answer.String()
		}
	}
}

// hostileCookies are values that no secret of the site has signed.
func hostileCookies(t *testing.T, own string) map[string]string {
	t.Helper()
	id := make([]byte, 44)
	rand.Read(id)
	foreign := signed(t, otherSecret, "PYCKET_ID", id, 0)
	plain, err := securecookie.New([]byte(secret), nil).SetSerializer(securecookie.NopEncoder{}).Encode("PYCKET_ID", id)
	if err != nil {
		t.Fatal(err)
	}
	flipped := []byte(own)
	flipped[len(flipped)/2] ^= 1
	return map[string]string{
		"empty": "", "space": " ", "quotes": `""`, "one quote": `"`, "NUL": "a\x00b", "5 KiB": strings.Repeat("A", 5<<10),
		"5 KiB of the own": own + strings.Repeat("A", 5<<10), "invalid base64": strings.Repeat("!", len(own)),
		"truncated": own[:len(own)-1], "half": own[:len(own)/2], "tampered": string(flipped), "swapped": own[72:] + own[:72],
		"signed with another secret": foreign, "signed with the secret itself": plain,
		"unsigned": base64.URLEncoding.EncodeToString(id), "a UUID": "0beaca0a-3cb0-4001-a8af-8579f3691b41",
		"signed for another name": signed(t, secret, "OTHER_ID", id, 0), "short id, signed": signed(t, secret, "PYCKET_ID", id[:43], 0),
		"empty id, signed": signed(t, secret, "PYCKET_ID", nil, 0),
	}
}

func TestHostileCookies(t *testing.T) {
	everyServer(t, func(t *testing.T, server *redisServer) {
		site := newSite(t, settings(server))
		b := site.browser()
		b.must("set:a:secret")
		hostile := hostileCookies(t, b.cookie())
		random := mathrand.New(mathrand.NewPCG(1, 2))
		for i := range 10_000 {
			value := make([]byte, random.IntN(200))
			for j := range value {
				for value[j] < 0x21 || strings.ContainsRune(`;,"\`, rune(value[j])) || value[j] > 0x7e {
					value[j] = byte(random.IntN(256))
				}
			}
			if i%2 == 0 && len(value) > 0 { // of the right length and alphabet
				long := make([]byte, len(b.cookie()))
				for j := range long {
					long[j] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[random.IntN(64)]
				}
				value = long
			}
			hostile[fmt.Sprint("random ", i)] = string(value)
		}
		size := server.size()
		client := newBrowser(t, site.URL)
		client.client.Jar = nil
		for name, value := range hostile {
			r, _ := http.NewRequest("GET", site.URL+"/?op=get:a&op=keys&op=take:a&op=rotate&op=destroy", nil)
			r.Header.Set("Cookie", "PYCKET_ID="+value)
			a, err := client.send(r)
			if err != nil { // net/http refuses to send it: send it by hand
				text := raw(t, site, "op=get:a&op=rotate&op=destroy", "PYCKET_ID="+value)
				if strings.HasPrefix(text, "HTTP/1.1 5") || strings.Contains(text, "Set-Cookie") || strings.Contains(text, "secret") {
					t.Errorf("%s: %q", name, text)
				}
				continue
			}
			if want := `[{"value":""},{"value":[]},{"value":""},{},{}]` + "\n"; a.status != 200 || a.setsCookie() || a.body != want {
				t.Errorf("%s: %d %q, cookie set: %v", name, a.status, a.body, a.setsCookie())
			}
		}
		if got := server.size(); got != size {
			t.Errorf("there are %d keys, were %d", got, size)
		}

		// A write gives the visitor an id of the library's own.
		for name, value := range hostileCookies(t, b.cookie()) {
			text := raw(t, site, "op=set:a:mine", "PYCKET_ID="+value)
			_, rest, set := strings.Cut(text, "Set-Cookie: PYCKET_ID=")
			if strings.HasPrefix(text, "HTTP/1.1 400") { // a NUL: net/http answers by itself
				continue
			}
			id, _, _ := strings.Cut(rest, ";")
			if !set || id == value || b.with(id).must("get:a")[0] != "mine" {
				t.Errorf("%s: a write made no session of its own: %q", name, text)
			}
		}
		if b.must("get:a")[0] != "secret" {
			t.Error("the session of another visitor has changed")
		}
	})
}

func TestTwoCookiesOfOneName(t *testing.T) {
	everyServer(t, func(t *testing.T, server *redisServer) {
		site := newSite(t, settings(server))
		b := site.browser()
		b.must("set:a:mine")
		good := "PYCKET_ID=" + b.cookie()
		bad := "PYCKET_ID=" + signed(t, otherSecret, "PYCKET_ID", make([]byte, 44), 0)
		for name, lines := range map[string][]string{
			"first": {good + "; " + bad}, "last": {bad + "; " + good}, "middle": {"a=b; " + bad + ";" + good + " ; PYCKET_ID=; " + bad},
			"two lines": {bad, good}, "quoted": {bad + `; PYCKET_ID="` + b.cookie() + `"`}, "many": {strings.Repeat(bad+"; ", 300) + good},
		} {
			if text := raw(t, site, "op=get:a", lines...); !strings.Contains(text, `"mine"`) {
				t.Errorf("%s: %q", name, text)
			}
		}
	})
}

func TestSecretsRotateAndRetire(t *testing.T) {
	everyServer(t, func(t *testing.T, server *redisServer) {
		with := func(secrets ...string) *site {
			s := settings(server)
			s.Secrets = secrets
			return newSite(t, s)
		}
		before, during, after := with(secret), with(otherSecret, secret), with(otherSecret)
		at := func(b *browser, s *site) *browser {
			other := newBrowser(t, s.URL)
			other.client.Jar.SetCookies(other.base, b.client.Jar.Cookies(b.base))
			return other
		}
		b := before.browser()
		b.must("set:a:x")
		moved := at(b, during)
		if a, _ := moved.do("get:a"); !strings.Contains(a.body, `"x"`) || a.setsCookie() {
			t.Errorf("while both are there: %q, cookie set: %v", a.body, a.setsCookie())
		}
		if got := at(b, after).must("get:a")[0]; got != "" {
			t.Error("a cookie of a retired secret is still good")
		}
		moved.must("rotate")
		if got := at(moved, after).must("get:a")[0]; got != "x" {
			t.Error("a rotated cookie is not signed with the first secret")
		}
	})
}

func TestEncryptedCookies(t *testing.T) {
	everyServer(t, func(t *testing.T, server *redisServer) {
		s := settings(server)
		plain := newSite(t, s)
		s.Cookies.Encrypt = true
		encrypted := newSite(t, s)
		b := encrypted.browser()
		b.must("set:a:x")
		if got := b.must("get:a")[0]; got != "x" {
			t.Errorf("the encrypted cookie opens %q", got)
		}
		p := plain.browser()
		p.must("set:a:x")
		id := idOf(t, p.cookie())
		padded := append(make([]byte, 16), id...) // as long as an encrypted one
		for name, value := range map[string]string{"signed": p.cookie(), "signed by the encrypted length": signed(t, secret, "PYCKET_ID", padded, 0)} {
			if got := b.with(value).must("get:a")[0]; got != "" {
				t.Errorf("%s: accepted although encryption is asked for", name)
			}
		}
		if got := p.with(b.cookie()).must("get:a")[0]; got != "" {
			t.Error("an encrypted cookie is taken for a signed one")
		}
		rawCookie, _ := base64.URLEncoding.DecodeString(b.cookie())
		body, _ := base64.URLEncoding.DecodeString(strings.Split(string(rawCookie), "|")[1])
		if len(body) != 16+48 {
			t.Errorf("the encrypted id takes %d bytes", len(body))
		}
	})
}

// Two applications on one Redis do not take each other's cookies or keys.
func TestTwoApps(t *testing.T) {
	everyServer(t, func(t *testing.T, server *redisServer) {
		change := map[string]func(*pycket.Settings){
			"names":    func(s *pycket.Settings) { s.Cookies.Name = "OTHER" },
			"prefixes": func(s *pycket.Settings) { s.Redis.Prefix = "other:" },
		}
		for name, change := range change {
			t.Run(name, func(t *testing.T) {
				s := settings(server)
				one := newSite(t, s)
				change(&s)
				two := newSite(t, s)
				b := one.browser()
				b.must("set:a:one")
				otherName := s.Cookies.Name
				if otherName == "" {
					otherName = "PYCKET_ID"
				}
				text := raw(t, two, "op=get:a&op=set:a:two", otherName+"="+b.cookie())
				if strings.Contains(text, `"one"`) || !strings.Contains(text, "Set-Cookie: "+otherName) {
					t.Errorf("the other application took the cookie: %q", text)
				}
				if got := b.must("get:a")[0]; got != "one" {
					t.Errorf("the session has become %q", got)
				}
			})
		}
	})
}

// Wrap around Wrap of one App, as of a router in a router, is one request: one session, one cookie.
func TestWrapTwice(t *testing.T) {
	everyServer(t, func(t *testing.T, server *redisServer) {
		app := newApp(t, settings(server))
		s := settings(server)
		s.Cookies.Name, s.Redis.Prefix = "OTHER", "other:"
		other := newApp(t, s)
		inner := app.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s := pycket.NewSessionManager(w, r)
			text, err := pycket.Get(s, "outer", "nothing")
			fmt.Fprintln(w, text, err, s.Set("inner", "y"))
		}))
		for name, between := range map[string]http.Handler{
			"at once": inner,
			"twice":   app.Wrap(inner),
			"a writer that hides the other": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				inner.ServeHTTP(struct{ http.ResponseWriter }{w}, r)
			}),
			"a context that hides the other": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				inner.ServeHTTP(wrappedWriter{w}, r.WithContext(t.Context()))
			}),
			"another App": other.Wrap(inner),
		} {
			t.Run(name, func(t *testing.T) {
				server.do(0, "FLUSHALL")
				served := httptest.NewServer(app.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if err := pycket.NewSessionManager(w, r).Set("outer", "x"); err != nil {
						t.Error(err)
					}
					between.ServeHTTP(w, r)
				})))
				defer served.Close()
				b := newBrowser(t, served.URL)
				a := b.get("/")
				if a.body != "x <nil> <nil>\n" {
					t.Error(a.body)
				}
				if n := len(a.header["Set-Cookie"]); n != 1 || len(server.keys(0)) != 1 {
					t.Errorf("%d cookies and %d sessions, want one of each", n, len(server.keys(0)))
				}
				newSite(t, settings(server)).browser().with(b.cookie()).want([]outcome{{Value: []any{"inner", "outer"}}}, "keys")
			})
		}
	})
}

// A handler that serves another request within its own, with another browser's cookie, mixes no sessions up.
func TestRequestWithinRequest(t *testing.T) {
	everyServer(t, func(t *testing.T, server *redisServer) {
		app := newApp(t, settings(server))
		operations := app.Wrap(pycket.Handler(operations{}))
		served := httptest.NewServer(app.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/" {
				operations.ServeHTTP(w, r)
				return
			}
			inner := httptest.NewRequestWithContext(r.Context(), "GET", "/?op=get:name", nil)
			inner.Header.Set("Cookie", "PYCKET_ID="+r.URL.Query().Get("cookie"))
			answer := httptest.NewRecorder()
			operations.ServeHTTP(answer, inner)
			io.Copy(w, answer.Body)
		})))
		defer served.Close()
		ann, bob := newBrowser(t, served.URL), newBrowser(t, served.URL)
		ann.must("set:name:Ann")
		bob.must("set:name:Bob")
		if got := ann.get("/as?cookie=" + url.QueryEscape(bob.cookie())).body; got != "[{\"value\":\"Bob\"}]\n" {
			t.Error(got)
		}
	})
}

// Wraps of two Apps in one another each give their own session.
func TestWrapsOfTwoApps(t *testing.T) {
	everyServer(t, func(t *testing.T, server *redisServer) {
		outer := newApp(t, settings(server))
		s := settings(server)
		s.Cookies.Name, s.Redis.Prefix = "OTHER", "other:"
		inner := newApp(t, s)
		current := func(app *pycket.App, r *http.Request) (list []bool) {
			infos, err := app.Sessions(r.Context(), "ann")
			if err != nil {
				t.Error(err)
			}
			for _, info := range infos {
				list = append(list, info.Current)
			}
			return list
		}
		// use is what both handlers do.
		use := func(w io.Writer, session *pycket.SessionManager, login bool, value string) {
			if login {
				if err := session.Login("ann", pycket.Values{"a": value}); err != nil {
					t.Error(err)
				}
			}
			text, err := pycket.Get(session, "a", "none")
			fmt.Fprintln(w, text, err)
		}
		served := httptest.NewServer(outer.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			login := r.URL.Path == "/login"
			var page bytes.Buffer // not sent before both have their cookies
			use(&page, pycket.NewSessionManager(w, r), login, "outer's")
			inner.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				use(&page, pycket.NewSessionManager(w, r), login, "inner's")
				fmt.Fprintln(w, page.String(), current(outer, r), current(inner, r))
			})).ServeHTTP(w, r)
		})))
		defer served.Close()
		b := newBrowser(t, served.URL)
		if a := b.get("/login"); len(a.header["Set-Cookie"]) != 2 {
			t.Errorf("Set-Cookie: %q", a.header["Set-Cookie"])
		}
		if a := b.get("/"); a.body != "outer's <nil>\ninner's <nil>\n [true] [true]\n" || a.setsCookie() {
			t.Errorf("%q, Set-Cookie: %q", a.body, a.header["Set-Cookie"])
		}
	})
}

func TestSettingsAreChecked(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*pycket.Settings)
		want   []string // in the error: what is bad, and how to mend it
	}{
		"no secret":     {func(s *pycket.Settings) { s.Secrets = nil }, []string{"Secrets is empty", "openssl rand"}},
		"empty secret":  {func(s *pycket.Settings) { s.Secrets = []string{""} }, []string{"Secrets[0]", "32 or more"}},
		"short secret":  {func(s *pycket.Settings) { s.Secrets = []string{secret, "HUSH"} }, []string{"Secrets[1] is only 4 bytes long", "32 or more"}},
		"idle":          {func(s *pycket.Settings) { s.IdleTimeout = -1 }, []string{"IdleTimeout is -1ns", "use 1s or more"}},
		"tiny idle":     {func(s *pycket.Settings) { s.IdleTimeout = time.Microsecond }, []string{"IdleTimeout is 1µs", "use 1s or more"}},
		"absolute":      {func(s *pycket.Settings) { s.AbsoluteTimeout = -time.Hour }, []string{"AbsoluteTimeout is -1h", "use 1s or more"}},
		"value bytes":   {func(s *pycket.Settings) { s.MaxValueBytes = -1 }, []string{"MaxValueBytes is -1", "use a positive number"}},
		"session bytes": {func(s *pycket.Settings) { s.MaxSessionBytes = -1 }, []string{"MaxSessionBytes is -1", "use a positive number"}},
		"timeout":       {func(s *pycket.Settings) { s.Redis.Timeout = -1 }, []string{"Redis.Timeout is -1ns", "use a positive duration"}},
		"connections":   {func(s *pycket.Settings) { s.Redis.MaxConnections = -1 }, []string{"Redis.MaxConnections is -1", "use a positive number"}},
		"scheme":        {func(s *pycket.Settings) { s.Redis.URL = "http://HUSH@localhost" }, []string{`scheme "http"`, "use redis://"}},
		"host and port": {func(s *pycket.Settings) { s.Redis.URL = "localhost:6379" }, []string{`scheme "localhost"`, "use redis://"}},
		"opaque":        {func(s *pycket.Settings) { s.Redis.URL = "redis:localhost" }, []string{"two slashes", "use redis://"}},
		"unparsable":    {func(s *pycket.Settings) { s.Redis.URL = "redis://:HUSH%zz@localhost" }, []string{"cannot be parsed", "percent-encoded"}},
		"port":          {func(s *pycket.Settings) { s.Redis.URL = "redis://localhost:99999" }, []string{"port", "1 to 65535"}},
		"path":          {func(s *pycket.Settings) { s.Redis.URL = "redis://localhost/zero" }, []string{"no database number", "leave the path away"}},
		"two databases": {func(s *pycket.Settings) { s.Redis.URL, s.Redis.DBSessions = "redis://localhost/3", new(4) }, []string{"database 3", "DBSessions 4", "name it once"}},
		"cluster and host": {func(s *pycket.Settings) {
			s.Redis.URL, s.Redis.Cluster = "redis://localhost", []string{"localhost:6380"}
		}, []string{"Redis.URL names a server", "put all into Cluster"}},
		"cluster, socket": {func(s *pycket.Settings) {
			s.Redis.URL, s.Redis.Cluster = "unix:///tmp/redis.sock", []string{"localhost:6380"}
		}, []string{"Redis.URL names a server", "put all into Cluster"}},
		"cluster, database": {func(s *pycket.Settings) {
			s.Redis.DBNotifications, s.Redis.Cluster = new(1), []string{"localhost:6380"}
		}, []string{"a database that is not 0", "leave the databases away"}},
		"cluster, URL's":    {func(s *pycket.Settings) { s.Redis.URL, s.Redis.Cluster = "redis:///2", []string{"localhost:6380"} }, []string{"a database that is not 0", "leave the databases away"}},
		"cluster, port":     {func(s *pycket.Settings) { s.Redis.Cluster = []string{"localhost"} }, []string{"Redis.Cluster[0] is no address", "use host:port"}},
		"cluster, URL":      {func(s *pycket.Settings) { s.Redis.Cluster = []string{"a:1", "redis://:HUSH@localhost:6380"} }, []string{"Redis.Cluster[1] is no address", "use host:port"}},
		"cluster, brace":    {func(s *pycket.Settings) { s.Redis.Prefix, s.Redis.Cluster = "{a}:", []string{"localhost:6380"} }, []string{"Redis.Prefix has a brace", "leave it away"}},
		"cluster, one":      {func(s *pycket.Settings) { s.Redis.MaxConnections, s.Redis.Cluster = 1, []string{"localhost:6380"} }, []string{"MaxConnections is 1", "2 or more"}},
		"socket":            {func(s *pycket.Settings) { s.Redis.URL = "unix://tmp/redis.sock" }, []string{"no socket", "three slashes"}},
		"database":          {func(s *pycket.Settings) { s.Redis.DBNotifications = new(-1) }, []string{"DBNotifications is negative", "from 0 on"}},
		"expires":           {func(s *pycket.Settings) { s.Cookies.ExpiresDays = -1 }, []string{"ExpiresDays is negative", "use 0"}},
		"no number":         {func(s *pycket.Settings) { s.Cookies.ExpiresDays = math.NaN() }, []string{"ExpiresDays is negative or no number", "use 0"}},
		"expires late":      {func(s *pycket.Settings) { s.Cookies.ExpiresDays = 401 }, []string{"ExpiresDays is 401", "use 400 or less"}},
		"expires never":     {func(s *pycket.Settings) { s.Cookies.ExpiresDays = math.Inf(1) }, []string{"ExpiresDays is +Inf", "use 400 or less"}},
		"none":              {func(s *pycket.Settings) { s.Cookies.SameSite = http.SameSiteNoneMode }, []string{"SameSite=None", "SecureAlways"}},
		"unknown same site": {func(s *pycket.Settings) { s.Cookies.SameSite = 9 }, []string{"SameSite is unknown", "SameSiteLaxMode"}},
		"unknown secure":    {func(s *pycket.Settings) { s.Cookies.Secure = 9 }, []string{"Secure is neither", "SecureAuto"}},
		"partitioned":       {func(s *pycket.Settings) { s.Cookies.Partitioned = true }, []string{"Partitioned", "SecureAlways"}},
		"secure prefix":     {func(s *pycket.Settings) { s.Cookies.Name = "__secure-a" }, []string{"__Secure-", "SecureAlways"}},
		"host prefix":       {func(s *pycket.Settings) { s.Cookies.Name = "__Host-a" }, []string{"__Host-", "SecureAlways"}},
		"host and domain": {func(s *pycket.Settings) {
			s.Cookies = pycket.CookieSettings{Name: "__Host-a", Domain: "example.org", Secure: pycket.SecureAlways}
		}, []string{"__Host-", "leave Domain and Path empty"}},
		"host and path": {func(s *pycket.Settings) {
			s.Cookies = pycket.CookieSettings{Name: "__Host-a", Path: "/app", Secure: pycket.SecureAlways}
		}, []string{"__Host-", "leave Domain and Path empty"}},
		"name":          {func(s *pycket.Settings) { s.Cookies.Name = "a;b" }, []string{"cannot stand in a cookie", "use a plain token"}},
		"name, CR LF":   {func(s *pycket.Settings) { s.Cookies.Name = "a\r\nSet-Cookie: b" }, []string{"cannot stand in a cookie"}},
		"long name":     {func(s *pycket.Settings) { s.Cookies.Name = strings.Repeat("n", 4000) }, []string{"4144 bytes", "shorter name"}},
		"path, ;":       {func(s *pycket.Settings) { s.Cookies.Path = "/; Domain=evil.example" }, []string{"Path"}},
		"path, LF":      {func(s *pycket.Settings) { s.Cookies.Path = "/\nX: y" }, []string{"Path"}},
		"relative path": {func(s *pycket.Settings) { s.Cookies.Path = "app" }, []string{`must begin with "/"`}},
		"domain, ;":     {func(s *pycket.Settings) { s.Cookies.Domain = "a.example; Secure" }, []string{"Domain", "a host name"}},
		"domain, CR":    {func(s *pycket.Settings) { s.Cookies.Domain = "a.example\r" }, []string{"Domain"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := pycket.Settings{Secrets: []string{secret}}
			test.change(&s)
			app, err := heard.newApp(s)
			if app != nil {
				t.Error("there is an App")
			}
			wantError(t, err, nil, append(test.want, "pycket: new: ")...)
			if strings.Contains(fmt.Sprint(err), "HUSH") {
				t.Errorf("%v repeats a secret", err)
			}
		})
	}
	t.Run("all at once", func(t *testing.T) {
		_, err := heard.newApp(pycket.Settings{IdleTimeout: -1, Redis: pycket.RedisSettings{Timeout: -1}})
		wantError(t, err, nil, "Secrets", "IdleTimeout", "Redis.Timeout")
	})
	t.Run("the zero value and a secret", func(t *testing.T) {
		newApp(t, pycket.Settings{Secrets: []string{secret}})
	})
}

// badSetting is one fault, and the sentence that it gets. Faults that share a field can't be had together, nor
// can those of a cluster and those of a server that is alone.
type badSetting struct {
	name, fields string
	change       func(*pycket.Settings)
	want         string
}

// noCodec is a codec that a pointer to nothing stands for.
type noCodec struct{ pycket.JSON }

// New reports every bad setting, whatever else is bad, in a sentence of its own and no other.
func TestEveryBadSettingIsReported(t *testing.T) {
	faults := []badSetting{
		{"no secrets", "Secrets0 Secrets2", func(s *pycket.Settings) { s.Secrets = nil }, "Secrets is empty"},
		{"short first secret", "Secrets0", func(s *pycket.Settings) { s.Secrets[0] = "HUSH" }, "Secrets[0] is only"},
		{"short third secret", "Secrets2", func(s *pycket.Settings) { s.Secrets[2] = "HUSH" }, "Secrets[2] is only"},
		{"idle", "Idle", func(s *pycket.Settings) { s.IdleTimeout = -1 }, "IdleTimeout is"},
		{"absolute", "Absolute", func(s *pycket.Settings) { s.AbsoluteTimeout = -1 }, "AbsoluteTimeout is"},
		{"codec", "Codec", func(s *pycket.Settings) { s.Codec = (*noCodec)(nil) }, "Codec is a nil pointer"},
		{"value bytes", "MaxValueBytes", func(s *pycket.Settings) { s.MaxValueBytes = -1 }, "MaxValueBytes is"},
		{"session bytes", "MaxSessionBytes", func(s *pycket.Settings) { s.MaxSessionBytes = -1 }, "MaxSessionBytes is"},
		{"sessions", "MaxSessionsPerUser", func(s *pycket.Settings) { s.MaxSessionsPerUser = -1 }, "MaxSessionsPerUser is"},

		{"name", "Name", func(s *pycket.Settings) { s.Cookies.Name = "a b" }, "Cookies.Name cannot stand"},
		{"long name", "Name", func(s *pycket.Settings) { s.Cookies.Name = strings.Repeat("n", 5000) }, "Cookies.Name makes a cookie of"},
		{"path", "Path", func(s *pycket.Settings) { s.Cookies.Path = "x" }, "Cookies.Path must"},
		{"domain", "Domain", func(s *pycket.Settings) { s.Cookies.Domain = "a;b" }, "Cookies.Domain cannot stand"},
		{"expires", "ExpiresDays", func(s *pycket.Settings) { s.Cookies.ExpiresDays = -1 }, "Cookies.ExpiresDays is"},
		{"secure", "Secure", func(s *pycket.Settings) { s.Cookies.Secure = 9 }, "Cookies.Secure is"},
		{"unknown same site", "SameSite", func(s *pycket.Settings) { s.Cookies.SameSite = 9 }, "Cookies.SameSite is"},
		{"same site none", "SameSite", func(s *pycket.Settings) { s.Cookies.SameSite = http.SameSiteNoneMode }, "Cookies.SameSite=None is"},
		{"partitioned", "Partitioned", func(s *pycket.Settings) { s.Cookies.Partitioned = true }, "Cookies.Partitioned is"},
		{"secure prefix", "Name", func(s *pycket.Settings) { s.Cookies.Name = "__Secure-a" }, "Cookies.Name begins with __Secure-"},
		{"host prefix", "Name", func(s *pycket.Settings) { s.Cookies.Name = "__Host-a" }, "Cookies.Name begins with __Host-"},

		{"URL", "URL", func(s *pycket.Settings) { s.Redis.URL = "http://HUSH@localhost" }, "Redis.URL has the scheme"},
		{"timeout", "Timeout", func(s *pycket.Settings) { s.Redis.Timeout = -1 }, "Redis.Timeout is"},
		{"connections", "MaxConnections", func(s *pycket.Settings) { s.Redis.MaxConnections = -1 }, "Redis.MaxConnections is"},
		{"sessions' database", "DBSessions alone", func(s *pycket.Settings) { s.Redis.DBSessions = new(-1) }, "Redis.DBSessions is negative"},
		{"notifications' database", "DBNotifications alone", func(s *pycket.Settings) { s.Redis.DBNotifications = new(-1) }, "Redis.DBNotifications is negative"},
		{"two databases", "URL DBSessions alone", func(s *pycket.Settings) { s.Redis.URL, s.Redis.DBSessions = "redis:///3", new(4) }, "Redis.URL names database 3"},

		{"cluster and host", "URL cluster", func(s *pycket.Settings) { s.Redis.URL = "redis://a" }, "Redis.URL names a server"},
		{"cluster, URL", "URL cluster", func(s *pycket.Settings) { s.Redis.URL = "http://HUSH@localhost" }, "Redis.URL has the scheme"},
		{"cluster, database", "DBSessions cluster", func(s *pycket.Settings) { s.Redis.DBSessions = new(1) }, "a database that is not 0"},
		{"cluster, brace", "Prefix cluster", func(s *pycket.Settings) { s.Redis.Prefix = "{a}" }, "Redis.Prefix has a brace"},
		{"cluster, one connection", "MaxConnections cluster", func(s *pycket.Settings) { s.Redis.MaxConnections = 1 }, "Redis.MaxConnections is 1"},
		{"cluster, first seed", "Cluster0 cluster", func(s *pycket.Settings) { s.Redis.Cluster[0] = "b" }, "Redis.Cluster[0] is no address"},
		{"cluster, second seed", "Cluster1 cluster", func(s *pycket.Settings) { s.Redis.Cluster[1] = "HUSH:HUSH@b:1" }, "Redis.Cluster[1] is no address"},
	}
	check := func(t *testing.T, faults ...badSetting) {
		t.Helper()
		s := pycket.Settings{Secrets: []string{secret, otherSecret, secret}}
		var names []string
		for _, fault := range faults {
			if strings.HasSuffix(fault.fields, " cluster") && s.Redis.Cluster == nil {
				s.Redis.Cluster = []string{"b:1", "c:1"}
			}
			fault.change(&s)
			names = append(names, fault.name)
		}
		app, err := heard.newApp(s)
		if app != nil {
			t.Errorf("%q: there is an App", names)
		}
		text := fmt.Sprint(err)
		for _, fault := range faults {
			if strings.Count(text, fault.want) != 1 {
				t.Errorf("%q: not once %q in:\n%s", names, fault.want, text)
			}
		}
		if strings.Contains(text, "HUSH") {
			t.Errorf("%q: a secret is repeated in:\n%s", names, text)
		}
		lines := strings.Split(text, "\n")
		for _, line := range lines {
			if !strings.HasPrefix(line, "pycket: new: ") {
				t.Errorf("%q: %q has not the form of an error", names, line)
			}
		}
		if len(lines) != len(faults) {
			t.Errorf("%q: %d sentences for %d faults:\n%s", names, len(lines), len(faults), text)
		}
	}
	together := func(one, other badSetting) bool {
		both := strings.Fields(one.fields + " " + other.fields)
		if slices.Contains(both, "cluster") && slices.Contains(both, "alone") {
			return false
		}
		for field := range strings.FieldsSeq(one.fields) {
			if field != "cluster" && field != "alone" && slices.Contains(strings.Fields(other.fields), field) {
				return false
			}
		}
		return true
	}

	t.Run("the four of a first try", func(t *testing.T) {
		var four []badSetting
		for _, fault := range faults {
			switch fault.name {
			case "name", "path", "no secrets", "connections":
				four = append(four, fault)
			}
		}
		check(t, four...)
	})
	t.Run("each", func(t *testing.T) {
		for _, fault := range faults {
			check(t, fault)
		}
	})
	t.Run("each two", func(t *testing.T) {
		for i, one := range faults {
			for _, other := range faults[i+1:] {
				if together(one, other) {
					check(t, one, other)
				}
			}
		}
	})
	// Every fault once more, with as many others as there can be.
	t.Run("each with all others", func(t *testing.T) {
		for _, first := range faults {
			all := []badSetting{first}
			for _, fault := range faults {
				if !slices.ContainsFunc(all, func(f badSetting) bool { return !together(f, fault) }) {
					all = append(all, fault)
				}
			}
			if len(all) < 15 {
				t.Fatalf("%q has only %d others", first.name, len(all)-1)
			}
			check(t, all...)
		}
	})
}
