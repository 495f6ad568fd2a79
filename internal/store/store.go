// Package store keeps sessions, notifications and users' lists in Redis. It knows ids, keys, scripts and what they
// return; it knows nothing of HTTP, and of Redis only the commands.
//
// An operation on a session takes one round trip. It is one script, which first checks that the id is alive; or, for
// reads, plain commands, with the same check in Go. Operations return an [Outcome]. docs/storage.md describes the
// layout. Errors are those of package redisconn and this package's own.
package store

import (
	"cmp"
	"context"
	"embed"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pycket/pycket/internal/redisconn"
)

// A Config is the settings of a Store, already checked.
type Config struct {
	Prefix                  string // of every key
	Sessions, Notifications int    // databases
	Cluster                 bool   // the keys are on several servers
	Timeout                 time.Duration
	Idle                    time.Duration
	Absolute                time.Duration // 0 for none
	MaxSessionBytes         int
	MaxSessionsPerUser      int // 0 for any number
	WaitReplicas            int // that must have a write before it is done

	// MayEvict is told of a Redis that deletes sessions when it is full, and of the policy by which it does.
	MayEvict func(policy string)

	// CacheFor is how old a session may be that is read from memory; 0 if none is. CacheBytes bounds that memory.
	// CacheRefused is told that Redis doesn't let it be.
	CacheFor     time.Duration
	CacheBytes   int
	CacheRefused func(error)
}

// A Store holds the sessions of one application. It may be used by many goroutines at once.
type Store struct {
	redis  redisconn.Client
	config Config

	renew, set, swap, increment, drop *redisconn.Script
	clear, pop, unpop                 *redisconn.Script
	rotate, destroy, remember, login  *redisconn.Script
	notify, restore, peek, take       *redisconn.Script
	add, drain                        *redisconn.Script
	revoke, list, members             *redisconn.Script
	enlist, prune, probe              *redisconn.Script
	show, sweep                       *redisconn.Script // for operators

	files map[string]string // of each script, by its hash

	sizes    sizes       // of large sessions
	refused  moment      // when a renewal failed
	untold   atomic.Bool // whether Redis may evict sessions: the user has no right to ask
	renewals atomic.Uint64
	cache    *cache // of sessions; nil if none are kept
}

const (
	// Late is how long the mark of a session that has ended is kept: longer than a slow request takes.
	Late = time.Minute

	// LongestIdle is the longest idle timeout that a session may have: browsers keep no cookie longer than 400
	// days (RFC 6265bis, section 5.5).
	LongestIdle = 400 * 24 * time.Hour
)

//go:embed scripts
var scripts embed.FS

// word finds the constants in a script.
var word = regexp.MustCompile(`\b[A-Z]+\b`)

// The numbers that scripts return. None becomes another if the network changes a byte of it, nor does the length of a
// list become one if that makes it a number.
const (
	codeOK = -11 * (iota + 1)
	codeExpired
	codeTaken
	codeTooLarge
	codeNotNumber
	codeLater
)

