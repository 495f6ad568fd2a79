// Package embedded runs a Redis inside the program, for demos and tests.
//
//	server, err := embedded.Start("127.0.0.1:0")
//	defer server.Close()
//	app, err := pycket.New(pycket.Settings{Redis: pycket.RedisSettings{URL: server.URL()}, ...})
//
// It is [github.com/alicebob/miniredis/v2]. What it holds is in memory and is lost when the program ends; other
// programs can use it if they have its URL. It is not for production: among other things, an Increment beyond
// 64 bits wraps around instead of failing.
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

// Start starts a server that listens on address; "127.0.0.1:0" means any free port.
func Start(address string) (*Server, error) {
	redis := miniredis.NewMiniRedis()
	if err := redis.StartAddr(address); err != nil {
		return nil, fmt.Errorf("pycket: start embedded Redis on %s: %w", address, err)
	}
	redis.ClockTTL(true) // keys expire as time goes by, as in a real Redis
	return &Server{redis, redis.Addr()}, nil
}

// Addr returns the server's address, host:port.
func (s *Server) Addr() string { return s.addr }

// URL returns the server's address in the form of Settings.Redis.URL.
func (s *Server) URL() string { return "redis://" + s.Addr() }

// Close stops the server. What it held is lost.
func (s *Server) Close() { s.redis.Close() }
