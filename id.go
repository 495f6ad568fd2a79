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
	line   [12]byte
	secret [32]byte
}

const sessionIDLen = 12 + 32

// newID makes the id of a new session. crypto/rand does not fail: the program would end.
func newID() (id sessionID) {
	rand.Read(id.line[:])
	rand.Read(id.secret[:])
	return id
}

// rotated is a new id of the same session.
func (id sessionID) rotated() sessionID {
	rand.Read(id.secret[:])
	return id
}

func (id sessionID) bytes() []byte {
	return append(append(make([]byte, 0, sessionIDLen), id.line[:]...), id.secret[:]...)
}

func parseID(b []byte) (id sessionID, ok bool) {
	if len(b) != sessionIDLen {
		return id, false
	}
	copy(id.line[:], b)
	copy(id.secret[:], b[len(id.line):])
	return id, true
}

// handle names the session in Redis and to the application: 16 characters that stay the same for the
// session's life and let nobody in.
func (id sessionID) handle() string {
	sum := sha256.Sum256(append([]byte("pycket handle "), id.line[:]...))
	return base64.RawURLEncoding.EncodeToString(sum[:12])
}

// verifier is what Redis holds to know the id by, in 22 characters: 128 bits of its SHA-256. Finding another id with
// the same verifier takes 2^128 tries; going back from it to the id takes guessing 256 random bits.
func (id sessionID) verifier() string {
	sum := sha256.Sum256(id.bytes())
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}
