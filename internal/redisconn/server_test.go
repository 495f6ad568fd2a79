//go:build unix

package redisconn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gomodule/redigo/redis"
	"go.uber.org/goleak"

	"github.com/pycket/pycket/internal/redistest"
)

// newServer makes a Server, as the root does.
func newServer(t testing.TB, target Target, connections int, timeout time.Duration) *Server {
	t.Helper()
	if target.Network == "" {
		target.Network = "tcp"
	}
	pool := &redis.Pool{MaxIdle: connections, IdleTimeout: IdleClose, DialContext: target.Dial, TestOnBorrow: CheckIdle}
	s := NewServer(pool, target.Address, connections, timeout)
	t.Cleanup(func() { s.Close() })
	return s
}

// ping is a command that is not repeated.
func ping() *Command {
	c := NewCommand("", 1, "PING")
	c.repeatable = false
	return c
}

// start carries out a command in a goroutine.
func start(s Client, ctx context.Context, began time.Time, c *Command) chan error {
	done := make(chan error, 1)
	go func() {
		_, err := s.Do(ctx, began, c)
		done <- err
	}()
	return done
}

// A caller with little time left gives up by itself. The connection, and others who use it, have the whole timeout.
func TestLittleTimeLeft(t *testing.T) {
	const timeout = time.Second
	proxy := redistest.NewProxy(t, redistest.Start(t))
	s := newServer(t, Target{Address: proxy.Addr}, 4, timeout)
	proxy.Hold()
	first := start(s, t.Context(), time.Now(), ping()) // waits longer than the other may
	proxy.AwaitCommands(1)
	if _, err := s.Do(t.Context(), time.Now().Add(-timeout*9/10), ping()); !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	proxy.Pass()
	if err := <-first; err != nil {
		t.Errorf("another caller: %v", err)
	}
	if _, err := s.Do(t.Context(), time.Now().Add(-2*timeout), ping()); !errors.Is(err, ErrUnavailable) {
		t.Errorf("with no time left: %v", err)
	}
}

// A command that is tried again after its connection broke still ends with the operation that it is part of, though the
// next connection hangs, and the others that wait for it have more time.
func TestRetryKeepsDeadline(t *testing.T) {
	const timeout = time.Second
	proxy := redistest.NewProxy(t, redistest.Start(t))
	s := newServer(t, Target{Address: proxy.Addr}, 4, timeout)
	proxy.Hold()
	began := time.Now()
	start(s, t.Context(), began, ping()) // reads, and is not tried again
	proxy.AwaitCommands(1)
	var early, late []chan error
	for range 4 {
		early = append(early, start(s, t.Context(), began, NewCommand("", 1, "PING")))
	}
	proxy.AwaitCommands(5)
	time.Sleep(time.Until(began.Add(timeout * 7 / 10)))
	for range 16 { // most of which are tried again before the early ones
		late = append(late, start(s, t.Context(), time.Now(), NewCommand("", 1, "PING")))
	}
	proxy.AwaitCommands(21)
	proxy.Cut()
	for _, done := range early {
		if err := <-done; !errors.Is(err, ErrUnavailable) {
			t.Error(err)
		}
	}
	if took := time.Since(began); took > timeout*14/10 {
		t.Errorf("after %v, with a timeout of %v", took, timeout)
	}
	proxy.Pass()
	for _, done := range late {
		if err := <-done; err != nil && time.Since(began) < timeout*16/10 {
			t.Errorf("a command with time left: %v", err)
		}
	}
}

