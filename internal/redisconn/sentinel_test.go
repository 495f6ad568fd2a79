//go:build unix

package redisconn

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gomodule/redigo/redis"
	"go.uber.org/goleak"

	"github.com/pycket/pycket/internal/redistest"
)

// list is a list of strings in RESP.
func list(items ...string) string {
	text := fmt.Sprintf("*%d\r\n", len(items))
	for _, item := range items {
		text += fmt.Sprintf("$%d\r\n%s\r\n", len(item), item)
	}
	return text
}

// A fakeGroup is sentinels and servers that say what they are told to. The first two servers are there.
type fakeGroup struct {
	t         testing.TB
	sentinels []string

	mu    sync.Mutex
	said  []func(words []string) string // by each sentinel
	roles map[string]string             // of the servers
	hung  map[string]bool
	asked map[string]int // how many commands each server got, those of greeting left out
}

func newFakeGroup(t testing.TB, sentinels int) *fakeGroup {
	g := &fakeGroup{t: t, roles: map[string]string{}, hung: map[string]bool{}, asked: map[string]int{}}
	g.said = make([]func([]string) string, sentinels)
	for i := range g.said {
		g.sentinels = append(g.sentinels, redistest.Fake(t, func(words []string) string {
			g.mu.Lock()
			defer g.mu.Unlock()
			return g.said[i](words)
		}))
	}
	return g
}

// server starts a server.
func (g *fakeGroup) server(role string) (address string) {
	address = redistest.FakeConn(g.t, func(c net.Conn, words []string) {
		g.mu.Lock()
		defer g.mu.Unlock()
		switch at := c.LocalAddr().String(); {
		case words[0] == "HELLO":
			io.WriteString(c, "*6\r\n$6\r\nserver\r\n$5\r\nredis\r\n$4\r\nrole\r\n"+fmt.Sprintf("$%d\r\n%s\r\n", len(g.roles[at]), g.roles[at])+"$7\r\nmodules\r\n*1\r\n*2\r\n$4\r\nname\r\n$1\r\nx\r\n")
		case g.hung[at]:
			g.asked[at]++
		default:
			g.asked[at]++
			io.WriteString(c, "+PONG\r\n")
		}
	})
	g.set(func() { g.roles[address] = role })
	return address
}

func (g *fakeGroup) set(change func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	change()
}

// says returns what a sentinel says that knows a master.
func says(address string, epoch int) func([]string) string {
	host, port, _ := net.SplitHostPort(address)
	return func(words []string) string {
		if words[1] == "MASTER" {
			return list("name", "watched", "config-epoch", fmt.Sprint(epoch), "ip", "not", "port", "this")
		}
		return list(host, port)
	}
}

// refuses returns what a sentinel says that refuses.
func refuses(text string) func([]string) string {
	return func([]string) string { return "-" + text + "\r\n" }
}

// follow makes the Server that follows the sentinels, as the root does.
func (g *fakeGroup) follow(watch Target, timeout time.Duration) *Server {
	sentinels := NewSentinels("watched", g.sentinels, watch, timeout)
	dial := func(ctx context.Context) (redis.Conn, error) { return sentinels.Dial(ctx, Target{}) }
	s := NewServer(&redis.Pool{MaxIdle: 4, DialContext: dial, TestOnBorrow: sentinels.Check}, "", 4, timeout)
	s.Follow(sentinels)
	g.t.Cleanup(func() { s.Close() })
	return s
}

// The newest configuration is believed, whoever knows it, until none of the sentinels has it any more.
func TestNewestConfigurationIsBelieved(t *testing.T) {
	type heard = []answer
	one, two, three := "one:1", "two:1", "three:1"
	for name, test := range map[string]struct {
		before answer
		heard  heard
		want   string
	}{
		"first":                           {heard: heard{{address: one}}, want: one},
		"one is behind":                   {heard: heard{{address: one, epoch: 1}, {address: two, epoch: 2}, {address: one, epoch: 1}}, want: two},
		"only those behind answer":        {before: answer{address: two, epoch: 2}, heard: heard{{address: one, epoch: 1}, {address: one, epoch: 1}}, want: two},
		"newer":                           {before: answer{address: two, epoch: 2}, heard: heard{{address: three, epoch: 3}}, want: three},
		"two names of one server":         {before: answer{address: two, epoch: 2}, heard: heard{{address: one, epoch: 2}, {address: two, epoch: 2}, {address: one, epoch: 2}}, want: two},
		"another name of it, and no more": {before: answer{address: two, epoch: 2}, heard: heard{{address: one, epoch: 2}}, want: one},
		"taken back":                      {before: answer{address: two, epoch: 2}, heard: heard{{address: three}, {address: three}, {address: three}}, want: three},
	} {
		t.Run(name, func(t *testing.T) {
			s := NewSentinels("watched", []string{"a:1", "b:1", "c:1"}, Target{}, time.Second)
			s.epoch, s.master = test.before.epoch, test.before.address
			if got := s.believe(test.heard); got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
		})
	}
}

