package pycket

import (
	"bytes"
	"context"
	"crypto/sha1" // #nosec G505 -- Redis names scripts by it
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// store keeps sessions and notifications in Redis. Every operation is one script on one session, in one
// round trip; docs/storage.md says what stands where, scripts/ what is done to it. It knows nothing of
// HTTP.
type store struct {
	redis  *redisPool
	prefix string

	read, set, swap, increment, drop, rotate, destroy script
	notify, peek, take, add, drain                    script
	login, remember, revoke, sessions                 script
}

// reserved begins the names of pycket's own fields.
const reserved = "pycket:"

// A verdict is what a script says of the session.
type verdict int

const (
	done      verdict = iota + 1
	expired           // the id is not alive
	destroyed         // the id is not alive; it was ended by a Destroy, answer.ago ago
	rotated           // the id is not alive; it was ended by a Rotate, answer.ago ago
	taken             // the id of a new session is in use
	tooLarge          // MaxSessionBytes would be passed; nothing was changed
	notNumber         // what stands there is no whole number, or the sum would be none; nothing was changed
)

const (
	// late is how long a destroyed id is remembered: longer than a slow request takes. A request that
	// runs longer still does not need it: see request.isDead.
	late = time.Minute

	// smallBytes is the size up to which a session is read whole at the first read, and wholeBytes that
	// at the second: a request that reads one value of many should not pay for all, and one that reads
	// many should not ask for each. Larger sessions are read by the value.
	smallBytes = 1024
	wholeBytes = 4096
)

//go:embed scripts
var scripts embed.FS

type script struct {
	source string
	sha    any // of the source; an any, so that it is not boxed for every command
	// repeatable: it may be tried again on a new connection, since to run it twice is as good as once,
	// even if the first run comes late: what was sent on a connection that broke may reach Redis after
	// what was sent on the next. A Set is not: it could undo a later one.
	repeatable bool
}

// place is where a session lies and what proves that the id is its own. Both are strings, boxed once.
type place struct{ key, verifier any }

func newStore(pool *redisPool, s Settings, db, notificationsDB int) (*store, error) {
	st := &store{redis: pool, prefix: s.Redis.Prefix}
	constants := fmt.Sprintf("local PREFIX, DB, NDB = %s, %d, %d\n"+
		"local IDLE, ABSOLUTE, LATE, SMALL, WHOLE, MAXBYTES, MAXSESSIONS = %d, %d, %d, %d, %d, %d, %d\n"+
		"local OK, EXPIRED, TAKEN, TOOLARGE, NOTNUMBER = %d, %d, %d, %d, %d\n",
		luaString(st.prefix), db, notificationsDB,
		s.IdleTimeout.Milliseconds(), s.AbsoluteTimeout.Milliseconds(), late.Milliseconds(), smallBytes, wholeBytes, s.MaxSessionBytes, s.MaxSessionsPerUser,
		done, expired, taken, tooLarge, notNumber)
	for _, load := range []struct {
		into       *script
		file       string
		repeatable bool
	}{
		{&st.read, "read", true},
		{&st.set, "set", false},
		{&st.swap, "swap", false},
		{&st.increment, "increment", false},
		{&st.drop, "delete", false},
		{&st.rotate, "rotate", true},
		{&st.destroy, "destroy", true},
		{&st.notify, "notify", false},
		{&st.peek, "peek", true},
		{&st.take, "take", false},
		{&st.add, "add", false},
		{&st.drain, "drain", false},
		{&st.login, "login", false},
		{&st.remember, "remember", false},
		{&st.revoke, "revoke", true},
		{&st.sessions, "sessions", true},
	} {
		body, err := expand("scripts/" + load.file + ".lua")
		if err != nil {
			return nil, err
		}
		source := constants + body
		sum := sha1.Sum([]byte(source)) // #nosec G401 -- what EVALSHA knows a script by
		*load.into = script{source: source, sha: hex.EncodeToString(sum[:]), repeatable: load.repeatable}
	}
	return st, nil
}

// expand reads a script and puts the part where "--@ part" stands: as a block, but for the parts that
// declare what the rest uses. Parts and not functions, since Redis would make each function anew every
// time a script runs.
func expand(file string) (string, error) {
	data, err := scripts.ReadFile(file)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	for line := range strings.Lines(string(data)) {
		part, ok := strings.CutPrefix(strings.TrimSpace(line), "--@ ")
		if !ok {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "--") {
				out.WriteString(line + "\n")
			}
			continue
		}
		body, err := expand("scripts/parts/" + part + ".lua")
		if err != nil {
			return "", err
		}
		if !declares[part] {
			body = "do\n" + body + "end\n"
		}
		out.WriteString(body)
	}
	return out.String(), nil
}