// A server that says that it is not the master, or whose script says so, is left: the next command goes to the one
// that is there now.
func TestLeavesWhoIsNotMaster(t *testing.T) {
	var says atomic.Pointer[string]
	var connections atomic.Int64
	address := redistest.Fake(t, func([]string) string { return *says.Load() + "\r\n" })
	target := Target{Network: "tcp", Address: address}
	dial := func(ctx context.Context) (redis.Conn, error) {
		connections.Add(1)
		return target.Dial(ctx)
	}
	single := newServer(t, target, 4, 3*time.Second)
	single.pool.DialContext = dial
	inCluster := newServer(t, target, 4, 3*time.Second)
	inCluster.pool.DialContext = dial
	cluster := NewCluster([]string{address}, target, 3*time.Second, nil)
	for slot := range cluster.slots {
		cluster.slots[slot] = inCluster
	}
	cluster.servers[address] = inCluster
	cluster.learned = time.Now().Add(time.Hour) // the fake knows of no slots
	defer cluster.Close()
	for name, client := range map[string]Client{"single": single, "cluster": cluster} {
		for _, size := range []int{0, 2 * largeCommand} { // on the lane, and on a connection of its own
			t.Run(fmt.Sprint(name, size), func(t *testing.T) {
				do := func(said string) (opened int64) {
					t.Helper()
					before := connections.Load()
					says.Store(&said)
					if said[0] == '-' && name == "cluster" { // which tries until it is better
						time.AfterFunc(50*time.Millisecond, func() { ok := "+PONG"; says.Store(&ok) })
					}
					c := NewCommand("key", 2, "PING")
					c.Bytes(make([]byte, size))
					_, err := client.Do(t.Context(), time.Now(), c)
					if failed := err != nil; failed != (said[0] == '-' && name == "single") {
						t.Errorf("%s: %v", said, err)
					}
					return connections.Load() - before
				}
				do("+PONG")
				if opened := do("+PONG"); opened != 0 {
					t.Errorf("%d connections are opened, for nothing", opened)
				}
				for _, refusal := range []string{
					"-READONLY You can't write against a read only replica.", "-ERR Error running script: READONLY You can't write", "-MASTERDOWN Link with MASTER is down", "-LOADING Redis is loading",
				} {
					if opened := do(refusal) + do("+PONG"); opened == 0 {
						t.Errorf("after %s it stays", refusal)
					}
				}
			})
		}
	}
}

// alone is a Server that takes every reply for large.
type alone struct{ *Server }

func (s alone) Do(ctx context.Context, began time.Time, c *Command) (Reply, error) {
	takeForLarge(s.Server, c)
	return s.Server.Do(ctx, began, c)
}

func (s alone) DoAll(ctx context.Context, began time.Time, c *Command) (Replies, error) {
	takeForLarge(s.Server, c)
	return s.Server.DoAll(ctx, began, c)
}

func takeForLarge(s *Server, c *Command) {
	s.large.add(c.keyMark())
	s.small.remove(c.mark())
}

// ways returns a Server that uses the lane, one that uses a connection for each command, and a Cluster.
func ways(t *testing.T, test func(t *testing.T, client Client, server *redistest.Server)) {
	t.Run("lane", func(t *testing.T) {
		server := redistest.Start(t)
		test(t, newServer(t, Target{Address: server.Addr}, 4, 3*time.Second), server)
	})
	t.Run("alone", func(t *testing.T) {
		server := redistest.Start(t)
		s := newServer(t, Target{Address: server.Addr}, 4, 3*time.Second)
		test(t, alone{s}, server)
		if s.lane.conn != nil {
			t.Error("the lane was used")
		}
	})
	t.Run("cluster", func(t *testing.T) {
		server := redistest.SharedCluster(t)
		test(t, newCluster(t, server), server)
	})
}

// Commands that are sent together are answered in their order, in one round trip, and an error of any is the error of
// all.
func TestPair(t *testing.T) {
	ways(t, func(t *testing.T, client Client, server *redistest.Server) {
		server.Do(0, "HSET", "key", "a", "b")
		for range 10 {
			r, err := client.DoAll(t.Context(), time.Now(), readAndTTL("key", "HGETALL"))
			checkPair(t, r, err)
			_, err = client.DoAll(t.Context(), time.Now(), readAndTTL("key", "GET"))
			if !errors.Is(err, ErrWrongType) {
				t.Error(err)
			}
		}
	})
	proxy := redistest.NewProxy(t, redistest.Start(t))
	s := newServer(t, Target{Address: proxy.Addr}, 4, 3*time.Second)
	s.Do(t.Context(), time.Now(), ping())
	if got := proxy.Trips(func() { s.DoAll(t.Context(), time.Now(), readAndTTL("key", "HGETALL")) }); got != 1 {
		t.Errorf("%d round trips", got)
	}
}

// readAndTTL is a read, PTTL and TIME of one key.
func readAndTTL(key, read string) *Command {
	c := NewCommand(key, 2, read)
	c.String(key)
	c.Then(2, "PTTL")
	c.String(key)
	c.Then(1, "TIME")
	return c
}

