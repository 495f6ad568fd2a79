package pycket_test

import (
	"context"
	"fmt"
	"maps"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/gomodule/redigo/redis"
	"go.uber.org/goleak"

	"github.com/pycket/pycket"
	"github.com/pycket/pycket/internal/redistest"
)

// A slot that moves to another server is followed: while it does, and after.
func TestSlotMoves(t *testing.T) {
	server := redistest.StartCluster(t, 3, 0)
	site := newSite(t, settings(server))
	b := site.browser()
	b.must("set:a:b", "note:x:y", "note:z:z", "add:i:first")
	session := server.OnlyKey()
	tag := strings.TrimPrefix(session, "pycket:s:")
	b.must("get:a")
	move := server.BeginMove(session)
	b.want([]outcome{{Value: "b"}, {Value: 1.0}}, "get:a", "inc:n:1")

	// The notifications have gone ahead: they are not handed out until the rest has followed, and then once.
	move.Carry("pycket:n:"+tag, "pycket:m:"+tag)
	b.want([]outcome{{Value: 2.0}}, "inc:n:1")
	server.Scripts()
	done := make(chan []outcome)
	go func() {
		_, list, _ := b.tab().try("take:x", "drain", "inc:n:1")
		done <- list
	}()
	await(t, "a refusal", func() bool { _, refused := server.Scripts(); return refused > 0 })
	move.Carry(session)
	equal(t, "while the slot moves", []outcome{{Value: "y"}, {Value: "i=first"}, {Value: 3.0}}, <-done)
	b.want([]outcome{{Value: "b"}, {}, {Value: 4.0}, {Value: "z"}}, "get:a", "set:a:c", "inc:n:1", "take:z")

	move.End()
	b.want([]outcome{{Value: "c"}, {Value: 5.0}}, "get:a", "inc:n:1")
	server.Scripts()
	b.must("get:a")
	if run, refused := server.Scripts(); run != 1 || refused != 0 {
		t.Errorf("after the slot has moved, a read takes %d scripts, and %d are refused", run, refused)
	}
	b.must("rotate", "note:bye:x", "destroy")
}

// What is done before a session's keys have moved is done whole: a key that is gone can't be made again there.
func TestEndsWhileSlotMoves(t *testing.T) {
	ends := maps.Clone(endings)
	ends["login again"] = func(_ *site, b *browser) error { b.must("login:bob", "destroy"); return nil }
	server := redistest.StartCluster(t, 3, 0)
	s := settings(server)
	s.Redis.Timeout = shortTimeout
	site := newSite(t, s)
	for _, with := range [][]string{nil, {"note:x:y"}, {"add:i:t"}, {"note:x:y", "add:i:t"}} {
		for name, end := range ends {
			t.Run(fmt.Sprint(name, with), func(t *testing.T) {
				server.Do(0, "FLUSHALL")
				b := site.browser()
				b.must(append([]string{"set:a:b", "login:ann"}, with...)...)
				late := b.tab()
				key := keyOf(idOf(t, b.cookie()))
				move := server.BeginMove(key)
				noError(t, end(site, b))
				late.want([]outcome{{Err: "ErrGone"}}, "set:a:late")
				move.Undo()
				wantAnonymous(t, site, late.cookie())
				wantNothingLeft(t, server)
			})
		}
	}
}

// When the user changes while the notifications of the one before have gone ahead, or stayed behind, they are not
// handed to the next, nor when all have come.
func TestUserChangesWhileSlotMoves(t *testing.T) {
	server := redistest.StartCluster(t, 3, 0)
	s := settings(server)
	s.Redis.Timeout = shortTimeout
	site := newSite(t, s)
	for _, ahead := range [][]string{nil, {"pycket:n:"}, {"pycket:m:"}, {"pycket:n:", "pycket:m:"}, {"pycket:s:"}, {"pycket:s:", "pycket:n:"}} {
		for _, late := range []string{"note:own:note", "add:info:own"} {
			t.Run(fmt.Sprint(ahead, late), func(t *testing.T) {
				server.Do(0, "FLUSHALL")
				b := site.browser()
				b.must("signin:ann:address:x", "note:x:for Ann", "add:info:for Ann")
				session := keyOf(idOf(t, b.cookie()))
				tag := strings.TrimPrefix(session, "pycket:s:")
				move := server.BeginMove(session)
				for _, kind := range ahead {
					move.Carry(kind + tag)
				}
				b.want([]outcome{{}, {Value: "bob"}, {Value: []any{}}, {Value: []any{}}, {Value: ""}}, "login:bob", "user", "keys", "nkeys", "drain")
				_, list := b.do(late) // it may have to wait
				move.Carry(session, "pycket:n:"+tag, "pycket:m:"+tag)
				move.End()
				if list[0].Err != "" {
					b.must(late)
				}
				want := []outcome{{Value: []any{"own"}}, {Value: ""}}
				if late == "add:info:own" {
					want = []outcome{{Value: []any{}}, {Value: "info=own"}}
				}
				b.want(want, "nkeys", "drain")
			})
		}
	}
}

