//go:build unix

package redistest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A Group is a master, its replicas, and sentinels that watch them: one that they take for dead is replaced within a
// second or two.
type Group struct {
	Name      string
	Sentinels []string  // their addresses
	Servers   []*Server // the first is the master to begin with
}

// StartGroup starts a master, two replicas and three sentinels. The master takes arguments, as in Start, and so do the
// replicas.
func StartGroup(t testing.TB, args ...string) *Group {
	t.Helper()
	g := &Group{Name: "watched"}
	args = append([]string{"--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"}, args...)
	g.Servers = append(g.Servers, Start(t, args...))
	host, port, _ := net.SplitHostPort(g.Servers[0].Addr)
	for range 2 {
		g.Servers = append(g.Servers, Start(t, append(args, "--replicaof", host+" "+port)...))
	}
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

// Master returns the server that most sentinels take for the master.
func (g *Group) Master() *Server {
	votes := map[string]int{}
	for _, address := range g.Sentinels {
		reply, _ := do(address, 0, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", g.Name)
		if at, ok := reply.([]any); ok && len(at) == 2 {
			votes[fmt.Sprintf("%s:%s", at[0], at[1])]++
		}
	}
	for _, server := range g.Servers {
		if votes[server.Addr] > len(g.Sentinels)/2 {
			return server
		}
	}
	return nil
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
