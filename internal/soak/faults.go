//go:build unix

package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/gomodule/redigo/redis"

	"github.com/pycket/pycket/internal/redistest"
)

// A target is a Redis that the processes use, with what can be done to it.
type target struct {
	configuration
	stage   *stage
	faults  []fault
	nodes   []*redistest.Server
	masters func() []*redistest.Server // as the others see it, nil while they don't agree
	well    func() bool                // all servers are there and agree
	sure    bool                       // the replicas that confirm a write are all that may take over
	tidy    func()                     // is called now and then
}

// A fault is one way in which things break. do breaks them and, in the end, repairs what does not repair itself.
type fault struct {
	window
	do func(r *rand.Rand)
}

// some returns a random duration.
func some(r *rand.Rand, least, most time.Duration) time.Duration {
	return least + time.Duration(r.Int64N(int64(most-least)))
}

func sleep(r *rand.Rand, least, most time.Duration) { time.Sleep(some(r, least, most)) }

// command carries out a command on a server, which may not answer.
func command(server *redistest.Server, name string, args ...any) (any, error) {
	c, err := redis.Dial("tcp", server.Addr, redis.DialConnectTimeout(time.Second), redis.DialReadTimeout(2*time.Second), redis.DialWriteTimeout(time.Second))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.Do(name, args...)
}

func info(server *redistest.Server, section string) string {
	text, _ := redis.String(command(server, "INFO", section))
	return text
}

// choose returns a random master, nil if there is none.
func (t *target) choose(r *rand.Rand) *redistest.Server {
	n := r.Uint64()
	masters := t.masters()
	if len(masters) == 0 {
		return nil
	}
	return masters[n%uint64(len(masters))]
}

