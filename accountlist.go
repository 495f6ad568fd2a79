package pycket

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"sync"
	"time"

	"github.com/mna/redisc"
)

// The list of an account is how its sessions are found. It names every session that is alive and the
// account's, and may name others: whoever reads it looks at the sessions themselves.
//
// On one server, the scripts on sessions keep it. In a cluster it lies in another slot than the sessions, and
// no step is one for both. So the list always comes first: a session is put on it before it signs in, and
// stands no longer than the list is sure to name it (pycket:listed); from time to time, the script of an
// operation asks for that to be made longer. Its place ends with the time that it was taken for, or when
// somebody who reads the list finds that the session is gone.

// listedFor is for how long a session counts on its place on the list: a tenth longer than its idle timeout,
// so that the list is written to ten times an idle timeout at most.
func listedFor(idle time.Duration) time.Duration { return idle + idle/10 }

// seenTo stands after the verifier of an operation that is tried again after the list was seen to.
const seenTo = "."

func (st *store) accountList(hash string) string { return st.prefix + "u:{" + hash + "}" }

// accountHash names the list of an account. Two accounts of one hash would tidy each other's sessions off their
// list, and Lua has SHA-1 only: so a session's hash tells the scripts (pycket:list).
func accountHash(user string) string {
	sum := sha256.Sum256([]byte(user))
	return hex.EncodeToString(sum[:])
}

// enlistAt puts a session on an account's list, in a cluster. The place is held for longer than the session
// counts on: by what may pass between the two.
func (st *store) enlistAt(ctx context.Context, began time.Time, account, handle string, idle time.Duration) error {
	_, _, err := st.eval(ctx, began, &st.enlist, st.accountList(account), handle, []any{(listedFor(idle) + late + 2*st.timeout).Milliseconds()})
	return err
}

// renewListing does what a script has asked for: it makes the place of a session on its account's list last
// longer. The session can do without for a while, so this may not take all the time there is.
func (st *store) renewListing(ctx context.Context, at place, asked answer) error {
	ctx, cancel := context.WithTimeoutCause(ctx, st.timeout/4, errOwnLimit)
	defer cancel()
	began := time.Now()
	if err := st.enlistAt(ctx, began, asked.list, st.handle(at.key.(string)), asked.time); err != nil {
		return err
	}
	_, _, err := st.eval(ctx, began, &st.listed, at.key, asked.list, []any{asked.since + listedFor(asked.time).Milliseconds()})
	return err
}

// eachListed reads an account's list, a thousand handles at a time, and tells when it began to. From one time
// to the next it goes on by score, and not by rank, which moves when others end; a handle may come more than
// once. If it is read to end what it names, that Redis refuses writes is an error, but not before all was visited:
// who is no master any more may not know of everybody.
func (st *store) eachListed(ctx context.Context, user string, end bool, visit func(began time.Time, handles []string) error) error {
	var refused error
	for from := "-inf"; ; {
		began := time.Now()
		v, found, err := st.eval(ctx, began, &st.list, st.accountList(accountHash(user)), from, nil)
		if errors.As(err, new(refusal)) {
			if end {
				refused = err
			}
			v, found, err = st.eval(ctx, began, &st.list, st.accountList(accountHash(user)), from, []any{asItIs})
		}
		if err != nil {
			return err
		}
		if v != done || found.kind != '*' {
			return errMalformed
		}
		more := found.ends('M')
		var items []string
		for {
			item, ok := found.next()
			if !ok {
				break
			}
			items = append(items, string(item))
		}
		if len(items) < 2 {
			return errMalformed
		}
		last := len(items) - 2 // a score and a mark
		if err := visit(began, items[:last]); err != nil {
			return err
		}
		if !more {
			return refused
		}
		from = items[last]
	}
}

// membersOf says what is known of those sessions that are alive and the account's, and ends them if it
// should. On one server it is one step; in a cluster, it is one for each slot. With an error, it is what
// was found, or ended, all the same.
func (st *store) membersOf(ctx context.Context, began time.Time, user string, handles []string, end bool) ([]SessionInfo, error) {
	if len(handles) == 0 {
		return nil, nil
	}
	keys := make([]string, len(handles))
	for i, handle := range handles {
		keys[i] = st.session(handle)
	}
	if !st.cluster {
		infos, _, err := st.lookAt(ctx, began, user, keys, end)
		return infos, err
	}
	var mu sync.Mutex
	var infos []SessionInfo
	var gone []any
	var failure error
	var looks sync.WaitGroup // all at once: one server that is down keeps nobody from the others
	for _, keys := range redisc.SplitBySlot(keys...) {
		looks.Go(func() {
			found, lost, err := st.lookAt(ctx, began, user, keys, end)
			mu.Lock()
			defer mu.Unlock()
			infos = append(infos, found...)
			gone = append(gone, lost...)
			failure = cmp.Or(failure, err)
		})
	}
	looks.Wait()
	if len(gone) > 0 { // that the list is tidy is not worth an error
		st.eval(ctx, began, &st.prune, st.accountList(accountHash(user)), gone[0], gone[1:])
	}
	return infos, failure
}

// lookAt is membersOf for the sessions of one server or slot. gone are arguments of prune.lua.
func (st *store) lookAt(ctx context.Context, began time.Time, user string, keys []string, end bool) (infos []SessionInfo, gone []any, err error) {
	command := append(make([]any, 0, len(keys)+5), st.members.sha, len(keys))
	for _, key := range keys {
		command = append(command, key)
	}
	v, found, err := st.call(ctx, began, &st.members, keys[0], append(command, user, flag(end), accountHash(user)))
	if err != nil {
		return nil, nil, err
	}
	if v != done || found.kind != '*' {
		return nil, nil, errMalformed
	}
	for {
		handle, more := found.next()
		if !more {
			return infos, gone, nil
		}
		created, _ := found.next()
		seen, _ := found.next()
		auth, _ := found.next()
		agent, _ := found.next()
		state := string(created)
		if state == "E" || state == "M" {
			gone = append(gone, string(handle), state)
			continue
		}
		if end {
			gone = append(gone, string(handle), "E")
		}
		infos = append(infos, SessionInfo{
			Handle: string(handle), Created: millis(created), LastSeen: millis(seen), SignedIn: micros(auth), UserAgent: string(agent),
		})
	}
}
