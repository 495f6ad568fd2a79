package signed

import (
	"crypto/sha256"
	"math/rand/v2"
	"sync/atomic"
)

// A memory remembers values that were verified recently: a browser sends the same cookie again and again, and verifying
// it costs more than everything else that a request does with it. It has 32,768 places, allocated as they are needed. A
// value may take any of four, so most are found again if half the places are taken.
//
// It stores and compares hashes, not cookies, so the time it takes reveals nothing about cookies. A cookie that differs
// in one bit is verified.
type memory[T any] [128]atomic.Pointer[[64]places[T]]

type places[T any] [4]atomic.Pointer[Value[T]]

// A sum is 128 bits of a SHA-256.
type sum [16]byte

func sumOf(text string) (s sum) {
	var buf [256]byte
	all := sha256.Sum256(append(buf[:0], text...))
	copy(s[:], all[:])
	return s
}

// find returns a value that has not expired, or the place for it.
func (m *memory[T]) find(sum sum) (*Value[T], *atomic.Pointer[Value[T]]) {
	page := &m[sum[0]%128]
	if page.Load() == nil {
		page.CompareAndSwap(nil, new([64]places[T]))
	}
	places := &page.Load()[sum[1]%64]
	free := &places[rand.N(len(places))] // #nosec G404 -- nobody gains from guessing it
	for i := range places {
		switch v := places[i].Load(); {
		case v == nil || v.Expired():
			free = &places[i]
		case v.sum == sum:
			return v, nil
		}
	}
	return nil, free
}
