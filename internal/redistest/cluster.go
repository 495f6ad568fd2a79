//go:build unix

package redistest

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gomodule/redigo/redis"
	"github.com/mna/redisc"
)

// StartCluster starts a cluster. The masters take turns with blocks of 64 slots, so that two keys are rarely on one.
// Replicas are the first master's, the second's, and so on.
func StartCluster(t testing.TB, masters, replicas int) *Server {
	t.Helper()
	server := startCluster(t, masters, replicas, nil)
	t.Cleanup(server.end)
	return server
}

// A DivisibleCluster is a cluster whose nodes know one another by addresses of a network that [DivisibleCluster.Isolate]
// divides. A client must connect with Dial, which knows these addresses, too.
type DivisibleCluster struct {
	*Server
	network
	buses []*relay
}

// StartDivisibleCluster is [StartCluster] with such a network.
func StartDivisibleCluster(t testing.TB, masters, replicas int) *DivisibleCluster {
	t.Helper()
	c := new(DivisibleCluster)
	c.Server = startCluster(t, masters, replicas, c)
	t.Cleanup(c.end)
	return c
}

// join makes room for one more node in the network, and returns its arguments.
func (c *DivisibleCluster) join(t testing.TB) (args []string) {
	t.Helper()
	c.relays, c.buses = append(c.relays, startRelay(t, false)), append(c.buses, startRelay(t, true))
	_, port, _ := net.SplitHostPort(c.relays[len(c.relays)-1].address())
	_, bus, _ := net.SplitHostPort(c.buses[len(c.buses)-1].address())
	return []string{"--cluster-announce-port", port, "--cluster-announce-bus-port", bus}
}

// Isolate drops all that passes between a node and the others. No connection breaks. Who connects to the node with Dial
// still can.
func (c *DivisibleCluster) Isolate(node *Server) {
	c.t.Helper()
	id, err := redis.String(node.Do(0, "CLUSTER", "MYID"), nil)
	if err != nil {
		c.t.Fatal(err)
	}
	for i, other := range c.nodes {
		if other.Addr == node.Addr {
			c.relays[i].divide("")
			c.buses[i].divide("")
		} else {
			c.buses[i].divide(id)
		}
	}
}

// Join ends what Isolate began. What was held up arrives.
func (c *DivisibleCluster) Join() {
	for i := range c.nodes {
		c.relays[i].join()
		c.buses[i].join()
	}
}

