package pycket

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"time"

	"github.com/pycket/pycket/internal/codec"
	"github.com/pycket/pycket/internal/stats"
	"github.com/pycket/pycket/internal/store"
	"github.com/pycket/pycket/internal/warn"
)

// Settings are the settings of an [App]. The zero value of every field but Secrets is a good default; docs/settings.md
// lists them all in a table.
type Settings struct {
	// Secrets sign the cookies. Each is 32 random bytes or more. The first signs, all verify: to change the secret, put a
	// new one in front, and remove the old one when its cookies have expired. Keys are derived by HKDF-SHA256.
	Secrets []string

	Redis   RedisSettings
	Cookies CookieSettings

	// IdleTimeout is how long a session lasts without use. 0 means 24 hours, as in pycket for Tornado. Every write renews
	// it; reads renew it once a tenth of it has passed.
	IdleTimeout time.Duration

	// AbsoluteTimeout is how long a session lasts in all, however much it is used. 0 means no limit; in a cluster it means
	// 400 days.
	AbsoluteTimeout time.Duration

	// CacheFor, if it is not 0, lets reads of sessions be answered from this process's memory. Redis says what has changed,
	// and no read is older than CacheFor, whatever hangs: another process's write or revoke is seen within that time, as a
	// rule within a millisecond, this process's own at once. Writes never look there. It takes one more connection to each
	// server. docs/security.md says when not to use it.
	CacheFor time.Duration

	// CacheBytes bounds that memory. 0 means 32 MiB.
	CacheBytes int

	// Codec encodes values. nil means [JSON].
	Codec Codec

	// MaxValueBytes is the largest size of an encoded value. 0 means 1 MiB.
	MaxValueBytes int

	// MaxSessionBytes is the largest size of a session: the names and encoded values of what is set, and of its
	// notifications. 0 means 4 MiB.
	MaxSessionBytes int

	// MaxSessionsPerUser is how many sessions a user may have: a Login beyond that ends the oldest. 0 means any number.
	MaxSessionsPerUser int

	// Logger receives that Redis is unavailable, why, and when it is available again; problems that no call can return, and
	// some that a caller may have ignored; at level Debug, also that a session began, got a new id, ended or was revoked.
	// docs/observability.md has the lines. nil means slog.Default(). No id, cookie, secret, user or stored value is ever
	// logged.
	Logger *slog.Logger

	// Observe is called when an operation has ended, before it returns, from many goroutines at once: keep it short. ctx is
	// the context of the operation, so a span can be a child of the request's: the one that the request had when it came to
	// App.Wrap, or that of WithContext. It must not use the session. docs/observability.md has what to do with it.
	Observe func(ctx context.Context, op Operation)
}

const (
	defaultIdleTimeout     = 24 * time.Hour
	defaultMaxValueBytes   = 1 << 20
	defaultMaxSessionBytes = 4 << 20

	// minIdleTimeout is the shortest timeout: Redis counts in milliseconds, and the network takes some.
	minIdleTimeout = time.Second

	// minCacheFor is the shortest CacheFor: Redis is asked four times in that whether it is there.
	minCacheFor = 10 * time.Millisecond

	defaultCacheBytes = 32 << 20
)

// An App holds what the sessions of an application share: its settings, its connections to Redis, its cookies. Make one
// with [New] when the program starts.
type App struct {
	settings Settings
	cookies  *cookies
	store    *store.Store
	codec    Codec
	seal     *codec.Seal // if the codec is Sealed; codec is then the one inside
	digits   bool        // whole numbers are stored as decimal digits
	logger   *slog.Logger
	warnings *warn.Warnings
	counters stats.Counters
}

