package codec_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pycket/pycket/internal/codec"
)

type amount int8

func TestGob(t *testing.T) {
	for _, c := range []struct {
		value any
		bytes string // "" if they are gob's own
	}{
		{-42, "-42"}, {uint64(7), "7"}, {amount(3), "3"}, {time.Second, "1000000000"},
		{"text", ""}, {[]string{"a", "b"}, ""}, {map[string]int{"a": 1}, ""}, {struct{ A, B int }{1, 2}, ""},
		{time.Unix(1, 0).UTC(), ""}, // which encodes itself
	} {
		data, err := codec.EncodeGob(c.value)
		if err != nil || c.bytes != "" && string(data) != c.bytes {
			t.Errorf("%v is encoded as %q, %v", c.value, data, err)
			continue
		}
		got := reflect.New(reflect.TypeOf(c.value))
		if err := codec.DecodeGob(data, got.Interface()); err != nil {
			t.Errorf("%v: %v", c.value, err)
		}
		if diff := cmp.Diff(c.value, got.Elem().Interface()); diff != "" {
			t.Errorf("%v (-want +got):\n%s", c.value, diff)
		}
	}
}

func TestGobNil(t *testing.T) {
	for _, value := range []any{nil, (*int)(nil), []string(nil), map[string]int(nil)} {
		data, err := codec.EncodeGob(value)
		if err != nil || len(data) != 0 {
			t.Errorf("%#v is encoded as %q, %v", value, data, err)
		}
	}
	got := new(5)
	if err := codec.DecodeGob(nil, &got); err != nil || got != nil {
		t.Errorf("nothing is decoded as %v, %v", got, err)
	}
	if err := codec.DecodeGob([]byte("6"), &got); err != nil || got == nil || *got != 6 {
		t.Errorf("6 is decoded as %v, %v", got, err)
	}
}

func TestGobDoesNotFit(t *testing.T) {
	for _, into := range []any{new(amount), new(uint8), new("")} {
		if err := codec.DecodeGob([]byte("-300"), into); err == nil {
			t.Errorf("-300 is decoded into %T", into)
		}
	}
}
