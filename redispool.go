package pycket

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gomodule/redigo/redis"
)

// RedisSettings say which Redis to use and how (pycket_redis in the original).
type RedisSettings struct {
	// URL is redis://[user:password@]host[:port][/database], rediss:// for TLS, or
	// unix://[user:password@]/path/of/socket. "" means redis://localhost:6379.
	URL string

	// DBSessions and DBNotifications are the databases that sessions and notifications lie in. nil means
	// 0 and 1, as the original or, if the URL names a database, that one for both. They may be equal, since the
	// keys differ too, and must be where Redis has one database only.
	DBSessions, DBNotifications *int

	// Cluster are the addresses, host:port, of some servers of a Redis Cluster; the others are found
	// through them. User, password and TLS are those of URL, which then names no host. A cluster has one
	// database, 0, for all. docs/storage.md says which operations on accounts are no longer one step.
	Cluster []string

	// Prefix begins every key. "" means "pycket:". Two applications on one Redis with different prefixes
	// do not take each other's cookies.
	Prefix string

	// MaxConnections is how many connections are open to Redis at most. 0 means 64. Few are used: the
	// commands of many requests share one, and only what is large, or is of a session that was seen to be, gets
	// one to itself, and waits for it if all are in use. In a cluster it is a number for each server.
	MaxConnections int

	// Timeout bounds every operation, waiting and dialing included; those on all sessions of an account, each
	// thousand of them. 0 means 3 seconds.
	Timeout time.Duration
}

const (
	defaultPrefix         = "pycket:"
	defaultMaxConnections = 64
	defaultTimeout        = 3 * time.Second

	// idleClose is when an unused connection is closed: before firewalls and load balancers that drop
	// idle connections after five minutes do it in silence.
	idleClose = 4 * time.Minute

	// idleCheck is how long a connection on which replies are still to come may have been unused before it is
	// looked at (stillOpen) when it is used again. One on which none are is looked at always: that costs one
	// system call and no round trip.
	idleCheck = 10 * time.Millisecond
)

// redisClient carries out commands: on one server (redisPool) or on those of a cluster (redisCluster). Its
// errors are ErrUnavailable (Redis could not be asked, did not answer in time, or answered that it cannot
// do it), errWrongType and errNoScript. It knows nothing of sessions or HTTP.
type redisClient interface {
	// do carries out one command on a key within the timeout, from when the operation began, and the
	// context's deadline. A command that was begun is carried out even if the context is cancelled: a
	// browser that goes away loses no write, it only isn't told.
	//
	// repeatable says that doing the command twice is as good as once, however late the first time. Such a
	// command is tried again if its connection broke under it, on a new one.
	do(ctx context.Context, began time.Time, repeatable bool, key, command string, args ...any) (reply, error)

	// probes gives one for every server that keeps keys, to try what can be done there.
	probes(ctx context.Context, began time.Time) ([]probe, error)

	// close waits for what is on its way, which ends within the timeout.
	close() error
}

// redisPool is one server and the connections to it.
//
// The commands of many requests go over one shared connection, the lane, written together and answered
// in order: that spares both sides most of their system calls. Commands that are large, and would keep
// the others waiting, get a connection of the pool to themselves, and so do those on a key whose commands or
// answers were large before.
type redisPool struct {
	address string
	pool    redis.Pool
	lane    lane
	slots   chan struct{} // one for each connection in use besides the lane's
	timeout time.Duration
	large   largeKeys
}

var (
	errNoScript  = errors.New("no such script")
	errWrongType = fmt.Errorf("%w: the key holds something of another Redis type, which is not pycket's: use another Prefix or database", ErrCorrupt)
	errClosed    = errors.New("the App is closed")
)

