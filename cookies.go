package pycket

import (
	"cmp"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gorilla/securecookie"

	"github.com/pycket/pycket/internal/store"
)

// CookieSettings are the settings of the session's cookie (pycket_cookies in pycket for Tornado). The cookie
// is always HttpOnly. Attributes are those of RFC 6265bis.
type CookieSettings struct {
	// Name is the cookie's name. "" means PYCKET_ID, as in pycket for Tornado. Two applications on one
	// Redis with different names don't accept each other's cookies.
	Name string

	// Path and Domain say where the browser sends the cookie. "" means "/" and the host that set it.
	Path, Domain string

	// ExpiresDays is how many days the browser keeps the cookie, at most 400. 0 means until the browser
	// is closed, as in pycket for Tornado. The session itself lasts no longer than Settings.IdleTimeout.
	ExpiresDays float64

	// Secure says when the cookie has the attribute Secure.
	Secure SecurePolicy

	// SameSite is Lax unless set. SameSite=None needs SecureAlways.
	SameSite http.SameSite

	// Partitioned gives an embedded page a separate cookie for each site it is embedded in (CHIPS). It
	// needs SecureAlways.
	Partitioned bool

	// Encrypt encrypts the cookie's value besides signing it (AES-256-CTR, then HMAC). Cookies that are
	// only signed are then refused.
	Encrypt bool

	// ClearSiteData makes Destroy tell the browser to drop its caches of the site and what scripts have
	// stored (the header Clear-Site-Data). This slows logout down in some browsers.
	ClearSiteData bool
}

// SecurePolicy says when the cookie has the attribute Secure.
type SecurePolicy int

const (
	// SecureAuto sets Secure if the request came over TLS, or if a proxy says so in X-Forwarded-Proto or
	// Forwarded. A client that lies about it harms only its own cookie.
	SecureAuto SecurePolicy = iota

	// SecureAlways always sets Secure. Browsers drop such a cookie if it arrives over plain HTTP, except from
	// http://localhost; the first time that happens, the Logger receives a line.
	SecureAlways
)

const (
	defaultCookieName = "PYCKET_ID"

	// maxCookieDays and maxCookieBytes are limits of browsers: RFC 6265bis, sections 5.5 and 5.6.
	maxCookieDays  = 400
	maxCookieBytes = 4096

	// minSecretBytes is the size of an HMAC-SHA256 key, such as are derived from a secret.
	minSecretBytes = 32
)

// cookies makes the session's cookie and finds it in a request. It is the only place where a cookie's signature
// is checked, and it knows nothing of Redis.
type cookies struct {
	name     string
	codecs   []*securecookie.SecureCookie
	lifetime int64 // of a new cookie, in seconds; 0 means until the browser is closed
	policy   SecurePolicy
	// What follows the value in a Set-Cookie line, without Secure and with it.
	attributes, secureAttributes string
	length                       int // of every cookie's value

	memory cookieMemory
}

// verifiedCookie is a cookie that one of the secrets has signed.
type verifiedCookie struct {
	sum      cookieSum
	id       *store.ID
	issued   int64 // when it was signed: Unix time
	lifetime int64 // how long it is valid, in seconds; 0 means as long as the browser keeps it
}

func (v *verifiedCookie) expired() bool {
	return v.lifetime > 0 && time.Now().Unix() > v.issued+v.lifetime
}

// newCookies checks the settings. With a fault, what it returns can't be used. The keys are derived from the keyspace
// too, so a cookie is valid for one application's sessions only.
func newCookies(s CookieSettings, secrets []string, keyspace string, fault *faults) *cookies {
	c := &cookies{name: cmp.Or(s.Name, defaultCookieName), policy: s.Secure, lifetime: int64(math.Ceil(s.ExpiresDays * 24 * 60 * 60))}
	template := http.Cookie{ // #nosec G124 -- Secure is decided for each request
		Name:        c.name,
		Path:        cmp.Or(s.Path, "/"),
		Domain:      s.Domain,
		SameSite:    cmp.Or(s.SameSite, http.SameSiteLaxMode),
		Partitioned: s.Partitioned,
		HttpOnly:    true,
	}
	before := len(*fault)
	checkCookieSettings(s, template, fault)
	if len(*fault) == before { // net/http logs what a cookie can't contain
		c.attributes = attributes(template)
		template.Secure = true
		c.secureAttributes = attributes(template)
	}
	fault.when(len(secrets) == 0, `setting Secrets is empty; give at least one secret of 32 or more random bytes, such as the output of "openssl rand -base64 32"`)
	for i, secret := range secrets {
		fault.when(len(secret) < minSecretBytes, `setting Secrets[%d] is only %d bytes long; use 32 or more random bytes, such as the output of "openssl rand -base64 32"`, i, len(secret))
		c.codecs = append(c.codecs, newCookieCodec(secret, keyspace, s.Encrypt))
	}
	// How long a value is depends neither on the secret nor on the id.
	sample, err := newCookieCodec("", keyspace, s.Encrypt).Encode(c.name, make([]byte, store.IDSize+4))
	c.length = len(sample)
	n := len(c.name) + c.length
	fault.when(err != nil || n > maxCookieBytes, "Cookies.Name makes a cookie of %d bytes, and browsers ignore those over %d; use a shorter name", n, maxCookieBytes)
	return c
}

