package pycket

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
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
	leaving   sync.WaitGroup // what goes on in the background
}

const (
	// relearn is the least time between two looks at the layout: what moved meanwhile is learned slot by slot.
	relearn = lastPause

	// redirections is how many a command follows at once; then it waits, as servers may disagree for a while.
	redirections = 5
)

func newRedisCluster(seeds []string, target redisTarget, timeout time.Duration, open func(address string) *redisPool) *redisCluster {
	return &redisCluster{seeds: slices.Clone(seeds), target: target, timeout: timeout, open: open, servers: map[string]*redisPool{}}
}

func (c *redisCluster) do(ctx context.Context, began time.Time, repeatable bool, key, command string, args ...any) (reply, error) {
	deadline := began.Add(c.timeout)
	slot := redisc.Slot(key)
	server, err := c.serverOf(ctx, slot, deadline)
	if err != nil {
		return reply{}, failure(ctx, err)
	}
	pause, followed, asking := firstPause, 0, false
	for {
		var r reply
		if asking {
			r, err = server.doAsking(ctx, deadline, repeatable, command, args)
		} else {
			r, err = server.do(ctx, began, repeatable, key, command, args...)
		}
		if err == nil || r.kind == '-' && !r.mayPass() {
			return r, err
		}
		to := r.redirection()
		if to == nil && ctx.Err() == nil { // the server may be dead, and another have its slots
			c.learn()
		}
		if broken := new(brokenError); !repeatable && errors.As(err, &broken) {
			return r, err
		}
		asking = false
		if to != nil && followed < redirections {
			followed++
			asking = to.Type == "ASK"
			if named := c.redirected(to, server); named != nil {
				server = named
				continue
			}
		}
		if !sleep(ctx, pause, deadline) {
			if ctx.Err() != nil {
				err = failure(ctx, ctx.Err())
			}
			return r, err
		}
		pause, followed = min(2*pause, lastPause), 0
		again, unknown := c.serverOf(ctx, slot, deadline)
		if unknown != nil {
			return r, err
		}
		server = again
	}
}

// mayPass tells whether Redis might say something else in a moment, or elsewhere.
func (r reply) mayPass() bool { return r.redirection() != nil || r.notMaster() || r.unsettled() }

// redirection is where Redis says that the key is.
func (r reply) redirection() *redisc.RedirError {
	if r.kind != '-' || !bytes.HasPrefix(r.text, []byte("MOVED ")) && !bytes.HasPrefix(r.text, []byte("ASK ")) {
		return nil
	}
	return redisc.ParseRedir(redis.Error(r.text))
}

// unsettled tells whether the cluster is about to change: a failover, or a slot on its way with some of a
// session's keys here and some there. Then nothing was changed: see scripts/parts/notes.lua.
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
		case !first && adviceFor(ignorance) != "": // it will not become better
			return nil, ignorance
		case !first && !sleep(ctx, firstPause, deadline):
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return nil, errors.Join(errNoServer, ignorance)
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
	// Who serves knows best; seeds may have left the cluster since.
	var from []string
	for address := range c.servers {
		from = append(from, address)
	}
	rand.Shuffle(len(from), func(i, j int) { from[i], from[j] = from[j], from[i] })
	for _, seed := range c.seeds {
		if !slices.Contains(from, seed) {
			from = append(from, seed)
		}
	}
	c.leaving.Go(func() {
		found, err := c.layout(from)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.learning, c.learned, c.ignorance = nil, time.Now(), err
		close(done)
		if err == nil && !c.closed {
			c.adopt(found)
		}
	})
	return done
}