// newRedisClient checks the settings, complains of each that is bad, fills in defaults and dials nothing. It
// also says which database is which. The client is nil if anything was bad.
func newRedisClient(s *RedisSettings, complain func(error)) (client redisClient, db, notificationsDB int) {
	good := true
	bad := func(err error) {
		good = false
		complain(err)
	}
	switch {
	case s.Timeout < 0:
		bad(fmt.Errorf("Redis.Timeout is %v; use a positive duration, or 0 for %v", s.Timeout, defaultTimeout))
	case s.Timeout == 0:
		s.Timeout = defaultTimeout
	}
	switch {
	case s.MaxConnections < 0:
		bad(fmt.Errorf("Redis.MaxConnections is %d; use a positive number, or 0 for %d", s.MaxConnections, defaultMaxConnections))
	case s.MaxConnections == 0:
		s.MaxConnections = defaultMaxConnections
	}
	target, err := parseRedisURL(s.URL)
	if err != nil {
		bad(err)
	}
	if len(s.Cluster) > 0 {
		if target.network == "unix" || target.named {
			bad(errors.New("Redis.URL names a server, and Redis.Cluster others; put all into Cluster, and leave only user, password and scheme in the URL, as in rediss://user:password@"))
		}
		if target.db != nil && *target.db != 0 || s.DBSessions != nil && *s.DBSessions != 0 || s.DBNotifications != nil && *s.DBNotifications != 0 {
			bad(errors.New("Redis.Cluster is set, and a database that is not 0; a cluster has no other, so leave the databases away"))
		}
		if strings.Contains(s.Prefix, "{") {
			bad(errors.New("Redis.Prefix has a brace, and Redis.Cluster is set; leave it away: what stands in braces decides on a key's server, and that is the session's handle"))
		}
		if s.MaxConnections == 1 {
			bad(errors.New("Redis.MaxConnections is 1; a cluster takes 2 or more a server, since a key on its way from one to another takes a connection to itself"))
		}
		for i, seed := range s.Cluster { // which may hold a password, in the wrong place
			if host, port, err := net.SplitHostPort(seed); err != nil || host == "" || port == "" {
				bad(fmt.Errorf("Redis.Cluster[%d] is no address; use host:port", i))
			}
		}
		if !good {
			return nil, 0, 0
		}
		return newRedisCluster(s.Cluster, target, s.Timeout, func(address string) *redisPool {
			at := target
			at.address = address
			return newRedisPool(at, 0, s.MaxConnections, s.Timeout)
		}), 0, 0
	}
	db, notificationsDB = 0, 1
	if target.db != nil {
		db, notificationsDB = *target.db, *target.db
	}
	if s.DBSessions != nil {
		if target.db != nil && *target.db != *s.DBSessions {
			bad(fmt.Errorf("Redis.URL names database %d and Redis.DBSessions %d; name it once", *target.db, *s.DBSessions))
		}
		db = *s.DBSessions
	}
	if s.DBNotifications != nil {
		notificationsDB = *s.DBNotifications
	}
	if db < 0 {
		bad(errors.New("Redis.DBSessions is negative; use the number of a database, from 0 on"))
	}
	if notificationsDB < 0 {
		bad(errors.New("Redis.DBNotifications is negative; use the number of a database, from 0 on"))
	}
	if !good {
		return nil, 0, 0
	}
	if notificationsDB != db {
		target.other = &notificationsDB
	}
	return newRedisPool(target, db, s.MaxConnections, s.Timeout), db, notificationsDB
}

func newRedisPool(target redisTarget, db, connections int, timeout time.Duration) *redisPool {
	p := &redisPool{address: target.address, timeout: timeout}
	p.slots = make(chan struct{}, connections-1)
	p.pool = redis.Pool{
		MaxIdle:     connections,
		IdleTimeout: idleClose,
		DialContext: func(ctx context.Context) (redis.Conn, error) { return target.dial(ctx, db) },
		TestOnBorrow: func(c redis.Conn, _ time.Time) error {
			if !c.(*redisConn).usable() {
				return net.ErrClosed
			}
			return nil
		},
	}
	p.lane.pool = p
	p.lane.emptied.L = &p.lane.mu
	return p
}

func (p *redisPool) do(ctx context.Context, began time.Time, repeatable bool, key, command string, args ...any) (reply, error) {
	deadline := began.Add(p.timeout)
	if now := time.Now(); now.Sub(began) > p.timeout/10 {
		// It took others to come here. That little time is left is no reason to take the connection, which
		// others use, for dead: see lane.
		if !now.Before(deadline) {
			return reply{}, unavailable(os.ErrDeadlineExceeded)
		}
		limited, cancel := context.WithDeadlineCause(ctx, deadline, errOwnLimit)
		defer cancel()
		ctx, began, deadline = limited, now, now.Add(p.timeout)
	}
	try := p.lane.do
	mark := maphash.String(largeSeed, key)
	if cap(p.slots) > 0 && (sizeOf(args) > largeCommand || p.large.has(mark)) {
		try = p.doAlone
		p.large.add(mark)
	}
	r, err := try(ctx, began, deadline, command, args)
	if len(r.text) > largeCommand {
		p.large.add(mark)
	}
	if err == nil {
		return r, r.err()
	}
	var broken *brokenError
	for tries := 1; repeatable && errors.As(err, &broken) && ctx.Err() == nil && time.Now().Before(deadline) && (broken.reused || tries < maxTries); tries++ {
		r, err = try(ctx, began, deadline, command, args)
	}
	return r, outcome(ctx, r, err, repeatable)
}

