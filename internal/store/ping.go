package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/pycket/pycket/internal/redisconn"
)

// Ping tries the commands of all operations on every server that has keys, in two round trips: an EVAL and an EVALSHA,
// since operations use both. A third asks whether the server may evict sessions. It leaves nothing behind.
func (s *Store) Ping(ctx context.Context, began Began) error {
	probes, err := s.redis.Probes(ctx, began.At)
	if err != nil {
		return advised(err)
	}
	for _, at := range probes {
		for _, run := range []string{"1", "2"} {
			c := s.probe.On(1, s.key(at.Tag))
			c.String(run)
			if run == "1" {
				c = c.Whole()
			}
			c.Replicate(s.config.WaitReplicas)
			_, o, err := s.run(ctx, began, c)
			if err := cmp.Or(err, o.Unconfirmed); err != nil {
				return advised(of(at, err))
			}
		}
		s.lookForEviction(ctx, began, at)
		if s.cache == nil {
			continue
		}
		if err := s.redis.Tracks(ctx, began.At, s.key(at.Tag)); err != nil {
			return of(at, uncached(err))
		}
	}
	return nil
}

// lookForEviction finds out whether a server may delete sessions to make room. A user without the right to INFO, which
// nothing else needs, is not told, and asks once: Redis logs what it denies.
func (s *Store) lookForEviction(ctx context.Context, began Began, at redisconn.Probe) {
	if s.untold.Load() {
		return
	}
	c := redisconn.NewCommand(s.key(at.Tag), 2, "INFO")
	c.String("memory")
	r, err := s.redis.Do(ctx, began.At, c.Counted(began.Trips))
	if err != nil {
		s.untold.Store(errors.Is(err, ErrMisconfigured))
		return
	}
	limit, policy := "0", "noeviction"
	for line := range strings.Lines(string(r.Value())) {
		switch name, value, _ := strings.Cut(strings.TrimSpace(line), ":"); name {
		case "maxmemory":
			limit = value
		case "maxmemory_policy":
			policy = value
		}
	}
	if limit != "0" && policy != "noeviction" {
		s.config.MayEvict(policy)
	}
}

// of names the server in an error, if there are several.
func of(at redisconn.Probe, err error) error {
	if at.Address == "" {
		return err
	}
	return fmt.Errorf("%s: %w", at.Address, err)
}

// uncached adds to an error what it means for Settings.CacheFor, and what to do.
func uncached(err error) error {
	if !errors.Is(err, redisconn.ErrUntracked) {
		return advised(err)
	}
	return fmt.Errorf("CacheFor is set, and sessions are not kept in memory: %w; use a Redis with CLIENT TRACKING and give the user the rights for it that docs/operations.md lists, or set CacheFor to 0", err)
}

// advised adds to an error of Redis what to do about it, if that is known.
func advised(err error) error {
	for _, known := range []struct{ says, advice string }{
		{ErrNotReplicated.Error(), "bring its replicas back, or lower Redis.WaitReplicas"},
		{"older than 6.2", "use Redis 6.2 or later, or Valkey"},
		{"nknown command", noCommand},
		{"nknown Redis command", noCommand}, // in scripts
	} {
		if strings.Contains(err.Error(), known.says) && !errors.Is(err, ErrMisconfigured) { // whose text has the advice
			return fmt.Errorf("%w: %s", err, known.advice)
		}
	}
	return err
}

const noCommand = "it lacks a command that pycket needs; remove rename-command from its configuration, or use another server"
