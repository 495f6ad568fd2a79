package redisconn

import (
	"bytes"
	"cmp"
	"crypto/sha1" // #nosec G505 -- Redis names scripts by it
	"encoding/hex"
	"slices"
	"strconv"
	"time"
)

// A Script is a Lua script. It runs by its hash, and is sent whole only to a server that does not know it yet.
type Script struct {
	source, sha string
	repeatable  bool
}

// NewScript returns a script. It is repeatable if running it twice does the same as running it once, even if the first
// run is late: what was sent on a connection that broke may reach Redis after what was sent on the next.
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
	c.String(s.sha)
	c.rest = len(c.wire)
	c.Int(int64(len(keys)))
	for _, key := range keys {
		c.String(key)
	}
	return c
}

// A Command is one command, or a few that are sent together, as they go over the wire: arrays of bulk strings.
type Command struct {
	wire       []byte
	key        string
	repeatable bool
	replies    int
	kinds      [maxReplies]byte // what each reply must begin with, 0 if that is not known
	asking     bool             // each comes after an ASKING
	script     *Script          // run by its hash
	rest       int              // where wire continues after the hash
	sent       *carriage        // nil if it is not tracked
	replicas   int              // that must have what it writes
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
		c.kinds[c.replies] = ':'
	case "HGETALL", "HMGET", "TIME":
		c.kinds[c.replies] = '*'
	}
	c.replies++
	c.header('*', words)
	c.String(name)
}

// Whole returns a script's command with the source of the script instead of its hash.
func (c *Command) Whole() *Command {
	words, _ := bulk(c.wire)
	all := &Command{key: c.key, repeatable: c.repeatable}
	all.wire = make([]byte, 0, len(c.wire)+len(c.script.source)+16)
	all.Then(words, "EVAL")
	all.String(c.script.source)
	all.wire = append(all.wire, c.wire[c.rest:]...)
	all.replies, all.kinds, all.replicas = c.replies, c.kinds, c.replicas
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

// mayGet reports whether r may be the reply to the command with this number. Of commands that are sent together, one
// that gets another's reply would not be noticed by what is left over at the end.
func (c *Command) mayGet(r Reply, i int) bool {
	return c.kinds[i] == 0 || c.kinds[i] == r.kind || r.kind == '-'
}

// withAsking returns the commands with an ASKING before each, since it holds for one only.
func (c *Command) withAsking() *Command {
	asking := *c
	asking.wire, asking.asking = nil, true
	for rest := c.wire; len(rest) > 0; {
		size := cmp.Or(frameSize(rest), len(rest))
		asking.wire = append(append(asking.wire, "*1\r\n$6\r\nASKING\r\n"...), rest[:size]...)
		rest = rest[size:]
	}
	return &asking
}

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
