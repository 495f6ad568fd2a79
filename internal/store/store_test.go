package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gomodule/redigo/redis"
	"github.com/google/go-cmp/cmp"

	"github.com/pycket/pycket/internal/redisconn"
	"github.com/pycket/pycket/internal/redistest"
)

func newStore(t *testing.T, server *redistest.Server, prefix string) *Store {
	t.Helper()
	return newStoreOf(t, server, Config{Prefix: prefix, Notifications: 1})
}

func newStoreOf(t *testing.T, server *redistest.Server, c Config) *Store {
	t.Helper()
	target := redisconn.Target{Network: "tcp", Address: server.Addr, Other: c.Notifications}
	pool := &redis.Pool{MaxIdle: 4, DialContext: target.Dial, TestOnBorrow: redisconn.CheckIdle}
	c.Timeout, c.Idle, c.MaxSessionBytes = 30*time.Second, time.Hour, 1<<20
	s := New(redisconn.NewServer(pool, server.Addr, 4, c.Timeout), c)
	t.Cleanup(func() { s.Close() })
	return s
}

// The life of a session, by the outcomes of its operations.
func TestOutcomes(t *testing.T) {
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		s, ctx, now := newStore(t, server, "pycket:"), context.Background(), Began{At: time.Now()}
		want := func(state State) func(Outcome, error) {
			return func(o Outcome, err error) {
				t.Helper()
				if o.State != state || err != nil {
					t.Errorf("%+v, %v; want state %d", o, err, state)
				}
			}
		}
		id := NewID()
		fields := []Field{{"a", []byte("1")}, {"b", []byte("2")}}
		want(Expired)(s.Set(ctx, now, id, false, fields))
		want(Alive)(s.Set(ctx, now, id, true, fields))
		want(Taken)(s.Set(ctx, now, id, true, fields))
		want(Alive)(s.Notify(ctx, now, id, false, []Field{{"n", []byte("note")}}))

		content, o, err := s.Read(ctx, now, id, "a", false)
		want(Alive)(o, err)
		if diff := cmp.Diff([]string{"1", "2", ""}, []string{string(content.Value("a")), string(content.Value("b")), string(content.Value("c"))}); diff != "" {
			t.Error(diff)
		}
		if swapped, value, o, err := s.Swap(ctx, now, id, false, Field{"a", []byte("3")}, []byte("2")); swapped || string(value) != "1" {
			t.Errorf("%v, %q, %v, %v", swapped, value, o, err)
		}
		if _, _, err := s.Increment(ctx, now, id, false, "b", 1<<62); err != nil {
			t.Error(err)
		}
		if _, _, err := s.Increment(ctx, now, id, false, "b", 1<<62); !errors.Is(err, ErrNotNumber) && !server.Embedded() { // which wraps around
			t.Errorf("beyond 64 bits: %v", err)
		}
		if _, err := s.Set(ctx, now, id, false, []Field{{"large", bytes.Repeat([]byte("x"), 2<<20)}}); !errors.Is(err, ErrTooLarge) {
			t.Errorf("beyond the limit: %v", err)
		}

		next := id.Rotated()
		want(Alive)(s.Rotate(ctx, now, id, next))
		want(Alive)(s.Rotate(ctx, now, id, next)) // tried again
		want(Rotated)(s.Set(ctx, now, id, false, fields))
		want(Alive)(s.Destroy(ctx, now, next, "token"))
		o, err = s.Set(ctx, now, next, false, fields)
		want(Destroyed)(o, err)
		if o.Token != "token" || o.Ago > time.Minute {
			t.Errorf("%+v", o)
		}
		_, o, err = s.TakeOne(ctx, now, next, "n")
		want(Destroyed)(o, err)
	})
}

// A prefix may be any text: it is put into the scripts as a string, and nothing in it is a constant or code.
func TestPrefix(t *testing.T) {
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		const prefix = "\"]]--\n IDLE OK \\"
		s, id := newStore(t, server, prefix), NewID()
		if o, err := s.Set(context.Background(), Began{At: time.Now()}, id, true, []Field{{"a", []byte("1")}}); err != nil || o.State != Alive {
			t.Errorf("%+v, %v", o, err)
		}
		if _, _, o, err := s.Login(context.Background(), Began{At: time.Now()}, id, false, Binding{User: "ann", Authenticated: true}); err != nil || o.State != Alive {
			t.Errorf("%+v, %v", o, err)
		}
		if members, err := s.Members(context.Background(), Began{At: time.Now()}, "ann", true); err != nil || len(members) != 1 {
			t.Errorf("%v, %v", members, err)
		}
		for _, key := range server.Keys(0) {
			if !strings.HasPrefix(key, prefix) {
				t.Errorf("the key %q", key)
			}
		}
	})
}

