package pycket

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
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

// redisConn is one connection. redigo dials it, says hello and writes the commands; the replies are read
// here, since waiting for one must end with a request's context without breaking the connection for
// others, and since a reply then costs one allocation.
//
// One goroutine may write (Send, Flush) while another reads (await, receive).
type redisConn struct {
	redis.Conn
	socket net.Conn
	in     *bufio.Reader
	reused bool // it has carried out a command

	size int // of the whole reply that the buffer begins with, if whole has just found one

	// A reply that is not whole, or does not fit into the buffer, is gathered here: whoever reads it may go, and
	// another go on. partial is what has come of it, of which so many bytes are whole items; so many are missing.
	partial         []byte
	parsed, missing int

	// Deadlines are set ahead, for many commands: setting one costs as much as parsing a reply.
	readUntil, writeUntil time.Time
}

// reply is what Redis answers to a command: kind is the first byte of RESP, '_' for nil.
type reply struct {
	kind   byte
	number int64
	text   []byte // of a list: what stands in it, in RESP; shared with nobody
}

var errProtocol = errors.New("redis: the reply is malformed")

// readBuffer holds the replies of many small commands at once.
const readBuffer = 16 << 10

// patience is how long a reader waits, at most, before it takes pains to be interruptible: most replies
// are there long before.
const patience = 5 * time.Millisecond

// await waits for a whole reply. Nothing is lost if it ends without one: the error is then the context's, or
// that the deadline has passed, and the connection is as good as before. What has come by now is read, however
// late it is.
func (c *redisConn) await(ctx context.Context, deadline time.Time) error {
	if c.whole() {
		return nil
	}
	now := time.Now()
	soon := now.Add(patience)
	if deadline.Before(soon) {
		deadline = soon
	}
	if c.readUntil.Before(now.Add(patience/2)) || c.readUntil.After(soon) {
		if err := c.setReadDeadline(soon); err != nil {
			return err
		}
	}
	if err := c.fill(); err == nil || !c.readUntil.Before(deadline) || !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	if err := c.setReadDeadline(deadline); err != nil {
		return err
	}
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		c.socket.SetReadDeadline(time.Unix(1, 0))
		close(interrupted)
	})
	err := c.fill()
	if stop() {
		return err
	}
	<-interrupted // or its deadline would hit whoever reads next
	c.readUntil = time.Time{}
	if err != nil {
		return ctx.Err()
	}
	return nil
}

func (c *redisConn) setReadDeadline(t time.Time) error {
	c.readUntil = t
	return c.socket.SetReadDeadline(t)
}

// mayWrite allows writing until the deadline, or up to slack less.
func (c *redisConn) mayWrite(deadline time.Time, slack time.Duration) error {
	if !c.writeUntil.Before(deadline.Add(-slack)) && !c.writeUntil.After(deadline) {
		return nil
	}
	c.writeUntil = deadline
	return c.socket.SetWriteDeadline(deadline)
}

// receive takes the reply that await has waited for.
func (c *redisConn) receive() (reply, error) {
	if c.partial != nil {
		frame := c.partial
		c.partial = nil
		return parseReply(frame)
	}
	frame, _ := c.in.Peek(c.size)
	if frame[0] != ':' { // a number is read where it stands
		frame = append([]byte(nil), frame...)
	}
	r, err := parseReply(frame)
	c.in.Discard(c.size)
	return r, err
}

// whole reports whether a whole reply is there.
func (c *redisConn) whole() bool {
	if c.partial != nil {
		return c.missing == 0
	}
	buffered, _ := c.in.Peek(c.in.Buffered())
	c.size = frameSize(buffered)
	return c.size > 0
}

// fill reads until a whole reply is there. What has come is kept if it ends with an error before.
func (c *redisConn) fill() error {
	for !c.whole() {
		if c.in.Buffered() > 0 {
			if err := c.gather(); err != nil {
				return err
			}
			if c.missing == 0 {
				return nil
			}
		}
		if _, err := c.in.Peek(1); err != nil {
			return err
		}
	}
	return nil
}

// surplus reports whether something has been read although no command waits for its reply: then there is no
// telling which of the next is whose.
func (c *redisConn) surplus() bool { return c.partial != nil || c.in.Buffered() > 0 }

