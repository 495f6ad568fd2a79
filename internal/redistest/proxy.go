//go:build unix

package redistest

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A Proxy is between a client and a server. It passes on whole commands and replies, remembers the commands, and
// delays, drops or cuts either when told to.
type Proxy struct {
	Addr string // host:port, for clients

	working sync.WaitGroup // its goroutines

	url         string
	mu          sync.Mutex
	changed     *sync.Cond // a field below, or a link's ended
	upstream    string
	links       map[*link]bool
	closed      bool
	connections int
	cuts        int

	sent     bytes.Buffer
	commands []string // their names
	trips    int
	passed   int // commands since Hold

	hold, clog                           bool
	dropReply, dropReplies, dropCommands bool
	again                                *repeat
	random                               *rand.Rand // nil: no random cuts
	rate                                 int        // 0: no limit
	delay, trickle                       time.Duration
	corrupt                              func(reply []byte) []byte // nil: nothing is changed
	turn                                 chan struct{}
}

// A repeat says when to pass on a reply a second time.
type repeat struct {
	after time.Duration
	done  chan struct{}
}

// A link is one client's connection and the one to the server that belongs to it.
type link struct {
	client, server net.Conn
	there, back    int // bytes until it breaks
	muted, ended   bool
	subscribed     bool // its client has sent SUBSCRIBE
	held           bool // its replies are kept back
}

// NewProxy starts a proxy to a server.
func NewProxy(t testing.TB, server *Server) *Proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return NewProxyOn(t, listener, server)
}

// NewProxyOn is [NewProxy] on a listener.
func NewProxyOn(t testing.TB, listener net.Listener, server *Server) *Proxy {
	at := listener.Addr().String()
	p := &Proxy{Addr: at, url: strings.Replace(server.URL(), server.Addr, at, 1), upstream: server.Addr, links: map[*link]bool{}, turn: make(chan struct{}, 1)}
	p.changed = sync.NewCond(&p.mu)
	ctx, cancel := context.WithCancel(context.Background())
	p.working.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			p.working.Go(func() { p.serve(ctx, client) })
		}
	})
	t.Cleanup(func() {
		cancel()
		listener.Close()
		p.set(func() {
			p.closed = true
			for l := range p.links {
				p.end(l)
			}
		})
		p.working.Wait()
	})
	return p
}

// URL returns the proxy's URL, redis://host:port, with the user of the server's.
func (p *Proxy) URL() string { return p.url }

// serve serves one connection.
func (p *Proxy) serve(ctx context.Context, client net.Conn) {
	defer client.Close()
	p.mu.Lock()
	p.connections++
	upstream := p.upstream
	p.mu.Unlock()
	server, err := new(net.Dialer).DialContext(ctx, "tcp", upstream)
	if err == nil {
		defer server.Close()
	}
	p.mu.Lock()
	if err != nil || p.closed {
		p.mu.Unlock()
		return
	}
	l := &link{client: client, server: server, there: math.MaxInt, back: math.MaxInt}
	p.links[l] = true
	if p.random != nil { // half of the links break while a command is sent, half while a reply is
		if p.random.IntN(2) == 0 {
			l.there = 1 + p.random.IntN(4000)
		} else {
			l.back = 1 + p.random.IntN(1000)
		}
	}
	p.mu.Unlock()
	p.working.Go(func() { p.passReplies(l) })
	p.passCommands(l)
}

func (p *Proxy) passCommands(l *link) {
	for in := bufio.NewReaderSize(l.client, 64<<10); ; {
		p.mu.Lock()
		for p.clog && !l.ended {
			p.changed.Wait()
		}
		p.mu.Unlock()
		first := in.Buffered() == 0 // of those that arrive together
		command, err := readValue(in, nil)
		words := bytes.SplitN(command, []byte("\r\n"), 4) // *1 $4 PING
		p.mu.Lock()
		if err != nil || len(words) < 4 {
			p.end(l)
			p.mu.Unlock()
			return
		}
		p.commands = append(p.commands, string(words[2]))
		l.subscribed = l.subscribed || string(words[2]) == "SUBSCRIBE"
		p.sent.Write(command)
		if first {
			p.trips++
		}
		if p.dropCommands {
			p.cut(l)
		}
		p.mu.Unlock()
		if !p.pass(l, l.server, &l.there, command) {
			return
		}
		p.set(func() { p.passed++ })
	}
}

func (p *Proxy) passReplies(l *link) {
	for in := bufio.NewReaderSize(l.server, 64<<10); ; {
		reply, err := readValue(in, nil)
		p.mu.Lock()
		for !l.ended && (p.hold || l.held) {
			p.changed.Wait()
		}
		muted := l.muted
		var again *repeat
		switch {
		case err != nil || l.ended:
			p.end(l)
		case muted:
		case p.dropReply || p.dropReplies:
			p.dropReply = false
			p.cut(l)
		default:
			again, p.again = p.again, nil
		}
		ended := l.ended
		p.mu.Unlock()
		if again != nil && again.after == 0 {
			reply = slices.Concat(reply, reply)
		}
		if ended {
			return
		}
		passed := muted || p.passReply(l, reply)
		if again != nil {
			if again.after > 0 {
				time.Sleep(again.after)
				p.passReply(l, reply)
			}
			close(again.done)
		}
		if !passed {
			return
		}
	}
}

