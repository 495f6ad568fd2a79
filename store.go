package pycket

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/gomodule/redigo/redis"
)

// store keeps sessions and notifications in Redis. Every operation is one script on one session, in one
// round trip; docs/storage.md says what stands where, scripts/ what is done to it. It knows nothing of
// HTTP.
type store struct {
	redis  *redisPool
	prefix string

	read, set, swap, increment, drop, rotate, destroy script
	notify, peek, take, add, drain                    script
}

// reserved begins the names of pycket's own fields.
const reserved = "pycket:"

// A verdict is what a script says of the session.
type verdict int

const (
	done      verdict = iota + 1
	expired           // the id is not alive
	destroyed         // the id is not alive; it was ended by a Destroy, packed.ago ago
	rotated           // the id is not alive; it was ended by a Rotate, packed.ago ago
	taken             // the id of a new session is in use
	tooLarge          // MaxSessionBytes would be passed; nothing was changed
	notNumber         // what stands there is no whole number, or the sum would be none; nothing was changed
)

const (
	// late is how long a destroyed id is remembered: longer than a slow request takes. A request that
	// runs longer still does not need it: see request.isDead.
	late = time.Minute

	// wholeBytes is the size up to which a session is read whole. Reading one value of a larger one
	// costs what the value costs, not what the session does.
	wholeBytes = 4096
)

//go:embed scripts
var scripts embed.FS

type script struct {
	source string
	sha    any // of the source; an any, so that it is not boxed for every command
	// repeatable: to run it twice is as good as once, so it may be tried again on a new connection.
	repeatable bool
}

// place is where a session lies and what proves that the id is its own.
type place struct{ key, verifier any }

func newStore(pool *redisPool, s Settings, db, notificationsDB int) (*store, error) {
	st := &store{redis: pool, prefix: s.Redis.Prefix}
	constants := fmt.Sprintf("local PREFIX, DB, NDB = %s, %d, %d\n"+
		"local IDLE, ABSOLUTE, LATE, WHOLE, MAXBYTES = %d, %d, %d, %d, %d\n"+
		"local OK, EXPIRED, TAKEN, TOOLARGE, NOTNUMBER = %d, %d, %d, %d, %d\n",
		luaString(st.prefix), db, notificationsDB,
		s.IdleTimeout.Milliseconds(), s.AbsoluteTimeout.Milliseconds(), late.Milliseconds(), wholeBytes, s.MaxSessionBytes,
		done, expired, taken, tooLarge, notNumber)
	prelude, err := scripts.ReadFile("scripts/prelude.lua")
	if err != nil {
		return nil, err
	}
	for _, load := range []struct {
		into       *script
		file       string
		repeatable bool
	}{
		{&st.read, "read", true},
		{&st.set, "set", true},
		{&st.swap, "swap", false},
		{&st.increment, "increment", false},
		{&st.drop, "delete", true},
		{&st.rotate, "rotate", true},
		{&st.destroy, "destroy", true},
		{&st.notify, "notify", true},
		{&st.peek, "peek", true},
		{&st.take, "take", false},
		{&st.add, "add", false},
		{&st.drain, "drain", false},
	} {
		body, err := scripts.ReadFile("scripts/" + load.file + ".lua")
		if err != nil {
			return nil, err
		}
		source := constants + string(prelude) + string(body)
		*load.into = script{source: source, sha: redis.NewScript(1, source).Hash(), repeatable: load.repeatable}
	}
	return st, nil
}

// luaString quotes a string for Lua, byte by byte.
func luaString(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(s) {
		fmt.Fprintf(&b, `\%03d`, s[i])
	}
	b.WriteByte('"')
	return b.String()
}

func (st *store) place(id sessionID) place {
	return place{st.prefix + "s:{" + id.handle() + "}", id.verifier()}
}

// run runs a script on a session. What it answers is a verdict or, with done, something packed.
func (st *store) run(ctx context.Context, s *script, at place, args ...any) (verdict, packed, error) {
	command := make([]any, 0, 4+len(args))
	command = append(append(command, s.sha, 1, at.key, at.verifier), args...)
	reply, err := st.redis.do(ctx, s.repeatable, "EVALSHA", command...)
	if errors.Is(err, errNoScript) { // nothing was run; EVAL runs it and lets Redis keep it
		command[0] = s.source
		reply, err = st.redis.do(ctx, s.repeatable, "EVAL", command...)
	}
	if err != nil {
		return 0, packed{}, err
	}
	switch {
	case reply.kind == ':':
		return verdict(reply.number), packed{}, nil
	case len(reply.text) == 0:
		return 0, packed{}, errMalformed
	case reply.text[0] == 'D' || reply.text[0] == 'R':
		return ago(reply.text)
	}
	p, err := unpack(reply.text)
	return done, p, err
}

// ago reads how and when an id was ended.
func ago(reply []byte) (verdict, packed, error) {
	millis, err := strconv.ParseInt(string(reply[1:]), 10, 64)
	if err != nil {
		return 0, packed{}, errMalformed
	}
	how := destroyed
	if reply[0] == 'R' {
		how = rotated
	}
	return how, packed{ago: time.Duration(millis) * time.Millisecond}, nil
}

// flag is how a script is told whether it may make the session.
func flag(mayMake bool) any {
	if mayMake {
		return "1"
	}
	return "0"
}

var errMalformed = errors.New("the answer of a script is malformed")

// packed is a list of strings in one: see pack in scripts/prelude.lua.
type packed struct {
	kind    byte
	lengths string // "5 -1 12": the length of each, -1 for what is not there
	bodies  []byte // one after the other

	ago time.Duration // with the verdicts destroyed and rotated, and nothing else
}

func unpack(reply []byte) (packed, error) {
	i := 1
	for i < len(reply) && reply[i] != '\n' {
		i++
	}
	if i >= len(reply) {
		return packed{}, errMalformed
	}
	return packed{kind: reply[0], lengths: string(reply[1:i]), bodies: reply[i+1:]}, nil
}

// next takes the first string off the list. It is nil if there is none in its place; more says whether
// there was a place.
func (p *packed) next() (item []byte, more bool) {
	if p.lengths == "" {
		return nil, false
	}
	i, n, missing := 0, 0, false
	for ; i < len(p.lengths) && p.lengths[i] != ' '; i++ {
		switch c := p.lengths[i]; {
		case c == '-':
			missing = true
		case c >= '0' && c <= '9' && n <= len(p.bodies):
			n = n*10 + int(c-'0')
		}
	}
	if p.lengths = p.lengths[i:]; p.lengths != "" {
		p.lengths = p.lengths[1:]
	}
	if missing {
		return nil, true
	}
	n = min(n, len(p.bodies))
	item, p.bodies = p.bodies[:n:n], p.bodies[n:]
	return item, true
}

// field finds a value in a list of names and values.
func (p packed) field(name string) (value []byte, found bool) {
	for {
		n, more := p.next()
		v, ok := p.next()
		if !more || !ok {
			return nil, false
		}
		if string(n) == name {
			return v, true
		}
	}
}

// names gives the names out of a list of names, or of names and values; pycket's own are left out.
func (p packed) names() []string {
	names := []string{}
	for {
		n, more := p.next()
		if !more {
			return names
		}
		if p.kind == 'W' {
			p.next()
		}
		if !strings.HasPrefix(string(n), reserved) {
			names = append(names, string(n))
		}
	}
}
