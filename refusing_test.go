package pycket_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gomodule/redigo/redis"
	"github.com/google/go-cmp/cmp"

	"github.com/pycket/pycket"
)

// A refusal is why a Redis that answers refuses to be written to.
type refusal struct {
	name       string
	begin, end func(server *redisServer)
}

func refusals() []refusal {
	config := func(pairs ...any) func(*redisServer) {
		return func(server *redisServer) {
			for i := 0; i < len(pairs); i += 2 {
				server.do(0, "CONFIG", "SET", pairs[i], pairs[i+1])
			}
		}
	}
	return []refusal{
		{"OOM", config("maxmemory-policy", "noeviction", "maxmemory", "1"), config("maxmemory", "0")},
		{"NOREPLICAS", config("min-replicas-to-write", 1), config("min-replicas-to-write", 0)},
		{"MISCONF", func(server *redisServer) {
			config("save", "3600 1")(server)
			path, _ := redis.Strings(server.do(0, "CONFIG", "GET", "dir"), nil)
			os.Mkdir(filepath.Join(path[1], "dump.rdb"), 0o700) // where the file would be
			for {
				info, _ := redis.String(server.do(0, "INFO", "persistence"), nil)
				if strings.Contains(info, "rdb_last_bgsave_status:err") {
					break
				}
				if strings.Contains(info, "rdb_bgsave_in_progress:0") {
					server.do(0, "BGSAVE")
				}
				time.Sleep(5 * time.Millisecond)
			}
		}, config("save", "")},
		{"READONLY",
			func(server *redisServer) { server.do(0, "REPLICAOF", "127.0.0.1", "1") }, // no such master: the data stays
			func(server *redisServer) { server.do(0, "REPLICAOF", "NO", "ONE") },
		},
	}
}

// refuse runs a test against a Redis, and a cluster, that begins to refuse writes when the test says so.
func refuse(t *testing.T, names string, test func(t *testing.T, server *redisServer, begin, end func())) {
	t.Helper()
	for _, r := range refusals() {
		if !strings.Contains(names, r.name) {
			continue
		}
		t.Run(r.name, func(t *testing.T) {
			t.Run("redis", func(t *testing.T) {
				server := startRedis(t)
				test(t, server, func() { r.begin(server) }, func() { r.end(server) })
			})
			if r.name == "READONLY" { // where a replica of a cluster says where its master is
				return
			}
			t.Run("cluster", func(t *testing.T) {
				server := clusterOf(t)
				each := func(f func(*redisServer)) {
					for _, node := range server.nodes {
						f(&redisServer{t: t, addr: node.addr})
					}
				}
				t.Cleanup(func() { each(r.end) })
				test(t, server, func() { each(r.begin) }, func() { each(r.end) })
			})
		})
	}
}

// overdue makes the next use of a session renew its timeout and, in a cluster, its place on its account's list.
func overdue(server *redisServer, key string) {
	half := 12 * time.Hour
	server.do(0, "PEXPIRE", key, half.Milliseconds())
	if len(server.nodes) > 0 {
		server.do(0, "HSET", key, "pycket:listed", time.Now().Add(half).UnixMilli())
		server.do(0, "HDEL", key, "pycket:asked")
	}
}

// To end a session takes no memory: nobody stays signed in because Redis is full.
func TestEndingNeedsNoMemory(t *testing.T) {
	for name, end := range map[string]func(site *site, b *browser, handle string) error{
		"destroy": func(_ *site, b *browser, _ string) error {
			if a := b.want([]outcome{{}}, "destroy"); !a.setsCookie() || b.cookie() != "" {
				return errors.New("the cookie stays")
			}
			return nil
		},
		"revoke": func(site *site, _ *browser, handle string) error { return site.app.Revoke(site.t.Context(), handle) },
		"revoke user": func(site *site, _ *browser, _ string) error {
			n, err := site.app.RevokeUser(site.t.Context(), "ann")
			if n != 1 {
				err = errors.Join(err, fmt.Errorf("%d were ended", n))
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			refuse(t, "OOM", func(t *testing.T, server *redisServer, begin, recover func()) {
				site := newSite(t, settings(server))
				b := site.browser()
				b.must("login:ann", "set:a:b", "rotate", "note:x:y", "add:i:t")
				late, old := b.tab(), b.cookie()
				key := keyOf(idOf(t, old))
				overdue(server, key)
				begin()
				_, list := site.whileHeld(late, []string{"hold", "set:a:late"}, func() {
					if err := end(site, b, strings.Trim(strings.TrimPrefix(key, "pycket:s:"), "{}")); err != nil {
						t.Error(err)
					}
				})
				if list[1].Err != "ErrGone" {
					t.Errorf("a late write: %v", list)
				}
				wantAnonymous(t, site, old)
				recover()
				late.want([]outcome{{Err: "ErrGone"}}, "set:a:late") // so the mark was made, too
				wantAnonymous(t, site, old)
				wantNothingLeft(t, server)
			})
		})
	}
}

