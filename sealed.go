package pycket

import (
	"errors"
	"fmt"
	"slices"

	"github.com/pycket/pycket/internal/codec"
	"github.com/pycket/pycket/internal/store"
)

// Sealed returns a codec that encrypts what inner encodes (nil means [JSON]). Someone who can read Redis can't read the
// values, and someone who can write to Redis can't change a value or move it to another name or session. It uses
// XChaCha20-Poly1305. Names are not encrypted.
//
// The first secret seals, all open: to change it, put a new one in front, and keep the old one as long as sessions
// live. Each is 32 random bytes or more. They may be those of Settings.Secrets, since keys are derived by HKDF-SHA256
// for this purpose alone.
//
// Increment is then a compare-and-set, since Redis can't add to what it can't read.
//
//	codec, err := pycket.Sealed(pycket.JSON{}, secret)
//	app, err := pycket.New(pycket.Settings{Secrets: []string{secret}, Codec: codec})
func Sealed(inner Codec, secrets ...string) (Codec, error) {
	if inner == nil {
		inner = JSON{}
	}
	if len(secrets) == 0 {
		return nil, failed("sealed", errors.New("no secret is given; give at least one of 32 or more random bytes"))
	}
	for i, secret := range secrets {
		if len(secret) < minSecretBytes {
			return nil, failed("sealed", fmt.Errorf("secret %d is only %d bytes long; use 32 or more random bytes", i, len(secret)))
		}
	}
	seal, err := codec.NewSeal(secrets)
	return &sealed{inner, seal}, failed("sealed", err)
}

// A sealed is the codec that Sealed returns. An App uses what is inside it, to seal every value for the place where it
// is stored; the methods seal for no place.
type sealed struct {
	codec Codec
	seal  *codec.Seal
}

// Encode seals a value.
func (s *sealed) Encode(value any) ([]byte, error) {
	plain, err := s.codec.Encode(value)
	if err != nil {
		return nil, err
	}
	return s.seal.Seal(plain, nil), nil
}

// Decode opens a value.
func (s *sealed) Decode(data []byte, into any) error {
	plain, err := s.seal.Open(data, nil)
	if err != nil {
		return err
	}
	return s.codec.Decode(plain, into)
}

// A valueKind is the kind of a stored value, which is part of its place.
type valueKind byte

const (
	sessionValue  valueKind = 's'
	notification  valueKind = 'n'
	queuedMessage valueKind = 'm'
)

// place names where a value is stored. A handle has a fixed length, so no two places have one name.
func (q *request) place(kind valueKind, name string) []byte {
	return append(append([]byte{byte(kind)}, q.id.Handle...), name...)
}

// seal seals values for the operation's session, if the codec is Sealed, and keeps them in op.sealed.
func (op *operation) seal(kind valueKind, fields []store.Field) []store.Field {
	op.sealed = fields
	if op.app.seal != nil {
		op.sealed = slices.Clone(fields)
		for i, f := range fields {
			op.sealed[i].Value = op.app.seal.Seal(f.Value, op.place(kind, f.Name))
		}
	}
	return op.sealed
}

// open returns a stored value as the codec encoded it.
func (op *operation) open(kind valueKind, name string, stored []byte) ([]byte, error) {
	if op.app.seal == nil {
		return stored, nil
	}
	plain, err := op.app.seal.Open(stored, op.place(kind, name))
	if err != nil {
		return nil, &decodeError{"a sealed value", err}
	}
	return plain, nil
}
