package store

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gomodule/redigo/redis"

	"github.com/pycket/pycket/internal/redisconn"
	"github.com/pycket/pycket/internal/redistest"
)

// newCachingStore returns a Store that reads from memory, and a function that makes a session, of a user or of none, and
// reads it.
func newCachingStore(t *testing.T, bytes int) (s *Store, begin func(user string, value string) *ID) {
	t.Helper()
	server := redistest.Start(t)
	target := redisconn.Target{Network: "tcp", Address: server.Addr, Other: 1}
	pool := &redis.Pool{MaxIdle: 4, DialContext: target.Dial, TestOnBorrow: redisconn.CheckIdle}
	s = New(redisconn.NewServer(pool, server.Addr, 4, 3*time.Second), Config{
		Prefix: "pycket:", Notifications: 1, Timeout: 3 * time.Second, Idle: 24 * time.Hour, MaxSessionBytes: 1 << 20,
		CacheFor: time.Hour, CacheBytes: bytes, CacheRefused: func(err error) { t.Error(err) },
	})
	t.Cleanup(func() { s.Close() })
	if err := s.Ping(context.Background(), Began{At: time.Now()}); err != nil {
		t.Fatal(err)
	}
	return s, func(user string, value string) *ID {
		t.Helper()
		id := NewID()
		if _, _, _, err := s.Login(context.Background(), Began{At: time.Now()}, id, true, Binding{User: user, Fields: []Field{{"a", []byte(value)}}}); err != nil {
			t.Fatal(err)
		}
		return id
	}
}

// readInto reads a session.
func readInto(t *testing.T, s *Store, id *ID) {
	t.Helper()
	if _, o, err := s.Read(context.Background(), Began{At: time.Now()}, id, "a", false); err != nil || o.State != Alive {
		t.Fatal(o, err)
	}
}

// kept reads a session until it is kept: what Redis has to say of its last write may be under way.
func kept(t *testing.T, s *Store, id *ID) {
	t.Helper()
	for range 1000 {
		readInto(t, s, id)
		if _, ok := s.cache.get(id); ok {
			return
		}
	}
	t.Fatal("it is not kept")
}

// What was read before a session is forgotten is not kept after.
func TestCacheEpochs(t *testing.T) {
	s, begin := newCachingStore(t, 1<<20)
	id, other := begin("ann", "value"), begin("bob", "value")
	kept(t, s, id)
	kept(t, s, other)
	content, _ := s.cache.get(id)
	e, _ := s.cache.entries.GetIfPresent(id.Handle)

	before := s.cache.begin(id, redisconn.NewCommand("a", 1, "PING"))
	s.cache.keep(id, content, before, time.Hour, e.pairing)
	if _, ok := s.cache.get(id); !ok {
		t.Error("nothing has changed, and it was not kept")
	}
	s.cache.forgetKey("pycket:u:{" + id.Handle + "}")
	s.cache.forgetKey("pycket:s:{" + id.Handle)
	if _, ok := s.cache.get(id); !ok {
		t.Error("other keys have changed, and it was forgotten")
	}
	s.cache.forgetKey(s.key(id.Handle))
	s.cache.keep(id, content, before, time.Hour, e.pairing)
	if _, ok := s.cache.get(id); ok {
		t.Error("what was read before it changed was kept after")
	}
	kept(t, s, id)
	before = s.cache.begin(id, redisconn.NewCommand("a", 1, "PING"))
	s.cache.forgetUser("ann")
	if _, ok := s.cache.get(id); ok {
		t.Error("all sessions of its user are to be forgotten, and it was not")
	}
	s.cache.keep(id, content, before, time.Hour, e.pairing)
	if _, ok := s.cache.get(id); ok {
		t.Error("what was read before its user was forgotten was kept after")
	}
	if _, ok := s.cache.get(other); !ok && s.cache.last("ann") != s.cache.last("bob") {
		t.Error("another user's was forgotten")
	}
	kept(t, s, id)
}

// What is kept is bounded in size.
func TestCacheBytes(t *testing.T) {
	const most = 100_000
	s, begin := newCachingStore(t, most)
	value := strings.Repeat("x", 900)
	var ids []*ID
	for i := range 300 {
		id := begin(fmt.Sprint("user", i), value)
		readInto(t, s, id)
		ids = append(ids, id)
	}
	var found, size int
	s.cache.entries.CleanUp()
	for _, id := range ids {
		if content, ok := s.cache.get(id); ok {
			found++
			size += content.items.Size()
		}
	}
	if found == 0 || size > most || s.CacheStats().Bytes > most {
		t.Errorf("%d sessions of %d bytes are kept, %d by the statistics, and %d bytes may be", found, size, s.CacheStats().Bytes, most)
	}
}

// Without CacheFor there is no cache, and nothing to call.
func TestNoCache(t *testing.T) {
	var c *cache
	if _, ok := c.get(NewID()); ok {
		t.Error("found")
	}
	c.begin(nil, nil)
	c.forgetKey("a")
	c.forgetUser("a")
}