// usable reports whether a connection that waits for nothing has said nothing and is open. A new one may have
// something to say before it is asked.
func (c *redisConn) usable() bool {
	if !c.reused {
		return stillOpen(c.socket, true)
	}
	if c.surplus() || !stillOpen(c.socket, false) {
		return false
	}
	if _, ok := c.socket.(*tls.Conn); !ok {
		return true
	}
	c.setReadDeadline(time.Unix(1, 0)) // what has been received, and not decrypted, is still in there
	_, err := c.in.Peek(1)
	return errors.Is(err, os.ErrDeadlineExceeded)
}

// gather takes what is in the buffer of a reply that is not whole: all that is there, or up to the reply's end.
func (c *redisConn) gather() error {
	if c.partial == nil {
		c.partial, c.parsed, c.missing = make([]byte, 0, c.in.Buffered()), 0, 1
	}
	for c.missing > 0 {
		line := c.partial[c.parsed:]
		n, size := bulk(line)
		if size > readBuffer || size == 0 && (len(line) > readBuffer || bytes.HasSuffix(line, []byte("\n"))) {
			return errProtocol
		}
		switch {
		case size == 0: // not all of the line is there
		case line[0] == '$' && n >= 0:
			size += n + 2
		case line[0] == '*' && c.parsed > 0: // the scripts make no list in a list
			return errProtocol
		}
		if size > 0 && len(line) >= size {
			if line[0] == '*' {
				c.missing += max(n, 0)
			}
			c.parsed += size
			c.missing--
			continue
		}
		buffered, _ := c.in.Peek(c.in.Buffered())
		if len(buffered) == 0 {
			return nil
		}
		if size > 0 {
			buffered = buffered[:min(size-len(line), len(buffered))]
		} else if end := bytes.IndexByte(buffered, '\n'); end >= 0 {
			buffered = buffered[:end+1]
		}
		c.partial = append(c.partial, buffered...) // memory is taken as bytes arrive, and not because they are promised
		c.in.Discard(len(buffered))
	}
	return nil
}

// frameSize is the size of the reply that b begins with, or 0 if not all of it is there.
func frameSize(b []byte) int {
	n, size := bulk(b)
	if size == 0 {
		return 0
	}
	switch {
	case b[0] == '$' && n >= 0:
		size += n + 2
	case b[0] == '*':
		for range n {
			rest := b[min(size, len(b)):]
			if len(rest) == 0 || rest[0] == '*' {
				return 0
			}
			item := frameSize(rest)
			if item == 0 {
				return 0
			}
			size += item
		}
	}
	if size > len(b) {
		return 0
	}
	return size
}

// bulk reads the line that b begins with: the length of what follows, where that is a string or a list,
// -1 for nil, and the size of the line. The size is 0 if the line is not whole, or no RESP.
func bulk(b []byte) (n, size int) {
	end := bytes.IndexByte(b, '\n')
	if end < 2 || b[end-1] != '\r' {
		return 0, 0
	}
	switch b[0] {
	case '+', '-', ':':
		return -1, end + 1
	case '$', '*':
		if b[1] == '-' {
			return -1, end + 1
		}
		for _, digit := range b[1 : end-1] {
			if n = n*10 + int(digit-'0'); digit < '0' || digit > '9' || n > maxReply {
				return 0, 0
			}
		}
		return n, end + 1
	}
	return 0, 0
}

// parseReply reads a whole reply; its text is part of the frame.
func parseReply(frame []byte) (r reply, err error) {
	n, header := bulk(frame)
	r.kind = frame[0]
	switch {
	case r.kind == ':':
		r.number, err = strconv.ParseInt(string(frame[1:header-2]), 10, 64)
	case r.kind == '+' || r.kind == '-':
		r.text = frame[1 : header-2]
	case n < 0:
		r.kind = '_'
	case r.kind == '$':
		r.text = frame[header : header+n : header+n]
	default:
		r.text = frame[header:]
	}
	return r, err
}

// maxReply is Redis's own limit for a string, 512 MB; what claims to be more is no reply.
const maxReply = 512 << 20

// Do is what redigo's pool calls with an empty command, to have done what is pending: nothing is. The
// answer is the connection itself, which the pool otherwise hides.
func (c *redisConn) Do(string, ...any) (any, error) { return c, nil }

