package codec

import (
	"bytes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"

	"golang.org/x/crypto/chacha20poly1305"
)

// A Seal encrypts with XChaCha20-Poly1305, whose random nonces don't repeat however much is written. A sealed value is
// the key's name, 4 bytes; the nonce, 24 bytes; and the ciphertext with its tag. Its place is authenticated with it.
type Seal struct{ keys []sealKey } // the first seals, all open

type sealKey struct {
	name []byte
	aead cipher.AEAD
}

const (
	sealNameLen = 4
	sealHeader  = sealNameLen + chacha20poly1305.NonceSizeX

	// Overhead is how many bytes sealing adds.
	Overhead = sealHeader + chacha20poly1305.Overhead
)

// NewSeal derives keys from secrets by HKDF-SHA256 (RFC 5869), for this purpose alone.
func NewSeal(secrets []string) (*Seal, error) {
	s := new(Seal)
	for _, secret := range secrets {
		name, err := hkdf.Key(sha256.New, []byte(secret), nil, "pycket 1 name of the key of values", sealNameLen)
		if err != nil {
			return nil, err
		}
		key, err := hkdf.Key(sha256.New, []byte(secret), nil, "pycket 1 key of values", chacha20poly1305.KeySize)
		if err != nil {
			return nil, err
		}
		aead, err := chacha20poly1305.NewX(key)
		if err != nil {
			return nil, err
		}
		s.keys = append(s.keys, sealKey{name, aead})
	}
	return s, nil
}

// Seal seals a value for a place.
func (s *Seal) Seal(plain, place []byte) []byte {
	k := s.keys[0]
	data := make([]byte, sealHeader, len(plain)+Overhead)
	nonce := data[copy(data, k.name):]
	rand.Read(nonce) // which never fails
	return k.aead.Seal(data, nonce, plain, place)
}

var errSealed = errors.New("the value was sealed with another secret or for another place, or was changed")

// Open returns a value that was sealed for the same place.
func (s *Seal) Open(data, place []byte) ([]byte, error) {
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