// outcome is the error of a command that was begun.
func outcome(ctx context.Context, r reply, err error, repeatable bool) error {
	if err == nil {
		return r.err()
	}
	var broken *brokenError
	if errors.As(err, &broken) && !repeatable {
		err = fmt.Errorf("the command may have been carried out: %w", err)
	}
	return failure(ctx, err)
}

// errOwnLimit is the cause of contexts that end since the library's own time is up.
var errOwnLimit = errors.New("the timeout has passed")

// failure marks an error as ErrUnavailable, unless it is that of the caller's context, which has ended: then Redis
// is not to blame.
func failure(ctx context.Context, err error) error {
	if ended := ctx.Err(); ended != nil && errors.Is(err, ended) && context.Cause(ctx) != errOwnLimit {
		return err
	}
	return unavailable(err)
}

// maxTries is how often a repeatable command is begun on connections that break when they are new.
const maxTries = 3

const (
	// largeCommand is the size above which a command has a connection to itself, and an answer above which those
	// that follow on the same key have.
	largeCommand = 16 << 10

	// surelySent is how many bytes a kernel takes, though nobody reads them, without keeping the writer waiting.
	surelySent = 32 << 10
)

// largeKeys remember by a hash which keys had large commands or answers: the next answers may be large too, and would
// keep the others on the shared connection waiting. The first answer from a key is not known to be large. What is
// remembered of one key may be forgotten for another, and takes no memory that grows.
type largeKeys [1 << 12]atomic.Uint64

var largeSeed = maphash.MakeSeed()

func (l *largeKeys) has(mark uint64) bool { return l[mark%uint64(len(l))].Load() == mark }

func (l *largeKeys) add(mark uint64) { l[mark%uint64(len(l))].Store(mark) }

// sizeOf is about how many bytes a command is.
func sizeOf(args []any) (size int) {
	for _, arg := range args {
		switch arg := arg.(type) {
		case string:
			size += len(arg)
		case []byte:
			size += len(arg)
		}
	}
	return size
}

// notMaster tells whether Redis said that it is not, or not yet, the one to ask: after a failover behind
// one address, a new connection leads to the one that is.
func (r reply) notMaster() bool {
	return r.kind == '-' && (bytes.Contains(r.text, []byte("READONLY")) || bytes.HasPrefix(r.text, []byte("MASTERDOWN")) || bytes.HasPrefix(r.text, []byte("LOADING")))
}

// err turns what Redis said into this package's errors.
func (r reply) err() error {
	if r.kind != '-' {
		return nil
	}
	text := string(r.text)
	switch {
	case strings.HasPrefix(text, "NOSCRIPT"):
		return errNoScript
	case strings.Contains(text, "WRONGTYPE"):
		return errWrongType
	case r.refusesWrites():
		return unavailable(refusal{redis.Error(text)})
	}
	return unavailable(withoutArgs(redis.Error(text)))
}

// A refusal is what Redis says when it takes no writes at present: it is a replica, or full, can't save, or has lost
// its replicas. Nothing was changed: once a script has written, Redis refuses it nothing.
type refusal struct{ cause error }

func (r refusal) Error() string { return r.cause.Error() }
func (r refusal) Unwrap() error { return r.cause }

// refusesWrites reports whether the answer is a refusal. Redis before 7.0 says in which line of the script first.
func (r reply) refusesWrites() bool {
	for _, code := range []string{"READONLY ", "OOM ", "MISCONF ", "NOREPLICAS "} {
		if bytes.HasPrefix(r.text, []byte(code)) || bytes.Contains(r.text, []byte("-"+code)) {
			return r.kind == '-'
		}
	}
	return false
}

// withoutArgs cuts "unknown command …, with args beginning with: …", where Redis repeats what was to be stored,
// or the password.
func withoutArgs(err error) error {
	if err == nil {
		return nil
	}
	if text, _, cut := strings.Cut(err.Error(), ", with args"); cut {
		return redis.Error(text)
	}
	return err
}

