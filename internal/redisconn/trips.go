package redisconn

import "sync"

// Trips count what an operation costs.
type Trips struct {
	mu   sync.Mutex // an operation may ask several servers at once
	cost Cost
}

// A Cost is how often the commands of an operation were sent, or would have been if there had been a connection.
type Cost struct {
	RoundTrips int
	Retries    int    // of these, how many were not a command's first
	Server     string // the address of the server that was asked last
}

// Take returns the cost of an operation that has ended, and begins anew.
func (t *Trips) Take() Cost {
	cost := t.cost
	t.cost = Cost{}
	return cost
}

// Counted makes trips count the command.
func (c *Command) Counted(trips *Trips) *Command {
	c.trips = trips
	return c
}

// goes counts a trip of the command to a server.
func (c *Command) goes(to *Server) {
	again := c.tried
	c.tried = true
	t := c.trips
	if t == nil {
		return
	}
	server := to.where()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cost.RoundTrips++
	if again {
		t.cost.Retries++
	}
	t.cost.Server = server
}

// where returns the server's address: of several that sentinels watch, the master's.
func (s *Server) where() string {
	if s.sentinels == nil {
		return s.address
	}
	s.sentinels.mu.Lock()
	defer s.sentinels.mu.Unlock()
	return s.sentinels.master
}

// Connections are those to all servers, at one moment.
type Connections struct {
	Servers int // that are known
	Shared  int // connections that callers share: one to each server that is in use
	Queued  int // commands that are to be written to them
	Waiting int // commands that were written to them, and have no reply
	Alone   int // connections that carry out one caller's command
	Idle    int // connections that are kept for such commands
	Max     int // how many there may be, besides those of the tracking
}

// Connections implements [Client].
func (s *Server) Connections() Connections {
	l := &s.lane
	l.mu.Lock()
	defer l.mu.Unlock()
	c := Connections{Servers: 1, Queued: len(l.queue), Waiting: len(l.waiting), Alone: len(s.slots), Idle: s.pool.IdleCount(), Max: cap(s.slots) + 1}
	if l.conn != nil {
		c.Shared = 1
	}
	return c
}

// Connections implements [Client].
func (c *Cluster) Connections() (all Connections) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for _, server := range c.servers {
		of := server.Connections()
		all.Servers += of.Servers
		all.Shared += of.Shared
		all.Queued += of.Queued
		all.Waiting += of.Waiting
		all.Alone += of.Alone
		all.Idle += of.Idle
		all.Max += of.Max
	}
	return all
}