// Without room for the mark, too, a session ends, and a late write starts a fresh one at most.
func TestEndingWithoutMark(t *testing.T) {
	server := startRedis(t)
	site := newSite(t, settings(server))
	b := site.browser()
	b.must("login:ann", "set:a:b", "rotate", "note:x:y")
	late, old := b.tab(), b.cookie()
	key := keyOf(idOf(t, old))
	server.do(0, "HDEL", key, "pycket:ended") // as if never rotated
	server.do(0, "ACL", "SETUSER", "default", "-hset")
	b.must("destroy")
	if n := server.size(); n != 0 || b.cookie() != "" {
		t.Errorf("%d keys stand; the cookie: %q", n, b.cookie())
	}
	server.do(0, "ACL", "SETUSER", "default", "+hset")
	late.want([]outcome{{}, {Value: ""}}, "set:c:late", "get:a")
	wantAnonymous(t, site, old)
	if id := idOf(t, late.cookie()); keyOf(id) == key {
		t.Error("the old session stands again")
	}
}

// A login takes memory, and is refused like every other write.
func TestLoginNeedsMemory(t *testing.T) {
	refuse(t, "OOM", func(t *testing.T, server *redisServer, begin, recover func()) {
		site := newSite(t, settings(server))
		b := site.browser()
		b.must("login:ann", "set:a:b")
		key := keyOf(idOf(t, b.cookie()))
		before := server.hash(0, key)
		begin()
		for _, user := range []string{"ann", "bob"} {
			b.want([]outcome{{Err: "ErrUnavailable"}}, "login:"+user)
			b.with("").want([]outcome{{Err: "ErrUnavailable"}}, "login:"+user)
		}
		recover()
		if diff := cmp.Diff(before, server.hash(0, key)); diff != "" {
			t.Errorf("(-before +after):\n%s", diff)
		}
		b.want([]outcome{{Value: "b"}, {Value: "ann"}}, "get:a", "user")
	})
}

// A Redis that refuses writes still answers reads, though the idle timeout should be renewed by them; and when it
// takes writes again, it is.
func TestReadsWhileWritesAreRefused(t *testing.T) {
	refuse(t, "OOM NOREPLICAS MISCONF READONLY", func(t *testing.T, server *redisServer, begin, recover func()) {
		s := settings(server)
		s.AbsoluteTimeout = 48 * time.Hour
		site := newSite(t, s)
		b, noted := site.browser(), site.browser()
		b.must("login:ann", "set:a:b")
		noted.must("login:ann", "note:x:y", "add:i:t")
		keys := []string{keyOf(idOf(t, b.cookie())), keyOf(idOf(t, noted.cookie()))}
		began := func(ago time.Duration) {
			for _, key := range keys {
				record := []byte(server.hash(0, key)["pycket:id"])
				copy(record[22:35], fmt.Sprintf("%013d", time.Now().Add(-ago).UnixMilli()))
				server.do(0, "HSET", key, "pycket:id", record)
			}
		}
		for _, key := range keys {
			overdue(server, key)
		}
		begin()
		for range 2 { // the first may take longer than the next
			for op, want := range map[string]any{
				"get:a": "b", "has:a": true, "keys": []any{"a"}, "user": "ann", "authtime": true,
				"peek:x": "", "nhas:x": false, "nkeys": []any{}, "take:x": "", "drain": "",
			} {
				b.want([]outcome{{Value: want}}, op)
			}
			for op, want := range map[string]any{"peek:x": "y", "nhas:x": true, "nkeys": []any{"x"}, "user": "ann"} {
				noted.want([]outcome{{Value: want}}, op)
			}
		}
		if infos, err := site.app.Sessions(t.Context(), "ann"); len(infos) != 2 || err != nil {
			t.Errorf("%d sessions: %v", len(infos), err)
		}
		recover()

		awaitRenewal := func() {
			t.Helper()
			for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
				b.must("get:a")
				if left := server.do(0, "PTTL", keys[0]).(int64); left > (23 * time.Hour).Milliseconds() {
					return
				}
				if time.Since(began) > bound {
					t.Fatal("the idle timeout is not renewed")
				}
			}
		}
		overdue(server, keys[0])
		awaitRenewal()
		noted.want([]outcome{{Value: "y"}, {Value: "i=t"}}, "take:x", "drain")

		began(49 * time.Hour)
		begin()
		for range 2 {
			b.want([]outcome{{Value: ""}, {Value: ""}, {Value: ""}}, "user", "get:a", "take:x")
			b.tab().want([]outcome{{Value: []any{}}}, "keys")
		}
		recover()
	})
}

