package redisconn

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/gomodule/redigo/redis"
)

// A conn is one connection. redigo keeps it in its pool, but commands are written and replies read here: a caller must
// be able to stop waiting for a reply without breaking the connection for others, and a reply costs one allocation.
//
// One goroutine may write while another reads.
type conn struct {
	redis.Conn // for the pool, which asks whether it is closed
	address    string
	socket     net.Conn
	peeker     *peeker
	in         *bufio.Reader
	reused     bool     // it has carried out a command
	pairing    *Pairing // nil if the server does not track what is read here; guarded by lane.mu

	size int // of the reply that the buffer begins with, if whole has just found one

	// A reply that is incomplete or larger than the buffer is gathered in partial, so that another goroutine can go on
	// reading it. The first parsed bytes of partial are complete items; missing items are still to come.
	partial         []byte
	parsed, missing int

	// Deadlines are set ahead, for many commands: setting one costs as much as parsing a reply.
	readUntil, writeUntil time.Time
}

// readBuffer holds the replies of many small commands at once.
const readBuffer = 16 << 10

// patience is how long a reader waits before it makes itself interruptible, at a cost. Most replies arrive sooner.
const patience = 5 * time.Millisecond

// await waits for a whole reply. If the context ends or the deadline passes first, it returns that error, and waiting
// may go on later. A reply that has arrived is read even after the deadline.
func (c *conn) await(ctx context.Context, deadline time.Time) error {
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
	<-interrupted // or the next reader would meet this deadline
	c.readUntil = time.Time{}
	if err != nil {
		return ctx.Err()
	}
	return nil
}

func (c *conn) setReadDeadline(t time.Time) error {
	c.readUntil = t
	return c.socket.SetReadDeadline(t)
}

// receive returns the reply that await or whole has found.
func (c *conn) receive() (Reply, error) {
	if c.partial != nil {
		frame := c.partial
		c.partial = nil
		return parseReply(frame)
	}
	frame, _ := c.in.Peek(c.size)
	if frame[0] != ':' { // a number needs no copy
		frame = append([]byte(nil), frame...)
	}
	r, err := parseReply(frame)
	c.in.Discard(c.size)
	return r, err
}

// whole reports whether a whole reply has been read from the socket.
func (c *conn) whole() bool {
	if c.partial != nil {
		return c.missing == 0
	}
	buffered, _ := c.in.Peek(c.in.Buffered())
	c.size = frameSize(buffered)
	return c.size > 0
}

// fill reads from the socket until there is a whole reply. What it has read before an error is kept.
func (c *conn) fill() error {
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

// surplus reports whether anything has been read that no command waits for. Then replies can't be told apart any more.
func (c *conn) surplus() bool { return c.partial != nil || c.in.Buffered() > 0 }

// usable reports whether a connection that expects no reply is open and has received nothing. A new connection may
// have received something, such as the tickets of TLS.
func (c *conn) usable() bool {
	if !c.reused {
		return c.peeker.stillOpen(true)
	}
	if c.surplus() || !c.peeker.stillOpen(false) {
		return false
	}
	if _, ok := c.socket.(*tls.Conn); !ok {
		return true
	}
	c.setReadDeadline(time.Unix(1, 0)) // TLS may have received what it has not returned yet
	_, err := c.in.Peek(1)
	return errors.Is(err, os.ErrDeadlineExceeded)
}

// gather moves an incomplete reply from the buffer to partial.
func (c *conn) gather() error {
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
		case size == 0: // the line is incomplete
		case line[0] == '$' && n >= 0:
			size += n + 2
		case line[0] != '$' && c.parsed > 0: // no command or script used here returns a list of anything else
			return errProtocol
		}
		if size > 0 && len(line) >= size {
			if line[0] == '$' && n >= 0 && !endsLine(line[:size]) {
				return errProtocol
			}
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
		c.partial = append(c.partial, buffered...) // no memory for what is announced and has not arrived
		c.in.Discard(len(buffered))
	}
	return nil
}

// unwrap is a command that returns the conn itself: see [conn.Do].
const unwrap = "UNWRAP"

// Do carries out no commands. The connections that redigo's pool returns are wrappers that pass on calls of Do, so Do
// with unwrap finds the conn in one. The pool itself calls Do("") for pending replies, when it gets a connection back;
// there are none.
func (c *conn) Do(command string, _ ...any) (any, error) {
	if command == unwrap {
		return c, nil
	}
	return nil, nil
}

// Close closes the connection, without the close_notify of TLS: to write that could block.
func (c *conn) Close() error {
	if encrypted, ok := c.socket.(*tls.Conn); ok {
		encrypted.NetConn().Close()
	}
	return c.Conn.Close()
}

// write writes commands. It keeps a deadline that is set already if that is at most slack earlier.
func (c *conn) write(deadline time.Time, slack time.Duration, wire []byte) error {
	if c.writeUntil.Before(deadline.Add(-slack)) || c.writeUntil.After(deadline) {
		c.writeUntil = deadline
		if err := c.socket.SetWriteDeadline(deadline); err != nil {
			return err
		}
	}
	_, err := c.socket.Write(wire)
	if encrypted, ok := c.socket.(*tls.Conn); ok && err != nil && !c.reused { // why may have arrived before
		encrypted.SetReadDeadline(time.Now().Add(patience))
		if _, said := encrypted.Read(make([]byte, 1)); isAlert(said) {
			return said
		}
	}
	return err
}

// carryOut sends a command and reads its replies.
func (c *conn) carryOut(deadline time.Time, command *Command) (r Replies, err error) {
	each := 1
	if command.asking {
		each = 2
	}
	wire := command.wire
	if command.replicas > 0 {
		wire = command.withWait(deadline)
	}
	err = c.write(deadline, 0, wire)
	for i := 0; i < command.replies*each && err == nil; i++ {
		if err = c.await(context.Background(), deadline); err == nil {
			r[i/each], err = c.receive() // the command's overwrites that to ASKING
		}
		if err == nil && i%each == each-1 && !command.accept(&r[i/each], i/each) {
			err = errProtocol
		}
	}
	if err != nil {
		c.Close()
		return r, &brokenError{err, c.reused}
	}
	c.reused = true
	if r.notMaster() {
		c.Close()
	}
	if command.replicas > 0 {
		err = c.confirm(deadline, command, &r)
	}
	return r, err
}

// confirm reads the reply to the WAIT after a command. It returns an error if the command was carried out and too few
// replicas have that.
func (c *conn) confirm(deadline time.Time, command *Command, r *Replies) error {
	if r.failed(command.replies) { // and WAIT says nothing, perhaps after a long time
		c.Close()
		return nil
	}
	var wait Reply
	err := c.await(context.Background(), deadline)
	if err == nil {
		wait, err = c.receive()
	}
	n, ok := wait.Number()
	switch {
	case err != nil:
		c.Close()
		return fmt.Errorf("%w: %w", ErrNotReplicated, err)
	case wait.kind == '-':
		return unconfirmed(redis.Error(wait.text))
	case !ok:
		c.Close()
		return fmt.Errorf("%w: %w", ErrNotReplicated, errProtocol)
	case n < int64(command.replicas):
		return fmt.Errorf("%w: %d of %d have it", ErrNotReplicated, n, command.replicas)
	}
	return nil
}
