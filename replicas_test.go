package pycket_test

import (
	"errors"
	"net"
	"regexp"
	"testing"
	"time"

	"github.com/gomodule/redigo/redis"
	"github.com/pycket/pycket"
	"github.com/pycket/pycket/internal/redistest"
)

// unreplicated wants an operation to have been carried out, and too few replicas to have it.
func unreplicated(t testing.TB, err error) {
	t.Helper()
	wantError(t, err, pycket.ErrNotReplicated)
	if errors.Is(err, pycket.ErrUnavailable) {
		t.Errorf("%v is also ErrUnavailable", err)
	}
}

var unsure = outcome{Err: "ErrNotReplicated"}

func sure(value any) outcome     { return outcome{Value: value} }
func unsureOf(value any) outcome { return outcome{Value: value, Err: "ErrNotReplicated"} }

// A write that too few replicas have returns ErrNotReplicated, and all goes on as if it had returned nil. Reads don't wait.
func TestNotReplicated(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) { // which has no replicas
		s := settings(server)
		s.Redis.WaitReplicas, s.Redis.Timeout, s.MaxSessionsPerUser = 1, 3*shortTimeout, 5
		site := newSite(t, s)
		wantError(t, site.app.Ping(t.Context()), pycket.ErrNotReplicated, "ping", "too few replicas have confirmed it in time", "0 of 1", "Redis.WaitReplicas")
		if server.Embedded() { // there it does not take time
			testNotReplicated(t, site)
		}
		b := site.browser()
		if a := b.want([]outcome{unsure, sure("b"), unsureOf(1.0)}, "set:a:b", "get:a", "inc:n:1"); !a.setsCookie() {
			t.Error("the first write sets no cookie")
		}
		for range 2 {
			site.browser().want([]outcome{unsure}, "login:ann")
		}
		infos := list(t, site, "ann")
		equal(t, "sessions", 2, len(infos))
		unreplicated(t, site.app.Revoke(t.Context(), infos[0].Handle))
		n, err := site.app.RevokeUser(t.Context(), "ann")
		unreplicated(t, err)
		equal(t, "sessions ended", 1, n)
		equal(t, "sessions left", 0, len(list(t, site, "ann")))
	})
}

// RevokeUser believes a list only if a replica confirms that it is the master's: a master that was replaced, and does not
// know, may have none. A full Redis confirms nothing, and ends sessions all the same.
func TestRevokeUserAsksTheMaster(t *testing.T) {
	site, server, replica := replicatedSite(t)
	revoke := func(user string) error {
		_, err := site.app.RevokeUser(t.Context(), user)
		return err
	}
	b := site.browser()
	b.must("login:ann")
	noError(t, revoke("ann"))
	b.want([]outcome{{Value: ""}}, "user")
	noError(t, revoke("nobody"))
	equal(t, "lists", 0, len(server.Do(0, "KEYS", "pycket:u:*").([]any)))
	full := site.browser()
	full.must("login:bob")
	server.Do(0, "CONFIG", "SET", "maxmemory", "1")
	noError(t, revoke("bob"))
	full.want([]outcome{{Value: ""}}, "user")
	server.Do(0, "CONFIG", "SET", "maxmemory", "0")
	hangReplica(t, server, replica)
	unreplicated(t, revoke("nobody"))
}

// replicatedSite starts a server, its replica, and a site that waits for it.
func replicatedSite(t *testing.T) (site *site, server, replica *redistest.Server) {
	t.Helper()
	server, replica = redistest.Start(t), redistest.Start(t)
	host, port, _ := net.SplitHostPort(server.Addr)
	replica.Do(0, "REPLICAOF", host, port)
	s := settings(server)
	s.Redis.WaitReplicas, s.Redis.Timeout = 1, 2*time.Second
	awaitReplicas(t, server, "{any}", 1)
	server.Do(0, "DEL", "{any}")
	return newSite(t, s), server, replica
}

// hangReplica suspends a replica that has confirmed all there is. To its master it is like one that has another master
// now: connected, and a WAIT that follows no write believes that it has it.
func hangReplica(t *testing.T, master, replica *redistest.Server) {
	t.Helper()
	offsets := regexp.MustCompile(`(?s)slave0:.*,offset=(\d+),.*master_repl_offset:(\d+)`)
	await(t, "confirmations of the replica", func() bool {
		info, _ := redis.String(master.Do(0, "INFO", "replication"), nil)
		found := offsets.FindStringSubmatch(info)
		return found != nil && found[1] == found[2]
	})
	replica.Suspend()
}