// layout asks the servers at these addresses, a few at a time, until one knows who serves. One that knows of
// every slot is believed at once; else, of those asked together, the one that knows of most.
func (c *redisCluster) layout(from []string) (best *layout, err error) {
	type known struct {
		found *layout
		err   error
	}
	best = new(layout)
	for len(from) > 0 && best.served == 0 {
		c.mu.RLock()
		closed := c.closed
		c.mu.RUnlock()
		if closed {
			return nil, errClosed
		}
		some := from[:min(len(from), 3)]
		from = from[len(some):]
		answers := make(chan known, len(some))
		for _, address := range some {
			c.leaving.Go(func() {
				found, err := c.ask(address)
				answers <- known{found, err}
			})
		}
		for range some {
			a := <-answers
			if a.err != nil {
				err = a.err
			}
			if a.found.served > best.served {
				best = a.found
			}
			if best.served == redisc.HashSlots {
				break
			}
		}
	}
	if best.served == 0 {
		return nil, cmp.Or(err, errNoSlots)
	}
	return best, nil
}

var errNoSlots = errors.New("the servers know of no slots")

// layout says which address has each slot, "" for none.
type layout struct {
	slots  [redisc.HashSlots]string
	served int
}

// ask asks one server for the layout.
func (c *redisCluster) ask(address string) (found *layout, err error) {
	found = new(layout)
	patience := min(c.timeout, time.Second)
	var failure error // of connecting
	server := redisc.Cluster{
		StartupNodes: []string{address},
		DialOptions: []redis.DialOption{
			redis.DialContextFunc(func(ctx context.Context, network, address string) (net.Conn, error) {
				ctx, cancel := context.WithTimeout(ctx, patience)
				defer cancel()
				var conn net.Conn
				conn, failure = c.target.connect(ctx, network, address)
				return conn, failure
			}),
			redis.DialUsername(c.target.username), redis.DialPassword(c.target.password),
			redis.DialReadTimeout(patience), redis.DialWriteTimeout(patience),
		},
		LayoutRefresh: func(_, now [redisc.HashSlots][]string) {
			for slot, servers := range now {
				if len(servers) > 0 {
					found.slots[slot] = complete(servers[0], address)
					found.served++
				}
			}
		},
	}
	err = withoutArgs(server.Refresh())
	server.Close()
	if err != nil && failure != nil {
		err = failure
	} else if err != nil { // redisc keeps nothing but its text
		err = redis.Error(strings.TrimPrefix(err.Error(), "redisc: all nodes failed\n"))
	}
	return found, err
}

// complete makes an address of what Redis says: without a host it means that of the server which says it, and
// an IPv6 address has no brackets.
func complete(address, by string) string {
	colon := strings.LastIndexByte(address, ':')
	if colon < 0 {
		return address
	}
	host, port := strings.Trim(address[:colon], "[]"), address[colon+1:]
	if host == "" {
		host, _, _ = net.SplitHostPort(by)
	}
	return net.JoinHostPort(host, port)
}

// adopt makes a layout that of the cluster and leaves servers that have no slots any more. A slot that nobody
// serves stays with whom it was last. mu is locked.
func (c *redisCluster) adopt(found *layout) {
	serving := map[*redisPool]bool{}
	for slot, address := range found.slots {
		if address != "" {
			c.slots[slot] = c.server(address)
		}
		serving[c.slots[slot]] = true
	}
	for address, server := range c.servers {
		if !serving[server] {
			delete(c.servers, address)
			c.leaving.Go(func() { server.close() }) // it waits for who is on the way
		}
	}
}

// probes wants every slot to have a server.
func (c *redisCluster) probes(ctx context.Context, began time.Time) (list []probe, err error) {
	var slots [redisc.HashSlots]*redisPool
	left := map[*redisPool]bool{}
	for slot := range slots {
		if slots[slot], err = c.serverOf(ctx, slot, began.Add(c.timeout)); err != nil {
			return nil, failure(ctx, err)
		}
		left[slots[slot]] = true
	}
	for i := 0; len(left) > 0; i++ { // until there is a tag for each
		tag := "ping" + strconv.Itoa(i)
		if server := slots[redisc.Slot(tag)]; left[server] {
			delete(left, server)
			list = append(list, probe{tag, server.address})
		}
	}
	return list, nil
}

func (c *redisCluster) close() error {
	c.mu.Lock()
	c.closed = true
	servers := c.servers
	c.servers = nil
	c.mu.Unlock()
	var errs []error
	for _, server := range servers {
		errs = append(errs, server.close())
	}
	c.leaving.Wait()
	return errors.Join(errs...)
}
