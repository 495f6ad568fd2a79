package pycket

import (
	"context"
	"crypto/sha1" // #nosec G505 -- the hash that Lua has in Redis, for names only
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// A SessionInfo is what an account's owner may know of one of its sessions: "your devices".
type SessionInfo struct {
	// Handle names the session. It stays the same for the session's life and lets nobody in: it may
	// stand in a form. Whoever gets one from a browser must check that it is among the account's own.
	Handle string

	Created  time.Time // when the session began
	LastSeen time.Time // when it was last used, to within a tenth of its idle timeout
	SignedIn time.Time // when the account was authenticated, by Login; zero if never

	UserAgent string // of the browser, as it was when the account was first bound to the session
	Current   bool   // it is the session of the request whose context was given
}

const (
	// maxUser bounds an account's name, and maxAgent what is kept of a user agent, in bytes.
	maxUser  = 1024
	maxAgent = 256

	userField  = reserved + "user"
	authField  = reserved + "auth"
	handleSize = 16
)

var (
	errNoUser = errors.New("the account's name is empty")
	errHandle = errors.New("that is no handle: see SessionInfo")
)

// Login binds the session to an account: the new id, the account, the values and the time of
// authentication are one step, and one round trip. Call it when the user has proved who they are, in
// place of [SessionManager.Rotate]. Like that it returns ErrHeadersSent, and does nothing, if the new
// cookie could not be sent. With Settings.MaxSessionsPerUser, the account's oldest sessions end if it has
// more now.
func (m *SessionManager) Login(user string, values Values) error {
	if user == "" {
		return failed("login", errNoUser)
	}
	return failed("login", m.bind(user, values, true))
}

// SetUser binds the session to an account without a login: its id stays, and it has no time of
// authentication. An empty name takes it from its account.
func (m *SessionManager) SetUser(user string) error {
	return failed("set user", m.bind(user, nil, false))
}

func (m *SessionManager) bind(user string, values Values, login bool) error {
	if len(user) > maxUser {
		return fmt.Errorf("%w: the account's name has %d bytes, and may have %d", ErrTooLarge, len(user), maxUser)
	}
	q, err := m.enter()
	if err != nil {
		return err
	}
	defer q.mu.Unlock()
	args, err := q.pairs(values)
	if err != nil {
		return err
	}
	if args == nil {
		args = make([]any, 1, 5)
	}
	if login && q.id != nil && q.committed.Load() {
		return ErrHeadersSent
	}
	pairs := len(args)
	agent := q.http.UserAgent()
	args = append(args, nil, user, flag(login), agent[:min(len(agent), maxAgent)])
	var next *sessionID
	if _, err := q.writeAs(&q.app.store.login, args, func(fresh bool) {
		next = q.id
		if login && !fresh {
			next = next.rotated()
		}
		args[pairs] = next.verifier
	}); err != nil {
		return err
	}
	if next != q.id {
		q.adopt(next)
		q.cookie = setCookie
	}
	q.snapshot = snapshot{} // Redis has set the time
	for i := 1; i < pairs; i += 2 {
		q.snapshot.learn(args[i].(string), args[i+1].([]byte))
	}
	return nil
}

// User is the account that the session is bound to, "" if there is none.
func (m *SessionManager) User() (string, error) {
	user, err := m.field(userField)
	return string(user), failed("user", err)
}

// AuthTime is when the account was authenticated, by the last Login of this session; the zero time if it
// was not. Ask for the password again, before something that matters, if that is long ago.
func (m *SessionManager) AuthTime() (time.Time, error) {
	at, err := m.field(authField)
	return millis(at), failed("authentication time", err)
}

// field reads a field of pycket's own.
func (m *SessionManager) field(name string) ([]byte, error) {
	q, err := m.enter()
	if err != nil {
		return nil, err
	}
	defer q.mu.Unlock()
	return q.value(name)
}

// millis reads a time as the scripts write it; the zero time if there is none.
func millis(text []byte) time.Time {
	n, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil || n <= 0 {
		return time.Time{}
	}
	return time.UnixMilli(n)
}

// Remember makes the session last: its idle timeout becomes this one, and its cookie stays when the
// browser is closed, for as long, up to 400 days. The cookie is renewed while the session is used, at most
// once per tenth of its life. It returns ErrHeadersSent, and does nothing, if the cookie could not be sent.
// Settings.AbsoluteTimeout holds all the same.
func (m *SessionManager) Remember(idle time.Duration) error {
	return failed("remember", m.remember(idle))
}

func (m *SessionManager) remember(idle time.Duration) error {
	const most = maxCookieDays * 24 * time.Hour
	if idle < minIdleTimeout {
		return fmt.Errorf("the idle timeout is %v; use %v or more", idle, minIdleTimeout)
	}
	idle = min(idle, most)
	q, err := m.enter()
	if err != nil {
		return err
	}
	defer q.mu.Unlock()
	if q.committed.Load() {
		return ErrHeadersSent
	}
	if _, err := q.write(&q.app.store.remember, []any{nil, idle.Milliseconds()}); err != nil {
		return err
	}
	q.lifetime, q.cookie = int64(idle.Seconds()), setCookie
	return nil
}

// Sessions lists the living sessions of an account, in the order in which they signed in. If ctx is that
// of a request, its own session is marked as current.
func (a *App) Sessions(ctx context.Context, user string) ([]SessionInfo, error) {
	current := currentHandle(ctx)
	infos := []SessionInfo{}
	for {
		list, err := a.members(ctx, user, len(infos))
		if err != nil {
			return nil, failed("sessions", err)
		}
		more := list.ends('M')
		for {
			handle, _ := list.next()
			if len(list.text) == 0 { // that was the mark
				break
			}
			info := SessionInfo{Handle: string(handle), Current: string(handle) == current}
			for _, into := range []*time.Time{&info.Created, &info.LastSeen, &info.SignedIn} {
				at, _ := list.next()
				*into = millis(at)
			}
			agent, _ := list.next()
			info.UserAgent = string(agent)
			infos = append(infos, info)
		}
		if !more {
			return infos, nil
		}
	}
}

// Revoke ends a session by its handle: its id is dead at once, on every server, and requests that are
// under way get ErrGone. A session that has ended already is no error. It asks for no account: check that
// the handle is among those that [App.Sessions] lists before you let a user revoke it.
func (a *App) Revoke(ctx context.Context, handle string) error {
	if !isHandle(handle) {
		return failed("revoke", errHandle)
	}
	_, _, err := a.store.run(ctx, &a.store.revoke, place{a.store.prefix + "s:{" + handle + "}", ""})
	return failed("revoke", err)
}

// RevokeUser ends all sessions of an account but those with the handles given, and says how many it has
// ended: "log out everywhere", or everywhere else.
func (a *App) RevokeUser(ctx context.Context, user string, except ...string) (int, error) {
	args := []any{"-"}
	for _, handle := range except {
		if !isHandle(handle) {
			return 0, failed("revoke user", errHandle)
		}
		args = append(args, handle)
	}
	ended, spared := 0, 0
	for {
		list, err := a.members(ctx, user, spared, args...)
		if err != nil {
			return ended, failed("revoke user", err)
		}
		more := list.ends('M')
		for {
			handle, _ := list.next()
			if len(list.text) == 0 { // that was the mark
				break
			}
			if len(handle) == 0 {
				spared++
			} else {
				ended++
			}
		}
		if !more {
			return ended, nil
		}
	}
}

// members runs the script that lists an account's sessions, or ends them.
func (a *App) members(ctx context.Context, user string, from int, args ...any) (answer, error) {
	sum := sha1.Sum([]byte(user)) // #nosec G401 -- a name; the scripts compare the accounts themselves
	list := place{a.store.prefix + "u:{" + hex.EncodeToString(sum[:]) + "}", user}
	v, found, err := a.store.run(ctx, &a.store.sessions, list, append([]any{from}, args...)...)
	if err == nil && (v != done || found.kind != '*') {
		err = errMalformed
	}
	return found, err
}

// currentHandle is the handle of the session of the request that ctx belongs to.
func currentHandle(ctx context.Context) string {
	q, ok := ctx.Value(requestKey{}).(*request)
	if !ok {
		return ""
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.identify()
	if q.id == nil {
		return ""
	}
	return q.id.handle
}

func isHandle(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return len(s) == handleSize
}

// due tells whether the browser's cookie has been used up for more than a tenth and should be given
// again. The session was found alive, but another request may have rotated it since, and its cookie must
// not be replaced: so Redis is asked once more, which happens once per tenth of the cookie's life.
func (q *request) due() bool {
	if !q.seen || q.ended || q.id == nil || q.lifetime == 0 || time.Now().Unix()-q.issued <= q.lifetime/10 {
		return false
	}
	v, _, err := q.inquire(&q.app.store.read, "", flag(false))
	return err == nil && v == done
}

// clearSiteData tells the browser to forget what it has kept of the site: caches and what scripts have
// stored (https://www.w3.org/TR/clear-site-data/). Cookies are not named: one of them may just be set.
func clearSiteData(h http.Header) {
	h.Set("Clear-Site-Data", `"cache", "storage"`)
}
