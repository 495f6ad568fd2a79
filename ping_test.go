package pycket_test

// App.Ping (pycket.go, and internal/store/ping.go): what it tries, what it leaves, and what it says of a Redis that
// can't be worked with. redispool_test.go has what operations say of one.

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gomodule/redigo/redis"

	"github.com/pycket/pycket"
	"github.com/pycket/pycket/internal/redistest"
)

// refused wants a Ping to fail in words, and to leave nothing.
func refused(t *testing.T, server *redistest.Server, app *pycket.App, words ...string) {
	t.Helper()
	wantError(t, app.Ping(t.Context()), pycket.ErrUnavailable, append(words, "pycket: ping: ")...)
	if keys := append(server.Keys(0), server.Keys(1)...); len(keys) > 0 {
		t.Errorf("Ping leaves %q", keys)
	}
}

// Ping leaves nothing, and is three round trips: the first time, and again.
func TestPing(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		app := newApp(t, settings(server))
		for range 2 {
			noError(t, app.Ping(t.Context()))
		}
		server.Do(0, "SCRIPT", "FLUSH")
		noError(t, app.Ping(t.Context()))
		if keys := append(server.Keys(0), server.Keys(1)...); len(keys) > 0 {
			t.Errorf("Ping leaves %q", keys)
		}
	})
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		proxy, s := proxied(t, server)
		app := newApp(t, s)
		if err := app.Ping(t.Context()); err != nil { // and connects, which selects the databases
			t.Error(err)
		}
		for range 2 {
			if n := proxy.Trips(func() { noError(t, app.Ping(t.Context())) }); n != 3 {
				t.Errorf("Ping takes %d round trips, want 3", n)
			}
		}
	})
}

// What Ping makes it gives a time to live at once, and takes away again.
func TestPingKeysExpire(t *testing.T) {
	server := redistest.Start(t)
	wait := listen(t, server, "MONITOR")
	noError(t, newApp(t, settings(server)).Ping(t.Context()))
	server.Do(0, "ECHO", "the end of the tour")
	there := map[string]bool{} // whether it has a time to live
	made := 0
	for _, m := range regexp.MustCompile(`\[(\d+) lua\] "([^"]*)" "([^"]*)"`).FindAllStringSubmatch(wait(), -1) {
		key := m[1] + " " + m[3]
		if m[2] != "PEXPIRE" {
			for other, expires := range there {
				if !expires {
					t.Errorf("%s has no time to live when %s %s comes", other, m[2], key)
				}
			}
		}
		switch m[2] {
		case "HSET", "HSETNX", "HINCRBY", "RPUSH", "ZADD":
			made++
			if !there[key] {
				there[key] = false
			}
		case "PEXPIRE":
			if _, is := there[key]; is {
				there[key] = true
			}
		case "DEL":
			delete(there, key)
		}
	}
	if made == 0 || len(there) > 0 {
		t.Errorf("%d times something was made; left: %v", made, there)
	}
}

// Ping tries every command that the scripts use: else it can't tell whether they are allowed.
func TestPingTriesEverything(t *testing.T) {
	commands := regexp.MustCompile(`'([A-Z]{3,})'`)
	tried := map[string]bool{}
	ping, err := os.ReadFile("internal/store/scripts/ping.lua")
	require(t, err)
	for _, m := range commands.FindAllStringSubmatch(string(ping), -1) {
		tried[m[1]] = true
	}
	calls := regexp.MustCompile(`redis\.p?call[,(] *'([A-Z]+)'`)
	files, _ := filepath.Glob("internal/store/scripts/*.lua")
	parts, _ := filepath.Glob("internal/store/scripts/parts/*.lua")
	for _, file := range append(files, parts...) {
		if filepath.Base(file) == "sweep.lua" { // of cmd/pycket, which needs rights of its own
			continue
		}
		text, err := os.ReadFile(file)
		require(t, err)
		for _, m := range calls.FindAllStringSubmatch(string(text), -1) {
			if !tried[m[1]] {
				t.Errorf("%s uses %s, which ping.lua does not try", file, m[1])
			}
		}
	}
}

