package pycket_test

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/pycket/pycket"
	"github.com/pycket/pycket/internal/redistest"
)

// The seeds run against both servers in every go test. While new inputs are looked for, the embedded one
// is enough: go test -fuzz FuzzStoredHash

// A fuzzed site is one for a fuzz target. It isn't started: requests are calls in this process.
type fuzzed struct {
	*site
	server *redistest.Server
	json   bool // its codec is JSON
}

// fuzzedSites are sites on each server, one for each change to the settings.
func fuzzedSites(f *testing.F, changes ...func(*pycket.Settings)) (list []*fuzzed) {
	f.Helper()
	servers := []*redistest.Server{redistest.StartEmbedded(f)}
	if redistest.Installed() && flag.Lookup("test.fuzz").Value.String() == "" {
		servers = append(servers, redistest.Start(f))
	}
	for _, server := range servers {
		for _, change := range changes {
			s := settings(server)
			change(&s)
			list = append(list, &fuzzed{unstartedSite(f, s), server, s.Codec == nil})
		}
	}
	return list
}

func asIs(*pycket.Settings)      {}
func withGob(s *pycket.Settings) { s.Codec = pycket.Gob{} }

// everySite runs f with each site and an empty server.
func everySite(t *testing.T, list []*fuzzed, f func(site *fuzzed)) {
	t.Helper()
	for i, site := range list {
		site.t, site.server = t, site.server.On(t)
		site.server.Do(0, "FLUSHALL")
		if f(site); t.Failed() {
			t.Fatalf("on site %d; the embedded server's come first", i)
		}
	}
}

// visit is one request of a browser, or the one given, which must be answered 200, with one cookie at most.
func (s *fuzzed) visit(b *browser, act func(s *pycket.SessionManager, n *pycket.NotificationManager), request ...*http.Request) answer {
	s.t.Helper()
	a := b.answer(s.serve(append(request, b.request("/"))[0], func(w http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, n *pycket.NotificationManager) {
		act(s, n)
		io.WriteString(w, "fine")
	}))
	if set := a.header["Set-Cookie"]; a.status != http.StatusOK || len(set) > 1 {
		s.t.Fatalf("status %d, Set-Cookie %q", a.status, set)
	}
	return a
}

// FuzzCookieHeader sends any bytes as Cookie headers: they open nothing, leave nothing behind, and hide no
// genuine cookie among them.
func FuzzCookieHeader(f *testing.F) {
	for _, header := range []string{
		"", ";", "=", "PYCKET_ID", "PYCKET_ID=", "PYCKET_ID=;PYCKET_ID=\"\"", "PYCKET_ID=\"", "a=b; PYCKET_ID=x\nPYCKET_ID=y",
		"a=\"x; PYCKET_ID=y\"", "PYCKET_ID=" + strings.Repeat("A", 144), "PYCKET_ID=\"" + strings.Repeat("A", 144) + "\"",
		"PYCKET_ID=" + strings.Repeat("\x00", 144), "PYCKET_ID=" + strings.Repeat("=", 144), " \tPYCKET_ID\t= x", strings.Repeat("PYCKET_ID=x;", 1000),
	} {
		f.Add(header, uint8(0), uint8(0))
		f.Add(header, uint8(100), uint8(1))
	}
	list := fuzzedSites(f, asIs)
	f.Fuzz(func(t *testing.T, header string, at, flip uint8) {
		everySite(t, list, func(site *fuzzed) {
			owner, stranger := site.browser(), site.browser()
			owner.must("set:a:mine", "note:a:note", "add:level:text")
			before := site.server.Size()
			visit := func(want string, lines ...string) {
				t.Helper()
				r := stranger.request("/")
				r.Header["Cookie"] = lines
				a := site.visit(stranger, func(s *pycket.SessionManager, n *pycket.NotificationManager) {
					text, err := pycket.Get(s, "a", "")
					keys, keysErr := s.Keys()
					found, hasErr := n.Has("a")
					_, userErr := s.User()
					noError(t, errors.Join(err, keysErr, hasErr, userErr))
					if text != want || found != (want != "") || len(keys) != len(want)/len("mine") {
						t.Errorf("the session has %q, names %q, notification: %v; want %q", text, keys, found, want)
					}
					if want == "" { // or it would be taken
						note, err := pycket.Get(n, "a", "")
						messages, drainErr := n.Drain()
						if err := errors.Join(err, drainErr, s.Delete("a"), n.Delete("a"), s.Rotate(), s.Destroy()); err != nil || note != "" || len(messages) != 0 {
							t.Errorf("%q, %v, %v", note, messages, err)
						}
					}
				}, r)
				if a.setsCookie() {
					t.Errorf("Set-Cookie: %q", a.header["Set-Cookie"])
				}
			}
			lines := strings.Split(header, "\n")
			visit("", lines...)
			visit("", append(lines, "PYCKET_ID="+signed(t, secret, "PYCKET_ID", make([]byte, 44), 0))...) // its session has ended

			changed := []byte(owner.cookie())
			changed[int(at)%len(changed)] ^= flip
			genuine := "PYCKET_ID=" + owner.cookie()
			if flip != 0 {
				visit("", "PYCKET_ID="+string(changed))
			}
			visit("mine", append(lines, genuine)...)
			visit("mine", append([]string{genuine}, lines...)...)
			visit("mine", header+";"+genuine+";"+header)
			visit("mine", header+";\""+string(changed)+"\"; "+genuine+"\t;"+header)
			equal(t, "keys", before, site.server.Size())
		})
	})
}

