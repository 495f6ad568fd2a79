package pycket_test

// No id, cookie's value, secret, Redis password, user, handle or stored value is in any log or error, and a key only
// where an error names its operation's. That is a promise about every line of the library, so it is kept to by the whole
// suite: each test leaves here what its Apps, and the servers around them, have logged, every error that was made and
// all that must not be in them. When the last test has run, TestMain compares.

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"index/suffixarray"
	"io"
	"log"
	"log/slog"
	"maps"
	"math"
	"net/http"
	"net/url"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pycket/pycket"
)

// heard is what this run of the tests has heard; nil while benchmarks measure, and while fuzzing looks for new
// inputs, since that has no end.
var heard *silence

func beginToHear() {
	flag.Parse()
	if option("bench") != "" || option("fuzz") != "" {
		return
	}
	heard = newSilence()
	heard.hide("secret", secret, otherSecret, "32 random bytes: openssl rand -base64 32") // the last is that of the examples
	heard.hide("user", "ann", "bob")                                                      // who sign in in nearly every test that has users
	log.SetOutput(heard.beside(os.Stderr))                                                // for slog.Default and for net/http, which logs panics, too
	slog.SetLogLoggerLevel(slog.LevelDebug)
}

func option(name string) string { return flag.Lookup("test." + name).Value.String() }

// silence is what was said, and what must not have been. What tests call may be called on nil, which hears nothing.
type silence struct {
	mu      sync.Mutex
	said    map[string]bool            // the text of errors and logs
	unnamed map[string]bool            // the same, but that errors lack the name that they are about
	hidden  map[string]map[string]bool // by kind
	causes  map[error]bool             // the sentinels that were among the errors
	logs    int
}

func newSilence() *silence {
	return &silence{said: map[string]bool{}, unnamed: map[string]bool{}, hidden: map[string]map[string]bool{}, causes: map[error]bool{}}
}

// Addresses, in memory and on this machine, differ each time: without them there are few texts, however many
// errors.
var (
	pointers = regexp.MustCompile(`0x[0-9a-f]{6,}`)
	ports    = regexp.MustCompile(`127\.0\.0\.1:\d+`)
)

// err hears an error. A name is the caller's own and may be in it, and may be the same as a value elsewhere.
func (s *silence) err(err error) {
	if s == nil || err == nil {
		return
	}
	s.made(err, pycket.Unnamed(err))
}

func (s *silence) made(err, unnamed error) {
	texts := func(err error) []string {
		return []string{ports.ReplaceAllString(err.Error(), "127.0.0.1"), pointers.ReplaceAllString(fmt.Sprintf("%#v", err), "0x")}
	}
	full, short := texts(err), texts(unnamed)
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range full {
		s.said[full[i]] = true
		s.unnamed[short[i]] = true
	}
	for _, cause := range sentinels {
		if errors.Is(err, cause) {
			s.causes[cause] = true
		}
	}
}

var sentinels = []error{
	pycket.ErrNotBound, pycket.ErrNoApp, pycket.ErrGone, pycket.ErrHeadersSent, pycket.ErrTooLarge, pycket.ErrUnavailable, pycket.ErrCorrupt, pycket.ErrReserved, pycket.ErrMisconfigured, pycket.ErrNotReplicated,
}

// Write takes note of a line of a log.
func (s *silence) Write(line []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.said[string(line)] = true
	s.unnamed[string(line)] = true
	s.logs++
	return len(line), nil
}

// beside is a writer that is heard.
func (s *silence) beside(w io.Writer) io.Writer {
	if s == nil {
		return w
	}
	return io.MultiWriter(w, s)
}

