package pycket

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Whoever gives up, at whatever moment, takes the lock from nobody and keeps it from nobody.
func TestQueueLockGivenUp(t *testing.T) {
	var l queueLock
	var held, had int // guarded by l
	var gaveUp atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 500 {
				ctx, cancel := context.WithTimeout(t.Context(), rand.N(50*time.Microsecond))
				err := l.lockBy(ctx, time.Now().Add(rand.N(50*time.Microsecond)))
				cancel()
				if err != nil {
					if !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, context.DeadlineExceeded) {
						t.Error(err)
					}
					gaveUp.Add(1)
					continue
				}
				if held++; held != 1 {
					t.Error("two have the lock")
				}
				for until := time.Now().Add(rand.N(20 * time.Microsecond)); time.Now().Before(until); {
				}
				held--
				had++
				l.Unlock()
			}
		})
	}
	wg.Wait()
	if had == 0 || gaveUp.Load() == 0 {
		t.Errorf("%d had the lock, and %d gave up", had, gaveUp.Load())
	}
	if l.held || len(l.queue) != 0 {
		t.Errorf("the lock is left as %v, with %d in the queue", l.held, len(l.queue))
	}
}

// The lock is handed on in the order in which it was asked for; a goroutine that wants it again queues up again.
func TestQueueLockOrder(t *testing.T) {
	var l queueLock
	var order []int
	l.Lock()
	for i := range 8 {
		go func() {
			l.Lock()
			defer l.Unlock()
			order = append(order, i)
		}()
		for waiting := 0; waiting <= i; runtime.Gosched() {
			l.mu.Lock()
			waiting = len(l.queue)
			l.mu.Unlock()
		}
	}
	l.Unlock()
	l.Lock()
	if diff := cmp.Diff([]int{0, 1, 2, 3, 4, 5, 6, 7}, order); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	l.Unlock()
}
