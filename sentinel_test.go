package pycket_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gomodule/redigo/redis"

	"github.com/pycket/pycket"
	"github.com/pycket/pycket/internal/redistest"
)

// behind are settings for a group.
func behind(group *redistest.Group) pycket.Settings {
	s := settings(group.Servers[0])
	s.Redis.URL, s.Redis.Dial = account(group.Servers[0]), group.Dial
	s.Redis.Sentinel = pycket.SentinelSettings{Master: group.Name, Addresses: group.Sentinels}
	return s
}

// A writer is a browser that stores one value after the other, and knows what came of each.
type writer struct {
	*browser
	acknowledged []string // names
	unconfirmed  []string // refused with ErrNotReplicated
	failed       int
	pause        time.Duration // the longest between two of either
}

// write goes on until the context ends. Every value that is stored is counted.
func (w *writer) write(ctx context.Context, count *atomic.Int64) error {
	for last := time.Now(); ctx.Err() == nil; {
		name := fmt.Sprintf("w%d", len(w.acknowledged)+len(w.unconfirmed)+w.failed)
		_, list, err := w.try("set:" + name + ":x")
		switch {
		case err != nil:
			return err
		case list[0].Err == "ErrUnavailable":
			w.failed++
			continue
		case list[0].Err == "":
			w.acknowledged = append(w.acknowledged, name)
		case list[0].Err == "ErrNotReplicated":
			w.unconfirmed = append(w.unconfirmed, name)
		default:
			return fmt.Errorf("%s: %s", name, list[0].Err)
		}
		now := time.Now()
		w.pause, last = max(w.pause, now.Sub(last)), now
		count.Add(1)
	}
	return nil
}

// lost counts those of names that are not stored.
func (w *writer) lost(names []string) (n int) {
	w.t.Helper()
	stored := map[string]bool{}
	for _, name := range w.must("keys")[0].([]any) {
		stored[name.(string)] = true
	}
	if !stored["before"] {
		w.t.Error("what was stored long before is lost")
	}
	for _, name := range names {
		if !stored[name] {
			n++
		}
	}
	return n
}

// goesOn stores a value, and reads it.
func (w *writer) goesOn() {
	w.t.Helper()
	for stored := false; !stored; { // confirmed or not
		_, list := w.do("set:resumed:x")
		stored = list[0].Err != "ErrUnavailable"
	}
	w.want([]outcome{{Value: "x"}}, "get:resumed")
}

// failOver fails the server that has the writers' sessions while they write, and waits until they write again after
// replaced reports that another has taken its place. It returns how many acknowledged writes are lost.
func failOver(t *testing.T, writers []*writer, fail func(), replaced func() bool) (lost int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var count atomic.Int64
	var writing sync.WaitGroup
	for _, w := range writers {
		writing.Go(func() {
			if err := w.write(ctx, &count); err != nil {
				t.Error(err)
				cancel()
			}
		})
	}
	await := func(what string, is func() bool) {
		t.Helper()
		for began := time.Now(); !is() && ctx.Err() == nil; time.Sleep(10 * time.Millisecond) {
			if time.Since(began) > time.Minute {
				t.Errorf("%s is awaited in vain", what)
				cancel()
			}
		}
	}
	await("the load", func() bool { return count.Load() > 200 })
	began := time.Now()
	fail()
	await("another master", replaced)
	elected := time.Since(began)
	before := count.Load()
	await("service", func() bool { return count.Load() > before+10 })
	cancel()
	writing.Wait()
	acknowledged, unconfirmed, failed := 0, 0, 0
	var pause time.Duration
	for _, w := range writers {
		lost += w.lost(w.acknowledged)
		acknowledged += len(w.acknowledged)
		unconfirmed += len(w.unconfirmed)
		failed += w.failed
		pause = max(pause, w.pause)
	}
	t.Logf("another master after %v, without service for %v; of %d acknowledged writes %d are lost, %d were not confirmed, %d failed", elected.Round(time.Millisecond), pause.Round(time.Millisecond), acknowledged, lost, unconfirmed, failed)
	return lost
}

