package redisconn

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/gomodule/redigo/redis"
)

// A lane is the connection that requests share.
//
// A goroutine puts its command into the queue. If no other is writing, it writes all that is queued by then (group
// commit). Then, if no other is reading, it reads. Replies come in the order of the commands: it delivers those of
// others until it has its own, and passes the reading on. So a single request writes and reads for itself, as on a
// connection of its own. Connecting has a goroutine, since it may take longer than the first caller can wait, and so
// has writing that might block.
//
// Every call ends exactly once: with its replies, with the error that broke the connection, or with its context's
// error. In the last case its replies are dropped when they arrive. The connection breaks if the oldest command has no
// reply by its deadline, so no call takes longer than the timeout.
type lane struct {
	server *Server

	mu         sync.Mutex
	borrowed   redis.Conn // from redigo's pool; nil if there is no connection
	conn       *conn      // what borrowed wraps
	connecting bool
	leaving    bool    // the connection is to be given up when it has delivered the replies that are due
	queue      []*call // not yet written
	waiting    []*call // written, oldest first; replies come in this order
	batch      []byte  // being written, if it is more than one command
	unanswered int     // the size of the commands in waiting, in bytes
	writing    bool    // a goroutine writes, or is about to
	reading    bool    // a goroutine reads, or was woken to
	lastUsed   time.Time
	failures   int       // of connecting, in a row
	retryAt    time.Time // not to connect before
	closed     bool
	running    sync.WaitGroup // callers and goroutines, also those on other connections of the server
}

// A call is a command under way. All but the first two fields are guarded by lane.mu.
type call struct {
	command  *Command
	deadline time.Time

	replies   Replies
	got       int // how many of them have come
	err       error
	done      bool
	reader    bool          // it is this call's turn to read
	abandoned bool          // no goroutine waits for it
	wake      chan struct{} // done or reader has become true
}

func (c *call) finish(err error) {
	c.err, c.done = err, true
	c.signal()
}

func (c *call) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// do carries out one command.
func (l *lane) do(ctx context.Context, now, deadline time.Time, command *Command) (Replies, error) {
	c := calls.Get().(*call)
	c.command, c.deadline = command, deadline
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return Replies{}, errClosed
	}
	l.running.Add(1)
	defer l.running.Done()
	l.retire(now)
	l.lastUsed = now
	l.queue = append(l.queue, c)
	switch {
	case l.conn == nil:
		l.connect()
	case !l.writing && !l.leaving:
		l.write(true)
	}
	for !c.done {
		if c.reader {
			if err := l.read(ctx, c); err != nil && !c.done {
				return Replies{}, l.abandon(c, err)
			}
			continue
		}
		l.mu.Unlock()
		select {
		case <-c.wake:
			l.mu.Lock()
		case <-ctx.Done():
			l.mu.Lock()
			if !c.done {
				return Replies{}, l.abandon(c, ctx.Err())
			}
		}
	}
	r, err := c.replies, c.err
	if err == nil { // nothing else refers to the call
		select {
		case <-c.wake:
		default:
		}
		*c = call{wake: c.wake}
		calls.Put(c)
	}
	return r, err
}

var calls = sync.Pool{New: func() any { return &call{wake: make(chan struct{}, 1)} }}

// retire closes a connection that has been idle too long, that the server has closed, or that has received what no
// command asked for.
func (l *lane) retire(now time.Time) {
	if l.conn == nil || l.writing || l.reading || len(l.queue) > 0 {
		return
	}
	idle := now.Sub(l.lastUsed)
	good := !l.leaving && idle <= IdleClose
	switch {
	case !good:
	case len(l.waiting) == 0: // otherwise, all that are have been abandoned
		good = l.conn.usable()
	case now.After(l.waiting[0].deadline):
		good = l.conn.peeker.pending()
	case idle > idleCheck:
		good = l.conn.peeker.stillOpen(true)
	}
	if !good {
		l.hangUp()
	}
}

// hangUp closes the connection. redigo's pool does not take back what is closed.
func (l *lane) hangUp() {
	l.conn.pairing.end()
	l.conn.Close()
	l.borrowed.Close()
	l.conn, l.borrowed, l.waiting, l.unanswered = nil, nil, nil, 0
	l.leaving, l.reading = false, false
}

