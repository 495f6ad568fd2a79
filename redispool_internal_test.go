package pycket

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
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
