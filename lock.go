package pycket

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"
)

// A queueLock is a mutex that is handed on in the order in which it was asked for, and that can be waited for with a
// limit.
//
// The order bounds a wait without a limit. Each operation of a request is over when Timeout has passed since it began,
// its own wait included; so whoever joins the queue has the lock when Timeout has passed. The response's headers wait like
// that: they need not choose between a response that hangs and a session whose cookie is not sent.
type queueLock struct {
	mu    sync.Mutex
	held  bool
	queue []chan struct{} // closed when it is their turn
}

// take takes the lock if it is free. Otherwise it joins the queue, and returns a channel that tells when its turn has come.
func (l *queueLock) take() (turn chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.held {
		l.held = true
		return nil
	}
	turn = make(chan struct{})
	l.queue = append(l.queue, turn)
	return turn
}

func (l *queueLock) Lock() {
	if turn := l.take(); turn != nil {
		<-turn
	}
}

// lockBy is Lock, but it gives up at a deadline, with ErrUnavailable, and when a context ends, with its error.
func (l *queueLock) lockBy(ctx context.Context, deadline time.Time) error {
	turn := l.take()
	if turn == nil {
		return nil
	}
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	var err error
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-timer.C:
		err = fmt.Errorf("%w: other operations of the request are under way: %w", ErrUnavailable, os.ErrDeadlineExceeded)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(l.queue, turn); i >= 0 {
		l.queue = slices.Delete(l.queue, i, i+1)
	} else { // its turn came meanwhile
		l.next()
	}
	return err
}

func (l *queueLock) Unlock() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next()
}

// next hands the lock to the one that has waited longest. mu is locked.
func (l *queueLock) next() {
	if len(l.queue) == 0 {
		l.held = false
		return
	}
	close(l.queue[0])
	l.queue = slices.Delete(l.queue, 0, 1)
}