// doAlone carries out a command on a connection of its own.
func (p *redisPool) doAlone(ctx context.Context, _, deadline time.Time, command string, args []any) (reply, error) {
	return p.alone(ctx, deadline, func(conn *redisConn) (reply, error) {
		return conn.carryOut(deadline, command, args)
	})
}

// doAsking carries out a command on a key that is about to come to this server of a cluster.
func (p *redisPool) doAsking(ctx context.Context, deadline time.Time, repeatable bool, command string, args []any) (reply, error) {
	r, err := p.alone(ctx, deadline, func(conn *redisConn) (reply, error) {
		if _, err := conn.carryOut(deadline, "ASKING", nil); err != nil {
			return reply{}, errors.Unwrap(err) // the command itself was not begun
		}
		return conn.carryOut(deadline, command, args)
	})
	return r, outcome(ctx, r, err, repeatable)
}

// alone has something done on a connection of the pool, by a goroutine: what is large may take its time to be
// written, and the caller is free to go. What was begun goes on without him.
func (p *redisPool) alone(ctx context.Context, deadline time.Time, use func(*redisConn) (reply, error)) (reply, error) {
	var begun atomic.Bool // or given up
	var r reply
	var err error
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r, err = p.lend(ctx, deadline, func(conn *redisConn) (reply, error) {
			if !begun.CompareAndSwap(false, true) {
				return reply{}, ctx.Err()
			}
			return use(conn)
		})
	}()
	select {
	case <-ended:
		return r, err
	case <-ctx.Done():
		if begun.CompareAndSwap(false, true) {
			return reply{}, ctx.Err()
		}
		return reply{}, &brokenError{ctx.Err(), false}
	}
}

// lend lends a connection of the pool.
func (p *redisPool) lend(ctx context.Context, deadline time.Time, use func(*redisConn) (reply, error)) (reply, error) {
	if err := p.acquire(ctx, deadline); err != nil {
		return reply{}, err
	}
	defer func() { <-p.slots }()
	borrowed, conn, err := p.borrow(ctx, deadline)
	if err != nil {
		return reply{}, err
	}
	defer borrowed.Close()
	return use(conn)
}

// borrow takes a connection out of redigo's pool, which hides it but for its answer to Do.
func (p *redisPool) borrow(ctx context.Context, deadline time.Time) (redis.Conn, *redisConn, error) {
	limited, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	borrowed, err := p.pool.GetContext(limited)
	if err != nil {
		if own, ok := ctx.Deadline(); ok && own.Before(deadline) && timedOut(err) { // net has a timer of its own for it
			<-ctx.Done()
			err = ctx.Err()
		}
		return nil, nil, err
	}
	conn, err := borrowed.Do("")
	if err != nil {
		return nil, nil, err
	}
	return borrowed, conn.(*redisConn), nil
}

// acquire waits for one of the connections to be free.
func (p *redisPool) acquire(ctx context.Context, deadline time.Time) error {
	select {
	case p.slots <- struct{}{}:
		return nil
	default:
	}
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	select {
	case p.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return fmt.Errorf("all %d connections are in use: %w", cap(p.slots), os.ErrDeadlineExceeded)
	}
}

func (p *redisPool) probes(context.Context, time.Time) ([]probe, error) {
	return []probe{{tag: "ping"}}, nil
}

func (p *redisPool) close() error {
	p.lane.close()
	return p.pool.Close()
}

// A lane is the connection that requests share.
//
// Whoever has a command puts it into the queue. If nobody is writing, he writes, for all who have
// queued by then (group commit). Then, if nobody is reading, he reads: replies come in the order of the
// commands, he hands out those of others until he has his own, and passes the reading on. So no goroutine
// of the lane's own stands between a request and its reply, and a single request writes and reads for
// itself as it would on a connection of its own. Only connecting has a goroutine, since it outlives the
// patience of whoever was first.
//
// Every call ends exactly once: with its reply, with the error that broke the connection, or with its
// context's; in the last case the reply is read and dropped when it comes. The connection breaks if the
// oldest command has no reply by its deadline, so nobody waits longer than the timeout.
type lane struct {
	pool *redisPool

	mu         sync.Mutex
	borrowed   redis.Conn // of redigo's pool; nil if there is no connection
	conn       *redisConn
	connecting bool
	leaving    bool    // the connection is to be given up when all that was written is answered
	queue      []*call // not yet written
	waiting    []*call // written, oldest first; replies come in this order
	unanswered int     // the size of what is waiting
	writing    bool    // somebody writes, or is about to
	reading    bool    // somebody reads, or was woken to
	lastUsed   time.Time
	failures   int       // of connecting, in a row
	retryAt    time.Time // not to connect before
	callers    int
	closed     bool
	emptied    sync.Cond // callers has become 0
}