// What would be taken stays where it is, and is not handed out.
func TestTakesWhileWritesAreRefused(t *testing.T) {
	refuse(t, "NOREPLICAS MISCONF READONLY", func(t *testing.T, server *redisServer, begin, recover func()) {
		site := newSite(t, settings(server))
		b := site.browser()
		b.must("note:x:y", "add:i:t")
		for range 2 {
			overdue(server, keyOf(idOf(t, b.cookie())))
			begin()
			b.want([]outcome{{Value: "", Err: "ErrUnavailable"}, {Value: "", Err: "ErrUnavailable"}}, "take:x", "drain")
			recover()
		}
		b.want([]outcome{{Value: "y"}, {Value: "i=t"}}, "take:x", "drain")
	})
}

// After a failover behind one address, a read is answered by the old master, which refuses its renewal, and leads
// to the new one.
func TestReadsFindTheMaster(t *testing.T) {
	old, next := startRedis(t), startRedis(t)
	proxy := newProxy(t, old)
	s := settings(old)
	s.Redis.URL = "redis://" + proxy.addr
	site := newSite(t, s)
	b := site.browser()
	b.must("set:a:old")
	key := old.sessionKey()
	for name, value := range old.hash(0, key) {
		next.do(0, "HSET", key, name, value)
	}
	next.do(0, "HSET", key, "a", `"next"`)
	overdue(old, key)
	overdue(next, key)
	old.do(0, "REPLICAOF", "127.0.0.1", "1")
	proxy.mu.Lock()
	proxy.upstream = next.addr
	proxy.mu.Unlock()
	for began := time.Now(); ; {
		if value := b.must("get:a")[0]; value == "next" {
			break
		}
		if time.Since(began) > bound {
			t.Fatal("the old master is still asked")
		}
	}
}

// In a cluster, nobody signs in without a place on the account's list: not because Redis refuses to write it down
// either. Only a key that is not pycket's is passed over.
func TestLoginWhenItsListRefuses(t *testing.T) {
	for _, r := range refusals() {
		if r.name == "READONLY" {
			continue
		}
		t.Run(r.name, func(t *testing.T) {
			server := clusterOf(t)
			a := newApart(t, server, settings(server))
			cookie, before := a.b.cookie(), server.hash(0, a.session)
			node := server.nodeOf(a.list)
			t.Cleanup(func() { r.end(node) })
			r.begin(node)
			wantError(t, a.use(a.login), pycket.ErrUnavailable, "login", r.name)
			wantError(t, a.use(func(s *pycket.SessionManager) error { return s.SetUser(a.user) }), pycket.ErrUnavailable, "set user", r.name)
			if diff := cmp.Diff(before, server.hash(0, a.session)); diff != "" || a.b.cookie() != cookie {
				t.Errorf("cookie changed: %v; (-before +after):\n%s", a.b.cookie() != cookie, diff)
			}
			r.end(node)
			if err := a.use(a.login); err != nil {
				t.Error(err)
			}
			a.covered()
			if n, err := a.app.RevokeUser(t.Context(), a.user); n != 1 || err != nil {
				t.Errorf("%d were ended: %v", n, err)
			}
		})
	}
	t.Run("wrong type", func(t *testing.T) {
		server := clusterOf(t)
		a := newApart(t, server, settings(server))
		server.do(0, "SET", a.list, "not pycket's")
		if err := a.use(a.login); err != nil {
			t.Error(err)
		}
	})
}

// An answer that no script gives is an error, and no reason to run the script again.
func TestUnknownVerdict(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	var run atomic.Int64
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for in := bufio.NewReader(c); ; {
					switch name, err := readCommand(in, new(bytes.Buffer)); {
					case err != nil:
						return
					case name == "EVALSHA":
						run.Add(1)
						c.Write([]byte(":99\r\n"))
					default:
						c.Write([]byte("+OK\r\n"))
					}
				}
			}()
		}
	}()
	server := startRedis(t)
	b := newSite(t, settings(server)).browser()
	b.must("set:a:b")
	s := settings(server)
	s.Redis.URL = "redis://" + listener.Addr().String()
	site := newSite(t, s)
	for _, visitor := range []*browser{site.receive(b), site.browser()} {
		for _, op := range everyOperation {
			run.Store(0)
			a, list := visitor.tab().do(op)
			if n := run.Load(); n > 1 || n == 1 && !strings.Contains(list[0].Err, "malformed") || a.setsCookie() {
				t.Errorf("%s: %v, after %d runs; cookie set: %v", op, list, n, a.setsCookie())
			}
		}
	}
	wantError(t, site.app.Revoke(t.Context(), "0123456789abcdef"), nil, "revoke", "malformed")
}

