package pycket_test

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gomodule/redigo/redis"

	"github.com/pycket/pycket"
	"github.com/pycket/pycket/internal/redistest"
)

// The layout that docs/storage.md describes.
func TestLayout(t *testing.T) {
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		site := newSite(t, settings(server))
		b := site.browser()
		before := time.Now().UnixMilli()
		b.must("setmany:foo:bar:n:<1>", "inc:count:41", "note:saved:it is", "add:info:first", "add:error:second")
		key := server.OnlyKey()
		if len(key) != len("pycket:s:{}")+16 || !strings.HasPrefix(key, "pycket:s:{") || !strings.HasSuffix(key, "}") {
			t.Errorf("the key is %q", key)
		}
		handle := key[len("pycket:s:"):]
		equal(t, "notifications' keys", []string{"pycket:m:" + handle, "pycket:n:" + handle}, slices.Sorted(slices.Values(server.Keys(1))))
		session := server.Hash(0, key)
		record := session["pycket:id"]
		id := idOf(t, b.cookie())
		line, all := sha256.Sum256(append([]byte("pycket handle "), id[:12]...)), sha256.Sum256(id)
		equal(t, "handle", "{"+base64.RawURLEncoding.EncodeToString(line[:12])+"}", handle)
		equal(t, "verifier", base64.RawURLEncoding.EncodeToString(all[:16]), record[:22])
		delete(session, "pycket:id")
		equal(t, "session", map[string]string{"foo": `"bar"`, "n": `"<1>"`, "count": "41"}, session)
		equal(t, "notifications", map[string]string{"saved": `"it is"`}, server.Hash(1, "pycket:n:"+handle))
		messages, _ := redis.Strings(server.Do(1, "LRANGE", "pycket:m:"+handle, 0, -1), nil)
		equal(t, "messages", []string{`{"level":"info","text":"first"}`, `{"level":"error","text":"second"}`}, messages)
		var created, size int64
		if _, err := fmt.Sscanf(record[22:], "%13d1%d", &created, &size); err != nil || created < before-1000 || created > time.Now().UnixMilli()+1000 {
			t.Errorf("the record is %q: %v", record, err)
		}
		want := int64(len(`foo"bar"n"<1>"count41saved"it is"{"level":"info","text":"first"}{"level":"error","text":"second"}`))
		equal(t, "bytes", want, size)
	})
}

// After every operation, no key is without a TTL, and none outlives the idle timeout.
func TestEveryKeyExpires(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		s := settings(server)
		s.IdleTimeout = time.Hour
		site := newSite(t, s)
		check := func(op string) {
			t.Helper()
			for db := range 2 {
				for _, key := range server.Keys(db) {
					if left := server.Do(db, "PTTL", key).(int64); left <= 0 || left > time.Hour.Milliseconds() {
						t.Errorf("after %s, %s has a TTL of %d ms", op, key, left)
					}
				}
			}
		}
		for _, op := range everyOperation {
			b := site.browser()
			b.do(op)
			check(op + " by a stranger")
			b.must("set:a:b", "inc:n:1", "note:a:b", "add:i:t")
			b.must(op)
			check(op)
			b.do(op)
			check(op + " again")
		}
	})
}

// A script uses a session's key no more after it has given it a TTL. Before Redis 7.2, if the clock is set back while a
// script runs, PEXPIRE makes a key one that has expired for the rest of the script: it would be found gone, and a write
// would make it again, without a TTL.
func TestTTLComesLast(t *testing.T) {
	server := redistest.Start(t)
	s := settings(server)
	s.MaxSessionsPerUser = 1
	site := newSite(t, s)
	wait := listen(t, server, "MONITOR")
	for _, op := range append([]string{"login:ann", "setuser:ann", "remember", "others"}, everyOperation...) {
		b := site.browser()
		b.must("login:ann", "set:a:b", "set:n:1", "note:a:b", "add:i:t") // which ends the session before
		key := keyOf(idOf(t, b.cookie()))
		server.Do(0, "HSET", key, "n", 1) // a number, to add to
		overdue(server, key)
		b.must(op)
	}
	noError(t, site.app.Revoke(t.Context(), handleOf(t, signIn(t, site, "ann"))))
	signIn(t, site, "ann")
	_, err := site.app.RevokeUser(t.Context(), "ann")
	noError(t, err)
	server.Do(0, "ECHO", "the end of the tour")
	seen, given := 0, map[string]bool{} // keys that the script has given a TTL
	command := regexp.MustCompile(`\[\d+ lua\] "([^"]*)" "(pycket:[snm]:[^"]*)"`)
	for line := range strings.Lines(wait()) {
		m := command.FindStringSubmatch(line)
		switch {
		case !strings.Contains(line, " lua] "): // the next script
			clear(given)
		case m == nil:
		case given[m[2]]:
			t.Errorf("after its TTL: %s", line)
		case m[1] == "PEXPIRE":
			given[m[2]] = true
			seen++
		}
	}
	if seen < 100 {
		t.Errorf("only %d TTLs were seen", seen)
	}
}

