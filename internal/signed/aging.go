package signed

import (
	"sync"
	"time"
)

// An Aging makes what Signers have signed older than it is, for tests: see package pyckettest. It may be used by many
// goroutines at once.
type Aging struct {
	mu       sync.Mutex
	passed   time.Duration            // by Advance
	advances uint32                   // how often
	signed   map[string]time.Duration // for each text, how much had passed when it was signed
}

// lifetimeBits is enough for the lifetime of a cookie, 400 days at most.
const lifetimeBits = 26

// Advance makes all that has been signed older by d.
func (a *Aging) Advance(d time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.passed += d
	a.advances++
}

// mark adds to a lifetime how often time has passed, modulo 64. A text says its second only, and two that were signed
// before and after an Advance in the same second must not be equal.
func (a *Aging) mark(lifetime uint32) uint32 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return lifetime | a.advances<<lifetimeBits
}

func (a *Aging) sign(text string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.signed == nil {
		a.signed = map[string]time.Duration{}
	}
	a.signed[text] = a.passed
}

// age returns by how much older a text is than it says, in seconds. One that was signed elsewhere is as old as it says.
func (a *Aging) age(text string) int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	before, ok := a.signed[text]
	if !ok {
		return 0
	}
	return int64((a.passed - before) / time.Second)
}
