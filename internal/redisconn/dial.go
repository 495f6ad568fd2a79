package redisconn

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/gomodule/redigo/redis"
)

// A Target says which server to connect to, and how.
type Target struct {
	Network, Address   string
	Username, Password string

	// TLS is how to encrypt the connection, nil not to. Without a ServerName, the certificate must be for the host of
	// the address.
	TLS *tls.Config

	// Dialer opens connections, nil for a net.Dialer.
	Dialer func(ctx context.Context, network, address string) (net.Conn, error)

	// Database is selected on every connection. Other is one that scripts select. Dial fails if the server does not have
	// it: a script would only find out in the middle of its changes.
	Database, Other int

	// Master makes Dial fail if the server is a replica.
	Master bool
}

// Dial connects and greets the server, within the context's deadline. The connection is for the pool of a [Server].
func (t Target) Dial(ctx context.Context) (redis.Conn, error) {
	socket, err := t.connect(ctx, t.Network, t.Address)
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: redis.NewConn(socket, 0, 0), address: t.Address, socket: socket, peeker: newPeeker(socket), in: bufio.NewReaderSize(socket, readBuffer)}
	deadline, _ := ctx.Deadline()
	err = t.greet(c, deadline)
	if err == nil && t.Master {
		err = checkMaster(c, deadline)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	c.reused = false // by no caller
	return c, nil
}

// greet authenticates, and selects Database, having tried Other.
func (t Target) greet(c *conn, deadline time.Time) error {
	hello := new(Command)
	var selects []int
	if t.Password != "" {
		if t.Username != "" {
			hello.Then(3, "AUTH")
			hello.String(t.Username)
		} else {
			hello.Then(2, "AUTH")
		}
		hello.String(t.Password)
	}
	authenticates := hello.replies
	if t.Other != t.Database {
		selects = []int{t.Other, t.Database}
	} else if t.Database != 0 {
		selects = []int{t.Database}
	}
	for _, n := range selects {
		hello.Then(2, "SELECT")
		hello.Int(int64(n))
	}
	switch {
	case hello.replies > 0:
	case t.TLS != nil: // since TLS 1.3, a server refuses a certificate after the handshake
		hello.Then(1, "PING")
	default:
		return nil
	}
	r, broken := c.carryOut(deadline, hello)
	for i := range r {
		if r[i].kind != '-' {
			continue
		}
		err := withoutArgs(redis.Error(r[i].text))
		if text := bytes.ToUpper(r[i].text); i < authenticates || len(selects) == 0 || !bytes.Contains(text, []byte("DB INDEX")) && !bytes.Contains(text, []byte("SELECT")) {
			return err
		}
		setting := "Redis.DBNotifications"
		if i == hello.replies-1 {
			setting = "Redis.DBSessions, or the path of Redis.URL,"
		}
		return fmt.Errorf("%s is %d, and Redis refuses that database; use one that it has, or 0 for both if it has no other: %w", setting, selects[i-authenticates], err)
	}
	return errors.Unwrap(broken) // no command of a caller was sent
}

// checkMaster returns an error unless the server is a master. HELLO says so to every user, whatever its rights.
func checkMaster(c *conn, deadline time.Time) error {
	if err := c.write(deadline, 0, NewCommand("", 1, "HELLO").wire); err != nil {
		return err
	}
	// redigo reads the reply, since it knows lists in lists.
	about, err := redis.Values(redis.ReceiveWithTimeout(c.Conn, time.Until(deadline)))
	if c.readUntil = (time.Time{}); err != nil {
		return withoutArgs(err)
	}
	for i := 0; i+1 < len(about); i += 2 {
		if name, _ := redis.String(about[i], nil); name == "role" {
			if role, _ := redis.String(about[i+1], nil); role == "master" {
				return nil
			}
		}
	}
	return errReplica
}

var errReplica = errors.New("the server is a replica, and the sentinels take it for the master")

// open opens a connection. A dialer of the application's that ignores its context is left behind, and what it opens
// later is closed.
func (t Target) open(ctx context.Context, network, address string) (net.Conn, error) {
	if t.Dialer == nil {
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	type result struct {
		c   net.Conn
		err error
	}
	opened := make(chan result, 1)
	go func() {
		c, err := t.Dialer(ctx, network, address)
		opened <- result{c, err}
	}()
	select {
	case r := <-opened:
		return r.c, r.err
	case <-ctx.Done():
		go func() {
			if r := <-opened; r.err == nil {
				r.c.Close()
			}
		}()
		return nil, ctx.Err()
	}
}

// connect connects, with TLS if the target says so.
func (t Target) connect(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := t.open(ctx, network, address)
	if err != nil || t.TLS == nil {
		return c, err
	}
	config := t.TLS.Clone()
	if config.ServerName == "" {
		config.ServerName, _, _ = net.SplitHostPort(address)
	}
	encrypted := tls.Client(c, config)
	// A Redis without TLS takes the handshake for the beginning of a command and waits for the rest. So if it does not
	// answer for a while, a second connection finds out whether it speaks without TLS.
	shaking, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	after := plainAfter
	if deadline, ok := ctx.Deadline(); ok {
		after = min(after, time.Until(deadline)/2)
	}
	doubt := time.AfterFunc(after, func() {
		if t.speaksPlain(shaking, network, address) {
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
	case ctx.Err() == nil && t.speaksPlain(ctx, network, address):
		return nil, errPlain
	}
	return nil, fmt.Errorf("TLS handshake: %w", err)
}

// plainAfter is how long a TLS handshake may stay unanswered before the server is asked whether it speaks TLS.
const plainAfter = 250 * time.Millisecond

var errPlain = errors.New("the server speaks without TLS")

// speaksPlain reports whether a server answers as Redis does without TLS.
func (t Target) speaksPlain(ctx context.Context, network, address string) bool {
	c, err := t.open(ctx, network, address)
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