// checkPair wants the replies to readAndTTL of a hash with a field a, which is b.
func checkPair(t *testing.T, r Replies, err error) {
	t.Helper()
	items, _ := r[0].List()
	name, _ := items.Next()
	value, _ := items.Next()
	ttl, isNumber := r[1].Number()
	now, isList := r[2].List()
	seconds, _ := now.Next()
	if string(name) != "a" || string(value) != "b" || ttl != -1 || !isNumber || len(seconds) != 10 || !isList || err != nil {
		t.Errorf("%s=%s, PTTL %d, TIME %s: %v", name, value, ttl, seconds, err)
	}
}

// A script that a server does not know is sent whole, once, and what is sent together with it is answered.
func TestUnknownScript(t *testing.T) {
	ways(t, func(t *testing.T, client Client, server *redistest.Server) {
		server.Do(0, "SCRIPT", "FLUSH")
		script := NewScript("return redis.call('INCRBY', KEYS[1], ARGV[1])", false)
		for i := range 3 {
			c := script.On(1, "key")
			c.Int(5)
			c.Then(2, "GET")
			c.String("key")
			r, err := client.DoAll(t.Context(), time.Now(), c)
			n, _ := r[0].Number()
			if want := 5 * (i + 1); n != int64(want) || string(r[1].Value()) != strconv.Itoa(want) || err != nil {
				t.Errorf("%d, %s, %v; want %d", n, r[1].Value(), err, want)
			}
		}
		c := script.On(1, "key")
		c.Int(5)
		if r, err := client.Do(t.Context(), time.Now(), c.Whole()); r.number != 20 || err != nil {
			t.Error(r.number, err)
		}
	})
	proxy := redistest.NewProxy(t, redistest.Start(t))
	s := newServer(t, Target{Address: proxy.Addr}, 4, 3*time.Second)
	run := func() { s.Do(t.Context(), time.Now(), NewScript("return 1", true).On(0, "key")) }
	if got := proxy.Commands(run); !slices.Equal(got[len(got)-2:], []string{"EVALSHA", "EVAL"}) {
		t.Error(got)
	}
	if got := proxy.Commands(run); !slices.Equal(got, []string{"EVALSHA"}) {
		t.Error(got)
	}
}

// A single server has all keys, and needs one probe.
func TestSplitAndProbes(t *testing.T) {
	s := newServer(t, Target{}, 4, time.Second)
	if got := s.Split([]string{"a", "b"}); len(got) != 1 || !slices.Equal(got[0], []string{"a", "b"}) {
		t.Error(got)
	}
	if got, err := s.Probes(t.Context(), time.Now()); len(got) != 1 || got[0].Tag == "" || got[0].Address != "" || err != nil {
		t.Error(got, err)
	}
}

// Close waits for commands on connections of their own, too, whether or not their callers do, and commands after it
// fail at once.
func TestCloseWaits(t *testing.T) {
	ignore := goleak.IgnoreCurrent()
	came, answer := make(chan bool), make(chan bool)
	address := redistest.FakeConn(t, func(c net.Conn, _ []string) {
		came <- true
		<-answer
		io.WriteString(c, "+PONG\r\n")
	})
	s := newServer(t, Target{Address: address}, 4, 20*time.Second)
	takeForLarge(s, ping())
	stays := start(s, t.Context(), time.Now(), ping())
	<-came
	ctx, cancel := context.WithCancel(t.Context())
	goes := start(s, ctx, time.Now(), ping())
	<-came
	cancel()
	if err := <-goes; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		s.Close()
	}()
	for s.lane.enter() == nil { // until Close has begun
		s.lane.running.Done()
		runtime.Gosched()
	}
	if _, err := s.Do(t.Context(), time.Now(), ping()); !errors.Is(err, ErrUnavailable) || !errors.Is(err, errClosed) {
		t.Errorf("after Close: %v", err)
	}
	answer <- true
	select {
	case <-closed:
		t.Error("Close has not waited")
	case <-time.After(20 * time.Millisecond):
	}
	answer <- true
	if err := <-stays; err != nil {
		t.Error(err)
	}
	<-closed
	goleak.VerifyNone(t, ignore, goleak.IgnoreAnyFunction("internal/poll.runtime_pollWait")) // of the fake
}