// What a Dial fails with says what to do, and does not repeat a password. Where nothing would change, it does not wait.
func TestSentinelsFail(t *testing.T) {
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead.Close()
	const noMaster = "ERR No such master with that name"
	for name, test := range map[string]struct {
		says  func([]string) string // by the first of two; nil if that is dead, as the other is
		watch Target
		wait  bool // until there is no time left
		want  []string
	}{
		"dead":           {wait: true, want: []string{"none of the sentinels in Redis.Sentinel.Addresses", dead.Addr().String(), "refused"}},
		"hangs":          {says: func([]string) string { return "" }, wait: true, want: []string{"none of the sentinels in Redis.Sentinel.Addresses"}},
		"no such master": {says: refuses(noMaster), want: []string{noMaster, "Redis.Sentinel.Master"}},
		"nonsense":       {says: func([]string) string { return "*-1\r\n" }, wait: true, want: []string{"none of the sentinels in Redis.Sentinel.Addresses"}},
		"a Redis":        {says: refuses("ERR unknown command 'SENTINEL', with args beginning with: 'MASTER' 'HUSH'"), want: []string{"unknown command", "26379"}},
		"wrong password": {says: refuses("WRONGPASS invalid username-password pair"), watch: Target{Username: "ann", Password: "HUSH"}, want: []string{"WRONGPASS", "Redis.Sentinel.User"}},
		"no password":    {says: refuses("NOAUTH Authentication required."), want: []string{"NOAUTH", "Redis.Sentinel.Password"}},
		"no rights":      {says: refuses("NOPERM this user has no permissions to run the 'sentinel' command"), want: []string{"NOPERM", "SENTINEL", "Redis.Sentinel.User"}},
		"no TLS":         {says: refuses(""), watch: Target{TLS: new(tls.Config)}, want: []string{"without TLS", "Redis.Sentinel.TLS"}},
	} {
		t.Run(name, func(t *testing.T) {
			g := newFakeGroup(t, 1)
			g.said[0] = test.says
			g.sentinels = append([]string{dead.Addr().String()}, g.sentinels...)
			if test.watch.TLS != nil {
				g.sentinels[1] = redistest.Start(t).Addr // which knows what TLS looks like
			}
			timeout := 30 * time.Second
			if test.wait {
				timeout = 300 * time.Millisecond
			}
			if test.says == nil {
				g.sentinels = g.sentinels[:1]
			}
			_, err := g.follow(test.watch, timeout).Do(t.Context(), time.Now(), ping())
			if !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrMisconfigured) == test.wait {
				t.Errorf("%v: is it misconfigured?", err)
			}
			for _, want := range test.want {
				if !strings.Contains(fmt.Sprint(err), want) {
					t.Errorf("%v: no %q", err, want)
				}
			}
			if strings.Contains(fmt.Sprint(err), "HUSH") || strings.Contains(fmt.Sprint(err), "\n") {
				t.Errorf("%v: a secret, or two lines", err)
			}
		})
	}
}

// A server that is not the master is not connected to, though the sentinels say that it is. One that becomes it is.
func TestReplicaIsNoMaster(t *testing.T) {
	g := newFakeGroup(t, 1)
	server := g.server("replica")
	g.said[0] = says(server, 1)
	if _, err := g.follow(Target{}, 300*time.Millisecond).Do(t.Context(), time.Now(), ping()); !errors.Is(err, errReplica) {
		t.Error(err)
	}
	s := g.follow(Target{}, 30*time.Second)
	done := start(s, t.Context(), time.Now(), ping())
	g.set(func() { g.roles[server] = "master" })
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// When the master is replaced and still answers, no command fails, and none reaches it any more: neither on the shared
// connection nor on the pool's. A command that it does not answer does not wait for the timeout.
func TestReplacedMasterIsLeft(t *testing.T) {
	g := newFakeGroup(t, 3)
	old, next := g.server("master"), g.server("master")
	for i := range g.said {
		g.said[i] = says(old, 1)
	}
	s := g.follow(Target{}, 30*time.Second)
	do := func(size int) error {
		c := NewCommand("key", 2, "PING")
		c.repeatable = false
		c.Bytes(make([]byte, size))
		_, err := s.Do(t.Context(), time.Now(), c)
		return err
	}
	for _, size := range []int{0, 2 * largeCommand, 0} {
		if err := do(size); err != nil {
			t.Error(err)
		}
	}
	g.set(func() { g.hung[old] = true })
	hung := start(s, t.Context(), time.Now(), ping())
	for n := 0; n < 4; { // it has got that, too
		g.set(func() { n = g.asked[old] })
	}
	g.set(func() { g.said[2] = says(next, 2) }) // the others have not heard of it
	if err := <-hung; !errors.Is(err, ErrUnavailable) || !errors.Is(err, errReplaced) {
		t.Error(err)
	}
	for _, size := range []int{0, 2 * largeCommand} {
		if err := do(size); err != nil {
			t.Error(err)
		}
	}
	g.set(func() {
		if g.asked[old] != 4 || g.asked[next] != 2 {
			t.Errorf("the old master got %d commands, want 4, and the new one %d, want 2", g.asked[old], g.asked[next])
		}
	})
}

// Close ends what asks sentinels that hang, and nothing asks them afterwards.
func TestCloseEndsSentinels(t *testing.T) {
	ignore := goleak.IgnoreCurrent()
	t.Run("", func(t *testing.T) {
		g := newFakeGroup(t, 3)
		server := g.server("master")
		for i := range g.said {
			g.said[i] = says(server, 1)
		}
		s := g.follow(Target{}, 3*time.Second)
		if _, err := s.Do(t.Context(), time.Now(), ping()); err != nil {
			t.Error(err)
		}
		g.set(func() { g.said[1] = func([]string) string { return "" } })
		asked := make(chan struct{})
		var once sync.Once
		g.set(func() {
			g.said[2] = func([]string) string { once.Do(func() { close(asked) }); return "" }
		})
		<-asked
		s.Close()
		if _, err := s.Do(t.Context(), time.Now(), ping()); !errors.Is(err, errClosed) {
			t.Error(err)
		}
	})
	goleak.VerifyNone(t, ignore)
}
