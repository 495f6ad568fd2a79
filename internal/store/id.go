package store

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
)

// An ID is what the cookie carries: the line, random bytes that stay the same for the session's life and find
// it in Redis, and the secret, 256 random bits that every rotation replaces and without which the session does
// not open. Redis sees only hashes of them: see docs/storage.md.
type ID struct {
	bytes [IDSize]byte

	// Handle names the session in Redis and to the application. It is 16 characters long, never changes, and opens
	// nothing.
	Handle string

	// verifier is what Redis knows the id by: 128 bits of its SHA-256, in 22 characters. Finding another id with
	// the same verifier takes 2^128 tries; going back from it to the id takes guessing 256 random bits.
	verifier string
}

const (
	lineSize   = 12
	secretSize = 32

	// IDSize is the size of an ID in bytes.
	IDSize = lineSize + secretSize

	handleSize = 16
)

// NewID makes the id of a new session.
func NewID() *ID {
	id := new(ID)
	rand.Read(id.bytes[:]) // which never fails
	return id.derive()
}

// Rotated makes another id of the same session.
func (id *ID) Rotated() *ID {
	next := &ID{bytes: id.bytes}
	rand.Read(next.bytes[lineSize:])
	return next.derive()
}

// ParseID parses an id, and reports whether b is one.
func ParseID(b []byte) (*ID, bool) {
	if len(b) != IDSize {
		return nil, false
	}
	id := new(ID)
	copy(id.bytes[:], b)
	return id.derive(), true
}

// Append appends the id to b.
func (id *ID) Append(b []byte) []byte { return append(b, id.bytes[:]...) }

func (id *ID) derive() *ID {
	line := sha256.Sum256(append([]byte("pycket handle "), id.bytes[:lineSize]...))
	all := sha256.Sum256(id.bytes[:])
	id.Handle = base64.RawURLEncoding.EncodeToString(line[:12])
	id.verifier = base64.RawURLEncoding.EncodeToString(all[:16])
	return id
}

// IsHandle reports whether s has the form of a handle.
func IsHandle(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return len(s) == handleSize
}
