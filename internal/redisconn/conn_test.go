//go:build unix

package redisconn

import (
	"bufio"
	"cmp"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"github.com/gomodule/redigo/redis"
)

// connected returns both ends of a connection, with or without TLS.
func connected(t *testing.T, encrypted bool) (c *conn, peer net.Conn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	socket, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if peer, err = listener.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close(); peer.Close() })
	if encrypted {
		web := httptest.NewTLSServer(nil) // has a certificate
		defer web.Close()
		server := tls.Server(peer, web.TLS)
		client := tls.Client(socket, &tls.Config{InsecureSkipVerify: true})
		shaken := make(chan error)
		go func() { shaken <- server.Handshake() }()
		if err := cmp.Or(client.Handshake(), <-shaken); err != nil {
			t.Fatal(err)
		}
		socket, peer = client, server
	}
	return &conn{Conn: redis.NewConn(socket, 0, 0), socket: socket, peeker: newPeeker(socket), in: bufio.NewReaderSize(socket, readBuffer)}, peer
}

// both runs a test with TLS and without.
func both(t *testing.T, test func(t *testing.T, encrypted bool)) {
	t.Run("plain", func(t *testing.T) { test(t, false) })
	t.Run("TLS", func(t *testing.T) { test(t, true) })
}

// eventually waits for what may take a moment to arrive.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(3 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it does not come to this: %s", what)
		}
	}
}

// A connection is usable unless it has been closed, or has received what nobody asked for.
func TestUsable(t *testing.T) {
	both(t, func(t *testing.T, encrypted bool) {
		for name, happens := range map[string]func(c *conn, peer net.Conn){
			"nothing":  nil,
			"received": func(_ *conn, peer net.Conn) { io.WriteString(peer, "+PONG\r\n") },
			"buffered": func(c *conn, peer net.Conn) { io.WriteString(peer, "+PONG\r\n"); c.in.Peek(1) },
			"closed":   func(_ *conn, peer net.Conn) { peer.Close() },
		} {
			c, peer := connected(t, encrypted)
			go io.WriteString(peer, "+OK\r\n")
			if _, err := c.carryOut(time.Now().Add(3*time.Second), ping()); err != nil {
				t.Fatal(err)
			}
			if happens != nil {
				happens(c, peer)
			}
			eventually(t, name, func() bool { return c.usable() == (happens == nil) })
			if err := CheckIdle(c, time.Now()); (err == nil) != (happens == nil) {
				t.Errorf("%s: CheckIdle: %v", name, err)
			}
		}
	})
}

// Nobody reads what is written: writing ends at the deadline, and closing at once.
func TestWritingHangs(t *testing.T) {
	both(t, func(t *testing.T, encrypted bool) {
		c, _ := connected(t, encrypted)
		large := NewCommand("key", 2, "PING")
		large.Bytes(make([]byte, 32<<20))
		began := time.Now()
		_, err := c.carryOut(began.Add(100*time.Millisecond), large)
		if broken, ok := err.(*brokenError); !ok || broken.reused || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("it took %v", took)
		}
		if c.Err() == nil {
			t.Error("it is not closed: the pool would take it back")
		}
	})
}

// A deadline for writing that is a little earlier is left as it is; a later one is not.
func TestWriteDeadline(t *testing.T) {
	c, _ := connected(t, false)
	until := time.Now().Add(time.Minute)
	for _, test := range []struct{ after, slack, want time.Duration }{
		{0, 0, 0},
		{10 * time.Second, 20 * time.Second, 0},
		{10 * time.Second, 5 * time.Second, 10 * time.Second},
		{-time.Second, 20 * time.Second, -time.Second},
	} {
		if err := c.write(until.Add(test.after), test.slack, nil); err != nil || !c.writeUntil.Equal(until.Add(test.want)) {
			t.Errorf("%v: %v, %v", test, c.writeUntil.Sub(until), err)
		}
	}
}
