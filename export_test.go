package pycket

import "github.com/gorilla/securecookie"

// Overhear shows the tests every error as it is made, with the caller's name in it and without, and every value
// as it is encoded, or with nil, before it is decoded. It is for before the first App is made.
func Overhear(made func(err, unnamed error), met func(value any, data []byte)) {
	madeError = func(err *opError) { made(err, &opError{op: err.op, cause: err.cause}) }
	metValue = met
}

// OverhearIDs shows the tests every id that an App puts into a cookie, or takes out of one that it trusts. It is
// for before the App's first request.
func OverhearIDs(a *App, met func(id []byte)) {
	for _, codec := range a.cookies.codecs {
		codec.SetSerializer(overheard{met: met})
	}
}

// overheard is the serializer that the cookies have anyway.
type overheard struct {
	securecookie.NopEncoder
	met func(id []byte)
}

func (o overheard) Serialize(payload any) ([]byte, error) {
	o.met(payload.([]byte)[:lineLen+secretLen])
	return o.NopEncoder.Serialize(payload)
}

func (o overheard) Deserialize(data []byte, into any) error {
	if len(data) >= lineLen+secretLen {
		o.met(data[:lineLen+secretLen])
	}
	return o.NopEncoder.Deserialize(data, into)
}
