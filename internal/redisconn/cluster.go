package redisconn

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
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

// A Cluster carries out commands on the servers of a Redis Cluster, each on the one that has its key's slot. It learns
// the layout from any server that answers, and again when a server says that a slot has moved, or does not answer. So
// during a failover or a move, commands only take longer, within the timeout.
//
// redisc parses the layout and redirections. Its connections are not used: commands share one connection to each
// server, as with a single server.
type Cluster struct {
	seeds   []string
	target  Target
	timeout time.Duration
	open    func(address string) *Server
	track   *Tracking // nil for none

	mu        sync.RWMutex
	slots     [redisc.HashSlots]*Server // nil if not known
	servers   map[string]*Server
	learning  chan struct{} // closed when the layout has been asked for; nil if that is not under way
	learned   time.Time     // when the layout was last asked for
	ignorance error         // why that failed
	closed    bool
	running   sync.WaitGroup // goroutines in the background
}

const (
	// relearn is the least time between two questions for the layout. Moves in between are learned slot by slot.
	relearn = lastPause

	// redirections is how many a command follows before it pauses: servers may disagree for a while.
	redirections = 5
)

// NewCluster returns a Cluster of the servers that are found through the addresses seeds. open makes the Server at an
// address. The user, password and TLS of target are for asking for the layout. NewCluster dials nothing.
func NewCluster(seeds []string, target Target, timeout time.Duration, open func(address string) *Server) *Cluster {
	return &Cluster{seeds: slices.Clone(seeds), target: target, timeout: timeout, open: open, servers: map[string]*Server{}}
}

// Do implements [Client].
func (c *Cluster) Do(ctx context.Context, began time.Time, command *Command) (Reply, error) {
	r, err := c.DoAll(ctx, began, command)
	return r[0], err
}