// What a corrupt value is read as.
type record struct {
	Name  string
	Count int
	Inner map[string]any
}

const (
	anyRecord      = 1 << iota // the whole record is arbitrary, not only what follows the verifier
	sessionIsText              // the keys are of another Redis type
	notesAreText               //
	messagesAreOne             //
)

// FuzzStoredHash lets anything stand in Redis where a session's data should: reading gives a value, nothing
// or an error of this package, whatever it says of one name holds for that name alone, and Delete and
// Destroy get out of it.
func FuzzStoredHash(f *testing.F) {
	f.Add(uint8(0), "17953788411630", "name", []byte(`"value"`), []byte(`"note"`), []byte(`{"level":"a","text":"b"}`), "user", "me")
	f.Add(uint8(0), "1795378841163340", "", []byte(``), []byte(`5]`), []byte(`[]`), "idle", "100000")
	f.Add(uint8(0), "1795378841163510", "n", []byte(` 5`), []byte(`2 `), []byte(`3`), "idle", "abc")
	f.Add(uint8(0), "17953788411631nan", "n", []byte(`1`), []byte(`2`), []byte(`3`), "", "")
	f.Add(uint8(0), "179537884116311e308", "n", []byte(`1`), []byte(`2`), []byte(`3`), "", "")
	f.Add(uint8(0), "17953788411637x", "n", []byte(`1`), []byte(`2`), []byte(`3`), "user", "\xff")
	f.Add(uint8(0), "1795378841163140", "n", []byte(`9223372036854775807`), []byte("\x00\xff"), []byte(`{"level":1}`), "auth", "abc")
	f.Add(uint8(0), "17953788411631-5", "n", []byte(`-0`), []byte(`1e999`), []byte(``), "ended", "1e999")
	f.Add(uint8(0), "17953788411631", "n", []byte(`{"Inner":{"a":[1,2.5,null]}}`), []byte(`nul`), []byte(`null`), "seen", "-1")
	f.Add(uint8(0), "", "n", []byte(`[[[[[[[[[[`), []byte(`{`), []byte(`{}`), "agent", "\x00")
	f.Add(uint8(0), "17953788411631999999999999999", "n", []byte("\x07\xff\x81\x03\x01\x01"), []byte("\x03\x04\x00\x54"), []byte("\x0a"), "id2", "")
	f.Add(uint8(0), "179537884116380", "n", []byte(`1`), []byte(`2`), []byte(`3`), "idle", "100000")
	f.Add(uint8(anyRecord), "no record", "n", []byte(`1`), []byte(`2`), []byte(`3`), "ended", "1795378841163")
	f.Add(uint8(anyRecord), "", "n", []byte(`1`), []byte(`2`), []byte(`3`), "user", "")
	f.Add(uint8(sessionIsText), "", "n", []byte(`1`), []byte(`2`), []byte(`3`), "", "")
	f.Add(uint8(notesAreText), "179537884116310", "n", []byte(`1`), []byte(`2`), []byte(`3`), "", "")
	f.Add(uint8(messagesAreOne), "179537884116310", "n", []byte(`1`), []byte(`2`), []byte(`3`), "", "")
	list := fuzzedSites(f, asIs, withGob)
	f.Fuzz(func(t *testing.T, how uint8, tail, name string, value, note, message []byte, field, content string) {
		if strings.HasPrefix(name, "pycket:") || name == "fine" || field == "idle" && isShort(content) {
			return // of no interest
		}
		everySite(t, list, func(site *fuzzed) { spoil(t, site, how, tail, name, value, note, message, field, content) })
	})
}

