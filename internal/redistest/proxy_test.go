//go:build unix

package redistest

import (
	"errors"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gomodule/redigo/redis"
)

func TestProxyCounts(t *testing.T) {
	Both(t, func(t *testing.T, server *Server) {
		proxy := NewProxy(t, server)
		if proxy.URL() != "redis://"+proxy.Addr {
			t.Errorf("URL %s", proxy.URL())
		}
		c := dial(t, proxy.Addr)
		use := func() {
			c.Do("set", "a", strings.Repeat("x", 1<<20))
			for range 3 {
				c.Send("GET", "a")
			}
			c.Flush()
			for range 3 {
				if text, err := redis.String(c.Receive()); len(text) != 1<<20 || err != nil {
					t.Errorf("%d bytes, %v", len(text), err)
				}
			}
			c.Do("LRANGE", "none", 0, -1)
			c.Do("NONE")
		}
		if got := proxy.Commands(use); !slices.Equal(got, []string{"set", "GET", "GET", "GET", "LRANGE", "NONE"}) {
			t.Errorf("commands: %q", got)
		}
		if got := proxy.Trips(use); got != 4 {
			t.Errorf("%d trips", got)
		}
		if sent := proxy.Sent(); strings.Count(sent, "*2\r\n$3\r\nGET\r\n$1\r\na\r\n") != 6 || len(sent) < 2<<20 {
			t.Errorf("%d bytes were sent", len(sent))
		}
		if got := proxy.Connections(); got != 1 {
			t.Errorf("%d connections", got)
		}
	})
}

func TestProxyHolds(t *testing.T) {
	Both(t, func(t *testing.T, server *Server) {
		proxy := NewProxy(t, server)
		c, left := dial(t, proxy.Addr), dial(t, proxy.Addr)
		c.Do("PING")
		proxy.Hold()
		done := make(chan error)
		go func() { _, err := c.Do("SET", "a", "b"); done <- err }()
		proxy.AwaitCommands(1)
		left.Send("GET", "a")
		left.Flush()
		proxy.AwaitCommands(2)
		left.Close() // what is held ends with its connection
		select {
		case err := <-done:
			t.Error("a held reply arrives", err)
		case <-time.After(50 * time.Millisecond):
		}
		server.Do(0, "GET", "a")
		proxy.Pass()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if _, err := c.Do("PING"); err != nil {
			t.Error(err)
		}
		proxy.Hold() // until its end
		c.Send("PING")
		c.Flush()
		proxy.AwaitCommands(1)
	})
}

func TestProxyBreaks(t *testing.T) {
	Both(t, func(t *testing.T, server *Server) {
		proxy := NewProxy(t, server)
		c, other := dial(t, proxy.Addr), dial(t, proxy.Addr)
		other.Do("PING")
		proxy.DropReply()
		if reply, err := c.Do("INCR", "n"); err == nil {
			t.Errorf("a dropped reply arrives: %v", reply)
		}
		if n, err := redis.Int(other.Do("GET", "n")); n != 1 || err != nil {
			t.Errorf("%d, %v: its command was not carried out, or another connection is broken", n, err)
		}
		if proxy.Cuts() != 1 {
			t.Errorf("%d cuts", proxy.Cuts())
		}
		proxy.Cut()
		if _, err := other.Do("PING"); err == nil {
			t.Error("a cut connection works")
		}
		if proxy.Cuts() != 2 {
			t.Errorf("%d cuts", proxy.Cuts())
		}
		dial(t, proxy.Addr).Do("PING")
	})
}

