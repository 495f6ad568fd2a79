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

// Two applications on one Redis do not take each other's cookies or keys.
func TestTwoApps(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
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
		"path":          {func(s *pycket.Settings) { s.Redis.URL = "redis://localhost/zero" }, []string{"not a database number", "omit the path"}},
		"two databases": {func(s *pycket.Settings) { s.Redis.URL, s.Redis.DBSessions = "redis://localhost/3", new(4) }, []string{"database 3", "DBSessions 4", "name it once"}},
		"cluster and host": {func(s *pycket.Settings) {
			s.Redis.URL, s.Redis.Cluster = "redis://localhost", []string{"localhost:6380"}
		}, []string{"Redis.URL names a server", "put all into Cluster"}},
		"cluster, socket": {func(s *pycket.Settings) {
			s.Redis.URL, s.Redis.Cluster = "unix:///tmp/redis.sock", []string{"localhost:6380"}
		}, []string{"Redis.URL names a server", "put all into Cluster"}},
		"cluster, database": {func(s *pycket.Settings) {
			s.Redis.DBNotifications, s.Redis.Cluster = new(1), []string{"localhost:6380"}
		}, []string{"a database other than 0", "omit the databases"}},
		"cluster, URL's":    {func(s *pycket.Settings) { s.Redis.URL, s.Redis.Cluster = "redis:///2", []string{"localhost:6380"} }, []string{"a database other than 0", "omit the databases"}},
		"cluster, port":     {func(s *pycket.Settings) { s.Redis.Cluster = []string{"localhost"} }, []string{"Redis.Cluster[0] is not an address", "use host:port"}},
		"cluster, URL":      {func(s *pycket.Settings) { s.Redis.Cluster = []string{"a:1", "redis://:HUSH@localhost:6380"} }, []string{"Redis.Cluster[1] is not an address", "use host:port"}},
		"cluster, brace":    {func(s *pycket.Settings) { s.Redis.Prefix, s.Redis.Cluster = "{a}:", []string{"localhost:6380"} }, []string{"Redis.Prefix has a brace", "omit the brace"}},
		"cluster, one":      {func(s *pycket.Settings) { s.Redis.MaxConnections, s.Redis.Cluster = 1, []string{"localhost:6380"} }, []string{"MaxConnections is 1", "2 or more"}},
		"socket":            {func(s *pycket.Settings) { s.Redis.URL = "unix://tmp/redis.sock" }, []string{"no socket", "three slashes"}},
		"database":          {func(s *pycket.Settings) { s.Redis.DBNotifications = new(-1) }, []string{"DBNotifications is negative", "0 or greater"}},
		"expires":           {func(s *pycket.Settings) { s.Cookies.ExpiresDays = -1 }, []string{"ExpiresDays is negative", "use 0"}},
		"no number":         {func(s *pycket.Settings) { s.Cookies.ExpiresDays = math.NaN() }, []string{"ExpiresDays is negative or not a number", "use 0"}},
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
		"name":          {func(s *pycket.Settings) { s.Cookies.Name = "a;b" }, []string{"is not valid in a cookie", "use a plain token"}},
		"name, CR LF":   {func(s *pycket.Settings) { s.Cookies.Name = "a\r\nSet-Cookie: b" }, []string{"is not valid in a cookie"}},
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

		{"name", "Name", func(s *pycket.Settings) { s.Cookies.Name = "a b" }, "Cookies.Name is not valid"},
		{"long name", "Name", func(s *pycket.Settings) { s.Cookies.Name = strings.Repeat("n", 5000) }, "Cookies.Name makes a cookie of"},
		{"path", "Path", func(s *pycket.Settings) { s.Cookies.Path = "x" }, "Cookies.Path must"},
		{"domain", "Domain", func(s *pycket.Settings) { s.Cookies.Domain = "a;b" }, "Cookies.Domain is not valid"},
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
		{"cluster, database", "DBSessions cluster", func(s *pycket.Settings) { s.Redis.DBSessions = new(1) }, "a database other than 0"},
		{"cluster, brace", "Prefix cluster", func(s *pycket.Settings) { s.Redis.Prefix = "{a}" }, "Redis.Prefix has a brace"},
		{"cluster, one connection", "MaxConnections cluster", func(s *pycket.Settings) { s.Redis.MaxConnections = 1 }, "Redis.MaxConnections is 1"},
		{"cluster, first seed", "Cluster0 cluster", func(s *pycket.Settings) { s.Redis.Cluster[0] = "b" }, "Redis.Cluster[0] is not an address"},
		{"cluster, second seed", "Cluster1 cluster", func(s *pycket.Settings) { s.Redis.Cluster[1] = "HUSH:HUSH@b:1" }, "Redis.Cluster[1] is not an address"},
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
