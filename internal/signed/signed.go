// Package signed signs values that browsers keep, and verifies them. A value comes with the time when it was signed and
// how long it is valid, and may be encrypted. The package knows securecookie, and nothing of what the values are.
package signed

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"strconv"
	"strings"
	"time"

	"github.com/gorilla/securecookie"
)

// A Signer signs and verifies the value of one cookie. It does not verify again what it has verified recently.
type Signer[T any] struct {
	Name   string                       // of the cookie, which is signed too
	Codecs []*securecookie.SecureCookie // the first signs, all verify

	// Parse reads a value from bytes that were signed. It returns false for what no Signer of this kind has signed.
	Parse func(data []byte) (T, bool)

	// Aging, if it is not nil, makes values older than they are. Only tests set it, before the first value.
	Aging *Aging

	memory memory[T]
}

// A Value is what one of the codecs has signed.
type Value[T any] struct {
	sum      sum // of the text
	Data     T
	Signed   int64 // when it was signed: Unix time
	Lifetime int64 // how long it is valid, in seconds; 0 means as long as the browser keeps it
}

// Expired reports whether a value is no longer valid.
func (v *Value[T]) Expired() bool {
	return v.Lifetime > 0 && time.Now().Unix() > v.Signed+v.Lifetime
}

// NewCodec derives keys from a secret by HKDF-SHA256 (RFC 5869), so that one secret can serve several purposes without
// weakening any, and one keyspace does not accept another's values. Encrypted values are signed with a different key,
// so that a value that is only signed is not mistaken for one.
func NewCodec(secret, keyspace string, encrypt bool) *securecookie.SecureCookie {
	derive := func(purpose string) []byte {
		key, _ := hkdf.Key(sha256.New, []byte(secret), nil, "pycket 1 "+purpose+" "+keyspace, 32) // fails for long keys only
		return key
	}
	sign, block := derive("sign cookie"), []byte(nil)
	if encrypt {
		sign, block = derive("sign encrypted cookie"), derive("encrypt cookie")
	}
	// securecookie refuses values older than 30 days unless told otherwise. How long a value is valid is in the value.
	return securecookie.New(sign, block).SetSerializer(securecookie.NopEncoder{}).MaxAge(0)
}

// Length returns the length of the text of a value of size bytes. It depends neither on the secret nor on the value.
func Length(name string, size int, encrypt bool) int {
	text, _ := NewCodec("", "", encrypt).MaxLength(0).Encode(name, make([]byte, size+4))
	return len(text)
}

// Sign signs data and its lifetime in seconds, which it appends to data in four bytes.
func (s *Signer[T]) Sign(data []byte, lifetime int64) (string, error) {
	seconds := uint32(lifetime) // #nosec G115 -- 136 years at most
	if s.Aging != nil {
		seconds = s.Aging.mark(seconds)
	}
	text, err := s.Codecs[0].Encode(s.Name, binary.BigEndian.AppendUint32(data, seconds))
	if s.Aging != nil {
		s.Aging.sign(text)
	}
	return text, err
}

// Verify returns the value of text, even if it has expired, or nil if none of the codecs has signed it.
func (s *Signer[T]) Verify(text string) *Value[T] {
	if s.Aging != nil { // what is remembered doesn't age
		v := s.verify(text)
		if v != nil {
			v.Signed -= s.Aging.age(text)
			v.Lifetime %= 1 << lifetimeBits
		}
		return v
	}
	sum := sumOf(text)
	v, place := s.memory.find(sum)
	if v != nil {
		return v
	}
	if v = s.verify(text); v != nil && !v.Expired() {
		v.sum = sum
		place.Store(v)
	}
	return v
}

func (s *Signer[T]) verify(text string) *Value[T] {
	var data []byte
	for _, codec := range s.Codecs {
		if codec.Decode(s.Name, text, &data) != nil {
			continue
		}
		end := len(data) - 4
		if end < 0 {
			return nil
		}
		parsed, ok := s.Parse(data[:end])
		if !ok {
			return nil
		}
		// securecookie puts the time of signing before the first "|".
		raw, _ := base64.URLEncoding.DecodeString(text)
		at, _, _ := strings.Cut(string(raw), "|")
		signed, _ := strconv.ParseInt(at, 10, 64)
		return &Value[T]{Data: parsed, Signed: signed, Lifetime: int64(binary.BigEndian.Uint32(data[end:]))}
	}
	return nil
}
