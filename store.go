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
	"sync/atomic"
	"time"
)

// store keeps sessions and notifications in Redis. Every operation on them is one script on one session, in
// one round trip; docs/storage.md says what stands where, scripts/ what is done to it. It knows nothing of
// HTTP.
type store struct {
	redis   redisClient
	prefix  string
	timeout time.Duration
	cluster bool // the keys lie on several servers: see accountlist.go

	refusedAt atomic.Pointer[time.Time] // when Redis has last refused to renew something

	read, set, swap, increment, drop, rotate, destroy script
	notify, peek, take, add, drain                    script
	login, remember, revoke, list, members            script
	enlist, listed, prune                             script // in a cluster
	probe                                             script
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
	unlisted          // in a cluster: the account's list does not name the session for long enough; nothing was changed
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
	renews     bool // it renews the idle timeout, when that is due, besides what it is asked for
}

// place is where a session lies and what proves that the id is its own. Both are strings, boxed once.
type place struct{ key, verifier any }

func newStore(redis redisClient, s Settings, db, notificationsDB int) (*store, error) {
	st := &store{redis: redis, prefix: s.Redis.Prefix, timeout: s.Redis.Timeout, cluster: len(s.Redis.Cluster) > 0}
	constants := fmt.Sprintf("local PREFIX, DB, NDB, CLUSTER = %s, %d, %d, %t\n"+
		"local IDLE, ABSOLUTE, LATE, SURE, SMALL, WHOLE, MAXBYTES, MAXSESSIONS = %d, %d, %d, %d, %d, %d, %d, %d\n"+
		"local OK, EXPIRED, TAKEN, TOOLARGE, NOTNUMBER = %d, %d, %d, %d, %d\n",
		luaString(st.prefix), db, notificationsDB, st.cluster,
		s.IdleTimeout.Milliseconds(), s.AbsoluteTimeout.Milliseconds(), late.Milliseconds(), listedFor(s.IdleTimeout).Milliseconds(), smallBytes, wholeBytes, s.MaxSessionBytes, s.MaxSessionsPerUser,
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
		{&st.list, "list", true},
		{&st.members, "members", true},
		{&st.enlist, "enlist", true},
		{&st.listed, "listed", true},
		{&st.prune, "prune", true},
		{&st.probe, "ping", true},
	} {
		body, err := expand("scripts/" + load.file + ".lua")
		if err != nil {
			return nil, err
		}
		source := constants + body
		sum := sha1.Sum([]byte(source)) // #nosec G401 -- what EVALSHA knows a script by
		*load.into = script{source: source, sha: hex.EncodeToString(sum[:]), repeatable: load.repeatable}
	}
	for _, s := range []*script{&st.read, &st.peek, &st.take, &st.drain} {
		s.renews = true
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
var declares = map[string]bool{"begin": true, "notes": true, "lasts": true, "unlist": true, "finish": true, "member": true}

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
	return place{st.session(id.handle), id.verifier}
}

// session is the key of a session.
func (st *store) session(handle string) string { return st.prefix + "s:{" + handle + "}" }

// handle is what session makes a key of.
func (st *store) handle(key string) string { return key[len(st.prefix)+len("s:{") : len(key)-len("}")] }

// run runs a script on a session, within the timeout from when the operation began. What it answers is a
// verdict or, with done, an answer.
//
// That Redis refuses to renew the idle timeout is no reason not to hand out what it has: such a script is run again
// without that, and for a while the next ones are so at once.
func (st *store) run(ctx context.Context, began time.Time, s *script, at place, args ...any) (verdict, answer, error) {
	if s.renews && st.refusesWrites() {
		return st.eval(ctx, began, s, at.key, at.verifier.(string)+asItIs, args)
	}
	v, a, err := st.eval(ctx, began, s, at.key, at.verifier, args)
	if v == unlisted && a.list != "" {
		limited, cancel := context.WithDeadline(ctx, began.Add(st.timeout))
		failure := st.renewListing(limited, at, a)
		cancel()
		v, a, err = st.eval(ctx, began, s, at.key, at.verifier.(string)+seenTo, args)
		if err == nil && v == unlisted {
			err = failure
		}
	}
	if err != nil && s.renews && errors.As(err, new(refusal)) {
		if now := time.Now(); !st.cluster { // where other servers may not refuse
			st.refusedAt.Store(&now)
		}
		return st.eval(ctx, began, s, at.key, at.verifier.(string)+asItIs, args)
	}
	return v, a, err
}

// refusesWrites reports whether Redis has refused a renewal a moment ago.
func (st *store) refusesWrites() bool {
	at := st.refusedAt.Load()
	return at != nil && time.Since(*at) < refusedFor
}

const (
	// asItIs stands after the verifier of an operation that renews nothing, since Redis refuses writes.
	asItIs = "!"

	// refusedFor is how long nothing is renewed after a refusal: every read would else fail first and, where
	// that leads to looking for the master, cost everybody the connection.
	refusedFor = lastPause
)

// eval runs a script on one key.
func (st *store) eval(ctx context.Context, began time.Time, s *script, key, first any, args []any) (verdict, answer, error) {
	command := make([]any, 0, 8)
	command = append(append(command, s.sha, 1, key, first), args...)
	return st.call(ctx, began, s, key.(string), command)
}

// call runs a script: command is that of EVALSHA, and key one of its keys.
func (st *store) call(ctx context.Context, began time.Time, s *script, key string, command []any) (verdict, answer, error) {
	r, err := st.redis.do(ctx, began, s.repeatable, key, "EVALSHA", command...)
	if err == errNoScript { // nothing was run; EVAL runs it and lets Redis keep it
		r, err = st.redis.do(ctx, began, s.repeatable, key, "EVAL", append([]any{s.source}, command[1:]...)...)
	}
	if err != nil {
		return 0, answer{}, err
	}
	switch r.kind {
	case ':':
		if r.number < int64(done) || r.number > int64(notNumber) {
			return 0, answer{}, errMalformed
		}
		return verdict(r.number), answer{}, nil
	case '+':
		return parseStatus(string(r.text))
	}
	return done, answer{kind: r.kind, text: r.text}, nil
}

// parseStatus reads the answers that say how long, in milliseconds: "D" and "R", how long ago an id was ended,
// how, and by which request; "L", for how long an account's list must name the session, and, if it is not for
// the caller to know, since when and which list.
func parseStatus(status string) (v verdict, a answer, err error) {
	kind, rest, _ := strings.Cut(status, " ")
	if kind == "" {
		return 0, answer{}, errMalformed
	}
	millis, err := strconv.ParseInt(kind[1:], 10, 64)
	if err != nil {
		return 0, answer{}, errMalformed
	}
	a = answer{time: time.Duration(millis) * time.Millisecond}
	switch kind[0] {
	case 'R':
		return rotated, a, nil
	case 'D':
		a.token = rest
		return destroyed, a, nil
	case 'L':
		var since string
		since, a.list, _ = strings.Cut(rest, " ")
		if a.list != "" {
			a.since, err = strconv.ParseInt(since, 10, 64)
		}
		return unlisted, a, err
	}
	return 0, answer{}, errMalformed
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

	token string        // with the verdict destroyed: of the request that did it, if its own browser did
	time  time.Duration // with the verdicts destroyed and rotated: how long ago; unlisted: for how long
	since int64         // with unlisted: the time by the server's clock, milliseconds since 1970
	list  string        // with unlisted: the SHA-256 of the account whose list it is
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
