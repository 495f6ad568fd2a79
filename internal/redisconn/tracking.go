package redisconn

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"regexp"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gomodule/redigo/redis"
)

// A Tracking is what a [Client] is told of Redis's client-side caching, with which the server says what has changed of
// what was read. Its functions are called by several goroutines.
type Tracking struct {
	// For is how long what was read may be used without word from the server.
	For time.Duration

	// Changed is told of every key that may have changed since a tracked command read it.
	Changed func(key []byte)

	// Refused is told that a server does not track, and why. It is asked again after a while.
	Refused func(error)
}

// ErrUntracked means that a server does not track reads, or none that can be relied on.
var ErrUntracked = errors.New("redis does not track what is read")

var errElsewhere = errors.New("the two connections lead to different servers")

// A Pairing is two connections to one server: the lane, whose reads the server tracks, and another, on which it says
// what has changed. What was read may be used while the Pairing is fresh, unless Changed is told of the key. When
// either connection breaks it is void for good.
type Pairing struct {
	until atomic.Pointer[time.Time] // when it ceases to be fresh; &never when it is void
	void  chan struct{}             // closed when it is
	probe string                    // the key by which the two have found each other
}

var never time.Time

// Fresh reports whether, of all that the server says had changed by For before now, Changed has been told.
func (p *Pairing) Fresh(now time.Time) bool { return p != nil && Before(now, *p.until.Load()) }

// Before reports whether now is before a time by both clocks that Go reads: the monotonic one, which stands still while
// a machine is suspended, and the other, which people may set.
func Before(now, then time.Time) bool {
	return now.Before(then) && now.UnixNano() < then.UnixNano()
}

// valid reports whether a Pairing is not void. It may be nil.
func (p *Pairing) valid() bool { return p != nil && p.until.Load() != &never }

// extend makes a Pairing fresh for longer, unless it is void.
func (p *Pairing) extend(until time.Time) {
	if old := p.until.Load(); old != &never {
		p.until.CompareAndSwap(old, &until) // only end changes it besides
	}
}

// end makes a Pairing void. It may be nil.
func (p *Pairing) end() {
	if p != nil && p.until.Swap(&never) != &never {
		close(p.void)
	}
}

// A carriage says how a tracked command was sent. It is written under lane.mu.
type carriage struct {
	conn    *conn    // nil if it did not go by the lane
	pairing *Pairing // that the connection had by then
}

// Track makes Redis remember, and [Command.Pairing] tell, what may be kept of the replies. In a cluster the command's key
// has a hash tag: connections find each other by a key beside it.
func (c *Command) Track() { c.sent = new(carriage) }

// Pairing returns the Pairing under which a tracked command was sent, nil if it was under none: then nobody is told when
// the replies are out of date.
func (c *Command) Pairing() *Pairing { return c.sent.pairing }

// untold forgets how a command was sent, which is to be sent again.
func (c *Command) untold() {
	if c.sent != nil {
		*c.sent = carriage{}
	}
}

// A tracker keeps a Pairing of a server, from the first command that asks for it. Its goroutine makes the second
// connection, pairs it with the lane's, and asks on both, again and again, whether they are alive.
type tracker struct {
	Tracking
	server *Server

	begin          sync.Once
	wanted, urgent chan string // the key of a command that was not tracked; urgent does not wait
	stopping       context.Context
	stop           context.CancelFunc
	ended          chan struct{}

	current atomic.Pointer[Pairing] // nil at first

	mu    sync.Mutex
	tried chan struct{} // closed at the end of an attempt
	cause error         // of its failure
}

// Track makes the server track the reads of commands that ask for it with [Command.Track]. Call it before the first.
func (s *Server) Track(t Tracking) {
	stopping, stop := context.WithCancel(context.Background())
	s.tracker = &tracker{Tracking: t, server: s, wanted: make(chan string, 1), urgent: make(chan string, 1),
		stopping: stopping, stop: stop, ended: make(chan struct{}), tried: make(chan struct{})}
}

// Tracks implements [Client].
func (s *Server) Tracks(ctx context.Context, began time.Time, key string) error {
	limited, cancel := context.WithDeadlineCause(ctx, began.Add(s.timeout), errOwnLimit)
	defer cancel()
	t := s.tracker
	for {
		t.mu.Lock()
		tried := t.tried
		t.mu.Unlock()
		if t.current.Load().valid() {
			return nil
		}
		t.want(t.urgent, key)
		select {
		case <-tried:
			t.mu.Lock()
			err := t.cause
			t.mu.Unlock()
			if errors.Is(err, ErrUntracked) {
				return err
			}
			if err != nil {
				return failure(ctx, err)
			}
		case <-limited.Done():
			return failure(limited, limited.Err())
		case <-t.ended:
			return failure(ctx, errClosed)
		}
	}
}

// Heard implements [Client].
func (s *Server) Heard() (time.Time, bool) {
	if s.tracker == nil {
		return time.Time{}, false
	}
	p := s.tracker.current.Load()
	if p == nil {
		return time.Time{}, false
	}
	until := p.until.Load()
	return until.Add(-s.tracker.For), until != &never
}

