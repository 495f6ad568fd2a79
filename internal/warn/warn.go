// Package warn logs what an operator should know, if no caller is told or a caller may ignore it.
package warn

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"reflect"
	"sync"
	"sync/atomic"
	"time"
)

// Warnings are those of one application. They are rate limited, since every request could cause one.
type Warnings struct {
	logger *slog.Logger
	salt   [32]byte

	forgeries, refusals, losses, faults limit
	insecure                            sync.Once
	unbound                             sync.Map // types of handlers that have been warned of
	outage                              outage
	untracked, evicting                 sync.Once
}

// A limit lets one warning through, and then none for a while.
type limit struct {
	mu      sync.Mutex
	next    time.Time
	skipped int
}

// The least time between two warnings that strangers cause, and between two about mistakes in the application, which
// every request may repeat.
const (
	betweenWarnings = time.Second
	betweenMistakes = time.Minute
)

// warn logs a warning, with the number skipped since the last one, or skips it.
func (l *limit) warn(logger *slog.Logger, pause time.Duration, text string, about slog.Attr) {
	l.mu.Lock()
	now, skipped := time.Now(), l.skipped
	pass := !now.Before(l.next)
	if pass {
		l.next, l.skipped = now.Add(pause), 0
	} else {
		l.skipped++
	}
	l.mu.Unlock()
	if pass {
		logger.Warn("pycket: "+text, about, slog.Int("skipped", skipped))
	}
}

// New returns Warnings that are logged by logger.
func New(logger *slog.Logger) *Warnings {
	w := &Warnings{logger: logger}
	rand.Read(w.salt[:])
	return w
}

// Forged warns of a cookie that looks like the application's and that no secret has signed: somebody is
// guessing, or a secret was removed too early. Only a hash of the cookie is logged, with this process's salt.
// It shows whether two cookies are the same, and is of no use to anyone who can read the log.
func (w *Warnings) Forged(cookie string) {
	mac := hmac.New(sha256.New, w.salt[:])
	mac.Write([]byte(cookie))
	w.forgeries.warn(w.logger, betweenWarnings, "a session cookie with a bad signature", slog.String("hash", hex.EncodeToString(mac.Sum(nil)[:8])))
}

// Refused warns of a write that came after the response, and returns cause: a handler that ignores the error would lose
// the write silently.
func (w *Warnings) Refused(cause error) error {
	w.refusals.warn(w.logger, betweenMistakes, "a write was refused: write to the session before the response", slog.Any("error", cause))
	return cause
}

// Forgotten warns of a session that is remembered, but whose browser was not sent the new cookie: it drops the old one
// when it is closed.
func (w *Warnings) Forgotten(cause error) {
	w.losses.warn(w.logger, betweenMistakes, "the cookie of a session that is to be remembered was not sent", slog.Any("error", cause))
}

// An outage is a time in which operations fail because of Redis. It is over when none has failed for a second: a few
// servers of a cluster may be down. For one that comes back within ten minutes it takes a minute, so that such a cluster
// is two lines a minute, at most. If Redis has refused writes, and answers reads, only a write shows that it is over.
type outage struct {
	on     atomic.Bool
	mu     sync.Mutex
	writes bool // which are all that fails
	quiet  time.Duration
	began  time.Time
	failed time.Time // an operation, for the last time
	worked time.Time // the first one afterwards; zero if none has
	over   time.Time // the outage before
}

// Lost notes that an operation has failed because of Redis; refused says that Redis has refused to write. The first
// failure of an outage is logged, and the first that shows that more than writes fail.
func (w *Warnings) Lost(err error, refused bool) {
	o, now := &w.outage, time.Now()
	o.mu.Lock()
	news := !o.on.Swap(true)
	if news {
		o.began, o.writes, o.quiet = now, refused, time.Second
		if now.Sub(o.over) < 10*time.Minute {
			o.quiet = time.Minute
		}
	}
	if o.writes && !refused {
		o.writes, news = false, true
	}
	o.failed, o.worked = now, time.Time{}
	o.mu.Unlock()
	if news {
		w.logger.Error("pycket: redis is unavailable", "error", err)
	}
}

