package pycket_test

import (
	"context"
	"fmt"
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
	s.Redis.URL, s.Redis.Dial = "", group.Dial
	s.Redis.Sentinel = pycket.SentinelSettings{Master: group.Name, Addresses: group.Sentinels}
	return s
}

// A writer is a browser that stores one value after the other, and knows what came of each.
type writer struct {
	*browser
	acknowledged []string // names
	unconfirmed  []string // refused with ErrNotReplicated
	failed       int
	pause        time.Duration // the longest between two that were acknowledged
}

// write goes on until the context ends. Every value that is acknowledged is counted.
func (w *writer) write(ctx context.Context, count *atomic.Int64) error {
	for last := time.Now(); ctx.Err() == nil; {
		name := fmt.Sprintf("w%d", len(w.acknowledged)+len(w.unconfirmed)+w.failed)
		_, list, err := w.try("set:" + name + ":x")
		switch {
		case err != nil:
			return err
		case list[0].Err == "":
			now := time.Now()
			w.pause, last = max(w.pause, now.Sub(last)), now
			w.acknowledged = append(w.acknowledged, name)
			count.Add(1)
		case list[0].Err == "ErrNotReplicated":
			w.unconfirmed = append(w.unconfirmed, name)
		case list[0].Err == "ErrUnavailable":
			w.failed++
		default:
			return fmt.Errorf("%s: %s", name, list[0].Err)
		}
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

// failOver fails the server that has the writers' sessions while they write, and waits until they write again after
// replaced reports that another has taken its place. It returns how many acknowledged writes are lost.
func failOver(t *testing.T, site *site, old *redistest.Server, writers []*writer, fail func(), replaced func() bool) (lost int) {
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
	await("service", func() bool { return count.Load() > before+200 })
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

// newWriters are browsers with sessions that all replicas have.
func newWriters(site *site, master *redistest.Server, n int) (writers []*writer) {
	for range n {
		w := &writer{browser: site.browser()}
		w.must("set:before:x")
		writers = append(writers, w)
	}
	return writers
}

// A master that dies, hangs or is cut off from the others is replaced. Sessions go on with the new one, and nothing is
// written to the old.
func TestSentinelFailover(t *testing.T) {
	refusing := []string{"--min-replicas-to-write", "1", "--min-replicas-max-lag", "1"}
	for name, test := range map[string]struct {
		args []string
		fail func(*redistest.Group, *redistest.Server)
	}{
		"killed":      {nil, func(_ *redistest.Group, s *redistest.Server) { s.Kill() }},
		"hangs":       {nil, func(_ *redistest.Group, s *redistest.Server) { s.Suspend() }},
		"partitioned": {refusing, func(g *redistest.Group, s *redistest.Server) { g.Isolate(s) }},
	} {
		t.Run(name, func(t *testing.T) {
			var group *redistest.Group
			if name == "partitioned" {
				group = redistest.StartDivisible(t, test.args...)
			} else {
				group = redistest.StartGroup(t, test.args...)
			}
			old := group.Servers[0]
			site := unstartedSite(t, behind(group))
			if err := site.app.Ping(t.Context()); err != nil {
				t.Fatal(err)
			}
			writers := newWriters(site, old, 4)
			awaitReplicas(t, old, "{any}", 2)
			var written string
			failOver(t, site, old, writers, func() { test.fail(group, old) }, func() bool {
				if master := group.Master(); master == nil || master == old {
					return false
				}
				if name == "partitioned" {
					written = changes(old)
				}
				return true
			})
			switch name {
			case "hangs":
				old.Resume()
				for _, w := range writers {
					w.must("set:resumed:x", "get:resumed")
				}
			case "partitioned":
				equal(t, "changes to the old master after the failover", written, changes(old))
				for clients := "evalsha"; strings.Contains(clients, "evalsha"); { // the last command of the App's connection
					clients, _ = redis.String(old.Do(0, "CLIENT", "LIST"), nil)
				}
			}
		})
	}
}

// changes is how often what a server holds was changed.
func changes(server *redistest.Server) string {
	info, _ := redis.String(server.Do(0, "INFO", "persistence"), nil)
	lines := strings.Split(info, "\r\n")
	return lines[slices.IndexFunc(lines, func(line string) bool { return strings.HasPrefix(line, "rdb_changes_since_last_save") })]
}
