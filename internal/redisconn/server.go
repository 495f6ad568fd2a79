package redisconn

import (
	"context"
	"fmt"
	"hash/maphash"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/gomodule/redigo/redis"
)

// A Server is one server and the connections to it.
//
// The commands of many callers share one connection, the lane. They are written together and answered in order, which
// saves both sides most of their system calls. A command that is large, and would keep the others waiting, gets a
// connection from the pool to itself, and so does one on a key that had a large command or reply before, unless this
// command is known to have small ones. One that waits for replicas does too: WAIT is for what its own connection has
// written, and holds up whatever is behind it.
type Server struct {
	address string
	pool    *redis.Pool
	lane    lane
	slots   chan struct{} // has an element for each connection in use besides the lane's
	timeout time.Duration
	large   marks // of keys that had large commands or replies: the next replies may be large too, and keep others waiting
	small   marks // of reads of them that have small replies

	tracker   *tracker   // nil if nothing is tracked
	sentinels *Sentinels // which say where the server is; nil if it stays where it is
}

// NewServer returns a Server that takes its connections from pool, which has them from [Target.Dial]. It uses at most
// so many at once. timeout bounds every command, waiting and dialing included. NewServer dials nothing.
func NewServer(pool *redis.Pool, address string, connections int, timeout time.Duration) *Server {
	s := &Server{address: address, pool: pool, timeout: timeout}
	s.slots = make(chan struct{}, connections-1)
	s.lane.server = s
	return s
}

// Follow makes the server the one that sentinels say is the master. Its pool has its connections from them.
func (s *Server) Follow(sentinels *Sentinels) {
	s.sentinels, sentinels.server = sentinels, s
}

// CheckIdle is for the pool's TestOnBorrow. It refuses a connection that the server has closed while it was idle, or
// that has received what no command asked for. It costs one system call and no round trip.
func CheckIdle(c redis.Conn, _ time.Time) error {
	if !c.(*conn).usable() {
		return net.ErrClosed
	}
	return nil
}

// Do implements [Client].
func (s *Server) Do(ctx context.Context, began time.Time, c *Command) (Reply, error) {
	r, err := s.DoAll(ctx, began, c)
	return r[0], err
}

// DoAll implements [Client].
func (s *Server) DoAll(ctx context.Context, began time.Time, c *Command) (Replies, error) {
	r, err := s.do(ctx, began, c)
	if c.isUnknown(&r) {
		r, err = s.do(ctx, began, c.Whole())
	}
	return r, err
}

// do is DoAll for a script that the server knows. A connection that does not answer in the little time that a caller may
// have left is not dead. So a command that begins late, or again, gives the connection the whole timeout, and a context
// that ends with the operation limits the caller.
func (s *Server) do(ctx context.Context, began time.Time, c *Command) (Replies, error) {
	c.untold()
	end := began.Add(s.timeout)
	at, deadline := began, end
	if now := time.Now(); now.Sub(began) > s.timeout/10 { // others have kept the caller waiting
		if !now.Before(end) {
			return Replies{}, unavailable(os.ErrDeadlineExceeded)
		}
		limit, cancel := context.WithDeadlineCause(ctx, end, errOwnLimit)
		defer cancel()
		ctx, at, deadline = limit, now, now.Add(s.timeout)
	}
	try := s.lane.do
	key := c.keyMark()
	alone := cap(s.slots) > 0 && (c.replicas > 0 || len(c.wire) > largeCommand || s.large.has(key) && !s.small.has(c.mark()))
	if alone {
		try = s.doAlone
	}
	c.goes(s)
	r, err := try(ctx, at, deadline, c)
	if err != nil && c.repeatable {
		r, err = s.again(ctx, end, c, try, r, err)
	}
	switch {
	case max(r.size(), len(c.wire)) > largeCommand:
		s.large.add(key)
		s.small.remove(c.mark())
	case alone && err == nil && c.script == nil && r.err(c.replies) == nil: // a script may have another reply next time
		s.small.add(c.mark())
	}
	if c.sent != nil && err == nil && s.tracker != nil && !c.sent.pairing.valid() {
		s.tracker.want(s.tracker.wanted, c.key)
	}
	return r, c.outcome(ctx, &r, err)
}

// again tries a command again after an error, while that may help and the operation has not ended.
func (s *Server) again(ctx context.Context, end time.Time, c *Command, try attempt, r Replies, err error) (Replies, error) {
	limited, cancel := context.WithDeadlineCause(ctx, end, errOwnLimit)
	defer cancel()
	for tries := 1; err != nil && limited.Err() == nil; tries++ {
		if broken, ok := err.(*brokenError); !ok || !broken.reused && tries >= maxTries {
			break
		}
		c.goes(s)
		now := time.Now()
		r, err = try(limited, now, now.Add(s.timeout), c)
	}
	return r, err
}