// write writes what is queued until nothing is. If there are other calls, it lets goroutines that are ready run first:
// they may have commands too. A caller leaves writing that might block to another goroutine, to be free to go.
func (l *lane) write(caller bool) {
	l.writing = true
	for len(l.queue) > 0 && l.conn != nil && !l.leaving {
		if len(l.queue)+len(l.waiting) > 1 {
			l.mu.Unlock()
			runtime.Gosched()
			l.mu.Lock()
			if l.conn == nil || l.leaving {
				break
			}
		}
		l.queue = slices.DeleteFunc(l.queue, func(c *call) bool { return c.abandoned })
		if len(l.queue) == 0 {
			break
		}
		size := l.unanswered
		for _, c := range l.queue {
			size += len(c.command.wire)
			if c.command.sent != nil {
				*c.command.sent = carriage{l.conn, l.conn.pairing}
			}
		}
		if caller && size > surelySent {
			l.running.Go(func() {
				l.mu.Lock()
				defer l.mu.Unlock()
				l.write(false)
			})
			return
		}
		deadline := l.queue[0].deadline
		wire := l.queue[0].command.wire
		if len(l.queue) > 1 {
			wire = l.batch[:0]
			for _, c := range l.queue {
				wire = append(wire, c.command.wire...)
			}
			l.batch = wire
		}
		l.waiting = append(l.waiting, l.queue...)
		clear(l.queue)
		l.queue, l.unanswered = l.queue[:0], size
		conn := l.conn
		if !caller { // which is about to read
			l.passReading()
		}
		l.mu.Unlock()
		err := conn.write(deadline, l.server.timeout/2, wire)
		l.mu.Lock()
		if err != nil {
			l.broke(conn, err)
		}
	}
	l.writing = false
	l.connect()
	l.passReading()
}

// passReading wakes a goroutine to read, if replies are due and none reads.
func (l *lane) passReading() {
	if l.reading {
		return
	}
	for _, c := range l.waiting {
		if !c.abandoned {
			l.reading, c.reader = true, true
			c.signal()
			return
		}
	}
	if l.leaving { // and no call waits for the replies that are due
		l.giveUp()
	}
}

// leave gives up a connection that leads elsewhere than to the master, when it has delivered the replies that are due. A
// server that hangs never sends them, so it is not given long.
func (l *lane) leave(master string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == nil || l.conn.address == master || l.closed {
		return
	}
	l.leaving = true
	l.conn.pairing.end()
	if len(l.waiting) == 0 && !l.writing && !l.reading {
		l.giveUp()
		return
	}
	replaced := l.conn
	l.running.Go(func() {
		time.Sleep(lastReplies)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.broke(replaced, errReplaced)
	})
}

// lastReplies is how long a server that is not the master any more has to send the replies that are due.
const lastReplies = 100 * time.Millisecond

var errReplaced = errors.New("the server is not the master any more")

// giveUp closes a connection that no call waits for. What is queued is written to the next.
func (l *lane) giveUp() {
	l.hangUp()
	l.failed()
	l.connect()
}

// read reads replies until the caller's own call is done, and passes the reading on. It returns an error if the
// caller's context or time ends before.
func (l *lane) read(ctx context.Context, own *call) error {
	conn := l.conn
	for !own.done {
		// The connection is dead if the oldest call, abandoned or not, has no reply by its deadline. The caller's own
		// deadline may be earlier.
		first := l.waiting[0].deadline
		until := first
		if own.deadline.Before(until) {
			until = own.deadline
		}
		l.mu.Unlock()
		err := conn.await(ctx, until)
		var r Reply
		if err == nil {
			r, err = conn.receive()
		}
		l.mu.Lock()
		switch {
		case l.conn != conn: // it broke while mu was unlocked, and all calls are done
			return nil
		case err == nil:
			l.deliver(r)
		case err == ctx.Err(), errors.Is(err, os.ErrDeadlineExceeded) && time.Now().Before(first):
			return err
		default:
			l.broke(conn, err)
			return nil
		}
	}
	// No other goroutine is woken only for what has been read already.
	for l.conn == conn && len(l.waiting) > 0 && conn.whole() {
		r, err := conn.receive()
		if err != nil {
			l.broke(conn, err)
			return nil
		}
		l.deliver(r)
	}
	if l.conn == conn {
		l.reading, own.reader = false, false
		if len(l.waiting) == 0 && conn.surplus() {
			l.giveUp()
		}
		l.passReading()
	}
	return nil
}

