//go:build unix

package redistest

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A Group is a master, its replicas, and sentinels that watch them: a master that they take for dead is replaced within
// a few seconds.
type Group struct {
	Name      string
	Sentinels []string  // their addresses
	Servers   []*Server // the first is the master to begin with

	announced []string // addresses of the servers, as they know one another
	relays    []*relay // at these addresses, if any
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
			relay = startRelay(t)
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
		g.Sentinels = append(g.Sentinels, startSentinel(t, g.Name, host, port))
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
	for _, address := range g.Sentinels {
		reply, err := do(address, 0, "SENTINEL", "MASTER", g.Name)
		fields, _ := reply.([]any)
		known := map[string]string{}
		for i := 0; i+1 < len(fields); i += 2 {
			known[fmt.Sprintf("%s", fields[i])] = fmt.Sprintf("%s", fields[i+1])
		}
		if err != nil || known["num-slaves"] != "2" || known["num-other-sentinels"] != "2" {
			return false
		}
	}
	return true
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
func (g *Group) Isolate(master *Server) { g.relays[slices.Index(g.Servers, master)].divide(true) }

// Join ends what Isolate began. What was held up arrives.
func (g *Group) Join(server *Server) { g.relays[slices.Index(g.Servers, server)].divide(false) }

// Known returns the servers' addresses, by those that the servers and sentinels of a divisible group know.
func (g *Group) Known() map[string]string {
	known := map[string]string{}
	for i, address := range g.announced {
		known[address] = g.Servers[i].Addr
	}
	return known
}

// Dial connects to the server that is known by an address, or to any other address.
func (g *Group) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, network, cmp.Or(g.Known()[address], address))
}

// DoSentinels carries out a command on every sentinel.
func (g *Group) DoSentinels(t testing.TB, command string, args ...any) {
	t.Helper()
	for _, address := range g.Sentinels {
		if _, err := do(address, 0, command, args...); err != nil {
			t.Fatalf("%s: %v", command, err)
		}
	}
}

// startSentinel starts a sentinel and returns its address.
func startSentinel(t testing.TB, name, host, port string) string {
	t.Helper()
	address, err := freeAddr()
	if err != nil {
		t.Fatal(err)
	}
	_, own, _ := net.SplitHostPort(address)
	dir, err := os.MkdirTemp("", "redistest")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "sentinel.conf") // which a sentinel rewrites
	config := fmt.Sprintf("port %s\nbind 127.0.0.1\ndir %s\nsentinel monitor %s %s %s 2\nsentinel down-after-milliseconds %s 500\nsentinel failover-timeout %s 2000\n", own, dir, name, host, port, name, name)
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

// A relay is a network to one server. It passes on bytes, whatever they mean: replication is not the protocol that a
// [Proxy] knows.
type relay struct {
	listener net.Listener
	working  sync.WaitGroup

	mu      sync.Mutex
	healed  *sync.Cond // divided is false, or closed true
	server  string
	divided bool
	closed  bool
	ends    []net.Conn // of all that was ever connected
}

func startRelay(t testing.TB) *relay {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{listener: listener}
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

func (r *relay) divide(divided bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.divided = divided
	r.healed.Broadcast()
}

func (r *relay) serve(client net.Conn) {
	r.mu.Lock()
	address := r.server
	r.mu.Unlock()
	server, err := net.Dial("tcp", address)
	if err != nil {
		client.Close()
		return
	}
	r.mu.Lock()
	r.ends = append(r.ends, client, server)
	if r.closed {
		client.Close()
		server.Close()
	}
	r.mu.Unlock()
	r.working.Go(func() { r.pass(client, server) })
	r.pass(server, client)
}

// pass passes on what comes from one end to the other, until either closes.
func (r *relay) pass(from, to net.Conn) {
	defer from.Close()
	defer to.Close()
	for buffer := make([]byte, 64<<10); ; {
		n, err := from.Read(buffer)
		r.mu.Lock()
		for r.divided && !r.closed {
			r.healed.Wait()
		}
		r.mu.Unlock()
		if err != nil {
			return
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}