// A call is a command on its way. Its fields but the first four are guarded by lane.mu.
type call struct {
	command  string
	args     []any
	size     int
	deadline time.Time

	reply     reply
	err       error
	done      bool
	reader    bool          // it is this call's turn to read
	abandoned bool          // nobody waits for it
	wake      chan struct{} // done or reader has become true
}

func (c *call) finish(r reply, err error) {
	c.reply, c.err, c.done = r, err, true
	c.signal()
}

func (c *call) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// do carries out one command.
func (l *lane) do(ctx context.Context, now, deadline time.Time, command string, args []any) (reply, error) {
	c := calls.Get().(*call)
	c.command, c.args, c.size, c.deadline = command, args, sizeOf(args), deadline
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return reply{}, errClosed
	}
	l.callers++
	defer func() {
		if l.callers--; l.callers == 0 {
			l.emptied.Broadcast()
		}
	}()

	l.retire(now)
	l.lastUsed = now
	l.queue = append(l.queue, c)
	switch {
	case l.conn == nil:
		l.connect(deadline)
	case !l.writing && !l.leaving:
		l.write(true)
	}
	for !c.done {
		if c.reader {
			if err := l.read(ctx, c); err != nil && !c.done {
				return reply{}, l.abandon(c, err)
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
				return reply{}, l.abandon(c, ctx.Err())
			}
		}
	}
	r, err := c.reply, c.err
	if err == nil { // then nobody holds the call any more
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

// retire gives up a connection that has been unused for so long that a firewall may have forgotten it,
// that Redis has closed meanwhile, or that has said what it was not asked.
func (l *lane) retire(now time.Time) {
	if l.conn == nil || l.writing || l.reading || len(l.queue) > 0 {
		return
	}
	idle, left := now.Sub(l.lastUsed), len(l.waiting) > 0 // left by calls that were abandoned
	good := !l.leaving && idle <= idleClose
	switch {
	case !good:
	case !left:
		good = l.conn.usable()
	case now.After(l.waiting[0].deadline):
		good = pending(l.conn.socket)
	case idle > idleCheck:
		good = stillOpen(l.conn.socket, true)
	}
	if !good {
		l.waiting = nil
		l.hangUp()
	}
}

// hangUp closes the connection. redigo's pool does not take back what is closed. TLS gets no farewell: it
// could block.
func (l *lane) hangUp() {
	if encrypted, ok := l.conn.socket.(*tls.Conn); ok {
		encrypted.NetConn().Close()
	}
	l.conn.Close()
	l.borrowed.Close()
	l.conn, l.borrowed, l.leaving, l.unanswered = nil, nil, false, 0
}

// write writes what is queued, until nothing is. If there is company, it lets the goroutines that are
// ready run first: they may have something to write too. A caller who could be kept waiting by that leaves it to
// another goroutine, so that he is free to go.
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
			size += c.size
		}
		if caller && size > surelySent {
			go func() {
				l.mu.Lock()
				defer l.mu.Unlock()
				l.write(false)
			}()
			return
		}
		batch := l.queue
		l.queue, l.unanswered = nil, size
		l.waiting = append(l.waiting, batch...)
		conn, deadline := l.conn, batch[0].deadline
		if !caller { // nobody who is about to read
			l.passReading()
		}
		l.mu.Unlock()
		err := conn.mayWrite(deadline, l.pool.timeout/2)
		for _, c := range batch {
			if err == nil {
				err = conn.Send(c.command, c.args...)
			}
		}
		if err == nil {
			err = conn.Flush()
		}
		l.mu.Lock()
		if err != nil {
			l.broke(conn, err)
		}
	}
	l.writing = false
	if l.conn == nil && len(l.queue) > 0 {
		l.connect(l.queue[0].deadline)
	}
	l.passReading()
}

// passReading wakes somebody to read, if there is something to read and nobody does.
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
	if l.leaving { // nobody waits for what is still to come
		l.giveUp()
	}
}

// giveUp leaves a connection that is no good any more; what is queued goes to the next.
func (l *lane) giveUp() {
	l.waiting, l.reading = nil, false
	l.hangUp()
	l.failed()
	if len(l.queue) > 0 && !l.writing {
		l.connect(l.queue[0].deadline)
	}
}

