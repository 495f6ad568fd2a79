package store

import (
	"hash/maphash"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/pycket/pycket/internal/redisconn"
)

// A cache keeps sessions in this process's memory, for reads without a round trip. What it returns was the session's
// content no longer than CacheFor ago, and is no older than what this process has written.
//
// The first is Redis's doing: it says which keys have changed, and a [redisconn.Pairing] is fresh only as long as it
// surely would have. The second is [Store.run]'s: it forgets what it may have changed.
//
// Forgetting is not enough, since a read may be under way that began before, and ends after. So forgetting a session
// begins a new epoch, and what was read in another is not kept.
//
// All methods may be called on nil: it keeps nothing.
type cache struct {
	entries *otter.Cache[string, *entry] // by handle
	prefix  string                       // of the sessions' keys
	redis   redisconn.Client
	shards  [256]shard

	// A Login may end sessions that only Redis knows: the others of its user. They are known by the user's hash. logins
	// counts such logins, and lasts has the number of the last for each hash.
	login  sync.Mutex
	logins atomic.Uint64
	lasts  [1024]atomic.Uint64

	hits, misses, changes atomic.Uint64
}

// A shard is what sessions have in common whose handles have one hash.
type shard struct {
	mu    sync.Mutex
	epoch uint64
}

// An entry is a session as it was read. Nothing writes to it.
type entry struct {
	content  Content
	verifier string    // of the id that it was read with
	until    time.Time // when it is to be read again, if only to be renewed
	pairing  *redisconn.Pairing
	user     int // the hash of its user, -1 for none
	logins   uint64
}

// A reading is when a read began.
type reading struct {
	at            time.Time
	epoch, logins uint64
}

// entryBytes is about what an entry takes besides the content.
const entryBytes = 500

var cacheSeed = maphash.MakeSeed()

func newCache(client redisconn.Client, config Config) *cache {
	c := &cache{redis: client, prefix: config.Prefix + "s:{"}
	c.entries = otter.Must(&otter.Options[string, *entry]{
		MaximumWeight: uint64(config.CacheBytes), // #nosec G115 -- it is positive
		Weigher: func(_ string, e *entry) uint32 {
			return uint32(min(e.content.items.Size()+entryBytes, math.MaxUint32)) // #nosec G115
		},
	})
	client.Track(redisconn.Tracking{
		For: config.CacheFor,
		Changed: func(key []byte) {
			c.changes.Add(1)
			c.forgetKey(string(key))
		},
		Refused: config.CacheRefused,
	})
	return c
}

func (c *cache) shard(handle string) *shard {
	return &c.shards[maphash.String(cacheSeed, handle)%uint64(len(c.shards))]
}

func (c *cache) last(user string) int {
	return int(maphash.String(cacheSeed, user) % uint64(len(c.lasts))) // #nosec G115
}

// get returns the session that id opens, if it is kept and may be used.
func (c *cache) get(id *ID) (Content, bool) {
	if c == nil {
		return Content{}, false
	}
	e, ok := c.entries.GetIfPresent(id.Handle)
	now := time.Now()
	if !ok || e.verifier != id.verifier || !e.pairing.Fresh(now) || !redisconn.Before(now, e.until) ||
		e.user >= 0 && c.lasts[e.user].Load() > e.logins {
		c.misses.Add(1)
		return Content{}, false
	}
	c.hits.Add(1)
	return e.content, true
}

// begin is called before a read is sent, of which all may be kept.
func (c *cache) begin(id *ID, command *redisconn.Command) reading {
	if c == nil {
		return reading{}
	}
	command.Track()
	s := c.shard(id.Handle)
	s.mu.Lock()
	defer s.mu.Unlock()
	return reading{at: time.Now(), epoch: s.epoch, logins: c.logins.Load()}
}

// keep keeps what was read, unless it may have changed since the read began. It may be used for rest.
func (c *cache) keep(id *ID, content Content, r reading, rest time.Duration, pairing *redisconn.Pairing) {
	if pairing == nil {
		return
	}
	e := &entry{content: content, verifier: id.verifier, until: r.at.Add(rest), pairing: pairing, user: -1, logins: r.logins}
	if user := content.Value(UserField); len(user) > 0 {
		e.user = c.last(string(user))
	}
	s := c.shard(id.Handle)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.epoch == r.epoch {
		c.entries.Set(id.Handle, e)
	}
}

// forgetKey forgets the session that has a key, if it is a session's.
func (c *cache) forgetKey(key string) {
	if c == nil {
		return
	}
	handle, ok := strings.CutPrefix(key, c.prefix)
	if !ok || !strings.HasSuffix(handle, "}") {
		return
	}
	handle = handle[:len(handle)-1]
	s := c.shard(handle)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch++
	c.entries.Invalidate(handle)
}

// Forget makes the next read of a session ask Redis. The id may be nil.
func (s *Store) Forget(id *ID) {
	if s.cache != nil && id != nil {
		s.cache.forgetKey(s.key(id.Handle))
	}
}

// forgetUser forgets all sessions of a user, and perhaps of some others.
func (c *cache) forgetUser(user string) {
	if c == nil {
		return
	}
	c.login.Lock()
	defer c.login.Unlock()
	c.lasts[c.last(user)].Store(c.logins.Add(1))
}

// CacheStats are counted since the Store was made.
type CacheStats struct {
	Hits, Misses  uint64
	Invalidations uint64
	Bytes         uint64
	PongAge       time.Duration // how long ago Redis has confirmed that it tells all changes; 0 if it doesn't
}

// CacheStats returns how the sessions in memory are used.
func (s *Store) CacheStats() CacheStats {
	c := s.cache
	if c == nil {
		return CacheStats{}
	}
	stats := CacheStats{Hits: c.hits.Load(), Misses: c.misses.Load(), Invalidations: c.changes.Load(), Bytes: c.entries.WeightedSize()}
	if at, ok := c.redis.Heard(); ok {
		stats.PongAge = time.Since(at)
	}
	return stats
}
