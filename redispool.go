package pycket

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/gomodule/redigo/redis"
)

// RedisSettings say which Redis to use and how (pycket_redis in the original).
type RedisSettings struct {
	// URL is redis://[user:password@]host[:port][/database], rediss:// for TLS, or
	// unix://[user:password@]/path/of/socket. "" means redis://localhost:6379.
	URL string

	// DBSessions and DBNotifications are the databases that sessions and notifications lie in. nil means
	// 0 and 1, as the original; a database in the URL stands for DBSessions. They may be equal: the
	// keys differ too.
	DBSessions, DBNotifications *int

	// Prefix begins every key. "" means "pycket:". Two applications on one Redis with different prefixes
	// do not take each other's cookies.
	Prefix string

	// MaxConnections is how many connections are open to Redis at most. 0 means 64. An operation that
	// finds all of them in use waits for one.
	MaxConnections int

	// Timeout bounds every operation, waiting and dialing included. 0 means 3 seconds.
	Timeout time.Duration
}

const (
	defaultRedisURL       = "redis://localhost:6379"
	defaultPrefix         = "pycket:"
	defaultMaxConnections = 64
	defaultTimeout        = 3 * time.Second

	// idleClose is when an unused connection is closed: before firewalls and load balancers that drop
	// idle connections after five minutes do it in silence.
	idleClose = 4 * time.Minute

	// idleCheck is how long a connection may have been unused before it is looked at (stillOpen) when
	// it is used again. The look costs one system call and no round trip.
	idleCheck = 50 * time.Millisecond
)

// redisPool carries out commands on a pool of connections to Redis. Its errors are ErrUnavailable
// (Redis could not be asked, did not answer in time, or answered that it cannot do it), errWrongType
// and errNoScript. It knows nothing of sessions or HTTP.
type redisPool struct {
	pool    redis.Pool
	slots   chan struct{} // one for each connection in use
	timeout time.Duration
}

var (
	errNoScript  = errors.New("no such script")
	errWrongType = errors.New("the key holds something of another Redis type, which is not pycket's: use another Prefix or database")
)

// newRedisPool checks the settings and dials nothing. It also says which database is which.
func newRedisPool(s RedisSettings) (p *redisPool, db, notificationsDB int, err error) {
	p = &redisPool{timeout: s.Timeout}
	switch {
	case s.Timeout < 0:
		return nil, 0, 0, fmt.Errorf("Redis.Timeout is %v; use a positive duration, or 0 for %v", s.Timeout, defaultTimeout)
	case s.Timeout == 0:
		p.timeout = defaultTimeout
	}
	connections := s.MaxConnections
	switch {
	case connections < 0:
		return nil, 0, 0, fmt.Errorf("Redis.MaxConnections is %d; use a positive number, or 0 for %d", connections, defaultMaxConnections)
	case connections == 0:
		connections = defaultMaxConnections
	}
	target, err := parseRedisURL(s.URL)
	if err != nil {
		return nil, 0, 0, err
	}
	db, notificationsDB = 0, 1
	if target.db != nil {
		db = *target.db
	}
	if s.DBSessions != nil {
		if target.db != nil && *target.db != *s.DBSessions {
			return nil, 0, 0, fmt.Errorf("Redis.URL names database %d and Redis.DBSessions %d; name it once", *target.db, *s.DBSessions)
		}
		db = *s.DBSessions
	}
	if s.DBNotifications != nil {
		notificationsDB = *s.DBNotifications
	}
	if db < 0 || notificationsDB < 0 {
		return nil, 0, 0, errors.New("Redis.DBSessions or Redis.DBNotifications is negative; use the number of a database, from 0 on")
	}

	p.slots = make(chan struct{}, connections)
	p.pool = redis.Pool{
		MaxIdle:     connections,
		IdleTimeout: idleClose,
		DialContext: func(ctx context.Context) (redis.Conn, error) { return target.dial(ctx, db, p.timeout) },
		TestOnBorrow: func(c redis.Conn, lastUsed time.Time) error {
			if time.Since(lastUsed) > idleCheck && !stillOpen(c.(*redisConn).socket.Conn) {
				return net.ErrClosed
			}
			return nil
		},
	}
	return p, db, notificationsDB, nil
}

// do carries out one command within the timeout and the context's deadline. A cancelled context
// prevents a command and does not interrupt it: a browser that goes away loses no write.
//
// repeatable says that doing the command twice is as good as once. Such a command is tried again if a
// connection that had been idle broke under it, until one is dialed for it.
func (p *redisPool) do(ctx context.Context, repeatable bool, command string, args ...any) (any, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	deadline := time.Now().Add(p.timeout)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	if err := p.acquire(ctx, deadline); err != nil {
		return nil, err
	}
	defer func() { <-p.slots }()

	reply, err := p.try(ctx, deadline, command, args)
	var broken *brokenError
	for repeatable && errors.As(err, &broken) && broken.reused && !broken.timeout() {
		reply, err = p.try(ctx, deadline, command, args)
	}
	if errors.As(err, &broken) && !repeatable {
		return nil, unavailable(fmt.Errorf("the command may have been carried out: %w", broken))
	}
	return reply, replyError(err)
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
		return unavailable(fmt.Errorf("all %d connections are in use: %w", cap(p.slots), os.ErrDeadlineExceeded))
	}
}

func (p *redisPool) try(ctx context.Context, deadline time.Time, command string, args []any) (any, error) {
	conn, err := p.pool.GetContext(deadlineContext{ctx, deadline})
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return redis.DoWithTimeout(conn, time.Until(deadline), command, args...)
}

