package pycket_test

// What docs/operations.md says: the tests take from the page what it tells operators to do, and do it.

import (
	"errors"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pycket/pycket"
	"github.com/pycket/pycket/internal/redistest"
)

// rights are those that docs/operations.md lists under names, as ACL SETUSER takes them.
func rights(names ...string) (rules []string) {
	page, err := os.ReadFile("docs/operations.md")
	if err != nil {
		panic(err)
	}
	for _, name := range names {
		m := regexp.MustCompile(`(?m)^\*\*` + name + `\*\*[^\n]*\n(?:[^\n]+\n)*\n    ACL SETUSER \S+ (.*)$`).FindSubmatch(page)
		if m == nil {
			panic("docs/operations.md has no rights for " + name)
		}
		rules = append(rules, strings.Fields(string(m[1]))...)
	}
	return rules
}

// beginRestricted makes all tests use Redis as a user with the documented rights, if PYCKET_TEST_ACL is set. One prefix of
// the keys is documented, and tests have others.
func beginRestricted() {
	if os.Getenv("PYCKET_TEST_ACL") == "" {
		return
	}
	redistest.As("pycket", "PASSWORD", append(rights("Sessions", "Users", "Cluster", "WaitReplicas", "CacheFor"), "~other:*", "~app*", "~{a}*"))
}

// allow gives a user these rights and no others.
func allow(server *redistest.Server, user string, rules []string) {
	args := []any{"SETUSER", user, "reset"}
	for _, rule := range rules {
		args = append(args, rule)
	}
	for _, node := range append(server.Nodes(), server) {
		node.Do(0, "ACL", args...)
	}
}

// without calls test for each right to a command, with all others.
func without(t *testing.T, rules []string, test func(t *testing.T, command string, others []string)) {
	t.Helper()
	for i, rule := range rules {
		if command, is := strings.CutPrefix(rule, "+"); is {
			t.Run("without "+command, func(t *testing.T) { test(t, command, slices.Delete(slices.Clone(rules), i, i+1)) })
		}
	}
}

// The rights that are documented are those that it takes: with them everything works, and without any of them Ping
// says so, and which it is.
func TestRights(t *testing.T) {
	redistest.Real(t, func(t *testing.T, server *redistest.Server) {
		rules := rights("Sessions", "Users")
		inCluster := server.Nodes() != nil
		if inCluster {
			rules = append(slices.DeleteFunc(rules, func(rule string) bool { return rule == "+select" }), rights("Cluster")...)
		}
		t.Cleanup(func() {
			for _, node := range append(server.Nodes(), server) {
				node.Do(0, "ACL", "DELUSER", "restricted")
			}
		})
		allow(server, "restricted", rules)
		s := settings(server)
		s.Redis.Timeout = shortTimeout
		s.Redis.URL = "redis://restricted:PASSWORD@"
		if !inCluster {
			s.Redis.URL += server.Addr
		}
		site := newSite(t, s)
		noError(t, site.app.Ping(t.Context()))
		for _, op := range append([]string{"login:ann", "user", "setuser:bob", "authtime", "others"}, everyOperation...) {
			b := site.browser()
			b.must("login:ann", "set:a:b", "remember")
			b.must(op)
		}
		if n, err := site.app.RevokeUser(t.Context(), "ann"); n == 0 || err != nil {
			t.Error(n, err)
		}
		server.Do(0, "FLUSHALL")

		without(t, rules, func(t *testing.T, command string, others []string) {
			if command == "asking" { // which is sent while a slot moves
				t.SkipNow()
			}
			allow(server, "restricted", others)
			app, word := site.app, strings.ToUpper(command)
			switch {
			case strings.HasPrefix(command, "eval"):
				word = "'" + command + "'"
			case command == "cluster|slots": // it is asked for the layout once
				app, word = newApp(t, s), "'"+command+"'"
			}
			refused(t, server, app, "Redis.URL", "ACL SETUSER", word, "docs/operations.md")
		})
		for _, keys := range []string{"~pycket:s:*", "~pycket:[smu]:*", "~pycket:[snu]:*", "~pycket:[snm]:*", "~other:*"} {
			t.Run("keys "+keys, func(t *testing.T) {
				changed := slices.Clone(rules)
				changed[slices.Index(changed, "~pycket:*")] = keys
				allow(server, "restricted", changed)
				refused(t, server, site.app, "Redis.URL", "ACL SETUSER")
			})
		}
	})
}

// The rights that are documented for CacheFor are enough, and each is needed.
func TestCacheRights(t *testing.T) {
	server := redistest.Start(t)
	base, more := rights("Sessions", "Users"), rights("CacheFor")
	s := settings(server)
	s.Redis.URL = "redis://restricted:PASSWORD@" + server.Addr
	s.CacheFor = time.Second
	for i := -1; i < len(more); i++ {
		some := more
		if i >= 0 {
			some = slices.Delete(slices.Clone(more), i, i+1)
		}
		allow(server, "restricted", slices.Concat(base, some))
		err := newApp(t, s).Ping(t.Context())
		if i < 0 {
			noError(t, err)
			continue
		}
		wantError(t, err, nil, "CacheFor is set", "docs/operations.md")
	}
}

// The rights that are documented for WaitReplicas and for the sentinels' own user are enough, and each is needed.
func TestSentinelRights(t *testing.T) {
	group := redistest.StartGroup(t)
	give := func(rules []string) {
		for _, server := range group.Servers {
			allow(server, "restricted", rules)
		}
	}
	giveSentinels := func(rules []string) {
		args := []any{"SETUSER", "pycket-sentinel", "reset"}
		for _, rule := range rules {
			args = append(args, rule)
		}
		group.DoSentinels(t, "ACL", args...)
	}
	s := behind(group)
	s.Redis.URL, s.Redis.WaitReplicas, s.Redis.Timeout = "redis://restricted:PASSWORD@", 2, timeout
	s.Redis.Sentinel.User, s.Redis.Sentinel.Password = "pycket-sentinel", "PASSWORD"
	awaitReplicas(t, group.Servers[0], "{any}", 2)
	give(rights("Sessions", "Users", "WaitReplicas"))
	giveSentinels(rights("Sentinel"))
	noError(t, newApp(t, s).Ping(t.Context()))

	without(t, rights("Sentinel"), func(t *testing.T, command string, others []string) {
		giveSentinels(others)
		s := s
		s.Redis.Timeout = shortTimeout
		wantError(t, newApp(t, s).Ping(t.Context()), pycket.ErrUnavailable, "NOPERM", "Redis.Sentinel.User", "SENTINEL")
	})
	giveSentinels(rights("Sentinel"))
	give(rights("Sessions", "Users"))
	err := newApp(t, s).Ping(t.Context())
	wantError(t, err, pycket.ErrNotReplicated, "NOPERM", "'wait'", "docs/operations.md")
	if !errors.Is(err, pycket.ErrMisconfigured) {
		t.Errorf("%v is not ErrMisconfigured", err)
	}
}
