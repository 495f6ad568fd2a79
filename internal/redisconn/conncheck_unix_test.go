//go:build unix

package redisconn

import (
	"io"
	"net"
	"testing"
	"time"
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
		for deadline := time.Now().Add(3 * time.Second); !c.peeker.pending(); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("nothing has come")
			}
		}
		if c.peeker.stillOpen(false) || !c.peeker.stillOpen(true) {
			t.Error("a connection on which something has come")
		}
	})
	c, peer := connected(t, false)
	peer.Close()
	for deadline := time.Now().Add(3 * time.Second); c.peeker.stillOpen(true); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a closed connection is open")
		}
	}
	c.socket.Close()
	if c.peeker.stillOpen(true) || c.peeker.pending() {
		t.Error("a connection that was closed here")
	}
	unknown, _ := net.Pipe()
	if !newPeeker(unknown).stillOpen(false) || !newPeeker(unknown).pending() {
		t.Error("a connection that can't be looked at")
	}
}