// Found notes that Redis has carried out an operation, perhaps one that it takes only with other writes. The end of an
// outage is logged, and the time between its first failure and the first success after its last: what nobody has asked
// for meanwhile can't be known.
func (w *Warnings) Found(wrote bool) {
	o := &w.outage
	if !o.on.Load() {
		return
	}
	o.mu.Lock()
	now := time.Now()
	if o.worked.IsZero() && (wrote || !o.writes) {
		o.worked = now
	}
	gone := o.worked.Sub(o.began)
	over := !o.worked.IsZero() && now.Sub(o.failed) > o.quiet && o.on.Swap(false)
	if over {
		o.over = now
	}
	o.mu.Unlock()
	if over {
		w.logger.Info("pycket: redis is available again", "after", gone.Round(time.Millisecond))
	}
}

// Fault warns of an operation that has failed, or may be lost, for a reason that the application can't have wanted.
func (w *Warnings) Fault(cause error) {
	w.faults.warn(w.logger, betweenWarnings, "an operation failed", slog.Any("error", cause))
}

// Began, Rotated, Ended and Revoked tell, at level Debug, what became of a session: not of which, since its id opens it.
func (w *Warnings) Began(ctx context.Context) { w.logger.DebugContext(ctx, "pycket: a session began") }
func (w *Warnings) Rotated(ctx context.Context) {
	w.logger.DebugContext(ctx, "pycket: a session got a new id")
}
func (w *Warnings) Ended(ctx context.Context) { w.logger.DebugContext(ctx, "pycket: a session ended") }
func (w *Warnings) Revoked(ctx context.Context) {
	w.logger.DebugContext(ctx, "pycket: sessions were revoked")
}

// Plain warns of a cookie that the browser drops, since it is Secure and was sent over plain HTTP.
func (w *Warnings) Plain() {
	w.insecure.Do(func() {
		w.logger.Warn("pycket: Cookies.Secure is SecureAlways, and a session's cookie was sent over plain HTTP, where browsers drop it: users have to log in again and again. Serve the site over TLS; if a proxy does, let it set X-Forwarded-Proto")
	})
}

// Uncached warns of a Redis with which CacheFor has no effect.
func (w *Warnings) Uncached(cause error) {
	w.untracked.Do(func() {
		w.logger.Warn("pycket: CacheFor is set, and sessions are not kept in memory: every read goes to Redis", "error", cause)
	})
}

// MayEvict warns of a Redis that deletes sessions when it is full: users are signed out, and no operation fails.
func (w *Warnings) MayEvict(policy string) {
	w.evicting.Do(func() {
		w.logger.Warn("pycket: redis may evict sessions when it reaches its maxmemory, which signs users out: set its maxmemory-policy to noeviction, and its maxmemory to what the sessions need", "maxmemory-policy", policy)
	})
}

// Unbindable warns, once for each type, of a handler whose mixins Bind can't bind.
func (w *Warnings) Unbindable(t reflect.Type, hasMixins func(reflect.Type) bool) {
	if _, known := w.unbound.LoadOrStore(t, true); !known && hasMixins(t) {
		w.logger.Error("pycket: Bind got a " + t.String() + ", and can't bind its mixins: give it a pointer to a struct that embeds them")
	}
}

// strays are the limits of Stray, by their error.
var strays sync.Map

// Stray warns of an operation that has no App, and returns the cause, one of a few: see Refused.
func Stray(cause error) error {
	l, _ := strays.LoadOrStore(cause, new(limit))
	l.(*limit).warn(slog.Default(), betweenMistakes, "an operation was refused", slog.Any("error", cause))
	return cause
}