// DoAll implements [Client].
func (c *Cluster) DoAll(ctx context.Context, began time.Time, command *Command) (Replies, error) {
	deadline := began.Add(c.timeout)
	slot := redisc.Slot(command.key)
	server, err := c.serverOf(ctx, slot, deadline)
	if err != nil {
		return Replies{}, failure(ctx, err)
	}
	pause, followed, asking := firstPause, 0, false
	for {
		var r Replies
		if asking {
			r, err = server.doAsking(ctx, deadline, command)
		} else {
			r, err = server.DoAll(ctx, began, command)
		}
		if err == nil || errors.Is(err, ErrNotReplicated) || r.err(command.replies) != nil && !r.mayPass() {
			return r, err
		}
		to := r.redirection()
		if (to == nil || to.Type == "MOVED") && ctx.Err() == nil { // the server may be dead, and its slots another's
			c.learn()
		}
		if broken := new(brokenError); !command.repeatable && errors.As(err, &broken) {
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

// mayPass reports whether the same command might succeed in a moment, or on another server.
func (r *Replies) mayPass() bool {
	return r.redirection() != nil || r.notMaster() || slices.ContainsFunc(r[:], Reply.unsettled)
}

// redirection returns where the server says that the key is, nil if it does not.
func (r *Replies) redirection() *redisc.RedirError {
	for i := range r {
		if text := r[i].text; r[i].kind == '-' && (bytes.HasPrefix(text, []byte("MOVED ")) || bytes.HasPrefix(text, []byte("ASK "))) {
			return redisc.ParseRedir(redis.Error(text))
		}
	}
	return nil
}

// unsettled reports whether the cluster is changing, by a failover, or by moving a slot of which some keys are here and
// some there. Nothing was changed if the script touches all its keys before it writes.
func (r Reply) unsettled() bool {
	return r.kind == '-' && (bytes.HasPrefix(r.text, []byte("TRYAGAIN")) || bytes.HasPrefix(r.text, []byte("CLUSTERDOWN")) ||
		bytes.Contains(r.text, []byte("non local key")))
}

// sleep sleeps, and reports whether there is time left afterwards. If not, it does not sleep.
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

// serverOf returns the server that is known to have a slot. If none is, it waits for the layout.
func (c *Cluster) serverOf(ctx context.Context, slot int, deadline time.Time) (*Server, error) {
	for first := true; ; first = false {
		c.mu.RLock()
		server, closed, ignorance := c.slots[slot], c.closed, c.ignorance
		c.mu.RUnlock()
		switch {
		case closed:
			return nil, errClosed
		case server != nil:
			return server, nil
		case !first && adviceFor(ignorance) != "": // waiting does not help
			return nil, ignorance
		case !first && !sleep(ctx, firstPause, deadline):
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return nil, noServer(ignorance)
		}
		timer := time.NewTimer(time.Until(deadline))
		select {
		case <-c.learn():
			timer.Stop()
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		case <-timer.C:
			return nil, noServer(ignorance)
		}
	}
}

var errNoServer = errors.New("no server of the cluster is known for the key")

// noServer returns errNoServer, with why, if that is known.
func noServer(ignorance error) error {
	if ignorance == nil {
		return errNoServer
	}
	return fmt.Errorf("%w: %w", errNoServer, ignorance)
}

// redirected returns the server that another has redirected to. It remembers a slot that has moved for good.
func (c *Cluster) redirected(to *redisc.RedirError, by *Server) *Server {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || to.NewSlot < 0 || to.NewSlot >= len(c.slots) {
		return nil
	}
	server := c.server(complete(to.Addr, by.address))
	if to.Type == "MOVED" {
		c.give(to.NewSlot, server)
	}
	return server
}

// give notes which server has a slot. What was read from the one that had it before is void: that one may never learn of
// changes any more. mu must be locked.
func (c *Cluster) give(slot int, server *Server) {
	if before := c.slots[slot]; before != nil && before != server {
		before.unpair()
	}
	c.slots[slot] = server
}

// server returns the server at an address. mu must be locked.
func (c *Cluster) server(address string) *Server {
	server := c.servers[address]
	if server == nil {
		server = c.open(address)
		if c.track != nil {
			server.Track(*c.track)
		}
		c.servers[address] = server
	}
	return server
}

// learn asks for the layout in the background, unless that was done a moment ago. The channel is closed when that is
// done.
func (c *Cluster) learn() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.learning != nil {
		return c.learning
	}
	done := make(chan struct{})
	if c.closed || time.Since(c.learned) < relearn {
		close(done)
		return done
	}
	c.learning = done
	// Servers that had slots come first: seeds may have left the cluster.
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
	c.running.Go(func() {
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

// layout asks the servers at addresses, a few at a time, until one knows of slots. An answer with every slot is taken
// at once; otherwise, of those asked together, the one with the most.
func (c *Cluster) layout(addresses []string) (best *layout, err error) {
	type known struct {
		found *layout
		err   error
	}
	best = new(layout)
	for len(addresses) > 0 && best.served == 0 {
		c.mu.RLock()
		closed := c.closed
		c.mu.RUnlock()
		if closed {
			return nil, errClosed
		}
		some := addresses[:min(len(addresses), 3)]
		addresses = addresses[len(some):]
		answers := make(chan known, len(some))
		for _, address := range some {
			c.running.Go(func() {
				found, err := c.ask(address)
				answers <- known{found, err}
			})
		}
		for range some {
			a := <-answers
			if a.err != nil {
				err = better(err, a.err)
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

// A layout says which address has each slot, "" for none.
type layout struct {
	slots  [redisc.HashSlots]string
	served int
}

// ask asks one server for the layout.
func (c *Cluster) ask(address string) (found *layout, err error) {
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
			redis.DialUsername(c.target.Username), redis.DialPassword(c.target.Password),
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

// complete returns an address as it is dialed. Redis omits the host for the server by that says it, and the brackets of
// IPv6.
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

// adopt replaces the layout and closes servers without slots. A slot without a server stays with the one that had it.
// mu must be locked.
func (c *Cluster) adopt(found *layout) {
	serving := map[*Server]bool{}
	for slot, address := range found.slots {
		if address != "" {
			c.give(slot, c.server(address))
		}
		serving[c.slots[slot]] = true
	}
	for address, server := range c.servers {
		if !serving[server] {
			delete(c.servers, address)
			c.running.Go(func() { server.Close() }) // it waits for commands under way
		}
	}
}

// Probes implements [Client]. It returns an error unless every slot has a server.
func (c *Cluster) Probes(ctx context.Context, began time.Time) (list []Probe, err error) {
	var slots [redisc.HashSlots]*Server
	left := map[*Server]bool{}
	for slot := range slots {
		if slots[slot], err = c.serverOf(ctx, slot, began.Add(c.timeout)); err != nil {
			return nil, failure(ctx, err)
		}
		left[slots[slot]] = true
	}
	for i := 0; len(left) > 0; i++ { // until each has a tag
		tag := "ping" + strconv.Itoa(i)
		if server := slots[redisc.Slot(tag)]; left[server] {
			delete(left, server)
			list = append(list, Probe{tag, server.address})
		}
	}
	return list, nil
}

// Track implements [Client].
func (c *Cluster) Track(t Tracking) { c.track = &t }

// Tracks implements [Client].
func (c *Cluster) Tracks(ctx context.Context, began time.Time, key string) error {
	server, err := c.serverOf(ctx, redisc.Slot(key), began.Add(c.timeout))
	if err != nil {
		return failure(ctx, err)
	}
	return server.Tracks(ctx, began, key)
}

// Heard implements [Client].
func (c *Cluster) Heard() (oldest time.Time, ok bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for _, server := range c.servers {
		if at, tracks := server.Heard(); tracks && (!ok || at.Before(oldest)) {
			oldest, ok = at, true
		}
	}
	return oldest, ok
}

// Split implements [Client]: all keys of a group have one slot.
func (c *Cluster) Split(keys []string) [][]string { return redisc.SplitBySlot(keys...) }

// Close implements [Client].
func (c *Cluster) Close() error {
	c.mu.Lock()
	c.closed = true
	servers := c.servers
	c.servers = nil
	c.mu.Unlock()
	var errs []error
	for _, server := range servers {
		errs = append(errs, server.Close())
	}
	c.running.Wait()
	return errors.Join(errs...)
}
