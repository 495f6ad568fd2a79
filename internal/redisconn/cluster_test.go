//go:build unix

package redisconn

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pycket/pycket/internal/redistest"
)

// newCluster makes a Cluster of the servers of a cluster.
func newCluster(t testing.TB, server *redistest.Server) *Cluster {
	t.Helper()
	const timeout = 3 * time.Second
	target := Target{Network: "tcp"}
	c := NewCluster([]string{server.Addr}, target, timeout, func(address string) *Server {
		at := target
		at.Address = address
		return newServer(t, at, 4, timeout)
	})
	t.Cleanup(func() { c.Close() })
	return c
}

// What Redis says of addresses is made such that it can be dialed.
func TestCompleteAddress(t *testing.T) {
	for address, want := range map[string]string{
		"10.0.0.1:7000": "10.0.0.1:7000", "node.example:7000": "node.example:7000",
		":7000": "10.0.0.9:7000", "::1:7000": "[::1]:7000", "[::1]:7000": "[::1]:7000", "2001:db8::5:7000": "[2001:db8::5]:7000",
	} {
		if got := complete(address, "10.0.0.9:6379"); got != want {
			t.Errorf("%q: %q, want %q", address, got, want)
		}
	}
}

// While a slot moves, and after, commands that are sent together find the key, and so does a script that the other
// server does not know.
func TestSlotMoves(t *testing.T) {
	server := redistest.SharedCluster(t)
	key := fmt.Sprint("moving", rand.Uint64()) // the slot does not come back
	c := newCluster(t, server)
	script := NewScript("return redis.call('HINCRBY', KEYS[1], 'n', 1)", false)
	runs := 0
	do := func() {
		t.Helper()
		r, err := c.DoAll(t.Context(), time.Now(), readAndTTL(key, "HGETALL"))
		checkPair(t, r, err)
		runs++
		if n, err := c.Do(t.Context(), time.Now(), script.On(0, key)); n.number != int64(runs) || err != nil {
			t.Errorf("run %d returns %d, %v", runs, n.number, err)
		}
	}
	server.Do(0, "HSET", key, "a", "b")
	server.Do(0, "SCRIPT", "FLUSH")
	do()
	move := server.BeginMove(key)
	do()
	move.Carry(key)
	do() // there is an ASK in the way
	do()
	move.End()
	do() // there is a MOVED
	if got := c.slots[server.SlotOf(key)].address; got != server.NodeOf(key).Addr {
		t.Error("it has not learned where the slot is")
	}
	do()
}

// Keys are split by slot, so that each group is for one command.
func TestClusterSplit(t *testing.T) {
	c := newCluster(t, redistest.SharedCluster(t))
	keys := []string{"{a}1", "{b}1", "{a}2", "c", "{b}2"}
	groups := c.Split(keys)
	for _, group := range groups {
		command := NewCommand(group[0], 1+len(group), "MGET")
		for _, key := range group {
			command.String(key)
		}
		if _, err := c.Do(t.Context(), time.Now(), command); err != nil {
			t.Errorf("%v: %v", group, err)
		}
	}
	if got := slices.Sorted(slices.Values(slices.Concat(groups...))); len(groups) != 3 || !slices.Equal(got, slices.Sorted(slices.Values(keys))) {
		t.Error(groups)
	}
}

// There is a probe for every server, and its tag is on that server.
func TestClusterProbes(t *testing.T) {
	server := redistest.SharedCluster(t)
	probes, err := newCluster(t, server).Probes(t.Context(), time.Now())
	if len(probes) != 3 || err != nil {
		t.Error(probes, err)
	}
	seen := map[string]bool{}
	for _, p := range probes {
		seen[p.Address] = true
		if got := server.NodeOf(p.Tag).Addr; got != p.Address {
			t.Errorf("%s is on %s, not on %s", p.Tag, got, p.Address)
		}
	}
	if len(seen) != 3 {
		t.Error(probes)
	}
}

// With no cluster to be found, and after Close, commands fail.
func TestClusterIsUnavailable(t *testing.T) {
	single := newCluster(t, redistest.Start(t)) // not a cluster
	_, err := single.Do(t.Context(), time.Now(), ping())
	if !errors.Is(err, ErrMisconfigured) {
		t.Error(err)
	}
	if _, err := single.Probes(t.Context(), time.Now()); !errors.Is(err, ErrMisconfigured) {
		t.Error(err)
	}
	c := newCluster(t, redistest.SharedCluster(t))
	for i := range 20 {
		key := strconv.Itoa(i)
		get := NewCommand(key, 2, "GET")
		get.String(key)
		if r, err := c.Do(t.Context(), time.Now(), get); !r.IsNil() || err != nil {
			t.Error(key, err)
		}
	}
	c.Close()
	if _, err := c.Do(t.Context(), time.Now(), ping()); !errors.Is(err, ErrUnavailable) || !errors.Is(err, errClosed) {
		t.Error(err)
	}
}

// Of what the servers say that are asked for the layout, the one that says what must change is reported, in one line.
func TestClusterSaysWhy(t *testing.T) {
	refusing := redistest.Fake(t, func([]string) string { return "-WRONGPASS invalid username-password pair\r\n" })
	silent := redistest.Fake(t, func([]string) string { return "" })
	for _, seeds := range [][]string{{refusing, silent}, {silent, refusing}, {silent}} {
		c := NewCluster(seeds, Target{Password: "word"}, 2*time.Second, nil)
		t.Cleanup(func() { c.Close() })
		_, err := c.Probes(t.Context(), time.Now())
		text := fmt.Sprint(err)
		if knows := len(seeds) == 2; errors.Is(err, ErrMisconfigured) != knows || strings.Contains(text, "WRONGPASS") != knows {
			t.Errorf("%v: does it say what must change?", err)
		}
		if knows := len(seeds) == 2; !knows && !strings.Contains(text, "no server of the cluster is known for the key") {
			t.Errorf("%v does not say of what", err)
		}
		if !errors.Is(err, ErrUnavailable) || strings.Contains(text, "\n") {
			t.Errorf("%q", text)
		}
	}
}