func (p *redisPool) close() error { return p.pool.Close() }

// replyError turns what redigo or Redis said into this package's errors.
func replyError(err error) error {
	if err == nil {
		return nil
	}
	var said redis.Error
	if !errors.As(err, &said) {
		return unavailable(err)
	}
	text := string(said)
	switch {
	case strings.HasPrefix(text, "NOSCRIPT"):
		return errNoScript
	case strings.Contains(text, "WRONGTYPE"):
		return errWrongType
	}
	// "unknown command …, with args beginning with: …" would repeat what was to be stored.
	text, _, _ = strings.Cut(text, ", with args")
	return unavailable(redis.Error(text))
}

// deadlineContext is a context with an earlier deadline and no timer: dialing heeds the deadline.
type deadlineContext struct {
	context.Context
	deadline time.Time
}

func (c deadlineContext) Deadline() (time.Time, bool) { return c.deadline, true }

// brokenError is a connection that broke after a command was begun on it, so that nobody knows whether
// the command was carried out.
type brokenError struct {
	cause  error
	reused bool // the connection had carried out commands before
}

func (e *brokenError) Error() string { return e.cause.Error() }
func (e *brokenError) Unwrap() error { return e.cause }
func (e *brokenError) timeout() bool { return errors.Is(e.cause, os.ErrDeadlineExceeded) }

// redisConn is a redigo connection whose timeout bounds writing and reading together; redigo's own
// bounds each, so that a Redis that hangs could cost it twice.
type redisConn struct {
	redis.ConnWithTimeout
	socket *boundSocket
	reused bool
}

func (c *redisConn) DoWithTimeout(timeout time.Duration, command string, args ...any) (any, error) {
	c.socket.limit = time.Now().Add(timeout)
	reply, err := c.ConnWithTimeout.DoWithTimeout(timeout, command, args...)
	if c.Err() != nil {
		return nil, &brokenError{err, c.reused}
	}
	c.reused = true
	return reply, err
}

// boundSocket keeps every deadline within a limit.
type boundSocket struct {
	net.Conn
	limit time.Time
}

func (s *boundSocket) SetReadDeadline(t time.Time) error { return s.Conn.SetReadDeadline(s.earlier(t)) }
func (s *boundSocket) SetWriteDeadline(t time.Time) error {
	return s.Conn.SetWriteDeadline(s.earlier(t))
}

func (s *boundSocket) earlier(t time.Time) time.Time {
	if t.IsZero() || s.limit.Before(t) {
		return s.limit
	}
	return t
}

// redisTarget is a parsed URL.
type redisTarget struct {
	network, address   string
	username, password string
	tls                bool
	db                 *int // named by the URL
}

// parseRedisURL never repeats the URL in an error: it may hold a password.
func parseRedisURL(raw string) (t redisTarget, err error) {
	if raw == "" {
		raw = defaultRedisURL
	}
	u, err := url.Parse(raw)
	if err != nil {
		return t, errors.New("Redis.URL cannot be parsed; use redis://host:port, with special characters of the password percent-encoded")
	}
	if u.User != nil {
		t.username = u.User.Username()
		password, ok := u.User.Password()
		if t.password = password; !ok { // as redis-cli: one word is the password
			t.username, t.password = "", t.username
		}
	}
	switch u.Scheme {
	case "redis", "rediss":
	case "unix":
		if u.Host != "" || u.Path == "" {
			return t, errors.New("Redis.URL names no socket; use unix:///path/of/socket, with three slashes")
		}
		t.network, t.address = "unix", u.Path
		return t, nil
	default:
		return t, fmt.Errorf("Redis.URL has the scheme %q; use redis://, rediss:// or unix://", u.Scheme)
	}
	if u.Opaque != "" {
		return t, errors.New("Redis.URL lacks the two slashes after the scheme; use redis://host:port")
	}
	host, port := u.Hostname(), u.Port()
	if host == "" {
		host = "localhost"
	}
	if port == "" {
		port = "6379"
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return t, errors.New("Redis.URL has a port that is none; use a number from 1 to 65535")
	}
	if path := strings.Trim(u.Path, "/"); path != "" {
		n, err := strconv.Atoi(path)
		if err != nil || n < 0 {
			return t, errors.New("Redis.URL has a path that is no database number; use redis://host:port/0 or leave the path away")
		}
		t.db = &n
	}
	t.network, t.address, t.tls = "tcp", net.JoinHostPort(host, port), u.Scheme == "rediss"
	return t, nil
}

func (t redisTarget) dial(ctx context.Context, db int, timeout time.Duration) (redis.Conn, error) {
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(timeout)
	}
	left := time.Until(deadline)
	var socket *boundSocket
	options := []redis.DialOption{
		redis.DialContextFunc(func(ctx context.Context, network, address string) (net.Conn, error) {
			dialer := net.Dialer{Deadline: deadline}
			c, err := dialer.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			socket = &boundSocket{Conn: c, limit: deadline}
			return socket, nil
		}),
		redis.DialTLSHandshakeTimeout(left),
		redis.DialReadTimeout(timeout),
		redis.DialWriteTimeout(timeout),
		redis.DialUseTLS(t.tls),
		redis.DialDatabase(db),
		redis.DialUsername(t.username),
		redis.DialPassword(t.password),
	}
	c, err := redis.DialContext(ctx, t.network, t.address, options...)
	if err != nil {
		return nil, err
	}
	return &redisConn{ConnWithTimeout: c.(redis.ConnWithTimeout), socket: socket}, nil
}
