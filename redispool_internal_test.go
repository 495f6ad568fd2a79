package pycket

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gomodule/redigo/redis"
)

// A caller with little time left gives up by itself; the connection, and who shares it, has a timeout of its own.
func TestLittleTimeLeft(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	came, answer := make(chan bool, 2), make(chan bool)
	go func() {
		c, err := listener.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		in := bufio.NewScanner(c)
		for in.Scan() { // *1 $4 PING
			if in.Text() == "PING" {
				came <- true
				go func() { <-answer; c.Write([]byte("+PONG\r\n")) }()
			}
		}
	}()
	const timeout = time.Second
	p := newRedisPool(redisTarget{network: "tcp", address: listener.Addr().String()}, 0, 4, timeout)
	defer p.close()
	begun := make(chan error, 2)
	go func() { // it waits for longer than the other has
		_, err := p.do(context.Background(), time.Now(), false, "", "PING")
		begun <- err
	}()
	<-came
	_, err = p.do(context.Background(), time.Now().Add(-timeout*9/10), false, "", "PING")
	if !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	close(answer)
	if err := <-begun; err != nil {
		t.Errorf("another caller: %v", err)
	}
	if _, err := p.do(context.Background(), time.Now().Add(-2*timeout), false, "", "PING"); !errors.Is(err, ErrUnavailable) {
		t.Errorf("with no time left: %v", err)
	}
}

// pinged is a pool whose server tells of each PING, and answers when and what it is told.
func pinged(t *testing.T, timeout time.Duration) (p *redisPool, came chan bool, answer func(bytes string)) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	came = make(chan bool, 10)
	conns := make(chan net.Conn, 10)
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { c.Close() })
			conns <- c
			go func() {
				for in := bufio.NewScanner(c); in.Scan(); { // *1 $4 PING
					if in.Text() == "PING" {
						came <- true
					}
				}
			}()
		}
	}()
	p = newRedisPool(redisTarget{network: "tcp", address: listener.Addr().String()}, 0, 4, timeout)
	t.Cleanup(func() { p.close() })
	var first net.Conn
	return p, came, func(bytes string) {
		if first == nil {
			first = <-conns
		}
		first.Write([]byte(bytes))
	}
}

// Whose time is up earlier than that of the oldest call, while he reads, leaves the connection to the others.
func TestReaderWithLessTime(t *testing.T) {
	const timeout = 2 * time.Second
	p, came, answer := pinged(t, timeout)
	do := func(ctx context.Context, ago time.Duration) chan error {
		done := make(chan error, 1)
		go func() {
			_, err := p.do(ctx, time.Now().Add(-ago), false, "", "PING")
			done <- err
		}()
		<-came
		return done
	}
	ctx, cancel := context.WithCancel(context.Background())
	first := do(ctx, 0)
	cancel() // its reply is still to come
	<-first
	reader := do(context.Background(), timeout*9/100)
	time.Sleep(timeout / 2)
	other := do(context.Background(), 0)
	if err := <-reader; !errors.Is(err, ErrUnavailable) || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the reader: %v", err)
	}
	answer("+PONG\r\n+PONG\r\n+PONG\r\n")
	if err := <-other; err != nil {
		t.Errorf("another caller: %v", err)
	}
}

