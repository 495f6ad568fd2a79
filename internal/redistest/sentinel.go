//go:build unix

package redistest

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gomodule/redigo/redis"
)

// A Group is a master, its replicas, and sentinels that watch them: a master that they take for dead is replaced within
// a few seconds.
type Group struct {
	Name      string
	Sentinels []string  // their addresses
	Servers   []*Server // the first is the master to begin with

	announced []string // addresses of the servers, as they know one another
	network
}

// StartGroup starts a master, two replicas and three sentinels. The servers take arguments, as in Start.
func StartGroup(t testing.TB, args ...string) *Group {
	t.Helper()
	return startGroup(t, false, args)
}

// StartDivisible is [StartGroup] with a network that [Group.Isolate] divides. The servers and sentinels know one another
// by addresses of that network, so a client must connect with [Group.Dial].
func StartDivisible(t testing.TB, args ...string) *Group {
	t.Helper()
	return startGroup(t, true, args)
}

func startGroup(t testing.TB, divisible bool, args []string) *Group {
	t.Helper()
	g := &Group{Name: "watched"}
	args = append([]string{"--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"}, args...)
	for range 3 {
		own := slices.Clone(args)
		var relay *relay
		if divisible {
			relay = startRelay(t, false)
			host, port, _ := net.SplitHostPort(relay.address())
			own = append(own, "--replica-announce-ip", host, "--replica-announce-port", port)
			g.relays = append(g.relays, relay)
		}
		if len(g.announced) > 0 {
			host, port, _ := net.SplitHostPort(g.announced[0])
			own = append(own, "--replicaof", host, port)
		}
		server := Start(t, own...)
		g.Servers = append(g.Servers, server)
		if divisible {
			relay.lead(server.Addr)
			g.announced = append(g.announced, relay.address())
		} else {
			g.announced = append(g.announced, server.Addr)
		}
	}
	host, port, _ := net.SplitHostPort(g.announced[0])
	for range 3 {
		g.Sentinels = append(g.Sentinels, StartSentinel(t, g.Name, host, port))
	}
	for tries := 0; ; tries++ {
		if info := fmt.Sprintf("%s", g.Servers[0].Do(0, "INFO", "replication")); strings.Count(info, "state=online") == 2 && g.agreed() {
			return g
		}
		if tries == 1000 {
			t.Fatal("the sentinels do not find one another")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// agreed reports whether every sentinel knows all servers and the other sentinels.
func (g *Group) agreed() bool {
	return !slices.ContainsFunc(g.Sentinels, func(address string) bool {
		known := g.known(address)
		return known["num-slaves"] != "2" || known["num-other-sentinels"] != "2"
	})
}

// known is what a sentinel says of the master.
func (g *Group) known(address string) map[string]string {
	known, _ := redis.StringMap(do(address, 0, "SENTINEL", "MASTER", g.Name))
	return known
}

// FailingOver reports whether a sentinel is replacing the master.
func (g *Group) FailingOver() bool {
	return slices.ContainsFunc(g.Sentinels, func(address string) bool {
		return strings.Contains(g.known(address)["flags"], "failover_in_progress")
	})
}

// Master returns the server that most sentinels take for the master, nil if they don't agree.
func (g *Group) Master() *Server {
	votes := map[string]int{}
	for _, address := range g.Sentinels {
		reply, _ := do(address, 0, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", g.Name)
		if at, ok := reply.([]any); ok && len(at) == 2 {
			votes[fmt.Sprintf("%s:%s", at[0], at[1])]++
		}
	}
	for i, server := range g.Servers {
		if votes[g.announced[i]] > len(g.Sentinels)/2 {
			return server
		}
	}
	return nil
}

// Isolate drops all that passes between a master and the other servers and sentinels of a divisible group. No connection
// breaks. Who connects to the master with [Group.Dial] still can.
func (g *Group) Isolate(master *Server) { g.relays[slices.Index(g.Servers, master)].divide("") }

// Join ends what Isolate began. What was held up arrives.
func (g *Group) Join(server *Server) { g.relays[slices.Index(g.Servers, server)].join() }

// DoSentinels carries out a command on every sentinel.
func (g *Group) DoSentinels(t testing.TB, command string, args ...any) {
	t.Helper()
	for _, address := range g.Sentinels {
		if _, err := do(address, 0, command, args...); err != nil {
			t.Fatalf("%s: %v", command, err)
		}
	}
}

// StartSentinel starts a sentinel that watches a master, with more lines of configuration. It returns its address.
func StartSentinel(t testing.TB, name, host, port string, lines ...string) (address string) {
	t.Helper()
	address = FreeAddr(t)
	_, own, _ := net.SplitHostPort(address)
	dir, err := os.MkdirTemp("", "redistest")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "sentinel.conf") // which a sentinel rewrites
	config := fmt.Sprintf("port %s\nbind 127.0.0.1\ndir %s\nsentinel monitor %s %s %s 2\nsentinel down-after-milliseconds %s 500\nsentinel failover-timeout %s 2000\n%s\n", own, dir, name, host, port, name, name, strings.Join(lines, "\n"))
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	command := exec.Command(program(), file, "--sentinel") // #nosec G204 G702 -- whoever runs the tests chooses it
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		command.Process.Kill()
		command.Wait()
		os.RemoveAll(dir)
	})
	for tries := 0; ; tries++ {
		if _, err := do(address, 0, "PING"); err == nil {
			return address
		}
		if tries == 1000 {
			t.Fatal("the sentinel does not answer")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// A network has a relay before each of its servers.
type network struct{ relays []*relay }

// Known returns the servers' addresses, by those that the others know.
func (n *network) Known() map[string]string {
	known := map[string]string{}
	for _, r := range n.relays {
		known[r.address()] = r.leadsTo()
	}
	return known
}

// Dial connects to the server that the others know by an address, past the network, or to any other address.
func (n *network) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, network, cmp.Or(n.Known()[address], address))
}

// A relay is a network to one server. It passes on bytes, whatever they mean: replication is not the protocol that a
// [Proxy] knows.
type relay struct {
	listener net.Listener
	bus      bool // between the nodes of a cluster
	working  sync.WaitGroup

	mu      sync.Mutex
	healed  *sync.Cond // divided is nil, or closed true
	server  string
	divided *string // nil if it is not; the id of the node of a cluster that is cut off, "" for all who connect
	closed  bool
	ends    []net.Conn // of all that was ever connected
}

func startRelay(t testing.TB, bus bool) *relay {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{listener: listener, bus: bus}
	r.healed = sync.NewCond(&r.mu)
	r.working.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			r.working.Go(func() { r.serve(c) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		r.mu.Lock()
		r.closed = true
		for _, c := range r.ends {
			c.Close()
		}
		r.healed.Broadcast()
		r.mu.Unlock()
		r.working.Wait()
	})
	return r
}

func (r *relay) address() string { return r.listener.Addr().String() }

// lead makes new connections lead to a server.
func (r *relay) lead(address string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.server = address
}

// leadsTo returns the address of that server.
func (r *relay) leadsTo() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.server
}

// divide holds up what the node of a cluster with an id, or, if it is "", anybody, sends and is sent.
func (r *relay) divide(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.divided = &id
}

func (r *relay) join() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.divided = nil
	r.healed.Broadcast()
}