func TestProxyCutsRandomly(t *testing.T) {
	Both(t, func(t *testing.T, server *Server) {
		proxy := NewProxy(t, server)
		proxy.CutRandomly(1)
		for proxy.Cuts() < 50 {
			c := dial(t, proxy.Addr)
			for i := 0; ; i++ {
				if text, err := redis.String(c.Do("ECHO", strings.Repeat("x", i))); err != nil {
					break
				} else if len(text) != i {
					t.Fatalf("%d bytes for %d", len(text), i)
				}
			}
		}
		c := dial(t, proxy.Addr)
		c.Do("PING")
		proxy.Calm()
		for _, c := range []redis.Conn{c, dial(t, proxy.Addr)} {
			if _, err := c.Do("ECHO", strings.Repeat("x", 1<<20)); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestProxyDrops(t *testing.T) {
	Both(t, func(t *testing.T, server *Server) {
		proxy := NewProxy(t, server)
		for i, drop := range []func(on bool){proxy.DropReplies, proxy.DropCommands} {
			drop(true)
			for range 3 {
				if reply, err := dial(t, proxy.Addr).Do("INCR", "n"); err == nil {
					t.Errorf("a reply arrives: %v", reply)
				}
			}
			if n, err := redis.Int(server.Do(0, "GET", "n"), nil); n != 3+i || err != nil {
				t.Errorf("n is %d, %v", n, err)
			}
			drop(false)
			if _, err := dial(t, proxy.Addr).Do("INCR", "n"); err != nil {
				t.Error(err)
			}
		}
		if proxy.Cuts() != 6 {
			t.Errorf("%d cuts", proxy.Cuts())
		}
	})
}

func TestProxyMutes(t *testing.T) {
	proxy := NewProxy(t, StartEmbedded(t))
	c := dial(t, proxy.Addr)
	c.Do("PING")
	proxy.Mute()
	if _, err := redis.DoWithTimeout(c, 50*time.Millisecond, "PING"); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%v, want a timeout", err)
	}
	if _, err := dial(t, proxy.Addr).Do("PING"); err != nil {
		t.Error(err)
	}
}

func TestProxyClogs(t *testing.T) {
	proxy := NewProxy(t, StartEmbedded(t))
	c := dial(t, proxy.Addr)
	c.Do("PING")
	proxy.Clog()
	written := make(chan error)
	go func() {
		for range 32 {
			c.Send("ECHO", strings.Repeat("x", 1<<20)) // no kernel keeps them all
		}
		written <- c.Flush()
	}()
	select {
	case err := <-written:
		t.Errorf("all was written: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	proxy.Pass()
	for range 32 {
		if _, err := c.Receive(); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-written; err != nil {
		t.Error(err)
	}
}

func TestProxyNarrows(t *testing.T) {
	proxy := NewProxy(t, StartEmbedded(t))
	proxy.Narrow(1 << 20)
	began := time.Now()
	text, err := redis.String(dial(t, proxy.Addr).Do("ECHO", strings.Repeat("x", 100<<10)))
	if took := time.Since(began); len(text) != 100<<10 || took < 95*time.Millisecond || err != nil {
		t.Errorf("%d bytes in %v: %v", len(text), took, err)
	}
}

func TestProxyUpstream(t *testing.T) {
	first, second := StartEmbedded(t), StartEmbedded(t)
	proxy := NewProxy(t, first)
	c := dial(t, proxy.Addr)
	c.Do("PING")
	proxy.Upstream(second.Addr)
	dial(t, proxy.Addr).Do("SET", "on", "second")
	c.Do("SET", "on", "first")
	for server, want := range map[*Server]string{first: "first", second: "second"} {
		if got, _ := redis.String(server.Do(0, "GET", "on"), nil); got != want {
			t.Errorf("%q is on the %s server", got, want)
		}
	}
	second.Kill()
	if _, err := dial(t, proxy.Addr).Do("PING"); err == nil {
		t.Error("a dead server answers")
	}
	if got := proxy.Connections(); got != 3 {
		t.Errorf("%d connections", got)
	}
}

func TestProxyAnswersTwice(t *testing.T) {
	Both(t, func(t *testing.T, server *Server) {
		for _, pause := range []time.Duration{0, 50 * time.Millisecond} {
			proxy := NewProxy(t, server)
			c := dial(t, proxy.Addr)
			again := proxy.Twice(pause)
			for i, ask := range []string{"a", "b", "c"} {
				want := []string{"a", "a", "b"}[i] // shifted by one
				if got, err := redis.String(c.Do("ECHO", ask)); got != want || err != nil {
					t.Errorf("the reply to %q is %q, want %q: %v", ask, got, want, err)
				}
				if i > 0 {
					continue
				}
				select {
				case <-again:
					if pause > 0 {
						t.Error("the second copy is not later")
					}
				case <-time.After(pause / 2):
				}
				<-again
			}
		}
	})
}

func TestFake(t *testing.T) {
	c := dial(t, Fake(t, func(words []string) string { return "+" + strings.Join(words, " ") + "\r\n" }))
	if got, err := redis.String(c.Do("GET", "a")); got != "GET a" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

func TestVanished(t *testing.T) {
	addr := Vanished(t)
	c, err := net.DialTimeout("tcp", addr, time.Second)
	if err == nil {
		c.Close()
	}
	if timeout, ok := err.(net.Error); !ok || !timeout.Timeout() {
		t.Errorf("dialing ends with %v, want a timeout", err)
	}
}
