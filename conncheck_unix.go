//go:build unix

package pycket

import (
	"crypto/tls"
	"net"
	"syscall"
)

// stillOpen tells, without a round trip, whether the peer has closed a connection that was idle. It
// looks at what the kernel has received and takes nothing away, so it is no read. Bytes that were not
// expected make a connection useless too: they may be the farewell of TLS.
func stillOpen(c net.Conn, expected bool) bool {
	if encrypted, ok := c.(*tls.Conn); ok {
		c = encrypted.NetConn()
	}
	sc, ok := c.(syscall.Conn)
	if !ok {
		return true
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	open := false
	err = raw.Control(func(fd uintptr) { // Control, since Read would mind a deadline that has passed
		var buf [1]byte
		n, _, err := syscall.Recvfrom(int(fd), buf[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		open = n > 0 && expected || err == syscall.EAGAIN || err == syscall.EWOULDBLOCK || err == syscall.EINTR
	})
	return err == nil && open
}
