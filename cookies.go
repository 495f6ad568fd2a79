package pycket

import (
	"cmp"
	"math"
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/pycket/pycket/internal/signed"
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

	// ExpiresDays is how many days the browser keeps the cookie, at most 400. 0 means until the browser is closed, as in
	// pycket for Tornado. Without use, the session itself lasts no longer than Settings.IdleTimeout.
	ExpiresDays float64

	// Secure says when the cookie has the attribute Secure.
	Secure SecurePolicy

	// SameSite is Lax unless set. SameSite=None needs SecureAlways.
	SameSite http.SameSite

	// Partitioned gives an embedded page a separate cookie for each site it is embedded in (CHIPS). It
	// needs SecureAlways.
	Partitioned bool

	// Encrypt encrypts the cookie's value, in addition to signing it (AES-256-CTR, then HMAC). Cookies that are only
	// signed are then refused.
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

	// minSecretBytes is the size of the HMAC-SHA256 keys that are derived from a secret.
	minSecretBytes = 32
)

// cookies makes the session's cookie and finds it in a request. It knows nothing of Redis.
type cookies struct {
	signer   signed.Signer[*store.ID]
	lifetime int64 // of a new cookie, in seconds; 0 means until the browser is closed
	policy   SecurePolicy
	// What follows the value in a Set-Cookie line, without Secure and with it.
	attributes, secureAttributes string
	length                       int // of every cookie's value
}

// newCookies checks the settings. If there is a fault, the result can't be used. The keys also depend on the keyspace,
// so a cookie is valid for one application's sessions only.
func newCookies(s CookieSettings, secrets []string, keyspace string, fault *faults) *cookies {
	c := &cookies{policy: s.Secure, lifetime: int64(math.Ceil(s.ExpiresDays * 24 * 60 * 60))}
	c.signer.Name, c.signer.Parse = cmp.Or(s.Name, defaultCookieName), store.ParseID
	template := http.Cookie{ // #nosec G124 -- Secure is decided for each request
		Name:        c.signer.Name,
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
		c.signer.Codecs = append(c.signer.Codecs, signed.NewCodec(secret, keyspace, s.Encrypt))
	}
	c.length = signed.Length(c.signer.Name, store.IDSize, s.Encrypt)
	n := len(c.signer.Name) + c.length
	fault.when(n > maxCookieBytes, "Cookies.Name makes a cookie of %d bytes, and browsers ignore those over %d; use a shorter name", n, maxCookieBytes)
	return c
}

func checkCookieSettings(s CookieSettings, cookie http.Cookie, fault *faults) { // #nosec G124 -- a copy to be checked
	fits := func(name, path, domain string) bool {
		c := http.Cookie{Name: name, Path: path, Domain: domain} // #nosec G124 -- only to be checked
		return c.Valid() == nil
	}
	notAlways := s.Secure != SecureAlways
	fault.when(math.IsNaN(s.ExpiresDays) || s.ExpiresDays < 0,
		"Cookies.ExpiresDays is negative or not a number; use 0 for a cookie that ends with the browser, or up to 400 days")
	fault.when(s.ExpiresDays > maxCookieDays, "Cookies.ExpiresDays is %g, and browsers cap cookies at 400 days; use 400 or less", s.ExpiresDays)
	fault.when(!fits(cookie.Name, "", ""), "Cookies.Name is not valid in a cookie; use a plain token, such as letters, digits and _")
	fault.when(cookie.Path[0] != '/' || !fits("x", cookie.Path, ""),
		`Cookies.Path must begin with "/" and be plain ASCII without ";" or control characters`)
	fault.when(!fits("x", "", cookie.Domain), "Cookies.Domain is not valid in a cookie; use a host name")
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

// hasPrefixFold ignores case, as browsers do when they compare prefixes: RFC 6265bis, section 4.1.3.
func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// maxCookies is how many correctly signed cookies of a request are tried.
const maxCookies = 4

// find returns the first correctly signed cookie that has not expired, after skipping skip of them. It ignores all
// other cookies, whatever is wrong with them; forged is one that looks like the application's, to warn of. The time it
// takes is linear in the header's length.
func (c *cookies) find(header http.Header, skip int) (found *signed.Value[*store.ID], forged string) {
	if skip >= maxCookies {
		return nil, ""
	}
	for _, line := range header["Cookie"] {
		for line != "" {
			var pair string
			pair, line, _ = strings.Cut(line, ";")
			name, value, _ := strings.Cut(strings.Trim(pair, " \t"), "=")
			if name != c.signer.Name {
				continue
			}
			if len(value) > 1 && value[0] == '"' && value[len(value)-1] == '"' {
				value = value[1 : len(value)-1]
			}
			if len(value) != c.length {
				continue
			}
			switch found := c.signer.Verify(value); {
			case found == nil:
				forged = value
			case found.Expired():
			case skip == 0:
				return found, ""
			default:
				skip--
			}
		}
	}
	return nil, forged
}

// attributes returns the attributes of a cookie in a Set-Cookie line, beginning with the first ";".
func attributes(cookie http.Cookie) string {
	line := cookie.String()
	return line[strings.IndexByte(line, ';'):]
}

// set returns the Set-Cookie line that gives the browser this id, for lifetime seconds or, with 0, until it is closed.
// It has no Expires, since browsers let Max-Age override that: RFC 6265bis, section 5.6.
func (c *cookies) set(r *http.Request, id *store.ID, lifetime int64) (string, error) {
	value, err := c.signer.Sign(id.Append(nil), lifetime)
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
		return c.signer.Name + "=" + value + c.secureAttributes
	}
	return c.signer.Name + "=" + value + c.attributes
}

func (c *cookies) secure(r *http.Request) bool {
	return c.policy == SecureAlways || overTLS(r)
}

// dropped reports whether the browser drops the cookie because it is Secure and arrives over plain HTTP. Browsers make
// an exception for their own machine.
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