// A Redis that answers but can't be worked with: why, and what to do.
func TestPingSaysWhatToDo(t *testing.T) {
	for name, test := range map[string]struct {
		args    []string
		spoil   func(t *testing.T, server *redistest.Server)
		change  func(s *pycket.Settings)
		want    []string
		healthy bool
	}{
		"healthy": {healthy: true},
		"a replica": {
			spoil: func(t *testing.T, server *redistest.Server) { server.Do(0, "REPLICAOF", "127.0.0.1", "1") },
			want:  []string{"READONLY", "it is a replica", "put the master in Redis.URL"},
		},
		"full": {
			spoil: func(t *testing.T, server *redistest.Server) { server.Do(0, "CONFIG", "SET", "maxmemory", "1") },
			want:  []string{"OOM", "it is full", "maxmemory"},
		},
		"full, but may evict": {
			args:    []string{"--maxmemory-policy", "allkeys-lru"},
			spoil:   func(t *testing.T, server *redistest.Server) { server.Do(0, "CONFIG", "SET", "maxmemory", "100mb") },
			healthy: true,
		},
		"a disk that can't be written to": {
			spoil: func(t *testing.T, server *redistest.Server) {
				dir, err := redis.Strings(server.Do(0, "CONFIG", "GET", "dir"), nil)
				require(t, err)
				require(t, os.RemoveAll(dir[1]))
				server.Do(0, "CONFIG", "SET", "save", "3600 1")
				server.Do(0, "BGSAVE")
				for range 500 {
					if info, _ := redis.String(server.Do(0, "INFO", "persistence"), nil); strings.Contains(info, "rdb_last_bgsave_status:err") {
						return
					}
					time.Sleep(10 * time.Millisecond)
				}
				t.Fatal("the save does not fail")
			},
			want: []string{"MISCONF", "it can't save", "disk"},
		},
		"too few replicas": {
			spoil: func(t *testing.T, server *redistest.Server) {
				server.Do(0, "CONFIG", "SET", "min-replicas-to-write", "1")
			},
			want: []string{"NOREPLICAS", "replicas", "min-replicas-to-write"},
		},
		"one database": {
			args: []string{"--databases", "1"},
			want: []string{"DB index is out of range", "Redis.DBNotifications"},
		},
		"one database, and told so": {
			args:    []string{"--databases", "1"},
			change:  func(s *pycket.Settings) { s.Redis.DBNotifications = new(0) },
			healthy: true,
		},
		"no such database": {
			change: func(s *pycket.Settings) { s.Redis.DBSessions = new(99) },
			want:   []string{"DB index is out of range", "Redis.DBSessions"},
		},
		"too old": { // a command of 6.2 is missing
			args: []string{"--rename-command", "GETEX", ""},
			want: []string{"older than 6.2"},
		},
		"a command is missing": {
			args: []string{"--rename-command", "HINCRBY", ""},
			want: []string{"HINCRBY", "rename-command"},
		},
		"no scripts": {
			args: []string{"--rename-command", "EVALSHA", ""},
			want: []string{"EVALSHA", "rename-command"},
		},
		"the wrong password": {
			args:   []string{"--requirepass", "right"},
			change: func(s *pycket.Settings) { s.Redis.URL = strings.Replace(s.Redis.URL, "//", "//:PASSWORD@", 1) },
			want:   []string{"WRONGPASS", "Redis.URL"},
		},
		"no password": {
			args: []string{"--requirepass", "right"},
			change: func(s *pycket.Settings) {
				s.Redis.URL = "redis://" + s.Redis.URL[strings.LastIndexAny(s.Redis.URL, "@/")+1:]
			},
			want: []string{"redis is unavailable: wrong configuration: NOAUTH", "Redis.URL"},
		},
		"no server": {
			change: func(s *pycket.Settings) { s.Redis.URL = "redis://127.0.0.1:1" },
			want:   []string{"no server listens there: start it, or correct the address"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := redistest.Start(t, test.args...)
			if test.spoil != nil {
				test.spoil(t, server)
			}
			s := settings(server)
			if test.change != nil {
				test.change(&s)
			}
			err := newApp(t, s).Ping(t.Context())
			if test.healthy && err != nil {
				t.Error(err)
			}
			if !test.healthy {
				wantError(t, err, pycket.ErrUnavailable, append(test.want, "pycket: ping: ")...)
			}
			if strings.Contains(fmt.Sprint(err), "PASSWORD") {
				t.Errorf("%v repeats a password", err)
			}
			if slices.Contains(test.args, "--requirepass") {
				return
			}
			if left, _ := redis.String(server.Do(0, "INFO", "keyspace"), nil); strings.Contains(left, "keys=") {
				t.Errorf("Ping leaves %s", left)
			}
		})
	}
}