// isShort tells whether a session with this idle timeout might end before its test does.
func isShort(idle string) bool {
	ms, err := strconv.ParseFloat(strings.TrimSpace(idle), 64)
	return err == nil && ms > 0 && ms < 60_000
}

// spoil is one try of FuzzStoredHash.
func spoil(t *testing.T, site *fuzzed, how uint8, tail, name string, value, note, message []byte, field, content string) {
	t.Helper()
	b, server := site.browser(), site.server
	b.must("set:fine:mine", "note:fine:note", "add:level:fine")
	key := server.OnlyKey()
	notes, messages := strings.Replace(key, ":s:", ":n:", 1), strings.Replace(key, ":s:", ":m:", 1)
	original := server.Hash(0, key)["pycket:id"]
	stored := original[:22] + tail
	if how&anyRecord != 0 {
		stored = tail
	}
	server.Do(0, "HSET", key, name, value, "pycket:"+field, content, "pycket:id", stored)
	server.Do(1, "HSET", notes, name, note)
	server.Do(1, "LPUSH", messages, message)
	for bit, place := range map[uint8]struct {
		db  int
		key string
	}{sessionIsText: {0, key}, notesAreText: {1, notes}, messagesAreOne: {1, messages}} {
		if how&bit != 0 {
			server.Do(place.db, "SET", place.key, "text")
		}
	}
	// The session is alive while the record begins with its verifier, and is not of a later layout. One that is cut short
	// may look like that when its size has grown.
	alive := strings.HasPrefix(stored, original[:22]) && len(stored) > 35 && stored[35] <= '7' && how&sessionIsText == 0

	check := func(op string, err error) {
		t.Helper()
		if err != nil && !strings.HasPrefix(err.Error(), "pycket: ") {
			t.Errorf("%s: %v", op, err)
		}
	}
	site.visit(b, func(s *pycket.SessionManager, n *pycket.NotificationManager) {
		for _, m := range []pycket.Manager{s, n} {
			for _, into := range []any{
				new(string), new(int), new(int64), new(uint8), new(bool), new(float64), new([]byte), new([]string),
				new(map[string]any), new([]any), new(any), new(record), new(time.Time),
			} {
				found, err := m.Lookup(name, into)
				check("lookup", err)
				if found && err != nil || !found && !reflect.ValueOf(into).Elem().IsZero() {
					t.Errorf("%q into a %T: found: %v, %v", value, into, found, err)
				}
				if m != pycket.Manager(s) || !alive || !site.json {
					continue
				}
				switch { // what is there is read as JSON, or is an error
				case err != nil && !errors.Is(err, pycket.ErrCorrupt):
					t.Errorf("%q into a %T: %v", value, into, err)
				case !json.Valid(value) && err == nil:
					t.Errorf("%q is no JSON, and was read into a %T as %v", value, into, into)
				case found != (err == nil):
					t.Errorf("%q into a %T: found: %v, %v", value, into, found, err)
				}
			}
			_, err := m.Has(name)
			check("has", err)
			_, err = m.Keys()
			check("keys", err)
		}
		_, err := s.User()
		check("user", err)
		_, err = s.AuthTime()
		check("authentication time", err)
		text, err := pycket.Get(s, "fine", "")
		if alive && (text != "mine" || err != nil) {
			t.Errorf("another name: %q, %v", text, err)
		}
	})
	site.site.visit(b, func(_ http.ResponseWriter, r *http.Request, s *pycket.SessionManager, n *pycket.NotificationManager) {
		_, err := site.app.Sessions(r.Context(), content)
		check("sessions", err)
		s.Refresh()
		_, err = n.Drain()
		check("drain", err)
		if !alive {
			return
		}
		if err := s.Delete(name); err != nil {
			t.Errorf("delete: %v", err)
		}
		if found, err := s.Has(name); found || err != nil {
			t.Errorf("after Delete: %v, %v", found, err)
		}
		check("delete", n.Delete(name))
		text, err := pycket.Get(s, "fine", "")
		if text != "mine" || err != nil {
			t.Errorf("another name, after Delete: %q, %v", text, err)
		}
	})
	site.site.visit(b, func(w http.ResponseWriter, r *http.Request, _ *pycket.SessionManager, _ *pycket.NotificationManager) {
		for _, op := range [][]string{
			{"set", name, "anew"}, {"inc", name, "1"}, {"update", name}, {"note", name, "anew"}, {"add", "level", "anew"},
			{"rotate"}, {"setuser", content}, {"login", "me"},
		} {
			_, err := operate(w, r).do(w, op)
			check(op[0], err)
		}
	})
	site.visit(b, func(s *pycket.SessionManager, n *pycket.NotificationManager) {
		// Where the record is not the browser's, writes may have been refused.
		if err := s.Destroy(); err != nil && (alive || how&sessionIsText != 0) {
			t.Errorf("destroy: %v", err)
		}
		if alive {
			noError(t, s.Set("fresh", "x"))
		}
	})
	if alive {
		b.want([]outcome{{Value: []any{"fresh"}}, {Value: []any{}}}, "keys", "nkeys")
	}
}

