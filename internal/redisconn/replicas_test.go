//go:build unix

package redisconn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pycket/pycket/internal/redistest"
)

// A command that waits for replicas is sent together with its WAIT, on a connection to itself. What that says is the
// command's error, and its reply is there.
func TestReplicate(t *testing.T) {
	var mu sync.Mutex
	most := 3000      // milliseconds that WAIT may take
	var says string   // to WAIT
	var sent []string // the names of commands
	address := redistest.FakeConn(t, func(c net.Conn, words []string) {
		mu.Lock()
		defer mu.Unlock()
		sent = append(sent, words[0])
		switch {
		case words[0] == "WAIT":
			reply := says
			if ms, _ := strconv.Atoi(words[2]); words[1] != "2" || ms <= 0 || ms >= most { // or it is the last command's
				reply = fmt.Sprintf("-ERR %q\r\n", words)
			}
			io.WriteString(c, reply)
		case len(words) > 1:
			io.WriteString(c, "-"+words[1]+"\r\n")
		default:
			io.WriteString(c, "+PONG\r\n")
		}
	})
	s := newServer(t, Target{Address: address}, 4, 3*time.Second)
	say := func(said string) {
		mu.Lock()
		defer mu.Unlock()
		says = said
	}
	do := func(ctx context.Context, c *Command) (Reply, error) {
		c.Replicate(2)
		return s.Do(ctx, time.Now(), c)
	}
	for said, want := range map[string]string{
		":2\r\n":         "",
		":3\r\n":         "",
		":1\r\n":         "1 of 2",
		"+PONG\r\n":      "malformed",
		"-NOPERM no\r\n": "ACL SETUSER",
		"-UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)\r\n": "instance state changed",
	} {
		say(said)
		r, err := do(t.Context(), ping())
		if text, _ := r.Status(); text != "PONG" {
			t.Errorf("%q: the reply is %q", said, text)
		}
		switch {
		case want == "" && err != nil:
			t.Errorf("%q: %v", said, err)
		case want != "" && (!errors.Is(err, ErrNotReplicated) || errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), want)):
			t.Errorf("%q: %v, want %q", said, err, want)
		}
	}

	// Of a command that is refused, WAIT may say nothing for long.
	say("")
	refused := NewCommand("", 2, "GET")
	refused.String("ERR refused")
	if _, err := do(t.Context(), refused); !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrNotReplicated) || !strings.Contains(err.Error(), "refused") {
		t.Error(err)
	}

	// It is not repeated when the time, or the caller's, is over.
	mu.Lock()
	sent, most = nil, 400
	mu.Unlock()
	limited, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
	defer cancel()
	r, err := do(limited, NewCommand("", 1, "PING"))
	if text, _ := r.Status(); !errors.Is(err, ErrNotReplicated) && !errors.Is(err, context.DeadlineExceeded) || strings.Contains(err.Error(), "WAIT") {
		t.Errorf("%q, %v", text, err)
	}
	mu.Lock()
	defer mu.Unlock()
	if n := strings.Count(fmt.Sprint(sent), "PING"); n != 1 {
		t.Errorf("sent: %q", sent)
	}

	whole := NewScript("return 1", false).On(0, "key")
	whole.Replicate(2)
	if n := whole.Whole().withAsking().replicas; n != 2 {
		t.Errorf("a script that is sent whole waits for %d", n)
	}
}