// startCluster is StartCluster without a cleanup, except if it fails. Its nodes are within a network, if there is one.
func startCluster(t testing.TB, masters, replicas int, within *DivisibleCluster) *Server {
	t.Helper()
	cluster := &Server{t: t, masters: masters, moved: make(map[int]int)}
	ready := false
	defer func() {
		if !ready && len(cluster.nodes) > 0 {
			cluster.end()
		}
	}()
	for i := range masters + replicas {
		args := []string{"--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-replica-validity-factor", "0",
			"--cluster-require-full-coverage", "no", "--repl-diskless-sync-delay", "0"}
		if within != nil {
			args = append(args, within.join(t)...)
		}
		node := start(t, args...)
		cluster.nodes = append(cluster.nodes, node)
		if within != nil {
			within.relays[i].lead(node.Addr)
			within.buses[i].lead(busOf(node.Addr))
		}
	}
	nodes := cluster.nodes
	cluster.Addr = nodes[0].Addr
	for i, node := range nodes {
		node.Do(0, "CLUSTER", "SET-CONFIG-EPOCH", i+1)
		if i < masters {
			slots := []any{"ADDSLOTS"}
			for slot := range 16384 {
				if slot/64%masters == i {
					slots = append(slots, slot)
				}
			}
			node.Do(0, "CLUSTER", slots...)
		}
	}
	meet := func() {
		for i, node := range nodes {
			known, bus := node.Addr, busOf(node.Addr)
			if within != nil {
				known, bus = within.relays[i].address(), within.buses[i].address()
			}
			host, port, _ := net.SplitHostPort(known)
			_, bus, _ = net.SplitHostPort(bus)
			nodes[0].Do(0, "CLUSTER", "MEET", host, port, bus)
		}
	}
	agree := func(what string, agreed func(node *Server) bool) {
		t.Helper()
		for tries := 0; slices.ContainsFunc(nodes, func(node *Server) bool { return !agreed(node) }); tries++ {
			if tries == 1000 {
				t.Fatalf("the cluster does not agree on %s", what)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	met := 0
	agree("its nodes and slots", func(node *Server) bool {
		if met++; met%200 == 1 { // on a busy machine one meeting may take longer than the nodes allow
			meet()
		}
		info, _ := redis.String(node.Do(0, "CLUSTER", "INFO"), nil)
		return strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_slots_assigned:16384") &&
			strings.Contains(info, fmt.Sprintf("cluster_known_nodes:%d", len(nodes)))
	})
	for i, node := range nodes[masters:] {
		node.Do(0, "CLUSTER", "REPLICATE", nodes[i%masters].Do(0, "CLUSTER", "MYID"))
	}
	agree("its replicas", func(node *Server) bool {
		list, _ := redis.String(node.Do(0, "CLUSTER", "NODES"), nil)
		info, _ := redis.String(node.Do(0, "INFO", "replication"), nil) // also of a replica, which must have loaded the data
		linked := 0
		for _, master := range nodes[:masters] {
			known, _ := redis.String(master.Do(0, "INFO", "replication"), nil)
			linked += strings.Count(known, "state=online")
		}
		return strings.Count(list, "slave") == replicas && !strings.Contains(info, "master_link_status:down") && linked == replicas
	})
	ready = true
	return cluster
}

// busOf is where a node at an address listens to other nodes.
func busOf(address string) string {
	host, port, _ := net.SplitHostPort(address)
	n, _ := strconv.Atoi(port)
	return net.JoinHostPort(host, strconv.Itoa(n+10000))
}

// shared is the cluster of SharedCluster.
var shared struct {
	once    sync.Once
	cluster *Server
}

// SharedCluster returns a cluster of three masters, emptied, which the tests of a binary share since it
// takes seconds to start. The first call starts it; the binary's TestMain must end it with [StopShared].
func SharedCluster(t testing.TB) *Server {
	t.Helper()
	Require(t, program(), "redis-server")
	shared.once.Do(func() { shared.cluster = startCluster(t, 3, 0, nil) })
	if shared.cluster == nil {
		t.Fatal("the shared cluster did not start: see the first test that asked for it")
	}
	server := shared.cluster.On(t)
	server.Do(0, "FLUSHALL")
	return server
}

// StopShared ends the shared cluster, if it was started. Call it once, when all tests have run.
func StopShared() {
	if shared.cluster != nil {
		shared.cluster.end()
	}
}

// Nodes returns the nodes of a cluster, masters first, and nil for another server.
func (s *Server) Nodes() []*Server { return s.nodes }

// SlotOf returns the slot of a key.
func (s *Server) SlotOf(key string) int { return redisc.Slot(key) }

// NodeOf returns the master that StartCluster, or the last move of its slot, gave a key to.
func (s *Server) NodeOf(key string) *Server { return s.nodes[s.masterOf(s.SlotOf(key))] }

// masterOf returns the place of a slot's master among the nodes.
func (s *Server) masterOf(slot int) int {
	if to, ok := s.moved[slot]; ok {
		return to
	}
	return slot / 64 % s.masters
}

// A Move is a slot on its way from one master to another.
type Move struct {
	slot     int
	from, to *Server
	ended    func()
}

// BeginMove begins to move the slot of a key to another master. The keys stay until Carry moves them.
func (s *Server) BeginMove(key string) *Move {
	s.t.Helper()
	slot := s.SlotOf(key)
	from := s.masterOf(slot)
	to := (from + 1) % s.masters
	m := &Move{slot: slot, from: s.nodes[from], to: s.nodes[to], ended: func() { s.moved[slot] = to }}
	m.to.Do(0, "CLUSTER", "SETSLOT", m.slot, "IMPORTING", m.from.Do(0, "CLUSTER", "MYID"))
	m.from.Do(0, "CLUSTER", "SETSLOT", m.slot, "MIGRATING", m.to.Do(0, "CLUSTER", "MYID"))
	return m
}

// Carry moves keys of the slot.
func (m *Move) Carry(keys ...string) {
	m.from.t.Helper()
	host, port, _ := net.SplitHostPort(m.to.Addr)
	args := redis.Args{host, port, "", 0, 5000, "KEYS"}.AddFlat(keys)
	m.from.Do(0, "MIGRATE", args...)
}

// End gives the slot to the master that its keys were carried to.
func (m *Move) End() {
	m.from.t.Helper()
	id := m.to.Do(0, "CLUSTER", "MYID")
	m.to.Do(0, "CLUSTER", "SETSLOT", m.slot, "NODE", id)
	m.from.Do(0, "CLUSTER", "SETSLOT", m.slot, "NODE", id)
	m.ended()
}

// Undo leaves the slot where it was.
func (m *Move) Undo() {
	m.from.t.Helper()
	m.from.Do(0, "CLUSTER", "SETSLOT", m.slot, "STABLE")
	m.to.Do(0, "CLUSTER", "SETSLOT", m.slot, "STABLE")
}