// declares are the parts that declare what the rest of a script uses.
var declares = map[string]bool{"begin": true, "notes": true, "finish": true, "member": true}

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

func (st *store) place(id *sessionID) place {
	return place{st.prefix + "s:{" + id.handle + "}", id.verifier}
}

// run runs a script on a session, within the timeout from when the operation began. What it answers is a
// verdict or, with done, an answer.
func (st *store) run(ctx context.Context, began time.Time, s *script, at place, args ...any) (verdict, answer, error) {
	command := make([]any, 0, 8)
	command = append(append(command, s.sha, 1, at.key, at.verifier), args...)
	r, err := st.redis.do(ctx, began, s.repeatable, "EVALSHA", command...)
	if err == errNoScript { // nothing was run; EVAL runs it and lets Redis keep it
		command[0] = s.source
		r, err = st.redis.do(ctx, began, s.repeatable, "EVAL", command...)
	}
	if err != nil {
		return 0, answer{}, err
	}
	switch r.kind {
	case ':':
		return verdict(r.number), answer{}, nil
	case '+':
		return ago(r.text)
	}
	return done, answer{kind: r.kind, text: r.text}, nil
}

// ago reads how and when an id was ended: "D" or "R", and milliseconds.
func ago(status []byte) (verdict, answer, error) {
	if len(status) == 0 {
		return 0, answer{}, errMalformed
	}
	millis, err := strconv.ParseInt(string(status[1:]), 10, 64)
	if err != nil {
		return 0, answer{}, errMalformed
	}
	how := destroyed
	if status[0] == 'R' {
		how = rotated
	}
	return how, answer{ago: time.Duration(millis) * time.Millisecond}, nil
}

// flag is how a script is told yes or no.
func flag(yes bool) any {
	if yes {
		return "1"
	}
	return "0"
}

var errMalformed = errors.New("the answer of a script is malformed")

// answer is what a script says: one value, or a list of them. Its strings are parts of one buffer that
// nobody writes to.
type answer struct {
	kind byte   // '$', '_' or '*': see reply
	text []byte // the value; of a list, its values as they stand in RESP, one after the other

	ago time.Duration // with the verdicts destroyed and rotated, and nothing else
}

// value is the one value; nil if there is none.
func (a answer) value() []byte {
	if a.kind == '$' {
		return a.text
	}
	return nil
}

// ends tells whether the list ends with this mark, of one byte.
func (a answer) ends(mark byte) bool {
	return a.kind == '*' && bytes.HasSuffix(a.text, []byte{'$', '1', '\r', '\n', mark, '\r', '\n'})
}

// next takes the first value off a list. It is nil if there is none in its place; more says whether
// there was a place.
func (a *answer) next() (value []byte, more bool) {
	if a.kind != '*' || len(a.text) == 0 {
		return nil, false
	}
	n, header := bulk(a.text)
	if n < 0 {
		a.text = a.text[min(header, len(a.text)):]
		return nil, true
	}
	value, a.text = a.text[header:header+n:header+n], a.text[header+n+2:]
	return value, true
}

// field finds a value in a list of names and values.
func (a answer) field(name string) (value []byte, found bool) {
	for {
		n, more := a.next()
		v, ok := a.next()
		if !more || !ok {
			return nil, false
		}
		if string(n) == name {
			return v, true
		}
	}
}

// names gives the names out of a list of names and values, or of names; pycket's own, and the mark at the
// end, are left out.
func (a answer) names() []string {
	names := []string{}
	values, marked := a.ends('W'), a.ends('W') || a.ends('N')
	for {
		n, more := a.next()
		if !more || marked && len(a.text) == 0 {
			return names
		}
		if values {
			a.next()
		}
		if !strings.HasPrefix(string(n), reserved) {
			names = append(names, string(n))
		}
	}
}