// Writes renew the idle timeout, reads at most once per tenth of it, and notifications live as long as
// their session.
func TestIdleTimeout(t *testing.T) {
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		s := settings(server)
		s.IdleTimeout = 1000 * time.Second
		site := newSite(t, s)
		b := site.browser()
		b.must("set:a:b", "note:a:b", "note:b:c", "add:i:t")
		key := server.OnlyKey()
		handle := strings.TrimPrefix(key, "pycket:s:")
		keys := []string{key, "pycket:n:" + handle, "pycket:m:" + handle}
		left := func() (list []int64) {
			for i, key := range keys {
				list = append(list, (server.Do(min(i, 1), "PTTL", key).(int64)+999)/1000)
			}
			return list
		}
		set := func(seconds int) {
			for i, key := range keys {
				server.Do(min(i, 1), "EXPIRE", key, seconds)
			}
		}
		for _, read := range []string{"get:a", "has:a", "keys", "handle", "peek:a", "nhas:a", "nkeys", "take:none"} {
			set(950)
			b.must(read)
			if slices.Max(left()) > 950 {
				t.Errorf("%s has renewed after less than a tenth: %v", read, left())
			}
			set(890)
			b.must(read)
			if slices.Min(left()) < 999 {
				t.Errorf("%s has not renewed after more than a tenth: %v", read, left())
			}
		}
		for _, write := range []string{"set:a:b", "setmany:a:b:c:d", "inc:n:1", "update:n", "delete:x", "rotate", "pop:a", "pop:none", "clear", "note:a:b", "add:i:t"} {
			set(950)
			b.must(write)
			if slices.Min(left()) < 999 {
				t.Errorf("%s has not renewed: %v", write, left())
			}
		}
	})
}

// begunAgo moves the beginning of a session.
func begunAgo(server *redistest.Server, key string, ago time.Duration) {
	record := []byte(server.Hash(0, key)["pycket:id"])
	copy(record[22:35], fmt.Sprintf("%013d", time.Now().Add(-ago).UnixMilli()))
	server.Do(0, "HSET", key, "pycket:id", record)
}

// AbsoluteTimeout is not outlived, by renewal, writes or rotation, and counts from when the session began.
func TestAbsoluteTimeout(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		s := settings(server)
		s.IdleTimeout, s.AbsoluteTimeout = 1000*time.Second, 3000*time.Second
		site := newSite(t, s)
		b := site.browser()
		b.must("set:a:b", "note:a:b")
		key := server.OnlyKey()
		for _, op := range []string{"set:a:b", "inc:n:1", "update:n", "rotate", "note:a:b", "get:a", "delete:x"} {
			server.Do(0, "PEXPIRE", key, 100_000)
			begunAgo(server, key, 2500*time.Second)
			b.must(op)
			if left := server.Do(0, "PTTL", key).(int64); left > 500_500 || left < 490_000 {
				t.Errorf("%s: %d ms are left, and the session may have 500 000", op, left)
			}
		}
		for _, op := range []string{"set:a:late", "get:a", "take:a"} {
			server.Do(0, "FLUSHALL")
			b := site.browser()
			b.must("set:a:b", "note:a:b")
			key = server.OnlyKey()
			begunAgo(server, key, 3001*time.Second)
			_, list := b.do(op)
			if list[0].Value != nil && list[0].Value != "" {
				t.Errorf("%s, after the end: %v", op, list)
			}
			if slices.Contains(server.Keys(0), key) {
				t.Errorf("%s, after the end: the session is still there", op)
			}
		}
	})
}