// passReply passes a reply on, at the rate that Narrow allows.
func (p *Proxy) passReply(l *link, reply []byte) bool {
	p.mu.Lock()
	rate, delay, trickle := p.rate, p.delay, p.trickle
	if p.corrupt != nil {
		reply = p.corrupt(reply)
	}
	p.mu.Unlock()
	time.Sleep(delay)
	switch {
	case trickle > 0:
		for part := range slices.Chunk(reply, 1) {
			if !p.pass(l, l.client, &l.back, part) {
				return false
			}
			time.Sleep(trickle)
		}
		return true
	case rate == 0:
		return p.pass(l, l.client, &l.back, reply)
	}
	for part := range slices.Chunk(reply, 8<<10) {
		p.turn <- struct{}{} // first come, first served
		time.Sleep(time.Duration(len(part)) * time.Second / time.Duration(rate))
		passed := p.pass(l, l.client, &l.back, part)
		<-p.turn
		if !passed {
			return false
		}
	}
	return true
}

// pass passes data on, or as much of it as is left until the link breaks. It reports whether the link goes on.
func (p *Proxy) pass(l *link, to net.Conn, left *int, data []byte) bool {
	p.mu.Lock()
	breaks := *left <= len(data)
	data = data[:min(*left, len(data))]
	*left -= len(data)
	p.mu.Unlock()
	_, err := to.Write(data)
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case breaks:
		p.cut(l)
	case err != nil:
		p.end(l)
	}
	return !l.ended
}

// cut is end, counted. p.mu is held.
func (p *Proxy) cut(l *link) {
	if !l.ended {
		p.cuts++
	}
	p.end(l)
}

// end ends a link. p.mu is held.
func (p *Proxy) end(l *link) {
	l.ended = true
	l.client.Close()
	l.server.Close()
	delete(p.links, l)
	p.changed.Broadcast()
}

// set changes p and wakes whatever waits for a change.
func (p *Proxy) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
	p.changed.Broadcast()
}

// count reads one of p's counters.
func (p *Proxy) count(n *int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return *n
}

// Commands returns the names of the commands that are sent while f runs, as they were written: "EVALSHA".
func (p *Proxy) Commands(f func()) []string {
	var names []string
	before := 0
	p.set(func() { before = len(p.commands) })
	f()
	p.set(func() { names = slices.Clone(p.commands[before:]) })
	return names
}

// Trips returns how many round trips are made while f runs: commands that arrive together count as one.
func (p *Proxy) Trips(f func()) int {
	before := p.count(&p.trips)
	f()
	return p.count(&p.trips) - before
}

// Sent returns all commands that clients ever sent, in Redis's protocol.
func (p *Proxy) Sent() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sent.String()
}

// Forget drops what the proxy remembers of commands. Without it, memory grows with every command.
func (p *Proxy) Forget() { p.set(func() { p.sent, p.commands = bytes.Buffer{}, nil }) }

// Connections returns how many connections clients ever made.
func (p *Proxy) Connections() int { return p.count(&p.connections) }

// Cuts returns how many connections the proxy has broken by itself.
func (p *Proxy) Cuts() int { return p.count(&p.cuts) }

// Upstream sets the address that new connections lead to. If nobody listens there, they end at once.
func (p *Proxy) Upstream(addr string) { p.set(func() { p.upstream = addr }) }

// Hold keeps replies back until Pass.
func (p *Proxy) Hold() { p.set(func() { p.hold, p.passed = true, 0 }) }

// HoldSome keeps replies back on the connections that there are and that have subscribed to a channel, or on all others,
// until PassSome. AwaitCommands counts from then on.
func (p *Proxy) HoldSome(subscribed bool) { p.holdSome(subscribed, true) }

// PassSome passes on what HoldSome has kept back.
func (p *Proxy) PassSome(subscribed bool) { p.holdSome(subscribed, false) }

func (p *Proxy) holdSome(subscribed, held bool) {
	p.set(func() {
		p.passed = 0
		for l := range p.links {
			if l.subscribed == subscribed {
				l.held = held
			}
		}
	})
}

// AwaitCommands waits until n commands have been passed to the server since Hold.
func (p *Proxy) AwaitCommands(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.passed < n {
		p.changed.Wait()
	}
}

// Clog reads nothing until Pass, except for what it is already reading, a command on each connection: a client that
// writes more must wait.
func (p *Proxy) Clog() { p.set(func() { p.clog = true }) }

// Pass ends Hold and Clog. The replies that Hold kept back are passed on.
func (p *Proxy) Pass() { p.set(func() { p.hold, p.clog = false, false }) }