// A reader may go in the middle of a reply, its own or another's; who reads next goes on there.
func TestReaderGoesInTheMiddle(t *testing.T) {
	for name, bytes := range map[string]string{
		"string": fmt.Sprintf("$%d\r\n%s\r\n", 40<<10, strings.Repeat("x", 40<<10)),
		"list":   "*3\r\n$5\r\nhello\r\n$-1\r\n$5\r\nworld\r\n",
		"line":   "+hello\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			p, came, answer := pinged(t, 20*time.Second)
			sent := 0
			step := (len(bytes) + 3) / 4
			for sent < len(bytes) {
				ctx, cancel := context.WithCancel(context.Background())
				first := make(chan error, 1)
				go func() {
					_, err := p.do(ctx, time.Now(), false, "", "PING")
					first <- err
				}()
				<-came
				part := bytes[sent:min(sent+step, len(bytes)-1)]
				if sent += len(part); len(part) == 0 {
					cancel()
					<-first
					break
				}
				answer(part)
				time.Sleep(3 * patience) // it is read by now, or a little later
				cancel()
				select {
				case err := <-first:
					if !errors.Is(err, context.Canceled) {
						t.Error(err)
					}
				case <-time.After(10 * time.Second):
					t.Fatal("it stays although its context has ended")
				}
			}
			last := make(chan reply, 1)
			go func() {
				r, err := p.do(context.Background(), time.Now(), false, "", "PING")
				if err != nil {
					t.Error(err)
				}
				last <- r
			}()
			<-came
			// The end of the first reply, those of the calls that have gone, and the last one's.
			answer(bytes[len(bytes)-1:] + strings.Repeat("+gone\r\n", 4) + ":42\r\n")
			if r := <-last; r.kind != ':' || r.number != 42 {
				t.Errorf("%c %d %.20q", r.kind, r.number, r.text)
			}
		})
	}
}

// Who says that it is not the master is left, and so is who a script's answer says it of; the next command goes to
// who is there now.
func TestLeavesWhoIsNotMaster(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	var says atomic.Pointer[string]
	var connections atomic.Int64
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			connections.Add(1)
			go func() {
				defer c.Close()
				for in := bufio.NewScanner(c); in.Scan(); {
					if in.Text() == "PING" {
						c.Write([]byte(*says.Load() + "\r\n"))
					}
				}
			}()
		}
	}()
	target := redisTarget{network: "tcp", address: listener.Addr().String()}
	pool := newRedisPool(target, 0, 4, 3*time.Second)
	defer pool.close()
	cluster := newRedisCluster([]string{target.address}, target, 3*time.Second, nil)
	inCluster := newRedisPool(target, 0, 4, 3*time.Second)
	for slot := range cluster.slots {
		cluster.slots[slot] = inCluster
	}
	cluster.servers[target.address] = inCluster
	cluster.learned = time.Now().Add(time.Hour) // nobody here knows of slots
	defer cluster.close()
	for name, client := range map[string]redisClient{"single": pool, "cluster": cluster} {
		for _, size := range []int{0, 2 * largeCommand} { // over the shared connection, and over another
			t.Run(fmt.Sprint(name, size), func(t *testing.T) {
				do := func(said string) (opened int64) {
					t.Helper()
					before := connections.Load()
					says.Store(&said)
					ctx, cancel := context.WithCancel(context.Background())
					if said[0] == '-' && name == "cluster" { // which tries until it is better
						time.AfterFunc(50*time.Millisecond, func() { ok := "+PONG"; says.Store(&ok) })
					}
					_, err := client.do(ctx, time.Now(), true, "key", "PING", make([]byte, size))
					cancel()
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

// BenchmarkConnections measures the same GET over the shared connection, over one of the pool and by
// redigo alone, with one caller and with 64. It needs a Redis:
//
//	REDIS_URL=redis://127.0.0.1:6379 go test -run - -bench Connections
func BenchmarkConnections(b *testing.B) {
	url := os.Getenv("REDIS_URL")
	if url == "" {
		b.Skip("REDIS_URL is not set")
	}
	target, err := parseRedisURL(url)
	if err != nil {
		b.Fatal(err)
	}
	p := newRedisPool(target, 0, defaultMaxConnections, defaultTimeout)
	defer p.close()
	bare := &redis.Pool{MaxIdle: 64, Dial: func() (redis.Conn, error) { return redis.DialURL(url) }}
	defer bare.Close()
	ways := []struct {
		name string
		get  func() error
	}{
		{"shared", func() error {
			_, err := p.lane.do(context.Background(), time.Now(), time.Now().Add(p.timeout), "GET", []any{"key"})
			return err
		}},
		{"pool", func() error {
			_, err := p.doAlone(context.Background(), time.Now(), time.Now().Add(p.timeout), "GET", []any{"key"})
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
				if callers == 1 {
					for b.Loop() {
						if err := way.get(); err != nil {
							b.Fatal(err)
						}
					}
					return
				}
				b.SetParallelism(callers / 2)
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						if err := way.get(); err != nil {
							b.Error(err)
						}
					}
				})
			})
		}
	}
}
