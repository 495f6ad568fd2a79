package pycket_test

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gomodule/redigo/redis"
)

// clusterOf gives a test the cluster that tests share, emptied: starting one takes seconds.
func clusterOf(t *testing.T) *redisServer {
	t.Helper()
	c := &sharedCluster
	c.start.Do(func() {
		// It outlives the first test, so its cleanup is not that test's.
		keeper := &lasting{TB: t}
		c.server = startCluster(keeper, 3, 0)
		c.stop = keeper.end
	})
	if c.server == nil {
		t.Skip("the cluster could not be started: see the first test that wanted it")
	}
	server := *c.server
	server.t = t
	server.do(0, "FLUSHALL")
	return &server
}

var sharedCluster = struct {
	start  sync.Once
	server *redisServer
	stop   func()
}{stop: func() {}}

// lasting is a test whose cleanups wait.
type lasting struct {
	testing.TB
	cleanups []func()
}

func (l *lasting) Cleanup(f func()) { l.cleanups = append(l.cleanups, f) }

func (l *lasting) end() {
	for _, f := range l.cleanups {
		f()
	}
}

// startCluster starts a cluster whose slots lie on so many masters in turns, a block of 64 each, so that
// two keys rarely lie on one. Replicas are of the first master.
func startCluster(t testing.TB, masters, replicas int) *redisServer {
	t.Helper()
	var nodes []*redisServer
	for range masters + replicas {
		nodes = append(nodes, startRedis(t, "--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-replica-validity-factor", "0"))
	}
	for i, node := range nodes {
		node.do(0, "CLUSTER", "SET-CONFIG-EPOCH", i+1)
		if i < masters {
			var slots []any
			for slot := range 16384 {
				if slot/64%masters == i {
					slots = append(slots, slot)
				}
			}
			node.do(0, "CLUSTER", append([]any{"ADDSLOTS"}, slots...)...)
		}
		host, port, _ := net.SplitHostPort(node.addr)
		nodes[0].do(0, "CLUSTER", "MEET", host, port)
	}
	agree := func(what string, agreed func(node *redisServer) bool) {
		t.Helper()
		for range 1000 {
			all := true
			for _, node := range nodes {
				all = all && agreed(node)
			}
			if all {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		t.Fatalf("the cluster does not agree on %s", what)
	}
	agree("who is in it", func(node *redisServer) bool {
		info, _ := redis.String(node.do(0, "CLUSTER", "INFO"), nil)
		return strings.Contains(info, "cluster_state:ok") && strings.Contains(info, fmt.Sprintf("cluster_known_nodes:%d", len(nodes)))
	})
	id := nodes[0].do(0, "CLUSTER", "MYID")
	for _, node := range nodes[masters:] {
		node.do(0, "CLUSTER", "REPLICATE", id)
	}
	agree("its replicas", func(node *redisServer) bool {
		list, _ := redis.String(node.do(0, "CLUSTER", "NODES"), nil)
		linked, _ := redis.String(nodes[0].do(0, "INFO", "replication"), nil)
		return strings.Count(list, "slave") == replicas && strings.Contains(linked, fmt.Sprintf("connected_slaves:%d", replicas))
	})
	cluster := *nodes[0]
	cluster.nodes = nodes
	return &cluster
}

// mayLag tells whether a key is an account's list in a cluster: what it names may have ended. The tests of
// App.Sessions say what that may not mean.
func (s *redisServer) mayLag(key string) bool {
	return len(s.nodes) > 0 && strings.HasPrefix(key, "pycket:u:")
}

// hasBus tells whether the port of a cluster's own traffic is free, too.
func hasBus(addr string) bool {
	host, port, _ := net.SplitHostPort(addr)
	n, _ := strconv.Atoi(port)
	if n+10000 > 65535 {
		return false
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(n+10000)))
	if err != nil {
		return false
	}
	listener.Close()
	return true
}

// doInCluster carries out a command where its key is; one without, everywhere.
func (s *redisServer) doInCluster(command string, args ...any) any {
	s.t.Helper()
	switch command {
	case "KEYS", "FLUSHALL", "CONFIG", "SCRIPT", "CLIENT":
		var all []any
		for _, node := range s.nodes {
			list, _ := redis.Values(s.on(node.addr, command, args...))
			all = append(all, list...)
		}
		return all
	}
	addr := s.addr
	for range 3 {
		reply, err := s.on(addr, command, args...)
		var refused redis.Error
		if errors.As(err, &refused) && strings.HasPrefix(string(refused), "MOVED ") {
			addr = strings.Fields(string(refused))[2]
			continue
		}
		if err != nil {
			s.t.Fatalf("%s: %v", command, err)
		}
		return reply
	}
	s.t.Fatalf("%s: the cluster does not agree on where the key is", command)
	return nil
}

func (s *redisServer) on(addr, command string, args ...any) (any, error) {
	s.t.Helper()
	c, err := redis.Dial("tcp", addr)
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	return c.Do(command, args...)
}
