package redisconn

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/gomodule/redigo/redis"
)

// Sentinels know which server of a group is its master. They are asked whenever a connection is made, and again and again
// from the first on: a master that has been replaced may go on answering those who don't know, or hang.
type Sentinels struct {
	group   string
	all     []*sentinel
	timeout time.Duration
	server  *Server

	stopping context.Context
	stop     context.CancelFunc
	watching sync.Once
	running  sync.WaitGroup // goroutines that watch, or ask one sentinel

	mu     sync.Mutex
	epoch  int64  // of the newest configuration that was heard of
	master string // in that configuration, "" if none was heard of
}

// A sentinel is one of them, and the connection on which it was asked last.
type sentinel struct {
	Target
	mu   sync.Mutex
	idle *conn // nil if there is none
}

const (
	// betweenLooks is how often the master is asked for.
	betweenLooks = 250 * time.Millisecond

	// firstAnswer is how long a sentinel has to answer, and laterAnswers how long the others have after one has.
	firstAnswer  = time.Second
	laterAnswers = 100 * time.Millisecond
)

// NewSentinels returns the sentinels at addresses, which watch the group of that name. Target has their user, password
// and TLS. timeout is that of the Server whose connections Dial makes. It dials nothing.
func NewSentinels(group string, addresses []string, target Target, timeout time.Duration) *Sentinels {
	s := &Sentinels{group: group, timeout: timeout}
	s.stopping, s.stop = context.WithCancel(context.Background())
	for _, address := range addresses {
		target.Network, target.Address = "tcp", address
		s.all = append(s.all, &sentinel{Target: target})
	}
	return s
}

// Dial connects to the master, as target says. While there is none, it tries again until the context ends, or for the timeout.
func (s *Sentinels) Dial(ctx context.Context, target Target) (redis.Conn, error) {
	s.watching.Do(func() { s.running.Go(s.watch) })
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	deadline, _ := ctx.Deadline()
	var why error
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		c, err := s.try(ctx, target)
		if why == nil || !timedOut(err) { // the last attempt may have too little time to say more
			why = err
		}
		switch {
		case err == nil:
			return c, nil
		case adviceFor(err) != "": // waiting does not help
			return nil, err
		case !sleep(ctx, pause, deadline):
			<-ctx.Done() // then calls with more time get another attempt, and no others
			return nil, fmt.Errorf("%w: %w", os.ErrDeadlineExceeded, why)
		}
	}
}

// try is one attempt. It is short, since a server that hangs is replaced.
func (s *Sentinels) try(ctx context.Context, target Target) (redis.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, min(s.timeout/3, time.Second))
	defer cancel()
	address, err := s.find(ctx)
	if err != nil {
		return nil, err
	}
	target.Network, target.Address, target.Master = "tcp", address, true
	return target.Dial(ctx)
}

// Check is CheckIdle, and refuses a connection to a server that is not the master any more.
func (s *Sentinels) Check(c redis.Conn, since time.Time) error {
	s.mu.Lock()
	master := s.master
	s.mu.Unlock()
	if c.(*conn).address != master {
		return net.ErrClosed
	}
	return CheckIdle(c, since)
}

// An answer is what a sentinel has said: the master's address, and the epoch of the configuration that it knows.
type answer struct {
	address string
	epoch   int64
	err     error
}

// find returns the address of the master. It asks all sentinels at once.
func (s *Sentinels) find(ctx context.Context) (master string, err error) {
	answers := make(chan answer, len(s.all))
	for _, one := range s.all {
		s.running.Go(func() {
			ctx, cancel := context.WithTimeout(s.stopping, firstAnswer)
			defer cancel()
			a, err := one.ask(ctx, s.group)
			if a.err = err; err != nil {
				a.err = &sentinelError{one.Address, err}
			}
			answers <- a
		})
	}
	var heard []answer
	var enough <-chan time.Time
	for waiting := len(s.all); waiting > 0; waiting-- {
		select {
		case a := <-answers:
			if a.err != nil {
				err = better(err, a.err)
				continue
			}
			heard = append(heard, a)
			if enough == nil {
				enough = time.After(laterAnswers)
			}
			continue
		case <-enough:
		case <-ctx.Done():
			if err == nil {
				err = ctx.Err()
			}
		}
		break
	}
	if len(heard) == 0 {
		return "", fmt.Errorf("%w: %w", errNoSentinel, err)
	}
	master = s.believe(heard)
	s.server.lane.leave(master)
	return master, nil
}