// Narrow passes on rate bytes of replies a second, over all connections together.
func (p *Proxy) Narrow(rate int) { p.set(func() { p.rate = rate }) }

// Delay passes every reply on after a pause, 0 for none.
func (p *Proxy) Delay(pause time.Duration) { p.set(func() { p.delay = pause }) }

// Trickle passes replies on byte by byte, with a pause after each; 0 ends it.
func (p *Proxy) Trickle(pause time.Duration) { p.set(func() { p.trickle = pause }) }

// Corrupt passes on what change makes of each reply, until it is nil. Calls of change follow one another.
func (p *Proxy) Corrupt(change func(reply []byte) []byte) { p.set(func() { p.corrupt = change }) }

// Mute drops all further replies on the current connections, and breaks none.
func (p *Proxy) Mute() {
	p.set(func() {
		for l := range p.links {
			l.muted = true
		}
	})
}

// DropReply drops the next reply and breaks its connection.
func (p *Proxy) DropReply() { p.set(func() { p.dropReply = true }) }

// DropReplies drops every reply while it is on, and breaks the connections.
func (p *Proxy) DropReplies(on bool) { p.set(func() { p.dropReplies = on }) }

// DropCommands drops every command while it is on, and breaks the connections.
func (p *Proxy) DropCommands(on bool) { p.set(func() { p.dropCommands = on }) }

// Twice passes the next reply on, and again after a pause, or together with the first if that is 0. Then it closes the
// channel that it returns.
func (p *Proxy) Twice(pause time.Duration) <-chan struct{} {
	again := &repeat{after: pause, done: make(chan struct{})}
	p.set(func() { p.again = again })
	return again.done
}

// Cut breaks all connections.
func (p *Proxy) Cut() {
	p.set(func() {
		for l := range p.links {
			p.cut(l)
		}
	})
}

// CutRandomly makes every new connection break after a random number of bytes, in the middle of a command
// or of a reply, until Calm.
func (p *Proxy) CutRandomly(seed uint64) {
	p.set(func() { p.random = rand.New(rand.NewPCG(seed, 0)) }) // #nosec G404 -- it is to be repeatable
}

// Calm ends CutRandomly, also for the current connections.
func (p *Proxy) Calm() {
	p.set(func() {
		p.random = nil
		for l := range p.links {
			l.there, l.back = math.MaxInt, math.MaxInt
		}
	})
}

// readValue reads a command or a reply and appends it to raw.
func readValue(in *bufio.Reader, raw []byte) ([]byte, error) {
	line, err := in.ReadBytes('\n')
	if err != nil {
		return raw, err
	}
	raw = append(raw, line...)
	switch line[0] {
	case '+', '-', ':':
		return raw, nil
	case '$', '*':
	default:
		return raw, fmt.Errorf("not of Redis's protocol: %q", line)
	}
	n, err := strconv.Atoi(string(bytes.TrimSpace(line[1:])))
	switch {
	case err != nil || n < 0: // nil
	case line[0] == '$':
		start := len(raw)
		raw = append(raw, make([]byte, n+len("\r\n"))...)
		_, err = io.ReadFull(in, raw[start:])
	default:
		for i := 0; i < n && err == nil; i++ {
			raw, err = readValue(in, raw)
		}
	}
	return raw, err
}

// Fake starts a server that answers each command with what reply returns, in Redis's protocol: "" is no answer.
// It returns the server's address.
func Fake(t testing.TB, reply func(words []string) string) (addr string) {
	t.Helper()
	return FakeConn(t, func(c net.Conn, words []string) { io.WriteString(c, reply(words)) })
}

// FakeConn is [Fake] with the connection that a command came on, to do anything with.
func FakeConn(t testing.TB, answer func(c net.Conn, words []string)) (addr string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for in := bufio.NewReader(c); ; {
					command, err := readValue(in, nil)
					if err != nil {
						return
					}
					var words []string // every other line of *2 $3 GET $1 a
					for i, line := range strings.Split(string(command), "\r\n") {
						if i > 0 && i%2 == 0 {
							words = append(words, line)
						}
					}
					answer(c, words)
				}
			}()
		}
	}()
	return listener.Addr().String()
}

// Vanished returns the address of a host that has vanished: dialing it blocks until the dialer gives up.
func Vanished(t testing.TB) string {
	t.Helper()
	return VanishedListener(t).Addr().String()
}

// VanishedListener is [Vanished]. The host comes back when connections are accepted.
func VanishedListener(t testing.TB) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	raw, err := listener.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var shortened error
	if err := raw.Control(func(fd uintptr) { shortened = syscall.Listen(int(fd), 0) }); err != nil || shortened != nil { // #nosec G115 -- a file descriptor
		t.Fatal(err, shortened)
	}
	for range 100 { // fill its backlog
		c, err := net.DialTimeout("tcp", listener.Addr().String(), 200*time.Millisecond)
		if err != nil {
			return listener
		}
		t.Cleanup(func() { c.Close() })
	}
	t.Fatal("the backlog does not fill")
	return nil
}