// FuzzNamesAndValues stores anything under any name and wants it back in another request, with both codecs.
func FuzzNamesAndValues(f *testing.F) {
	names := []string{
		"", "a", "W", "N", "M", "E", "pycket:", "pycket:id", "pycket", "Pycket:x", "ä\u2028", "\x00", "\xff\xfe", "a\r\nb", "$1\r\nW\r\n", "*2\r\n", "{x}", strings.Repeat("n", 2000),
	}
	texts := []string{"", "plain", "\"\\\"", `\ufffd`, "\ufffd", `\\ufffd`, "\xff", "a\xffb\ufffd\\ufffd", "<&>\u2028\x00", "-42", "null", strings.Repeat("x", 5000)}
	for i := range 2 * len(names) {
		text := texts[i%len(texts)]
		f.Add(names[i%len(names)], text, []byte(text), int64(len(text))-3, 1.5)
	}
	f.Add("n", "x", []byte{0, 255}, int64(math.MinInt64), math.MaxFloat64)
	f.Add("n", "x", []byte(nil), int64(math.MaxInt64), math.Inf(1))
	list := fuzzedSites(f, asIs, withGob)
	f.Fuzz(func(t *testing.T, name, text string, data []byte, number int64, float float64) {
		everySite(t, list, func(site *fuzzed) { roundTrip(t, site, name, text, data, number, float) })
	})
}

