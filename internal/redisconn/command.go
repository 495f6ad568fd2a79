package redisconn

import (
	"bytes"
	"cmp"
	"crypto/sha1" // #nosec G505 -- Redis names scripts by it
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Script is a Lua script. It runs by its hash, and is sent whole only to a server that does not know it yet.
type Script struct {
	source, sha string
	repeatable  bool
}

// NewScript returns a script. It is repeatable if running it twice does the same as running it once, even if the first
// run is late: what was sent on a connection that broke may reach Redis after what was sent on the next.
//
// A script answers a number, a status, an error, or a list. The last item of a list is the script's first argument,
// ARGV[1], by which the command knows that the answer is its own. The caller does not get to see it.
func NewScript(source string, repeatable bool) *Script {
	sum := sha1.Sum([]byte(source)) // #nosec G401 -- EVALSHA names scripts by it
	return &Script{source, hex.EncodeToString(sum[:]), repeatable}
}

// Hash returns the name by which Redis knows the script, also in errors.
func (s *Script) Hash() string { return s.sha }

// On begins a command that runs the script on keys, with n arguments, which the caller appends. In a cluster, all
// keys must be in one slot.
func (s *Script) On(n int, keys ...string) *Command {
	c := NewCommand(keys[0], 3+len(keys)+n, "EVALSHA")
	c.repeatable = s.repeatable
	c.script = s
	c.wants[0].kinds = ":+*"
	c.String(s.sha)
	c.rest = len(c.wire)
	c.Int(int64(len(keys)))
	for _, key := range keys {
		c.String(key)
	}
	c.first = len(c.wire)
	return c
}

// A Command is one command, or a few that are sent together, as they go over the wire: arrays of bulk strings.
type Command struct {
	wire       []byte
	key        string
	replies    int
	wants      [maxReplies]shape
	repeatable bool
	asking     bool      // each comes after an ASKING
	tried      bool      // it has been sent before
	script     *Script   // run by its hash
	rest       int       // where wire continues after the hash
	first      int       // where the script's first argument is in wire
	sent       *carriage // nil if it is not tracked
	replicas   int       // that must have what it writes
	trips      *Trips    // nil if nobody counts
}

// A shape is what is known of a reply before it comes.
type shape struct {
	kinds       string // what it may begin with, but '-'; "" if that is not known
	items, most int    // of a list: how many, and how many bytes at most; 0 if that is not known
}

// maxReplies is how many commands may be sent together.
const maxReplies = 3

// NewCommand begins a command of so many words, its name included; the caller appends the others. In a cluster, it
// goes to the server that has key. It must be repeatable, as reads are: use a [Script] for anything else.
func NewCommand(key string, words int, name string) *Command {
	c := &Command{wire: make([]byte, 0, 256), key: key, repeatable: true}
	c.Then(words, name)
	return c
}

// Then begins another command, to be sent together with those before it. A cluster may carry out some of them twice,
// if their keys move meanwhile, so all must be repeatable.
func (c *Command) Then(words int, name string) {
	switch name {
	case "PTTL", "EXISTS":
		c.wants[c.replies].kinds = ":"
	case "HGETALL", "HKEYS":
		c.wants[c.replies].kinds = "*"
	case "HMGET":
		c.wants[c.replies] = shape{kinds: "*", items: words - 2}
	case "TIME":
		c.wants[c.replies] = shape{"*", 2, 40}
	}
	c.replies++
	c.header('*', words)
	c.String(name)
}

// Whole returns a script's command with the source of the script instead of its hash.
func (c *Command) Whole() *Command {
	words, _ := bulk(c.wire)
	all := &Command{key: c.key, repeatable: c.repeatable, tried: c.tried, trips: c.trips}
	all.wire = make([]byte, 0, len(c.wire)+len(c.script.source)+16)
	all.Then(words, "EVAL")
	all.String(c.script.source)
	all.script, all.first = c.script, len(all.wire)+c.first-c.rest
	all.wire = append(all.wire, c.wire[c.rest:]...)
	all.replies, all.wants, all.replicas = c.replies, c.wants, c.replicas
	return all
}

// Replicate makes the command done when so many replicas have what it has written: see [ErrNotReplicated].
func (c *Command) Replicate(replicas int) { c.replicas = replicas }

// withWait returns the commands and a WAIT, which ends when the replicas have them, or in time before the deadline: Redis
// looks ten times a second which have waited long enough.
func (c *Command) withWait(deadline time.Time) []byte {
	left := time.Until(deadline)
	most := left - max(left/10, min(left/2, 150*time.Millisecond))
	wait := &Command{wire: slices.Clone(c.wire)}
	wait.Then(3, "WAIT")
	wait.Int(int64(c.replicas))
	wait.Int(max(most.Milliseconds(), 1)) // 0 would be for ever
	return wait.wire
}

// Key returns the key that the command was begun with.
func (c *Command) Key() string { return c.key }

// isUnknown reports whether the server does not know the script. Then the script was not run, and is to be sent whole,
// which the server remembers.
func (c *Command) isUnknown(r *Replies) bool {
	return c.script != nil && r[0].kind == '-' && bytes.HasPrefix(r[0].text, []byte("NOSCRIPT"))
}

// accept reports whether r may be the reply to the command with this number. A network may change what a reply says of
// its own size, and then every command after it gets another's, which must be noticed at once: they may be others' data.
func (c *Command) accept(r *Reply, i int) bool {
	want := &c.wants[i]
	switch {
	case r.kind == '-', want.kinds == "":
		return true
	case strings.IndexByte(want.kinds, r.kind) < 0:
		return false
	case r.kind == '*' && c.script != nil && i == 0:
		first := c.wire[c.first:]
		own, ok := bytes.CutSuffix(r.text, first[:frameSize(first)])
		r.text, r.number = own, r.number-1
		return ok
	}
	return r.kind != '*' || (want.items == 0 || r.number == int64(want.items)) && (want.most == 0 || len(r.text) <= want.most)
}

// withAsking returns the commands with an ASKING before each, since it holds for one only.
func (c *Command) withAsking() *Command {
	asking := *c
	asking.wire, asking.asking = nil, true
	asking.first += len(askingWire)
	for rest := c.wire; len(rest) > 0; {
		size := cmp.Or(frameSize(rest), len(rest))
		asking.wire = append(append(asking.wire, askingWire...), rest[:size]...)
		rest = rest[size:]
	}
	return &asking
}

const askingWire = "*1\r\n$6\r\nASKING\r\n"

func (c *Command) header(kind byte, n int) {
	c.wire = append(c.wire, kind)
	c.wire = strconv.AppendInt(c.wire, int64(n), 10)
	c.wire = append(c.wire, '\r', '\n')
}

// String appends a word.
func (c *Command) String(word string) {
	c.header('$', len(word))
	c.wire = append(c.wire, word...)
	c.wire = append(c.wire, '\r', '\n')
}

// Bytes appends a word. It copies word.
func (c *Command) Bytes(word []byte) {
	c.header('$', len(word))
	c.wire = append(c.wire, word...)
	c.wire = append(c.wire, '\r', '\n')
}

// Int appends a number in decimal digits.
func (c *Command) Int(n int64) {
	var digits [20]byte
	c.Bytes(strconv.AppendInt(digits[:0], n, 10))
}

// Flag appends "1" for yes and "0" for no.
func (c *Command) Flag(yes bool) {
	if yes {
		c.String("1")
	} else {
		c.String("0")
	}
}
