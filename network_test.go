package pycket_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pycket/pycket"
	"github.com/pycket/pycket/internal/redistest"
)

// What happens when the network between the application and Redis is slow, says nothing, leads elsewhere, or changes
// what it carries. docs/reliability.md has the table.

// A network that takes its time, or passes replies on byte by byte, changes nothing but how long it takes.
func TestNetworkIsSlow(t *testing.T) {
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		for name, slow := range map[string]func(p *redistest.Proxy){
			"delays":   func(p *redistest.Proxy) { p.Delay(10 * time.Millisecond) },
			"trickles": func(p *redistest.Proxy) { p.Trickle(100 * time.Microsecond) },
		} {
			t.Run(name, func(t *testing.T) {
				proxy, s := proxied(t, server)
				s.Redis.Timeout = 20 * time.Second
				site := unstartedSite(t, s)
				slow(proxy)
				parallel(4, func(i int) {
					b, own := site.browser(), fmt.Sprint("value of ", i)
					b.must("set:a:"+own, "note:x:"+own, "add:i:"+own, "inc:n:5")
					b.want([]outcome{{Value: own}, {Value: own}, {Value: "i=" + own}, {Value: 6.0}}, "get:a", "take:x", "drain", "inc:n:1")
				})
				equal(t, "connections", 1, proxy.Connections())
			})
		}
	})
}

// A reply that takes longer than the timeout to trickle in is an outage, and ends in time.
func TestTrickleBeyondTimeout(t *testing.T) {
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		proxy, s := proxied(t, server)
		s.Redis.Timeout = 2 * shortTimeout
		site := unstartedSite(t, s)
		b := site.browser()
		b.must("set:a:"+strings.Repeat("x", 200), "get:a")
		proxy.Trickle(shortTimeout / 20)
		began := time.Now()
		b.tab().want([]outcome{{Value: "", Err: "ErrUnavailable"}}, "get:a")
		if took := time.Since(began); took > bound {
			t.Errorf("it took %v", took)
		}
		proxy.Trickle(0)
		b.want([]outcome{{}, {Value: "after"}}, "set:a:after", "get:a")
	})
}

// corrupted changes one byte of those that say how a reply is to be read: a type, a digit of a length, the end of a line.
func corrupted(random *rand.Rand, reply []byte) []byte {
	framing := []int{}
	for i := 0; i < len(reply); {
		end := i + strings.Index(string(reply[i:]), "\n") + 1
		framing = append(framing, i, end-2, end-1)
		next := end
		if kind := reply[i]; kind == '$' || kind == '*' {
			for at := i + 1; at < end-2; at++ {
				framing = append(framing, at)
			}
			if n, err := strconv.Atoi(string(reply[i+1 : end-2])); kind == '$' && err == nil && n >= 0 {
				framing = append(framing, end+n, end+n+1)
				next = end + n + 2
			}
		}
		i = next
	}
	changed := slices.Clone(reply)
	changed[framing[random.IntN(len(framing))]] = "0123456789+-:*$\r\nx"[random.IntN(18)]
	return changed
}

// A network that changes what says where replies end makes operations fail, and gives nobody what is another's.
func TestNetworkCorrupts(t *testing.T) {
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		proxy, s := proxied(t, server)
		s.Redis.Timeout = 2 * shortTimeout
		site := unstartedSite(t, s)
		const browsers = 12
		var list [browsers]*browser
		for i := range list {
			list[i] = site.browser()
			list[i].must(fmt.Sprintf("login:user%d", i), fmt.Sprintf("set:a:user%d", i))
		}
		random := rand.New(rand.NewPCG(1, 2))
		proxy.Corrupt(func(reply []byte) []byte {
			if random.IntN(4) > 0 {
				return reply
			}
			return corrupted(random, reply)
		})
		var failures, successes atomic.Int64
		parallel(browsers, func(i int) {
			b, own := list[i], fmt.Sprintf("user%d", i)
			for n := range 20 {
				ops := []string{"get:a", "user", "note:x:" + own, "add:i:" + own, "take:x", "drain", "set:a:" + own, "inc:n" + own + ":1", "keys"}
				_, outcomes, err := b.tab().try(ops[n%len(ops)], ops[(n+1+n/9)%len(ops)])
				noError(t, err)
				for _, o := range outcomes {
					if o.Err != "" {
						failures.Add(1)
						continue
					}
					successes.Add(1)
					said := strings.ReplaceAll(fmt.Sprint(o.Value), own+" ", " ")
					said = strings.ReplaceAll(said+"\n", own+"\n", "\n")
					said = strings.ReplaceAll(said, own+"]", "]")
					if strings.Contains(said, "user") {
						t.Errorf("%s is answered %v", own, o.Value)
					}
				}
			}
		})
		t.Logf("%d operations have failed, %d not", failures.Load(), successes.Load())
		if failures.Load() == 0 || successes.Load() == 0 {
			t.Error("nothing was tried")
		}
		proxy.Corrupt(nil)
		proxy.Cut() // what was corrupted before may still be on its way
		for i, b := range list {
			own := fmt.Sprintf("user%d", i)
			b.want([]outcome{{Value: own}, {Value: own}}, "get:a", "user")
		}
	})
}

