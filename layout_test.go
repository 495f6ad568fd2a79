package pycket_test

// Processes of several versions use one Redis while an application is upgraded: what earlier ones have stored is read,
// and what later ones have stored is left alone.

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gomodule/redigo/redis"

	"github.com/pycket/pycket"
	"github.com/pycket/pycket/internal/redistest"
)

// A stored is all that Redis holds.
type stored struct {
	Hashes map[string]map[string][]byte // by database and key, as in "0 pycket:s:{…}"
	Lists  map[string][][]byte
	Sets   map[string]map[string]string // sorted sets: scores by member
}

func dump(server *redistest.Server) stored {
	all := stored{map[string]map[string][]byte{}, map[string][][]byte{}, map[string]map[string]string{}}
	for db := range 2 {
		for _, key := range server.Keys(db) {
			at := fmt.Sprintf("%d %s", db, key)
			switch kind := server.Do(db, "TYPE", key); kind {
			case "hash":
				all.Hashes[at] = map[string][]byte{}
				for name, value := range server.Hash(db, key) {
					all.Hashes[at][name] = []byte(value)
				}
			case "list":
				all.Lists[at], _ = redis.ByteSlices(server.Do(db, "LRANGE", key, 0, -1), nil)
			default:
				all.Sets[at], _ = redis.StringMap(server.Do(db, "ZRANGE", key, 0, -1, "WITHSCORES"), nil)
			}
		}
	}
	return all
}

func (all stored) load(server *redistest.Server) {
	put := func(command, at string, words ...any) {
		db, key, _ := strings.Cut(at, " ")
		server.Do(int(db[0]-'0'), command, append([]any{key}, words...)...)
		server.Do(int(db[0]-'0'), "PEXPIRE", key, time.Hour.Milliseconds())
	}
	for at, fields := range all.Hashes {
		for name, value := range fields {
			put("HSET", at, name, value)
		}
	}
	for at, items := range all.Lists {
		for _, item := range items {
			put("RPUSH", at, item)
		}
	}
	for at, scores := range all.Sets {
		for member, score := range scores {
			put("ZADD", at, score, member)
		}
	}
}

// A golden is what a version has stored for one visitor with each codec.
type golden struct {
	Cookies map[string]string // by codec
	Redis   stored
}

// goldenSites are applications with one Redis, by codec.
func goldenSites(t *testing.T, server *redistest.Server) map[string]*site {
	t.Helper()
	sealed, err := heard.sealed(pycket.JSON{}, secret)
	require(t, err)
	sites := map[string]*site{}
	for name, codec := range map[string]pycket.Codec{"json": nil, "gob": pycket.Gob{}, "sealed": sealed} {
		s := settings(server)
		s.Codec = codec
		sites[name] = newSite(t, s)
	}
	return sites
}

// Values, notifications, users and lists that earlier versions have stored are read, and can be worked with. Each file of
// testdata/layouts is what a version has stored; PYCKET_TEST_RECORD=name.json adds what this one stores.
func TestEarlierLayouts(t *testing.T) {
	if name := os.Getenv("PYCKET_TEST_RECORD"); name != "" {
		server := redistest.Start(t)
		g := golden{Cookies: map[string]string{}}
		for codec, site := range goldenSites(t, server) {
			b := site.browser()
			b.must("signin:"+codec+":name:Ann", "setmany:a:<ä>:empty:", "inc:count:41", "note:saved:it is", "note:seen:not yet", "add:info:first", "add:error:second")
			g.Cookies[codec] = b.cookie() // which does not expire
			b.must("remember:720h")
		}
		g.Redis = dump(server)
		text, err := json.MarshalIndent(g, "", "\t")
		require(t, err)
		require(t, os.WriteFile(filepath.Join("testdata", "layouts", name), append(text, '\n'), 0o600))
	}
	files, err := filepath.Glob("testdata/layouts/*.json")
	require(t, err)
	if len(files) == 0 {
		t.Fatal("testdata/layouts has no files")
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			require(t, err)
			var g golden
			require(t, json.Unmarshal(text, &g))
			redistest.Both(t, func(t *testing.T, server *redistest.Server) {
				g.Redis.load(server)
				for codec, site := range goldenSites(t, server) {
					cookie, ok := g.Cookies[codec]
					if !ok {
						t.Errorf("there is no visitor with %s", codec)
						continue
					}
					testEarlierLayout(t, site, codec, cookie)
				}
			})
		})
	}
}

