package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pycket/pycket/internal/redisconn"
	"github.com/pycket/pycket/internal/redistest"
)

// A report is what doctor prints as JSON.
type report struct {
	Problems int
	Findings []finding
}

func examine(t *testing.T, code int, env ...string) report {
	t.Helper()
	r := command(t, append(env, "doctor", "--json")...)
	r.wants(t, code)
	return parse[report](t, r)
}

// of returns the finding of a check, on one server.
func (r report) of(t *testing.T, check, server string) finding {
	t.Helper()
	i := slices.IndexFunc(r.Findings, func(f finding) bool { return f.Check == check && f.Server == server })
	if i < 0 {
		t.Fatalf("nothing about %s of %q: %+v", check, server, r)
	}
	return r.Findings[i]
}

// wants fails the test unless a finding has this level, and says this and what to do.
func (r report) wants(t *testing.T, check string, l level, says, do string) {
	t.Helper()
	if f := r.of(t, check, ""); f.Level != l || !strings.Contains(f.Says, says) || !strings.Contains(f.Do, do) || (l == problem || l == warning) && f.Do == "" {
		t.Errorf("%+v; want %s, %q, %q", f, l, says, do)
	}
}

// A server as it should be, and what becomes worse by its configuration.
func TestDoctorServer(t *testing.T) {
	server := redistest.Start(t, "--maxmemory", "1gb")
	replica := redistest.Start(t, "--replicaof", strings.Replace(server.Addr, ":", " ", 1))
	for _, set := range []string{
		"CONFIG SET appendonly yes", "CONFIG SET min-replicas-to-write 1", "CONFIG SET appendfsync everysec",
		"ACL SETUSER shop on >" + password + " ~pycket:* &__redis__:invalidate +@all",
	} {
		words := strings.Fields(set)
		args := make([]any, 0, len(words))
		for _, word := range words[1:] {
			args = append(args, word)
		}
		server.Do(0, words[0], args...)
	}
	for !strings.Contains(fmt.Sprintf("%s", server.Do(0, "INFO", "replication")), "state=online") ||
		!strings.Contains(fmt.Sprintf("%s", server.Do(0, "INFO", "persistence")), "aof_rewrite_in_progress:0") {
		if t.Context().Err() != nil {
			t.Fatal("the replica doesn't come")
		}
	}
	url := "REDIS_URL=redis://shop:" + password + "@" + server.Addr

	good := examine(t, exitOK, url, "SECRETS="+secret+","+secret+"x")
	for check, says := range map[string]string{
		"secrets": "2 secrets", "use": `under "pycket:"`, "client-side caching": "works", "latency": "a round trip", "user": "shop",
		"version": "Redis", "eviction": "noeviction", "memory": "%", "persistence": "up to a second", "replicas": "1 replica",
	} {
		if f := good.of(t, check, ""); f.Level != fine && check != "latency" || !strings.Contains(f.Says, says) {
			t.Errorf("%+v; want %q", f, says)
		}
	}

	server.Do(0, "CONFIG", "SET", "min-replicas-to-write", 0)
	server.Do(0, "CONFIG", "SET", "appendfsync", "no")
	server.Do(0, "CONFIG", "SET", "maxmemory-policy", "volatile-lru")
	server.Do(0, "ACL", "SETUSER", "shop", "resetchannels")
	bad := examine(t, exitFound, url, "SECRETS=short,"+secret+","+secret)
	bad.wants(t, "secrets", problem, "secret 1 of 3", "keygen")
	if !slices.ContainsFunc(bad.Findings, func(f finding) bool {
		return f.Level == warning && strings.Contains(f.Says, "secret 3 of 3 is there twice")
	}) {
		t.Errorf("nothing about a secret that is there twice: %+v", bad)
	}
	bad.wants(t, "eviction", problem, "volatile-lru", "CONFIG SET maxmemory-policy noeviction")
	bad.wants(t, "persistence", warning, "logouts", "appendfsync")
	bad.wants(t, "replicas", warning, "cut off", "min-replicas-to-write")
	bad.wants(t, "client-side caching", warning, "", "docs/operations.md")
	if bad.Problems != 2 {
		t.Errorf("%d problems: %+v", bad.Problems, bad)
	}
	command(t, url, "doctor").wants(t, exitFound, "problem  eviction", "→ CONFIG SET maxmemory-policy noeviction")

	server.Do(0, "CONFIG", "SET", "appendonly", "no")
	server.Do(0, "CONFIG", "SET", "save", "3600 1")
	server.Do(0, "CONFIG", "SET", "maxmemory", 0)
	snapshots := examine(t, exitOK, url)
	snapshots.wants(t, "secrets", unknown, "not set", "environment")
	snapshots.wants(t, "persistence", warning, "snapshots", "appendonly")
	snapshots.wants(t, "eviction", warning, "as soon as", "noeviction")
	snapshots.wants(t, "memory", warning, "maxmemory", "maxmemory")

	// The rights that pycket needs, and no more.
	server.Do(0, "ACL", "SETUSER", "shop", "-info", "-acl", "-config")
	rights := examine(t, exitOK, url)
	rights.wants(t, "user", unknown, "acl whoami", "+acl|whoami")
	rights.wants(t, "version, memory, persistence and replicas", unknown, "info", "+info")
	server.Do(0, "ACL", "SETUSER", "shop", "+info")
	examine(t, exitOK, url).wants(t, "persistence", unknown, "config get", "+config|get")
	server.Do(0, "ACL", "SETUSER", "shop", "-hset")
	examine(t, exitFound, url).wants(t, "use", problem, "HSET", "docs/operations.md")

	r := examine(t, exitFound, "REDIS_URL=redis://"+replica.Addr)
	r.wants(t, "use", problem, "READONLY", "")
	r.wants(t, "replicas", problem, "is a replica", "master")
	r.wants(t, "user", warning, "default", "docs/operations.md")
	replica.Do(0, "REPLICAOF", "NO", "ONE")
	alone := examine(t, exitOK, "REDIS_URL=redis://"+replica.Addr)
	alone.wants(t, "persistence", warning, "everybody is logged out", "appendonly")
	alone.wants(t, "replicas", warning, "none", "sentinels")
}