// A look at notifications renews a session only once a tenth of its idle timeout has passed, also when the absolute
// timeout leaves it less than that.
func TestNotificationsNearTheAbsoluteEnd(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		s := settings(server)
		s.AbsoluteTimeout = time.Hour
		b := newSite(t, s).browser()
		b.must("set:a:b")
		key := server.OnlyKey()
		server.Do(0, "PEXPIRE", key, (58 * time.Minute).Milliseconds())
		b.must("peek:a", "take:a", "drain")
		if left := server.Do(0, "PTTL", key).(int64); left > (58 * time.Minute).Milliseconds() {
			t.Errorf("renewed: %d ms are left", left)
		}
	})
}

// A tenth of an idle timeout need not be a whole number of milliseconds.
func TestIdleTimeoutOfAnyLength(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		const odd = time.Hour + 7*time.Millisecond
		s := settings(server)
		s.IdleTimeout = odd
		site := newSite(t, s)
		site.browser().must("login:ann", "remember:"+(odd+time.Millisecond).String(), "set:a:b")
		equal(t, "sessions", 1, len(list(t, site, "ann")))
	})
}

// Remember holds for as long as it is not called off, though it be as long as the idle timeout.
func TestRememberForTheIdleTimeout(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		s := settings(server)
		s.IdleTimeout = 30 * 24 * time.Hour
		b := newSite(t, s).browser()
		b.must("login:ann", "remember")
		a, _ := b.do("login:ann")
		if line := fmt.Sprint(a.header["Set-Cookie"]); !strings.Contains(line, "Max-Age=2592000") {
			t.Errorf("Set-Cookie: %s", line)
		}
		b.want([]outcome{{Value: true}}, "remembered")
	})
}

// A user's list outlasts a session that lasts longer from now on, since the setting was raised.
func TestListWhenTheIdleTimeoutIsRaised(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		s := settings(server)
		s.IdleTimeout = time.Hour
		b := newSite(t, s).browser()
		b.must("login:ann")
		s.IdleTimeout = 30 * 24 * time.Hour
		newSite(t, s).browser().with(b.cookie()).must("set:a:b")
		session := keyOf(idOf(t, b.cookie()))
		if lasts, list := server.Do(0, "PTTL", session).(int64), server.Do(0, "PTTL", listKey("ann")).(int64); list < lasts {
			t.Errorf("the session lasts %d ms, the list %d", lasts, list)
		}
	})
}

// A write that renews a user's session in a cluster, where its place on the list is taken by a second command, is
// carried out once.
func TestUpdateThatRenews(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		b := newSite(t, settings(server)).browser()
		b.must("login:ann", "update:n")
		server.Do(0, "HSET", keyOf(idOf(t, b.cookie())), "pycket:seen", 1)
		equal[any](t, "updates", 2.0, b.must("update:n")[0])
	})
}

// Names of notifications may be more than Lua can return at once.
func TestManyNotifications(t *testing.T) {
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		const many = 9000
		site := newSite(t, settings(server))
		site.works(site.browser(), func(_ *pycket.SessionManager, n *pycket.NotificationManager) error {
			values := pycket.Values{}
			for i := range many {
				values[fmt.Sprint(i)] = i
			}
			setErr := n.SetMany(values)
			names, err := n.Keys()
			if len(names) != many {
				t.Errorf("%d names", len(names))
			}
			return errors.Join(setErr, err, n.Delete(names...))
		})
	})
}

