package pycket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gomodule/redigo/redis"
	"github.com/mna/redisc"
)

// redisCluster carries out commands on the servers of a Redis Cluster, each on the one that has its key's
// slot. What is known of the slots is learned from any server that answers, and again when a server says
// that a slot has moved or does not answer: so a failover or a slot on its way is an answer that takes
// longer, within the timeout. Errors are those of redisPool.
//
// redisc reads the cluster's layout and its redirections. It is not asked for connections: the commands of
// many requests share one connection to each server, as with a single server.
type redisCluster struct {
	seeds   []string
	target  redisTarget
	timeout time.Duration
	open    func(address string) *redisPool

	mu        sync.RWMutex
	slots     [redisc.HashSlots]*redisPool // nil: not known
	servers   map[string]*redisPool
	learning  chan struct{} // closed when the layout that is being asked for is there; nil if none is
	learned   time.Time     // when it was last asked for, and by what that failed
	ignorance error
	closed    bool
}

const (
	// relearn is the least time between two looks at the layout: what moved meanwhile is learned slot by slot.
	relearn = lastPause

	// redirections is how many a command follows at once; then it waits, as servers may disagree for a while.
	redirections = 5
)

func newRedisCluster(seeds []string, target redisTarget, timeout time.Duration, open func(address string) *redisPool) (*redisCluster, error) {
	for _, seed := range seeds {
		if host, port, err := net.SplitHostPort(seed); err != nil || host == "" || port == "" {
			return nil, fmt.Errorf("Redis.Cluster has %q; use host:port", seed)
		}
	}
	return &redisCluster{seeds: slices.Clone(seeds), target: target, timeout: timeout, open: open, servers: map[string]*redisPool{}}, nil
}

func (c *redisCluster) do(ctx context.Context, began time.Time, repeatable bool, key, command string, args ...any) (reply, error) {
	deadline := began.Add(c.timeout)
	slot := redisc.Slot(key)
	server, err := c.serverOf(ctx, slot, deadline)
	if err != nil {
		return reply{}, unavailable(err)
	}
	pause, followed, asking := firstPause, 0, false
	for {
		var r reply
		if asking {
			r, err = server.doAsking(ctx, deadline, command, args)
		} else {
			r, err = server.do(ctx, began, repeatable, key, command, args...)
		}
		if err == nil || !mayPass(ctx, r, err, repeatable) {
			return r, err
		}
		asking = false
		if to := r.redirection(); to != nil && followed < redirections {
			followed++
			asking = to.Type == "ASK"
			if named := c.redirected(to, server); named != nil {
				server = named
				continue
			}
		}
		if !sleep(ctx, pause, deadline) {
			return r, err
		}
		pause, followed = min(2*pause, lastPause), 0
		c.learn()
		again, unknown := c.serverOf(ctx, slot, deadline)
		if unknown != nil {
			return r, err
		}
		server = again
	}
}

// mayPass tells whether a command that failed was not carried out, or may be once more, and might succeed in
// a moment.
func mayPass(ctx context.Context, r reply, err error, repeatable bool) bool {
	var broken *brokenError
	switch {
	case ctx.Err() != nil:
		return false
	case r.kind == '-':
		return r.redirection() != nil || r.notMaster() || r.unsettled()
	case errors.As(err, &broken):
		return repeatable
	}
	return true // it was not even sent
}

// redirection is where Redis says that the key is.
func (r reply) redirection() *redisc.RedirError {
	if r.kind != '-' || !bytes.HasPrefix(r.text, []byte("MOVED ")) && !bytes.HasPrefix(r.text, []byte("ASK ")) {
		return nil
	}
	return redisc.ParseRedir(redis.Error(r.text))
}

// unsettled tells whether the cluster is about to change: a failover, or a slot on its way with some of a
// session's keys here and some there. The scripts look at all keys before they change one.
func (r reply) unsettled() bool {
	return bytes.HasPrefix(r.text, []byte("TRYAGAIN")) || bytes.HasPrefix(r.text, []byte("CLUSTERDOWN")) ||
		bytes.Contains(r.text, []byte("non local key"))
}