// newWriters are browsers with sessions.
func newWriters(site *site, n int) (writers []*writer) {
	for range n {
		w := &writer{browser: site.browser()}
		for w.cookie() == "" { // the first connection may take too long
			w.try("set:before:x") // which may not be confirmed where replicas are missing
		}
		writers = append(writers, w)
	}
	return writers
}

// everyFailover reports whether all combinations are to be tried, which takes minutes.
func everyFailover() bool { return os.Getenv("PYCKET_TEST_FAILOVERS") == "all" }

// A master that dies, hangs, or is cut off from the others or from everybody without a word is replaced. Sessions go on with the new one, and once
// the App has left the old, nothing is written there. What all replicas have is not lost.
func TestSentinelFailover(t *testing.T) {
	for _, test := range []struct {
		kind  string
		wait  int // for so many replicas
		usual bool
	}{
		{"killed", 0, false}, {"killed", 1, false}, {"killed", 2, true},
		{"hangs", 0, true}, {"hangs", 1, false}, {"hangs", 2, false},
		{"partitioned", 0, true}, {"partitioned", 1, false}, {"partitioned", 2, false},
		{"vanishes", 0, true},
		{"killed, and a replica vanishes meanwhile", 2, true},
		{"killed, and its successor is cut off", 2, true},
	} {
		if test.usual || everyFailover() {
			t.Run(fmt.Sprintf("%s, WaitReplicas %d", test.kind, test.wait), func(t *testing.T) { testSentinelFailover(t, test.kind, test.wait) })
		}
	}
}

func testSentinelFailover(t *testing.T, kind string, wait int) {
	var group *redistest.Group
	twice := strings.HasPrefix(kind, "killed, ") // another fault comes during the failover, which then leaves one server of three
	switch {
	case kind == "partitioned", kind == "vanishes":
		group = redistest.StartDivisible(t, "--min-replicas-to-write", "1", "--min-replicas-max-lag", "1")
	case twice:
		group = redistest.StartDivisible(t)
	default:
		group = redistest.StartGroup(t)
	}
	old := group.Servers[0]
	for _, server := range group.Servers {
		allow(server, "restricted", rights("Sessions", "Users", "WaitReplicas"))
	}
	s := behind(group)
	if strings.Contains(kind, "vanishes") { // for the App, too, which goes by the network that is divided
		s.Redis.Dial = nil
	}
	if kind == "hangs" {
		s.CacheFor = time.Second // for which those rights are not enough
	} else {
		s.Redis.URL = "redis://restricted:PASSWORD@"
	}
	s.Redis.WaitReplicas = wait
	if wait == 2 { // of which one becomes the master: then no write is confirmed
		s.Redis.Timeout = shortTimeout
	}
	site := unstartedSite(t, s)
	if err := site.app.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	writers := newWriters(site, 4)
	awaitReplicas(t, old, "{any}", 2)
	gone := []*redistest.Server{old}
	isolate := func(server *redistest.Server) {
		gone = append(gone, server)
		group.Isolate(server)
	}
	fail := map[string]func(){
		"killed": old.Kill, "hangs": old.Suspend, "partitioned": func() { group.Isolate(old) }, "vanishes": func() { group.Isolate(old) },
		"killed, and a replica vanishes meanwhile": func() {
			old.Kill()
			await(t, "a failover", group.FailingOver)
			isolate(group.Servers[2])
		},
		"killed, and its successor is cut off": func() {
			old.Kill()
			var successor *redistest.Server
			await(t, "its successor", func() bool { successor = group.Master(); return successor != nil && successor != old })
			isolate(successor)
		},
	}[kind]
	var written string
	lost := failOver(t, writers, fail, func() bool {
		if master := group.Master(); master == nil || slices.Contains(gone, master) {
			return false
		}
		if kind == "partitioned" { // it may take writes until the App has heard of the other
			if clients, _ := redis.String(old.Do(0, "CLIENT", "LIST"), nil); strings.Contains(clients, "evalsha") { // the App's last command
				return false
			}
			written = changes(old)
		}
		return true
	})
	if wait == 2 && lost > 0 {
		t.Errorf("%d writes are lost that both replicas had", lost)
	}
	afterFailover(t, kind, old, writers, written)
	if kind == "hangs" {
		if err := site.app.Ping(t.Context()); (err != nil) != (wait == 2) { // which asks whether the new master tracks what is read
			t.Error(err)
		}
	}
}

