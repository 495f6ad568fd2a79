package pycket

import (
	"bytes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
)

// Sealed is a codec that encrypts what another codec encodes (nil means [JSON]), so that who reads Redis reads no values:
// XChaCha20-Poly1305, whose random nonces do not repeat however much is written. Names are not
// encrypted. The first secret seals, all open: put a new one in front to change it, and keep the old one
// as long as sessions live. Secrets have 32 random bytes or more, as Settings.Secrets have, and may be the
// same: keys are derived by HKDF-SHA256 for this purpose alone.
//
// Increment is then a compare-and-set, since Redis can't count what it can't read.
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

// sealed writes: the key's name, 4 bytes; the nonce, 24 bytes; the ciphertext with its tag.
type sealed struct {
	codec Codec
	keys  []sealKey
}

type sealKey struct {
	name []byte
	aead cipher.AEAD
}

const sealNameLen = 4

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

var errSealed = errors.New("the value was sealed with another secret, or was changed")

func (s *sealed) Encode(value any) ([]byte, error) {
	plain, err := s.codec.Encode(value)
	if err != nil {
		return nil, err
	}
	k := s.keys[0]
	data := make([]byte, sealNameLen+chacha20poly1305.NonceSizeX, sealNameLen+chacha20poly1305.NonceSizeX+len(plain)+k.aead.Overhead())
	copy(data, k.name)
	nonce := data[sealNameLen:]
	rand.Read(nonce)
	return k.aead.Seal(data, nonce, plain, nil), nil
}

func (s *sealed) Decode(data []byte, into any) error {
	if len(data) < sealNameLen+chacha20poly1305.NonceSizeX {
		return errSealed
	}
	name, nonce, text := data[:sealNameLen], data[sealNameLen:sealNameLen+chacha20poly1305.NonceSizeX], data[sealNameLen+chacha20poly1305.NonceSizeX:]
	for _, k := range s.keys {
		if !bytes.Equal(name, k.name) {
			continue
		}
		if plain, err := k.aead.Open(nil, nonce, text, nil); err == nil {
			return s.codec.Decode(plain, into)
		}
	}
	return errSealed
}
