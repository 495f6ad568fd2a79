//go:build unix

package redisconn

import (
	"io"
	"net"
	"testing"
)

// What the kernel knows of a connection is told without reading from it.
func TestLook(t *testing.T) {
	both(t, func(t *testing.T, encrypted bool) {
		c, peer := connected(t, encrypted)
		if encrypted { // its farewell, or session tickets, may come at any time
			peer.Close()
		} else {
			if !c.peeker.stillOpen(false) || !c.peeker.stillOpen(true) || c.peeker.pending() {
				t.Error("an idle connection")
			}
			io.WriteString(peer, "x")
		}
		eventually(t, "something has come", c.peeker.pending)
		if c.peeker.stillOpen(false) || !c.peeker.stillOpen(true) {
			t.Error("a connection on which something has come")
		}
	})
	c, peer := connected(t, false)
	peer.Close()
	eventually(t, "a closed connection is not open", func() bool { return !c.peeker.stillOpen(true) })
	c.socket.Close()
	if c.peeker.stillOpen(true) || c.peeker.pending() {
		t.Error("a connection that was closed here")
	}
	unknown, _ := net.Pipe()
	if !newPeeker(unknown).stillOpen(false) || !newPeeker(unknown).pending() {
		t.Error("a connection that can't be looked at")
	}
}
