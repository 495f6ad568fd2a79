package pycket_test

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/securecookie"

	"github.com/pycket/pycket"
	"github.com/pycket/pycket/internal/redistest"
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
	return signedWith(t, cookieKey(t, secret, "sign cookie"), name, binary.BigEndian.AppendUint32(slices.Clone(id), uint32(lifetime.Seconds())), age)
}

func cookieKey(t *testing.T, secret, purpose string) []byte {
	t.Helper()
	key, err := hkdf.Key(sha256.New, []byte(secret), nil, "pycket 1 "+purpose+" pycket:", 32)
	require(t, err)
	return key
}

func signedWith(t *testing.T, key []byte, name string, payload []byte, age time.Duration) string {
	t.Helper()
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
	require(t, err)
	id, err := base64.URLEncoding.DecodeString(strings.Split(string(raw), "|")[1])
	if err != nil || len(id) != 48 {
		t.Fatalf("an id and a lifetime of %d bytes: %v", len(id), err)
	}
	return id[:44]
}

// securecookie's codecs refuse values older than 30 days unless told otherwise; ExpiresDays is obeyed.
func TestCookieAge(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
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
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
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
					a, err := newBrowser(t, site.URL).fetch("/?op="+op, "Cookie: "+cookie, test.header)
					require(t, err)
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

// raw sends a request with these Cookie lines as they are.
func raw(t *testing.T, site *site, ops string, cookies ...string) string {
	t.Helper()
	c, err := net.Dial("tcp", site.Listener.Addr().String())
	require(t, err)
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
	require(t, err)
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

func TestTwoCookiesOfOneName(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
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

		// Those that are signed, of sessions that have ended or have another id, give way too: up to four are tried.
		var lines []string
		for _, ending := range []string{"destroy", "rotate", "destroy", "rotate", ""} {
			want := `[{"value":"mine"},{},{"value":"x"}]`
			if len(lines) == 4 {
				want = `[{"value":""},{"err":"ErrGone"},{"value":""}]`
			}
			if text := raw(t, site, "op=get:a&op=set:b:x&op=get:b", append(lines, good)...); !strings.Contains(text, want) || strings.Contains(text, "Set-Cookie") {
				t.Errorf("after %d that are dead: %q", len(lines), text)
			}
			if ending != "" {
				other := site.browser()
				other.must("set:a:other")
				lines = append(lines, "PYCKET_ID="+other.cookie())
				other.must(ending)
			}
		}

		// But what a request has begun in one session does not go on in another.
		other := site.browser()
		other.must("set:a:other")
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Cookie", "PYCKET_ID="+other.cookie()+"; "+good)
		handle(site.app, r, func(s *pycket.SessionManager) {
			if found, err := s.Has("a"); !found || err != nil {
				t.Error(found, err)
			}
			other.must("destroy")
			if err := s.Set("a", "late"); !errors.Is(err, pycket.ErrGone) {
				t.Errorf("a late write: %v", err)
			}
		})
		b.want([]outcome{{Value: "mine"}}, "get:a")
	})
}

func TestSecretsRotateAndRetire(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		with := func(secrets ...string) *site {
			s := settings(server)
			s.Secrets = secrets
			return newSite(t, s)
		}
		before, during, after := with(secret), with(otherSecret, secret), with(otherSecret)
		b := before.browser()
		b.must("set:a:x")
		moved := during.receive(b)
		if a, _ := moved.do("get:a"); !strings.Contains(a.body, `"x"`) || a.setsCookie() {
			t.Errorf("while both are there: %q, cookie set: %v", a.body, a.setsCookie())
		}
		if got := after.receive(b).must("get:a")[0]; got != "" {
			t.Error("a cookie of a retired secret is still good")
		}
		moved.must("rotate")
		if got := after.receive(moved).must("get:a")[0]; got != "x" {
			t.Error("a rotated cookie is not signed with the first secret")
		}
	})
}