// A server that accepts connections and never answers ends every operation in time, whoever connects, greets or waits,
// and leaves nothing behind. When it answers again, the first request works.
func TestServerNeverAnswers(t *testing.T) {
	server := redistest.Start(t)
	inCluster := redistest.SharedCluster(t)
	proxy := redistest.NewProxy(t, server)
	seed := redistest.NewProxy(t, inCluster.Nodes()[0])
	hang := make(chan struct{})
	for name, redis := range map[string]pycket.RedisSettings{
		"single":           {URL: "redis://" + proxy.Addr},
		"with a password":  {URL: "redis://:PASSWORD@" + proxy.Addr},
		"TLS":              {URL: "rediss://" + proxy.Addr},
		"one database":     {URL: "redis://" + proxy.Addr + "/0"},
		"cluster":          {Cluster: []string{seed.Addr}},
		"sentinel":         {Sentinel: pycket.SentinelSettings{Master: "watched", Addresses: []string{proxy.Addr}}},
		"one connection":   {URL: "redis://" + proxy.Addr, MaxConnections: 1},
		"two connections":  {URL: "redis://" + proxy.Addr, MaxConnections: 2},
		"through a dialer": {URL: "redis://" + proxy.Addr, Dial: new(net.Dialer).DialContext},
		"a dialer that hangs": {URL: "redis://" + proxy.Addr, Dial: func(context.Context, string, string) (net.Conn, error) {
			<-hang // whatever its context says
			return nil, errors.New("nobody is there")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			ignore := goleak.IgnoreCurrent()
			proxy.Clog()
			seed.Clog()
			redis.Timeout = shortTimeout
			site := unstartedSite(t, pycket.Settings{Secrets: []string{secret}, Redis: redis, Logger: slog.New(slog.DiscardHandler)})
			parallel(8, func(i int) {
				time.Sleep(time.Duration(i) * shortTimeout / 8) // some come while others are connecting
				for _, value := range []string{"small", large} {
					began := time.Now()
					site.browser().want([]outcome{{Err: "ErrUnavailable"}}, "set:a:"+value)
					if took := time.Since(began); took > bound/2 {
						t.Errorf("it took %v, and the timeout is %v", took, shortTimeout)
					}
				}
			})
			proxy.Pass()
			seed.Pass()
			if strings.HasPrefix(name, "single") || strings.HasSuffix(name, "connections") || name == "cluster" || name == "through a dialer" || name == "one database" {
				b := site.browser()
				b.must("set:a:b")
				b.want([]outcome{{Value: "b"}}, "get:a")
			}
			site.app.Close()
			if name == "a dialer that hangs" {
				close(hang)
			}
			proxy.Cut()
			seed.Cut()
			goleak.VerifyNone(t, ignore, goleak.IgnoreAnyFunction("github.com/pycket/pycket/internal/redistest.(*Proxy).passCommands"))
		})
	}
}