// An attempt is one try of a command, on the lane or alone.
type attempt = func(ctx context.Context, now, deadline time.Time, c *Command) (Replies, error)

// maxTries is how often a repeatable command is tried on connections that break when they are new.
const maxTries = 3

const (
	// largeCommand is the size above which a command gets a connection to itself, or a reply gets one for the next
	// commands on its key.
	largeCommand = 16 << 10

	// surelySent is how many bytes can be written without blocking though the other side reads nothing.
	surelySent = 32 << 10
)

// marks remembers keys, or commands, by their hashes. One may displace another, so memory is bounded.
type marks [1 << 12]atomic.Uint64

func (m *marks) has(mark uint64) bool { return m[mark%uint64(len(m))].Load() == mark }
func (m *marks) add(mark uint64)      { m[mark%uint64(len(m))].Store(mark) }
func (m *marks) remove(mark uint64)   { m[mark%uint64(len(m))].CompareAndSwap(mark, 0) }

var markSeed = maphash.MakeSeed()

// keyMark returns the hash of the command's key, and mark that of all of the command, which few need.
func (c *Command) keyMark() uint64 { return maphash.String(markSeed, c.key) }
func (c *Command) mark() uint64 {
	return maphash.Bytes(markSeed, c.wire[:min(len(c.wire), largeCommand)])
}

// doAsking carries out a command on a key that is moving to this server of a cluster.
func (s *Server) doAsking(ctx context.Context, deadline time.Time, c *Command) (Replies, error) {
	c.untold()
	c.goes(s)
	r, err := s.doAlone(ctx, time.Time{}, deadline, c.withAsking())
	if c.isUnknown(&r) {
		c.goes(s)
		r, err = s.doAlone(ctx, time.Time{}, deadline, c.Whole().withAsking())
	}
	return r, c.outcome(ctx, &r, err)
}

// doAlone carries out a command on a connection from the pool. A goroutine does it, since writing what is large takes
// time, and goes on if the caller's context ends.
func (s *Server) doAlone(ctx context.Context, _, deadline time.Time, c *Command) (Replies, error) {
	if err := s.lane.enter(); err != nil {
		return Replies{}, err
	}
	if own, ok := ctx.Deadline(); ok && c.replicas > 0 && own.Before(deadline) {
		deadline = own // by which WAIT must have ended
	}
	var begun atomic.Bool // or abandoned by the caller
	var r Replies
	var err error
	ended := make(chan struct{})
	go func() {
		defer s.lane.running.Done()
		defer close(ended)
		if err = s.acquire(ctx, deadline); err != nil {
			return
		}
		defer func() { <-s.slots }()
		borrowed, own, failed := s.borrow(ctx, deadline)
		if err = failed; err != nil {
			return
		}
		defer borrowed.Close()
		if begun.CompareAndSwap(false, true) {
			r, err = own.carryOut(deadline, c)
		}
	}()
	select {
	case <-ended:
		return r, err
	case <-ctx.Done():
		if begun.CompareAndSwap(false, true) {
			return Replies{}, ctx.Err()
		}
		return Replies{}, &brokenError{ctx.Err(), false}
	}
}

// borrow takes a connection out of redigo's pool. It returns the pool's wrapper, which is to be closed after use, and
// the conn in it.
func (s *Server) borrow(ctx context.Context, deadline time.Time) (redis.Conn, *conn, error) {
	limited, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	borrowed, err := s.pool.GetContext(limited)
	if err != nil {
		if own, ok := ctx.Deadline(); ok && own.Before(deadline) && timedOut(err) { // net's timer may be ahead of the context's
			<-ctx.Done()
			err = ctx.Err()
		}
		return nil, nil, err
	}
	c, err := borrowed.Do(unwrap)
	if err != nil {
		return nil, nil, err
	}
	return borrowed, c.(*conn), nil
}

// acquire waits for one of the connections to be free.
func (s *Server) acquire(ctx context.Context, deadline time.Time) error {
	select {
	case s.slots <- struct{}{}:
		return nil
	default:
	}
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	select {
	case s.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return fmt.Errorf("all %d connections are in use: %w", cap(s.slots), os.ErrDeadlineExceeded)
	}
}

// Split implements [Client]: there is one server.
func (s *Server) Split(keys []string) [][]string { return [][]string{keys} }

// Probes implements [Client].
func (s *Server) Probes(context.Context, time.Time) ([]Probe, error) {
	return []Probe{{Tag: "ping"}}, nil
}

// Close implements [Client].
func (s *Server) Close() error {
	s.tracker.close()
	s.lane.close()
	if s.sentinels != nil {
		s.sentinels.close()
	}
	return s.pool.Close()
}