// roundTrip is one try of FuzzNamesAndValues.
func roundTrip(t *testing.T, site *fuzzed, name, text string, data []byte, number int64, float float64) {
	t.Helper()
	b := site.browser()
	if strings.HasPrefix(name, "pycket:") {
		site.site.visit(b, func(w http.ResponseWriter, r *http.Request, _ *pycket.SessionManager, _ *pycket.NotificationManager) {
			for _, op := range [][]string{
				{"set", name, "1"}, {"setmany", name, "1", "other", "2"}, {"inc", name, "1"}, {"update", name}, {"get", name}, {"has", name},
				{"delete", "other", name}, {"note", name, "1"}, {"notemany", name, "1"}, {"take", name}, {"peek", name}, {"nhas", name},
				{"ndelete", name}, {"signin", "me", name, "1"},
			} {
				if _, err := operate(w, r).do(w, op); !errors.Is(err, pycket.ErrReserved) {
					t.Errorf("%q: %v", op, err)
				}
			}
		})
		if b.cookie() != "" {
			t.Error("a session was made")
		}
		return
	}
	type all struct {
		Text  string
		Map   map[string]string
		List  []string
		Data  []byte
		Float float64
	}
	// What JSON can't hold is refused.
	valid, finite := !site.json || utf8.ValidString(text), !site.json || !math.IsNaN(float) && !math.IsInf(float, 0)
	values := map[string]any{"text": text, "data": data, "number": number, "float": float, "whole": all{text, map[string]string{text: text}, []string{text, "", text}, data, float}}
	fits := map[string]bool{"text": valid, "data": true, "number": true, "float": finite, "whole": valid && finite, name: true}
	values[name] = data
	site.visit(b, func(s *pycket.SessionManager, n *pycket.NotificationManager) {
		for _, m := range []pycket.Manager{s, n} {
			for name, value := range values {
				if err := m.Set(name, value); (err == nil) != fits[name] {
					t.Errorf("set %q by a %T: %v", name, m, err)
				}
			}
		}
	})
	maps.DeleteFunc(values, func(name string, _ any) bool { return !fits[name] })
	site.visit(b, func(s *pycket.SessionManager, n *pycket.NotificationManager) {
		for _, m := range []pycket.Manager{s, n} {
			got, err := m.Keys()
			if diff := cmp.Diff(slices.Sorted(maps.Keys(values)), got); diff != "" || err != nil {
				t.Errorf("names of a %T: %v (-want +got):\n%s", m, err, diff)
			}
			for name, want := range values {
				if found, err := m.Has(name); !found || err != nil {
					t.Errorf("%q is in a %T: %v, %v", name, m, found, err)
				}
				into := reflect.New(reflect.TypeOf(want))
				found, err := m.Lookup(name, into.Interface())
				if diff := cmp.Diff(want, into.Elem().Interface(), cmpopts.EquateEmpty(), cmpopts.EquateNaNs()); diff != "" || !found || err != nil {
					t.Errorf("%q from a %T: %v, %v (-want +got):\n%s", name, m, found, err, diff)
				}
			}
		}
		if left, err := n.Keys(); len(left) > 0 || err != nil {
			t.Errorf("%q were not taken: %v", left, err)
		}
	})
	site.visit(b, func(s *pycket.SessionManager, n *pycket.NotificationManager) {
		noError(t, errors.Join(s.Delete(name, name), n.Delete(name)))
		if err := n.Add(text, text); (err == nil) != valid {
			t.Errorf("add: %v", err)
		}
	})
	delete(values, name)
	site.visit(b, func(s *pycket.SessionManager, n *pycket.NotificationManager) {
		if got, err := s.Keys(); !slices.Equal(slices.Sorted(maps.Keys(values)), got) || err != nil {
			t.Errorf("after Delete there are %q: %v", got, err)
		}
		if found, err := s.Has(name); found || err != nil {
			t.Errorf("after Delete: %v, %v", found, err)
		}
		messages, err := n.Drain()
		if want := (pycket.Message{Level: text, Text: text}); err != nil || valid && !slices.Equal(messages, []pycket.Message{want}) || !valid && len(messages) > 0 {
			t.Errorf("messages: %q, %v", messages, err)
		}
		noError(t, s.Destroy())
	})
}

// model is what a session should hold.
type model struct {
	alive    bool
	values   map[string]string // encoded
	notes    map[string]string
	messages []pycket.Message
	user     string
	auth     bool // it was authenticated
}

func (m *model) end() {
	*m = model{values: map[string]string{}, notes: map[string]string{}}
}

// fuzzLimit is MaxSessionBytes in FuzzScriptArguments: sessions are read whole, by the second value and by
// each value, and can become too large.
const fuzzLimit = 6000

func encode(value any) string {
	data, err := pycket.JSON{}.Encode(value)
	if err != nil {
		panic(err)
	}
	return string(data)
}

// encoded are names and encoded values in turn.
func encoded(pairs []string) []string {
	pairs = slices.Clone(pairs)
	for i := 1; i < len(pairs); i += 2 {
		pairs[i] = encode(pairs[i])
	}
	return pairs
}

func bytesOf(values map[string]string) (sum int) {
	for name, value := range values {
		sum += len(name) + len(value)
	}
	return sum
}

// bytes is what names and values take.
func (m *model) bytes() int {
	sum := bytesOf(m.values) + bytesOf(m.notes)
	for _, message := range m.messages {
		sum += len(encode(message))
	}
	return sum
}

// leave takes away what belongs to the user of before, if there was one and it is not this.
func (m *model) leave(user string) {
	if m.user != "" && m.user != user {
		m.values, m.notes, m.messages = map[string]string{}, map[string]string{}, nil
	}
}

