package pycket_test

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pycket/pycket"
	"github.com/pycket/pycket/internal/redistest"
)

// Wrap around Wrap of one App, as of a router in a router, is one request: one session, one cookie.
func TestWrapTwice(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
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
				server.Do(0, "FLUSHALL")
				served := httptest.NewServer(app.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					noError(t, pycket.NewSessionManager(w, r).Set("outer", "x"))
					between.ServeHTTP(w, r)
				})))
				defer served.Close()
				b := newBrowser(t, served.URL)
				a := b.get("/")
				if a.body != "x <nil> <nil>\n" {
					t.Error(a.body)
				}
				if n := len(a.header["Set-Cookie"]); n != 1 || len(server.Keys(0)) != 1 {
					t.Errorf("%d cookies and %d sessions, want one of each", n, len(server.Keys(0)))
				}
				newSite(t, settings(server)).browser().with(b.cookie()).want([]outcome{{Value: []any{"inner", "outer"}}}, "keys")
			})
		}
	})
}

// A handler that serves another request within its own, with another browser's cookie, mixes no sessions up.
func TestRequestWithinRequest(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
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
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		outer := newApp(t, settings(server))
		s := settings(server)
		s.Cookies.Name, s.Redis.Prefix = "OTHER", "other:"
		inner := newApp(t, s)
		current := func(app *pycket.App, r *http.Request) (list []bool) {
			infos, err := app.Sessions(r.Context(), "ann")
			noError(t, err)
			for _, info := range infos {
				list = append(list, info.Current)
			}
			return list
		}
		// use is what both handlers do.
		use := func(w io.Writer, session *pycket.SessionManager, login bool, value string) {
			if login {
				noError(t, session.Login("ann", pycket.Values{"a": value}))
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

// badSetting is one fault, and what the error says: a sentence that no other has, and how to fix it. Faults that share a
// field can't be had together, nor can those of a cluster, of a server behind sentinels and of one that is alone.
type badSetting struct {
	name, fields string
	change       func(*pycket.Settings)
	want         []string
}

// noCodec is a codec that a pointer to nothing stands for.
type noCodec struct{ pycket.JSON }

// badSettings are of a site with three secrets and, where the fields say so, a cluster with two seeds or two
// sentinels.
func badSettings() (list []badSetting) {
	add := func(name, fields string, change func(*pycket.Settings), want ...string) {
		list = append(list, badSetting{name, fields, change, want})
	}
	cookie := func(name, fields string, change func(*pycket.CookieSettings), want ...string) {
		add(name, fields, func(s *pycket.Settings) { change(&s.Cookies) }, want...)
	}
	redis := func(name, fields string, change func(*pycket.RedisSettings), want ...string) {
		add(name, fields, func(s *pycket.Settings) { change(&s.Redis) }, want...)
	}
	add("no secrets", "Secrets0 Secrets2", func(s *pycket.Settings) { s.Secrets = nil }, "Secrets is empty", "openssl rand")
	add("empty first secret", "Secrets0", func(s *pycket.Settings) { s.Secrets[0] = "" }, "Secrets[0] is only 0 bytes long", "32 or more")
	add("short third secret", "Secrets2", func(s *pycket.Settings) { s.Secrets[2] = "HUSH" }, "Secrets[2] is only 4 bytes long", "32 or more")
	add("idle", "Idle", func(s *pycket.Settings) { s.IdleTimeout = -1 }, "IdleTimeout is -1ns", "use 1s or more")
	add("tiny idle", "Idle", func(s *pycket.Settings) { s.IdleTimeout = time.Microsecond }, "IdleTimeout is 1µs", "use 1s or more")
	add("absolute", "Absolute", func(s *pycket.Settings) { s.AbsoluteTimeout = -time.Hour }, "AbsoluteTimeout is -1h", "use 1s or more")
	add("codec", "Codec", func(s *pycket.Settings) { s.Codec = (*noCodec)(nil) }, "Codec is a nil pointer")
	add("value bytes", "MaxValueBytes", func(s *pycket.Settings) { s.MaxValueBytes = -1 }, "MaxValueBytes is -1", "use a positive number")
	add("session bytes", "MaxSessionBytes", func(s *pycket.Settings) { s.MaxSessionBytes = -1 }, "MaxSessionBytes is -1", "use a positive number")
	add("sessions", "MaxSessionsPerUser", func(s *pycket.Settings) { s.MaxSessionsPerUser = -1 }, "MaxSessionsPerUser is")

	for _, name := range []string{"a b", "a;b", "a=b", "a,b", `a"b`, "a\r\nSet-Cookie: b"} {
		cookie("name "+name, "Name", func(c *pycket.CookieSettings) { c.Name = name }, "Cookies.Name is not valid in a cookie", "use a plain token")
	}
	cookie("long name", "Name", func(c *pycket.CookieSettings) { c.Name = strings.Repeat("n", 4096-144+1) }, "Cookies.Name makes a cookie of 4097 bytes", "shorter name")
	for _, name := range []string{"__Secure-a", "__secure-a"} {
		cookie(name, "Name", func(c *pycket.CookieSettings) { c.Name = name }, "Cookies.Name begins with __Secure-", "SecureAlways")
	}
	for _, name := range []string{"__Host-a", "__hOST-a"} {
		cookie(name, "Name", func(c *pycket.CookieSettings) { c.Name = name }, "Cookies.Name begins with __Host-", "SecureAlways")
	}
	const fixed = "Name Domain Path Secure SameSite Partitioned"
	cookie("host and domain", fixed, func(c *pycket.CookieSettings) {
		c.Name, c.Domain, c.Secure = "__Host-a", "example.org", pycket.SecureAlways
	}, "Cookies.Name begins with __Host-", "leave Domain and Path empty")
	cookie("host and path", fixed, func(c *pycket.CookieSettings) {
		c.Name, c.Path, c.Secure = "__Host-a", "/app", pycket.SecureAlways
	}, "Cookies.Name begins with __Host-", "leave Domain and Path empty")
	for _, path := range []string{"app", "/; Domain=evil.example", "/\nX: y"} {
		cookie("path "+path, "Path", func(c *pycket.CookieSettings) { c.Path = path }, `Cookies.Path must begin with "/"`)
	}
	for _, domain := range []string{"a;b", "a.example; Secure", "a.example\r"} {
		cookie("domain "+domain, "Domain", func(c *pycket.CookieSettings) { c.Domain = domain }, "Cookies.Domain is not valid in a cookie", "a host name")
	}
	cookie("expires", "ExpiresDays", func(c *pycket.CookieSettings) { c.ExpiresDays = -1 }, "Cookies.ExpiresDays is negative", "use 0")
	cookie("no number", "ExpiresDays", func(c *pycket.CookieSettings) { c.ExpiresDays = math.NaN() }, "Cookies.ExpiresDays is negative or not a number", "use 0")
	cookie("expires late", "ExpiresDays", func(c *pycket.CookieSettings) { c.ExpiresDays = 400.001 }, "Cookies.ExpiresDays is 400.001", "use 400 or less")
	cookie("expires never", "ExpiresDays", func(c *pycket.CookieSettings) { c.ExpiresDays = math.Inf(1) }, "Cookies.ExpiresDays is +Inf", "use 400 or less")
	cookie("secure", "Secure", func(c *pycket.CookieSettings) { c.Secure = 9 }, "Cookies.Secure is neither", "SecureAuto")
	cookie("unknown same site", "SameSite", func(c *pycket.CookieSettings) { c.SameSite = 9 }, "Cookies.SameSite is unknown", "SameSiteLaxMode")
	cookie("same site none", "SameSite", func(c *pycket.CookieSettings) { c.SameSite = http.SameSiteNoneMode }, "Cookies.SameSite=None is", "SecureAlways")
	cookie("partitioned", "Partitioned", func(c *pycket.CookieSettings) { c.Partitioned = true }, "Cookies.Partitioned is", "SecureAlways")

	redis("timeout", "Timeout", func(r *pycket.RedisSettings) { r.Timeout = -1 }, "Redis.Timeout is -1ns", "use a positive duration")
	redis("connections", "MaxConnections", func(r *pycket.RedisSettings) { r.MaxConnections = -1 }, "Redis.MaxConnections is -1", "use a positive number")
	redis("replicas", "WaitReplicas", func(r *pycket.RedisSettings) { r.WaitReplicas = -1 }, "Redis.WaitReplicas is -1", "use the number of replicas")
	redis("replicas, one connection", "MaxConnections WaitReplicas alone", func(r *pycket.RedisSettings) { r.MaxConnections, r.WaitReplicas = 1, 1 }, "Redis.WaitReplicas is set, and Redis.MaxConnections 1", "2 or more")
	for rawURL, test := range map[string][]string{
		"http://HUSH@localhost":      {"URL", `Redis.URL has the scheme "http"`, "use redis://"},
		"localhost:6379":             {"URL", `Redis.URL has the scheme "localhost"`, "use redis://"},
		"redis:localhost":            {"URL", "two slashes", "use redis://"},
		"redis://:HUSH%zz@localhost": {"URL", "cannot be parsed", "percent-encoded"},
		"redis://localhost:99999":    {"URL alone", "1 to 65535", "port"},
		"redis://localhost/zero":     {"URL alone", "not a database number", "omit the path"},
		"unix://tmp/redis.sock":      {"URL alone", "no socket", "three slashes"},
	} {
		redis(rawURL, test[0], func(r *pycket.RedisSettings) { r.URL = rawURL }, test[1:]...)
	}
	redis("sessions' database", "DBSessions alone", func(r *pycket.RedisSettings) { r.DBSessions = new(-1) }, "Redis.DBSessions is negative", "0 or greater")
	redis("notifications' database", "DBNotifications alone", func(r *pycket.RedisSettings) { r.DBNotifications = new(-1) }, "Redis.DBNotifications is negative", "0 or greater")
	redis("two databases", "URL DBSessions alone", func(r *pycket.RedisSettings) { r.URL, r.DBSessions = "redis://localhost/3", new(4) }, "Redis.URL names database 3", "DBSessions 4", "name it once")

	redis("cluster and host", "URL cluster", func(r *pycket.RedisSettings) { r.URL = "redis://localhost" }, "Redis.URL names a server", "put all into Cluster")
	redis("cluster and socket", "URL cluster", func(r *pycket.RedisSettings) { r.URL = "unix:///tmp/redis.sock" }, "Redis.URL names a server", "put all into Cluster")
	redis("cluster, sessions' database", "URL DBSessions DBNotifications cluster", func(r *pycket.RedisSettings) { r.DBSessions = new(1) }, "a database other than 0", "omit the databases")
	redis("cluster, notifications' database", "URL DBSessions DBNotifications cluster", func(r *pycket.RedisSettings) { r.DBNotifications = new(1) }, "a database other than 0", "omit the databases")
	redis("cluster, URL's database", "URL DBSessions DBNotifications cluster", func(r *pycket.RedisSettings) { r.URL = "redis:///2" }, "a database other than 0", "omit the databases")
	redis("cluster, brace", "Prefix cluster", func(r *pycket.RedisSettings) { r.Prefix = "{a}:" }, "Redis.Prefix has a brace", "omit the brace")
	redis("cluster, one connection", "MaxConnections cluster", func(r *pycket.RedisSettings) { r.MaxConnections = 1 }, "Redis.MaxConnections is 1", "2 or more")
	redis("cluster, first seed", "Cluster0 cluster", func(r *pycket.RedisSettings) { r.Cluster[0] = "localhost" }, "Redis.Cluster[0] is not an address", "use host:port")
	redis("cluster, a URL as a seed", "Cluster1 cluster", func(r *pycket.RedisSettings) { r.Cluster[1] = "redis://:HUSH@b:1" }, "Redis.Cluster[1] is not an address", "use host:port")
	redis("cluster, a password in a seed", "Cluster1 cluster", func(r *pycket.RedisSettings) { r.Cluster[1] = "HUSH:HUSH@b:1" }, "Redis.Cluster[1] is not an address", "use host:port")

	sentinel := func(name, fields string, change func(*pycket.RedisSettings), want ...string) {
		redis("sentinel, "+name, fields+" sentinel", change, want...)
	}
	sentinel("no master", "URL SentinelMaster SentinelAddresses Sentinel0 Sentinel1 SentinelUser", func(r *pycket.RedisSettings) { r.Sentinel = pycket.SentinelSettings{Addresses: r.Sentinel.Addresses} }, "Redis.Sentinel.Master is empty", "the name that")
	sentinel("only a password", "URL SentinelMaster SentinelAddresses Sentinel0 Sentinel1 SentinelUser", func(r *pycket.RedisSettings) {
		r.Sentinel = pycket.SentinelSettings{Password: "HUSH"}
	}, "Redis.Sentinel.Master is empty", "the name that")
	sentinel("no addresses", "SentinelMaster SentinelAddresses Sentinel0 Sentinel1", func(r *pycket.RedisSettings) { r.Sentinel.Addresses = nil }, "Redis.Sentinel.Addresses is empty", "host:port")
	sentinel("first address", "Sentinel0", func(r *pycket.RedisSettings) { r.Sentinel.Addresses[0] = "localhost" }, "Redis.Sentinel.Addresses[0] is not an address", "use host:port")
	sentinel("a URL as an address", "Sentinel1", func(r *pycket.RedisSettings) { r.Sentinel.Addresses[1] = "redis://:HUSH@b:1" }, "Redis.Sentinel.Addresses[1] is not an address", "use host:port")
	sentinel("user without a password", "SentinelUser", func(r *pycket.RedisSettings) { r.Sentinel.User = "ann" }, "Redis.Sentinel.User is set", "set both")
	sentinel("host", "URL", func(r *pycket.RedisSettings) { r.URL = "redis://:HUSH@localhost" }, "Redis.URL names a server", "user, password, scheme and database")
	sentinel("socket", "URL", func(r *pycket.RedisSettings) { r.URL = "unix://:HUSH@/tmp/redis.sock" }, "Redis.URL names a server", "user, password, scheme and database")
	redis("sentinel and cluster", "URL SentinelMaster SentinelAddresses cluster", func(r *pycket.RedisSettings) {
		r.Sentinel = pycket.SentinelSettings{Master: "a", Addresses: []string{"b:1"}}
	}, "Redis.Sentinel and Redis.Cluster are both set", "use one")
	return list
}

// New reports every bad setting, whatever else is bad, in a sentence of its own and no other, and says how to fix it.
func TestSettingsAreChecked(t *testing.T) {
	newApp(t, pycket.Settings{Secrets: []string{secret}}) // the zero value and a secret will do
	faults := badSettings()
	check := func(t *testing.T, faults ...badSetting) {
		t.Helper()
		s := pycket.Settings{Secrets: []string{secret, otherSecret, secret}}
		var names []string
		for _, fault := range faults {
			if strings.HasSuffix(fault.fields, " cluster") && s.Redis.Cluster == nil {
				s.Redis.Cluster = []string{"b:1", "c:1"}
			}
			if strings.HasSuffix(fault.fields, " sentinel") && s.Redis.Sentinel.Master == "" {
				s.Redis.Sentinel = pycket.SentinelSettings{Master: "a", Addresses: []string{"b:1", "c:1"}}
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
			if strings.Count(text, fault.want[0]) != 1 {
				t.Errorf("%q: not once %q in:\n%s", names, fault.want[0], text)
			}
			for _, want := range fault.want {
				if !strings.Contains(text, want) {
					t.Errorf("%q: no %q in:\n%s", names, want, text)
				}
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
	kinds := []string{"cluster", "sentinel", "alone"}
	together := func(one, other badSetting) bool {
		both := strings.Fields(one.fields + " " + other.fields)
		if len(slices.DeleteFunc(slices.Clone(kinds), func(kind string) bool { return !slices.Contains(both, kind) })) > 1 {
			return false
		}
		for field := range strings.FieldsSeq(one.fields) {
			if !slices.Contains(kinds, field) && slices.Contains(strings.Fields(other.fields), field) {
				return false
			}
		}
		return true
	}

	t.Run("the four of a first try", func(t *testing.T) {
		var four []badSetting
		for _, fault := range faults {
			switch fault.name {
			case "name a b", "path app", "no secrets", "connections":
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
			if len(all) < 12 {
				t.Fatalf("%q has only %d others", first.name, len(all)-1)
			}
			check(t, all...)
		}
	})
}

func TestPingAndClose(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		site := newSite(t, settings(server))
		noError(t, site.app.Ping(t.Context()))
		b := site.browser()
		b.must("set:a:b")
		noError(t, site.app.Close())
		wantError(t, site.app.Ping(t.Context()), pycket.ErrUnavailable, "ping")
		b.want([]outcome{{Value: "", Err: "ErrUnavailable"}}, "get:a")
	})
}