// carryOut sends one command and reads its reply.
func (c *redisConn) carryOut(deadline time.Time, command string, args []any) (reply, error) {
	err := c.mayWrite(deadline, 0)
	if err == nil {
		err = c.Send(command, args...)
	}
	if err == nil {
		err = c.Flush()
	}
	if err == nil {
		err = c.await(context.Background(), deadline)
	}
	var r reply
	if err == nil {
		r, err = c.receive()
	}
	if err != nil {
		c.Close()
		return r, &brokenError{err, c.reused}
	}
	c.reused = true
	if r.notMaster() {
		c.Close()
	}
	return r, nil
}

// brokenError is a connection that broke after a command was begun on it, so that nobody knows whether
// the command was carried out.
type brokenError struct {
	cause  error
	reused bool // the connection had carried out commands before
}

func (e *brokenError) Error() string { return e.cause.Error() }
func (e *brokenError) Unwrap() error { return e.cause }

// timedOut reports whether an error is that of a deadline that has passed: of a connection, or of connecting.
func timedOut(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded)
}

// greeter keeps redigo's greeting (AUTH, SELECT) within the deadline of the operation it is for.
type greeter struct {
	net.Conn
	deadline time.Time
}

func (g greeter) SetReadDeadline(time.Time) error { return g.Conn.SetReadDeadline(g.deadline) }

// redisTarget is a parsed URL.
type redisTarget struct {
	network, address   string
	username, password string
	tls                bool
	named              bool // the URL has a host
	db                 *int // named by the URL
	other              *int // the database of notifications, if it is another than that of sessions
}

// parseRedisURL never repeats the URL in an error: it may hold a password.
func parseRedisURL(raw string) (t redisTarget, err error) {
	if raw == "" {
		raw = "redis://" // of the default host
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
	if u.RawQuery != "" {
		return t, errors.New("Redis.URL has a query, and nothing in it is known; leave it away")
	}
	host, port := u.Hostname(), u.Port()
	t.named = u.Host != ""
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

// dial connects and says hello, within the context's deadline.
func (t redisTarget) dial(ctx context.Context, db int) (redis.Conn, error) {
	deadline, _ := ctx.Deadline()
	var socket net.Conn
	greeting, err := redis.DialContext(ctx, t.network, t.address,
		redis.DialContextFunc(func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := t.connect(ctx, network, address)
			if err != nil {
				return nil, err
			}
			c.SetDeadline(deadline)
			socket = c
			return greeter{c, deadline}, nil
		}),
		redis.DialReadTimeout(time.Minute), // any: the greeter has the last word
		redis.DialUsername(t.username),
		redis.DialPassword(t.password),
	)
	if err != nil {
		return nil, withoutArgs(err)
	}
	if err := t.selectDatabase(greeting, db); err != nil {
		greeting.Close()
		return nil, err
	}
	return &redisConn{Conn: greeting, socket: socket, in: bufio.NewReaderSize(socket, readBuffer)}, nil
}

// selectDatabase selects the database of sessions. Before, it tries that of notifications, which only scripts
// select: one that is not there would else be found by a script that has begun to change things.
func (t redisTarget) selectDatabase(c redis.Conn, db int) error {
	var wanted []int
	if t.other != nil {
		wanted = []int{*t.other, db}
	} else if db != 0 {
		wanted = []int{db}
	}
	for _, n := range wanted {
		if err := c.Send("SELECT", n); err != nil {
			return err
		}
	}
	if err := c.Flush(); err != nil {
		return err
	}
	for i, n := range wanted {
		if _, err := c.Receive(); err != nil {
			if text := strings.ToUpper(err.Error()); !strings.Contains(text, "DB INDEX") && !strings.Contains(text, "SELECT") {
				return withoutArgs(err)
			}
			setting := "Redis.DBNotifications is"
			if i == len(wanted)-1 {
				setting = "Redis.DBSessions, or the path of Redis.URL, is"
			}
			return fmt.Errorf("%s %d, and Redis refuses that database; use one that it has, and if it has no other, 0 for both: %w", setting, n, withoutArgs(err))
		}
	}
	return nil
}

// connect connects, by TLS if the URL says so: here and not by redigo, which would keep the decrypting reader to
// itself.
func (t redisTarget) connect(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil || !t.tls {
		return c, err
	}
	host, _, _ := net.SplitHostPort(address)
	encrypted := tls.Client(c, &tls.Config{ServerName: host})
	// A Redis without TLS takes the greeting for the beginning of a command and waits for its end. Who is not
	// answered for a while asks whether it is one.
	shaking, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	after := plainAfter
	if deadline, ok := ctx.Deadline(); ok {
		after = min(after, time.Until(deadline)/2)
	}
	doubt := time.AfterFunc(after, func() {
		if speaksPlain(shaking, network, address) {
			cancel(errPlain)
		}
	})
	defer doubt.Stop()
	err = encrypted.HandshakeContext(shaking)
	if err == nil {
		return encrypted, nil
	}
	c.Close()
	var certificate *tls.CertificateVerificationError
	switch {
	case context.Cause(shaking) == errPlain:
		return nil, errPlain
	case errors.As(err, &certificate), isAlert(err):
	case timedOut(err):
		return nil, fmt.Errorf("the server took the connection and did not answer the TLS handshake; it may not speak TLS: %w", err)
	case ctx.Err() == nil && speaksPlain(ctx, network, address):
		return nil, errPlain
	}
	return nil, fmt.Errorf("TLS handshake: %w", err)
}

// plainAfter is when a TLS handshake that is not answered gives rise to doubt.
const plainAfter = 250 * time.Millisecond

var errPlain = errors.New("the server speaks without TLS")

// speaksPlain reports whether a server answers as Redis does without TLS.
func speaksPlain(ctx context.Context, network, address string) bool {
	c, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return false
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })()
	var first [1]byte
	if _, err := c.Write([]byte("PING\r\n")); err != nil {
		return false
	}
	_, err = c.Read(first[:])
	return err == nil && (first[0] == '+' || first[0] == '-')
}