// sleep tells whether there is time left after it.
func sleep(ctx context.Context, pause time.Duration, deadline time.Time) bool {
	if time.Until(deadline) <= pause {
		return false
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// serverOf is the server that has a slot, as far as is known; if nothing is, the layout is waited for.
func (c *redisCluster) serverOf(ctx context.Context, slot int, deadline time.Time) (*redisPool, error) {
	for first := true; ; first = false {
		c.mu.RLock()
		server, closed, ignorance := c.slots[slot], c.closed, c.ignorance
		c.mu.RUnlock()
		switch {
		case closed:
			return nil, errClosed
		case server != nil:
			return server, nil
		case !first && !sleep(ctx, firstPause, deadline):
			return nil, errors.Join(errNoServer, ignorance, ctx.Err())
		}
		timer := time.NewTimer(time.Until(deadline))
		select {
		case <-c.learn():
			timer.Stop()
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		case <-timer.C:
			return nil, errors.Join(errNoServer, ignorance)
		}
	}
}

var errNoServer = errors.New("no server of the cluster is known for the key")

// redirected is the server that another has named. What has moved for good is remembered.
func (c *redisCluster) redirected(to *redisc.RedirError, by *redisPool) *redisPool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || to.NewSlot < 0 || to.NewSlot >= len(c.slots) {
		return nil
	}
	server := c.server(complete(to.Addr, by.address))
	if to.Type == "MOVED" && c.slots[to.NewSlot] != server {
		c.slots[to.NewSlot] = server
		c.learnLocked()
	}
	return server
}

// server is the server at an address. mu is locked.
func (c *redisCluster) server(address string) *redisPool {
	server := c.servers[address]
	if server == nil {
		server = c.open(address)
		c.servers[address] = server
	}
	return server
}

// learn has somebody ask for the layout, unless that was done a moment ago. The channel is closed when there
// is nothing more to wait for.
func (c *redisCluster) learn() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.learnLocked()
}

func (c *redisCluster) learnLocked() <-chan struct{} {
	if c.learning != nil {
		return c.learning
	}
	done := make(chan struct{})
	if c.closed || time.Since(c.learned) < relearn {
		close(done)
		return done
	}
	c.learning = done
	from := slices.Clone(c.seeds)
	for address := range c.servers {
		if !slices.Contains(from, address) {
			from = append(from, address)
		}
	}
	go func() {
		layout, err := c.layout(from)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.learning, c.learned, c.ignorance = nil, time.Now(), err
		close(done)
		if err == nil && !c.closed {
			c.adopt(layout)
		}
	}()
	return done
}

// layout asks the servers at these addresses, one after the other, until one knows.
func (c *redisCluster) layout(from []string) (layout [redisc.HashSlots][]string, err error) {
	patience := min(c.timeout, time.Second)
	for _, address := range from {
		ask := redisc.Cluster{
			StartupNodes: []string{address},
			DialOptions: []redis.DialOption{
				redis.DialUsername(c.target.username), redis.DialPassword(c.target.password), redis.DialUseTLS(c.target.tls),
				redis.DialConnectTimeout(patience), redis.DialReadTimeout(patience), redis.DialWriteTimeout(patience),
			},
			LayoutRefresh: func(_, now [redisc.HashSlots][]string) { layout = now },
		}
		err = ask.Refresh()
		ask.Close()
		if err != nil {
			continue
		}
		for slot, addresses := range layout {
			if len(addresses) > 0 {
				layout[slot] = []string{complete(addresses[0], address)}
			}
		}
		return layout, nil
	}
	return layout, err
}

// complete gives an address without a host that of the server that has named it: that is what Redis means.
func complete(address, by string) string {
	if host, _, err := net.SplitHostPort(by); err == nil && strings.HasPrefix(address, ":") {
		return net.JoinHostPort(host, address[1:])
	}
	return address
}

// adopt makes a layout that of the cluster and leaves servers that have no slots any more. mu is locked.
func (c *redisCluster) adopt(layout [redisc.HashSlots][]string) {
	serving := map[*redisPool]bool{}
	for slot, addresses := range layout {
		c.slots[slot] = nil
		if len(addresses) > 0 {
			c.slots[slot] = c.server(addresses[0])
			serving[c.slots[slot]] = true
		}
	}
	for address, server := range c.servers {
		if !serving[server] {
			delete(c.servers, address)
			go server.close() // it waits for who is on the way
		}
	}
}

// ping asks every server that has slots.
func (c *redisCluster) ping(ctx context.Context) error {
	began := time.Now()
	if _, err := c.serverOf(ctx, 0, began.Add(c.timeout)); err != nil {
		return unavailable(err)
	}
	c.mu.RLock()
	servers := make([]*redisPool, 0, len(c.servers))
	for _, server := range c.servers {
		servers = append(servers, server)
	}
	c.mu.RUnlock()
	for _, server := range servers {
		if _, err := server.do(ctx, began, true, "", "PING"); err != nil {
			c.learn()
			return err
		}
	}
	return nil
}

func (c *redisCluster) close() error {
	c.mu.Lock()
	c.closed = true
	learning := c.learning
	servers := c.servers
	c.servers = nil
	c.mu.Unlock()
	if learning != nil {
		<-learning
	}
	var errs []error
	for _, server := range servers {
		errs = append(errs, server.close())
	}
	return errors.Join(errs...)
}
