package redisconn

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// wire is a connection on which bytes come, some at a time.
type wire struct {
	net.Conn
	rest  []byte
	chunk int
}

func (w *wire) Read(p []byte) (int, error) {
	if len(w.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, w.rest[:min(w.chunk, len(w.rest))])
	w.rest = w.rest[n:]
	return n, nil
}

func (w *wire) SetReadDeadline(time.Time) error { return nil }

// readAll reads replies from a connection, as it is used: one after the other, up to the first error.
func readAll(data []byte, chunk int) (list []string) {
	w := &wire{rest: data, chunk: chunk}
	c := &conn{socket: w, in: bufio.NewReaderSize(w, readBuffer)}
	deadline := time.Now().Add(time.Hour)
	for {
		if c.await(context.Background(), deadline) != nil {
			return list
		}
		r, err := c.receive()
		if err != nil {
			return list
		}
		list = append(list, fmt.Sprintf("%c %d %q", r.kind, r.number, r.text))
		take(r)
	}
}

// take does all that is done to a reply.
func take(r Reply) {
	r.Number()
	r.Status()
	r.Value()
	r.IsNil()
	r.err()
	replies := Replies{r}
	replies.mayPass()
	items, _ := r.List()
	items.TrimMark("W")
	for left := len(items.rest); ; left = len(items.rest) {
		if _, more := items.Next(); !more {
			return
		}
		if len(items.rest) >= left {
			panic("Next has taken nothing")
		}
	}
}

// Any bytes can be read as replies: reading ends, without a panic; the replies are the same however the bytes are cut;
// and what a header merely claims takes no memory.
func FuzzReply(f *testing.F) {
	for _, data := range []string{
		"+OK\r\n", "-ERR wrong\r\n", ":42\r\n", ":-9223372036854775808\r\n", ":x\r\n", ":\r\n", "+\r\n", "\r\n", "\n", "+\n", "$\r\n", "*\r\n",
		"$-1\r\n", "*-1\r\n", "$0\r\n\r\n", "*0\r\n", "$5\r\nhello\r\n", "$5\r\nhelloXX+OK\r\n", "$5\r\nhell", "$x\r\n", "$-\r\n",
		"*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nW\r\n", "*2\r\n$-1\r\n:5\r\n", "*2\r\n$1\r\na\r\n", "*1\r\n+D12\r\n", "+D12\r\n+R\r\n+\r\n:1\r\n",
		"*1000000000\r\n", "*536870912\r\n", "*536870912\r\n$1\r\na\r\n", "$536870913\r\n", "$99999999999999999999\r\n", "$9223372036854775807\r\n", "*9223372036854775807\r\n", "$\r\nx\r\n", "_\r\n", ">1\r\n+a\r\n",
		strings.Repeat("*1\r\n", 100), "*2\r\n$1\r\na\r\n*1\r\n", "*1\r\n$3\r\n\r\n\r\n", strings.Repeat("+", 20<<10), "+" + strings.Repeat("x", 20<<10) + "\r\n",
		fmt.Sprintf("$%d\r\n%s\r\n", 20<<10, strings.Repeat("x", 20<<10)), fmt.Sprintf("*2\r\n$%d\r\n%s\r\n:1\r\n", 20<<10, strings.Repeat("x", 20<<10)),
	} {
		f.Add([]byte(data))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		defer func() { // or the other tests would not run
			if p := recover(); p != nil {
				t.Errorf("%v\n%s", p, debug.Stack())
			}
		}()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		whole := readAll(data, len(data)+1)
		cut := readAll(data, 1)
		runtime.ReadMemStats(&after)
		if diff := cmp.Diff(whole, cut); diff != "" {
			t.Errorf("(-in one piece +byte by byte):\n%s", diff)
		}
		if took, limit := after.TotalAlloc-before.TotalAlloc, uint64(1<<20+1000*len(data)); took > limit {
			t.Errorf("%d bytes took %d bytes of memory", len(data), took)
		}
		if size := frameSize(data); size < 0 || size > len(data) {
			t.Errorf("a frame of %d bytes, of %d", size, len(data))
		}
	})
}