// isAlert reports whether the other side has refused TLS as it was offered, or this one what it was answered.
func isAlert(err error) bool {
	var refused *net.OpError
	return errors.As(err, &refused) && (refused.Op == "remote error" || refused.Op == "local error")
}

// adviceFor says what to do about an error of a Redis that is there and set up in a way that can't work; "" for
// any other.
func adviceFor(err error) string {
	var refused redis.Error
	if errors.As(err, &refused) {
		for _, known := range refusals {
			if strings.Contains(string(refused), known.text) {
				return known.advice
			}
		}
		return ""
	}
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var certificate *tls.CertificateVerificationError
	var noTLS tls.RecordHeaderError
	switch {
	case errors.Is(err, errPlain), errors.As(err, &noTLS):
		return "use redis:// in Redis.URL and not rediss://, or the port on which the server speaks TLS"
	case errors.As(err, &unknown):
		return "put the CA of the server's certificate among those that this machine trusts, or its file into the environment as SSL_CERT_FILE"
	case errors.As(err, &name):
		return "use the name in the server's certificate as the host of Redis.URL"
	case errors.As(err, &certificate):
		return "give the server a certificate that is valid"
	case isAlert(err):
		return "let the server accept TLS 1.2 or 1.3 without a certificate of the client's (tls-auth-clients no)"
	}
	return ""
}

// refusals are what Redis says when it is set up in a way that can't work.
var refusals = []struct{ text, advice string }{
	{"WRONGPASS", adviceOnPassword},
	{"NOAUTH", adviceOnPassword},
	{"invalid password", adviceOnPassword},
	{"unauthenticated", adviceOnPassword}, // of a command that is large
	{"AUTH <password> called", "leave the password in Redis.URL away, or give it a user, as in redis://user:password@host: the server asks for none"},
	{"no password is set", "leave the password in Redis.URL away: the server asks for none"},
	{"NOPERM", adviceOnRights},
	{"ACL failure in script", adviceOnRights},
	{"The user executing the script can't", adviceOnRights},
	{"DENIED", "give the server a password (requirepass) and put it into Redis.URL, or bind it to an address that only this application reaches"},
	{"DB index is out of range", "use numbers of databases that the server has in Redis.DBSessions and Redis.DBNotifications: where there is one, 0 for both"},
	{"invalid DB index", "use numbers of databases that the server has in Redis.DBSessions and Redis.DBNotifications: where there is one, 0 for both"},
	{"SELECT is not allowed in cluster mode", "name the servers of the cluster in Redis.Cluster"},
	{"cluster support disabled", "leave Redis.Cluster away, and name the server in Redis.URL"},
}

const (
	adviceOnPassword = "put the user and password that the server knows into Redis.URL, as in redis://user:password@host" // #nosec G101 -- an example
	adviceOnRights   = "give the user in Redis.URL the rights that docs/settings.md lists, on the keys under Redis.Prefix, by ACL SETUSER"
)