// So is the last notification taken, be there messages or none, here or there.
func TestTakesWhileSlotMoves(t *testing.T) {
	server := redistest.StartCluster(t, 3, 0)
	s := settings(server)
	s.Redis.Timeout = shortTimeout
	site := newSite(t, s)
	for _, with := range [][]string{nil, {"add:i:t"}} {
		server.Do(0, "FLUSHALL")
		b := site.browser()
		b.must(append(with, "note:x:y", "note:z:z")...)
		session := server.OnlyKey()
		tag := strings.TrimPrefix(session, "pycket:s:")
		move := server.BeginMove(session)
		if with != nil {
			move.Carry("pycket:m:" + tag)
		}
		b.want([]outcome{{}, {Value: "y"}, {Value: ""}}, "ndelete:z", "take:x", "get:x")
		move.Carry(session)
		move.End()
		want := ""
		if with != nil {
			want = "i=t"
		}
		b.want([]outcome{{Value: want}, {Value: []any{}}}, "drain", "nkeys")
	}
}

// When a master dies, hangs or vanishes, its sessions are unavailable, within the timeout, until a replica has taken over;
// then they are there, with no restart. Those on other servers do not notice.
func TestClusterFailover(t *testing.T) {
	for name, signal := range map[string]syscall.Signal{"dies": syscall.SIGKILL, "hangs": syscall.SIGSTOP, "vanishes": syscall.SIGSTOP} {
		t.Run(name, func(t *testing.T) { testFailover(t, signal, name == "vanishes") })
	}
}

func testFailover(t *testing.T, signal syscall.Signal, vanishes bool) {
	server := redistest.StartCluster(t, 3, 1)
	s := settings(server)
	s.Redis.Timeout = shortTimeout
	master := server.Nodes()[0]
	var gone atomic.Bool
	s.Redis.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		if gone.Load() && address == master.Addr { // the packets are dropped
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	site := newSite(t, s)
	// on is a browser whose session is on the master, or elsewhere.
	on := func(there bool) *browser {
		for {
			b := site.browser()
			if b.must("set:a:kept"); (server.NodeOf(keyOf(idOf(t, b.cookie()))).Addr == master.Addr) == there {
				return b
			}
		}
	}
	onDead, elsewhere := on(true), on(false)
	awaitReplicas(t, master, keyOf(idOf(t, onDead.cookie())), 1)
	gone.Store(vanishes)
	master.Signal(signal)
	failures := 0
	for took := false; !took; {
		_, list := onDead.do("set:b:c") // a write is not tried again by itself
		switch {
		case list[0].Err == "ErrUnavailable" && failures < 1000:
			failures++
		case list[0] == outcome{}:
			took = true
		default:
			t.Fatalf("%v, after %d failures", list, failures)
		}
		elsewhere.want([]outcome{{Value: "kept"}}, "get:a")
	}
	if failures == 0 {
		t.Error("nothing has failed")
	}
	onDead.want([]outcome{{Value: "kept"}, {}, {Value: "after"}, {}}, "get:a", "set:a:after", "get:a", "login:ann")
}

// awaitReplicas waits until so many replicas have all that a master has: only that can survive it. WAIT is for what its own
// connection has written, so something is written first, beside a key of the master's.
func awaitReplicas(t *testing.T, master *redistest.Server, key string, replicas int) {
	t.Helper()
	c, err := redis.Dial("tcp", master.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Do("PSETEX", key[strings.IndexByte(key, '{'):], 60_000, "x"); err != nil {
		t.Fatal(err)
	}
	if n, err := redis.Int(c.Do("WAIT", replicas, 30_000)); n != replicas || err != nil {
		t.Fatalf("%d replicas have it: %v", n, err)
	}
}

// Any seed will do; those that are dead, hang or have left the cluster do not matter.
func TestClusterSeeds(t *testing.T) {
	server := redistest.SharedCluster(t)
	hung := redistest.Fake(t, func([]string) string { return "" })
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead.Close()
	s := settings(server)
	left := redistest.Start(t, "--cluster-enabled", "yes") // it has left the cluster, and knows of no slots
	s.Redis.Cluster = []string{left.Addr, dead.Addr().String(), hung, server.Nodes()[2].Addr}
	app := newApp(t, s)
	noError(t, app.Ping(t.Context()))
	newSite(t, s).browser().must("set:a:b", "login:ann", "get:a")

	s.Redis.Cluster, s.Redis.Timeout = s.Redis.Cluster[:3], shortTimeout
	wantError(t, newApp(t, s).Ping(t.Context()), pycket.ErrUnavailable, "ping")
	newSite(t, s).browser().want([]outcome{{Err: "ErrUnavailable"}}, "set:a:b")

	lone := redistest.Start(t) // no cluster
	s.Redis.Cluster = []string{lone.Addr}
	wantError(t, newApp(t, s).Ping(t.Context()), pycket.ErrUnavailable, "ping", "cluster support disabled")
}

// Close ends what a cluster's App has begun, and what comes later fails.
func TestClusterClose(t *testing.T) {
	server := redistest.SharedCluster(t)
	ignore := goleak.IgnoreCurrent()
	site := unstartedSite(t, settings(server))
	parallel(32, func(int) { site.browser().must("login:ann") })
	equal(t, "sessions", 32, len(list(t, site, "ann")))
	var closing sync.WaitGroup
	closing.Go(func() { site.app.Close() })
	parallel(32, func(int) { site.browser().try("login:ann") })
	closing.Wait()
	_, err := site.app.Sessions(t.Context(), "ann")
	wantError(t, err, pycket.ErrUnavailable, "sessions", "closed")
	goleak.VerifyNone(t, ignore)
}
