package pycket_test

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/pycket/pycket"
	"github.com/pycket/pycket/internal/redistest"
)

// What happens when the network between the application and Redis is slow, says nothing, leads elsewhere, or changes
// what it carries. docs/reliability.md has the table.

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

// named makes settings lead to the server that a name server names, by one of these addresses, which are nobody's.
func named(t *testing.T, s *pycket.Settings, servers map[string]string) (answer func(address string)) {
	resolver, says := nameServer(t)
	u, err := url.Parse(s.Redis.URL)
	require(t, err)
	u.Host = "redis.test:6379"
	s.Redis.URL = u.String()
	s.Redis.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		host, _, _ := net.SplitHostPort(address)
		found, err := resolver.LookupHost(ctx, host)
		if err != nil {
			return nil, err
		}
		return new(net.Dialer).DialContext(ctx, network, servers[found[0]])
	}
	return func(address string) { says.Store(&address) }
}

// DNS is asked for every new connection, and only then. While it does not answer, connections that are there serve; when
// it names another address, the next connection leads there.
func TestNameServer(t *testing.T) {
	old, next := redistest.Start(t), redistest.Start(t)
	proxy, s := proxied(t, old)
	answer := named(t, &s, map[string]string{"192.0.2.1": proxy.Addr, "192.0.2.2": next.Addr})
	s.Redis.Timeout = shortTimeout
	site := unstartedSite(t, s)
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

// No byte of those that say what a script's answer is makes another answer of it: what a request gets is right, or it is
// ErrUnavailable.
func TestCorruptedOutcome(t *testing.T) {
	server := redistest.Start(t)
	proxy, s := proxied(t, server)
	s.Redis.Timeout = time.Second
	site := newSite(t, s)
	site.browser().must(append([]string{"set:a:b"}, everyOperation...)...) // the server has then seen the scripts
	visit := func(before, op string, corrupt func(reply []byte) []byte) (outcome, string) {
		other := site.browser()
		other.must("setmany:a:b:n:1", "note:a:b", "add:i:t", "add:i:u")
		b := other.tab()
		if before != "" {
			other.must(before)
		}
		var first []byte
		proxy.Corrupt(func(reply []byte) []byte {
			if first == nil {
				first = slices.Clone(reply)
			}
			return corrupt(slices.Clone(reply))
		})
		_, list := b.do(op)
		proxy.Corrupt(nil)
		return list[0], string(first)
	}
	try := func(before, op string) {
		right, reply := visit(before, op, slices.Clone[[]byte])
		number := 1
		switch reply[0] {
		case ':':
			number = strings.Index(reply, "\r")
		case '+': // and a time
			number = len("+DD")
		}
		for at := range number {
			for _, c := range "*:$+-0123456789DR" {
				got, _ := visit(before, op, func(reply []byte) []byte { reply[at] = byte(c); return reply })
				own := op == "handle" || op == "expiry" // what is right is the session's own
				if got.Err != "ErrUnavailable" && !cmp.Equal(got, right) && !(own && got.Err == "") {
					t.Errorf("%s, then %s, byte %d of %q changed into %q: %v", before, op, at, reply, c, got)
				}
			}
		}
	}
	for _, op := range everyOperation {
		try("", op)
	}
	for _, before := range []string{"rotate", "destroy"} { // in another tab
		try(before, "set:a:c")
		try(before, "destroy")
	}
}
