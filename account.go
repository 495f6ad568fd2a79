package pycket

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
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
	idleField  = reserved + "idle"
	handleSize = 16
)

var (
	errNoUser    = errors.New("the account's name is empty")
	errHandle    = errors.New("that is no handle: see SessionInfo")
	errNoSession = errors.New("there is no session to remember: call Login, or store a value, before Remember")
)

// Login binds the session to an account: the new id, the account, the values and the time of
// authentication are one step, and one round trip; in a cluster, two, of which the first only announces the
// session to the account's list. Call it when the user has proved who they are, in
// place of [SessionManager.Rotate]. Like that it returns ErrHeadersSent, and does nothing, if the new
// cookie could not be sent. With Settings.MaxSessionsPerUser, the account's oldest sessions end if it has
// more now.
//
// If the session was another account's, the values and notifications of that go, in the same step: whoever signs in
// does not get what somebody else has left. Those of a stranger stay, since that is the cart, and those of the account
// itself, which signs in again.
//
// If the session was destroyed or revoked before this request began, by Redis's clock, Login starts a fresh one under
// a new id, with nothing of the old: the user has just proved who they are. If it was while this request was under
// way, or another request has given it a new id less than five seconds before this one began or since, Login returns
// ErrGone as every write does.
//
// What [SessionManager.Remember] has set stays when the account itself signs in again, and if it was called in the same
// request for a stranger who signs in now. Otherwise it ends: it was for whoever used this browser before.
func (m *SessionManager) Login(user string, values Values) error {
	if user == "" {
		return failed("login", errNoUser)
	}
	return failed("login", m.bind(user, values, true))
}

// SetUser binds the session to an account without a login: its id stays, and it has no time of
// authentication. An empty name takes it from its account. The values and notifications of an account that the session
// leaves go, in the same step. Requests that are under way may still write, since the id stays: prefer
// [SessionManager.Login] to change accounts, and [SessionManager.Destroy] to leave one.
func (m *SessionManager) SetUser(user string) error {
	return failed("set user", m.bind(user, nil, false))
}

func (m *SessionManager) bind(user string, values Values, login bool) error {
	if len(user) > maxUser {
		return fmt.Errorf("%w: the account's name has %d bytes, and may have %d", ErrTooLarge, len(user), maxUser)
	}
	return m.write(func(q *request) ([]any, error) {
		args, err := q.pairs(values)
		if err == nil && args == nil {
			args = make([]any, 1, 7)
		}
		return args, err
	}, func(q *request, args []any) error {
		return q.bind(user, args, login)
	})
}

// bind runs the script that binds the session to an account. args are those of the values.
func (q *request) bind(user string, args []any, login bool) error {
	if user == "" {
		return q.unbind()
	}
	if login && q.id != nil && q.committed.Load() {
		return q.app.warnings.headersSent()
	}
	pairs := len(args)
	agent := q.http.UserAgent()
	agent = strings.ToValidUTF8(agent[:min(len(agent), maxAgent)], "")
	hash, auth := accountHash(user), flag(login)
	if login && q.renew {
		auth = "r" // by this request
	}
	args = append(args, nil, user, hash, auth, agent, 0)
	store := q.app.store
	var next *sessionID
	a, err := q.writeAs(&store.login, args, login, func(fresh bool, idle time.Duration) error {
		next = q.id
		args[pairs] = ""
		if login && !fresh {
			next = q.next(q.app.cookies.lifetime)
			args[pairs] = next.verifier
		}
		if !store.cluster {
			return nil
		}
		if q.lifetime != q.app.cookies.lifetime { // what Remember set may stay
			idle = max(idle, time.Duration(q.lifetime)*time.Second)
		}
		args[pairs+5] = listedFor(idle).Milliseconds()
		return store.enlistAt(q.current.Context, q.current.began, hash, q.id.handle, idle)
	})
	if err != nil {
		return err
	}
	if login {
		q.adopt(next)
		q.cookie, q.lifetime, q.renew = setCookie, q.app.cookies.lifetime, false
		if idle, err := strconv.ParseInt(string(a.value()), 10, 64); err == nil {
			q.lifetime = idle / 1000
		}
	}
	q.snapshot = snapshot{} // Redis has set the time
	for i := 1; i < pairs; i += 2 {
		q.snapshot.learn(args[i].(string), args[i+1].([]byte))
	}
	if login && store.cluster {
		q.app.limit(q.current.Context, q.current.began, user, next.handle)
	}
	return nil
}

