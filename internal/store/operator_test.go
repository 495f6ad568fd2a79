package store

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gomodule/redigo/redis"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/pycket/pycket/internal/redisconn"
	"github.com/pycket/pycket/internal/redistest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	redistest.StopShared()
	os.Exit(code)
}

// newClusterStore returns a Store of the shared cluster's sessions.
func newClusterStore(t *testing.T, server *redistest.Server) *Store {
	t.Helper()
	pool := func(address string) *redisconn.Server {
		target := redisconn.Target{Network: "tcp", Address: address}
		return redisconn.NewServer(&redis.Pool{MaxIdle: 4, DialContext: target.Dial, TestOnBorrow: redisconn.CheckIdle}, address, 4, 3*time.Second)
	}
	cluster := redisconn.NewCluster([]string{server.Addr}, redisconn.Target{}, 3*time.Second, pool)
	s := New(cluster, Config{Prefix: "pycket:", Cluster: true, Timeout: 3 * time.Second, Idle: time.Hour, MaxSessionBytes: 1 << 20})
	t.Cleanup(func() { s.Close() })
	return s
}

// everyStore runs a test on a server, on the embedded one, and on a cluster.
func everyStore(t *testing.T, test func(t *testing.T, server *redistest.Server, s *Store)) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		if server.Nodes() != nil {
			test(t, server, newClusterStore(t, server))
			return
		}
		test(t, server, newStore(t, server, "py[*]?ket\\:"))
	})
}

func TestShow(t *testing.T) {
	everyStore(t, func(t *testing.T, server *redistest.Server, s *Store) {
		ctx, now, id := t.Context(), Began{At: time.Now()}, NewID()
		if _, o, err := s.Show(ctx, now, id.Handle, true); err != nil || o.State != Expired {
			t.Errorf("before it begins: %+v, %v", o, err)
		}
		alive(t)(s.Set(ctx, now, id, true, []Field{{"a", []byte("1")}, {"", []byte("\x00\xff")}}))
		_, _, o, err := s.Login(ctx, now, id, false, Binding{User: "ann", Authenticated: true, Agent: "agent"})
		alive(t)(o, err)
		alive(t)(s.Remember(ctx, now, id, 48*time.Hour))
		alive(t)(s.Notify(ctx, now, id, false, []Field{{"n", []byte("note")}}))
		alive(t)(s.Add(ctx, now, id, false, []Field{{"", []byte("message")}}))

		for _, values := range []bool{true, false} {
			value := func(text string) []byte {
				if values {
					return []byte(text)
				}
				return nil
			}
			shown, o, err := s.Show(ctx, now, id.Handle, values)
			alive(t)(o, err)
			for _, at := range []time.Time{shown.Created, shown.Seen, shown.Authenticated} {
				if d := time.Since(at).Abs(); d > time.Minute {
					t.Errorf("%v, %v ago", at, d)
				}
			}
			if shown.Left > 48*time.Hour || shown.Left < 47*time.Hour {
				t.Errorf("it lasts %v", shown.Left)
			}
			slices.SortFunc(shown.Values, func(a, b Stored) int { return strings.Compare(a.Name, b.Name) })
			want := Shown{
				User: "ann", Agent: "agent", Idle: 48 * time.Hour, Size: 1 + 1 + 2 + 1 + 4 + 7,
				Values:        []Stored{{"", 2, value("\x00\xff")}, {"a", 1, value("1")}},
				Notifications: []Stored{{"n", 4, value("note")}},
				Messages:      []Stored{{"", 7, value("message")}},
			}
			if diff := cmp.Diff(want, shown, cmpopts.IgnoreFields(Shown{}, "Created", "Seen", "Authenticated", "Left")); diff != "" {
				t.Error(diff)
			}
		}

		if ended, err := s.Revoke(ctx, now, id.Handle); err != nil || !ended {
			t.Errorf("revoke: %t, %v", ended, err)
		}
		if ended, err := s.Revoke(ctx, now, id.Handle); err != nil || ended {
			t.Errorf("revoke again: %t, %v", ended, err)
		}
		if _, o, err := s.Show(ctx, now, id.Handle, true); err != nil || o.State != Destroyed || o.Ago > time.Minute {
			t.Errorf("after its end: %+v, %v", o, err)
		}
	})
}