// newApp is pycket.New, heard.
func (s *silence) newApp(settings pycket.Settings) (*pycket.App, error) {
	if s == nil {
		return pycket.New(settings)
	}
	s.hide("secret", settings.Secrets...)
	s.password(settings.Redis.URL)
	if of := settings.Redis.Sentinel.Password; of != "" {
		s.hide("password", of)
	}
	if settings.Logger != nil {
		all := slog.NewTextHandler(s, &slog.HandlerOptions{Level: slog.Level(math.MinInt), ReplaceAttr: untimed})
		settings.Logger = slog.New(slog.NewMultiHandler(settings.Logger.Handler(), all))
	}
	observe := settings.Observe
	settings.Observe = func(ctx context.Context, op pycket.Operation) {
		s.observed(op)
		if observe != nil {
			observe(ctx, op)
		}
	}
	if settings.Codec == nil {
		settings.Codec = hearing{pycket.JSON{}, s}
	}
	app, err := pycket.New(settings)
	s.err(err)
	if err == nil {
		pycket.OverhearIDs(app, func(id []byte) { s.id(id) })
	}
	return app, err
}

// observed takes note of an operation, without its times.
func (s *silence) observed(op pycket.Operation) {
	s.err(op.Err)
	op.Err, op.Began, op.Took = nil, time.Time{}, 0
	s.say(ports.ReplaceAllString(fmt.Sprintf("%#v", op), "127.0.0.1"))
}

// stats takes note of what an App has counted, without the numbers.
func (s *silence) stats(app *pycket.App) {
	if s == nil {
		return
	}
	data, err := json.Marshal(app.Stats())
	if err != nil {
		s.say(err.Error())
	}
	s.say(numbers.ReplaceAllString(string(data), "0"))
}

var numbers = regexp.MustCompile(`\b\d{1,11}\b`)

func (s *silence) say(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.said[text], s.unnamed[text] = true, true
}

// untimed lets lines that say the same be the same.
func untimed(groups []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey && len(groups) == 0 {
		return slog.Attr{}
	}
	return a
}

// sealed is pycket.Sealed, heard.
func (s *silence) sealed(codec pycket.Codec, secrets ...string) (pycket.Codec, error) {
	s.hide("secret", secrets...)
	return pycket.Sealed(codec, secrets...)
}

// password takes note of the password in a URL, which need not be a good one.
func (s *silence) password(of string) {
	_, rest, _ := strings.Cut(of, "://")
	at := strings.LastIndexByte(rest, '@')
	if at < 0 {
		return
	}
	escaped := rest[strings.IndexByte(rest[:at], ':')+1 : at]
	s.hide("password", escaped)
	if plain, err := url.PathUnescape(escaped); err == nil {
		s.hide("password", plain)
	}
}

// request takes note of the cookies that are sent with a request.
func (s *silence) request(r *http.Request) { s.cookie(r.Header["Cookie"]...) }

// response takes note of the cookies that a response sets.
func (s *silence) response(r *http.Response) { s.cookie(r.Header["Set-Cookie"]...) }

// head takes note of the cookies in a request, or in a response, as it goes over the wire.
func (s *silence) head(text string) {
	if s == nil {
		return
	}
	for line := range strings.Lines(text) {
		if field, value, _ := strings.Cut(line, ": "); field == "Cookie" || field == "Set-Cookie" {
			s.cookie(strings.TrimSpace(value))
		}
	}
}

// cookie takes note of lines of cookies, name=value; name=value, and of the ids in those that are not encrypted.
func (s *silence) cookie(lines ...string) {
	if s == nil {
		return
	}
	for _, line := range lines {
		for pair := range strings.SplitSeq(line, ";") {
			_, value, _ := strings.Cut(pair, "=")
			value = strings.Trim(value, `"`)
			if len(value) > 4096 { // no browser keeps it
				continue
			}
			s.hide("cookie", value)
			signed, _ := base64.URLEncoding.DecodeString(value)
			if _, payload, ok := bytes.Cut(signed, []byte("|")); ok {
				payload, _, _ = bytes.Cut(payload, []byte("|"))
				if id, err := base64.URLEncoding.DecodeString(string(payload)); err == nil && len(id) > 4 {
					s.id(id[:len(id)-4])
				}
			}
		}
	}
}