var errNoSentinel = errors.New("none of the sentinels in Redis.Sentinel.Addresses knows the master")

// believe returns the master of the newest configuration that was ever heard of: a sentinel that is cut off from the
// others does not hear of a failover. A configuration that no sentinel has any more was taken back, as by SENTINEL REMOVE
// and MONITOR.
func (s *Sentinels) believe(heard []answer) (master string) {
	newest := slices.MaxFunc(heard, func(a, b answer) int { return cmp.Compare(a.epoch, b.epoch) })
	s.mu.Lock()
	defer s.mu.Unlock()
	same := slices.ContainsFunc(heard, func(a answer) bool { return a.epoch == s.epoch && a.address == s.master })
	switch {
	case s.master == "", newest.epoch > s.epoch, newest.epoch == s.epoch && !same, len(heard) == len(s.all) && !same:
		s.epoch, s.master = newest.epoch, newest.address
	}
	return s.master
}

// ask asks the sentinel for the master. The epoch comes first: the sentinel that carries out a failover knows the new
// master before SENTINEL MASTER names it.
func (s *sentinel) ask(ctx context.Context, group string) (a answer, err error) {
	c, err := s.connection(ctx)
	if err != nil {
		return a, err
	}
	interrupt := context.AfterFunc(ctx, func() { c.Close() })
	command := NewCommand("", 3, "SENTINEL")
	command.String("MASTER")
	command.String(group)
	command.Then(3, "SENTINEL")
	command.String("GET-MASTER-ADDR-BY-NAME")
	command.String(group)
	deadline, _ := ctx.Deadline()
	r, broken := c.carryOut(deadline, command)
	switch {
	case !interrupt():
		return a, ctx.Err()
	case broken != nil:
		return a, errors.Unwrap(broken)
	}
	s.keep(c)
	for i := range command.replies {
		if r[i].kind == '-' {
			return a, withoutArgs(redis.Error(r[i].text))
		}
	}
	about, _ := r[0].List()
	for name, ok := about.Next(); ok; name, ok = about.Next() {
		value, _ := about.Next()
		if string(name) == "config-epoch" {
			a.epoch, err = strconv.ParseInt(string(value), 10, 64)
		}
	}
	at, _ := r[1].List()
	host, _ := at.Next()
	port, _ := at.Next()
	if err != nil || len(host) == 0 || len(port) == 0 {
		return a, errProtocol
	}
	a.address = net.JoinHostPort(string(host), string(port))
	return a, nil
}

// connection returns the idle connection, or a new one.
func (s *sentinel) connection(ctx context.Context) (*conn, error) {
	s.mu.Lock()
	c := s.idle
	s.idle = nil
	s.mu.Unlock()
	if c != nil {
		if c.usable() {
			return c, nil
		}
		c.Close()
	}
	opened, err := s.Dial(ctx)
	if err != nil {
		return nil, err
	}
	return opened.(*conn), nil
}

// keep keeps a connection for the next question, nil for none, and closes the one that it kept.
func (s *sentinel) keep(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.idle != nil {
		s.idle.Close()
	}
	s.idle = c
}

// watch looks for another master until close. To find one makes the shared connection leave the old.
func (s *Sentinels) watch() {
	for tick := time.NewTicker(betweenLooks); ; {
		s.find(s.stopping)
		select {
		case <-tick.C:
		case <-s.stopping.Done():
			tick.Stop()
			return
		}
	}
}

// close ends what was begun. Nothing may Dial any more.
func (s *Sentinels) close() {
	s.stop()
	s.running.Wait()
	for _, one := range s.all {
		one.keep(nil)
	}
}
