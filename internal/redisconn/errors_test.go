//go:build unix

package redisconn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/pycket/pycket/internal/redistest"
)

// What Redis says is told apart, also in the second of two replies, and never names the arguments.
func TestErrors(t *testing.T) {
	for said, want := range map[string]struct {
		advice                   string // of a Refusal
		wrongType, misconfigured bool
	}{
		"READONLY You can't write against a read only replica.":                               {advice: "Redis.URL"},
		"OOM command not allowed when used memory > 'maxmemory'.":                             {advice: "maxmemory"},
		"MISCONF Redis is configured to save RDB snapshots":                                   {advice: "disk"},
		"NOREPLICAS Not enough good replicas to write.":                                       {advice: "min-replicas-to-write"},
		"ERR Error running script (call to f_0): @user_script:1: -OOM command not allowed":    {advice: "maxmemory"},
		"ERR the user wrote OOM command":                                                      {},
		"WRONGTYPE Operation against a key holding the wrong kind of value":                   {wrongType: true},
		"ERR Error running script (call to f_0): @user_script:1: WRONGTYPE Operation against": {wrongType: true},
		"NOAUTH Authentication required.":                                                     {misconfigured: true},
		"NOPERM this user has no permissions to run the 'get' command":                        {misconfigured: true},
		"NOSCRIPT No matching script.":                                                        {}, // it was none
		"ERR unknown command 'GET', with args beginning with: 'secret'":                       {},
	} {
		t.Run(said, func(t *testing.T) {
			s := newServer(t, Target{Address: redistest.Fake(t, func(words []string) string {
				if words[0] == "GET" {
					return "-" + said + "\r\n"
				}
				return "+PONG\r\n"
			})}, 4, 3*time.Second)
			get := func(c *Command) {
				c.String("key")
				_, err := s.DoAll(t.Context(), time.Now(), c)
				if got := errors.As(err, new(Refusal)); got != (want.advice != "") {
					t.Errorf("Refusal: %v: %v", got, err)
				}
				if _, advice, _ := strings.Cut(fmt.Sprint(err), said+"; "); !strings.Contains(advice, want.advice) {
					t.Errorf("%v does not advise on %s", err, want.advice)
				}
				if got := errors.Is(err, ErrWrongType); got != want.wrongType {
					t.Errorf("ErrWrongType: %v: %v", got, err)
				}
				if got := errors.Is(err, ErrUnavailable); got == want.wrongType {
					t.Errorf("ErrUnavailable: %v: %v", got, err)
				}
				if got := errors.Is(err, ErrMisconfigured); got != want.misconfigured {
					t.Errorf("ErrMisconfigured: %v: %v", got, err)
				}
				if err == nil || strings.Contains(err.Error(), "secret") {
					t.Error(err)
				}
			}
			get(NewCommand("key", 2, "GET"))
			second := NewCommand("key", 1, "PING")
			second.Then(2, "GET")
			get(second)
			if _, err := s.Do(t.Context(), time.Now(), ping()); err != nil {
				t.Errorf("the next command: %v", err)
			}
		})
	}
}

// A caller whose context has ended is told that, and not that Redis is to blame.
func TestFailure(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	if err := failure(ctx, io.EOF); !errors.Is(err, ErrUnavailable) {
		t.Error(err)
	}
	cancel()
	if err := failure(ctx, ctx.Err()); errors.Is(err, ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := failure(ctx, io.EOF); !errors.Is(err, ErrUnavailable) {
		t.Error(err)
	}
	own, cancel := context.WithDeadlineCause(t.Context(), time.Now(), errOwnLimit)
	defer cancel()
	if err := failure(own, own.Err()); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "context deadline exceeded") {
		t.Error(err)
	}
}
