package pycket_test

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gomodule/redigo/redis"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/pycket/pycket"
)

// Round trips in a cluster are those of a single server, but for accounts: their list comes first.
func TestClusterRoundTrips(t *testing.T) {
	server := clusterOf(t)
	site := newSite(t, settings(server))
	b := site.browser()
	for range 100 { // every server has then seen the scripts
		site.browser().must("set:a:b", "refresh", "get:a", "inc:n:1", "update:n", "note:x:y", "take:x", "add:i:t", "drain", "rotate", "login:ann", "destroy")
	}
	if _, err := site.app.RevokeUser(t.Context(), "ann"); err != nil {
		t.Error(err)
	}
	for _, test := range []struct {
		want int
		ops  []string
	}{
		{0, nil},
		{1, []string{"set:a:b"}},
		{1, []string{"get:a", "get:b"}},
		{1, []string{"inc:n:1"}},
		{2, []string{"number:n", "update:n"}},
		{1, []string{"note:x:y"}},
		{1, []string{"take:x"}},
		{1, []string{"rotate"}},
		{2, []string{"login:ann"}},
		{1, []string{"get:a"}},
		{1, []string{"set:a:c"}},
		{1, []string{"destroy"}},
	} {
		server.scripts()
		b.must(test.ops...)
		if run, refused := server.scripts(); run != test.want || refused != 0 {
			t.Errorf("%v took %d scripts, and %d were refused; want %d", test.ops, run, refused, test.want)
		}
	}
}

// slotMove is a slot on its way from one server to another.
type slotMove struct {
	t        *testing.T
	slot     int
	from, to *redisServer
	all      []*redisServer
}

func beginMove(t *testing.T, server *redisServer, key string) *slotMove {
	t.Helper()
	m := &slotMove{t: t, slot: server.slotOf(key), from: server.nodeOf(key), all: server.nodes}
	for _, node := range server.nodes {
		if node.addr != m.from.addr {
			m.to = node
		}
	}
	m.to.do(0, "CLUSTER", "SETSLOT", m.slot, "IMPORTING", m.from.do(0, "CLUSTER", "MYID"))
	m.from.do(0, "CLUSTER", "SETSLOT", m.slot, "MIGRATING", m.to.do(0, "CLUSTER", "MYID"))
	return m
}

// carry moves keys.
func (m *slotMove) carry(keys ...string) {
	m.t.Helper()
	host, port, _ := net.SplitHostPort(m.to.addr)
	args := []any{host, port, "", 0, 5000, "KEYS"}
	for _, key := range keys {
		args = append(args, key)
	}
	m.from.do(0, "MIGRATE", args...)
}

// end makes the slot that of the server it came to.
func (m *slotMove) end() {
	m.t.Helper()
	id := m.to.do(0, "CLUSTER", "MYID")
	m.to.do(0, "CLUSTER", "SETSLOT", m.slot, "NODE", id)
	m.from.do(0, "CLUSTER", "SETSLOT", m.slot, "NODE", id)
}

// undo leaves the slot where it was.
func (m *slotMove) undo() {
	m.t.Helper()
	for _, node := range []*redisServer{m.from, m.to} {
		node.do(0, "CLUSTER", "SETSLOT", m.slot, "STABLE")
	}
}

