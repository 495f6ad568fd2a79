package codec

import (
	"bytes"
	"encoding/gob"
	"fmt"
	"reflect"
	"strconv"
)

// EncodeGob encodes a value as gob, except that a whole number becomes decimal digits, and nil no bytes.
func EncodeGob(value any) ([]byte, error) {
	v := reflect.ValueOf(value)
	switch v.Kind() {
	case reflect.Invalid:
		return []byte{}, nil
	case reflect.Pointer, reflect.Map, reflect.Slice:
		if v.IsNil() {
			return []byte{}, nil
		}
	}
	for v.Kind() == reflect.Pointer && !v.IsNil() && !encodesItself(v.Type().Elem()) {
		v = v.Elem() // as gob does
	}
	switch {
	case encodesItself(v.Type()):
	case v.CanInt():
		return strconv.AppendInt(nil, v.Int(), 10), nil
	case v.CanUint():
		return strconv.AppendUint(nil, v.Uint(), 10), nil
	}
	var buf bytes.Buffer
	if err := gob.NewEncoder(&buf).Encode(value); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

// DecodeGob decodes what EncodeGob has encoded.
func DecodeGob(data []byte, into any) error {
	v := reflect.ValueOf(into).Elem()
	if len(data) == 0 {
		v.SetZero()
		return nil
	}
	target := v
	for target.Kind() == reflect.Pointer {
		if target.IsNil() {
			target.Set(reflect.New(target.Type().Elem()))
		}
		target = target.Elem()
	}
	t := target.Type()
	switch {
	case encodesItself(t):
	case target.CanInt():
		n, err := strconv.ParseInt(string(data), 10, t.Bits())
		if err != nil {
			return fmt.Errorf("not a whole number that fits %s", t)
		}
		target.SetInt(n)
		return nil
	case target.CanUint():
		n, err := strconv.ParseUint(string(data), 10, t.Bits())
		if err != nil {
			return fmt.Errorf("not a whole number that fits %s", t)
		}
		target.SetUint(n)
		return nil
	}
	return gob.NewDecoder(bytes.NewReader(data)).Decode(into)
}

var (
	gobEncoder      = reflect.TypeFor[gob.GobEncoder]()
	binaryMarshaler = reflect.TypeFor[interface{ MarshalBinary() ([]byte, error) }]()
)

// encodesItself reports whether gob asks the type for its bytes.
func encodesItself(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(gobEncoder) || p.Implements(binaryMarshaler)
}
