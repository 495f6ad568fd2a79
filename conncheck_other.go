//go:build !unix

package pycket

import "net"

// stillOpen cannot look at a connection without reading here: the first command finds out.
func stillOpen(net.Conn, bool) bool { return true }
