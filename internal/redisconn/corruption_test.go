//go:build unix

package redisconn

import (
	"bufio"
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
)

// An exchange is a command, and the replies to it, which only it may get.
type exchange struct {
	name    string
	command *Command
	wire    string
}

// exchanges returns the kinds of commands that sessions use, for a session of that name. What its replies hold has the
// name in it, but for those that say only how a command ended.
func exchanges(session string) []exchange {
	bulk := func(texts ...string) string {
		var b strings.Builder
		fmt.Fprintf(&b, "*%d\r\n", len(texts))
		for _, text := range texts {
			fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(text), text)
		}
		return b.String()
	}
	script := func(args ...string) *Command {
		c := NewScript("return 1", false).On(1+len(args), "key")
		for _, arg := range append([]string{"verifier of " + session}, args...) {
			c.String(arg)
		}
		return c
	}
	one := NewCommand("key", 4, "HMGET")
	for _, word := range []string{"key", "pycket:id", "a"} {
		one.String(word)
	}
	one.Then(2, "PTTL")
	one.String("key")
	return []exchange{
		{"a read", readAndTTL("key", "HGETALL"), bulk("pycket:id", session, "a", session+"'s") + ":86400\r\n" + bulk("1764547200", "123456")},
		{"a read of one value", one, bulk(session, session+"'s") + ":86400\r\n"},
		{"a write", script(), ":1\r\n"},
		{"a script's list", script(), bulk("", session+"'s", "verifier of "+session)},
		{"a script's number", script(), bulk("", session, "verifier of "+session)},
		{"an end", script(), "+D123 " + session + "\r\n"},
	}
}

// corruptions calls f with the reply once for every byte that says how a reply is to be read, changed into every byte
// that means something there, and one that does not. What is in a string is left as it is.
func corruptions(wire string, f func(corrupted string)) {
	for i := 0; i < len(wire); {
		end := i + strings.Index(wire[i:], "\n") + 1
		framing := []int{i, end - 2, end - 1}
		next := end
		if n, err := strconv.Atoi(wire[i+1 : end-2]); err == nil && wire[i] != ':' {
			for at := i + 1; at < end-2; at++ {
				framing = append(framing, at)
			}
			if wire[i] == '$' {
				framing = append(framing, end+n, end+n+1)
				next = end + n + 2
			}
		}
		for _, at := range framing {
			for _, b := range "0123456789+-:*$_\r\nx" {
				if byte(b) != wire[at] {
					f(wire[:at] + string(b) + wire[at+1:])
				}
			}
		}
		i = next
	}
}

// A byte that the network has changed, of those that say where a reply ends and what it is, is noticed before any command
// gets what is another's: the connection breaks then, and no command after it is answered.
func TestCorruptedFraming(t *testing.T) {
	deadline := time.Now().Add(time.Hour)
	in := bufio.NewReaderSize(nil, readBuffer)
	tried, noticed := 0, 0
	for _, first := range exchanges("ann") {
		for _, second := range exchanges("bob") {
			for _, third := range exchanges("eve") {
				corruptions(first.wire, func(corrupted string) {
					w := &wire{rest: []byte(corrupted + second.wire + third.wire), chunk: 1 << 20}
					in.Reset(w)
					c := &conn{socket: w, in: in}
					tried++
					for i, e := range []exchange{first, second, third} {
						said := ""
						for n := range e.command.replies {
							err := c.await(context.Background(), deadline)
							var r Reply
							if err == nil {
								r, err = c.receive()
							}
							if err != nil || !e.command.accept(&r, n) {
								noticed++
								return
							}
							if r.kind != '-' { // of which callers are told that the command has failed
								said += string(r.text)
							}
						}
						own := []string{"ann", "bob", "eve"}[i]
						for _, other := range []string{"ann", "bob", "eve"} {
							if other != own && strings.Contains(said, other) {
								t.Fatalf("%q, then %s and %s: %s's reply is %q", corrupted, second.name, third.name, own, said)
							}
						}
					}
				})
			}
		}
	}
	t.Logf("%d of %d corruptions were noticed", noticed, tried)
	if noticed < tried*99/100 {
		t.Errorf("only %d of %d corruptions were noticed", noticed, tried)
	}
}
