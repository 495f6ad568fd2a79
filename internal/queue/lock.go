// Package queue has a mutex that is handed on in the order in which it was asked for.
package queue

import (
	"context"
	"os"
	"slices"
	"sync"
	"time"
)

// A Lock is a mutex that goroutines get in the order in which they ask for it, and that they can wait for with a deadline.
// The zero Lock is unlocked.
//
// The order also bounds a wait without a deadline. If everyone else who asks is done within some time, including the wait,
// a goroutine that joins the queue gets the lock within that time.
type Lock struct {
	mu    sync.Mutex
	held  bool
	queue []chan struct{} // each is closed when its turn comes
}

// take takes the lock if it is free. Otherwise it joins the queue, and returns a channel that is closed when its turn
// comes.
func (l *Lock) take() (turn chan struct{}) {
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

// Lock waits for the lock.
func (l *Lock) Lock() {
	if turn := l.take(); turn != nil {
		<-turn
	}
}

// LockBy is Lock, but it gives up at a deadline, with [os.ErrDeadlineExceeded], and when a context ends, with its error.
func (l *Lock) LockBy(ctx context.Context, deadline time.Time) error {
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
		err = os.ErrDeadlineExceeded
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

// Unlock hands the lock on.
func (l *Lock) Unlock() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next()
}

// next hands the lock to the goroutine that has waited longest. mu is locked.
func (l *Lock) next() {
	if len(l.queue) == 0 {
		l.held = false
		return
	}
	close(l.queue[0])
	l.queue = slices.Delete(l.queue, 0, 1)
}