// id takes note of an id and of the handle that it gives its session, which is in the session's key.
func (s *silence) id(id []byte) {
	s.hide("id", string(id))
	if len(id) >= 12 {
		s.hide("handle", handleIn(keyOf(id)))
	}
}

// hearing is a codec whose values are heard.
type hearing struct {
	pycket.Codec
	silence *silence
}

func (h hearing) Encode(value any) ([]byte, error) {
	data, err := h.Codec.Encode(value)
	h.silence.met(value, data)
	return data, err
}

func (h hearing) Decode(data []byte, into any) error {
	h.silence.met(nil, data)
	return h.Codec.Decode(data, into)
}

// met takes note of a value: as the application gave it, if that is text, as it is encoded, and what texts are
// in it.
func (s *silence) met(value any, data []byte) {
	switch v := reflect.ValueOf(value); {
	case v.Kind() == reflect.String:
		s.hide("stored value", v.String())
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8:
		s.hide("stored value", string(v.Bytes()))
	}
	inner := bytes.Trim(data, `"`)
	s.hide("stored value", string(inner))
	if len(inner) > 0 && (inner[0] == '{' || inner[0] == '[') && json.Valid(inner) {
		for text := range bytes.SplitSeq(inner, []byte(`"`)) {
			s.hide("stored value", string(text))
		}
	}
}

// shortest is how long something must be to be looked for; what is shorter could be there for another reason.
var shortest = map[string]int{"cookie": 16, "id": 12, "handle": 16, "secret": 16, "password": 8, "user": 3, "argument": 12, "stored value": 12}

// hide takes note of what must not be said. Of what is long, a part will do: that and the whole are not said
// without it.
func (s *silence) hide(kind string, texts ...string) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hidden[kind] == nil {
		s.hidden[kind] = map[string]bool{}
	}
	for _, text := range texts {
		for _, part := range parts(kind, text) {
			if random := kind == "id" || kind == "cookie"; len(part) >= shortest[kind] && !(random && monotonous(part)) {
				s.hidden[kind][part] = true
			}
		}
	}
}

// parts are what to look for: what is random in pieces, since a piece of that is telling too; of a secret its
// beginning, too; of what is long both ends.
func parts(kind, text string) (list []string) {
	const most = 64
	switch n := shortest[kind]; {
	case kind == "cookie" || kind == "id":
		for ; len(text) >= n; text = text[n:] {
			list = append(list, strings.Clone(text[:n]))
		}
		return list
	case kind == "secret" && len(text) > n:
		return []string{text, text[:n]}
	case len(text) > most:
		return []string{strings.Clone(text[:most/2]), strings.Clone(text[len(text)-most/2:])}
	}
	return []string{text}
}

// monotonous tells of a few different bytes only: an id of zeros, which none is but in tests.
func monotonous(text string) bool {
	var bytes [256]bool
	different := 0
	for i := range len(text) {
		if !bytes[text[i]] {
			bytes[text[i]] = true
			different++
		}
	}
	return different < 5
}

