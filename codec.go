package pycket

import (
	"fmt"
	"reflect"

	"github.com/pycket/pycket/internal/codec"
)

// A Codec turns values into the bytes that are stored in Redis, one value at a time, and back.
//
// Encode must not keep or change the value; Decode gets a non-nil pointer and must not keep data. Both may be called by
// many goroutines at once. If the codec writes whole numbers as decimal digits, as [JSON] and [Gob] do,
// [SessionManager.Increment] is one atomic command in Redis; otherwise it is a compare-and-set like [Update], which loses
// nothing either.
type Codec interface {
	Encode(value any) ([]byte, error)
	Decode(data []byte, into any) error
}

// JSON is the default codec: encoding/json, so that values are readable in redis-cli and from other languages.
//
// It differs from plain encoding/json in three ways. Text that is not UTF-8 is an error instead of being changed
// silently; store it as []byte. <, > and & are not escaped. In an any, a map[string]any or a []any, whole numbers are
// decoded as int (int64 or uint64 where int is too small), and only others as float64.
type JSON struct{}

// Encode encodes a value as JSON.
func (JSON) Encode(value any) ([]byte, error) { return codec.EncodeJSON(value) }

// Decode decodes JSON.
func (JSON) Decode(data []byte, into any) error { return codec.DecodeJSON(data, into) }

// Gob is the codec of encoding/gob, for Go types that JSON cannot represent. It writes whole numbers as decimal digits,
// so that Increment stays one command, and nil as no bytes. A value can only be read into its own type, not into an
// any.
type Gob struct{}

// Encode encodes a value as gob.
func (Gob) Encode(value any) ([]byte, error) { return codec.EncodeGob(value) }

// Decode decodes gob.
func (Gob) Decode(data []byte, into any) error { return codec.DecodeGob(data, into) }

// countsInDigits reports whether Redis can add to what the codec writes.
func countsInDigits(codec Codec) bool {
	data, err := codec.Encode(int64(-42))
	return err == nil && string(data) == "-42"
}

// encode encodes a value, and refuses one that is too large.
func (a *App) encode(value any) ([]byte, error) {
	data, err := a.codec.Encode(value)
	if err != nil {
		return nil, fmt.Errorf("a value of type %T cannot be encoded: %w", value, err)
	}
	size := len(data)
	if a.seal != nil {
		size += codec.Overhead
	}
	if limit := a.settings.MaxValueBytes; size > limit {
		return nil, fmt.Errorf("%w: the value takes %d bytes, and Settings.MaxValueBytes is %d", ErrTooLarge, size, limit)
	}
	if data == nil {
		data = []byte{} // nil would read as no value
	}
	return data, nil
}

// decode decodes into a new value first, so a failure leaves the target unchanged, and what the target held is not
// mixed with what is read.
func (a *App) decode(data []byte, into any) error {
	if a.codec == (JSON{}) && codec.DecodePlain(data, into) {
		return nil
	}
	target := reflect.ValueOf(into).Elem()
	fresh := reflect.New(target.Type())
	if err := a.codec.Decode(data, fresh.Interface()); err != nil {
		return &decodeError{target.Type().String(), err}
	}
	target.Set(fresh.Elem())
	return nil
}

// A decodeError says what a stored value could not be read as. The cause is there for errors.As, but not in the text: a
// decoder's message may quote what is stored.
type decodeError struct {
	target string
	cause  error
}

func (e *decodeError) Error() string {
	return "the stored value cannot be read as " + e.target
}

func (e *decodeError) Unwrap() []error { return []error{ErrCorrupt, e.cause} }

// checkTarget refuses what a decoder can't write to.
func checkTarget(into any) error {
	if v := reflect.ValueOf(into); v.Kind() != reflect.Pointer || v.IsNil() {
		return fmt.Errorf("the target must be a non-nil pointer, not %T", into)
	}
	return nil
}