func testEarlierLayout(t *testing.T, site *site, user, cookie string) {
	t.Helper()
	b := site.browser().with(cookie)
	equal(t, user+": values and notifications",
		[]any{"Ann", "<ä>", "", 41.0, user, true, true, "not yet", "it is", "info=first error=second"},
		b.must("get:name", "get:a", "get:empty", "number:count", "user", "authtime", "remembered", "peek:seen", "take:saved", "drain"))
	infos := list(t, site, user)
	if len(infos) != 1 || infos[0].SignedIn.IsZero() || infos[0].Created.IsZero() || infos[0].LastSeen.IsZero() {
		t.Errorf("%s: the user's sessions: %+v", user, infos)
	}
	b.must("inc:count:1", "set:a:b", "rotate")
	equal(t, user+": after writes", []any{42.0, "b", "Ann", "not yet"}, b.must("number:count", "get:a", "get:name", "take:seen"))
	wantAnonymous(t, site, cookie)
	if n, err := site.app.RevokeUser(t.Context(), user); n != 1 || err != nil {
		t.Errorf("%s: %d sessions ended, %v", user, n, err)
	}
	wantAnonymous(t, site, b.cookie())
}

// wantLater wants an operation to have met a session that a later version has stored.
func wantLater(t *testing.T, op string, err error) {
	t.Helper()
	wantError(t, err, pycket.ErrUnavailable, "a later version of pycket has stored the session")
	if !errors.Is(err, pycket.ErrMisconfigured) {
		t.Errorf("%s: %v is not ErrMisconfigured", op, err)
	}
}

// A session that a later version has stored is neither read nor changed nor ended, nor does another begin in its place:
// each operation returns an error that says why.
func TestLaterLayout(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		for name, change := range map[string]func(record []byte) []byte{
			"the next":         func(record []byte) []byte { record[35] = '8'; return record },
			"a letter":         func(record []byte) []byte { record[35] = 'a'; return record },
			"nothing else":     func([]byte) []byte { return []byte(strings.Repeat("x", 36)) },
			"another verifier": func(record []byte) []byte { copy(record, "????"); record[35] = '9'; return record },
		} {
			t.Run(name, func(t *testing.T) { testLaterLayout(t, server.On(t), change) })
		}
	})
}

func testLaterLayout(t *testing.T, server *redistest.Server, change func([]byte) []byte) {
	server.Do(0, "FLUSHALL")
	s := settings(server)
	s.AbsoluteTimeout = 24 * time.Hour
	site := newSite(t, s)
	var failure error
	site.failed = func(err error) { failure = err }
	later, large, other := site.browser(), site.browser(), site.browser()
	later.must("login:ann", "set:a:b", "note:a:b", "add:i:t")
	large.must("login:ann", "set:a:"+strings.Repeat("x", 5000))
	other.must("login:ann")
	handles := map[*browser]string{}
	for _, b := range []*browser{later, large} {
		key := keyOf(idOf(t, b.cookie()))
		handles[b] = strings.Trim(strings.TrimPrefix(key, "pycket:s:"), "{}")
		server.Do(0, "HSET", key, "pycket:id", change([]byte(server.Hash(0, key)["pycket:id"])))
		server.Do(0, "PEXPIRE", key, time.Minute.Milliseconds())
	}
	theirs := func() stored { // without other
		all := dump(server)
		ours := func(at string) bool {
			return !slices.ContainsFunc(slices.Collect(maps.Values(handles)), func(h string) bool { return strings.Contains(at, h) })
		}
		maps.DeleteFunc(all.Hashes, func(at string, _ map[string][]byte) bool { return ours(at) })
		for at, scores := range all.Sets {
			maps.DeleteFunc(scores, func(member, _ string) bool { return ours(member) })
			for member := range scores {
				scores[member] = "" // in a cluster a login takes its place first
			}
			if len(scores) == 0 {
				delete(all.Sets, at)
			}
		}
		return all
	}
	before := theirs()
	for b := range handles {
		for _, op := range append([]string{"login:ann", "setuser:ann", "user", "remember", "remembered"}, everyOperation...) {
			failure = nil
			a, outcomes := b.tab().do(op)
			if failure == nil {
				t.Fatalf("%s: %v", op, outcomes)
			}
			wantLater(t, op, failure)
			if a.setsCookie() {
				t.Errorf("%s sets a cookie", op)
			}
		}
		wantLater(t, "revoke", site.app.Revoke(t.Context(), handles[b]))
	}
	_, err := site.app.Sessions(t.Context(), "ann")
	wantLater(t, "sessions", err)
	n, err := site.app.RevokeUser(t.Context(), "ann")
	wantLater(t, "revoke user", err)
	if wantAnonymous(t, site, other.cookie()); n != 1 {
		t.Errorf("%d sessions ended", n)
	}

	s.MaxSessionsPerUser, s.CacheFor = 1, time.Second
	limited := newSite(t, s)
	first, second := limited.browser(), limited.browser()
	first.must("login:ann")
	second.must("login:ann")
	equal(t, "what the later version has stored", before, theirs())
	if server.Nodes() == nil {
		wantAnonymous(t, limited, first.cookie()) // ended by the second
	}
	second.must("get:a")
	if server.Embedded() {
		return
	}
	limited.failed = func(err error) { failure = err }
	failure = nil
	for range 2 {
		tab := limited.browser().with(later.cookie())
		tab.do("get:a")
		wantLater(t, "get, with CacheFor", cmp.Or(failure, errors.New("none")))
	}
}
