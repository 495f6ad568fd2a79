package store

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A rotation keeps what finds the session and changes what opens it; an id survives being written and read.
func TestID(t *testing.T) {
	id := NewID()
	next := id.Rotated()
	if next.Handle != id.Handle || next.verifier == id.verifier || next.bytes == id.bytes {
		t.Errorf("%v, rotated: %v", id, next)
	}
	if other := NewID(); other.Handle == id.Handle || other.verifier == id.verifier {
		t.Errorf("two new ids: %v, %v", id, other)
	}
	if !IsHandle(id.Handle) || len(id.verifier) != 22 {
		t.Errorf("handle %q, verifier %q", id.Handle, id.verifier)
	}
	if parsed, ok := ParseID(id.Append(nil)); !ok || *parsed != *id {
		t.Errorf("%v, %v; want %v", parsed, ok, id)
	}
	for _, size := range []int{0, IDSize - 1, IDSize + 1} {
		if _, ok := ParseID(make([]byte, size)); ok {
			t.Errorf("%d bytes are taken for an id", size)
		}
	}
	if bytes.Contains([]byte(id.Handle+id.verifier), id.bytes[:lineSize]) {
		t.Error("the id is in what Redis sees")
	}
}

func TestIsHandle(t *testing.T) {
	for text, want := range map[string]bool{
		"AAAAAAAAAAAAAAAA": true, "az09-_AZaz09-_AZ": true,
		"": false, "AAAAAAAAAAAAAAA": false, "AAAAAAAAAAAAAAAAA": false, "AAAAAAAAAAAAAAA}": false, "AAAAAAAAAAAAAAA\n": false, "AAAAAAAAAAAAAAA=": false,
	} {
		if got := IsHandle(text); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}

// The sizes of large sessions are remembered in bounded memory, and forgotten when they are small again.
func TestSizes(t *testing.T) {
	var z sizes
	z.remember("small", smallBytes)
	z.remember("large", 5000)
	if diff := cmp.Diff([]int64{0, 5000, 0}, []int64{z.of("small"), z.of("large"), z.of("unknown")}); diff != "" {
		t.Error(diff)
	}
	z.remember("large", 6000)
	if got := z.of("large"); got != 6000 {
		t.Errorf("it has grown: %d", got)
	}
	z.remember("large", 10)
	if got := z.of("large"); got != 0 {
		t.Errorf("it has shrunk: %d", got)
	}
	for range 3 * maxSizes {
		z.remember(NewID().Handle, 5000)
	}
	if n := len(z.bytes); n > maxSizes {
		t.Errorf("%d are remembered, and %d may be", n, maxSizes)
	}
}
