package pycket

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"
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
// It differs from plain encoding/json in three ways. Text that is not UTF-8 is an error instead of being changed silently;
// store it as []byte. <, > and & are not escaped. And into an any, a map[string]any or a []any, whole numbers are decoded
// as int (int64 or uint64 where int is too small) and only the others as float64.
type JSON struct{}

var (
	_ Codec = JSON{}
	_ Codec = Gob{}
)

// Encode encodes a value as JSON.
func (JSON) Encode(value any) ([]byte, error) {
	switch v := value.(type) { // what sessions hold most, by a shortcut
	case int:
		return strconv.AppendInt(nil, int64(v), 10), nil
	case int64:
		return strconv.AppendInt(nil, v, 10), nil
	case bool:
		return strconv.AppendBool(nil, v), nil
	case string:
		if isPlain(v) {
			return append(append(append(make([]byte, 0, len(v)+2), '"'), v...), '"'), nil
		}
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(value); err != nil {
		const literal = "invalid number literal" // which encoding/json then repeats
		if text, _, cut := strings.Cut(err.Error(), literal); cut {
			err = errors.New(text + literal)
		}
		return nil, err
	}
	data := bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
	if _, own := value.(json.Marshaler); !utf8.Valid(data) || !own && replacedText(data) {
		return nil, errors.New("it holds text that is not UTF-8, which JSON cannot represent: store it as []byte, or use the Gob codec")
	}
	return data, nil
}

// replacedText reports whether encoding/json has replaced text that is not UTF-8. It then writes U+FFFD as an escape; a
// U+FFFD that was there before it leaves as it is.
func replacedText(data []byte) bool {
	const escape = `\ufffd`
	for from := 0; ; {
		i := bytes.Index(data[from:], []byte(escape))
		if i < 0 {
			return false
		}
		backslashes := 0
		for j := from + i - 1; j >= 0 && data[j] == '\\'; j-- {
			backslashes++
		}
		if backslashes%2 == 0 {
			return true
		}
		from += i + len(escape)
	}
}

// isPlain reports whether text is the same in JSON.
func isPlain[T string | []byte](text T) bool {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// decodePlain decodes what needs no decoder, and reports whether it did.
func decodePlain(data []byte, into any) bool {
	switch into := into.(type) {
	case *string:
		if n := len(data) - 1; n > 0 && data[0] == '"' && data[n] == '"' && isPlain(data[1:n]) {
			*into = string(data[1:n])
			return true
		}
	case *int:
		if n, ok := decodeInt(data); ok && n >= math.MinInt && n <= math.MaxInt {
			*into = int(n)
			return true
		}
	case *int64:
		if n, ok := decodeInt(data); ok {
			*into = n
			return true
		}
	case *bool:
		if yes := string(data) == "true"; yes || string(data) == "false" {
			*into = yes
			return true
		}
	}
	return false
}

func decodeInt(data []byte) (int64, bool) {
	if len(data) == 0 || data[0] == '+' || data[0] == '0' && len(data) > 1 || data[0] == '-' && len(data) > 1 && data[1] == '0' {
		return 0, false
	}
	n, err := strconv.ParseInt(string(data), 10, 64)
	return n, err == nil
}

// Decode decodes JSON.
func (JSON) Decode(data []byte, into any) error {
	if decodePlain(data, into) {
		return nil
	}
	switch into := into.(type) {
	case *any:
		return decodeAny(data, into)
	case *map[string]any:
		return decodeAny(data, into)
	case *[]any:
		return decodeAny(data, into)
	}
	return json.Unmarshal(data, into)
}

// decodeAny decodes into a type that does not say which numbers are whole.
func decodeAny[T any](data []byte, into *T) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	if err := dec.Decode(into); err != nil {
		return err
	}
	if _, err := dec.Token(); err != io.EOF {
		return errors.New("more than one JSON value")
	}
	var whole any = *into
	if done, ok := wholeNumbers(whole).(T); ok {
		*into = done
	}
	return nil
}

// wholeNumbers replaces every json.Number in a decoded value, in place if it can.
func wholeNumbers(value any) any {
	switch v := value.(type) {
	case json.Number:
		return number(string(v))
	case map[string]any:
		for name, item := range v {
			v[name] = wholeNumbers(item)
		}
	case []any:
		for i, item := range v {
			v[i] = wholeNumbers(item)
		}
	}
	return value
}

func number(text string) any {
	if !strings.ContainsAny(text, ".eE") {
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			if n >= math.MinInt && n <= math.MaxInt {
				return int(n)
			}
			return n
		}
		if n, err := strconv.ParseUint(text, 10, 64); err == nil {
			return n
		}
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return json.Number(text)
	}
	return f
}

// Gob is the codec of encoding/gob, for Go types that JSON cannot represent. It writes whole numbers as decimal digits, so
// that Increment stays one command, and nil as nothing. A value can only be read into its own type, not into an any.
type Gob struct{}

// Encode encodes a value as gob.
func (Gob) Encode(value any) ([]byte, error) {
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
	case v.CanInt() && !encodesItself(v.Type()):
		return strconv.AppendInt(nil, v.Int(), 10), nil
	case v.CanUint() && !encodesItself(v.Type()):
		return strconv.AppendUint(nil, v.Uint(), 10), nil
	}
	var buf bytes.Buffer
	if err := gob.NewEncoder(&buf).Encode(value); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

// Decode decodes gob.
func (Gob) Decode(data []byte, into any) error {
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
	switch {
	case target.CanInt() && !encodesItself(target.Type()):
		n, err := strconv.ParseInt(string(data), 10, target.Type().Bits())
		if err != nil {
			return fmt.Errorf("not a whole number that fits %s", target.Type())
		}
		target.SetInt(n)
		return nil
	case target.CanUint() && !encodesItself(target.Type()):
		n, err := strconv.ParseUint(string(data), 10, target.Type().Bits())
		if err != nil {
			return fmt.Errorf("not a whole number that fits %s", target.Type())
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
		size += a.seal.overhead()
	}
	if limit := a.settings.MaxValueBytes; size > limit {
		return nil, fmt.Errorf("%w: the value takes %d bytes, and Settings.MaxValueBytes is %d", ErrTooLarge, size, limit)
	}
	if data == nil {
		data = []byte{} // nil would read as no value
	}
	return data, nil
}

// decode decodes into a new value first: a failure leaves the target unchanged, and what the target held before is not
// mixed with what is read.
func (a *App) decode(data []byte, into any) error {
	if a.codec == (JSON{}) && decodePlain(data, into) {
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

// A decodeError says what a stored value could not be read as. The cause is there for errors.As and not in the text: a
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