// In a cluster, too, what the replicas have is not lost. A master that is cut off from the others, but not from the App,
// takes nothing any more once it has noticed.
func TestClusterFailoverWaits(t *testing.T) {
	for _, test := range []struct {
		kind  string
		wait  int
		usual bool
	}{
		{"killed", 0, false}, {"killed", 1, false},
		{"hangs", 0, false}, {"hangs", 1, false},
		{"partitioned", 0, false}, {"partitioned", 1, true},
		{"killed, and the others have no majority", 1, true},
	} {
		if test.usual || everyFailover() {
			t.Run(fmt.Sprintf("%s, WaitReplicas %d", test.kind, test.wait), func(t *testing.T) { testClusterFailover(t, test.kind, test.wait) })
		}
	}
}

func testClusterFailover(t *testing.T, kind string, wait int) {
	cluster := redistest.StartDivisibleCluster(t, 3, 1)
	old, other := cluster.Nodes()[0], cluster.Nodes()[1]
	s := settings(cluster.Server)
	s.Redis.Dial = cluster.Dial
	s.Redis.WaitReplicas, s.Redis.Timeout = wait, shortTimeout // the only one becomes a master
	site := unstartedSite(t, s)
	var writers []*writer
	for len(writers) < 4 {
		if w := newWriters(site, 1)[0]; cluster.NodeOf(keyOf(idOf(t, w.cookie()))).Addr == old.Addr {
			writers = append(writers, w)
		}
	}
	awaitReplicas(t, old, keyOf(idOf(t, writers[0].cookie())), 1)
	id, _ := redis.String(old.Do(0, "CLUSTER", "MYID"), nil)
	fail := map[string]func(){
		"killed": old.Kill, "hangs": old.Suspend, "partitioned": func() { cluster.Isolate(old) },
		"killed, and the others have no majority": func() { // until they reach one another again
			old.Kill()
			cluster.Isolate(cluster.Nodes()[2])
			await(t, "masters without a majority", func() bool {
				info, _ := redis.String(other.Do(0, "CLUSTER", "INFO"), nil)
				return strings.Contains(info, "cluster_state:fail")
			})
			cluster.Join()
		},
	}[kind]
	var written string
	lost := failOver(t, writers, fail, func() bool {
		nodes, _ := redis.String(other.Do(0, "CLUSTER", "NODES"), nil)
		if strings.Count(nodes, "master") != 4 || !strings.Contains(nodes, id) { // the failed one, too
			return false
		}
		if kind == "partitioned" { // it takes writes until it notices
			if info, _ := redis.String(old.Do(0, "CLUSTER", "INFO"), nil); !strings.Contains(info, "cluster_state:fail") {
				return false
			}
			written = changes(old)
		}
		return true
	})
	if wait == 1 && lost > 0 {
		t.Errorf("%d writes are lost that the replica had", lost)
	}
	afterFailover(t, kind, old, writers, written)
}

// afterFailover lets a master that has hung go on, and the writers too. Of one that was cut off it wants to know that
// nothing was written to it since.
func afterFailover(t *testing.T, kind string, old *redistest.Server, writers []*writer, written string) {
	t.Helper()
	switch kind {
	case "hangs":
		old.Resume()
		for _, w := range writers {
			w.goesOn()
		}
	case "partitioned":
		equal(t, "changes to the old master after the failover", written, changes(old))
	}
}

// changes is how often what a server holds was changed.
func changes(server *redistest.Server) string {
	info, _ := redis.String(server.Do(0, "INFO", "persistence"), nil)
	lines := strings.Split(info, "\r\n")
	return lines[slices.IndexFunc(lines, func(line string) bool { return strings.HasPrefix(line, "rdb_changes_since_last_save") })]
}