// read reads replies until the caller's own call is done. It gives the reading up before it returns; its
// error says that the context has ended, or the caller's time.
func (l *lane) read(ctx context.Context, own *call) error {
	conn := l.conn
	for !own.done {
		// Whose time is up is not always the oldest, and abandoned calls count as others do: the connection is
		// dead if it does not answer them.
		first := l.waiting[0].deadline
		until := first
		if own.deadline.Before(until) {
			until = own.deadline
		}
		l.mu.Unlock()
		err := conn.await(ctx, until)
		var r reply
		if err == nil {
			r, err = conn.receive()
		}
		l.mu.Lock()
		switch {
		case l.conn != conn: // it broke while nobody held the lock, and all calls are done
			return nil
		case err == nil:
			l.deliver(r)
		case err == ctx.Err(), errors.Is(err, os.ErrDeadlineExceeded) && time.Now().Before(first):
			l.reading, own.reader = false, false
			return err
		default:
			l.broke(conn, err)
			return nil
		}
	}
	// What has come already is handed out at once: others need not be woken only to read it.
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
func (l *lane) deliver(r reply) {
	c := l.waiting[0]
	l.waiting[0] = nil
	l.waiting = l.waiting[1:]
	l.unanswered -= c.size
	l.conn.reused, l.failures = true, 0
	if r.notMaster() {
		l.leaving = true
	}
	c.finish(r, nil)
	if l.leaving && len(l.waiting) == 0 {
		c.reader = false
		l.giveUp()
	}
}

// broke ends every command that was written to the connection. What is only queued goes to the next.
func (l *lane) broke(conn *redisConn, cause error) {
	if l.conn != conn {
		return
	}
	err := &brokenError{cause, conn.reused}
	for _, c := range l.waiting {
		c.reader = false
		c.finish(reply{}, err)
	}
	l.waiting, l.reading = nil, false
	l.hangUp()
	if !conn.reused {
		l.failed()
	}
	if len(l.queue) > 0 && !l.writing {
		l.connect(l.queue[0].deadline)
	}
}

// abandon leaves a call that has not ended to itself.
func (l *lane) abandon(c *call, err error) error {
	c.abandoned = true
	if c.reader {
		l.reading, c.reader = false, false
	}
	l.passReading()
	if slices.Contains(l.queue, c) {
		return err // not even written
	}
	return &brokenError{err, false}
}

const (
	// Connecting that has failed is not tried again at once, but after a time that doubles from the first
	// to the second, less a random part of up to a half: many servers that lose one Redis must not
	// all knock together. Requests wait for the next try, so that the first one after Redis has come back
	// works; while it is down, they fail within that time.
	firstPause = 5 * time.Millisecond
	lastPause  = 100 * time.Millisecond
)

// connect sees to it that there is a connection, or that all who wait for it fail by the deadline.
func (l *lane) connect(deadline time.Time) {
	if l.connecting {
		return
	}
	l.connecting = true
	pause := time.Until(l.retryAt)
	go func() {
		time.Sleep(min(pause, time.Until(deadline)))
		borrowed, conn, err := l.pool.borrow(context.Background(), deadline)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.connecting = false
		if err != nil {
			l.failed()
			// Who came while this was tried, and has time left, has another try if it only took too long.
			slow, now := timedOut(err), time.Now()
			l.queue = slices.DeleteFunc(l.queue, func(c *call) bool {
				if slow && c.deadline.After(now) && !c.abandoned {
					return false
				}
				c.finish(reply{}, err)
				return true
			})
			if len(l.queue) > 0 {
				l.connect(l.queue[0].deadline)
			}
			return
		}
		l.borrowed, l.conn = borrowed, conn
		if l.closed && l.callers == 0 {
			l.hangUp()
			return
		}
		if !l.writing {
			l.write(false)
		}
	}()
}

// failed takes note of a try to connect that led to nothing.
func (l *lane) failed() {
	pause := min(firstPause<<min(l.failures, 10), lastPause)
	l.failures++
	l.retryAt = time.Now().Add(pause - rand.N(pause/2)) // #nosec G404 -- nobody gains from guessing it
}

// close waits for what is on its way.
func (l *lane) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for l.callers > 0 {
		l.emptied.Wait()
	}
	if l.conn != nil {
		l.hangUp()
	}
}
