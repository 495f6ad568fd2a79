package redisconn

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/gomodule/redigo/redis"
)

// A Reply is a reply of Redis to a command.
type Reply struct {
	kind   byte   // the first byte of RESP, '_' for nil
	number int64  // of a list: how many items it has
	text   []byte // of a list: its items in RESP
}

// Replies are the replies to the commands of a [Command], in their order.
type Replies [maxReplies]Reply

func (r *Replies) err(n int) error {
	for i := range n {
		if err := r[i].err(); err != nil {
			return err
		}
	}
	return nil
}

// failed reports whether one of the first n replies is an error.
func (r *Replies) failed(n int) bool {
	return slices.ContainsFunc(r[:n], func(reply Reply) bool { return reply.kind == '-' })
}

func (r *Replies) notMaster() bool {
	for i := range r {
		if r[i].notMaster() {
			return true
		}
	}
	return false
}

func (r *Replies) size() (bytes int) {
	for i := range r {
		bytes += len(r[i].text)
	}
	return bytes
}

// Number returns an integer reply.
func (r Reply) Number() (n int64, ok bool) { return r.number, r.kind == ':' }

// Status returns a simple string, such as OK.
func (r Reply) Status() (text string, ok bool) { return string(r.text), r.kind == '+' }

// Value returns a string reply, nil for any other.
func (r Reply) Value() []byte {
	if r.kind == '$' {
		return r.text
	}
	return nil
}

// IsNil reports whether the reply is nil.
func (r Reply) IsNil() bool { return r.kind == '_' }

// List returns an array of strings, an empty one for any other reply.
func (r Reply) List() (items List, ok bool) {
	if r.kind != '*' {
		return List{}, false
	}
	return List{r.text}, true
}

// err returns the error that the reply is, or nil.
func (r Reply) err() error {
	if r.kind != '-' {
		return nil
	}
	switch text := string(r.text); {
	case strings.Contains(text, "WRONGTYPE"):
		return ErrWrongType
	case adviceOnWrites(text) != "":
		return unavailable(Refusal{redis.Error(text)})
	default:
		return unavailable(withoutArgs(redis.Error(text)))
	}
}

// notMaster reports whether the server says that it is not the master, or not ready yet. After a failover behind one
// address, a new connection leads to the server that is.
func (r Reply) notMaster() bool {
	return r.kind == '-' && (bytes.Contains(r.text, []byte("READONLY")) || bytes.HasPrefix(r.text, []byte("MASTERDOWN")) || bytes.HasPrefix(r.text, []byte("LOADING")))
}

// A List is an array of strings, still in RESP. Its items share its memory, which nothing writes to. The zero List is
// empty.
type List struct{ rest []byte }

// Next removes the first item and returns it. The item is nil if it is not a string; ok is false at the end of the
// list.
func (l *List) Next() (item []byte, ok bool) {
	if len(l.rest) == 0 {
		return nil, false
	}
	n, header := bulk(l.rest)
	if n < 0 {
		l.rest = l.rest[header:]
		return nil, true
	}
	item, l.rest = l.rest[header:header+n:header+n], l.rest[header+n+2:]
	return item, true
}

// Size returns how much memory the items take, in bytes.
func (l List) Size() int { return len(l.rest) }

// TrimMark removes the last item if it is mark, and reports whether it was.
func (l *List) TrimMark(mark string) bool {
	rest, ok := bytes.CutSuffix(l.rest, fmt.Appendf(nil, "$%d\r\n%s\r\n", len(mark), mark))
	if ok {
		l.rest = rest
	}
	return ok
}

// maxReply is Redis's own limit for a string, 512 MB. A reply that claims to be longer is malformed.
const maxReply = 512 << 20

// frameSize returns the size of the reply that b begins with, or 0 if b does not hold all of it or it is malformed.
func frameSize(b []byte) int {
	n, size := bulk(b)
	if size == 0 {
		return 0
	}
	switch {
	case b[0] == '$' && n >= 0:
		size += n + 2
		if len(b) >= size && !endsLine(b[:size]) {
			return 0
		}
	case b[0] == '*':
		for range n {
			rest := b[min(size, len(b)):]
			if len(rest) == 0 || rest[0] != '$' { // see gather
				return 0
			}
			item := frameSize(rest)
			if item == 0 {
				return 0
			}
			size += item
		}
	}
	if size > len(b) {
		return 0
	}
	return size
}

// endsLine reports whether b ends where a string says that it ends.
func endsLine(b []byte) bool { return bytes.HasSuffix(b, []byte("\r\n")) }

// bulk reads the line that b begins with. n is the length of the string or list that follows, or -1; size is that of
// the line, or 0 if the line is incomplete or malformed.
func bulk(b []byte) (n, size int) {
	end := bytes.IndexByte(b, '\n')
	if end < 2 || bytes.IndexByte(b[:end], '\r') != end-1 {
		return 0, 0
	}
	switch b[0] {
	case '+', '-', ':':
		return -1, end + 1
	case '$', '*':
		if b[1] == '-' && b[2] == '1' && end == len("$-1\r") {
			return -1, end + 1
		}
		if end < len("$1\r") {
			return 0, 0
		}
		for _, digit := range b[1 : end-1] {
			if n = n*10 + int(digit-'0'); digit < '0' || digit > '9' || n > maxReply {
				return 0, 0
			}
		}
		return n, end + 1
	}
	return 0, 0
}

// parseReply reads a whole reply. Its text shares the memory of frame.
func parseReply(frame []byte) (r Reply, err error) {
	n, header := bulk(frame)
	r.kind = frame[0]
	switch {
	case r.kind == ':':
		r.number, err = strconv.ParseInt(string(frame[1:header-2]), 10, 64)
	case r.kind == '+' || r.kind == '-':
		r.text = frame[1 : header-2]
	case n < 0:
		r.kind = '_'
	case r.kind == '$':
		r.text = frame[header : header+n : header+n]
	default:
		r.number, r.text = int64(n), frame[header:]
	}
	return r, err
}
