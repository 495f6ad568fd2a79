package pycket

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
)

// A sessionID is what the cookie carries: the line, random bytes that stay for the session's life and
// find it in Redis, and the secret, 256 random bits that every rotation makes anew and without which
// the session does not open. Redis sees hashes of them only: see docs/storage.md.
type sessionID struct {
	bytes [lineLen + secretLen]byte

	// handle names the session in Redis and to the application: 16 characters that stay the same for the
	// session's life and let nobody in.
	handle string

	// verifier is what Redis holds to know the id by: 128 bits of its SHA-256, in 22 characters. Finding
	// another id with the same verifier takes 2^128 tries; going back from it to the id takes guessing 256
	// random bits.
	verifier string
}

const (
	lineLen   = 12
	secretLen = 32
)

// newID makes the id of a new session. crypto/rand does not fail: the program would end.
func newID() *sessionID {
	id := new(sessionID)
	rand.Read(id.bytes[:])
	return id.derive()
}

// rotated is a new id of the same session.
func (id *sessionID) rotated() *sessionID {
	next := &sessionID{bytes: id.bytes}
	rand.Read(next.bytes[lineLen:])
	return next.derive()
}

// parseID takes an id off the front of b.
func parseID(b []byte) (id *sessionID, rest []byte, ok bool) {
	id = new(sessionID)
	if len(b) < len(id.bytes) {
		return nil, nil, false
	}
	n := copy(id.bytes[:], b)
	return id.derive(), b[n:], true
}

func (id *sessionID) derive() *sessionID {
	line := sha256.Sum256(append([]byte("pycket handle "), id.bytes[:lineLen]...))
	all := sha256.Sum256(id.bytes[:])
	id.handle = base64.RawURLEncoding.EncodeToString(line[:12])
	id.verifier = base64.RawURLEncoding.EncodeToString(all[:16])
	return id
}
