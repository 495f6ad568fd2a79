package pycket

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"sync"
	"time"
)

// warnings are what an operator should know and no caller is told. They are rate limited, since whoever
// causes them could cause many.
type warnings struct {
	logger *slog.Logger
	salt   [32]byte

	mu      sync.Mutex
	next    time.Time
	skipped int
}

// betweenWarnings is the least time from one warning to the next.
const betweenWarnings = time.Second

func newWarnings(logger *slog.Logger) *warnings {
	w := &warnings{logger: logger}
	rand.Read(w.salt[:])
	return w
}

// forged warns of a cookie that looks like the application's own and that no secret has signed: somebody
// guesses, or a secret was taken away too early. What is logged of it is a hash, with a salt of this
// process: enough to see that two are the same, and no use to who reads the log.
func (w *warnings) forged(cookie string) {
	w.mu.Lock()
	now := time.Now()
	if now.Before(w.next) {
		w.skipped++
		w.mu.Unlock()
		return
	}
	skipped := w.skipped
	w.next, w.skipped = now.Add(betweenWarnings), 0
	w.mu.Unlock()

	mac := hmac.New(sha256.New, w.salt[:])
	mac.Write([]byte(cookie))
	w.logger.Warn("pycket: a session cookie with a bad signature", "hash", hex.EncodeToString(mac.Sum(nil)[:8]), "skipped", skipped)
}