// keep makes the end of the test close a connection.
func (r *relay) keep(c net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ends = append(r.ends, c)
	if r.closed {
		c.Close()
	}
}

func (r *relay) serve(client net.Conn) {
	defer client.Close()
	r.keep(client)
	first, node := []byte(nil), "" // what comes first, and the node that has sent it
	if r.bus {
		first = make([]byte, 80) // of a header, which ends with the id
		if _, err := io.ReadFull(client, first); err != nil {
			return
		}
		node = string(first[40:])
	}
	server, err := net.Dial("tcp", r.leadsTo())
	if err != nil {
		return
	}
	r.keep(server)
	r.working.Go(func() { r.pass(server, client, node) })
	r.await(node)
	if _, err := server.Write(first); err == nil {
		r.pass(client, server, node)
	}
	server.Close()
}

// pass passes on what comes from one end to the other, until either closes.
func (r *relay) pass(from, to net.Conn, node string) {
	defer from.Close()
	defer to.Close()
	for buffer := make([]byte, 64<<10); ; {
		n, err := from.Read(buffer)
		r.await(node)
		if err != nil {
			return
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// await waits while a node is cut off.
func (r *relay) await(node string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.divided != nil && (*r.divided == "" || *r.divided == node) && !r.closed {
		r.healed.Wait()
	}
}
