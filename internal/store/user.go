package store

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A user's list is how the user's sessions are found. It names every session that is alive and the user's, and may name
// others, so its readers check the sessions themselves. A session takes its place before it is bound to the user, and
// keeps it until it is found dead, or another user's.
//
// On one server that is one script. In a cluster the list is in another slot than the sessions, and taking the
// place is a separate command, which comes first.

// listHash names a user's list. It is collision-resistant, since people may choose their names, and no two may share a
// list.
func listHash(user string) string {
	sum := sha256.Sum256([]byte(user))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func (s *Store) listKey(hash string) string { return s.config.Prefix + "u:{" + hash + "}" }

// takePlace puts a session on a list, in a cluster, and returns how many places the list then has. The list
// lasts longer than any session.
func (s *Store) takePlace(ctx context.Context, began Began, hash, handle string, replicas int) (places int, unconfirmed, err error) {
	c := s.enlist.On(2, s.listKey(hash))
	c.String(handle)
	c.Int((s.absolute() + Late).Milliseconds())
	c.Replicate(replicas)
	r, o, err := s.run(ctx, began, c)
	items, _ := r.List()
	count, _ := items.Next()
	places, _ = strconv.Atoi(string(count))
	return places, o.Unconfirmed, err
}

// heal takes a session's place, in a cluster, on a list that may have lost it. The operation that it belongs to has
// succeeded, so heal returns no error and does not take long.
func (s *Store) heal(ctx context.Context, began Began, hash []byte, handle string) {
	ctx, cancel := context.WithTimeout(ctx, s.config.Timeout/4)
	defer cancel()
	s.takePlace(ctx, began, string(hash), handle, 0)
}

// A Binding is what Login binds a session to.
type Binding struct {
	User          string
	Next          *ID     // the session's new id; nil to keep the one it has
	Authenticated bool    // the user has just proved who they are
	Remembered    bool    // the same request has called Remember
	Agent         string  // the browser's user agent
	Fields        []Field // to set
}

// Login binds a session to a user, in one step with its new id and its values; in a cluster it takes the session's
// place on the user's list first. What another user has left in the session is deleted. Login returns the session's own
// idle timeout, 0 if it has none, and how many of the user's oldest sessions it has ended on one server: see Limit. If
// fresh, the id is new and the session begins.
func (s *Store) Login(ctx context.Context, began Began, id *ID, fresh bool, b Binding) (idle time.Duration, ended int, o Outcome, err error) {
	hash, places, unconfirmed := "", 0, error(nil)
	if b.User != "" {
		hash = listHash(b.User)
		if s.config.Cluster {
			if places, unconfirmed, err = s.takePlace(ctx, began, hash, id.Handle, s.config.WaitReplicas); err != nil {
				return 0, 0, Outcome{}, err
			}
		}
	}
	c := s.on(s.login, id, 6+2*len(b.Fields))
	c.Flag(fresh)
	if b.Next != nil {
		c.String(b.Next.verifier)
	} else {
		c.String("")
	}
	c.String(b.User)
	c.String(hash)
	switch {
	case b.Authenticated && b.Remembered:
		c.String("r")
	default:
		c.Flag(b.Authenticated)
	}
	c.String(b.Agent)
	for _, f := range b.Fields {
		c.String(f.Name)
		c.Bytes(f.Value)
	}
	if unconfirmed != nil { // which is no better if this waits too
		c.Replicate(0)
	}
	r, o, err := s.run(ctx, began, c)
	if s.config.MaxSessionsPerUser > 0 && !s.config.Cluster { // it may have ended others
		s.cache.forgetUser(b.User)
	}
	if err != nil || o.State != Alive {
		return 0, 0, o, err
	}
	o.Unconfirmed = cmp.Or(o.Unconfirmed, unconfirmed)
	items, _ := r.List()
	own, _ := items.Next()
	if count, _ := items.Next(); !s.config.Cluster {
		places, _ = strconv.Atoi(string(count))
	}
	count, _ := items.Next()
	ended, _ = strconv.Atoi(string(count))
	if places > 0 && places%tidyEvery == 0 {
		ctx, cancel := s.within(ctx, began)
		defer cancel()
		s.Members(ctx, began, b.User, false) // it removes dead sessions; if it fails, the next login tries again
	}
	ms, _ := strconv.ParseInt(string(own), 10, 64)
	return time.Duration(ms) * time.Millisecond, ended, o, nil
}

// within returns a context that ends with the operation that began then. Members itself has a timeout for each batch
// only.
func (s *Store) within(ctx context.Context, began Began) (context.Context, context.CancelFunc) {
	return context.WithDeadline(ctx, began.At.Add(s.config.Timeout))
}

// tidyEvery says when a login removes dead places from a list: if the list has a multiple of tidyEvery places. So the
// list of a user who logs in again and again doesn't grow without bound, and few logins take longer.
const tidyEvery = 64

// Remember gives a session its own idle timeout.
func (s *Store) Remember(ctx context.Context, began Began, id *ID, idle time.Duration) (Outcome, error) {
	c := s.on(s.remember, id, 1)
	c.Int(idle.Milliseconds())
	_, o, err := s.write(ctx, began, id, c)
	return o, err
}

// Destroy ends a session by its id. Its mark has the token, which later operations find in their Outcome.
func (s *Store) Destroy(ctx context.Context, began Began, id *ID, token string) (Outcome, error) {
	c := s.on(s.destroy, id, 1)
	c.String(token)
	_, o, err := s.run(ctx, began, c)
	return o, err
}

// Limit ends, in a cluster, the oldest sessions of a user who has more than MaxSessionsPerUser, and returns how many;
// elsewhere Login does that. The session with the handle own stays, even if the servers' clocks differ.
func (s *Store) Limit(ctx context.Context, began Began, user, own string) (ended int, err error) {
	if !s.config.Cluster || s.config.MaxSessionsPerUser == 0 {
		return 0, nil
	}
	ctx, cancel := s.within(ctx, began)
	defer cancel()
	members, err := s.Members(ctx, began, user, false)
	if err != nil || len(members) <= s.config.MaxSessionsPerUser {
		return 0, err
	}
	slices.SortFunc(members, Member.Compare)
	var oldest []string
	for _, m := range members[:len(members)-s.config.MaxSessionsPerUser] {
		if m.Handle != own {
			oldest = append(oldest, m.Handle)
		}
	}
	gone, err := s.look(ctx, began, user, oldest, ends)
	return len(gone), err
}

// A Member is a session of a user.
type Member struct {
	Handle                       string
	Created, Seen, Authenticated time.Time // zero if it never was
	Agent                        string    // of the browser, when the session was bound to the user
}

// Compare orders members by when they logged in or, without a login, began.
func (m Member) Compare(other Member) int {
	return cmp.Or(m.since().Compare(other.since()), strings.Compare(m.Handle, other.Handle))
}

func (m Member) since() time.Time {
	if m.Authenticated.IsZero() {
		return m.Created
	}
	return m.Authenticated
}

// Members returns the sessions of a user that are alive, in any order, without those whose handles are given, and ends
// them if end is true. It goes through the list in batches of a thousand places, each within the timeout. On an error
// it still returns those that it has found or ended, since the other servers of a cluster may work.
func (s *Store) Members(ctx context.Context, began Began, user string, end bool, except ...string) (members []Member, err error) {
	found := map[string]bool{}
	for from := "-inf"; ; began = began.again() { // by score, since ranks move when others leave; a handle may come twice
		c := s.list.On(2, s.listKey(listHash(user)))
		c.String(from)
		c.Flag(end)
		asked := began
		if end && s.config.WaitReplicas > 0 {
			// A master that was replaced may have an old list, or none: a replica must confirm it. That takes half of the
			// time, so that sessions end even if none does.
			c.Replicate(s.config.WaitReplicas)
			asked.At = asked.At.Add(-s.config.Timeout / 2)
		}
		r, o, failure := s.run(ctx, asked, c)
		if failure != nil {
			return members, failure
		}
		err = cmp.Or(err, o.Unconfirmed)
		items, _ := r.List()
		more := items.TrimMark("MM")
		if !more && !items.TrimMark("EE") {
			return members, ErrMalformed
		}
		var handles []string
		for item, ok := items.Next(); ok; item, ok = items.Next() {
			handles = append(handles, string(item))
		}
		last := len(handles) - 1
		if last < 0 || more && handles[last] == from { // more places of one time than pycket takes
			return members, cmp.Or(err, ErrMalformed)
		}
		from, handles = handles[last], slices.DeleteFunc(handles[:last], func(h string) bool { return slices.Contains(except, h) })
		how := looks
		if end {
			how = ends
		}
		some, failure := s.look(ctx, began, user, handles, how)
		err = cmp.Or(err, failure)
		for _, m := range some {
			if !found[m.Handle] {
				found[m.Handle] = true
				members = append(members, m)
			}
		}
		if !more {
			return members, err
		}
	}
}

// What look does with the sessions, as ARGV[2] of members.lua.
const (
	looks    = "0"
	ends     = "1"
	confirms = "2" // looks, and has a replica confirm what it finds
)

// look checks the sessions that handles name, and may end them: in one step on one server, and in one for each slot in a
// cluster. It removes those that it finds dead from the list. If replicas are waited for, one must confirm that first: a
// master that was replaced, and does not know, may take a session for dead that is alive.
func (s *Store) look(ctx context.Context, began Began, user string, handles []string, how string) (members []Member, err error) {
	if len(handles) == 0 {
		return nil, nil
	}
	keys := make([]string, len(handles))
	for i, handle := range handles {
		keys[i] = s.key(handle)
	}
	var mu sync.Mutex
	var dead []string
	var asking sync.WaitGroup
	for _, keys := range s.redis.Split(keys) {
		asking.Go(func() {
			c := s.members.On(2, keys...)
			c.String(user)
			c.String(how)
			if how != looks {
				c.Replicate(s.config.WaitReplicas)
			}
			r, o, failure := s.ask(ctx, began, c)
			if how == ends {
				for _, key := range keys { // run would forget the first alone
					s.cache.forgetKey(key)
				}
			}
			items, _ := r.List()
			mu.Lock()
			defer mu.Unlock()
			err = cmp.Or(err, failure, o.Unconfirmed)
			for {
				handle, more := items.Next()
				if !more {
					return
				}
				created, _ := items.Next()
				seen, _ := items.Next()
				auth, _ := items.Next()
				agent, _ := items.Next()
				switch {
				case len(created) == 0:
					if o.Unconfirmed == nil {
						dead = append(dead, string(handle))
					}
					continue
				case string(created) == "L" || string(agent) == "L" && len(auth) == 1: // a byte of one may have changed
					err = cmp.Or(err, errLater)
					continue
				}
				members = append(members, Member{string(handle), milliTime(created), milliTime(seen), Micros(auth), string(agent)})
			}
		})
	}
	asking.Wait()
	switch {
	case len(dead) == 0:
	case how == looks && s.config.WaitReplicas > 0: // what that returns is known, and an untidy list is not worth a wait
		ctx, cancel := context.WithTimeout(ctx, s.config.Timeout/4)
		defer cancel()
		s.look(ctx, began, user, dead, confirms)
	default:
		c := s.prune.On(len(dead), s.listKey(listHash(user)))
		for _, handle := range dead {
			c.String(handle)
		}
		s.run(ctx, began, c) // an untidy list is not worth an error
	}
	return members, err
}

// Revoke ends a session by its handle, and reports whether it was alive.
func (s *Store) Revoke(ctx context.Context, began Began, handle string) (ended bool, err error) {
	c := s.revoke.On(1, s.key(handle))
	c.String("")
	c.Replicate(s.config.WaitReplicas)
	_, o, err := s.run(ctx, began, c)
	return err == nil && o.State == Alive, cmp.Or(err, o.Unconfirmed)
}