// New makes an App. It checks all settings, and for each bad one its error says how to fix it. It dials nothing: use
// [App.Ping] to find out whether Redis can be used.
func New(s Settings) (*App, error) {
	var fault faults
	s.Redis.Prefix = cmp.Or(s.Redis.Prefix, defaultPrefix)
	s.MaxValueBytes = cmp.Or(s.MaxValueBytes, defaultMaxValueBytes)
	s.MaxSessionBytes = cmp.Or(s.MaxSessionBytes, defaultMaxSessionBytes)
	s.CacheBytes = cmp.Or(s.CacheBytes, defaultCacheBytes)
	s.IdleTimeout = cmp.Or(s.IdleTimeout, defaultIdleTimeout)
	s.Logger = cmp.Or(s.Logger, slog.Default())
	if s.Codec == nil {
		s.Codec = JSON{}
	}
	v := reflect.ValueOf(s.Codec)
	fault.when(v.Kind() == reflect.Pointer && v.IsNil(), "Codec is a nil pointer of type %T; use a pointer that is not nil, or no codec for JSON", s.Codec)
	fault.when(s.MaxValueBytes < 0, "MaxValueBytes is %d; use a positive number of bytes, or 0 for %d", s.MaxValueBytes, defaultMaxValueBytes)
	fault.when(s.MaxSessionBytes < 0, "MaxSessionBytes is %d; use a positive number of bytes, or 0 for %d", s.MaxSessionBytes, defaultMaxSessionBytes)
	fault.when(s.IdleTimeout < minIdleTimeout, "IdleTimeout is %v; use %v or more, or 0 for %v", s.IdleTimeout, minIdleTimeout, defaultIdleTimeout)
	fault.when(s.AbsoluteTimeout != 0 && s.AbsoluteTimeout < minIdleTimeout, "AbsoluteTimeout is %v; use %v or more, or 0 for none", s.AbsoluteTimeout, minIdleTimeout)
	fault.when(s.CacheBytes < 0, "CacheBytes is %d; use a positive number of bytes, or 0 for %d", s.CacheBytes, defaultCacheBytes)
	mostCacheFor := s.IdleTimeout / 10
	fault.when(s.CacheFor != 0 && (s.CacheFor < minCacheFor || s.CacheFor > mostCacheFor),
		"CacheFor is %v; use %v to %v, a tenth of IdleTimeout, or 0 to read from Redis only", s.CacheFor, minCacheFor, mostCacheFor)
	fault.when(s.MaxSessionsPerUser < 0, "setting MaxSessionsPerUser is %d; use a positive number, or 0 for any", s.MaxSessionsPerUser)
	cookies := newCookies(s.Cookies, s.Secrets, s.Redis.Prefix, &fault)
	redis := checkRedis(&s.Redis, &fault)
	if len(fault) > 0 {
		return nil, errors.Join(fault...)
	}
	a := &App{settings: s, cookies: cookies, codec: s.Codec, logger: s.Logger, warnings: warn.New(s.Logger)}
	a.store = store.New(redis.client(&s.Redis), store.Config{
		Prefix:             s.Redis.Prefix,
		Sessions:           redis.Database,
		Notifications:      redis.Other,
		Cluster:            len(s.Redis.Cluster) > 0,
		Timeout:            s.Redis.Timeout,
		Idle:               s.IdleTimeout,
		Absolute:           s.AbsoluteTimeout,
		MaxSessionBytes:    s.MaxSessionBytes,
		MaxSessionsPerUser: s.MaxSessionsPerUser,
		WaitReplicas:       s.Redis.WaitReplicas,
		CacheFor:           s.CacheFor,
		CacheBytes:         s.CacheBytes,
		CacheRefused:       a.warnings.Uncached,
		MayEvict:           a.warnings.MayEvict,
	})
	if seal, ok := s.Codec.(*sealed); ok {
		a.codec, a.seal = seal.codec, seal.seal
	}
	a.digits = a.seal == nil && countsInDigits(a.codec)
	return a, nil
}

// faults are the bad settings: one error each, which says how to fix it.
type faults []error

// when adds a fault if bad is true.
func (f *faults) when(bad bool, format string, args ...any) {
	if bad {
		*f = append(*f, failed("new", fmt.Errorf(format, args...)))
	}
}

// Wrap gives requests their sessions: every handler that uses a session must be served through it. A request that
// doesn't use its session costs next to nothing and never touches Redis.
//
// A request that comes through Wrap twice, as with a router inside another, still has one session. If the Wraps of
// several Apps are nested, a handler gets the session of the innermost.
func (a *App) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if q := a.requestOf(w, r); q != nil {
			if r.Context().Value(requestKey{}) != any(q) { // the context has another App's request, or none
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

// Ping checks that Redis can be used: that it answers, that sessions and notifications can be read, written and deleted
// under Redis.Prefix, and that the user in Redis.URL has the rights for it; in a cluster, on every server that has slots.
// If not, its error says why and what to do. With CacheFor, it also fails if Redis does not say what has changed. A Redis
// that may evict sessions is worth a warning in the log, if the user has the right to INFO. Ping takes three round trips
// to each server, and a fourth the first time with CacheFor, and deletes the keys it makes.
func (a *App) Ping(ctx context.Context) (err error) {
	c := a.call(ctx, stats.Ping)
	defer c.end(&err)
	return a.store.Ping(ctx, c.start())
}

// CacheStats say how often sessions were read from memory: see [Settings.CacheFor].
type CacheStats struct {
	Hits, Misses  uint64 // reads that were answered from memory, and those that went to Redis
	Invalidations uint64 // keys that Redis has said were changed
	Bytes         uint64 // about how much memory is used

	// PongAge is how long ago Redis was asked for the last sign of life that it gave; of several servers, the longest. It
	// is 0 if there is none. Nothing is read from memory while it is more than CacheFor.
	PongAge time.Duration
}

// CacheStats returns the figures since [New]; all are 0 if CacheFor is.
func (a *App) CacheStats() CacheStats {
	return CacheStats(a.store.CacheStats())
}

// Close waits for operations under way, which end within RedisSettings.Timeout, and closes the connections to Redis.
// Later operations return [ErrUnavailable].
func (a *App) Close() error {
	return failed("close", a.store.Close())
}
