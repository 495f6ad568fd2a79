package pycket

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pycket/pycket/internal/stats"
	"github.com/pycket/pycket/internal/store"
)

// A SessionInfo is what a user may know of one of their sessions: "your devices".
type SessionInfo struct {
	// Handle names the session. It stays the same for the session's life and opens nothing, so it may be in a form.
	// Check that a handle from a browser is among the user's own.
	Handle string

	Created  time.Time // when the session began
	LastSeen time.Time // when it was last used, to within a tenth of its idle timeout
	SignedIn time.Time // when the user was authenticated, by Login; zero if never

	UserAgent string // of the browser, when the session was first bound to the user
	Current   bool   // it is the session of the request whose context was given
}

const (
	// maxUser bounds a user's name, and maxAgent the part of a user agent that is kept, in bytes.
	maxUser  = 1024
	maxAgent = 256
)

var (
	errNoUser    = errors.New("the user's name is empty")
	errHandle    = errors.New("that is not a handle: see SessionInfo")
	errStranger  = errors.New("the session has no user, and so no others: call Login first")
	errNoSession = errors.New("there is no session to remember: call Login, or store a value, before Remember")
)

// Login binds the session to a user who has just proved who they are: the new id, the user, the values and the time of
// authentication are one step and one round trip. In a cluster it takes two, the first to put the session on the user's
// list. Every 64th login of a user takes two more, to remove dead sessions from the list. If the new cookie can't be
// sent, Login does nothing and returns ErrHeadersSent. With Settings.MaxSessionsPerUser, the user's oldest sessions end
// if there are now more.
//
// Values and notifications that another user left in the session are deleted in the same step. Those of a stranger
// stay, since they are the cart, and so do those of the same user.
//
// If the session was destroyed or revoked before this request began, by Redis's clock, Login starts a fresh one under a
// new id, with nothing of the old one: the user has just proved who they are. If that happened after this request
// began, or if another request rotated the session after it began or less than five seconds before, Login returns
// ErrGone as every write does.
//
// Login cancels an earlier [SessionManager.Remember], which was for whoever used this browser before, unless the same
// user logs in again, or the same request called Remember and the session had no user.
func (m *SessionManager) Login(user string, values Values) (err error) {
	c := m.call(stats.Login)
	defer c.end(&err)
	if user == "" {
		return errNoUser
	}
	return m.bind(&c, user, values, true)
}

// SetUser binds the session to a user without a login: its id stays, and another user has no time of authentication. An
// empty name unbinds it. Values and notifications that another user left in the session are deleted in the same step.
// Requests under way may still write, since the id stays: prefer [SessionManager.Login] to change users, and
// [SessionManager.Destroy] to log one out.
func (m *SessionManager) SetUser(user string) (err error) {
	c := m.call(stats.SetUser)
	defer c.end(&err)
	return m.bind(&c, user, nil, false)
}

func (m *SessionManager) bind(c *call, user string, values Values, login bool) error {
	if len(user) > maxUser {
		return fmt.Errorf("%w: the user's name has %d bytes, and may have %d", ErrTooLarge, len(user), maxUser)
	}
	fields, err := m.fields(values)
	if err != nil {
		return err
	}
	op, err := m.begin(c)
	if err != nil {
		return err
	}
	defer op.end(c)
	if user == "" && op.id == nil {
		return op.gone() // no session is made without a user
	}
	if login && op.id != nil && op.committed.Load() {
		return op.app.warnings.Refused(ErrHeadersSent)
	}
	op.login = login
	agent := op.http.UserAgent()
	b := store.Binding{
		User: user, Authenticated: login, Remembered: login && op.renew,
		Agent: strings.ToValidUTF8(agent[:min(len(agent), maxAgent)], ""),
	}
	var idle time.Duration
	var ended int // others, beyond MaxSessionsPerUser
	for op.next() {
		b.Next, b.Fields = nil, op.seal(sessionValue, fields)
		if login && !op.fresh {
			b.Next = op.rotation()
		}
		var o store.Outcome
		idle, ended, o, err = op.app.store.Login(op.ctx, op.began, op.id, op.fresh, b)
		op.wrote(o, err)
		if user == "" && op.id == nil && op.err == nil && !op.done {
			return op.gone()
		}
	}
	if op.err != nil {
		if b.Next != nil {
			op.pending = b.Next
		}
		return op.err
	}
	if login {
		if b.Next != nil {
			op.rotated(b.Next)
		}
		op.cookie, op.lifetime, op.renew = setCookie, op.lifetimeFor(idle), false
	}
	op.snapshot = snapshot{} // Redis has set the time of authentication
	op.snapshot.learn(op.sealed...)
	if login {
		// The login has succeeded. If this fails, the next login tries again.
		more, err := op.app.store.Limit(op.ctx, op.began, user, op.id.Handle)
		if err != nil {
			op.app.logger.Warn("pycket: a user may have more sessions than Settings.MaxSessionsPerUser until the next login", "error", err)
		}
		if ended+more > 0 {
			op.app.warnings.Revoked(op.Context)
		}
	}
	return op.unconfirmed
}

// User returns the user that the session is bound to, or "".
func (m *SessionManager) User() (name string, err error) {
	c := m.call(stats.User)
	defer c.end(&err)
	user, err := m.own(&c, store.UserField)
	return string(user), err
}

// AuthTime returns when the user was authenticated, by the last Login of this session, or the zero time. If that is
// long ago, ask for the password again before a sensitive operation.
func (m *SessionManager) AuthTime() (at time.Time, err error) {
	c := m.call(stats.AuthTime)
	defer c.end(&err)
	micros, err := m.own(&c, store.AuthField)
	return store.Micros(micros), err
}