// BenchmarkConnections measures the same GET on the lane, on a connection of the pool and by redigo alone, with one
// caller and with 64.
func BenchmarkConnections(b *testing.B) {
	server := redistest.Start(b)
	s := newServer(b, Target{Address: server.Addr}, 64, 3*time.Second)
	bare := &redis.Pool{MaxIdle: 64, Dial: func() (redis.Conn, error) { return redis.Dial("tcp", server.Addr) }}
	defer bare.Close()
	get := NewCommand("key", 2, "GET")
	get.String("key")
	ways := []struct {
		name string
		get  func() error
	}{
		{"shared", func() error {
			_, err := s.lane.do(context.Background(), time.Now(), time.Now().Add(s.timeout), get)
			return err
		}},
		{"pool", func() error {
			_, err := s.doAlone(context.Background(), time.Now(), time.Now().Add(s.timeout), get)
			return err
		}},
		{"redigo", func() error {
			c := bare.Get()
			defer c.Close()
			_, err := c.Do("GET", "key")
			return err
		}},
	}
	for _, callers := range []int{1, 64} {
		for _, way := range ways {
			b.Run(fmt.Sprintf("%s, callers=%d", way.name, callers), func(b *testing.B) {
				b.ReportAllocs()
				var begun atomic.Int64
				var wg sync.WaitGroup
				for range callers {
					wg.Go(func() {
						for begun.Add(1) <= int64(b.N) {
							if err := way.get(); err != nil {
								b.Error(err)
							}
						}
					})
				}
				wg.Wait()
			})
		}
	}
}

// TestMain ends the cluster that the tests share.
func TestMain(m *testing.M) {
	code := m.Run()
	redistest.StopShared()
	os.Exit(code)
}

// A reply that comes twice, in one piece or by itself, is nobody's the second time, also among those to commands that are
// sent together, and small or large.
func TestReplyComesTwice(t *testing.T) {
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		server.Do(0, "HSET", "key", "a", "b")
		for _, pause := range []time.Duration{0, 2 * time.Millisecond} {
			for _, alone := range []bool{false, true} {
				for _, size := range []int{1, 2 * largeCommand} {
					proxy := redistest.NewProxy(t, server)
					s := newServer(t, Target{Address: proxy.Addr}, 2, 3*time.Second)
					echo := func(text string) {
						t.Helper()
						c := NewCommand("key", 2, "ECHO")
						c.String(strings.Repeat(text, size))
						if alone {
							takeForLarge(s, c)
						}
						if r, err := s.Do(t.Context(), time.Now(), c); string(r.Value()) != strings.Repeat(text, size) || err != nil {
							t.Fatalf("pause %v, alone %v: %c %.20s, %v", pause, alone, r.kind, r.text, err)
						}
					}
					for i := range 10 {
						again := proxy.Twice(pause)
						if i%2 == 0 {
							echo("x")
						} else {
							r, err := s.DoAll(t.Context(), time.Now(), readAndTTL("key", "HGETALL"))
							checkPair(t, r, err)
						}
						<-again
						for _, text := range []string{"y", "z", "y"} {
							echo(text)
						}
					}
				}
			}
		}
	})
}

// A key that had a large reply gets a connection to itself, except for commands that are known to have small ones.
func TestLargeReplies(t *testing.T) {
	server := redistest.Start(t)
	for i := range 10 {
		server.Do(0, "HSET", "key", i, strings.Repeat("x", 2*largeCommand))
	}
	server.Do(0, "HSET", "key", "small", "value")
	s := newServer(t, Target{Address: server.Addr}, 4, 3*time.Second)
	get := func(name string, onLane bool) {
		t.Helper()
		c := NewCommand("key", 3, "HGET")
		c.String("key")
		c.String(name)
		before := s.lane.lastUsed
		if r, err := s.Do(t.Context(), time.Now(), c); err != nil || len(r.Value()) == 0 {
			t.Errorf("%s: %q, %v", name, r.Value(), err)
		}
		if got := s.lane.lastUsed != before; got != onLane {
			t.Errorf("%s: on the lane %v, want %v", name, got, onLane)
		}
	}
	get("1", true) // unforeseen
	get("2", false)
	get("small", false)
	get("small", true)
	get("2", false)
	server.Do(0, "HSET", "key", "small", strings.Repeat("x", 2*largeCommand))
	get("small", true)
	get("small", false)
}

// Who waits for a connection to itself until the timeout is told that all were in use.
func TestConnectionsInUse(t *testing.T) {
	s := newServer(t, Target{Address: redistest.Fake(t, func([]string) string { return "+PONG\r\n" })}, 2, 100*time.Millisecond)
	s.slots <- struct{}{}
	c := ping()
	c.Replicate(1)
	_, err := s.Do(t.Context(), time.Now(), c)
	if <-s.slots; !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "all 1 connections are in use") {
		t.Error(err)
	}
}