// A slot that moves to another server is followed: while it does, and after.
func TestSlotMoves(t *testing.T) {
	server := startCluster(t, 3, 0)
	site := newSite(t, settings(server))
	b := site.browser()
	b.must("set:a:b", "note:x:y", "note:z:z", "add:i:first")
	session := server.sessionKey()
	tag := strings.TrimPrefix(session, "pycket:s:")
	b.must("get:a")
	move := beginMove(t, server, session)
	b.want([]outcome{{Value: "b"}, {Value: 1.0}}, "get:a", "inc:n:1")

	// The notifications have gone ahead: they are not handed out until the rest has followed, and then once.
	move.carry("pycket:n:"+tag, "pycket:m:"+tag)
	b.want([]outcome{{Value: 2.0}}, "inc:n:1")
	server.scripts()
	done := make(chan []outcome)
	go func() {
		_, list, _ := b.tab().try("take:x", "drain", "inc:n:1")
		done <- list
	}()
	for refused := 0; refused == 0; _, refused = server.scripts() {
		time.Sleep(time.Millisecond)
	}
	move.carry(session)
	if diff := cmp.Diff([]outcome{{Value: "y"}, {Value: "i=first"}, {Value: 3.0}}, <-done); diff != "" {
		t.Errorf("while the slot moves (-want +got):\n%s", diff)
	}
	b.want([]outcome{{Value: "b"}, {}, {Value: 4.0}, {Value: "z"}}, "get:a", "set:a:c", "inc:n:1", "take:z")

	move.end()
	b.want([]outcome{{Value: "c"}, {Value: 5.0}}, "get:a", "inc:n:1")
	server.scripts()
	b.must("get:a")
	if run, refused := server.scripts(); run != 1 || refused != 0 {
		t.Errorf("after the slot has moved, a read takes %d scripts, and %d are refused", run, refused)
	}
	b.must("rotate", "note:bye:x", "destroy")
}

// What is done before a session's keys have moved is done whole: a key that is gone can't be made again there.
func TestEndsWhileSlotMoves(t *testing.T) {
	server := startCluster(t, 3, 0)
	s := settings(server)
	s.Redis.Timeout = shortTimeout
	site := newSite(t, s)
	for _, with := range [][]string{nil, {"note:x:y"}, {"add:i:t"}, {"note:x:y", "add:i:t"}} {
		for name, end := range map[string]func(b *browser, handle string) error{
			"destroy": func(b *browser, _ string) error {
				if b.must("destroy"); b.cookie() != "" {
					return errors.New("the cookie stays")
				}
				return nil
			},
			"revoke": func(_ *browser, handle string) error { return site.app.Revoke(t.Context(), handle) },
			"revoke user": func(*browser, string) error {
				_, err := site.app.RevokeUser(t.Context(), "ann")
				return err
			},
			"login again": func(b *browser, _ string) error { b.must("login:bob", "destroy"); return nil },
		} {
			t.Run(fmt.Sprint(name, with), func(t *testing.T) {
				server.do(0, "FLUSHALL")
				b := site.browser()
				b.must(append([]string{"set:a:b", "login:ann"}, with...)...)
				late := b.tab()
				key := keyOf(idOf(t, b.cookie()))
				move := beginMove(t, server, key)
				if err := end(b, strings.Trim(strings.TrimPrefix(key, "pycket:s:"), "{}")); err != nil {
					t.Error(err)
				}
				late.want([]outcome{{Err: "ErrGone"}}, "set:a:late")
				move.undo()
				wantAnonymous(t, site, late.cookie())
				wantNothingLeft(t, server)
			})
		}
	}
}