// forms are how something may be printed.
func forms(kind, text string) []string {
	list := []string{text}
	if kind == "cookie" || kind == "handle" { // is all letters and digits, and of use as it is
		return list
	}
	within := func(quoted string) string { return quoted[1 : len(quoted)-1] }
	data := []byte(text)
	list = append(list,
		within(strconv.Quote(text)), within(strconv.QuoteToASCII(text)), within(fmt.Sprint(data)),
		hex.EncodeToString(data), strings.ToUpper(hex.EncodeToString(data)),
		base64.RawStdEncoding.EncodeToString(data), base64.RawURLEncoding.EncodeToString(data),
		url.QueryEscape(text), url.PathEscape(text),
	)
	if quoted, err := json.Marshal(text); err == nil {
		list = append(list, within(string(quoted)))
	}
	for _, form := range list { // a log quotes an error that has quoted
		list = append(list, within(strconv.Quote(form)))
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// A leak is something hidden that was said.
type leak struct{ kind, form, line string }

// leaks are those that were found, one for each line and kind.
func (s *silence) leaks() (list []leak) {
	found := map[leak]bool{}
	full, unnamed := newLines(s.said), newLines(s.unnamed)
	for kind, texts := range s.hidden {
		said := full
		if kind == "stored value" || kind == "argument" {
			said = unnamed
		}
		for text := range texts {
			for _, form := range forms(kind, text) {
				for _, line := range said.with(form, kind == "user" && len(text) < 12) {
					if once := (leak{kind: kind, line: line}); !found[once] {
						found[once] = true
						list = append(list, leak{kind, form, line})
					}
				}
			}
		}
	}
	slices.SortFunc(list, func(a, b leak) int { return strings.Compare(a.kind+a.line, b.kind+b.line) })
	return list
}

// lines are texts to be searched for a great many others.
type lines struct {
	text  string
	index *suffixarray.Index
}

// between lines stands what is in none of them and in nothing hidden.
const between = "\x00\xff\n\xff\x00"

func newLines(set map[string]bool) lines {
	text := between + strings.Join(slices.Sorted(maps.Keys(set)), between) + between
	return lines{text, suffixarray.New([]byte(text))}
}

// with returns lines that have a text, or only those that have it as a word of its own, as a short name must be.
func (l lines) with(text string, word bool) (list []string) {
	most := 100
	if word {
		most = -1
	}
	letter := regexp.MustCompile(`^\w$`).MatchString
	for _, at := range l.index.Lookup([]byte(text), most) {
		end := at + len(text)
		if word && (letter(text[:1]) && letter(l.text[at-1:at]) || letter(text[len(text)-1:]) && letter(l.text[end:end+1])) {
			continue
		}
		begin := strings.LastIndex(l.text[:at], between) + len(between)
		list = append(list, l.text[begin:at+strings.Index(l.text[at:], between)])
	}
	return list
}

// missing is what a run of the whole suite can't have been without, unless it was not heard: with the embedded
// server alone, too.
func (s *silence) missing() (list []string) {
	for _, cause := range sentinels {
		if !s.causes[cause] {
			list = append(list, fmt.Sprintf("error that is %q", cause))
		}
	}
	for what, count := range map[string][2]int{
		"errors and lines of logs": {len(s.said), 300},
		"lines of logs":            {s.logs, 10},
		"pieces of cookies":        {len(s.hidden["cookie"]), 10_000},
		"pieces of ids":            {len(s.hidden["id"]), 3000},
		"handles":                  {len(s.hidden["handle"]), 500},
		"users":                    {len(s.hidden["user"]), 2},
		"arguments":                {len(s.hidden["argument"]), 20},
		"secrets":                  {len(s.hidden["secret"]), 3},
		"stored values":            {len(s.hidden["stored value"]), 1000},
	} {
		if count[0] < count[1] {
			list = append(list, fmt.Sprintf("%d %s or more: there were %d", count[1], what, count[0]))
		}
	}
	slices.Sort(list)
	return list
}

// judge says what was wrong, and is 1 if something was. passed tells whether all tests have.
func (s *silence) judge(out io.Writer, passed bool) int {
	if s == nil {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	const most = 20
	leaks := s.leaks()
	for _, leak := range leaks[:min(len(leaks), most)] {
		line, at := leak.line, strings.Index(leak.line, leak.form)
		from, to := max(0, at-500), min(len(line), at+len(leak.form)+500)
		fmt.Fprintf(out, "--- FAIL: silence: a %s (%q) is in %q\n", leak.kind, leak.form, line[from:to])
	}
	if len(leaks) > most {
		fmt.Fprintf(out, "--- FAIL: silence: and %d more\n", len(leaks)-most)
	}
	all := passed && option("run") == "" && option("skip") == "" && option("list") == "" && option("count") != "0"
	var missing []string
	if all {
		missing = s.missing()
	}
	for _, what := range missing {
		fmt.Fprintf(out, "--- FAIL: silence: the suite was not heard: it has no %s\n", what)
	}
	if len(leaks)+len(missing) > 0 {
		return 1
	}
	return 0
}

// What leaks is found, however it is printed, and nothing else is.
func TestLeaksAreFound(t *testing.T) {
	texts := map[string]string{
		"cookie":       base64.URLEncoding.EncodeToString([]byte("1760000000|a payload that is not one|\x01\x02a signature\xfe")),
		"id":           "\x01\xfeline of id;32 random bytes, or 256 bits",
		"secret":       "a \"secret\" of 32 bytes & some more",
		"password":     "pass word \"%\"",
		"user":         "Ann <ann@example.org>",
		"argument":     "the key of a \"value\"",
		"handle":       base64.URLEncoding.EncodeToString([]byte("\x01\xfea handle\x02")),
		"stored value": "what <someone> has \"stored\"\n\x00",
	}
	for kind, text := range texts {
		for form, printed := range map[string]string{
			"%s": text, "%q": strconv.Quote(text), "%+q": strconv.QuoteToASCII(text), "%x": fmt.Sprintf("%x", text), "%X": fmt.Sprintf("%X", text),
			"bytes": fmt.Sprint([]byte(text)), "base64": base64.StdEncoding.EncodeToString([]byte(text)), "base64, URL": base64.URLEncoding.EncodeToString([]byte(text)),
			"JSON": func() string { data, _ := json.Marshal(text); return string(data) }(), "query": url.QueryEscape(text), "path": url.PathEscape(text),
		} {
			if (kind == "cookie" || kind == "handle") && !strings.Contains(printed, text) {
				continue
			}
			s := newSilence()
			for kind, text := range texts {
				s.hide(kind, text)
			}
			s.made(errors.New("fine: "+printed[:5]), errors.New("fine"))
			fmt.Fprintf(s, "level=ERROR msg=fine error=%q", "redis is unavailable")
			if leaks := s.leaks(); len(leaks) != 0 {
				t.Errorf("%s, %s: found where nothing is: %v", kind, form, leaks)
			}
			s.made(errors.New("pycket: set: "+printed+": wrong"), errors.New("pycket: set: "+printed+": wrong"))
			if leaks := s.leaks(); len(leaks) != 2 || leaks[0].kind != kind || leaks[1].kind != kind { // %v and %#v
				t.Errorf("%s, %s: in an error: %v", kind, form, leaks)
			}
			s = newSilence()
			s.hide(kind, text)
			slog.New(slog.NewTextHandler(s, nil)).Info("fine", "what", printed)
			if leaks := s.leaks(); form == "%s" && len(leaks) != 1 {
				t.Errorf("%s, %s: in a log: %v", kind, form, leaks)
			}
		}
	}
	s := newSilence()
	s.met("the name of a value", []byte(`{"key": ["a longer text"]}`))
	s.made(errors.New(`pycket: set "the name of a value": wrong`), errors.New("pycket: set: wrong"))
	if leaks := s.leaks(); len(leaks) != 0 {
		t.Errorf("a name: %v", leaks)
	}
	fmt.Fprint(s, "a part of a value: a longer text")
	if leaks := s.leaks(); len(leaks) != 1 {
		t.Errorf("a part of a value: %v", leaks)
	}
	s = newSilence()
	s.hide("user", "ann")
	fmt.Fprint(s, "Ann_ann cannot plan")
	if leaks := s.leaks(); len(leaks) != 0 {
		t.Errorf("letters of other words: %v", leaks)
	}
	for range 200 {
		fmt.Fprintf(s, "cannot plan %d", len(s.said))
	}
	fmt.Fprint(s, "user=ann")
	fmt.Fprint(s, "user=YW5u")
	if leaks := s.leaks(); len(leaks) != 2 {
		t.Errorf("a short name: %v", leaks)
	}
	if len(s.missing()) < 10 || s.judge(io.Discard, false) != 1 || newSilence().judge(io.Discard, false) != 0 {
		t.Errorf("missing: %q", s.missing())
	}
}