// A Redis with one database: whoever first asks it for something learns which setting to change, and nothing is
// begun.
func TestOneDatabase(t *testing.T) {
	server := startRedis(t, "--databases", "1")
	var failures []error
	site := newSite(t, settings(server))
	site.failed = func(err error) { failures = append(failures, err) }
	wantError(t, site.app.Ping(t.Context()), pycket.ErrUnavailable, "ping", "Redis.DBNotifications", "DB index is out of range")
	b := site.browser()
	for _, op := range []string{"set:a:b", "login:ann", "note:a:b", "add:i:t"} {
		failures = nil
		if a, list := b.do(op); list[0].Err != "ErrUnavailable" || a.setsCookie() {
			t.Errorf("%s: %v, cookie set: %v", op, list, a.setsCookie())
		}
		for _, err := range failures {
			wantError(t, err, pycket.ErrUnavailable, "Redis.DBNotifications")
		}
	}
	if n := len(server.keys(0)); n != 0 {
		t.Errorf("%d keys stand", n)
	}

	s := settings(server)
	s.Redis.DBSessions, s.Redis.DBNotifications = new(3), new(0)
	wantError(t, newApp(t, s).Ping(t.Context()), pycket.ErrUnavailable, "ping", "Redis.DBSessions")
	s.Redis.DBSessions = nil
	s.Redis.URL += "/4"
	wantError(t, newApp(t, s).Ping(t.Context()), pycket.ErrUnavailable, "ping", "Redis.URL")

	for name, adjust := range map[string]func(*pycket.RedisSettings){
		"set":        func(r *pycket.RedisSettings) { r.DBNotifications = new(0) },
		"in the URL": func(r *pycket.RedisSettings) { r.URL += "/0" },
	} {
		t.Run(name, func(t *testing.T) {
			s := settings(server)
			adjust(&s.Redis)
			site := newSite(t, s)
			if err := site.app.Ping(t.Context()); err != nil {
				t.Error(err)
			}
			b := site.browser()
			b.must("login:ann", "set:a:b", "note:x:y", "add:i:t")
			b.want([]outcome{{Value: "y"}, {Value: "i=t"}, {}}, "take:x", "drain", "destroy")
		})
	}
}

// What was begun in one database is not left half done because the other is out of reach.
func TestOtherDatabaseIsForbidden(t *testing.T) {
	server := startRedis(t)
	s := settings(server)
	s.MaxSessionsPerUser = 1
	site := newSite(t, s)
	b := site.browser()
	b.must("login:ann", "set:a:b", "note:x:y", "add:i:t")
	key := keyOf(idOf(t, b.cookie()))
	before := server.hash(0, key)
	server.do(0, "ACL", "SETUSER", "default", "-select")
	for _, op := range []string{"destroy", "set:a:c", "take:x", "drain", "ndelete:x", "note:z:z", "add:i:u", "login:bob", "rotate"} {
		if _, list := b.do(op); list[0].Err != "ErrUnavailable" {
			t.Errorf("%s: %v", op, list)
		}
	}
	b.with("").want([]outcome{{Err: "ErrUnavailable"}}, "login:ann") // it would end the other
	if keys := server.keys(0); len(keys) != 2 {
		t.Errorf("%q stand", keys)
	}
	wantError(t, site.app.Revoke(t.Context(), strings.Trim(strings.TrimPrefix(key, "pycket:s:"), "{}")), pycket.ErrUnavailable, "revoke")
	server.do(0, "ACL", "SETUSER", "default", "+select")
	if diff := cmp.Diff(before, server.hash(0, key)); diff != "" {
		t.Errorf("(-before +after):\n%s", diff)
	}
	b.want([]outcome{{Value: "b"}, {Value: "y"}, {Value: "i=t"}, {}}, "get:a", "take:x", "drain", "destroy")
	wantNothingLeft(t, server)
}

// A server that refuses writes may be one that others have left: it does not say that nobody was signed in.
func TestRevokeUserWhileWritesAreRefused(t *testing.T) {
	refuse(t, "NOREPLICAS MISCONF READONLY", func(t *testing.T, server *redisServer, begin, recover func()) {
		site := newSite(t, settings(server))
		site.browser().must("login:ann")
		begin()
		for _, user := range []string{"ann", "bob"} {
			n, err := site.app.RevokeUser(t.Context(), user)
			wantError(t, err, pycket.ErrUnavailable, "revoke user")
			if n != 0 {
				t.Errorf("%d were ended", n)
			}
		}
		recover()
		if n, err := site.app.RevokeUser(t.Context(), "ann"); n != 1 || err != nil {
			t.Errorf("%d were ended: %v", n, err)
		}
	})
}
