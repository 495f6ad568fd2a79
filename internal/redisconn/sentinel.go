package redisconn

import (
	"cmp"
	"context"
	"errors"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/gomodule/redigo/redis"
)

// Sentinels know which server of a group is its master. The master is asked for again whenever a connection is made, and
// once a second while there are any: a master that has been replaced may go on answering those who don't know.
type Sentinels struct {
	group     string
	addresses []string
	target    Target // of the sentinels
	timeout   time.Duration
	server    *Server

	mu     sync.Mutex
	epoch  int64  // of the newest configuration that was heard of
	master string // in that configuration, "" if none was
	stop   context.CancelFunc
	ended  chan struct{} // closed when nothing watches; nil if nothing has yet
}

const (
	// betweenLooks is how often the master is asked for.
	betweenLooks = time.Second

	// laterAnswers is how long the other sentinels have to answer after the first.
	laterAnswers = 50 * time.Millisecond
)

// NewSentinels returns the sentinels at addresses, which watch the group of that name. Target has their user, password
// and TLS. timeout is that of the Server whose connections Dial makes. It dials nothing.
func NewSentinels(group string, addresses []string, target Target, timeout time.Duration) *Sentinels {
	return &Sentinels{group: group, addresses: addresses, target: target, timeout: timeout}
}

// Dial connects to the master, as target says. While there is none, it tries again until the context's deadline.
func (s *Sentinels) Dial(ctx context.Context, target Target) (redis.Conn, error) {
	s.watch()
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(s.timeout)
	}
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		c, err := s.try(ctx, target)
		if err == nil || adviceFor(err) != "" || !sleep(ctx, pause, deadline) {
			return c, err
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

// find returns the address of the master. It asks all sentinels at once and believes the one with the newest
// configuration, since one that is cut off from the others does not hear of a failover.
func (s *Sentinels) find(ctx context.Context) (master string, err error) {
	type answer struct {
		address string
		epoch   int64
		err     error
	}
	answers := make(chan answer, len(s.addresses))
	for _, address := range s.addresses {
		go func() {
			master, epoch, err := s.ask(ctx, address)
			answers <- answer{master, epoch, err}
		}()
	}
	newest := answer{epoch: -1}
	var enough <-chan time.Time
	for range s.addresses {
		select {
		case a := <-answers:
			if a.err != nil {
				err = cmp.Or(err, a.err)
				continue
			}
			if a.epoch > newest.epoch {
				newest = a
			}
			if enough == nil {
				enough = time.After(laterAnswers)
			}
			continue
		case <-enough:
		case <-ctx.Done():
			err = cmp.Or(err, ctx.Err())
		}
		break
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if newest.epoch >= s.epoch && newest.address != "" {
		s.epoch, s.master = newest.epoch, newest.address
	}
	if newest.epoch < 0 {
		return "", errors.Join(errNoSentinel, err)
	}
	return s.master, nil
}

var errNoSentinel = errors.New("no sentinel knows the master")

// ask asks one sentinel for the master and the epoch of the configuration that it is in.
func (s *Sentinels) ask(ctx context.Context, address string) (master string, epoch int64, err error) {
	target := s.target
	target.Network, target.Address = "tcp", address
	opened, err := target.Dial(ctx)
	if err != nil {
		return "", 0, err
	}
	defer opened.Close()
	c := NewCommand("", 3, "SENTINEL")
	c.String("MASTER")
	c.String(s.group)
	deadline, _ := ctx.Deadline()
	r, err := opened.(*conn).carryOut(deadline, c)
	if err != nil {
		return "", 0, err
	}
	if r[0].kind == '-' {
		return "", 0, redis.Error(r[0].text)
	}
	said := map[string]string{}
	items, _ := r[0].List()
	for name, ok := items.Next(); ok; name, ok = items.Next() {
		value, _ := items.Next()
		said[string(name)] = string(value)
	}
	if said["ip"] == "" || said["port"] == "" {
		return "", 0, errProtocol
	}
	epoch, err = strconv.ParseInt(said["config-epoch"], 10, 64)
	return net.JoinHostPort(said["ip"], said["port"]), epoch, err
}

// watch looks for another master until close, and makes the server's shared connection leave the old one.
func (s *Sentinels) watch() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended != nil {
		return
	}
	var ctx context.Context
	ctx, s.stop = context.WithCancel(context.Background())
	s.ended = make(chan struct{})
	go func() {
		defer close(s.ended)
		for ctx.Err() == nil {
			limited, cancel := context.WithTimeout(ctx, betweenLooks)
			if master, err := s.find(limited); err == nil {
				s.server.lane.leave(master)
			}
			<-limited.Done()
			cancel()
		}
	}()
}

func (s *Sentinels) close() {
	s.mu.Lock()
	ended := s.ended
	if ended == nil { // and nothing is to watch from now on
		ended = make(chan struct{})
		close(ended)
		s.ended = ended
	} else {
		s.stop()
	}
	s.mu.Unlock()
	<-ended
}