// unpair makes void what there is.
func (s *Server) unpair() {
	if s.tracker != nil {
		s.tracker.current.Load().end()
	}
}

// want asks for a Pairing, unless that is under way.
func (t *tracker) want(how chan string, key string) {
	t.begin.Do(func() { go t.run() })
	select {
	case how <- key:
	default:
	}
}

// close ends the goroutine, and what it keeps. t may be nil.
func (t *tracker) close() {
	if t == nil {
		return
	}
	t.stop()
	t.begin.Do(func() { close(t.ended) })
	<-t.ended
}

const (
	// untrackedPause is how long a server that does not track is not asked again, except by Tracks.
	untrackedPause = time.Minute

	// refusedPause is for one that does not take the write with which connections find each other.
	refusedPause = time.Second
)

// run follows the server whenever that is wanted.
func (t *tracker) run() {
	defer close(t.ended)
	pause := firstPause
	for key, ok := t.next(0); ok; {
		pairing, err := t.follow(key)
		if t.stopping.Err() != nil {
			return
		}
		t.end(err)
		switch refusal := new(Refusal); {
		case errors.Is(err, ErrUntracked):
			t.Refused(err)
			key, ok = t.next(untrackedPause)
			continue
		case errors.As(err, refusal):
			key, ok = t.next(refusedPause)
			continue
		case pairing != nil:
			pause = firstPause
		}
		key, ok = t.next(pause - mathrand.N(pause/2)) // #nosec G404 -- nobody gains from guessing it
		pause = min(2*pause, lastPause)
	}
}

// next waits until a Pairing is wanted, and the pause has passed or that is urgent. It returns the key of whoever wants
// it; ok is false when the tracker is to end.
func (t *tracker) next(pause time.Duration) (key string, ok bool) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case key = <-t.urgent:
		return key, true
	case <-t.stopping.Done():
		return "", false
	}
	select {
	case key = <-t.wanted:
	case key = <-t.urgent:
	case <-t.stopping.Done():
		return "", false
	}
	return key, true
}

// end notes the end of an attempt.
func (t *tracker) end(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cause = err
	close(t.tried)
	t.tried = make(chan struct{})
}

// A follower is the second connection, and what is heard on it.
type follower struct {
	*tracker
	conn  *conn
	probe string // that is to be heard of

	pong   chan bool     // whether the probe was heard of before
	broken chan struct{} // closed when nothing more is heard
	err    error         // why, from then on
}

// follow makes a Pairing, keeps it fresh, and returns when it is void. The Pairing is nil if there was none.
func (t *tracker) follow(key string) (*Pairing, error) {
	f := &follower{tracker: t, probe: key + ":" + rand.Text(), pong: make(chan bool, 1), broken: make(chan struct{})}
	id, err := f.connect()
	if err != nil {
		return nil, err
	}
	defer context.AfterFunc(t.stopping, func() { f.conn.Close() })()
	go f.listen()
	defer func() {
		f.conn.Close()
		<-f.broken
	}()
	p, err := f.pair(key, id)
	if err != nil {
		return nil, err
	}
	defer p.end()
	t.end(nil)
	beat := time.NewTicker(max(t.For/4, shortestBeat))
	defer beat.Stop()
	for {
		select {
		case <-beat.C:
		case <-p.void: // the lane has lost the connection
			return p, nil
		case <-f.broken:
			return p, f.err
		}
		if err := f.beat(p); err != nil {
			return p, err
		}
	}
}

// shortestBeat is the least time between two questions whether the connections are alive.
const shortestBeat = 2 * time.Millisecond

// invalidations is the channel on which Redis says what has changed.
const invalidations = "__redis__:invalidate"

// connect makes the second connection, and returns by which id the server knows it.
func (f *follower) connect() (id int64, err error) {
	ctx, cancel := context.WithTimeout(f.stopping, f.server.timeout)
	defer cancel()
	dialed, err := f.server.pool.DialContext(ctx)
	if err != nil {
		return 0, err
	}
	f.conn = dialed.(*conn)
	defer context.AfterFunc(ctx, func() { f.conn.Close() })()
	f.conn.setReadDeadline(time.Time{})
	// From here on redigo reads: it knows lists in lists.
	if err = f.send("CLIENT", "ID"); err == nil {
		id, err = redis.Int64(redis.ReceiveWithTimeout(f.conn.Conn, f.server.timeout))
	}
	if err == nil {
		if err = f.send("SUBSCRIBE", invalidations); err == nil {
			_, err = redis.ReceiveWithTimeout(f.conn.Conn, f.server.timeout)
		}
	}
	if err != nil {
		f.conn.Close()
	}
	return id, untracked(err)
}

