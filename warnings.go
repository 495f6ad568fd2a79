package pycket

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"reflect"
	"sync"
	"time"
)

// warnings are what an operator should know and no caller is told, or may not heed. They are rate limited, since
// whoever causes them could cause many.
type warnings struct {
	logger *slog.Logger
	salt   [32]byte

	forgeries, refusals, losses limit
	insecure                    sync.Once
	unbound                     sync.Map // the types of handlers that were warned of
}

// A limit lets one warning through, and then none for a while.
type limit struct {
	mu      sync.Mutex
	next    time.Time
	skipped int
}

// pass tells whether a warning may pass, and how many may not have since the last one.
func (l *limit) pass(pause time.Duration) (skipped int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if now.Before(l.next) {
		l.skipped++
		return 0, false
	}
	skipped = l.skipped
	l.next, l.skipped = now.Add(pause), 0
	return skipped, true
}

// The least time from one warning to the next: of those that strangers cause, and of those that tell of mistakes in
// the application, which it makes in every request.
const (
	betweenWarnings = time.Second
	betweenMistakes = time.Minute
)

func newWarnings(logger *slog.Logger) *warnings {
	w := &warnings{logger: logger}
	rand.Read(w.salt[:])
	return w
}

// forged warns of a cookie that looks like the application's own and that no secret has signed: somebody
// guesses, or a secret was taken away too early. What is logged of it is a hash, with a salt of this
// process: enough to see that two are the same, and no use to who reads the log.
func (w *warnings) forged(cookie string) {
	skipped, ok := w.forgeries.pass(betweenWarnings)
	if !ok {
		return
	}
	mac := hmac.New(sha256.New, w.salt[:])
	mac.Write([]byte(cookie))
	w.logger.Warn("pycket: a session cookie with a bad signature", "hash", hex.EncodeToString(mac.Sum(nil)[:8]), "skipped", skipped)
}

// headersSent warns of a write that is refused with ErrHeadersSent: a handler that does not look at its error
// would lose it in silence.
func (w *warnings) headersSent() error {
	if skipped, ok := w.refusals.pass(betweenMistakes); ok {
		w.logger.Warn("pycket: a write was refused: write to the session before the response", "error", ErrHeadersSent, "skipped", skipped)
	}
	return ErrHeadersSent
}

// forgotten warns of a session that is remembered, while its browser was not told: that drops the cookie when it is
// closed.
func (w *warnings) forgotten(cause error) {
	if skipped, ok := w.losses.pass(betweenMistakes); ok {
		w.logger.Warn("pycket: the cookie of a session that is to be remembered was not sent", "error", cause, "skipped", skipped)
	}
}

// plain warns of a cookie that the browser drops, since it is Secure and came by plain HTTP.
func (w *warnings) plain() {
	w.insecure.Do(func() {
		w.logger.Warn("pycket: Cookies.Secure is SecureAlways, and a session's cookie was sent by plain HTTP, where browsers drop it: users sign in again and again. Serve the site by TLS; if a proxy does, let it set X-Forwarded-Proto")
	})
}

// unbindable reports a type of handler, once, that Bind can do nothing for.
func (w *warnings) unbindable(t reflect.Type) {
	if _, known := w.unbound.LoadOrStore(t, true); !known {
		w.logger.Error("pycket: Bind got a " + t.String() + ", and can't bind its mixins: give it a pointer to a struct that embeds them")
	}
}

// strays are operations on what belongs to no App, by their error.
var strays = map[error]*limit{ErrNotBound: {}, ErrNoApp: {}}

// stray warns of one: see headersSent.
func stray(cause error) error {
	if l := strays[cause]; l != nil {
		if skipped, ok := l.pass(betweenMistakes); ok {
			slog.Default().Warn("pycket: an operation was refused", "error", cause, "skipped", skipped)
		}
	}
	return cause
}