func checkCookieSettings(s CookieSettings, cookie http.Cookie, fault *faults) { // #nosec G124 -- a copy to be checked
	fits := func(name, path, domain string) bool {
		c := http.Cookie{Name: name, Path: path, Domain: domain} // #nosec G124 -- only to be checked
		return c.Valid() == nil
	}
	notAlways := s.Secure != SecureAlways
	fault.when(math.IsNaN(s.ExpiresDays) || s.ExpiresDays < 0,
		"Cookies.ExpiresDays is negative or no number; use 0 for a cookie that ends with the browser, or up to 400 days")
	fault.when(s.ExpiresDays > maxCookieDays, "Cookies.ExpiresDays is %g, and browsers cap cookies at 400 days; use 400 or less", s.ExpiresDays)
	fault.when(!fits(cookie.Name, "", ""), "Cookies.Name cannot stand in a cookie; use a plain token, such as letters, digits and _")
	fault.when(cookie.Path[0] != '/' || !fits("x", cookie.Path, ""),
		`Cookies.Path must begin with "/" and be plain ASCII without ";" and control characters`)
	fault.when(!fits("x", "", cookie.Domain), "Cookies.Domain cannot stand in a cookie; use a host name")
	fault.when(s.Secure != SecureAuto && notAlways, "Cookies.Secure is neither SecureAuto nor SecureAlways; use one of them")
	fault.when(s.SameSite < 0 || s.SameSite > http.SameSiteNoneMode,
		"Cookies.SameSite is unknown; use http.SameSiteLaxMode, StrictMode or NoneMode")
	fault.when(s.SameSite == http.SameSiteNoneMode && notAlways,
		"Cookies.SameSite=None is refused by browsers without Secure; set Cookies.Secure to SecureAlways")
	fault.when(s.Partitioned && notAlways, "Cookies.Partitioned is refused by browsers without Secure; set Cookies.Secure to SecureAlways")
	fault.when(hasPrefixFold(cookie.Name, "__Secure-") && notAlways,
		"Cookies.Name begins with __Secure-, which browsers refuse without Secure; set Cookies.Secure to SecureAlways")
	fault.when(hasPrefixFold(cookie.Name, "__Host-") && (notAlways || s.Domain != "" || cookie.Path != "/"),
		`Cookies.Name begins with __Host-, which browsers refuse unless Secure is set, Domain is not and Path is "/"; set Cookies.Secure to SecureAlways and leave Domain and Path empty`)
}

// Browsers compare the prefixes without regard to case: RFC 6265bis, section 4.1.3.
func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// newCookieCodec derives keys from the secret by HKDF-SHA256 (RFC 5869), so that one secret can serve several
// purposes without weakening any. Encrypted cookies are signed with a different key, so that a cookie that is
// only signed is not mistaken for one. If a key is missing, the codec fails.
func newCookieCodec(secret, keyspace string, encrypt bool) *securecookie.SecureCookie {
	derive := func(purpose string) []byte {
		key, _ := hkdf.Key(sha256.New, []byte(secret), nil, "pycket 1 "+purpose+" "+keyspace, 32) // fails for longer keys only
		return key
	}
	sign, block := derive("sign cookie"), []byte(nil)
	if encrypt {
		sign, block = derive("sign encrypted cookie"), derive("encrypt cookie")
	}
	// securecookie refuses values older than 30 days unless told otherwise. How long a cookie is valid is in the cookie
	// itself.
	return securecookie.New(sign, block).SetSerializer(securecookie.NopEncoder{}).MaxAge(0)
}

// encode signs the id and, in four bytes, the cookie's lifetime.
func (c *cookies) encode(id *store.ID, lifetime int64) (string, error) {
	seconds := uint32(lifetime) // #nosec G115 -- 400 days at most
	return c.codecs[0].Encode(c.name, binary.BigEndian.AppendUint32(id.Append(nil), seconds))
}

// maxCookies is how many correctly signed cookies of a request are tried.
const maxCookies = 4

// find returns a cookie of the request that one of the secrets has signed: the first, after skipping as many as skip
// says. All other cookies are ignored, whatever is wrong with them; forged is one that looks like the application's, to
// be warned of. The time it takes is linear in the header's length.
func (c *cookies) find(header http.Header, skip int) (found *verifiedCookie, forged string) {
	if skip >= maxCookies {
		return nil, ""
	}
	for _, line := range header["Cookie"] {
		for line != "" {
			var pair string
			pair, line, _ = strings.Cut(line, ";")
			name, value, _ := strings.Cut(strings.Trim(pair, " \t"), "=")
			if name != c.name {
				continue
			}
			if len(value) > 1 && value[0] == '"' && value[len(value)-1] == '"' {
				value = value[1 : len(value)-1]
			}
			if len(value) != c.length {
				continue
			}
			switch found := c.decode(value); {
			case found == nil:
				forged = value
			case found.expired():
			case skip == 0:
				return found, ""
			default:
				skip--
			}
		}
	}
	return nil, forged
}

