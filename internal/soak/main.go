//go:build unix

// Soak runs an application on Redis while everything breaks, and checks what it gets against a model.
//
//	go run ./internal/soak -for 20m -on server
//
// Several processes serve browsers, which begin sessions, read and write values, and log out, several requests at once.
// Redis is one server, a group that sentinels watch, or a cluster, or each in turn. Faults break servers, connections and
// processes, one at a time with calm in between. A summary says what has happened; the exit status is 1 if a promise was
// broken. The seed decides about faults and requests, but not when they meet.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"time"
)

func main() {
	if text := os.Getenv(childVariable); text != "" {
		exit(child(text))
	}
	long := flag.Duration("for", 20*time.Minute, "how long to run on each")
	on := flag.String("on", "all", "what Redis is: server, sentinel, cluster, or all in turn")
	seed := flag.Uint64("seed", 0, "decides about faults and requests; 0 for a random one")
	flag.Parse()
	if *seed == 0 {
		*seed = rand.Uint64() >> 1 // #nosec G404 -- nobody gains from guessing it
	}
	targets := []string{*on}
	if *on == "all" {
		targets = kinds
	} else if !slices.Contains(kinds, *on) {
		exit(fmt.Errorf("-on is %q; use server, sentinel, cluster or all", *on))
	}
	kept := true
	for _, on := range targets {
		ok, err := soak(context.Background(), os.Stdout, on, *long, *seed)
		if err != nil {
			exit(err)
		}
		kept = kept && ok
	}
	if !kept {
		os.Exit(1)
	}
}

// exit ends the program.
func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(2)
	}
	os.Exit(0)
}

// kinds are what Redis may be.
var kinds = []string{"server", "sentinel", "cluster"}

const (
	operationTimeout = 2 * time.Second
	browsers         = 6
	appProcesses     = 3 // the last reads from memory
	cacheFor         = time.Second

	// grace is how long after a fault it may still be felt: connections are made again, and layouts are learned.
	grace = 500 * time.Millisecond
)

// soak runs on one kind of Redis and reports whether all promises were kept. On an error, it has found nothing out.
func soak(ctx context.Context, out io.Writer, on string, long time.Duration, seed uint64) (kept bool, err error) {
	fmt.Fprintf(out, "soak -for %v -on %s -seed %d\n", long, on, seed)
	s := new(stage)
	defer s.close()
	var t *target
	if err := attempt(func() { t = newTarget(on, operationTimeout, s) }); err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, long)
	defer cancel()
	l := newLedger(out)
	c := &crowd{ledger: l, timeout: operationTimeout, stale: cacheFor, sure: t.sure}
	for i := range appProcesses {
		p := &process{configuration: t.configuration}
		if i == appProcesses-1 {
			p.CacheFor = cacheFor
		}
		if err := p.start(); err != nil {
			return false, err
		}
		s.Cleanup(p.kill)
		c.processes = append(c.processes, p)
	}
	t.faults = append(t.faults, fault{window{kind: "process of the application killed", app: true}, func(r *rand.Rand) {
		p := c.processes[r.IntN(len(c.processes))]
		p.kill()
		sleep(r, 0, time.Second)
		if err := p.start(); err != nil {
			s.Fatal(err)
		}
	}})
	var working, visiting sync.WaitGroup
	for i := range browsers {
		visiting.Go(func() { newBrowser(c, i, seed).run(ctx) })
	}
	var broken error
	working.Go(func() {
		if broken = attempt(func() { t.breakThings(ctx, l, seed) }); broken != nil {
			cancel()
		}
	})
	done := make(chan struct{})
	working.Go(func() { t.watch(done, l) })
	working.Go(func() {
		for tick := time.NewTicker(10 * time.Second); ; {
			select {
			case <-tick.C:
				t.tidy()
				l.progress()
			case <-done:
				tick.Stop()
				return
			}
		}
	})
	visiting.Wait()
	close(done)
	working.Wait()
	if broken != nil {
		return false, broken
	}
	t.lasting(l)
	return l.summary("soak on " + on), nil
}

// breakThings makes one fault after the other until the context ends. Each kind comes before any comes again.
func (t *target) breakThings(ctx context.Context, l *ledger, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 1<<32)) // #nosec G404 -- it is to be repeatable
	var next []int
	for {
		if len(next) == 0 {
			next = r.Perm(len(t.faults))
		}
		pause := time.NewTimer(some(r, time.Second, 3*time.Second))
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return
		}
		f := t.faults[next[0]]
		next = next[1:]
		w := l.begin(f.window)
		f.do(r)
		if !within(time.Minute, t.well) {
			t.stage.Fatalf("%s: the servers are not well after a minute", f.kind)
		}
		time.Sleep(grace)
		l.end(w)
		t.lasting(l)
	}
}

// watch notes when a master is replaced.
func (t *target) watch(done <-chan struct{}, l *ledger) {
	var before []string
	for tick := time.NewTicker(300 * time.Millisecond); ; {
		var now []string
		for _, master := range t.masters() {
			now = append(now, master.Addr)
		}
		if slices.Sort(now); now != nil {
			if before != nil && !slices.Equal(before, now) {
				l.failover()
			}
			before = now
		}
		select {
		case <-tick.C:
		case <-done:
			tick.Stop()
			return
		}
	}
}

// A stage is what the servers are started on, as in a test.
type stage struct {
	testing.TB

	mu       sync.Mutex
	cleanups []func()
}

func (s *stage) Helper() {}

func (s *stage) Cleanup(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cleanups = append(s.cleanups, f)
}

// Fatal, Fatalf and Skip end what attempt has called.
func (s *stage) Fatal(args ...any)                 { panic(failure(fmt.Sprint(args...))) }
func (s *stage) Fatalf(format string, args ...any) { panic(failure(fmt.Sprintf(format, args...))) }
func (s *stage) Skip(args ...any)                  { panic(failure(fmt.Sprint(args...))) }

// close calls the cleanups, the last first.
func (s *stage) close() {
	for _, f := range slices.Backward(s.cleanups) {
		f()
	}
}
