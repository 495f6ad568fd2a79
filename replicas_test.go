package pycket_test

import (
	"errors"
	"net"
	"testing"
	"time"

	"github.com/pycket/pycket"
	"github.com/pycket/pycket/internal/redistest"
)

// unreplicated wants an operation to have been carried out, and too few replicas to have it.
func unreplicated(t *testing.T, err error) {
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
		wantError(t, site.app.Ping(t.Context()), pycket.ErrNotReplicated, "ping", "0 of 1", "Redis.WaitReplicas")
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
	server := redistest.Start(t)
	host, port, _ := net.SplitHostPort(server.Addr)
	replica := redistest.Start(t, "--replicaof", host+" "+port)
	s := settings(server)
	s.Redis.WaitReplicas = 1
	site := newSite(t, s)
	awaitReplicas(t, server, "{any}", 1)
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
	replica.Kill()
	unreplicated(t, revoke("nobody"))
}

// In a cluster, RevokeUser believes that a session has ended only if a replica of its own server confirms it.
func TestRevokeUserAsksTheSessionsMaster(t *testing.T) {
	server := redistest.StartCluster(t, 3, 1) // the replica is the first master's
	first := server.Nodes()[0].Addr
	user := "u"
	for server.NodeOf(listKey(user)).Addr != first {
		user += "u"
	}
	s := settings(server)
	s.Redis.WaitReplicas = 1
	s.Redis.Timeout = time.Second
	site := newSite(t, s)
	awaitReplicas(t, server.Nodes()[0], listKey(user), 1)
	for _, replicated := range []bool{true, false} {
		var key string
		for key == "" || (server.NodeOf(key).Addr == first) != replicated {
			b := site.browser()
			b.try("set:a:b")
			key = keyOf(idOf(t, b.cookie()))
			if (server.NodeOf(key).Addr == first) == replicated {
				b.try("login:" + user)
			}
		}
		server.Do(0, "DEL", key)
		_, err := site.app.RevokeUser(t.Context(), user)
		if replicated && err != nil || !replicated && !errors.Is(err, pycket.ErrNotReplicated) {
			t.Errorf("where a replica has the session, %v: %v", replicated, err)
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
	before := b.cookie()
	b.want([]outcome{unsure}, "rotate")
	wantAnonymous(t, site, before)
	b.want([]outcome{unsure, sure("ann"), sure("e"), unsure, sure(true)}, "login:ann", "user", "get:d", "remember", "remembered")
	b.want([]outcome{sure("ann"), sure("e"), sure(true)}, "user", "get:d", "remembered")
	b.want([]outcome{unsure, sure("bob"), sure("")}, "setuser:bob", "user", "get:d")
	after := b.cookie()
	b.want([]outcome{unsure, sure("")}, "destroy", "user")
	wantAnonymous(t, site, after)
}