// What a server says of itself that none in these tests does.
func TestDoctorInfo(t *testing.T) {
	for _, c := range []struct {
		info, check string // of lines, as words
		level       level
		says        string
	}{
		{"redis_version:5.0.14", "version", problem, "Redis 5.0.14"},
		{"redis_version:6.0.16", "version", problem, "Redis 6.0.16"},
		{"redis_version:6.2.0", "version", fine, "Redis 6.2.0"},
		{"redis_version:7.2.4 valkey_version:7.1.0", "version", problem, "Valkey 7.1.0"},
		{"redis_version:7.2.4 valkey_version:8.0.1", "version", fine, "Valkey 8.0.1"},
		{"used_memory:81 maxmemory:100", "memory", problem, "81%"},
		{"used_memory:79 maxmemory:100", "memory", fine, "79%"},
		{"maxmemory_policy:noeviction evicted_keys:5", "eviction", fine, "has evicted 5 keys"},
		{"aof_last_write_status:err", "persistence", problem, "can't save"},
		{"aof_last_bgrewrite_status:err", "persistence", problem, "can't save"},
		{"rdb_last_bgsave_status:err", "persistence", problem, "can't save"},
		{"connected_slaves:1 slave0:ip=10.0.0.7,port=7000,state=wait_bgsave,offset=0,lag=0", "replicas", problem, "10.0.0.7:7000 is wait_bgsave"},
		{"connected_slaves:2 slave0:state=online,lag=1 slave1:state=online,lag=11", "replicas", problem, "11 s ago"},
	} {
		var e examination
		info := parseInfo(strings.ReplaceAll(c.info, " ", "\r\n"))
		switch c.check {
		case "version":
			e.version(redisconn.Probe{}, info)
		case "memory", "eviction":
			e.memory(redisconn.Probe{}, info)
		case "persistence":
			e.persistence(redisconn.Probe{}, info)
		case "replicas":
			e.replicas(redisconn.Probe{}, info)
		}
		report{Findings: e.findings}.wants(t, c.check, c.level, c.says, "")
	}
}

func TestDoctorEmbedded(t *testing.T) {
	r := examine(t, exitOK, "REDIS_URL="+redistest.StartEmbedded(t).URL())
	r.wants(t, "use", fine, "can be read", "")
	r.wants(t, "client-side caching", warning, "doesn't work", "CacheFor 0")
	r.wants(t, "version, memory, persistence and replicas", unknown, "embedded", "")
}

func TestDoctorCluster(t *testing.T) {
	cluster := redistest.SharedCluster(t)
	r := examine(t, exitOK, "REDIS_CLUSTER="+cluster.Addr)
	for _, node := range cluster.Nodes() {
		for check, l := range map[string]level{"version": fine, "cluster": fine, "latency": "", "replicas": warning} {
			if f := r.of(t, check, node.Addr); f.Level != l && l != "" {
				t.Errorf("%+v", f)
			}
		}
	}
}

func TestDoctorSentinels(t *testing.T) {
	redistest.Require(t, "redis-sentinel", "redis-sentinel")
	group := redistest.StartGroup(t)
	addresses := append(slices.Clone(group.Sentinels), redistest.Vanished(t))
	r := examine(t, exitFound, "REDIS_SENTINEL_MASTER="+group.Name, "REDIS_SENTINELS="+strings.Join(addresses, ","))
	for _, address := range group.Sentinels {
		if f := r.of(t, "sentinel", address); f.Level != fine || !strings.Contains(f.Says, "3 usable Sentinels") {
			t.Errorf("%+v", f)
		}
	}
	if f := r.of(t, "sentinel", addresses[3]); f.Level != problem || f.Do == "" {
		t.Errorf("%+v", f)
	}
	r.wants(t, "replicas", warning, "2 replicas", "WaitReplicas")
	two := examine(t, exitOK, "REDIS_SENTINEL_MASTER="+group.Name, "REDIS_SENTINELS="+strings.Join(group.Sentinels[:2], ","))
	two.wants(t, "sentinel", warning, "names 2 sentinels", "three or more")
}