// What somebody else has put under a session's key is an error or no session, and never a panic.
func TestForeignKeys(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		site := newSite(t, settings(server))
		b := site.browser()
		b.must("set:a:b")
		old := b.cookie()
		key := server.OnlyKey()
		server.Do(0, "DEL", key)
		server.Do(0, "RPUSH", key, "of another type")
		_, list := b.do("get:a", "set:a:b")
		for _, o := range list {
			if !strings.Contains(o.Err, "pycket: ") || !strings.Contains(o.Err, `"a"`) || !strings.Contains(o.Err, "another Redis type") {
				t.Errorf("a list: %v", o)
			}
		}
		server.Do(0, "DEL", key)
		server.Do(0, "HSET", key, "a", `"foreign"`)
		b.want([]outcome{{Value: ""}, {Value: []any{}}}, "get:a", "keys")
		if server.Do(0, "PTTL", key).(int64) != -1 {
			t.Error("the foreign key was touched")
		}
		b.must("set:a:mine")
		if got := server.Hash(0, key); got["a"] != `"foreign"` {
			t.Errorf("the foreign key has become %v", got)
		}
		limited := settings(server)
		limited.AbsoluteTimeout = time.Hour
		server.Do(0, "HSET", key, "pycket:id", "something else")
		newSite(t, limited).browser().with(old).must("get:a", "set:a:mine", "drain")
		if got := server.Hash(0, key); got["a"] != `"foreign"` {
			t.Errorf("with an absolute timeout, the foreign key has become %v", got)
		}
	})
}

// A value that can't be decoded is an error that names it; the others stay readable.
func TestSpoiltValues(t *testing.T) {
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		site := newSite(t, settings(server))
		b := site.browser()
		b.must("setmany:a:good:b:good")
		server.Do(0, "HSET", server.OnlyKey(), "a", "{spoilt", "c", "")
		_, list := b.do("get:a", "get:b", "get:c", "keys", "delete:a", "get:a")
		for i, name := range map[int]string{0: `"a"`, 2: `"c"`} {
			if !strings.HasPrefix(list[i].Err, "pycket: get "+name+": ") || strings.Contains(list[i].Err, "spoilt") {
				t.Errorf("%s: %v", name, list[i])
			}
		}
		if list[1].Value != "good" || list[4].Err != "" || list[5].Err != "" {
			t.Errorf("the others: %v", list)
		}
		server.Do(1, "RPUSH", strings.Replace(server.OnlyKey(), ":s:", ":m:", 1), "x")
		b.must("add:i:t")
		server.Do(1, "RPUSH", strings.Replace(server.OnlyKey(), ":s:", ":m:", 1), "spoilt")
		if _, list := b.do("drain"); list[0].Value != "i=t" || !strings.Contains(list[0].Err, "2 messages") {
			t.Errorf("messages: %v", list)
		}
	})
}

// tour uses everything the library has, faults included.
func tour(t *testing.T, site *site, server *redistest.Server) (cookies []string) {
	t.Helper()
	b := site.browser()
	for _, op := range everyOperation {
		b.do("set:a:STORED", "note:a:STORED", "add:i:STORED", op)
		cookies = append(cookies, b.cookie())
		b.do(op)
	}
	server.Do(0, "FLUSHALL")
	b.must("set:a:STORED", "note:a:STORED")
	b.do("number:a", "inc:a:1", "set:pycket:STORED")
	server.Do(0, "HSET", server.OnlyKey(), "a", "{STORED")
	b.do("get:a", "update:a")
	for _, value := range hostileCookies(t, b.cookie()) {
		raw(t, site, "op=get:a&op=set:a:STORED", "PYCKET_ID="+value)
	}
	return append(cookies, b.cookie())
}

// secretsOf are all forms of ids that must stay between the browser and the application.
func secretsOf(t *testing.T, cookies []string) (list []string) {
	t.Helper()
	for _, cookie := range cookies {
		if cookie == "" {
			continue
		}
		id := idOf(t, cookie)
		list = append(list, cookie, string(id), string(id[:12]), string(id[12:]), fmt.Sprintf("%x", id[:12]), fmt.Sprintf("%x", id[12:]),
			base64.RawURLEncoding.EncodeToString(id[:12]), base64.RawURLEncoding.EncodeToString(id[12:])[:20],
			strings.Split(string(must(t, cookie)), "|")[1])
	}
	if len(list) < 20 {
		t.Fatal("the tour made too few sessions")
	}
	return append(list, secret)
}

// Nobody leaves a record behind who only reads or logs out.
func TestStrangersLeaveNothing(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		site := newSite(t, settings(server))
		client := newBrowser(t, site.URL)
		client.client.Jar = nil
		parallel(8, func(int) {
			for range 1250 {
				a, _, err := client.try("get:a", "keys", "take:a", "drain", "rotate", "destroy")
				if err != nil || a.setsCookie() {
					t.Error(a, err)
				}
			}
		})
		equal(t, "keys", 0, server.Size())
	})
}
