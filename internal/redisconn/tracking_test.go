//go:build unix

package redisconn

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gomodule/redigo/redis"
	"github.com/google/go-cmp/cmp"

	"github.com/pycket/pycket/internal/redistest"
)

// told is what a Tracking was told.
type told struct {
	mu      sync.Mutex
	changed []string
	refused []error
}

func (o *told) tracking(d time.Duration) Tracking {
	return Tracking{
		For: d,
		Changed: func(key []byte) {
			o.mu.Lock()
			defer o.mu.Unlock()
			o.changed = append(o.changed, string(key))
		},
		Refused: func(err error) {
			o.mu.Lock()
			defer o.mu.Unlock()
			o.refused = append(o.refused, err)
		},
	}
}

// keys waits until at least n keys have changed.
func (o *told) keys(n int) []string {
	for {
		o.mu.Lock()
		changed := slices.Clone(o.changed)
		o.mu.Unlock()
		if len(changed) >= n {
			return changed
		}
		time.Sleep(time.Millisecond)
	}
}

// read reads a key and returns the Pairing under which that was done.
func read(t *testing.T, c Client, key string) *Pairing {
	t.Helper()
	command := NewCommand(key, 2, "HGETALL")
	command.String(key)
	command.Track()
	if _, err := c.Do(context.Background(), time.Now(), command); err != nil {
		t.Fatal(err)
	}
	return command.Pairing()
}

// What tracked commands have read is told when it changes; the keys by which connections find each other are not, and
// nothing is left of them.
func TestTracking(t *testing.T) {
	for name, server := range map[string]*redistest.Server{"one": redistest.Start(t), "cluster": redistest.SharedCluster(t)} {
		t.Run(name, func(t *testing.T) {
			server := server.On(t)
			var o told
			var c Client = newServer(t, Target{Address: server.Addr}, 4, time.Second)
			if server.Nodes() != nil {
				c = newCluster(t, server)
			}
			c.Track(o.tracking(time.Minute))
			if _, ok := c.Heard(); ok {
				t.Error("heard before anything was asked")
			}
			var want []string
			for _, key := range []string{"{a}", "{b}", "{c}", "{d}"} {
				if p := read(t, c, key); p.Fresh(time.Now()) && server.Nodes() == nil && key == "{a}" {
					t.Error("the first read was tracked")
				}
				if err := c.Tracks(context.Background(), time.Now(), key); err != nil {
					t.Fatal(err)
				}
				p := read(t, c, key)
				if now := time.Now(); !p.Fresh(now) || p.Fresh(now.Add(time.Minute)) {
					t.Errorf("%s: fresh now %v, in a minute %v", key, p.Fresh(now), p.Fresh(now.Add(time.Minute)))
				}
				server.Do(0, "HSET", key, "a", "b")
				want = append(want, key)
				if diff := cmp.Diff(want, o.keys(len(want))); diff != "" {
					t.Fatal(diff)
				}
				server.Do(0, "DEL", key)
			}
			if at, ok := c.Heard(); !ok || time.Since(at) > time.Minute {
				t.Errorf("heard %v: %v", at, ok)
			}
			if keys := server.Keys(0); len(keys) != 0 {
				t.Errorf("%v are left", keys)
			}
			p := read(t, c, "{a}")
			c.Close()
			if p.Fresh(time.Now()) {
				t.Error("fresh after Close")
			}
		})
	}
}

