package pycket

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"
)

// A queueLock is a mutex that goroutines get in the order in which they ask for it, and that they can wait for with a
// deadline.
//
// The order also bounds a wait without a deadline. Each operation of a request ends within Timeout, including its wait,
// so a goroutine that joins the queue gets the lock within Timeout. The response's headers wait like this, so they need
// not choose between a response that hangs and a session whose cookie is not sent.
type queueLock struct {
	mu    sync.Mutex
	held  bool
	queue []chan struct{} // each is closed when its turn comes
}

// take takes the lock if it is free. Otherwise it joins the queue, and returns a channel that is closed when its turn
// comes.
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

// next hands the lock to the goroutine that has waited longest. mu is locked.
func (l *queueLock) next() {
	if len(l.queue) == 0 {
		l.held = false
		return
	}
	close(l.queue[0])
	l.queue = slices.Delete(l.queue, 0, 1)
}
