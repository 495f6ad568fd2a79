// Package codec turns values into bytes and back: as JSON, as gob, and sealed. It knows nothing of sessions, and hides
// what the standard library's formats do that a store of values must not.
package codec

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// EncodeJSON encodes a value as JSON. Text that is not UTF-8 is an error, and <, > and & are not escaped.
func EncodeJSON(value any) ([]byte, error) {
	switch v := value.(type) { // a shortcut for what sessions hold most
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

// replacedText reports whether encoding/json has replaced text that is not UTF-8. It writes the U+FFFD that it puts in
// as an escape, and leaves one that was there before as it is.
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

// isPlain reports whether text is the same in a JSON string.
func isPlain[T string | []byte](text T) bool {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// DecodePlain decodes JSON that needs no decoder, and reports whether it did. If not, the target is unchanged.
func DecodePlain(data []byte, into any) bool {
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

// DecodeJSON decodes JSON. Into an any, a map[string]any or a []any, whole numbers are decoded as int, or as int64 or
// uint64 where int is too small.
func DecodeJSON(data []byte, into any) error {
	if DecodePlain(data, into) {
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