// When everything has changed, or either connection breaks, what was read is void at once.
func TestPairingEnds(t *testing.T) {
	for name, end := range map[string]func(server *redistest.Server, s *Server){
		"FLUSHALL": func(server *redistest.Server, _ *Server) { server.Do(0, "FLUSHALL") },
		"the second connection": func(server *redistest.Server, _ *Server) {
			server.Do(0, "CLIENT", "KILL", "TYPE", "pubsub")
		},
		"the lane": func(server *redistest.Server, _ *Server) { server.Do(0, "CLIENT", "KILL", "TYPE", "normal") },
		"the slot": func(_ *redistest.Server, s *Server) { s.unpair() },
	} {
		t.Run(name, func(t *testing.T) {
			server := redistest.Start(t)
			s := newServer(t, Target{Address: server.Addr}, 4, time.Second)
			s.Track(new(told).tracking(100 * time.Millisecond))
			if err := s.Tracks(context.Background(), time.Now(), "a"); err != nil {
				t.Fatal(err)
			}
			p := read(t, s, "a")
			if !p.valid() {
				t.Fatal("not tracked")
			}
			end(server, s)
			select {
			case <-p.void:
			case <-time.After(10 * time.Second):
				t.Fatal("it has not ended")
			}
			if p.Fresh(time.Now()) {
				t.Error("void, and fresh")
			}
			if p.extend(time.Now().Add(time.Hour)); p.Fresh(time.Now()) {
				t.Error("void, and fresh again")
			}
			for !read(t, s, "a").Fresh(time.Now()) {
				time.Sleep(time.Millisecond)
			}
		})
	}
}

// What was read from a server of a cluster is void when another gets a slot of its: by then the first may be cut off.
func TestPairingEndsWithSlot(t *testing.T) {
	server := redistest.StartCluster(t, 3, 0)
	c := newCluster(t, server)
	c.Track(new(told).tracking(time.Hour))
	if err := c.Tracks(context.Background(), time.Now(), "{a}"); err != nil {
		t.Fatal(err)
	}
	p := read(t, c, "{a}")
	if !p.Fresh(time.Now()) {
		t.Fatal("not tracked")
	}
	server.BeginMove("{a}").End()
	for tries := 0; ; tries++ { // until the servers agree
		command := NewCommand("{a}", 2, "HGETALL")
		command.String("{a}")
		_, err := c.Do(context.Background(), time.Now(), command)
		if err == nil {
			break
		}
		if tries == 20 {
			t.Fatal(err)
		}
	}
	if p.Fresh(time.Now()) {
		t.Error("fresh, though another server has the slot")
	}
}

// Two connections to one address may lead to two servers, both with a client of the same id. Then all commands succeed,
// and nothing is told.
func TestTracksElsewhere(t *testing.T) {
	address := redistest.Fake(t, func(words []string) string {
		switch words[0] + words[1%len(words)] {
		case "CLIENTID":
			return ":7\r\n"
		case "CLIENTTRACKING":
			return "+OK\r\n"
		case "SUBSCRIBE" + invalidations:
			return "*3\r\n$9\r\nsubscribe\r\n$20\r\n__redis__:invalidate\r\n:1\r\n"
		case "PINGPING":
			return "*2\r\n$4\r\npong\r\n$0\r\n\r\n"
		case "HGETALLa":
			return "*0\r\n"
		}
		return ":1\r\n"
	})
	var o told
	s := newServer(t, Target{Address: address}, 4, time.Second)
	s.Track(o.tracking(time.Hour))
	if err := s.Tracks(context.Background(), time.Now(), "a"); !errors.Is(err, ErrUntracked) || !errors.Is(err, errElsewhere) {
		t.Errorf("%v", err)
	}
	if p := read(t, s, "a"); p.Fresh(time.Now()) {
		t.Error("what one server tracks, and another tells, is fresh")
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.refused) != 1 {
		t.Errorf("told %v, want one error", o.refused)
	}
}

// A server that is only busy, or takes no writes, is asked again; one that does not track is not, for a while.
func TestUntracked(t *testing.T) {
	for text, want := range map[string]bool{
		"ERR unknown command 'CLIENT', with args beginning with: 'ID'":  true,
		"NOPERM this user has no permissions to run the 'ping' command": true,
		"ERR syntax error": true,
		"READONLY You can't write against a read only replica.":   false,
		"LOADING Redis is loading the dataset in memory":          false,
		"MOVED 1 127.0.0.1:1":                                     false,
		"CLUSTERDOWN The cluster is down":                         false,
		"BUSY Redis is busy running a script.":                    false,
		"ERR max number of clients reached":                       false,
		"OOM command not allowed when used memory > 'maxmemory'.": false,
	} {
		err := untracked(redis.Error(text))
		if got := errors.Is(err, ErrUntracked); got != want || got == errors.As(err, new(Refusal)) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
