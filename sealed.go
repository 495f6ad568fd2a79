package pycket

import (
	"bytes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/pycket/pycket/internal/store"
)

// Sealed is a codec that encrypts what another codec encodes (nil means [JSON]), so that nobody who can read Redis can
// read values, and nobody who can write Redis can change a value or move it to another name or session. It uses
// XChaCha20-Poly1305, whose random nonces don't repeat however much is written. Names are not encrypted.
//
// The first secret seals, all open: to change it, put a new one in front, and keep the old one as long as sessions live.
// Secrets are 32 random bytes or more, as those of Settings.Secrets, and may be the same: keys are derived by HKDF-SHA256
// for this purpose alone.
//
// Increment is then a compare-and-set, since Redis can't add to what it can't read.
//
//	codec, err := pycket.Sealed(pycket.JSON{}, secret)
//	app, err := pycket.New(pycket.Settings{Secrets: []string{secret}, Codec: codec})
func Sealed(codec Codec, secrets ...string) (Codec, error) {
	if codec == nil {
		codec = JSON{}
	}
	s := &sealed{codec: codec}
	if len(secrets) == 0 {
		return nil, failed("sealed", errors.New("no secret is given; give at least one of 32 or more random bytes"))
	}
	for i, secret := range secrets {
		if len(secret) < minSecretBytes {
			return nil, failed("sealed", fmt.Errorf("secret %d is only %d bytes long; use 32 or more random bytes", i, len(secret)))
		}
		key, err := newSealKey(secret)
		if err != nil {
			return nil, failed("sealed", err)
		}
		s.keys = append(s.keys, key)
	}
	return s, nil
}

// A sealed value is the key's name, 4 bytes; the nonce, 24 bytes; and the ciphertext with its tag. Its place, where it is
// stored, is authenticated with it.
type sealed struct {
	codec Codec
	keys  []sealKey
}

type sealKey struct {
	name []byte
	aead cipher.AEAD
}

const (
	sealNameLen = 4
	sealHeader  = sealNameLen + chacha20poly1305.NonceSizeX
)

func newSealKey(secret string) (k sealKey, err error) {
	if k.name, err = hkdf.Key(sha256.New, []byte(secret), nil, "pycket 1 name of the key of values", sealNameLen); err != nil {
		return k, err
	}
	key, err := hkdf.Key(sha256.New, []byte(secret), nil, "pycket 1 key of values", chacha20poly1305.KeySize)
	if err != nil {
		return k, err
	}
	k.aead, err = chacha20poly1305.NewX(key)
	return k, err
}

var errSealed = errors.New("the value was sealed with another secret or for another place, or was changed")

// overhead returns how many bytes sealing adds.
func (s *sealed) overhead() int { return sealHeader + chacha20poly1305.Overhead }

func (s *sealed) seal(plain, place []byte) []byte {
	k := s.keys[0]
	data := make([]byte, sealHeader, len(plain)+s.overhead())
	nonce := data[copy(data, k.name):]
	rand.Read(nonce)
	return k.aead.Seal(data, nonce, plain, place)
}

func (s *sealed) open(data, place []byte) ([]byte, error) {
	if len(data) < sealHeader {
		return nil, errSealed
	}
	name, nonce, text := data[:sealNameLen], data[sealNameLen:sealHeader], data[sealHeader:]
	for _, k := range s.keys {
		if !bytes.Equal(name, k.name) {
			continue
		}
		if plain, err := k.aead.Open([]byte{}, nonce, text, place); err == nil {
			return plain, nil
		}
	}
	return nil, errSealed
}

// Encode seals a value for no place. An App does not use it: it seals every value for the place where it is stored.
func (s *sealed) Encode(value any) ([]byte, error) {
	plain, err := s.codec.Encode(value)
	if err != nil {
		return nil, err
	}
	return s.seal(plain, nil), nil
}

func (s *sealed) Decode(data []byte, into any) error {
	plain, err := s.open(data, nil)
	if err != nil {
		return err
	}
	return s.codec.Decode(plain, into)
}

// A valueKind is what a stored value is, which is part of its place.
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

// seal seals values for the operation's session, if the codec is Sealed. They are in op.sealed too.
func (op *operation) seal(kind valueKind, fields []store.Field) []store.Field {
	op.sealed = fields
	if op.app.seal != nil {
		op.sealed = slices.Clone(fields)
		for i, f := range fields {
			op.sealed[i].Value = op.app.seal.seal(f.Value, op.place(kind, f.Name))
		}
	}
	return op.sealed
}

// open returns what the codec has encoded of a stored value.
func (op *operation) open(kind valueKind, name string, stored []byte) ([]byte, error) {
	if op.app.seal == nil {
		return stored, nil
	}
	plain, err := op.app.seal.open(stored, op.place(kind, name))
	if err != nil {
		return nil, &decodeError{"a sealed value", err}
	}
	return plain, nil
}