// set sets names and values in turn, as the scripts should, if they fit.
func (m *model) set(into map[string]string, pairs ...string) error {
	changed := maps.Clone(into)
	for i := 0; i < len(pairs); i += 2 {
		if reserved(pairs[i]) {
			return pycket.ErrReserved
		}
		changed[pairs[i]] = pairs[i+1]
	}
	if more := bytesOf(changed) - bytesOf(into); more > 0 && m.bytes()+more > fuzzLimit {
		return pycket.ErrTooLarge
	}
	maps.Copy(into, changed)
	m.alive = true
	return nil
}

// number is the whole number of a name.
func (m *model) number(name string, none int64) (int64, error) {
	if text, ok := m.values[name]; ok {
		return strconv.ParseInt(text, 10, 64)
	}
	return none, nil
}

// do is what an operation should return.
func (m *model) do(op []string) (value any, err error) {
	switch op[0] {
	case "set", "setmany":
		return nil, m.set(m.values, encoded(op[1:])...)
	case "note", "notemany":
		return nil, m.set(m.notes, encoded(op[1:])...)
	case "setnumber":
		return nil, m.set(m.values, op[1:]...)
	case "delete", "ndelete":
		from := m.values
		if op[0] == "ndelete" {
			from = m.notes
		}
		if reserved(op[1:]...) {
			return nil, pycket.ErrReserved
		}
		for _, name := range op[1:] {
			delete(from, name)
		}
	case "inc", "xor":
		none := map[string]int64{"inc": 0, "xor": 1}[op[0]]
		number, err := m.number(op[1], none)
		by, _ := strconv.ParseInt(op[2], 10, 64)
		is := number + by
		if op[0] == "xor" {
			is = number ^ by
		}
		switch {
		case reserved(op[1]):
			return none, pycket.ErrReserved
		case op[0] == "inc" && (err != nil || overflows(number, by)):
			return none, errNotNumber
		case err != nil:
			return none, pycket.ErrCorrupt
		}
		if err := m.set(m.values, op[1], encode(is)); err != nil {
			return none, err
		}
		return is, nil
	case "signin":
		if op[1] == "" {
			return nil, errNoUser
		}
		before := *m
		m.leave(op[1])
		if err := m.set(m.values, op[2], encode(op[3])); err != nil {
			*m = before
			return nil, err
		}
		m.user, m.auth = op[1], true
	case "setuser":
		user := op[1]
		m.leave(user)
		m.auth = m.auth && user == m.user && user != ""
		if m.alive = m.alive || user != ""; m.alive { // nobody's session stays nobody's
			m.user = user
		}
	case "remember":
		switch {
		case op[1] == "0s":
			return nil, errShort
		case !m.alive:
			return nil, errNoSession
		}
	case "add":
		message := pycket.Message{Level: op[1], Text: op[2]}
		if m.bytes()+len(encode(message)) > fuzzLimit {
			return nil, pycket.ErrTooLarge
		}
		m.alive, m.messages = true, append(m.messages, message)
	case "drain":
		var texts []string
		for _, message := range m.messages {
			texts = append(texts, message.Level+"="+message.Text)
		}
		m.messages = nil
		return strings.Join(texts, " "), nil
	case "take", "any":
		from, none := m.values, "none"
		if op[0] == "take" {
			from, none = m.notes, op[2]
		}
		text, ok := from[op[1]]
		switch {
		case reserved(op[1]):
			return none, pycket.ErrReserved
		case !ok:
			return none, nil
		case op[0] == "take":
			delete(from, op[1])
		}
		err := pycket.JSON{}.Decode([]byte(text), &value)
		return value, err
	case "keys":
		return append([]string{}, slices.Sorted(maps.Keys(m.values))...), nil
	case "destroy":
		m.end()
	}
	return nil, nil
}

func reserved(names ...string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return strings.HasPrefix(name, "pycket:") })
}

func overflows(a, b int64) bool { return b != 0 && (a+b > a) != (b > 0) }

// Errors that have no names.
var (
	errNotNumber = errors.New("what is stored is not a whole number, or the sum does not fit 64 bits")
	errNoUser    = errors.New("the user's name is empty")
	errNoSession = errors.New("there is no session to remember")
	errShort     = errors.New("the idle timeout is 0s")
)

// program is a sequence of operations, taken off bytes.
type program struct{ rest []byte }

func (p *program) byte() byte {
	if len(p.rest) == 0 {
		return 0
	}
	b := p.rest[0]
	p.rest = p.rest[1:]
	return b
}

