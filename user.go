package pycket

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pycket/pycket/internal/store"
)

// A SessionInfo is what a user may know of one of their sessions: "your devices".
type SessionInfo struct {
	// Handle names the session. It stays the same for the session's life and lets nobody in: it may be in a form.
	// When you get one from a browser, check that it is among the user's own.
	Handle string

	Created  time.Time // when the session began
	LastSeen time.Time // when it was last used, to within a tenth of its idle timeout
	SignedIn time.Time // when the user was authenticated, by Login; zero if never

	UserAgent string // of the browser, when the user was first bound to the session
	Current   bool   // it is the session of the request whose context was given
}

const (
	// maxUser bounds a user's name, and maxAgent what is kept of a user agent, in bytes.
	maxUser  = 1024
	maxAgent = 256
)

var (
	errNoUser    = errors.New("the user's name is empty")
	errHandle    = errors.New("that is not a handle: see SessionInfo")
	errNoSession = errors.New("there is no session to remember: call Login, or store a value, before Remember")
)

// Login binds the session to a user who has just proved who they are: the new id, the user, the values and the time of
// authentication are one step and one round trip. In a cluster there are two, of which the first only announces the
// session to the user's list; every 64th login of a user takes two more, to tidy that list. If the new cookie can't be
// sent, Login does nothing and returns ErrHeadersSent. With Settings.MaxSessionsPerUser, the user's oldest sessions end
// if there are more now.
//
// What another user has left in the session, values and notifications, is deleted in the same step. What a stranger has
// left stays, since that is the cart; so does what the same user has left.
//
// If the session was destroyed or revoked before this request began, by Redis's clock, Login starts a fresh one under a
// new id, with nothing of the old: the user has just proved who they are. If that happened while this request was under
// way, or if another request has given the session a new id less than five seconds before this one began or since, Login
// returns ErrGone as every write does.
//
// What [SessionManager.Remember] has set stays if the same user logs in again, and if a stranger who logs in now has
// called it in the same request. Otherwise it ends: it was for whoever used this browser before.
func (m *SessionManager) Login(user string, values Values) error {
	if user == "" {
		return failed("login", errNoUser)
	}
	return failed("login", m.bind(user, values, true))
}

// SetUser binds the session to a user without a login: its id stays, and it has no time of authentication. An empty name
// frees it of its user. What the user who had the session has left, values and notifications, is deleted in the same
// step. Requests under way may still write, since the id stays: prefer [SessionManager.Login] to change users, and
// [SessionManager.Destroy] to leave one.
func (m *SessionManager) SetUser(user string) error {
	return failed("set user", m.bind(user, nil, false))
}

func (m *SessionManager) bind(user string, values Values, login bool) error {
	if len(user) > maxUser {
		return fmt.Errorf("%w: the user's name has %d bytes, and may have %d", ErrTooLarge, len(user), maxUser)
	}
	fields, err := m.fields(values)
	if err != nil {
		return err
	}
	op, err := m.begin()
	if err != nil {
		return err
	}
	defer op.end()
	if user == "" && op.id == nil {
		return op.gone() // none is made for nobody
	}
	if login && op.id != nil && op.committed.Load() {
		return op.app.warnings.headersSent()
	}
	op.login = login
	agent := op.http.UserAgent()
	b := store.Binding{
		User: user, Authenticated: login, Remembered: login && op.renew,
		Agent: strings.ToValidUTF8(agent[:min(len(agent), maxAgent)], ""),
	}
	var idle time.Duration
	for op.next() {
		b.Next, b.Fields = nil, op.seal(sessionValue, fields)
		if login && !op.fresh {
			b.Next = op.rotation()
		}
		var o store.Outcome
		idle, o, err = op.app.store.Login(op.ctx, op.began, op.id, op.fresh, b)
		op.wrote(o, err)
		if user == "" && op.id == nil && op.err == nil && !op.done {
			return op.gone()
		}
	}
	if op.err != nil {
		if b.Next != nil {
			op.tried, op.triedFor = b.Next, asStored
		}
		return op.err
	}
	if login {
		if b.Next != nil {
			op.rotated(b.Next)
		}
		op.cookie, op.lifetime, op.renew = setCookie, op.lifetimeFor(idle), false
	}
	op.snapshot = snapshot{} // Redis has set the time
	op.snapshot.learn(op.sealed...)
	if login {
		// The login has been done: what goes wrong now is left to the next.
		if err := op.app.store.Limit(op.ctx, op.began, user, op.id.Handle); err != nil {
			op.app.logger.Warn("pycket: a user may have more sessions than Settings.MaxSessionsPerUser until the next login", "error", err)
		}
	}
	return op.unconfirmed
}