// New makes a Store. It dials nothing.
func New(client redisconn.Client, c Config) *Store {
	s := &Store{redis: client, config: c, files: map[string]string{}}
	constants := map[string]string{
		"SESSION": luaString(c.Prefix + "s:"), "NOTES": luaString(c.Prefix + "n:"), "MESSAGES": luaString(c.Prefix + "m:"), "LIST": luaString(c.Prefix + "u:"),
		"DB": strconv.Itoa(c.Sessions), "NDB": strconv.Itoa(c.Notifications), "CLUSTER": strconv.FormatBool(c.Cluster),
		"IDLE": millis(c.Idle), "LONGEST": millis(LongestIdle), "ABSOLUTE": millis(s.absolute()), "LATE": millis(Late), "GRACE": millis(Late + 2*c.Timeout),
		"WAITS":    strconv.FormatBool(c.WaitReplicas > 0),
		"MAXBYTES": strconv.Itoa(c.MaxSessionBytes), "MAXSESSIONS": strconv.Itoa(c.MaxSessionsPerUser),
		"OK": code(codeOK), "EXPIRED": code(codeExpired), "TAKEN": code(codeTaken), "TOOLARGE": code(codeTooLarge), "NOTNUMBER": code(codeNotNumber), "LATER": code(codeLater),
	}
	// What scripts on one session begin and end with: see prelude.lua. Those on notifications need no reach.
	const (
		begin = "prelude begin open reach "
		open  = "prelude open reach "
		keep  = " write keep place done"
		due   = " write due keep place done"
	)
	for _, load := range []struct {
		into       **redisconn.Script
		repeatable bool
		files      string // one after the other
	}{
		{&s.set, false, begin + "set weigh" + keep},
		{&s.swap, false, begin + "swap" + keep},
		{&s.increment, false, begin + "increment" + keep},
		{&s.drop, false, open + "delete" + keep},
		{&s.clear, false, open + "remove clear" + keep},
		{&s.pop, false, open + "pop" + keep},
		{&s.unpop, false, open + "unpop" + keep},
		{&s.renew, true, open + "renew keep place done"},
		{&s.remember, false, open + "remember" + keep},
		{&s.rotate, true, "prelude again open reach rotate" + keep},
		{&s.login, false, begin + "remove end login weigh bind write keep place limit"},
		{&s.destroy, true, "prelude confirm open remove end destroy"},
		{&s.notify, false, "prelude begin open notify weigh" + keep},
		{&s.add, false, "prelude begin open add" + keep},
		{&s.restore, false, "prelude open restore" + keep},
		{&s.peek, true, "prelude open peek" + due},
		{&s.take, false, "prelude open remove take" + due},
		{&s.drain, false, "prelude open drain" + due},
		{&s.revoke, true, "prelude confirm remove end revoke"},
		{&s.members, true, "prelude confirm remove end members"},
		{&s.list, true, "list"},
		{&s.enlist, true, "prelude enlist place places"},
		{&s.prune, true, "prelude prune"},
		{&s.probe, true, "prelude ping"},
		{&s.show, true, "prelude remove end show"},
		{&s.sweep, true, "sweep"},
	} {
		var source strings.Builder
		for file := range strings.FieldsSeq(load.files) {
			source.WriteString(word.ReplaceAllStringFunc(lua(file), func(word string) string { return cmp.Or(constants[word], word) }))
		}
		*load.into = redisconn.NewScript(source.String(), load.repeatable)
		s.files[(*load.into).Hash()] = load.files
	}
	if c.CacheFor > 0 {
		s.cache = newCache(client, c)
	}
	return s
}

// lua returns a file of scripts.
func lua(file string) string {
	text, err := scripts.ReadFile("scripts/" + file + ".lua")
	if err != nil {
		panic(err) // it is embedded, or every test fails
	}
	return string(text)
}

// Connections returns the state of the connections to Redis.
func (s *Store) Connections() Connections { return s.redis.Connections() }

// Renewals returns how many reads have renewed a session since the Store was made.
func (s *Store) Renewals() uint64 { return s.renewals.Load() }

// Close closes the connections to Redis.
func (s *Store) Close() error { return s.redis.Close() }

// absolute is the absolute timeout of every session. In a cluster, where a user's list and sessions are on different
// servers, no session outlives the list: see docs/storage.md.
func (s *Store) absolute() time.Duration {
	if s.config.Absolute == 0 && s.config.Cluster {
		return LongestIdle
	}
	return s.config.Absolute
}