// untracked tells the errors that say that a server does not track from others.
func untracked(err error) error {
	var refused redis.Error
	if !errors.As(err, &refused) {
		return err
	}
	replies := Replies{{kind: '-', text: []byte(refused)}}
	if adviceOnWrites(string(refused)) != "" || replies.mayPass() || passes.MatchString(string(refused)) {
		return Refusal{refused}
	}
	if advice := adviceFor(refused); advice != "" {
		return fmt.Errorf("%w: %w; %s", ErrUntracked, withoutArgs(refused), advice)
	}
	return fmt.Errorf("%w: %w", ErrUntracked, withoutArgs(refused))
}

// passes finds errors of a server that has too much to do.
var passes = regexp.MustCompile("^BUSY|max number of clients")

// send writes a command on the second connection.
func (f *follower) send(words ...string) error {
	c := new(Command)
	c.Then(len(words), words[0])
	for _, word := range words[1:] {
		c.String(word)
	}
	return f.conn.write(time.Now().Add(f.server.timeout), 0, c.wire)
}

// listen hears what the server says until the connection breaks. Then, or when the server says that everything has
// changed, all that was read is void.
func (f *follower) listen() {
	defer func() {
		close(f.broken)
		f.current.Load().end()
		f.conn.Close()
	}()
	heard := false
	for {
		message, err := redis.Values(redis.ReceiveWithTimeout(f.conn.Conn, 0))
		if err != nil {
			f.err = untracked(err)
			return
		}
		kind, _ := redis.String(message[0], nil)
		switch {
		case kind == "pong":
			select {
			case f.pong <- heard:
			default: // nobody has asked
			}
		case kind != "message" || len(message) < 3:
		case message[2] == nil:
			f.err = errFlushed
			return
		default:
			keys, _ := redis.ByteSlices(message[2], nil) // whatever else is published there is not Redis's
			for _, key := range keys {
				if string(key) == f.probe {
					heard = true
				} else {
					f.Changed(key)
				}
			}
		}
	}
}

var (
	errFlushed = errors.New("the database was emptied")
	errSilent  = fmt.Errorf("the server does not answer a subscriber: %w", context.DeadlineExceeded)
)

// touch reads a key and changes it, and leaves nothing.
const touch = `redis.call('HGET', KEYS[1], 'x') redis.call('HSET', KEYS[1], 'x', 'x') redis.call('DEL', KEYS[1]) return 1`

// pair makes the server track what the lane reads, and tell the second connection. That both lead to the same server is
// proved by a key that nobody else knows: an address may lead to several, each with a client of that id.
func (f *follower) pair(key string, id int64) (*Pairing, error) {
	began := time.Now()
	c := NewCommand(key, 5, "CLIENT")
	c.repeatable = false
	c.String("TRACKING")
	c.String("ON")
	c.String("REDIRECT")
	c.Int(id)
	c.Then(4, "EVAL")
	c.String(touch)
	c.Int(1)
	c.String(f.probe)
	r, sent, err := f.ask(began, c)
	if err != nil {
		return nil, err
	}
	heard, err := f.ping()
	for i := 0; i < c.replies && err == nil; i++ {
		if r[i].kind == '-' {
			err = untracked(redis.Error(r[i].text))
		}
	}
	if err == nil && !heard && sent.conn.address != f.conn.address { // the master was replaced between the two
		err = errElsewhere
	}
	if err == nil && !heard {
		err = fmt.Errorf("%w: %w", ErrUntracked, errElsewhere)
	}
	if err != nil {
		return nil, err
	}
	p := &Pairing{void: make(chan struct{}), probe: f.probe}
	until := began.Add(f.For)
	p.until.Store(&until)
	f.current.Store(p)
	l := &f.server.lane
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == sent.conn {
		l.conn.pairing = p
	} else {
		p.end()
	}
	select {
	case <-f.broken: // listen may have ended before it could see p
		p.end()
	default:
	}
	return p, nil
}

// beat makes a Pairing fresh for longer: it asks on both connections whether they are alive. The lane too: if the server
// has closed that one, it tracks nothing any more, and would not say so on the other.
func (f *follower) beat(p *Pairing) error {
	began := time.Now()
	c := NewCommand(p.probe, 2, "EXISTS") // in a cluster, refused by a server that has lost the slot
	c.String(p.probe)
	r, sent, err := f.ask(began, c)
	if err == nil {
		err = r[0].err()
	}
	if err == nil {
		_, err = f.ping()
	}
	if err == nil && sent.pairing == p {
		p.extend(began.Add(f.For))
	}
	return err
}

// ask carries out a command on the lane.
func (f *follower) ask(began time.Time, c *Command) (Replies, *carriage, error) {
	c.Track()
	r, err := f.server.lane.do(f.stopping, began, began.Add(f.server.timeout), c)
	return r, c.sent, err
}

// ping asks the second connection, and reports whether the probe was heard of before the answer.
func (f *follower) ping() (heard bool, err error) {
	if err := f.send("PING"); err != nil {
		return false, err
	}
	timer := time.NewTimer(f.server.timeout)
	defer timer.Stop()
	select {
	case heard = <-f.pong:
		return heard, nil
	case <-timer.C:
		return false, errSilent
	case <-f.broken:
		return false, f.err
	}
}