func (p *program) bytes(n int) []byte {
	n = min(n, len(p.rest))
	b := p.rest[:n]
	p.rest = p.rest[n:]
	return b
}

// fuzzOperations are those of the operations handler, with the kinds of their arguments.
var fuzzOperations = []string{
	"set:name:text", "setnumber:name:number", "setmany:name:text:name:text", "delete:name:name", "inc:name:number", "signin:user:name:text",
	"setuser:user", "add:text:text", "drain", "note:name:text", "take:name:none", "ndelete:name:name", "rotate", "destroy", "xor:name:number",
	"next", "next", "refresh", "remember:hours", "any:name", "keys", "notemany:name:text:name:text",
}

// op is the next operation.
func (p *program) op() []string {
	op := strings.Split(fuzzOperations[int(p.byte())%len(fuzzOperations)], ":")
	for i, kind := range op[1:] {
		op[i+1] = p.argument(kind)
	}
	return op
}

// argument is one of a few, so that operations meet, or made of any bytes.
func (p *program) argument(kind string) string {
	if kind == "none" {
		return kind
	}
	b := p.byte()
	switch kind {
	case "name":
		if list := []string{"a", "b", "c", "", "W", "N", "n", "pycket:x"}; int(b) < len(list)*16 {
			return list[int(b)%len(list)]
		}
		return string(p.bytes(int(b) % 16))
	case "user":
		if list := []string{"me", "you", ""}; int(b) < len(list)*40 {
			return list[int(b)%len(list)]
		}
		return string(p.bytes(int(b) % 32))
	case "text":
		if b >= 200 {
			return strings.Repeat("x", int(b-200)*40)
		}
		return strings.ToValidUTF8(string(p.bytes(int(b)%24)), "?")
	case "number":
		if b < 128 {
			return strconv.Itoa(int(b) - 64)
		}
		var full [8]byte
		copy(full[:], p.bytes(8))
		return strconv.FormatInt(int64(binary.BigEndian.Uint64(full[:])), 10)
	}
	return (time.Duration(b) * time.Hour).String()
}

// FuzzScriptArguments carries out operations, by two browsers in turn, and compares each answer, and all
// that is in Redis after every request, with what a map in memory would hold.
func FuzzScriptArguments(f *testing.F) {
	f.Add([]byte("\x00\x00\x05hello\x0f\x04\x06\x7f\x0f"))
	f.Add([]byte{0, 0, 220, 0, 1, 220, 15, 0, 4, 6, 80, 14, 6, 12, 5, 0, 1, 0, 15, 1, 2, 0, 220, 1, 230, 13, 0, 0, 3})
	f.Add([]byte{4, 6, 200, 127, 255, 255, 255, 255, 255, 255, 255, 4, 6, 65, 15, 0, 4, 6, 65, 4, 0, 200, 128, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0})
	f.Add([]byte{5, 0, 0, 3, 1, 2, 3, 15, 1, 5, 0, 0, 0, 15, 0, 6, 1, 15, 1, 6, 2, 13, 5, 2, 0, 0})
	f.Add([]byte{7, 1, 2, 3, 4, 7, 0, 0, 9, 0, 1, 65, 10, 0, 15, 0, 8, 9, 1, 2, 65, 65, 11, 1, 12, 8, 15, 0, 13, 9, 0, 0})
	f.Add([]byte{0, 7, 1, 65, 2, 7, 1, 65, 0, 1, 66, 3, 7, 0, 4, 7, 0, 5, 0, 7, 1, 65, 9, 7, 1, 65, 11, 7})
	f.Add([]byte{0, 0, 254, 0, 1, 254, 0, 2, 254, 0, 3, 254, 15, 0, 19, 0, 19, 1, 20, 9, 0, 254, 7, 254, 254, 4, 5, 0, 14, 0, 21, 0, 254, 1, 254})
	f.Add([]byte{18, 0, 15, 0, 12, 15, 0, 5, 200, 3, 0, 255, 13, 10, 0, 5, 2, 0, 15, 1, 18, 13, 18, 15, 1, 6, 0, 15, 0, 6, 0})
	list := fuzzedSites(f, func(s *pycket.Settings) { s.MaxSessionBytes = fuzzLimit })
	f.Fuzz(func(t *testing.T, code []byte) {
		if len(code) > 1000 {
			return // of no interest
		}
		everySite(t, list, func(site *fuzzed) { execute(t, site, &program{code}) })
	})
}