// deliver hands a reply to the oldest call.
func (l *lane) deliver(r Reply) {
	c := l.waiting[0]
	if !c.command.accept(&r, c.got) {
		l.broke(l.conn, errProtocol)
		return
	}
	if r.notMaster() {
		l.leaving = true
	}
	c.replies[c.got] = r
	if c.got++; c.got < c.command.replies {
		return
	}
	l.conn.reused, l.failures = true, 0
	l.waiting = slices.Delete(l.waiting, 0, 1) // in place, so that appending takes no memory
	l.unanswered -= len(c.command.wire)
	c.finish(nil)
	if l.leaving && len(l.waiting) == 0 {
		l.giveUp()
	}
}

// broke ends every call whose command was written to the connection. What is queued is written to the next.
func (l *lane) broke(conn *conn, cause error) {
	if l.conn != conn {
		return
	}
	err := &brokenError{cause, conn.reused}
	for _, c := range l.waiting {
		c.finish(err)
	}
	l.hangUp()
	if !conn.reused {
		l.failed()
	}
	l.connect()
}

// abandon marks a call that has not ended as one that no goroutine waits for.
func (l *lane) abandon(c *call, err error) error {
	c.abandoned = true
	if c.reader {
		l.reading, c.reader = false, false
	}
	l.passReading()
	if slices.Contains(l.queue, c) {
		return err // not written
	}
	return &brokenError{err, false}
}

const (
	// IdleClose is when an idle connection is closed: before a firewall or load balancer drops it in silence, as some do
	// after five minutes.
	IdleClose = 4 * time.Minute

	// idleCheck is how long a connection on which replies are due may be idle before its next user checks whether it is
	// open. One on which none are due is always checked.
	idleCheck = 10 * time.Millisecond

	// Between attempts to connect there is a pause, which doubles from firstPause to lastPause, less a random part of up
	// to a half: many processes that lose one Redis must not all return at once. Calls wait for the next attempt, so the
	// first one after Redis is back succeeds.
	firstPause = 5 * time.Millisecond
	lastPause  = 100 * time.Millisecond
)

// connect makes a connection for the calls that are queued, unless there is one or that is under way. It does nothing
// while a goroutine writes, which calls connect when it is done.
func (l *lane) connect() {
	if l.conn != nil || l.connecting || l.writing || len(l.queue) == 0 {
		return
	}
	l.connecting = true
	deadline, pause := l.queue[0].deadline, time.Until(l.retryAt)
	l.running.Go(func() {
		time.Sleep(min(pause, time.Until(deadline)))
		borrowed, conn, err := l.server.borrow(context.Background(), deadline)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.connecting = false
		if err != nil {
			l.failed()
			// If this only took too long, calls with time left get another attempt.
			slow, now := timedOut(err), time.Now()
			l.queue = slices.DeleteFunc(l.queue, func(c *call) bool {
				if slow && c.deadline.After(now) && !c.abandoned {
					return false
				}
				c.finish(err)
				return true
			})
			l.connect()
			return
		}
		l.borrowed, l.conn = borrowed, conn
		if !l.writing {
			l.write(false)
		}
	})
}

// failed notes that connecting has failed.
func (l *lane) failed() {
	pause := min(firstPause<<min(l.failures, 10), lastPause)
	l.failures++
	l.retryAt = time.Now().Add(pause - rand.N(pause/2)) // #nosec G404 -- nobody gains from guessing it
}

// enter makes close wait until running.Done, unless the lane is closed.
func (l *lane) enter() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return errClosed
	}
	l.running.Add(1)
	return nil
}

// close lets nothing more begin, waits for what is running, and closes the connection.
func (l *lane) close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.running.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn != nil {
		l.hangUp()
	}
}