// In a cluster, an operation on notifications that renews a session also takes its place on the user's list, whether
// anything is waiting or not.
func TestNotificationsHeal(t *testing.T) {
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		s, ctx, now := newStoreOf(t, server, Config{Prefix: "pycket:", Cluster: true}), t.Context(), Began{At: time.Now()}
		for _, waiting := range []bool{false, true} {
			id := NewID()
			if _, _, o, err := s.Login(ctx, now, id, true, Binding{User: "ann", Authenticated: true}); err != nil || o.State != Alive {
				t.Fatalf("%+v, %v", o, err)
			}
			key, list := s.key(id.Handle), s.listKey(listHash("ann"))
			if waiting {
				s.Notify(ctx, now, id, false, []Field{{"a", []byte("1")}, {"b", []byte("2")}})
				s.Add(ctx, now, id, false, []Field{{"", []byte("message")}})
			}
			for name, use := range map[string]func() (Outcome, error){
				"Peek":      func() (Outcome, error) { _, o, err := s.Peek(ctx, now, id, "b"); return o, err },
				"PeekNames": func() (Outcome, error) { _, o, err := s.PeekNames(ctx, now, id); return o, err },
				"TakeOne":   func() (Outcome, error) { _, o, err := s.TakeOne(ctx, now, id, "a"); return o, err },
				"Drain":     func() (Outcome, error) { _, o, err := s.Drain(ctx, now, id); return o, err },
			} {
				server.Do(0, "DEL", list)
				server.Do(0, "HDEL", key, "pycket:seen")
				server.Do(0, "PEXPIRE", key, 60_000)
				if o, err := use(); err != nil || o.State != Alive {
					t.Fatalf("%s: %+v, %v", name, o, err)
				}
				if places := server.Do(0, "ZCARD", list); places != int64(1) {
					t.Errorf("%s, waiting %t: the list has %v places", name, waiting, places)
				}
				if left := server.Do(0, "PTTL", key); left.(int64) < 60_000 {
					t.Errorf("%s, waiting %t: it lasts %v ms", name, waiting, left)
				}
			}
			if messages, _, err := s.Drain(ctx, now, id); err != nil || len(messages) != 0 {
				t.Errorf("%q, %v", messages, err)
			}
		}
	})
}

// An error in a script names the file and line that it is from.
func TestErrorLines(t *testing.T) {
	server := redistest.Start(t)
	s, id := newStore(t, server, "pycket:"), NewID()
	server.Do(0, "ACL", "SETUSER", "default", "-hstrlen")
	if o, err := s.Set(context.Background(), Began{At: time.Now()}, id, true, []Field{{"a", []byte("1")}}); err != nil || o.State != Alive {
		t.Fatalf("%+v, %v", o, err)
	}
	_, err := s.Set(context.Background(), Began{At: time.Now()}, id, false, []Field{{"a", []byte("1")}})
	if !errors.Is(err, ErrUnavailable) {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`\(weigh\.lua:(\d+)\)`).FindStringSubmatch(err.Error())
	if m == nil {
		t.Fatalf("no line of weigh.lua in %q", err)
	}
	n, _ := strconv.Atoi(m[1])
	if line := strings.Split(lua("weigh"), "\n")[n-1]; !strings.Contains(line, "HSTRLEN") {
		t.Errorf("line %d is %q", n, line)
	}

	// Before Redis 7, errors look otherwise.
	old := fmt.Errorf("ERR Error running script (call to f_%s): @user_script:1: attempt to index a nil value", s.set.Hash())
	if err := s.located(old); !errors.Is(err, old) || !strings.HasSuffix(err.Error(), " (prelude.lua:1)") {
		t.Error(err)
	}
	for _, said := range []string{"", "user_script:1", strings.Repeat("0", 40) + ", on @user_script:1.", s.set.Hash() + ", on @user_script:9999."} {
		if err := errors.New(said); s.located(err) != err {
			t.Error(s.located(err))
		}
	}
}

// What a script says of an id that was ended.
func FuzzEnded(f *testing.F) {
	for _, status := range []string{"", "DD12", "DD12 token", "RR0 ", "RR-5 ", "DR1", "DD", "DD12x", "DD99999999999999999999", " "} {
		f.Add(status)
	}
	f.Fuzz(func(t *testing.T, status string) {
		o, err := ended(status)
		if (err == nil) != (o.State == Destroyed || o.State == Rotated) {
			t.Errorf("%q: %+v, %v", status, o, err)
		}
	})
}
