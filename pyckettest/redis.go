package pyckettest

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gomodule/redigo/redis"

	"github.com/pycket/pycket"
	"github.com/pycket/pycket/embedded"
	"github.com/pycket/pycket/internal/backdoor"
	"github.com/pycket/pycket/internal/signed"
)

// A Redis is a Redis for one test: see package embedded. It ends with the test. It may be used by several goroutines at
// once.
type Redis struct {
	t      testing.TB
	server *embedded.Server
	aging  signed.Aging

	mu    sync.Mutex
	conn  redis.Conn // not an App's: it works while Redis is down for them
	apps  []keyspace
	down  bool
	conns []net.Conn // of Apps
}

// A keyspace is where an App keeps sessions and notifications.
type keyspace struct {
	prefix                  string
	sessions, notifications int // databases
}

// NewRedis starts a Redis for several Apps, as if they ran on several servers: see [Redis.New].
func NewRedis(t testing.TB) *Redis {
	t.Helper()
	server, err := embedded.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	conn, err := redis.Dial("tcp", server.Addr())
	if err != nil {
		t.Fatal("pyckettest: ", err)
	}
	t.Cleanup(func() { conn.Close() })
	return &Redis{t: t, server: server, conn: conn}
}

// New makes an App that uses this Redis: see the function [New]. Apps with the same Settings share sessions.
func (r *Redis) New(t testing.TB, settings pycket.Settings) *App {
	t.Helper()
	if s := settings.Redis; s.URL != "" || s.Dial != nil || s.TLS != nil || len(s.Cluster) > 0 || s.Sentinel.Master != "" {
		t.Fatal("pyckettest: Settings.Redis names a server; leave URL, TLS, Dial, Cluster and Sentinel empty")
	}
	if len(settings.Secrets) == 0 {
		settings.Secrets = []string{"the secret of all Apps of package pyckettest"}
	}
	settings.Redis.URL, settings.Redis.Dial, settings.CacheFor = r.server.URL(), r.dial, 0
	app, err := pycket.New(settings)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { app.Close() })
	a := &App{App: app, Redis: r, t: t, inside: backdoor.Open(app), absolute: settings.AbsoluteTimeout}
	a.inside.Signer.Aging = &r.aging
	number := func(database *int, otherwise int) int {
		if database != nil {
			return *database
		}
		return otherwise
	}
	a.keyspace = keyspace{
		prefix:        cmp.Or(settings.Redis.Prefix, "pycket:"),
		sessions:      number(settings.Redis.DBSessions, 0),
		notifications: number(settings.Redis.DBNotifications, 1),
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.apps = append(r.apps, a.keyspace)
	return a
}

//go:embed age.lua
var ageScript string

// Advance lets time pass for sessions, without waiting: all that has happened is then so much longer ago. It moves idle
// and absolute timeouts, the times that [pycket.SessionManager.AuthTime] and [pycket.App.Sessions] return, what is known
// of sessions that have ended, and the cookies of [pycket.SessionManager.Remember], in whatever hands they are. It is one
// step for Redis, so it may be called while requests are under way. The clock of the program stays as it is, so what a
// handler compares with time.Now is right. Advance counts in milliseconds, and cookies do in seconds.
func (r *Redis) Advance(d time.Duration) {
	r.t.Helper()
	if d < 0 {
		r.t.Fatal("pyckettest: Advance: time doesn't go back")
	}
	r.mu.Lock()
	apps := slices.Clone(r.apps)
	r.mu.Unlock()
	script := redis.Args{"EVAL", ageScript, 0, d.Milliseconds()}
	done := map[[2]any]bool{}
	for _, app := range apps {
		for _, database := range []int{app.sessions, app.notifications} {
			if place := [2]any{database, app.prefix}; !done[place] {
				done[place] = true
				script = script.Add(place[:]...)
			}
		}
	}
	r.do(script)
	r.aging.Advance(d)
}

// do carries out commands, whether or not Redis is down for Apps.
func (r *Redis) do(commands ...redis.Args) []any {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	replies := make([]any, len(commands))
	for i, c := range commands {
		reply, err := r.conn.Do(c[0].(string), c[1:]...)
		if err != nil {
			r.t.Fatalf("pyckettest: %s: %v", c[0], err)
		}
		replies[i] = reply
	}
	return replies
}

// SetDown makes Redis unreachable for all its Apps, or reachable again. While it is down, operations that need it return
// [pycket.ErrUnavailable] in a fraction of a second, whatever RedisSettings.Timeout is. It loses nothing.
func (r *Redis) SetDown(down bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down = down
	if down {
		for _, conn := range r.conns {
			conn.Close()
		}
		r.conns = nil
	}
}

var errDown = errors.New("the test has called SetDown")

func (r *Redis) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.down {
		conn.Close()
		return nil, errDown
	}
	r.conns = append(r.conns, conn)
	return conn, nil
}