// Nor do Destroy and Revoke believe that there is no such session, or that it has ended, if no replica confirms it.
func TestEndingAsksTheMaster(t *testing.T) {
	site, server, replica := replicatedSite(t)
	var cookies, keys []string
	for range 2 {
		b := site.browser()
		b.must("set:a:b")
		cookies, keys = append(cookies, b.cookie()), append(keys, keyOf(idOf(t, b.cookie())))
	}
	server.Do(0, "DEL", keys[0])
	site.browser().with(cookies[1]).must("destroy")
	end := func(want outcome, check func(testing.TB, error), before func()) {
		t.Helper()
		for i, cookie := range cookies {
			before()
			site.browser().with(cookie).want([]outcome{want}, "destroy")
			before()
			check(t, site.app.Revoke(t.Context(), handleIn(keys[i])))
		}
	}
	end(outcome{}, noError, func() {})
	server.Do(0, "CONFIG", "SET", "maxmemory", "1")
	end(outcome{}, noError, func() {})
	server.Do(0, "CONFIG", "SET", "maxmemory", "0")
	equal(t, "keys", keys[1:], server.Keys(0))
	equal(t, "fields of the mark", 1, len(server.Hash(0, keys[1])))

	end(unsure, unreplicated, func() { replica.Resume(); hangReplica(t, server, replica) })
	site.browser().with(cookies[0]).want([]outcome{{}, {}}, "rotate", "destroy") // the first has found none
}

// A place is not removed from a list because such a master takes its session for dead.
func TestPruningAsksTheMaster(t *testing.T) {
	site, server, replica := replicatedSite(t)
	signIn(t, site, "ann")
	for _, want := range []int64{1, 2} {
		server.Do(0, "ZADD", listKey("ann"), time.Now().Add(-2*time.Minute).UnixMicro(), "missing-for-long")
		if want == 2 {
			hangReplica(t, server, replica)
		}
		wantSessions(t, site, "ann", 1)
		equal(t, "places", want, server.Do(0, "ZCARD", listKey("ann")).(int64))
	}
}

// In a cluster, RevokeUser believes that a session has ended only if a replica of its own server confirms it.
func TestRevokeUserAsksTheSessionsMaster(t *testing.T) {
	server := redistest.StartCluster(t, 3, 2)
	masters, replicas := server.Nodes()[:2], server.Nodes()[3:] // of each the replica
	on := func(key string, master *redistest.Server) bool { return server.NodeOf(key).Addr == master.Addr }
	user := "u"
	for !on(listKey(user), masters[0]) {
		user += "u"
	}
	s := settings(server)
	s.Redis.WaitReplicas = 1
	s.Redis.Timeout = time.Second
	site := newSite(t, s)
	awaitReplicas(t, masters[0], listKey(user), 1)
	for i, master := range masters {
		var key string
		for key == "" || !on(key, master) {
			b := site.browser()
			b.try("set:a:b")
			if key = keyOf(idOf(t, b.cookie())); on(key, master) {
				b.must("login:" + user)
			}
		}
		server.Do(0, "DEL", key)
		if i == 1 {
			hangReplica(t, master, replicas[i])
		}
		_, err := site.app.RevokeUser(t.Context(), user)
		if i == 0 && err != nil || i == 1 && !errors.Is(err, pycket.ErrNotReplicated) {
			t.Errorf("of a session on master %d: %v", i, err)
		}
		equal(t, "fields", 0, len(server.Hash(0, key)))
	}
}

func testNotReplicated(t *testing.T, site *site) {
	b := site.browser()
	if a := b.want([]outcome{unsure, sure("b")}, "set:a:b", "get:a"); !a.setsCookie() {
		t.Error("the first write sets no cookie")
	}
	b.want([]outcome{unsure, sure("c"), unsureOf(1.0), sure(1.0), unsureOf(1.0), unsureOf(2.0), sure(2.0), unsure, sure("")},
		"setmany:a:c:d:e", "get:a", "inc:n:1", "number:n", "update:u", "update:u", "number:u", "delete:a", "get:a")
	b.want([]outcome{sure(""), sure(1.0), sure(2.0), sure("e"), sure([]any{"d", "n", "u"})}, "get:a", "number:n", "number:u", "get:d", "keys")
	b.want([]outcome{unsure, unsure, unsure, sure("1"), sure("2"), sure([]any{"p", "q", "r"})},
		"note:p:1", "notemany:q:2:r:3", "add:i:t", "peek:p", "peek:q", "nkeys")
	b.want([]outcome{unsureOf("1"), sure(""), unsure, sure([]any{"q"}), unsureOf("i=t"), sure("")}, "take:p", "take:p", "ndelete:r", "nkeys", "drain", "drain")
	b.want([]outcome{unsure, unsureOf("1"), sure(""), sure("")}, "set:once:1", "pop:once", "get:once", "pop:none")
	before := b.cookie()
	b.want([]outcome{unsure}, "rotate")
	wantAnonymous(t, site, before)
	b.want([]outcome{unsure, sure("ann"), sure("e"), unsure, sure(true)}, "login:ann", "user", "get:d", "remember", "remembered")
	b.want([]outcome{sure("ann"), sure("e"), sure(true)}, "user", "get:d", "remembered")
	b.want([]outcome{unsure, sure("bob"), sure("")}, "setuser:bob", "user", "get:d")
	b.want([]outcome{unsure, unsure, sure("")}, "set:a:b", "clear", "get:a")
	after := b.cookie()
	b.want([]outcome{unsure, sure("")}, "destroy", "user")
	wantAnonymous(t, site, after)
}
