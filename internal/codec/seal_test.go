package codec_test

import (
	"bytes"
	"testing"

	"github.com/pycket/pycket/internal/codec"
)

func TestSeal(t *testing.T) {
	seal := func(secrets ...string) *codec.Seal {
		s, err := codec.NewSeal(secrets)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	first, both, other := seal("one"), seal("two", "one"), seal("two")
	plain, place := []byte("value"), []byte("place")
	data := first.Seal(plain, place)
	if len(data) != len(plain)+codec.Overhead || bytes.Contains(data, plain) {
		t.Errorf("sealed as %q", data)
	}
	for name, s := range map[string]*codec.Seal{"the same secret": first, "an older secret": both} {
		if got, err := s.Open(data, place); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if bytes.Equal(data, first.Seal(plain, place)) {
		t.Error("sealed twice alike")
	}
	if _, err := other.Open(data, place); err == nil {
		t.Error("another secret opens it")
	}
	if _, err := first.Open(data, []byte("elsewhere")); err == nil {
		t.Error("it opens in another place")
	}
	for i := range data {
		changed := bytes.Clone(data)
		changed[i] ^= 1
		if _, err := first.Open(changed, place); err == nil {
			t.Errorf("it opens with byte %d changed", i)
		}
		if _, err := first.Open(data[:i], place); err == nil {
			t.Errorf("it opens cut to %d bytes", i)
		}
	}
	if got, err := first.Open(first.Seal(nil, nil), nil); err != nil || got == nil || len(got) != 0 {
		t.Errorf("nothing is opened as %#v, %v", got, err)
	}
}
