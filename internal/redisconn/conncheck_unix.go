//go:build unix

package redisconn

import (
	"crypto/tls"
	"net"
	"syscall"
)

// A peeker looks at what the kernel has received on a connection, without a round trip and without reading it. It is made
// once for a connection, since every command may look. nil can't look.
type peeker struct {
	raw        syscall.RawConn
	look       func(fd uintptr)
	buf        [1]byte
	came, open bool
}

func newPeeker(c net.Conn) *peeker {
	if encrypted, ok := c.(*tls.Conn); ok {
		c = encrypted.NetConn()
	}
	sc, ok := c.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	p := &peeker{raw: raw}
	p.look = func(fd uintptr) {
		n, _, err := syscall.Recvfrom(int(fd), p.buf[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		p.came = n > 0
		p.open = p.came || err == syscall.EAGAIN || err == syscall.EWOULDBLOCK || err == syscall.EINTR
	}
	return p
}

// peek reports whether something has come, and whether the connection is open.
func (p *peeker) peek() (came, open bool) {
	p.came, p.open = false, false
	err := p.raw.Control(p.look) // not Read, which fails after the deadline
	return p.came, p.open && err == nil
}

// stillOpen reports whether the connection is open and, unless it is expected, nothing has been received on it: that may be
// the close_notify of TLS.
func (p *peeker) stillOpen(expected bool) bool {
	if p == nil {
		return true
	}
	came, open := p.peek()
	return open && (!came || expected)
}

// pending reports whether something has been received, or might have been.
func (p *peeker) pending() bool {
	if p == nil {
		return true
	}
	came, _ := p.peek()
	return came
}