// A cookieMemory remembers cookies that were verified lately: a browser sends the same one again and again, and verifying
// it costs more than everything else that a read does here. It has places for 32,768, which take up to 6 MiB, allocated as
// they are needed. A cookie may take any of four places, so most are found if half the places are taken.
type cookieMemory [128]atomic.Pointer[[64][4]atomic.Pointer[verifiedCookie]]

// A cookieSum is 128 bits of a SHA-256. The memory has hashes, not cookies, and a cookie that differs in one bit is verified.
type cookieSum [16]byte

func sumOf(value string) (sum cookieSum) {
	var buf [256]byte
	all := sha256.Sum256(append(buf[:0], value...))
	copy(sum[:], all[:])
	return sum
}

// places returns where a cookie may be.
func (m *cookieMemory) places(sum cookieSum) *[4]atomic.Pointer[verifiedCookie] {
	page := &m[sum[0]%128]
	if page.Load() == nil {
		page.CompareAndSwap(nil, new([64][4]atomic.Pointer[verifiedCookie]))
	}
	return &page.Load()[sum[1]%64]
}

// decode verifies a cookie's value. It returns nil if none of the secrets has signed it.
func (c *cookies) decode(value string) *verifiedCookie {
	// The hash is looked up, not the cookie, so the time it takes reveals nothing about cookies.
	sum := sumOf(value)
	places := c.memory.places(sum)
	free := rand.N(len(places)) // #nosec G404 -- nobody gains from guessing it
	for i := range places {
		switch v := places[i].Load(); {
		case v == nil || v.expired():
			free = i
		case v.sum == sum:
			return v
		}
	}
	v := c.verify(value)
	if v != nil && !v.expired() {
		v.sum = sum
		places[free].Store(v)
	}
	return v
}

func (c *cookies) verify(value string) *verifiedCookie {
	var payload []byte
	for _, codec := range c.codecs {
		if codec.Decode(c.name, value, &payload) != nil {
			continue
		}
		id, rest, ok := store.ParseID(payload)
		if !ok || len(rest) != 4 {
			return nil
		}
		// securecookie puts the time of signing before the first "|".
		raw, _ := base64.URLEncoding.DecodeString(value)
		signed, _, _ := strings.Cut(string(raw), "|")
		issued, _ := strconv.ParseInt(signed, 10, 64)
		return &verifiedCookie{id: id, issued: issued, lifetime: int64(binary.BigEndian.Uint32(rest))}
	}
	return nil
}

// attributes returns the attributes of a cookie in a Set-Cookie line, beginning with the first ";".
func attributes(cookie http.Cookie) string {
	line := cookie.String()
	return line[strings.IndexByte(line, ';'):]
}

// set returns the Set-Cookie line that gives the browser this id, for lifetime seconds or, with 0, until it is closed.
// Max-Age alone says so, since browsers let it override Expires: RFC 6265bis, section 5.6.
func (c *cookies) set(r *http.Request, id *store.ID, lifetime int64) (string, error) {
	value, err := c.encode(id, lifetime)
	if err != nil {
		return "", err
	}
	line := c.line(r, value)
	if lifetime > 0 {
		line += "; Max-Age=" + strconv.FormatInt(lifetime, 10)
	}
	return line, nil
}

// delete returns the Set-Cookie line that deletes the browser's cookie.
func (c *cookies) delete(r *http.Request) string {
	return c.line(r, "") + "; Expires=Thu, 01 Jan 1970 00:00:01 GMT; Max-Age=0"
}

func (c *cookies) line(r *http.Request, value string) string {
	if c.secure(r) {
		return c.name + "=" + value + c.secureAttributes
	}
	return c.name + "=" + value + c.attributes
}

func (c *cookies) secure(r *http.Request) bool {
	return c.policy == SecureAlways || overTLS(r)
}

// dropped reports whether the browser drops the cookie because it is Secure and arrives over plain HTTP. Browsers make
// an exception for the machine that they run on.
func (c *cookies) dropped(r *http.Request) bool {
	return c.policy == SecureAlways && !overTLS(r) && !isLocal(r.Host)
}

// isLocal reports whether a host, with or without a port, is the machine itself.
func isLocal(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if ip := net.ParseIP(strings.Trim(host, "[]")); ip != nil {
		return ip.IsLoopback()
	}
	host = strings.ToLower(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// overTLS reports whether the browser sent the request over TLS, to this server or to a proxy that says so.
func overTLS(r *http.Request) bool {
	if r.TLS != nil {
		return true
	}
	proto, _, _ := strings.Cut(r.Header.Get("X-Forwarded-Proto"), ",")
	if strings.EqualFold(strings.TrimSpace(proto), "https") {
		return true
	}
	// The first element is what the proxy nearest to the client saw (RFC 7239).
	first, _, _ := strings.Cut(r.Header.Get("Forwarded"), ",")
	for param := range strings.SplitSeq(first, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(param), "=")
		if strings.EqualFold(name, "proto") && strings.EqualFold(strings.Trim(value, `"`), "https") {
			return true
		}
	}
	return false
}