// When the account changes while the notifications of the one before have gone ahead, or stayed behind, they are not
// handed to the next, nor when all have come.
func TestAccountChangesWhileSlotMoves(t *testing.T) {
	server := startCluster(t, 3, 0)
	s := settings(server)
	s.Redis.Timeout = shortTimeout
	site := newSite(t, s)
	for _, ahead := range [][]string{nil, {"pycket:n:"}, {"pycket:m:"}, {"pycket:n:", "pycket:m:"}, {"pycket:s:"}, {"pycket:s:", "pycket:n:"}} {
		for _, late := range []string{"note:own:note", "add:info:own"} {
			t.Run(fmt.Sprint(ahead, late), func(t *testing.T) {
				server.do(0, "FLUSHALL")
				b := site.browser()
				b.must("signin:ann:address:x", "note:x:for Ann", "add:info:for Ann")
				session := keyOf(idOf(t, b.cookie()))
				tag := strings.TrimPrefix(session, "pycket:s:")
				move := beginMove(t, server, session)
				for _, kind := range ahead {
					move.carry(kind + tag)
				}
				b.want([]outcome{{}, {Value: "bob"}, {Value: []any{}}, {Value: []any{}}, {Value: ""}}, "login:bob", "user", "keys", "nkeys", "drain")
				_, list := b.do(late) // it may have to wait
				move.carry(session, "pycket:n:"+tag, "pycket:m:"+tag)
				move.end()
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
	server := startCluster(t, 3, 0)
	s := settings(server)
	s.Redis.Timeout = shortTimeout
	site := newSite(t, s)
	for _, with := range [][]string{nil, {"add:i:t"}} {
		server.do(0, "FLUSHALL")
		b := site.browser()
		b.must(append(with, "note:x:y", "note:z:z")...)
		session := server.sessionKey()
		tag := strings.TrimPrefix(session, "pycket:s:")
		move := beginMove(t, server, session)
		if with != nil {
			move.carry("pycket:m:" + tag)
		}
		b.want([]outcome{{}, {Value: "y"}, {Value: ""}}, "ndelete:z", "take:x", "get:x")
		move.carry(session)
		move.end()
		want := ""
		if with != nil {
			want = "i=t"
		}
		b.want([]outcome{{Value: want}, {Value: []any{}}}, "drain", "nkeys")
	}
}

// When a master dies or hangs, its sessions are unavailable, within the timeout, until a replica has taken over;
// then they are there, with no restart. Those on other servers do not notice.
func TestClusterFailover(t *testing.T) {
	for name, signal := range map[string]syscall.Signal{"dies": syscall.SIGKILL, "hangs": syscall.SIGSTOP} {
		t.Run(name, func(t *testing.T) { testFailover(t, signal) })
	}
}

func testFailover(t *testing.T, signal syscall.Signal) {
	server := startCluster(t, 3, 1)
	s := settings(server)
	s.Redis.Timeout = shortTimeout
	site := newSite(t, s)
	var onDead, elsewhere *browser
	for onDead == nil || elsewhere == nil {
		server.do(0, "FLUSHALL")
		b := site.browser()
		b.must("set:a:b")
		if server.nodeOf(server.sessionKey()).addr == server.nodes[0].addr {
			onDead = b
		} else {
			elsewhere = b
		}
	}
	onDead.must("set:a:kept")   // FLUSHALL may have ended it: a fresh one
	elsewhere.must("set:a:far") // likewise
	for server.nodeOf(keyOf(idOf(t, onDead.cookie()))).addr != server.nodes[0].addr {
		onDead = site.browser()
		onDead.must("set:a:kept")
	}
	for server.nodeOf(keyOf(idOf(t, elsewhere.cookie()))).addr == server.nodes[0].addr {
		elsewhere = site.browser()
		elsewhere.must("set:a:far")
	}
	master := *server.nodes[0]
	master.t = t
	master.do(0, "WAIT", 1, 5000) // only what is replicated can be there
	master.signal(signal)
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
		elsewhere.want([]outcome{{Value: "far"}}, "get:a")
	}
	if failures == 0 {
		t.Error("nothing has failed")
	}
	onDead.want([]outcome{{Value: "kept"}, {}, {Value: "after"}, {}}, "get:a", "set:a:after", "get:a", "login:ann")
}

// Any seed will do; those that are dead, hang or have left the cluster do not matter.
func TestClusterSeeds(t *testing.T) {
	server := clusterOf(t)
	hung, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer hung.Close()
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead.Close()
	s := settings(server)
	left := startRedis(t, "--cluster-enabled", "yes") // it has left the cluster, and knows of no slots
	s.Redis.Cluster = []string{left.addr, dead.Addr().String(), hung.Addr().String(), server.nodes[2].addr}
	app := newApp(t, s)
	if err := app.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	newSite(t, s).browser().must("set:a:b", "login:ann", "get:a")

	s.Redis.Cluster, s.Redis.Timeout = s.Redis.Cluster[:3], shortTimeout
	wantError(t, newApp(t, s).Ping(t.Context()), pycket.ErrUnavailable, "ping")
	newSite(t, s).browser().want([]outcome{{Err: "ErrUnavailable"}}, "set:a:b")

	lone := startRedis(t) // no cluster
	s.Redis.Cluster = []string{lone.addr}
	wantError(t, newApp(t, s).Ping(t.Context()), pycket.ErrUnavailable, "ping", "cluster support disabled")
}

// Close ends what a cluster's App has begun, and what comes later fails.
func TestClusterClose(t *testing.T) {
	server := clusterOf(t)
	ignore := goleak.IgnoreCurrent()
	app := newApp(t, settings(server))
	site := &site{t: t, app: app}
	parallel(32, func(int) { signInQuietly(site, "ann") })
	if n := len(list(t, &stage{site: site}, "ann")); n != 32 {
		t.Errorf("%d sessions are listed", n)
	}
	var closing sync.WaitGroup
	closing.Go(func() { app.Close() })
	parallel(32, func(int) { signInQuietly(site, "ann") })
	closing.Wait()
	_, err := app.Sessions(t.Context(), "ann")
	wantError(t, err, pycket.ErrUnavailable, "sessions", "closed")
	goleak.VerifyNone(t, ignore)
}

// clusterOf gives a test the cluster that tests share, emptied: starting one takes seconds.
func clusterOf(t *testing.T) *redisServer {
	t.Helper()
	needRedis(t)
	c := &sharedCluster
	c.start.Do(func() {
		// It outlives the first test, so its cleanup is not that test's.
		keeper := &lasting{TB: t}
		c.server = startCluster(keeper, 3, 0)
		c.stop = keeper.end
	})
	if c.server == nil {
		t.Fatal("the cluster could not be started: see the first test that wanted it")
	}
	server := *c.server
	server.t = t
	server.do(0, "FLUSHALL")
	return &server
}

var sharedCluster = struct {
	start  sync.Once
	server *redisServer
	stop   func()
}{stop: func() {}}

// lasting is a test whose cleanups wait.
type lasting struct {
	testing.TB
	cleanups []func()
}

func (l *lasting) Cleanup(f func()) { l.cleanups = append(l.cleanups, f) }

func (l *lasting) end() {
	for _, f := range l.cleanups {
		f()
	}
}

// startCluster starts a cluster whose slots lie on so many masters in turns, a block of 64 each, so that
// two keys rarely lie on one. Replicas are of the first master.
func startCluster(t testing.TB, masters, replicas int) *redisServer {
	t.Helper()
	var nodes []*redisServer
	for range masters + replicas {
		nodes = append(nodes, startRedis(t, "--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-replica-validity-factor", "0", "--cluster-require-full-coverage", "no"))
	}
	for i, node := range nodes {
		node.do(0, "CLUSTER", "SET-CONFIG-EPOCH", i+1)
		if i < masters {
			var slots []any
			for slot := range 16384 {
				if slot/64%masters == i {
					slots = append(slots, slot)
				}
			}
			node.do(0, "CLUSTER", append([]any{"ADDSLOTS"}, slots...)...)
		}
		host, port, _ := net.SplitHostPort(node.addr)
		nodes[0].do(0, "CLUSTER", "MEET", host, port)
	}
	agree := func(what string, agreed func(node *redisServer) bool) {
		t.Helper()
		for range 1000 {
			all := true
			for _, node := range nodes {
				all = all && agreed(node)
			}
			if all {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		t.Fatalf("the cluster does not agree on %s", what)
	}
	agree("who is in it", func(node *redisServer) bool {
		info, _ := redis.String(node.do(0, "CLUSTER", "INFO"), nil)
		return strings.Contains(info, "cluster_state:ok") && strings.Contains(info, fmt.Sprintf("cluster_known_nodes:%d", len(nodes)))
	})
	id := nodes[0].do(0, "CLUSTER", "MYID")
	for _, node := range nodes[masters:] {
		node.do(0, "CLUSTER", "REPLICATE", id)
	}
	agree("its replicas", func(node *redisServer) bool {
		list, _ := redis.String(node.do(0, "CLUSTER", "NODES"), nil)
		linked, _ := redis.String(nodes[0].do(0, "INFO", "replication"), nil)
		return strings.Count(list, "slave") == replicas && strings.Contains(linked, fmt.Sprintf("connected_slaves:%d", replicas))
	})
	cluster := *nodes[0]
	cluster.nodes = nodes
	return &cluster
}

// nodeOf is the master that a key lies on, as startCluster has laid it.
func (s *redisServer) nodeOf(key string) *redisServer {
	s.t.Helper()
	masters := 0
	for _, node := range s.nodes {
		if role, _ := redis.Values(node.do(0, "ROLE"), nil); string(role[0].([]byte)) == "master" {
			masters++
		}
	}
	node := *s.nodes[s.slotOf(key)/64%masters]
	node.t = s.t
	return &node
}

func (s *redisServer) slotOf(key string) int {
	s.t.Helper()
	return int(s.nodes[0].do(0, "CLUSTER", "KEYSLOT", key).(int64))
}

// scripts is how many scripts the servers have run, and refused, since the last time.
func (s *redisServer) scripts() (run, refused int) {
	s.t.Helper()
	for _, node := range s.nodes {
		info, _ := redis.String(node.do(0, "INFO", "commandstats"), nil)
		for _, line := range strings.Split(info, "\r\n") {
			if name, stats, _ := strings.Cut(line, ":"); name == "cmdstat_evalsha" || name == "cmdstat_eval" {
				var calls, usec, rejected, failed int
				var per float64
				fmt.Sscanf(stats, "calls=%d,usec=%d,usec_per_call=%f,rejected_calls=%d,failed_calls=%d", &calls, &usec, &per, &rejected, &failed)
				run += calls - failed
				refused += rejected + failed
			}
		}
		node.do(0, "CONFIG", "RESETSTAT")
	}
	return run, refused
}

// mayLag tells whether a key is an account's list in a cluster: what it names may have ended. The tests of
// App.Sessions say what that may not mean.
func (s *redisServer) mayLag(key string) bool {
	return len(s.nodes) > 0 && strings.HasPrefix(key, "pycket:u:")
}

// hasBus tells whether the port of a cluster's own traffic is free, too.
func hasBus(addr string) bool {
	host, port, _ := net.SplitHostPort(addr)
	n, _ := strconv.Atoi(port)
	if n+10000 > 65535 {
		return false
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(n+10000)))
	if err != nil {
		return false
	}
	listener.Close()
	return true
}

// doInCluster carries out a command where its key is; one without, everywhere.
func (s *redisServer) doInCluster(command string, args ...any) any {
	s.t.Helper()
	switch command {
	case "KEYS", "FLUSHALL", "CONFIG", "SCRIPT", "CLIENT":
		var all []any
		for _, node := range s.nodes {
			list, _ := redis.Values(s.on(node.addr, command, args...))
			all = append(all, list...)
		}
		return all
	}
	addr := s.addr
	for range 3 {
		reply, err := s.on(addr, command, args...)
		var refused redis.Error
		if errors.As(err, &refused) && strings.HasPrefix(string(refused), "MOVED ") {
			addr = strings.Fields(string(refused))[2]
			continue
		}
		if err != nil {
			s.t.Fatalf("%s: %v", command, err)
		}
		return reply
	}
	s.t.Fatalf("%s: the cluster does not agree on where the key is", command)
	return nil
}

func (s *redisServer) on(addr, command string, args ...any) (any, error) {
	s.t.Helper()
	c, err := redis.Dial("tcp", addr)
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	return c.Do(command, args...)
}
