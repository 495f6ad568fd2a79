//go:build unix

package pycket

import (
	"crypto/tls"
	"net"
	"syscall"
)

// stillOpen tells, without a round trip, whether the peer has closed a connection that was idle. Bytes that
// were not expected make a connection useless too: they may be the farewell of TLS.
func stillOpen(c net.Conn, expected bool) bool {
	came, open, ok := look(c)
	return !ok || open && (!came || expected)
}

// pending reports whether something has come on a connection, for all that is known.
func pending(c net.Conn) bool {
	came, _, ok := look(c)
	return !ok || came
}

// look sees whether something has come on a connection, and whether it is open, if it can. It looks at what the
// kernel has received and takes nothing away, so it is no read.
func look(c net.Conn) (came, open, ok bool) {
	if encrypted, ok := c.(*tls.Conn); ok {
		c = encrypted.NetConn()
	}
	sc, ok := c.(syscall.Conn)
	if !ok {
		return false, false, false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false, false, true
	}
	err = raw.Control(func(fd uintptr) { // Control, since Read would mind a deadline that has passed
		var buf [1]byte
		n, _, err := syscall.Recvfrom(int(fd), buf[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		came = n > 0
		open = came || err == syscall.EAGAIN || err == syscall.EWOULDBLOCK || err == syscall.EINTR
	})
	return came, open && err == nil, true
}
