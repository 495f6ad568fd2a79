package signed_test

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/gorilla/securecookie"

	"github.com/pycket/pycket/internal/signed"
)

// newSigner returns a signer of numbers of eight bytes.
func newSigner(encrypt bool, secrets ...string) *signed.Signer[uint64] {
	s := &signed.Signer[uint64]{Name: "cookie", Parse: func(data []byte) (uint64, bool) {
		if len(data) != 8 {
			return 0, false
		}
		return binary.BigEndian.Uint64(data), true
	}}
	for _, secret := range secrets {
		s.Codecs = append(s.Codecs, signed.NewCodec(secret, "keyspace", encrypt))
	}
	return s
}

func sign(t *testing.T, s *signed.Signer[uint64], n uint64, lifetime int64) string {
	t.Helper()
	text, err := s.Sign(binary.BigEndian.AppendUint64(nil, n), lifetime)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestSign(t *testing.T) {
	for name, encrypt := range map[string]bool{"signed": false, "encrypted": true} {
		t.Run(name, func(t *testing.T) {
			s := newSigner(encrypt, "new", "old")
			before := time.Now().Unix()
			text := sign(t, s, 7, 60)
			if want := signed.Length("cookie", 8, encrypt); len(text) != want {
				t.Errorf("the text has %d bytes, Length says %d", len(text), want)
			}
			v := s.Verify(text)
			if v == nil || v.Data != 7 || v.Lifetime != 60 || v.Signed < before || v.Signed > time.Now().Unix() || v.Expired() {
				t.Errorf("%+v", v)
			}
			if v := s.Verify(sign(t, newSigner(encrypt, "old"), 8, 0)); v == nil || v.Data != 8 || v.Expired() {
				t.Errorf("signed with the second secret: %+v", v)
			}
			other := newSigner(encrypt, "new")
			other.Codecs[0] = signed.NewCodec("new", "other keyspace", encrypt)
			for what, text := range map[string]string{
				"another secret": sign(t, newSigner(encrypt, "other"), 7, 0), "another keyspace": sign(t, other, 7, 0),
				"the other kind": sign(t, newSigner(!encrypt, "new"), 7, 0), "nothing": "",
			} {
				if v := s.Verify(text); v != nil {
					t.Errorf("%s is trusted: %+v", what, v)
				}
			}
			for what, data := range map[string][]byte{"too short for a lifetime": {1, 2, 3}, "no value of this kind": {1, 2, 3, 4, 5}} {
				text, err := s.Codecs[0].Encode("cookie", data)
				if err != nil {
					t.Fatal(err)
				}
				if v := s.Verify(text); v != nil {
					t.Errorf("%s is trusted: %+v", what, v)
				}
			}
		})
	}
}

// counted counts what it reads from text that a codec has verified.
type counted struct {
	securecookie.NopEncoder
	n *int
}

func (c counted) Deserialize(data []byte, into any) error {
	*c.n++
	return c.NopEncoder.Deserialize(data, into)
}

// Thousands of texts in turn are verified once each; one that differs in a character is verified, and refused.
func TestMemory(t *testing.T) {
	s := newSigner(false, "secret")
	verified := 0
	s.Codecs[0].SetSerializer(counted{n: &verified})
	texts := make([]string, 16<<10)
	for i := range texts {
		texts[i] = sign(t, s, uint64(i), 0)
	}
	for range 2 {
		for i, text := range texts {
			if v := s.Verify(text); v == nil || v.Data != uint64(i) {
				t.Fatalf("text %d is %+v", i, v)
			}
		}
	}
	if most := len(texts) * 11 / 10; verified > most {
		t.Errorf("%d texts, twice each, were verified %d times", len(texts), verified)
	}
	for i := range texts[0] {
		changed := []byte(texts[0])
		changed[i] ^= 1
		if v := s.Verify(string(changed)); v != nil {
			t.Errorf("with another character %d it is %+v", i, v)
		}
	}
}

// What was signed before an Advance is older, even in the same second, and what is signed after it is new.
func TestAging(t *testing.T) {
	for name, encrypt := range map[string]bool{"signed": false, "encrypted": true} {
		t.Run(name, func(t *testing.T) {
			s := newSigner(encrypt, "secret")
			s.Aging = new(signed.Aging)
			other := newSigner(encrypt, "secret")
			other.Aging = s.Aging
			const lifetime = 400 * 24 * 60 * 60
			old := sign(t, s, 7, lifetime)
			for range 100 {
				s.Aging.Advance(3 * 24 * time.Hour)
			}
			now := time.Now().Unix()
			v := other.Verify(old)
			if age := now - v.Signed; age < 300*24*60*60 || age > 301*24*60*60 || v.Expired() || v.Lifetime != lifetime {
				t.Errorf("after 300 days: %d s old, %+v", age, v)
			}
			v = other.Verify(sign(t, s, 7, lifetime))
			if age := now - v.Signed; age > 0 || v.Lifetime != lifetime {
				t.Errorf("a new one: %d s old, %+v", age, v)
			}
			for range 40 {
				s.Aging.Advance(3 * 24 * time.Hour)
			}
			if v := other.Verify(old); !v.Expired() || v.Data != 7 {
				t.Errorf("after 420 days: %+v", v)
			}
		})
	}
}
