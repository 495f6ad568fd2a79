// Package embedded runs a Redis inside the program, for demos and tests.
//
//	server, err := embedded.Start("127.0.0.1:0")
//	defer server.Close()
//	app, err := pycket.New(pycket.Settings{Redis: pycket.RedisSettings{URL: server.URL()}, ...})
//
// It is [github.com/alicebob/miniredis/v2]: what it holds is in memory, ends with the program and is
// seen by this program alone unless others are given its URL. It is no server for production: among other
// things, an Increment beyond 64 bits wraps around instead of failing.
package embedded

import (
	"fmt"

	"github.com/alicebob/miniredis/v2"
)

// A Server is a running Redis.
type Server struct {
	redis *miniredis.Miniredis
	addr  string
}

// Start starts a server that listens on address, "127.0.0.1:0" for any free port.
func Start(address string) (*Server, error) {
	redis := miniredis.NewMiniRedis()
	if err := redis.StartAddr(address); err != nil {
		return nil, fmt.Errorf("pycket: start embedded Redis on %s: %w", address, err)
	}
	redis.ClockTTL(true) // keys expire as time goes by, as in a real Redis
	return &Server{redis, redis.Addr()}, nil
}

// Addr is the server's address, host:port.
func (s *Server) Addr() string { return s.addr }

// URL is the server's address as Settings.Redis.URL takes it.
func (s *Server) URL() string { return "redis://" + s.Addr() }

// Close stops the server; what it held is gone.
func (s *Server) Close() { s.redis.Close() }