// User returns the user whom the session is bound to, "" if there is none.
func (m *SessionManager) User() (string, error) {
	user, err := m.own(store.UserField, nil)
	return string(user), failed("user", err)
}

// AuthTime returns when the user was authenticated, by the last Login of this session; the zero time if never. If that is
// long ago, ask for the password again before something that matters.
func (m *SessionManager) AuthTime() (time.Time, error) {
	at, err := m.own(store.AuthField, nil)
	return store.Micros(at), failed("authentication time", err)
}

// Remember makes the session last: idle becomes its idle timeout, and its cookie stays for as long when the browser is
// closed, up to 400 days. The cookie is renewed while the session is used, at most once per tenth of its life.
// Settings.AbsoluteTimeout holds all the same.
//
// If the cookie can't be sent, Remember does nothing and returns ErrHeadersSent. Without a session it returns an error:
// call it after [SessionManager.Login], which says what becomes of it at the next one. The cookie is sent with the
// response's headers, unless another request has given the session a new id by then; the Logger receives a line if not.
func (m *SessionManager) Remember(idle time.Duration) (err error) {
	defer failing(&err, "remember")
	if idle < minIdleTimeout {
		return fmt.Errorf("the idle timeout is %v; use %v or more", idle, minIdleTimeout)
	}
	idle = min(idle, store.LongestIdle)
	op, err := m.begin()
	if err != nil {
		return err
	}
	defer op.end()
	if op.committed.Load() {
		return op.app.warnings.headersSent()
	}
	for op.asks() {
		op.heard(op.app.store.Remember(op.ctx, op.began, op.id, idle))
	}
	if err := op.gone(); err != nil {
		return err
	}
	if !op.done {
		return errNoSession
	}
	op.lifetime, op.renew = int64(idle.Seconds()), true
	op.snapshot.learn(store.Field{Name: store.IdleField, Value: strconv.AppendInt(nil, idle.Milliseconds(), 10)})
	return op.unconfirmed
}

// Remembered reports whether [SessionManager.Remember] holds for the session.
func (m *SessionManager) Remembered() (bool, error) {
	idle, err := m.own(store.IdleField, nil)
	return idle != nil, failed("remembered", err)
}

// Sessions returns the sessions of a user that are alive, in the order in which they were logged in or, without
// [SessionManager.Login], began. If ctx is that of a request, its own session is marked as current.
// RedisSettings.Timeout applies to each batch of 1,000.
func (a *App) Sessions(ctx context.Context, user string) ([]SessionInfo, error) {
	members, err := a.store.Members(ctx, user, false)
	if err != nil {
		return nil, failed("sessions", err)
	}
	current, err := a.currentHandle(ctx)
	if err != nil {
		return nil, failed("sessions", err)
	}
	slices.SortFunc(members, store.Member.Compare)
	infos := make([]SessionInfo, len(members))
	for i, s := range members {
		infos[i] = SessionInfo{s.Handle, s.Created, s.Seen, s.Authenticated, s.Agent, s.Handle == current}
	}
	return infos, nil
}

// Revoke ends a session by its handle: its id is dead at once, on every server, and requests under way get ErrGone. If the
// session has already ended, Revoke returns nil. It does not ask for a user: check that the handle is among those that
// [App.Sessions] lists before you let a user revoke it.
func (a *App) Revoke(ctx context.Context, handle string) error {
	if !store.IsHandle(handle) {
		return failed("revoke", errHandle)
	}
	return failed("revoke", a.store.Revoke(ctx, time.Now(), handle))
}

// RevokeUser ends all sessions of a user but those with the handles given, and returns how many it has ended: "log out
// everywhere", or everywhere else. It finds every session whose Login returned before. With an error, some may have been
// ended: call it again. RedisSettings.Timeout applies to each batch of 1,000.
func (a *App) RevokeUser(ctx context.Context, user string, except ...string) (int, error) {
	for _, handle := range except {
		if !store.IsHandle(handle) {
			return 0, failed("revoke user", errHandle)
		}
	}
	ended, err := a.store.Members(ctx, user, true, except...)
	return len(ended), failed("revoke user", err)
}

// currentHandle returns the handle of the session of the request that ctx belongs to, "" if there is none.
func (a *App) currentHandle(ctx context.Context) (string, error) {
	q, ok := ctx.Value(a).(*request)
	if !ok {
		return "", nil
	}
	op, err := q.begin(ctx)
	if err != nil {
		return "", err
	}
	defer op.end()
	if op.id == nil {
		return "", nil
	}
	return op.id.Handle, nil
}
