package codec_test

import (
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pycket/pycket/internal/codec"
)

// What is encoded by a shortcut is what encoding/json writes.
func TestEncodeJSON(t *testing.T) {
	for _, value := range []any{
		0, -1, math.MinInt64, int64(math.MaxInt64), true, false, "", "plain", `"\`, "a\x00b", "Zoë", strings.Repeat("x", 300),
		nil, 1.5, []string{"a"}, map[string]any{"a": []any{1, "b"}}, struct{ A int }{1},
	} {
		got, err := codec.EncodeJSON(value)
		if err != nil {
			t.Errorf("%v: %v", value, err)
		}
		want, _ := json.Marshal(value)
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%v (-want +got):\n%s", value, diff)
		}
	}
	if got, err := codec.EncodeJSON("<&>"); err != nil || string(got) != `"<&>"` {
		t.Errorf("%s, %v", got, err)
	}
	for _, value := range []any{"\xff", []string{"a\xff"}, map[string]int{"\xff": 1}, math.NaN(), make(chan int)} {
		if got, err := codec.EncodeJSON(value); err == nil {
			t.Errorf("%v: encoded as %s", value, got)
		}
	}
	for _, value := range []any{"\ufffd", []string{`\ufffd`}} { // which look like text that was replaced
		if _, err := codec.EncodeJSON(value); err != nil {
			t.Errorf("%q: %v", value, err)
		}
	}
}

func TestDecodeWholeNumbers(t *testing.T) {
	var got any
	if err := codec.DecodeJSON([]byte(`[1, -9007199254740993, 18446744073709551615, 1.0, 1e3, {"a": 2}]`), &got); err != nil {
		t.Fatal(err)
	}
	want := []any{1, -9007199254740993, uint64(math.MaxUint64), 1.0, 1e3, map[string]any{"a": 2}}
	if diff := cmp.Diff(any(want), got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := codec.DecodeJSON([]byte(`1 2`), &got); err == nil {
		t.Error("two values were decoded")
	}
}

// What needs no decoder is decoded as encoding/json does.
func FuzzDecodePlain(f *testing.F) {
	for _, data := range []string{`"a"`, `"`, `""`, `"\n"`, "\"\xff\"", `1`, `-0`, `01`, `+1`, `-`, `9223372036854775808`, `1.0`, `true`, `false `, `null`, ` 1`} {
		f.Add([]byte(data))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, into := range []any{new("before"), new(7), new(int64(7)), new(true)} {
			target := reflect.New(reflect.TypeOf(into).Elem()).Interface()
			if !codec.DecodePlain(data, target) {
				continue
			}
			if err := json.Unmarshal(data, into); err != nil {
				t.Errorf("%q was decoded into %T: %v", data, into, err)
			}
			if diff := cmp.Diff(into, target); diff != "" {
				t.Errorf("%q (-want +got):\n%s", data, diff)
			}
		}
	})
}