// execute is one try of FuzzScriptArguments.
func execute(t *testing.T, site *fuzzed, p *program) {
	t.Helper()
	browsers, models := [2]*browser{site.browser(), site.browser()}, make([]model, 2)
	for i := range models {
		models[i].end()
	}
	var trace []string
	for who := 0; len(p.rest) > 0; who = int(p.byte()) % 2 {
		trace = append(trace, fmt.Sprint("request of ", who))
		site.site.visit(browsers[who], func(w http.ResponseWriter, r *http.Request, _ *pycket.SessionManager, _ *pycket.NotificationManager) {
			for h, m := operate(w, r), &models[who]; len(p.rest) > 0; {
				op := p.op()
				if op[0] == "next" {
					return
				}
				if number, err := m.number(op[min(1, len(op)-1)], 0); op[0] == "inc" && site.server.Embedded() && err == nil {
					if by, _ := strconv.ParseInt(op[2], 10, 64); overflows(number, by) {
						continue // the embedded server does not see it
					}
				}
				got, err := h.do(w, op)
				wanted, want := m.do(op)
				trace = append(trace, fmt.Sprintf("  %q: %v, %v", op, got, err))
				if (err == nil) != (want == nil) || want != nil && !errors.Is(err, want) && !strings.Contains(err.Error(), want.Error()) || !cmp.Equal(wanted, got) {
					t.Fatalf("%s; the model says %v, %v", strings.Join(trace, "\n"), wanted, want)
				}
			}
		})
		for i, m := range models {
			if (browsers[i].cookie() != "") != m.alive {
				t.Fatalf("%s\nbrowser %d has the cookie %q, session alive: %v", strings.Join(trace, "\n"), i, browsers[i].cookie(), m.alive)
			}
			if diff := compareSession(site, browsers[i], m); diff != "" {
				t.Fatalf("%s\nbrowser %d:\n%s", strings.Join(trace, "\n"), i, diff)
			}
		}
		if diff := compareStore(site, models); diff != "" {
			t.Fatalf("%s\n%s", strings.Join(trace, "\n"), diff)
		}
	}
}

// compareSession compares a session, as a new request reads it, with its model.
func compareSession(site *fuzzed, b *browser, m model) (diff string) {
	site.visit(b, func(s *pycket.SessionManager, n *pycket.NotificationManager) {
		got := map[string]string{}
		names, err := s.Keys()
		for _, name := range names {
			value, valueErr := pycket.Get[any](s, name, nil)
			got[name], err = encode(value), errors.Join(err, valueErr)
		}
		notes, notesErr := n.Keys()
		user, userErr := s.User()
		at, atErr := s.AuthTime()
		if err := errors.Join(err, notesErr, userErr, atErr); err != nil {
			diff = err.Error()
		}
		diff += cmp.Diff(m.values, got) + cmp.Diff(append([]string{}, slices.Sorted(maps.Keys(m.notes))...), notes) +
			cmp.Diff(m.user, user) + cmp.Diff(m.auth, !at.IsZero())
	})
	return diff
}

// compareStore checks what holds of all that is in Redis: the records' byte counts, the TTLs, and the
// lists of the users.
func compareStore(site *fuzzed, models []model) (diff string) {
	want, got, users := []string{}, []string{}, map[string]int{"me": 0, "nobody": 0}
	for _, m := range models {
		if m.alive {
			want = append(want, strconv.Itoa(m.bytes()))
		}
		if m.user != "" {
			users[m.user]++
		}
	}
	for db := range 2 {
		for _, key := range site.server.Keys(db) {
			if left := site.server.Do(db, "PTTL", key).(int64); left <= 0 {
				diff += fmt.Sprintf("%s has a TTL of %d\n", key, left)
			}
			if db == 0 && strings.HasPrefix(key, "pycket:s:") {
				if record := site.server.Hash(0, key)["pycket:id"]; record != "" { // not the mark of a Destroy
					got = append(got, record[36:])
				}
			}
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	diff += cmp.Diff(want, got)
	for user, want := range users {
		if list, err := site.app.Sessions(site.t.Context(), user); len(list) != want || err != nil {
			diff += fmt.Sprintf("%q has %d sessions, want %d: %v\n", user, len(list), want, err)
		}
	}
	return diff
}