func millis(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

func code(n int) string { return strconv.Itoa(n) }

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

// key is the key of a session.
func (s *Store) key(handle string) string { return s.config.Prefix + "s:{" + handle + "}" }

// on begins a command that runs a script on the session that id names, with n more arguments.
func (s *Store) on(script *redisconn.Script, id *ID, n int) *redisconn.Command {
	c := script.On(1+n, s.key(id.Handle))
	c.String(id.verifier)
	if script != s.renew && script != s.peek && script != s.restore && script != s.unpop { // of which no caller is told
		c.Replicate(s.config.WaitReplicas)
	}
	return c
}

// Began is when an operation began, and what counts its round trips, nil for nothing.
type Began struct {
	At    time.Time
	Trips *Trips
}

// Trips, Cost and Connections are those of package redisconn.
type (
	Trips       = redisconn.Trips
	Cost        = redisconn.Cost
	Connections = redisconn.Connections
)

// again is an operation's next step, which has a timeout of its own.
func (b Began) again() Began { return Began{time.Now(), b.Trips} }

// run carries out a command that may change a session. When it is done, or has failed, this process's memory of the
// session is gone.
func (s *Store) run(ctx context.Context, began Began, c *redisconn.Command) (redisconn.Reply, Outcome, error) {
	r, o, err := s.ask(ctx, began, c)
	s.cache.forgetKey(c.Key())
	return r, o, err
}

// ask carries out a command and reads the outcome from the reply. If the session is Alive, the reply is for the caller
// to read.
func (s *Store) ask(ctx context.Context, began Began, c *redisconn.Command) (redisconn.Reply, Outcome, error) {
	r, err := s.redis.Do(ctx, began.At, c.Counted(began.Trips))
	if err != nil && !errors.Is(err, ErrNotReplicated) {
		return redisconn.Reply{}, Outcome{}, s.located(mapped(err))
	}
	o, failure := s.told(r)
	o.Unconfirmed = err
	return r, o, failure
}

// told tells the outcome from a reply.
func (s *Store) told(r redisconn.Reply) (Outcome, error) {
	if code, ok := r.Number(); ok {
		switch code {
		case codeOK:
			return Outcome{}, nil
		case codeExpired:
			return Outcome{State: Expired}, nil
		case codeTaken:
			return Outcome{State: Taken}, nil
		case codeTooLarge:
			return Outcome{}, fmt.Errorf("%w: the session would take more than Settings.MaxSessionBytes, %d bytes", ErrTooLarge, s.config.MaxSessionBytes)
		case codeNotNumber:
			return Outcome{}, ErrNotNumber
		case codeLater:
			return Outcome{}, errLater
		}
		return Outcome{}, ErrMalformed
	}
	if status, ok := r.Status(); ok {
		return ended(status)
	}
	return Outcome{}, nil
}

// position finds where a script has failed, as Redis says it: the script's hash and the line.
var position = regexp.MustCompile(`([0-9a-f]{40})\S* (?:on )?@user_script:(\d+)`)

// located adds the file and line to an error that says which line of a script it comes from.
func (s *Store) located(err error) error {
	if m := position.FindStringSubmatch(err.Error()); m != nil {
		line, _ := strconv.Atoi(m[2])
		for file := range strings.FieldsSeq(s.files[m[1]]) {
			lines := strings.Count(lua(file), "\n")
			if line <= lines {
				return fmt.Errorf("%w (%s.lua:%d)", err, file, line)
			}
			line -= lines
		}
	}
	return err
}

// ended reads the answer for an id that was ended: DD or RR, how many milliseconds ago, and a token.
func ended(status string) (Outcome, error) {
	when, token, _ := strings.Cut(status, " ")
	state := Destroyed
	ago, ok := strings.CutPrefix(when, "DD")
	if !ok {
		state = Rotated
		ago, ok = strings.CutPrefix(when, "RR")
	}
	ms, err := strconv.ParseInt(ago, 10, 64)
	if !ok || err != nil {
		return Outcome{}, ErrMalformed
	}
	return Outcome{State: state, Ago: time.Duration(ms) * time.Millisecond, Token: token}, nil
}

// An answer is what a script that writes to a session returns.
type answer struct {
	done  bool   // it has written, and returns no value
	value []byte // what it returns
}

// write is run for a script that renews the session. If the script asks for it, as it may in a cluster, write takes the
// session's place on the user's list again.
func (s *Store) write(ctx context.Context, began Began, id *ID, c *redisconn.Command) (answer, Outcome, error) {
	r, o, err := s.run(ctx, began, c)
	if err != nil || o.State != Alive {
		return answer{}, o, err
	}
	if items, ok := r.List(); ok {
		if hash, _ := items.Next(); len(hash) > 0 {
			s.heal(ctx, began, hash, id.Handle)
		}
		value, more := items.Next()
		return answer{!more, value}, o, nil
	}
	return answer{done: true}, o, nil
}
