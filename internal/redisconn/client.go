// Package redisconn carries out commands on a Redis server or a Redis Cluster. It knows connections, the protocol,
// redirections and failures, and nothing of what the commands are for.
//
// A [Command] is built by its caller and handed to a [Client], which is a [Server] or a [Cluster].
package redisconn

import (
	"context"
	"time"
)

// A Client carries out commands. Its errors are [ErrUnavailable], which may also be [ErrMisconfigured] or wrap a
// [Refusal]; [ErrWrongType]; [ErrNotReplicated], with which the reply is
// there; and the caller's own context's.
type Client interface {
	// Do carries out a command. It returns within the timeout, which counts from when the operation began, and when
	// the context ends. A command that has been sent may be carried out all the same.
	Do(ctx context.Context, began time.Time, c *Command) (Reply, error)

	// DoAll is Do for commands that are sent together. If one of them fails, its error is returned.
	DoAll(ctx context.Context, began time.Time, c *Command) (Replies, error)

	// Split groups keys so that one command may name all keys of a group.
	Split(keys []string) [][]string

	// Probes returns one probe for every server that has keys.
	Probes(ctx context.Context, began time.Time) ([]Probe, error)

	// Track makes the servers track what commands read that ask for it: see [Command.Track]. Call it before any.
	Track(t Tracking)

	// Tracks returns nil if the server that has a key tracks what is read, or has begun to. It returns ErrUntracked if
	// the server does not.
	Tracks(ctx context.Context, began time.Time, key string) error

	// Heard returns when a server was last asked whether it tells all that has changed, and has said so: of several,
	// the longest ago. It reports whether there is one.
	Heard() (at time.Time, ok bool)

	// Connections returns the state of the connections.
	Connections() Connections

	// Close waits for commands under way, which end within the timeout, and closes all connections. Later commands
	// return ErrUnavailable.
	Close() error
}

// A Probe is a way to reach one server.
type Probe struct {
	Tag     string // a hash tag, whose keys are on that server
	Address string // of the server, "" if there is only one
}

var (
	_ Client = (*Server)(nil)
	_ Client = (*Cluster)(nil)
)