// within waits until something is so, and reports whether it is.
func within(most time.Duration, is func() bool) bool {
	for deadline := time.Now().Add(most); !is(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

// replaced waits until a server is not a master any more.
func (t *target) replaced(server *redistest.Server) {
	within(20*time.Second, func() bool {
		masters := t.masters()
		return len(masters) > 0 && !slices.Contains(masters, server)
	})
}

// newTarget starts what a target has.
func newTarget(on string, timeout time.Duration, s *stage) *target {
	t := &target{stage: s, tidy: func() {}}
	t.Timeout = timeout
	alive := func(kind string, do func(server *redistest.Server, r *rand.Rand)) {
		t.faults = append(t.faults, fault{window{kind: kind}, func(r *rand.Rand) {
			if server := t.choose(r); server != nil {
				do(server, r)
			}
		}})
	}
	alive("connections killed", func(server *redistest.Server, r *rand.Rand) {
		for range 5 {
			command(server, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
			sleep(r, 20*time.Millisecond, 200*time.Millisecond)
		}
	})
	alive("scripts flushed", func(server *redistest.Server, r *rand.Rand) {
		for range 5 {
			command(server, "SCRIPT", "FLUSH")
			sleep(r, 20*time.Millisecond, 200*time.Millisecond)
		}
	})
	for _, what := range []string{"WRITE", "ALL"} {
		alive("paused, "+strings.ToLower(what), func(server *redistest.Server, r *rand.Rand) {
			pause := some(r, timeout/10, 3*timeout/2)
			command(server, "CLIENT", "PAUSE", pause.Milliseconds(), what)
			time.Sleep(pause)
		})
	}
	alive("a script that hangs", func(server *redistest.Server, r *rand.Rand) {
		command(server, "CONFIG", "SET", "lua-time-limit", "100")
		go command(server, "EVAL", "while true do end", 0)
		sleep(r, 200*time.Millisecond, timeout)
		within(10*time.Second, func() bool { _, err := command(server, "SCRIPT", "KILL"); return err == nil || !busy(err) })
	})
	hang := func(server *redistest.Server, most time.Duration, r *rand.Rand) {
		server.Signal(syscall.SIGSTOP)
		sleep(r, timeout/10, most)
		server.Signal(syscall.SIGCONT)
	}
	switch on {
	case "server":
		server := redistest.Start(s, "--appendonly", "yes", "--appendfsync", "always")
		proxy := redistest.NewProxy(s, server)
		t.URL, t.nodes, t.tidy = proxy.URL(), []*redistest.Server{server}, proxy.Forget
		t.masters = func() []*redistest.Server { return t.nodes }
		t.well = func() bool { _, err := command(server, "PING"); return err == nil }
		setting := func(kind, name, bad, good string) {
			t.faults = append(t.faults, fault{window{kind: kind, full: name == "maxmemory"}, func(r *rand.Rand) {
				command(server, "CONFIG", "SET", name, bad)
				sleep(r, timeout/4, 2*timeout)
				command(server, "CONFIG", "SET", name, good)
			}})
		}
		setting("no memory", "maxmemory", "1", "0")
		setting("no replicas", "min-replicas-to-write", "1", "0")
		alive("a replica", func(server *redistest.Server, r *rand.Rand) {
			command(server, "REPLICAOF", "127.0.0.1", "1")
			sleep(r, timeout/4, timeout)
			command(server, "REPLICAOF", "NO", "ONE")
		})
		alive("no snapshots", func(server *redistest.Server, r *rand.Rand) {
			path, _ := redis.Strings(command(server, "CONFIG", "GET", "dir"))
			if len(path) != 2 {
				return
			}
			os.Mkdir(filepath.Join(path[1], "dump.rdb"), 0o700) // where the file would be
			command(server, "CONFIG", "SET", "save", "3600 1")
			command(server, "BGSAVE")
			sleep(r, timeout/4, timeout)
			command(server, "CONFIG", "SET", "save", "")
		})
		alive("no more clients", func(server *redistest.Server, r *rand.Rand) {
			c, err := redis.Dial("tcp", server.Addr)
			if err != nil {
				return
			}
			defer c.Close()
			c.Do("CONFIG", "SET", "maxclients", 1)
			c.Do("CLIENT", "KILL", "TYPE", "normal")
			sleep(r, timeout/4, timeout)
			c.Do("CONFIG", "SET", "maxclients", 10_000)
		})
		alive("killed, restarted", func(server *redistest.Server, r *rand.Rand) {
			server.Kill()
			sleep(r, 0, 2*timeout)
			server.Restart()
		})
		alive("hangs", func(server *redistest.Server, r *rand.Rand) { hang(server, 2*timeout, r) })
		alive("network cut", func(_ *redistest.Server, r *rand.Rand) {
			for range 5 {
				proxy.Cut()
				sleep(r, 20*time.Millisecond, 300*time.Millisecond)
			}
		})
		alive("network holds replies", func(_ *redistest.Server, r *rand.Rand) {
			proxy.Hold()
			sleep(r, timeout/10, 2*timeout)
			proxy.Pass()
		})
		alive("network delays replies", func(_ *redistest.Server, r *rand.Rand) {
			proxy.Delay(some(r, 10*time.Millisecond, timeout/4))
			sleep(r, timeout/2, 2*timeout)
			proxy.Delay(0)
		})
		alive("network trickles", func(_ *redistest.Server, r *rand.Rand) {
			proxy.Trickle(some(r, 10*time.Microsecond, time.Millisecond))
			sleep(r, timeout/2, 2*timeout)
			proxy.Trickle(0)
		})
		alive("network silent, connections stay", func(*redistest.Server, *rand.Rand) {
			proxy.Mute()
			time.Sleep(timeout + timeout/5)
		})
		alive("network cuts in the middle", func(_ *redistest.Server, r *rand.Rand) {
			proxy.CutRandomly(r.Uint64())
			proxy.Cut()
			sleep(r, timeout/2, timeout)
			proxy.Calm()
		})
		alive("network drops replies and cuts", func(_ *redistest.Server, r *rand.Rand) {
			proxy.DropReplies(true)
			sleep(r, 100*time.Millisecond, timeout/2)
			proxy.DropReplies(false)
		})
	case "sentinel":
		group := redistest.StartDivisible(s, "--appendonly", "yes")
		t.Master, t.Sentinels, t.WaitReplicas, t.nodes, t.Known = group.Name, group.Sentinels, 1, group.Servers, group.Known()
		t.masters = func() []*redistest.Server {
			if master := group.Master(); master != nil {
				return []*redistest.Server{master}
			}
			return nil
		}
		t.well = func() bool {
			master := group.Master()
			if master == nil {
				return false
			}
			text := info(master, "replication")
			return strings.Contains(text, "role:master") && strings.Count(text, "state=online") == 2
		}
		alive("failover asked for", func(master *redistest.Server, r *rand.Rand) {
			if _, err := command(sentinel(group, r), "SENTINEL", "FAILOVER", group.Name); err == nil {
				t.replaced(master)
			}
		})
		alive("master cut off from the others", func(master *redistest.Server, r *rand.Rand) {
			group.Isolate(master)
			t.replaced(master)
			sleep(r, 0, timeout)
			group.Join(master)
		})
	case "cluster":
		cluster := redistest.StartCluster(s, 3, 3)
		t.nodes, t.WaitReplicas, t.sure = cluster.Nodes(), 1, true
		for _, node := range t.nodes {
			t.Cluster = append(t.Cluster, node.Addr)
		}
		t.masters = t.clusterMasters
		t.well = func() bool {
			masters := t.clusterMasters()
			return len(masters) == 3 && !slices.ContainsFunc(masters, func(master *redistest.Server) bool {
				return !strings.Contains(info(master, "replication"), "state=online")
			}) && !slices.ContainsFunc(t.nodes, func(node *redistest.Server) bool {
				state, _ := redis.String(command(node, "CLUSTER", "INFO"))
				return !strings.Contains(state, "cluster_state:ok")
			})
		}
		alive("failover asked for", func(master *redistest.Server, r *rand.Rand) {
			for _, node := range t.nodes {
				if _, port, _ := strings.Cut(master.Addr, ":"); strings.Contains(info(node, "replication"), "master_port:"+port+"\r\n") {
					command(node, "CLUSTER", "FAILOVER")
					t.replaced(master)
					return
				}
			}
		})
	}
	if on != "server" {
		alive("master killed, restarted", func(master *redistest.Server, r *rand.Rand) {
			master.Kill()
			t.replaced(master)
			sleep(r, 0, timeout)
			master.Restart()
		})
		alive("master hangs", func(master *redistest.Server, r *rand.Rand) { hang(master, 3*timeout, r) })
		alive("replica killed, restarted", func(_ *redistest.Server, r *rand.Rand) {
			masters, first := t.masters(), r.IntN(len(t.nodes))
			for i := range t.nodes {
				if node := t.nodes[(first+i)%len(t.nodes)]; len(masters) > 0 && !slices.Contains(masters, node) {
					node.Kill()
					sleep(r, 0, timeout)
					node.Restart()
					return
				}
			}
		})
		for i := range t.faults { // a loaded server is soon taken for dead
			t.faults[i].failover = !slices.Contains([]string{"connections killed", "scripts flushed", "replica killed, restarted"}, t.faults[i].kind)
		}
	}
	return t
}

func busy(err error) bool { return !strings.HasPrefix(err.Error(), "NOTBUSY") }

// sentinel returns a random sentinel of a group.
func sentinel(group *redistest.Group, r *rand.Rand) *redistest.Server {
	return &redistest.Server{Addr: group.Sentinels[r.IntN(len(group.Sentinels))]}
}

// clusterMasters returns the masters that have slots, as a node that answers sees them, and nil if it sees that they are
// not three.
func (t *target) clusterMasters() []*redistest.Server {
	for _, node := range t.nodes {
		list, err := redis.String(command(node, "CLUSTER", "NODES"))
		if err != nil {
			continue
		}
		var masters []*redistest.Server
		for line := range strings.Lines(list) {
			words := strings.Fields(line)
			if len(words) < 9 || !strings.Contains(words[2], "master") || strings.Contains(words[2], "fail") {
				continue
			}
			address, _, _ := strings.Cut(words[1], "@")
			masters = append(masters, t.nodes[slices.IndexFunc(t.nodes, func(n *redistest.Server) bool { return n.Addr == address })])
		}
		if len(masters) == 3 {
			return masters
		}
	}
	return nil
}

// lasting looks for keys that would last for ever.
func (t *target) lasting(l *ledger) {
	for _, server := range t.masters() {
		for db := range 2 {
			c, err := redis.Dial("tcp", server.Addr, redis.DialConnectTimeout(time.Second), redis.DialReadTimeout(5*time.Second))
			if err != nil {
				return
			}
			if _, err := c.Do("SELECT", db); err != nil && db > 0 { // a cluster has one
				c.Close()
				break
			}
			keys, _ := redis.Strings(c.Do("KEYS", "*"))
			for _, key := range keys {
				if ttl, err := redis.Int(c.Do("PTTL", key)); err == nil && ttl == -1 {
					l.violation("the key %s has no TTL", key)
				}
			}
			c.Close()
		}
	}
}

// A failure is how a stage fails.
type failure string

func (f failure) Error() string { return string(f) }

// attempt calls f and returns the error with which the stage has failed.
func attempt(f func()) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			failed, ok := cause.(failure)
			if !ok {
				panic(cause)
			}
			err = fmt.Errorf("the servers: %w", failed)
		}
	}()
	f()
	return nil
}