// alive fails the test unless an operation was carried out.
func alive(t *testing.T) func(Outcome, error) {
	return func(o Outcome, err error) {
		t.Helper()
		if err != nil || o.State != Alive {
			t.Fatalf("%+v, %v", o, err)
		}
	}
}

// sweep returns what a sweep finds, each session once.
func sweep(t *testing.T, s *Store) map[string]Swept {
	t.Helper()
	found, last := map[string]Swept{}, 0.0
	err := s.Sweep(t.Context(), func(some []Swept, part float64) {
		if part < last || part > 1 {
			t.Errorf("%v after %v", part, last)
		}
		last = part
		for _, session := range some {
			found[session.Handle] = session
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// A sweep finds every session that is alive, and neither one that has ended nor other keys.
func TestSweep(t *testing.T) {
	everyStore(t, func(t *testing.T, server *redistest.Server, s *Store) {
		ctx, now := t.Context(), Began{At: time.Now()}
		want := map[string]Swept{}
		for range 3 * sweepKeys {
			id := NewID()
			alive(t)(s.Set(ctx, now, id, true, []Field{{"a", []byte("1")}}))
			want[id.Handle] = Swept{Handle: id.Handle, Verifier: id.verifier, Size: 2}
		}
		owned := NewID()
		_, _, o, err := s.Login(ctx, now, owned, true, Binding{User: "ann", Authenticated: true})
		alive(t)(o, err)
		alive(t)(s.Remember(ctx, now, owned, time.Hour))
		alive(t)(s.Notify(ctx, now, owned, false, []Field{{"n", []byte("note")}}))
		next := owned.Rotated()
		alive(t)(s.Rotate(ctx, now, owned, next))
		want[next.Handle] = Swept{Handle: next.Handle, Verifier: next.verifier, Owned: true, Own: true, Noted: true, Size: 5}
		ended := NewID()
		alive(t)(s.Set(ctx, now, ended, true, nil))
		alive(t)(s.Destroy(ctx, now, ended, "token"))
		server.Do(0, "SET", s.key("0123456789abcdef"), "another type")
		server.Do(0, "HSET", s.key("no handle"), "pycket:id", "x")
		server.Do(0, "HSET", "other:s:{0123456789abcdef}", "pycket:id", "x")
		server.Do(0, "HSET", s.key("fedcba9876543210"), "pycket:id", "x")
		want["fedcba9876543210"] = Swept{Handle: "fedcba9876543210"}
		server.Do(0, "HSET", s.key("a-later-layout--"), "pycket:id", strings.Repeat("9", 35)+"A100")
		want["a-later-layout--"] = Swept{Handle: "a-later-layout--"}
		if _, _, err := s.Show(ctx, now, "a-later-layout--", true); !errors.Is(err, ErrMisconfigured) {
			t.Errorf("a session of a later layout: %v", err)
		}

		if diff := cmp.Diff(want, sweep(t, s), cmpopts.IgnoreFields(Swept{}, "Created")); diff != "" {
			t.Error(diff)
		}

		stopped, stop := context.WithCancel(ctx)
		err = s.Sweep(stopped, func([]Swept, float64) { stop() })
		if server.Embedded() && err == nil { // which answers a SCAN at once
			return
		}
		if !errors.Is(err, context.Canceled) {
			t.Errorf("a sweep whose context ends: %v", err)
		}
	})
}

// A session whose slot is moving is found on either server.
func TestSweepMoving(t *testing.T) {
	redistest.Require(t, "redis-server", "redis-server")
	server := redistest.SharedCluster(t)
	s, id := newClusterStore(t, server), NewID()
	alive(t)(s.Set(t.Context(), Began{At: time.Now()}, id, true, []Field{{"a", []byte("1")}}))
	move := server.BeginMove(s.key(id.Handle))
	for _, carried := range []bool{false, true} {
		if carried {
			move.Carry(s.key(id.Handle))
		}
		if found := sweep(t, s); found[id.Handle].Verifier != id.verifier {
			t.Errorf("carried %t: %v", carried, found)
		}
	}
	move.End()
}