// unbind takes the session from its account. Without a session it does nothing: none is made for nobody.
func (q *request) unbind() error {
	if q.ended {
		return ErrGone
	}
	v, _, err := q.inquire(&q.app.store.login, flag(false), "", "", "", flag(false), "", 0)
	switch {
	case err != nil:
		return err
	case q.ended:
		return ErrGone
	case v == done:
		q.snapshot = snapshot{}
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
	return micros(at), failed("authentication time", err)
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
func millis(text []byte) time.Time { return sinceEpoch(text, time.UnixMilli) }

// micros is millis for times that must tell what came first.
func micros(text []byte) time.Time { return sinceEpoch(text, time.UnixMicro) }

func sinceEpoch(text []byte, from func(int64) time.Time) time.Time {
	n, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil || n <= 0 {
		return time.Time{}
	}
	return from(n)
}

// Remember makes the session last: its idle timeout becomes this one, and its cookie stays when the
// browser is closed, for as long, up to 400 days. The cookie is renewed while the session is used, at most
// once per tenth of its life. It returns ErrHeadersSent, and does nothing, if the cookie could not be sent, and
// an error if there is no session to remember: call it after [SessionManager.Login], which says what becomes of it
// at the next one. The cookie is sent with the response's headers, if Redis then says that no other request has
// given the session a new id; else the Logger gets a line. Settings.AbsoluteTimeout holds all the same.
func (m *SessionManager) Remember(idle time.Duration) error {
	return failed("remember", m.remember(idle))
}

// Remembered says whether [SessionManager.Remember] holds for the session.
func (m *SessionManager) Remembered() (bool, error) {
	idle, err := m.field(idleField)
	return idle != nil, failed("remembered", err)
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
		return q.app.warnings.headersSent()
	}
	if q.ended {
		return ErrGone
	}
	millis := strconv.AppendInt(nil, idle.Milliseconds(), 10)
	v, _, err := q.inquire(&q.app.store.remember, millis)
	if err == nil && v == unlisted { // the place on the list was renewed, for the idle timeout that there was
		v, _, err = q.inquire(&q.app.store.remember, millis)
	}
	switch {
	case err != nil:
		return err
	case q.ended:
		return ErrGone
	case v == expired || v == destroyed || v == rotated:
		return errNoSession
	case v != done:
		return errMalformed
	}
	q.lifetime, q.renew = int64(idle.Seconds()), true
	q.snapshot.learn(idleField, millis)
	return nil
}

// Sessions lists the living sessions of an account, in the order in which they signed in or, without
// [SessionManager.Login], began. If ctx is that of a request, its own session is marked as current.
// RedisSettings.Timeout is for each thousand.
func (a *App) Sessions(ctx context.Context, user string) ([]SessionInfo, error) {
	infos, err := a.sessions(ctx, user)
	if err != nil {
		return nil, failed("sessions", err)
	}
	current, err := a.currentHandle(ctx)
	if err != nil {
		return nil, failed("sessions", err)
	}
	for i := range infos {
		infos[i].Current = infos[i].Handle == current
	}
	return infos, nil
}

func (a *App) sessions(ctx context.Context, user string) ([]SessionInfo, error) {
	infos, listed := []SessionInfo{}, map[string]bool{}
	err := a.store.eachListed(ctx, user, false, func(began time.Time, handles []string) error {
		found, err := a.store.membersOf(ctx, began, user, handles, false)
		for _, info := range found {
			if !listed[info.Handle] {
				listed[info.Handle] = true
				infos = append(infos, info)
			}
		}
		return err
	})
	slices.SortFunc(infos, func(a, b SessionInfo) int {
		return cmp.Or(a.signedIn().Compare(b.signedIn()), strings.Compare(a.Handle, b.Handle))
	})
	return infos, err
}

// signedIn is when the session was authenticated or, if it was not, began.
func (i SessionInfo) signedIn() time.Time {
	if i.SignedIn.IsZero() {
		return i.Created
	}
	return i.SignedIn
}

// Revoke ends a session by its handle: its id is dead at once, on every server, and requests that are
// under way get ErrGone. A session that has ended already is no error. It asks for no account: check that
// the handle is among those that [App.Sessions] lists before you let a user revoke it.
func (a *App) Revoke(ctx context.Context, handle string) error {
	if !isHandle(handle) {
		return failed("revoke", errHandle)
	}
	_, _, err := a.store.run(ctx, time.Now(), &a.store.revoke, place{a.store.session(handle), ""})
	return failed("revoke", err)
}

// RevokeUser ends all sessions of an account but those with the handles given, and says how many it has
// ended: "log out everywhere", or everywhere else. Every session whose Login had returned before is among
// them. With an error, some may have been ended: call it again. RedisSettings.Timeout is for each thousand.
func (a *App) RevokeUser(ctx context.Context, user string, except ...string) (int, error) {
	for _, handle := range except {
		if !isHandle(handle) {
			return 0, failed("revoke user", errHandle)
		}
	}
	ended := 0
	var failure error // of one server of a cluster is no reason to leave the sessions on others
	err := a.store.eachListed(ctx, user, true, func(began time.Time, handles []string) error {
		handles = slices.DeleteFunc(handles, func(handle string) bool { return slices.Contains(except, handle) })
		found, err := a.store.membersOf(ctx, began, user, handles, true)
		ended += len(found)
		failure = cmp.Or(failure, err)
		return nil
	})
	return ended, failed("revoke user", cmp.Or(err, failure))
}

// limit ends the oldest sessions of an account that has too many, in a cluster: elsewhere login.lua does. The
// login it is for has been done, so what goes wrong here is left to the next. own is the handle of the session
// that has just signed in: it stays, though the clocks of the servers may differ.
func (a *App) limit(ctx context.Context, began time.Time, user, own string) {
	most := a.settings.MaxSessionsPerUser
	if most == 0 {
		return
	}
	ctx, cancel := context.WithDeadline(ctx, began.Add(a.store.timeout)) // also if the list is long
	defer cancel()
	infos, err := a.sessions(ctx, user)
	if surplus := len(infos) - most; err == nil && surplus > 0 {
		var oldest []string
		for _, info := range infos[:surplus] {
			if info.Handle != own {
				oldest = append(oldest, info.Handle)
			}
		}
		_, err = a.store.membersOf(ctx, began, user, oldest, true)
	}
	if err != nil {
		a.logger.Warn("pycket: an account may have more sessions than Settings.MaxSessionsPerUser until its next login", "error", err)
	}
}

// currentHandle is the handle of the session of the request that ctx belongs to.
func (a *App) currentHandle(ctx context.Context) (string, error) {
	q, ok := ctx.Value(a).(*request)
	if !ok {
		return "", nil
	}
	if err := q.enter(ctx); err != nil {
		return "", err
	}
	defer q.mu.Unlock()
	if q.id == nil {
		return "", nil
	}
	return q.id.handle, nil
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

// due tells whether the browser should be given its cookie again: Remember has changed its lifetime, or
// more than a tenth of that has passed. The session was found alive, but another request may have rotated
// it since, whose cookie must not be replaced: so Redis is asked once more.
func (q *request) due() bool {
	if !q.seen || q.ended || q.id == nil {
		return false
	}
	renew := q.renew
	if !renew && (q.lifetime == 0 || time.Now().Unix()-q.issued <= q.lifetime/10) {
		return false
	}
	v, _, err := q.inquire(&q.app.store.read, "", flag(false))
	if v == rotated {
		err = errNewID
	}
	if renew && err != nil && !errors.Is(err, context.Canceled) { // then nobody is there to get it
		q.app.warnings.forgotten(err)
	}
	return err == nil && v == done
}

var errNewID = errors.New("another request has given the session a new id meanwhile, and its cookie stands")

// clearSiteData tells the browser to forget what it has kept of the site: caches and what scripts have
// stored (https://www.w3.org/TR/clear-site-data/). Cookies are not named: one of them may just be set.
func clearSiteData(h http.Header) {
	h.Set("Clear-Site-Data", `"cache", "storage"`)
}
