//go:build unix

package redisconn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pycket/pycket/internal/redistest"
)

// A reader whose time is up before that of the oldest call leaves the connection to the others.
func TestReaderWithLessTime(t *testing.T) {
	const timeout = 2 * time.Second
	proxy := redistest.NewProxy(t, redistest.Start(t))
	s := newServer(t, Target{Address: proxy.Addr}, 4, timeout)
	proxy.Hold()
	ctx, cancel := context.WithCancel(t.Context())
	first := start(s, ctx, time.Now(), ping())
	proxy.AwaitCommands(1)
	cancel() // its reply is still to come
	<-first
	reader := start(s, t.Context(), time.Now().Add(-timeout*9/100), ping())
	proxy.AwaitCommands(2)
	time.Sleep(timeout / 2)
	other := start(s, t.Context(), time.Now(), ping())
	proxy.AwaitCommands(3)
	if err := <-reader; !errors.Is(err, ErrUnavailable) || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the reader: %v", err)
	}
	proxy.Pass()
	if err := <-other; err != nil {
		t.Errorf("another caller: %v", err)
	}
}

// A reader may go in the middle of a reply, its own or another's. The next one continues there.
func TestReaderGoesInTheMiddle(t *testing.T) {
	for name, bytes := range map[string]string{
		"string": fmt.Sprintf("$%d\r\n%s\r\n", 40<<10, strings.Repeat("x", 40<<10)),
		"list":   "*3\r\n$5\r\nhello\r\n$-1\r\n$5\r\nworld\r\n",
		"line":   "+hello\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			came := make(chan net.Conn)
			s := newServer(t, Target{Address: redistest.FakeConn(t, func(c net.Conn, _ []string) { came <- c })}, 4, 20*time.Second)
			const parts = 4
			step := (len(bytes) + parts - 1) / parts
			for sent := 0; sent < parts*step; sent += step {
				ctx, cancel := context.WithCancel(t.Context())
				first := start(s, ctx, time.Now(), ping())
				(<-came).Write([]byte(bytes[sent:min(sent+step, len(bytes)-1)]))
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
			last := make(chan Reply, 1)
			go func() {
				r, err := s.Do(t.Context(), time.Now(), ping())
				if err != nil {
					t.Error(err)
				}
				last <- r
			}()
			// The end of the first reply, those of the calls that have gone, and the last one's.
			(<-came).Write([]byte(bytes[len(bytes)-1:] + strings.Repeat("+gone\r\n", parts-1) + ":42\r\n"))
			if r := <-last; r.kind != ':' || r.number != 42 {
				t.Errorf("%c %d %.20q", r.kind, r.number, r.text)
			}
		})
	}
}

// Many callers, some of whom go, share a connection that breaks now and then. Every reply is that of its command.
func TestManyCallers(t *testing.T) {
	server := redistest.Start(t)
	for name, cuts := range map[string]bool{"calm": false, "cuts": true} {
		t.Run(name, func(t *testing.T) {
			proxy := redistest.NewProxy(t, server)
			times := 100
			if cuts {
				proxy.CutRandomly(1)
				times = 20
			}
			s := newServer(t, Target{Address: proxy.Addr}, 4, 10*time.Second)
			var wg sync.WaitGroup
			for i := range 32 {
				wg.Go(func() {
					random := rand.New(rand.NewPCG(1, uint64(i)))
					for n := range times {
						ctx, cancel := context.WithCancel(t.Context())
						if random.IntN(4) == 0 {
							time.AfterFunc(time.Duration(random.IntN(3000))*time.Microsecond, cancel)
						}
						said := fmt.Sprintf("%d.%d.%s", i, n, strings.Repeat("x", random.IntN(3)*random.IntN(2000)))
						c := NewCommand("key", 2, "ECHO")
						c.String(said)
						if n%2 == 0 {
							c.Then(2, "PING")
							c.String("second " + said)
						}
						r, err := s.DoAll(ctx, time.Now(), c)
						cancel()
						switch {
						case err == nil:
							if string(r[0].Value()) != said || n%2 == 0 && string(r[1].Value()) != "second "+said {
								t.Errorf("%.20s: %.20s, %.20s", said, r[0].Value(), r[1].Value())
							}
						case errors.Is(err, context.Canceled), cuts && errors.Is(err, ErrUnavailable):
						default:
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
			if !cuts && proxy.Connections() != 1 {
				t.Errorf("%d connections", proxy.Connections())
			}
			if cuts && proxy.Cuts() == 0 {
				t.Error("nothing was cut")
			}
		})
	}
}

// A caller may go between the replies to its commands. The rest of them are dropped when they come.
func TestCallerGoesBetweenReplies(t *testing.T) {
	came := make(chan net.Conn)
	s := newServer(t, Target{Address: redistest.FakeConn(t, func(c net.Conn, _ []string) { came <- c })}, 4, 20*time.Second)
	pair := ping()
	pair.Then(1, "PING")
	ctx, cancel := context.WithCancel(t.Context())
	first := start(s, ctx, time.Now(), pair)
	(<-came).Write([]byte("+first\r\n"))
	<-came
	time.Sleep(3 * patience) // it is read by now, or a little later
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	last := start(s, t.Context(), time.Now(), ping())
	(<-came).Write([]byte("-ERR second\r\n+PONG\r\n"))
	if err := <-last; err != nil {
		t.Error(err)
	}
}

// An error among the replies to commands that are sent together ends none of the others' replies, and a connection
// that breaks between them is an error for both.
func TestBreaksBetweenReplies(t *testing.T) {
	var breaks atomic.Bool
	var connections atomic.Int64
	s := newServer(t, Target{Address: redistest.FakeConn(t, func(c net.Conn, words []string) {
		switch {
		case words[0] == "GET":
			io.WriteString(c, "+first\r\n")
		case breaks.Load():
			connections.Add(1)
			c.Close()
		default:
			io.WriteString(c, "+PONG\r\n")
		}
	})}, 4, 3*time.Second)
	pair := NewCommand("key", 1, "GET")
	pair.Then(1, "PING")
	for _, large := range []bool{false, true} {
		if large {
			s.large.add(pair.keyMark())
		}
		for _, repeatable := range []bool{true, false} {
			pair.repeatable = repeatable
			breaks.Store(true)
			connections.Store(0)
			_, err := s.DoAll(t.Context(), time.Now(), pair)
			tried := connections.Load()
			if !errors.Is(err, ErrUnavailable) || tried > 1 != repeatable || tried > 1+maxTries || strings.Contains(fmt.Sprint(err), "may have been carried out") == repeatable {
				t.Errorf("repeatable %v, large %v: tried %d times: %v", repeatable, large, tried, err)
			}
			breaks.Store(false)
			if r, err := s.DoAll(t.Context(), time.Now(), pair); err != nil || string(r[1].text) != "PONG" {
				t.Errorf("afterwards: %s, %v", r[1].text, err)
			}
		}
	}
}
