package pycket

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"time"
)

// Settings are the settings of an [App]. The zero value of every field but Secrets is a good default;
// docs/settings.md has them all in a table.
type Settings struct {
	// Secrets sign the cookies, 32 random bytes or more each. The first signs, all verify: put a new one
	// in front, and take the old one away when its cookies have expired. Keys are derived by HKDF-SHA256.
	Secrets []string

	Redis   RedisSettings
	Cookies CookieSettings

	// IdleTimeout ends a session that is not used for so long. 0 means 24 hours, as the original keeps
	// its data. Writes renew it, and reads at most once per tenth of it.
	IdleTimeout time.Duration

	// AbsoluteTimeout ends a session so long after it began, however much it is used. 0 means never.
	AbsoluteTimeout time.Duration

	// Codec encodes values. nil means [JSON].
	Codec Codec

	// MaxValueBytes is how large an encoded value may be. 0 means 1 MiB.
	MaxValueBytes int

	// MaxSessionBytes is how large a session may be in all: the names and encoded values of what is set
	// and of its notifications. 0 means 4 MiB.
	MaxSessionBytes int

	// MaxSessionsPerUser is how many sessions an account may have: a Login beyond that ends the oldest.
	// 0 means any number.
	MaxSessionsPerUser int

	// Logger gets what has no caller to be returned to, and what a caller may not have looked at. nil means
	// slog.Default(). No id, cookie, secret or stored value is ever logged.
	Logger *slog.Logger
}

const (
	defaultIdleTimeout     = 24 * time.Hour
	defaultMaxValueBytes   = 1 << 20
	defaultMaxSessionBytes = 4 << 20

	// minIdleTimeout is one below which milliseconds matter too much.
	minIdleTimeout = time.Second
)

// An App has what the sessions of an application share: its settings, its connections to Redis, its
// cookies. Make one with [New] when the program starts.
type App struct {
	settings Settings
	cookies  *cookies
	store    *store
	logger   *slog.Logger
	warnings *warnings
	digits   bool // the codec writes whole numbers as Redis does
}

// New makes an App. It checks all settings, and its error has a sentence for every bad one that says
// how to mend it. It dials nothing: use [App.Ping] to see whether Redis is there.
func New(s Settings) (*App, error) {
	var bad []error
	complain := func(err error) {
		if err != nil {
			bad = append(bad, failed("new", err))
		}
	}
	if s.Redis.Prefix == "" {
		s.Redis.Prefix = defaultPrefix
	}
	if v := reflect.ValueOf(s.Codec); s.Codec == nil {
		s.Codec = JSON{}
	} else if v.Kind() == reflect.Pointer && v.IsNil() {
		complain(fmt.Errorf("Codec is a nil pointer of type %T; use a codec that was made, or nil for JSON", s.Codec))
	}
	if s.Logger == nil {
		s.Logger = slog.Default()
	}
	complain(orDefault(&s.MaxValueBytes, "MaxValueBytes", defaultMaxValueBytes))
	complain(orDefault(&s.MaxSessionBytes, "MaxSessionBytes", defaultMaxSessionBytes))
	switch {
	case s.IdleTimeout == 0:
		s.IdleTimeout = defaultIdleTimeout
	case s.IdleTimeout < minIdleTimeout:
		complain(fmt.Errorf("IdleTimeout is %v; use %v or more, or 0 for %v", s.IdleTimeout, minIdleTimeout, defaultIdleTimeout))
	}
	if s.AbsoluteTimeout != 0 && s.AbsoluteTimeout < minIdleTimeout {
		complain(fmt.Errorf("AbsoluteTimeout is %v; use %v or more, or 0 for none", s.AbsoluteTimeout, minIdleTimeout))
	}
	if s.MaxSessionsPerUser < 0 {
		complain(fmt.Errorf("setting MaxSessionsPerUser is %d; use a positive number, or 0 for any", s.MaxSessionsPerUser))
	}
	cookies := newCookies(s.Cookies, s.Secrets, s.Redis.Prefix, complain)
	client, db, notificationsDB := newRedisClient(&s.Redis, complain)
	if len(bad) > 0 {
		return nil, errors.Join(bad...)
	}
	store, err := newStore(client, s, db, notificationsDB)
	if err != nil {
		return nil, failed("new", err)
	}
	return &App{settings: s, cookies: cookies, store: store, logger: s.Logger, warnings: newWarnings(s.Logger), digits: countsInDigits(s.Codec)}, nil
}

func orDefault(setting *int, name string, otherwise int) error {
	switch {
	case *setting == 0:
		*setting = otherwise
	case *setting < 0:
		return fmt.Errorf("%s is %d; use a positive number of bytes, or 0 for %d", name, *setting, otherwise)
	}
	return nil
}

// Wrap gives requests their sessions: everything that uses a session must be served through it. What
// doesn't use one pays next to nothing and never touches Redis.
//
// A request that comes through it twice, as where a router with a Wrap stands in another, still has one session.
// Within the Wrap of another App, it has that of the innermost.
func (a *App) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if q := a.requestOf(w, r); q != nil {
			if r.Context().Value(requestKey{}) != any(q) { // but that of another App, or none
				r = r.WithContext(within{r.Context(), q})
			}
			next.ServeHTTP(w, r)
			return
		}
		q := &request{Context: r.Context(), app: a, http: r, began: time.Now()}
		q.response.ResponseWriter = w
		q.response.request = q
		q.session.request = q
		q.notifications.request = q
		defer q.end()
		next.ServeHTTP(q.writer(), r.WithContext(q))
	})
}

// Ping shows that Redis can be worked with: that it answers, that sessions and notifications can be read, written and
// deleted under Redis.Prefix, and that the user in Redis.URL may do all that it takes; in a cluster, on every
// server that has slots. If not, its error says why, and what to do. It makes keys that it deletes in the same
// step, in two round trips to each server.
func (a *App) Ping(ctx context.Context) error {
	return failed("ping", a.store.ping(ctx))
}

// Close closes the connections to Redis. Operations after it return [ErrUnavailable].
func (a *App) Close() error {
	return failed("close", a.store.redis.close())
}