// Remember gives the session the idle timeout idle, up to 400 days, and a cookie that lasts as long even if the browser
// is closed. The cookie is renewed while the session is used, at most once per tenth of its life.
// Settings.AbsoluteTimeout still applies.
//
// If the cookie can't be sent, Remember does nothing and returns ErrHeadersSent. Without a session it returns an error:
// call it after [SessionManager.Login], which cancels an earlier one. The cookie is sent with the response's headers,
// unless another request has rotated the session by then; in that case the Logger receives a line.
func (m *SessionManager) Remember(idle time.Duration) (err error) {
	c := m.call(stats.Remember)
	defer c.end(&err)
	if idle < minIdleTimeout {
		return fmt.Errorf("the idle timeout is %v; use %v or more", idle, minIdleTimeout)
	}
	idle = min(idle, store.LongestIdle)
	op, err := m.begin(&c)
	if err != nil {
		return err
	}
	defer op.end(&c)
	if op.committed.Load() {
		return op.app.warnings.Refused(ErrHeadersSent)
	}
	for op.asks() {
		op.changed(op.app.store.Remember(op.ctx, op.began, op.id, idle))
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

// Remembered reports whether [SessionManager.Remember] is in effect.
func (m *SessionManager) Remembered() (remembered bool, err error) {
	c := m.call(stats.Remembered)
	defer c.end(&err)
	idle, err := m.own(&c, store.IdleField)
	return idle != nil, err
}

// Handle returns the name of the session, that of its [SessionInfo], or "" if there is no session. It stays the
// same for the session's life and opens nothing, so it may be in a log. It may be from what the request has read of the
// session, as values are.
func (m *SessionManager) Handle() (handle string, err error) {
	c := m.call(stats.Handle)
	defer c.end(&err)
	return m.handle(&c)
}

func (m *manager) handle(c *call) (string, error) {
	op, err := m.begin(c)
	if err != nil {
		return "", err
	}
	defer op.end(c)
	if _, err := op.value(store.UserField); err != nil || op.id == nil { // of several cookies' sessions, one may be alive
		return "", err
	}
	return op.id.Handle, nil
}

// RevokeOthers ends all other sessions of the session's user, and returns how many it has ended: "log out everywhere
// else". The session itself stays. If it has ended, RevokeOthers returns ErrGone, and if it has no user, an error; then
// nothing has ended. It is [App.RevokeUser] otherwise, and takes a round trip more, in which it asks Redis, never
// memory, whose session this is.
func (m *SessionManager) RevokeOthers() (ended int, err error) {
	c := m.call(stats.RevokeOthers)
	defer c.end(&err)
	user, handle, err := m.bearer(&c)
	if err != nil {
		return 0, err
	}
	return c.revokeUser(user, handle)
}

// bearer returns the session's user, by Redis's word, and its handle.
func (m *manager) bearer(c *call) (user, handle string, err error) {
	op, err := m.begin(c)
	if err != nil {
		return "", "", err
	}
	defer op.end(c)
	for op.asks() {
		var o store.Outcome
		user, o, err = op.app.store.CheckUser(op.ctx, op.began, op.id)
		op.heard(o, err)
	}
	switch err := op.gone(); {
	case err != nil:
		return "", "", err
	case user == "" || op.id == nil:
		return "", "", errStranger
	}
	return user, op.id.Handle, nil
}

// Sessions returns the sessions of a user that are alive, in the order in which the user logged in or, without a
// [SessionManager.Login], the session began. If ctx is a request's context, the request's session is marked as current.
// RedisSettings.Timeout applies to each batch of 1,000.
func (a *App) Sessions(ctx context.Context, user string) (infos []SessionInfo, err error) {
	c := a.call(ctx, stats.Sessions)
	defer c.end(&err)
	current := ""
	if q, ok := ctx.Value(a).(*request); ok {
		if current, err = (&manager{request: q, context: ctx}).handle(&c); err != nil {
			return nil, err
		}
	}
	members, err := a.store.Members(ctx, c.start(), user, false)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(members, store.Member.Compare)
	infos = make([]SessionInfo, len(members))
	for i, s := range members {
		infos[i] = SessionInfo{s.Handle, s.Created, s.Seen, s.Authenticated, s.Agent, s.Handle == current}
	}
	return infos, nil
}

// Revoke ends a session by its handle: its id is dead at once, on every server, and requests under way get ErrGone. If
// the session has already ended, Revoke returns nil. It does not check whose session it is: check that the handle is
// among those that [App.Sessions] lists before you let a user revoke it.
func (a *App) Revoke(ctx context.Context, handle string) (err error) {
	c := a.call(ctx, stats.Revoke)
	defer c.end(&err)
	if !store.IsHandle(handle) {
		return errHandle
	}
	ended, err := a.store.Revoke(ctx, c.start(), handle)
	if ended {
		a.warnings.Revoked(ctx)
	}
	return err
}

// RevokeUser ends all sessions of a user but those with the handles given, and returns how many it has ended: "log out
// everywhere", or everywhere else. It finds every session whose Login returned before the call. If it returns an error,
// some may have ended: call it again. RedisSettings.Timeout applies to each batch of 1,000.
func (a *App) RevokeUser(ctx context.Context, user string, except ...string) (n int, err error) {
	c := a.call(ctx, stats.RevokeUser)
	defer c.end(&err)
	for _, handle := range except {
		if !store.IsHandle(handle) {
			return 0, errHandle
		}
	}
	return c.revokeUser(user, except...)
}

// revokeUser ends all sessions of a user but those with the handles given, and returns how many.
func (c *call) revokeUser(user string, except ...string) (int, error) {
	ended, err := c.app.store.Members(c.ctx, c.start(), user, true, except...)
	if len(ended) > 0 {
		c.app.warnings.Revoked(c.ctx)
	}
	return len(ended), err
}