// A partition that drops all packets, in both directions, breaks no connection by itself. Operations fail in time, and
// the first request after it works.
func TestPartition(t *testing.T) {
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		proxy, s := proxied(t, server)
		s.Redis.Timeout = 2 * shortTimeout
		site := unstartedSite(t, s)
		b := site.browser()
		b.must("login:ann", "set:a:b", "inc:n:0")
		for range 3 {
			proxy.Mute()
			proxy.Clog()
			parallel(8, func(i int) {
				began := time.Now()
				ops := []string{"get:a", "set:a:late", "inc:n:1"}
				if _, list, err := b.tab().try(ops[i%3]); err != nil || list[0].Err != "ErrUnavailable" {
					t.Errorf("%s: %v, %v", ops[i%3], list, err)
				}
				if took := time.Since(began); took > bound {
					t.Errorf("%s took %v", ops[i%3], took)
				}
			})
			proxy.Cut() // the packets were dropped: those of before do not arrive
			proxy.Pass()
			proxy.Cut() // nor do those of a connection that was begun in between
			b.want([]outcome{{Value: "ann"}, {}, {Value: "b"}}, "user", "set:a:b", "get:a")
		}
	})
}

// nameServer is a small DNS server that says which address every name has, "" to answer nothing.
func nameServer(t *testing.T) (resolver *net.Resolver, says *atomic.Pointer[string]) {
	t.Helper()
	says = new(atomic.Pointer[string])
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		for buffer := make([]byte, 512); ; {
			n, from, err := c.ReadFrom(buffer)
			if err != nil {
				return
			}
			ip := net.ParseIP(*says.Load()).To4()
			if ip == nil || n < 12 {
				continue
			}
			question := buffer[12:n] // a name, its type, its class
			question = question[:strings.IndexByte(string(question), 0)+5]
			header := slices.Concat(buffer[:2], []byte{0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}) // RFC 1035, section 4.1.1
			answer := []byte(nil)
			if kind := binary.BigEndian.Uint16(question[len(question)-4:]); kind == 1 { // A
				header[7] = 1
				answer = slices.Concat([]byte{0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4}, ip)
			}
			c.WriteTo(slices.Concat(header, question, answer), from)
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", c.LocalAddr().String())
	}}, says
}

// DNS is asked for every new connection, and only then. While it does not answer, connections that are there serve; when
// it names another address, the next connection leads there.
func TestNameServer(t *testing.T) {
	old, next := redistest.Start(t), redistest.Start(t)
	addresses := map[string]string{"192.0.2.1": old.Addr, "192.0.2.2": next.Addr} // which are nobody's
	resolver, says := nameServer(t)
	proxy, s := proxied(t, old)
	addresses["192.0.2.1"] = proxy.Addr
	s.Redis.URL, s.Redis.Timeout = "redis://redis.test:6379", shortTimeout
	s.Redis.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		host, _, _ := net.SplitHostPort(address)
		found, err := resolver.LookupHost(ctx, host)
		if err != nil {
			return nil, err
		}
		return new(net.Dialer).DialContext(ctx, network, addresses[found[0]])
	}
	site := unstartedSite(t, s)
	answer := func(address string) { says.Store(&address) }
	answer("192.0.2.1")
	b := site.browser()
	for range 20 { // the first connection may be slow
		if _, list, _ := b.try("set:a:b"); list[0].Err == "" {
			break
		}
	}
	answer("")
	b.want([]outcome{{Value: "b"}, {}}, "get:a", "set:a:c")
	proxy.Cut()
	began := time.Now()
	b.want([]outcome{{Value: "", Err: "ErrUnavailable"}, {Err: "ErrUnavailable"}}, "get:a", "set:a:d")
	if took := time.Since(began); took > bound {
		t.Errorf("it took %v", took)
	}
	answer("192.0.2.1")
	b.want([]outcome{{Value: "c"}}, "get:a")
	key := old.OnlyKey()
	for name, value := range old.Hash(0, key) {
		next.Do(0, "HSET", key, name, value)
	}
	next.Do(0, "HSET", key, "a", `"next"`)
	next.Do(0, "PEXPIRE", key, time.Hour.Milliseconds())
	answer("192.0.2.2")
	old.Kill()
	proxy.Cut()
	b.want([]outcome{{Value: "next"}, {}}, "get:a", "set:a:after")
}
