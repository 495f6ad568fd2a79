package pycket

import (
	"errors"
	"net/http"
	"time"

	"github.com/gorilla/securecookie"

	"github.com/pycket/pycket/internal/store"
)

// Unnamed returns an error of this package without the name that it is about, which is the caller's own.
func Unnamed(err error) error {
	if named := new(opError); errors.As(err, &named) {
		return &opError{op: named.op, cause: named.cause}
	}
	return err
}

// MakeOlder makes a request one that began earlier.
func MakeOlder(r *http.Request, by time.Duration) {
	q := requestOf(nil, r)
	q.began = q.began.Add(-by)
}

// Occupy keeps the operations of a request waiting, as one that is under way does.
func Occupy(r *http.Request) (leave func()) {
	q := requestOf(nil, r)
	q.lock.Lock()
	return q.lock.Unlock
}

// OverhearIDs shows the tests every id that an App puts into a cookie, or takes out of one that it trusts. It is
// for before the App's first request.
func OverhearIDs(a *App, met func(id []byte)) {
	for _, codec := range a.cookies.signer.Codecs {
		codec.SetSerializer(overheard{met: met})
	}
}

// overheard is the serializer that cookies have anyway.
type overheard struct {
	securecookie.NopEncoder
	met func(id []byte)
}

func (o overheard) Serialize(payload any) ([]byte, error) {
	o.met(payload.([]byte)[:store.IDSize])
	return o.NopEncoder.Serialize(payload)
}

func (o overheard) Deserialize(data []byte, into any) error {
	if len(data) >= store.IDSize {
		o.met(data[:store.IDSize])
	}
	return o.NopEncoder.Deserialize(data, into)
}
