package main

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/pycket/pycket"
)

// A cost is what a request has cost so far.
type cost struct {
	mu         sync.Mutex // a handler may use its session in several goroutines
	operations int        // on the session and its notifications
	roundTrips int        // to Redis
	took       time.Duration
}

type costKey struct{}

// withCost gives each request a cost, in its context, where observe finds it. It must be outside of App.Wrap.
func withCost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), costKey{}, new(cost))))
	})
}

// observe is Settings.Observe: pycket calls it after each operation.
func observe(ctx context.Context, op pycket.Operation) {
	c, ok := ctx.Value(costKey{}).(*cost)
	if !ok {
		return // no request's: main's Ping
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.operations++
	if op.RoundTrips > 0 {
		c.roundTrips += op.RoundTrips
		c.took += op.Took
	}
}

// Cost says what the page has cost up to here. The footer asks last, so that it counts what the page itself has asked
// for. It does not count the request that led here by a redirect.
func (p page) Cost() string {
	c, ok := p.Context.Value(costKey{}).(*cost)
	if !ok {
		return ""
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	number := func(n int, what string) string {
		if n == 1 {
			return "1 " + what
		}
		return fmt.Sprintf("%d %ss", n, what)
	}
	if c.roundTrips == 0 {
		return fmt.Sprintf("This page: %s, and nothing to ask Redis.", number(c.operations, "operation"))
	}
	return fmt.Sprintf("This page, up to here: %s, %s, %d µs in Redis.",
		number(c.operations, "operation"), number(c.roundTrips, "round trip"), c.took.Microseconds())
}