// In a cluster every server that has slots is tried, and the one that can't be worked with is named.
func TestPingInCluster(t *testing.T) {
	server := redistest.SharedCluster(t)
	s := settings(server)
	s.Redis.Timeout = shortTimeout
	for i, node := range server.Nodes() {
		app := newApp(t, s)
		calls := func() string {
			info, err := redis.String(node.Do(0, "INFO", "commandstats"), nil)
			require(t, err)
			return fmt.Sprint(regexp.MustCompile(`cmdstat_(?:eval|evalsha):calls=\d+`).FindAllString(info, -1))
		}
		node.Do(0, "CONFIG", "RESETSTAT")
		noError(t, app.Ping(t.Context()))
		if got := calls(); !strings.Contains(got, "eval:calls=1") || !strings.Contains(got, "evalsha:calls=1") {
			t.Errorf("server %d was asked %s, want one EVAL and one EVALSHA", i, got)
		}
		node.Do(0, "CONFIG", "SET", "maxmemory", "1")
		err := app.Ping(t.Context())
		node.Do(0, "CONFIG", "SET", "maxmemory", "0")
		wantError(t, err, pycket.ErrUnavailable, "OOM", "it is full", node.Addr)
		noError(t, app.Ping(t.Context()))
	}
	if keys := server.Keys(0); len(keys) > 0 {
		t.Errorf("Ping leaves %q", keys)
	}
}

// Ping warns, once, of a Redis that may evict sessions, if it is told so, and succeeds.
func TestPingWarnsOfEviction(t *testing.T) {
	redistest.Real(t, func(t *testing.T, server *redistest.Server) {
		one, rules := server, rights("Sessions", "Users", "Cluster")
		if nodes := server.Nodes(); nodes != nil {
			one = nodes[0]
		}
		configure := func(limit, policy string) {
			one.Do(0, "CONFIG", "SET", "maxmemory", limit)
			one.Do(0, "CONFIG", "SET", "maxmemory-policy", policy)
		}
		t.Cleanup(func() {
			configure("0", "noeviction")
			for _, node := range append(server.Nodes(), server) {
				node.Do(0, "ACL", "DELUSER", "restricted")
			}
		})
		for _, test := range []struct {
			limit, policy string
			may           bool // ask for it
			want          string
		}{
			{"100mb", "allkeys-lru", true, "allkeys-lru"},
			{"100mb", "volatile-ttl", true, "volatile-ttl"},
			{"100mb", "noeviction", true, ""},
			{"0", "allkeys-lru", true, ""},
			{"100mb", "allkeys-lru", false, ""},
		} {
			configure(test.limit, test.policy)
			allow(server, "restricted", rules)
			if test.may {
				allow(server, "restricted", append(slices.Clone(rules), rights("Eviction")...))
			}
			j, logger := newJournal()
			s := settings(server)
			s.Logger = logger
			s.Redis.URL = "redis://restricted:PASSWORD@"
			if server.Nodes() == nil {
				s.Redis.URL += server.Addr
			}
			app := newApp(t, s)
			for range 2 {
				noError(t, app.Ping(t.Context()))
			}
			var said []string
			for line := range strings.Lines(j.String()) {
				if strings.Contains(line, "WARN") {
					said = append(said, line)
				}
			}
			if test.want == "" && len(said) > 0 || test.want != "" && (len(said) != 1 || !strings.Contains(said[0], test.want) || !strings.Contains(said[0], "redis may evict sessions when it reaches its maxmemory") || !strings.Contains(said[0], "noeviction")) {
				t.Errorf("%+v: the log says %q", test, said)
			}
		}
	})
}

// Without the right to INFO, Ping asks for it once: Redis logs each command that it denies, and a probe may ask forever.
func TestPingIsDeniedOnce(t *testing.T) {
	server := redistest.Start(t)
	allow(server, "restricted", rights("Sessions", "Users"))
	s := settings(server)
	s.Redis.URL = "redis://restricted:PASSWORD@" + server.Addr
	app := newApp(t, s)
	for range 3 {
		noError(t, app.Ping(t.Context()))
	}
	stats, err := redis.String(server.Do(0, "INFO", "commandstats"), nil)
	require(t, err)
	if denied := regexp.MustCompile(`cmdstat_info:.*rejected_calls=(\d+)`).FindStringSubmatch(stats); denied == nil || denied[1] != "1" {
		t.Errorf("INFO was denied %q times, want once", denied)
	}
}
