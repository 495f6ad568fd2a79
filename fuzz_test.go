package pycket_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/gomodule/redigo/redis"
	"github.com/google/go-cmp/cmp"

	"github.com/pycket/pycket"
	"github.com/pycket/pycket/internal/redistest"
)

// The seeds run against both servers in every go test. While new inputs are looked for, the embedded one
// is enough: go test -fuzz FuzzStoredHash

// arena is a server for a fuzz target, and an application on it. Requests are calls in this process.
type arena struct {
	*redistest.Server
	app  *pycket.App
	conn redis.Conn // to the sessions' database
	note redis.Conn // to the notifications'
}

// arenas are those of one target. adjust may change the settings.
func arenas(f *testing.F, adjust func(*pycket.Settings)) []*arena {
	f.Helper()
	servers := []*redistest.Server{redistest.StartEmbedded(f)}
	if redistest.Installed() && flag.Lookup("test.fuzz").Value.String() == "" {
		servers = append(servers, redistest.Start(f))
	}
	var list []*arena
	for _, server := range servers {
		s := settings(server)
		if adjust != nil {
			adjust(&s)
		}
		a := &arena{Server: server, app: newApp(f, s)}
		for db, into := range []*redis.Conn{&a.conn, &a.note} {
			c, err := redis.Dial("tcp", server.Addr, redis.DialDatabase(db))
			if err != nil {
				f.Fatal(err)
			}
			f.Cleanup(func() { c.Close() })
			*into = c
		}
		list = append(list, a)
	}
	return list
}

// everyArena runs f in each arena, emptied.
func everyArena(t *testing.T, list []*arena, f func(a *arena)) {
	t.Helper()
	for i, a := range list {
		if _, err := a.conn.Do("FLUSHALL"); err != nil {
			t.Fatal(err)
		}
		f(a)
		if t.Failed() {
			t.Fatalf("on %s", []string{"the embedded server", "redis"}[i])
		}
	}
}

// stands is the number of keys.
func (a *arena) stands(t *testing.T) int64 {
	t.Helper()
	var sum int64
	for _, c := range []redis.Conn{a.conn, a.note} {
		n, err := redis.Int64(c.Do("DBSIZE"))
		if err != nil {
			t.Fatal(err)
		}
		sum += n
	}
	return sum
}

// guest is a browser without a network.
type guest struct {
	t      *testing.T
	app    *pycket.App
	cookie string
}

// visit is one request. It fails the test if the answer is anything but 200, or has two cookies.
func (g *guest) visit(act func(ctx context.Context, s *pycket.SessionManager, n *pycket.NotificationManager)) *http.Response {
	g.t.Helper()
	r := httptest.NewRequest("GET", "/", nil)
	if g.cookie != "" {
		r.Header.Set("Cookie", "PYCKET_ID="+g.cookie)
	}
	response := g.send(r, act)
	switch cookies := response.Cookies(); {
	case len(cookies) > 1:
		g.t.Fatalf("%d cookies are set: %v", len(cookies), cookies)
	case len(cookies) == 1 && cookies[0].MaxAge < 0:
		g.cookie = ""
	case len(cookies) == 1:
		g.cookie = cookies[0].Value
	}
	return response
}

func (g *guest) send(r *http.Request, act func(ctx context.Context, s *pycket.SessionManager, n *pycket.NotificationManager)) *http.Response {
	g.t.Helper()
	recorder := httptest.NewRecorder()
	g.app.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		act(r.Context(), pycket.NewSessionManager(w, r), pycket.NewNotificationManager(w, r))
		io.WriteString(w, "fine")
	})).ServeHTTP(recorder, r)
	response := recorder.Result()
	heard.request(r)
	heard.response(response)
	if response.StatusCode != http.StatusOK {
		g.t.Fatalf("status %d", response.StatusCode)
	}
	return response
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
	list := arenas(f, nil)
	f.Fuzz(func(t *testing.T, header string, at, flip uint8) {
		everyArena(t, list, func(a *arena) {
			owner := &guest{t: t, app: a.app}
			owner.visit(func(_ context.Context, s *pycket.SessionManager, n *pycket.NotificationManager) {
				if err := errors.Join(s.Set("a", "mine"), n.Set("a", "note"), n.Add("level", "text")); err != nil {
					t.Fatal(err)
				}
			})
			before := a.stands(t)
			lines := strings.Split(header, "\n")
			visit := func(want string, lines ...string) {
				t.Helper()
				r := httptest.NewRequest("GET", "/", nil)
				r.Header["Cookie"] = lines
				response := owner.send(r, func(_ context.Context, s *pycket.SessionManager, n *pycket.NotificationManager) {
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
				})
				if set := response.Header["Set-Cookie"]; len(set) != 0 {
					t.Errorf("Set-Cookie: %q", set)
				}
				if after := a.stands(t); after != before {
					t.Errorf("there are %d keys, and were %d", after, before)
				}
			}
			visit("", lines...)
			visit("", append(lines, "PYCKET_ID="+signed(t, secret, "PYCKET_ID", make([]byte, 44), 0))...) // its session has ended

			changed := []byte(owner.cookie)
			changed[int(at)%len(changed)] ^= flip
			genuine := "PYCKET_ID=" + owner.cookie
			if flip != 0 {
				visit("", "PYCKET_ID="+string(changed))
			}
			visit("mine", append(lines, genuine)...)
			visit("mine", append([]string{genuine}, lines...)...)
			visit("mine", header+";"+genuine+";"+header)
			visit("mine", header+";\""+string(changed)+"\"; "+genuine+"\t;"+header)
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

// gobApps has an App with the Gob codec for each arena.
func gobApps(f *testing.F, list []*arena) map[*arena]*pycket.App {
	apps := map[*arena]*pycket.App{}
	for _, a := range list {
		s := settings(a.Server)
		s.Codec = pycket.Gob{}
		apps[a] = newApp(f, s)
	}
	return apps
}

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
	f.Add(uint8(anyRecord), "no record", "n", []byte(`1`), []byte(`2`), []byte(`3`), "ended", "1795378841163")
	f.Add(uint8(anyRecord), "", "n", []byte(`1`), []byte(`2`), []byte(`3`), "user", "")
	f.Add(uint8(sessionIsText), "", "n", []byte(`1`), []byte(`2`), []byte(`3`), "", "")
	f.Add(uint8(notesAreText), "179537884116310", "n", []byte(`1`), []byte(`2`), []byte(`3`), "", "")
	f.Add(uint8(messagesAreOne), "179537884116310", "n", []byte(`1`), []byte(`2`), []byte(`3`), "", "")
	list := arenas(f, nil)
	codecs := gobApps(f, list)
	f.Fuzz(func(t *testing.T, how uint8, tail, name string, value, note, message []byte, field, content string) {
		if strings.HasPrefix(name, "pycket:") || name == "fine" || field == "idle" && isShort(content) {
			return // of no interest
		}
		everyArena(t, list, func(a *arena) {
			for _, app := range []*pycket.App{a.app, codecs[a]} {
				spoil(t, a, app, how, tail, name, value, note, message, field, content)
			}
		})
	})
}

// isShort tells whether a session with this idle timeout might end before its test does.
func isShort(idle string) bool {
	ms, err := strconv.ParseFloat(strings.TrimSpace(idle), 64)
	return err == nil && ms > 0 && ms < 60_000
}

// spoil is one try of FuzzStoredHash.
func spoil(t *testing.T, a *arena, app *pycket.App, how uint8, tail, name string, value, note, message []byte, field, content string) {
	t.Helper()
	if _, err := a.conn.Do("FLUSHALL"); err != nil {
		t.Fatal(err)
	}
	g := &guest{t: t, app: app}
	g.visit(func(_ context.Context, s *pycket.SessionManager, n *pycket.NotificationManager) {
		if err := errors.Join(s.Set("fine", "mine"), n.Set("fine", "note"), n.Add("level", "fine")); err != nil {
			t.Fatal(err)
		}
	})
	do := func(c redis.Conn, command string, args ...any) any {
		t.Helper()
		reply, err := c.Do(command, args...)
		if err != nil {
			t.Fatal(command, err)
		}
		return reply
	}
	keys, err := redis.Strings(do(a.conn, "KEYS", "*"), nil)
	if err != nil || len(keys) != 1 {
		t.Fatal(keys, err)
	}
	key := keys[0]
	notes, messages := strings.Replace(key, ":s:", ":n:", 1), strings.Replace(key, ":s:", ":m:", 1)
	original, err := redis.String(do(a.conn, "HGET", key, "pycket:id"), nil)
	if err != nil {
		t.Fatal(err)
	}
	stored := original[:22] + tail
	if how&anyRecord != 0 {
		stored = tail
	}
	do(a.conn, "HSET", key, name, value, "pycket:"+field, content, "pycket:id", stored)
	do(a.note, "HSET", notes, name, note)
	do(a.note, "LPUSH", messages, message)
	for bit, place := range map[uint8]struct {
		c   redis.Conn
		key string
	}{sessionIsText: {a.conn, key}, notesAreText: {a.note, notes}, messagesAreOne: {a.note, messages}} {
		if how&bit != 0 {
			do(place.c, "SET", place.key, "text")
		}
	}
	// The session is alive while the record begins with its verifier.
	alive := strings.HasPrefix(stored, original[:22]) && how&sessionIsText == 0

	check := func(op string, err error) {
		t.Helper()
		if err != nil && !strings.HasPrefix(err.Error(), "pycket: ") {
			t.Errorf("%s: %v", op, err)
		}
	}
	g.visit(func(ctx context.Context, s *pycket.SessionManager, n *pycket.NotificationManager) {
		for _, m := range []pycket.Manager{s, n} {
			check("string", read[string](t, m, name))
			check("int", read[int](t, m, name))
			check("int64", read[int64](t, m, name))
			check("uint8", read[uint8](t, m, name))
			check("bool", read[bool](t, m, name))
			check("float", read[float64](t, m, name))
			check("bytes", read[[]byte](t, m, name))
			check("strings", read[[]string](t, m, name))
			check("map", read[map[string]any](t, m, name))
			check("list", read[[]any](t, m, name))
			check("any", read[any](t, m, name))
			check("struct", read[*record](t, m, name))
			check("time", read[time.Time](t, m, name))
			_, err := m.Has(name)
			check("has", err)
			_, err = m.Keys()
			check("keys", err)
		}
		_, err := s.User()
		check("user", err)
		_, err = s.AuthTime()
		check("authentication time", err)
		_, err = app.Sessions(ctx, content)
		check("sessions", err)
		text, err := pycket.Get(s, "fine", "")
		if alive && (text != "mine" || err != nil) {
			t.Errorf("another name: %q, %v", text, err)
		}
	})
	if app == a.app && alive {
		checkJSON(t, g, name, value)
	}
	g.visit(func(_ context.Context, s *pycket.SessionManager, n *pycket.NotificationManager) {
		s.Refresh()
		_, err := n.Drain()
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
	g.visit(func(_ context.Context, s *pycket.SessionManager, n *pycket.NotificationManager) {
		check("set", s.Set(name, "anew"))
		_, err := s.Increment(name, 1)
		check("increment", err)
		_, err = pycket.Update(s, name, 0, func(n int) (int, error) { return n + 1, nil })
		check("update", err)
		check("notify", n.Set(name, "anew"))
		check("add", n.Add("level", "anew"))
		check("rotate", s.Rotate())
		check("set user", s.SetUser(content))
		check("login", s.Login("me", nil))
	})
	g.visit(func(_ context.Context, s *pycket.SessionManager, n *pycket.NotificationManager) {
		// Where what stands there is no record of the browser's, writes may have been refused.
		if err := s.Destroy(); err != nil && (alive || how&sessionIsText != 0) {
			t.Errorf("destroy: %v", err)
		}
		if alive {
			if err := s.Set("fresh", "x"); err != nil {
				t.Errorf("set, after Destroy: %v", err)
			}
		}
	})
	if alive {
		g.visit(func(_ context.Context, s *pycket.SessionManager, n *pycket.NotificationManager) {
			names, err := s.Keys()
			left, leftErr := n.Keys()
			if diff := cmp.Diff([][]string{{"fresh"}, {}}, [][]string{names, left}); diff != "" || errors.Join(err, leftErr) != nil {
				t.Errorf("after Destroy: %v (-want +got):\n%s", errors.Join(err, leftErr), diff)
			}
		})
	}
}

// read reads a value; what it gives with an error must be nothing.
func read[T any](t *testing.T, m pycket.Manager, name string) error {
	t.Helper()
	var value, zero T
	found, err := m.Lookup(name, &value)
	if found && err != nil {
		t.Errorf("found, and %v", err)
	}
	if !found && !cmp.Equal(value, zero) {
		t.Errorf("%v was not found", value)
	}
	return err
}

// checkJSON compares what is read into an any with what encoding/json makes of it.
func checkJSON(t *testing.T, g *guest, name string, stored []byte) {
	t.Helper()
	g.visit(func(_ context.Context, s *pycket.SessionManager, _ *pycket.NotificationManager) {
		for _, into := range []any{new(any), new(map[string]any), new([]any), new(string), new(int), new(int64), new(bool), new(record)} {
			found, err := s.Lookup(name, into)
			switch {
			case err != nil && !errors.Is(err, pycket.ErrCorrupt):
				t.Errorf("%q into a %T: %v", stored, into, err)
			case !json.Valid(stored) && err == nil:
				t.Errorf("%q is no JSON, and was read into a %T as %v", stored, into, into)
			case found != (err == nil):
				t.Errorf("%q into a %T: found: %v, %v", stored, into, found, err)
			}
		}
	})
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
	list := arenas(f, nil)
	gobs := gobApps(f, list)
	f.Fuzz(func(t *testing.T, name, text string, data []byte, number int64, float float64) {
		everyArena(t, list, func(a *arena) {
			roundTrip(t, a.app, name, text, data, number, float, utf8.ValidString(text), !math.IsNaN(float) && !math.IsInf(float, 0))
			if n, err := a.conn.Do("FLUSHALL"); err != nil {
				t.Fatal(n, err)
			}
			roundTrip(t, gobs[a], name, text, data, number, float, true, true)
		})
	})
}

// roundTrip is one try of FuzzNamesAndValues. valid and finite say whether the codec takes the text and the
// float.
func roundTrip(t *testing.T, app *pycket.App, name, text string, data []byte, number int64, float float64, valid, finite bool) {
	t.Helper()
	g := &guest{t: t, app: app}
	if strings.HasPrefix(name, "pycket:") {
		g.visit(func(_ context.Context, s *pycket.SessionManager, n *pycket.NotificationManager) {
			_, incrementErr := s.Increment(name, 1)
			_, updateErr := pycket.Update(s, name, "", func(text string) (string, error) { return text, nil })
			_, getErr := pycket.Get(s, name, "")
			_, hasErr := s.Has(name)
			_, takeErr := pycket.Get(n, name, "")
			var into string
			_, peekErr := n.Peek(name, &into)
			_, noteErr := n.Has(name)
			for op, err := range map[string]error{
				"set": s.Set(name, 1), "set many": s.SetMany(pycket.Values{name: 1, "other": 2}), "increment": incrementErr, "update": updateErr,
				"get": getErr, "has": hasErr, "delete": s.Delete("other", name), "notify": n.Set(name, 1), "notify many": n.SetMany(pycket.Values{name: 1}),
				"take": takeErr, "peek": peekErr, "note": noteErr, "delete a note": n.Delete(name), "login": s.Login("me", pycket.Values{name: 1}),
			} {
				wantError(t, err, pycket.ErrReserved, "pycket: ")
				if t.Failed() {
					t.Fatal(op)
				}
			}
		})
		if g.cookie != "" {
			t.Fatal("a session was made")
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
	whole := all{text, map[string]string{text: text}, []string{text, "", text}, data, float}
	others := map[string]any{"text": text, "data": data, "number": number, "whole": whole, "float": float}
	fits := map[string]bool{"text": valid, "data": true, "number": true, "whole": valid && finite, "float": finite}
	delete(others, name)
	names := []string{}
	g.visit(func(_ context.Context, s *pycket.SessionManager, n *pycket.NotificationManager) {
		for _, m := range []pycket.Manager{s, n} {
			names = names[:0]
			for other, value := range others {
				if err := m.Set(other, value); (err == nil) != fits[other] {
					t.Errorf("set %s by a %T: %v", other, m, err)
				} else if err == nil {
					names = append(names, other)
				}
			}
			if err := m.Set(name, data); err != nil {
				t.Errorf("set %q by a %T: %v", name, m, err)
			}
			names = append(names, name)
		}
	})
	slices.Sort(names)
	missing := func(m pycket.Manager) {
		t.Helper()
		got, err := m.Keys()
		if diff := cmp.Diff(names, got); diff != "" || err != nil {
			t.Errorf("names of a %T: %v (-want +got):\n%s", m, err, diff)
		}
		if found, err := m.Has(name); !found || err != nil {
			t.Errorf("%q is in a %T: %v, %v", name, m, found, err)
		}
	}
	g.visit(func(_ context.Context, s *pycket.SessionManager, n *pycket.NotificationManager) {
		missing(s)
		missing(n)
		for _, m := range []pycket.Manager{s, n} {
			if got, err := pycket.Get(m, name, []byte("none")); !bytes.Equal(got, data) || err != nil {
				t.Errorf("%q from a %T: %q, %v", name, m, got, err)
			}
			for other := range others {
				var got, want any
				var err error
				switch want = others[other]; other {
				case "text":
					got, err = pycket.Get(m, other, "none")
				case "number":
					got, err = pycket.Get(m, other, int64(7))
				case "float":
					got, err = pycket.Get(m, other, 0.0)
				case "data":
					continue // as the name's
				case "whole":
					var back all
					back, err = pycket.Get(m, other, all{})
					if len(back.Data) == 0 {
						back.Data = whole.Data
					}
					got = back
				}
				if !fits[other] {
					continue
				}
				if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b float64) bool { return a == b || a != a && b != b })); diff != "" || err != nil {
					t.Errorf("%s from a %T: %v (-want +got):\n%s", other, m, err, diff)
				}
			}
		}
		if left, err := n.Has(name); left || err != nil {
			t.Errorf("%q was not taken: %v", name, err)
		}
	})
	g.visit(func(_ context.Context, s *pycket.SessionManager, n *pycket.NotificationManager) {
		if err := errors.Join(s.Delete(name, name), n.Delete(name)); err != nil {
			t.Errorf("delete: %v", err)
		}
		err := n.Add(text, text)
		if (err == nil) != valid {
			t.Errorf("add: %v", err)
		}
	})
	names = slices.DeleteFunc(names, func(other string) bool { return other == name })
	g.visit(func(_ context.Context, s *pycket.SessionManager, n *pycket.NotificationManager) {
		if got, err := s.Keys(); !slices.Equal(names, got) || err != nil {
			t.Errorf("after Delete there are %q, want %q: %v", got, names, err)
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

func messageText(m pycket.Message) string {
	data, err := pycket.JSON{}.Encode(m)
	if err != nil {
		panic(err)
	}
	return string(data)
}

// bytes is what names and values take.
func (m *model) bytes() (sum int) {
	for _, values := range []map[string]string{m.values, m.notes} {
		for name, value := range values {
			sum += len(name) + len(value)
		}
	}
	for _, message := range m.messages {
		sum += len(messageText(message))
	}
	return sum
}

// leave takes away what belongs to the account of before, if there was one and it is not this.
func (m *model) leave(user string) {
	if m.user != "" && m.user != user {
		m.values, m.notes, m.messages = map[string]string{}, map[string]string{}, nil
	}
}

// set sets values as the scripts should, and says whether they fit.
func (m *model) set(into map[string]string, values map[string]string) bool {
	before, sum := m.bytes(), maps.Clone(into)
	maps.Copy(sum, values)
	more := 0
	for name, value := range values {
		more += len(value)
		if old, ok := into[name]; ok {
			more -= len(old)
		} else {
			more += len(name)
		}
	}
	if more > 0 && before+more > fuzzLimit {
		return false
	}
	m.alive = true
	maps.Copy(into, values)
	return true
}

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

// name is one of a few names, so that operations meet, or any bytes.
func (p *program) name() string {
	b := p.byte()
	if list := []string{"a", "b", "c", "", "W", "N", "n", "pycket:x"}; int(b) < len(list)*16 {
		return list[int(b)%len(list)]
	}
	return string(p.bytes(int(b) % 16))
}

func (p *program) text() string {
	b := p.byte()
	if b >= 200 {
		return strings.Repeat("x", int(b-200)*40)
	}
	return strings.ToValidUTF8(string(p.bytes(int(b)%24)), "?")
}

func (p *program) number() int64 {
	b := p.byte()
	if b < 128 {
		return int64(b) - 64
	}
	var full [8]byte
	copy(full[:], p.bytes(8))
	return int64(binary.BigEndian.Uint64(full[:]))
}

func (p *program) user() string {
	b := p.byte()
	if list := []string{"me", "you", ""}; int(b) < len(list)*40 {
		return list[int(b)%len(list)]
	}
	return string(p.bytes(int(b) % 32))
}

// operations of the programs; names of operations are easier to read in a failure.
var fuzzOperations = []string{
	"set", "set number", "set many", "delete", "increment", "login", "set user", "add", "drain", "notify", "take", "unnotify",
	"rotate", "destroy", "update", "next", "next", "refresh", "remember", "get", "keys", "notify many",
}

// FuzzScriptArguments carries out operations, by two browsers in turn, and compares each answer, and all
// that stands in Redis after every request, with what a map in memory would hold.
func FuzzScriptArguments(f *testing.F) {
	f.Add([]byte("\x00\x00\x05hello\x0f\x04\x06\x7f\x0f"))
	f.Add([]byte{0, 0, 220, 0, 1, 220, 15, 0, 4, 6, 80, 14, 6, 12, 5, 0, 1, 0, 15, 1, 2, 0, 220, 1, 230, 13, 0, 0, 3})
	f.Add([]byte{4, 6, 200, 127, 255, 255, 255, 255, 255, 255, 255, 4, 6, 65, 15, 0, 4, 6, 65, 4, 0, 200, 128, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0})
	f.Add([]byte{5, 0, 0, 3, 1, 2, 3, 15, 1, 5, 0, 0, 0, 15, 0, 6, 1, 15, 1, 6, 2, 13, 5, 2, 0, 0})
	f.Add([]byte{7, 1, 2, 3, 4, 7, 0, 0, 9, 0, 1, 65, 10, 0, 15, 0, 8, 9, 1, 2, 65, 65, 11, 1, 12, 8, 15, 0, 13, 9, 0, 0})
	f.Add([]byte{0, 7, 1, 65, 2, 7, 1, 65, 0, 1, 66, 3, 7, 0, 4, 7, 0, 5, 0, 7, 1, 65, 9, 7, 1, 65, 11, 7})
	f.Add([]byte{0, 0, 254, 0, 1, 254, 0, 2, 254, 0, 3, 254, 15, 0, 19, 0, 19, 1, 20, 9, 0, 254, 7, 254, 254, 4, 5, 0, 14, 0, 21, 0, 254, 1, 254})
	f.Add([]byte{18, 0, 15, 0, 12, 15, 0, 5, 200, 3, 0, 255, 13, 10, 0, 5, 2, 0, 15, 1, 18, 13, 18, 15, 1, 6, 0, 15, 0, 6, 0})
	list := arenas(f, func(s *pycket.Settings) { s.MaxSessionBytes = fuzzLimit })
	f.Fuzz(func(t *testing.T, code []byte) {
		if len(code) > 1000 {
			return // of no interest
		}
		everyArena(t, list, func(a *arena) { execute(t, a, &program{code}) })
	})
}

// execute is one try of FuzzScriptArguments.
func execute(t *testing.T, a *arena, p *program) {
	t.Helper()
	guests := [2]*guest{{t: t, app: a.app}, {t: t, app: a.app}}
	var models [2]model
	for i := range models {
		models[i].end()
	}
	var trace []string
	for who := 0; len(p.rest) > 0; who = int(p.byte()) % 2 {
		trace = append(trace, fmt.Sprint("request of ", who))
		guests[who].visit(func(ctx context.Context, s *pycket.SessionManager, n *pycket.NotificationManager) {
			for len(p.rest) > 0 {
				op := fuzzOperations[int(p.byte())%len(fuzzOperations)]
				if op == "next" {
					return
				}
				said := step(p, op, &models[who], s, n, a.Embedded())
				trace = append(trace, said)
				if strings.Contains(said, "MODEL") {
					t.Fatal(strings.Join(trace, "\n"))
				}
			}
		})
		for i, m := range models {
			if (guests[i].cookie != "") != m.alive {
				t.Fatalf("%s\nbrowser %d has the cookie %q, session alive: %v", strings.Join(trace, "\n"), i, guests[i].cookie, m.alive)
			}
			if diff := compareSession(guests[i], m); diff != "" {
				t.Fatalf("%s\nbrowser %d:\n%s", strings.Join(trace, "\n"), i, diff)
			}
		}
		if diff := compareStore(a, models[:]); diff != "" {
			t.Fatalf("%s\n%s", strings.Join(trace, "\n"), diff)
		}
	}
}

// step carries out one operation on a session and its model, and says what it was. If they disagree, it
// says MODEL and what was wanted. The embedded server does not see that a sum is too large: it is not asked.
func step(p *program, op string, m *model, s *pycket.SessionManager, n *pycket.NotificationManager, embedded bool) string {
	encode := func(value any) string {
		data, err := pycket.JSON{}.Encode(value)
		if err != nil {
			panic(err)
		}
		return string(data)
	}
	reservedName := func(names ...string) bool {
		return slices.ContainsFunc(names, func(name string) bool { return strings.HasPrefix(name, "pycket:") })
	}
	// set is what is common to all that sets values.
	set := func(into map[string]string, values map[string]string, names ...string) error {
		switch {
		case reservedName(names...):
			return pycket.ErrReserved
		case !m.set(into, values):
			return pycket.ErrTooLarge
		}
		return nil
	}
	var args string
	var err, want error
	var got, wanted any
	switch op {
	case "set":
		name, text := p.name(), p.text()
		args = fmt.Sprintf("%q, %q", name, text)
		err, want = s.Set(name, text), set(m.values, map[string]string{name: encode(text)}, name)
	case "set number":
		name, number := p.name(), p.number()
		args = fmt.Sprintf("%q, %d", name, number)
		err, want = s.Set(name, number), set(m.values, map[string]string{name: encode(number)}, name)
	case "set many", "notify many":
		one, first, two, second := p.name(), p.text(), p.name(), p.text()
		values := pycket.Values{one: first, two: second}
		encoded := map[string]string{}
		for name, value := range values {
			encoded[name] = encode(value)
		}
		args = fmt.Sprintf("%q", values)
		if op == "set many" {
			err, want = s.SetMany(values), set(m.values, encoded, one, two)
		} else {
			err, want = n.SetMany(values), set(m.notes, encoded, one, two)
		}
	case "notify":
		name, text := p.name(), p.text()
		args = fmt.Sprintf("%q, %q", name, text)
		err, want = n.Set(name, text), set(m.notes, map[string]string{name: encode(text)}, name)
	case "delete", "unnotify":
		names := []string{p.name(), p.name()}
		args = fmt.Sprintf("%q", names)
		from := m.values
		if op == "delete" {
			err = s.Delete(names...)
		} else {
			from, err = m.notes, n.Delete(names...)
		}
		if reservedName(names...) {
			want = pycket.ErrReserved
			break
		}
		for _, name := range names {
			delete(from, name)
		}
	case "increment":
		name, by := p.name(), p.number()
		args = fmt.Sprintf("%q, %d", name, by)
		var number int64
		var numberErr error
		if old, ok := m.values[name]; ok {
			number, numberErr = strconv.ParseInt(old, 10, 64)
		}
		sum := number + by
		large := (sum > number) != (by > 0) && by != 0
		if large && embedded {
			return ""
		}
		got, err = s.Increment(name, by)
		wanted = int64(0)
		switch {
		case reservedName(name):
			want = pycket.ErrReserved
		case numberErr != nil, large:
			want = errNotNumber
		default:
			if want = set(m.values, map[string]string{name: encode(sum)}); want == nil {
				wanted = sum
			}
		}
	case "update":
		name, by := p.name(), p.number()
		args = fmt.Sprintf("%q, %d", name, by)
		got, err = pycket.Update(s, name, int64(1), func(n int64) (int64, error) { return n ^ by, nil })
		number, numberErr := int64(1), error(nil)
		if old, ok := m.values[name]; ok {
			number, numberErr = strconv.ParseInt(old, 10, 64)
		}
		wanted = int64(1)
		switch {
		case reservedName(name):
			want = pycket.ErrReserved
		case numberErr != nil:
			want = pycket.ErrCorrupt
		default:
			if want = set(m.values, map[string]string{name: encode(number ^ by)}); want == nil {
				wanted = number ^ by
			}
		}
	case "login":
		user, name, text := p.user(), p.name(), p.text()
		args = fmt.Sprintf("%q, %q: %q", user, name, text)
		err = s.Login(user, pycket.Values{name: text})
		if user == "" {
			want = errNoUser
			break
		}
		before := *m
		m.leave(user)
		if want = set(m.values, map[string]string{name: encode(text)}, name); want == nil {
			m.user, m.auth = user, true
		} else {
			*m = before
		}
	case "set user":
		user := p.user()
		args = strconv.Quote(user)
		err = s.SetUser(user)
		m.leave(user)
		m.auth = m.auth && user == m.user && user != ""
		if m.alive = m.alive || user != ""; m.alive { // nobody's session stays nobody's
			m.user = user
		}
	case "remember":
		hours := time.Duration(p.byte()) * time.Hour
		args = hours.String()
		err = s.Remember(hours)
		if hours == 0 {
			want = errShort
			break
		}
		if !m.alive {
			want = errNoSession
		}
	case "add":
		message := pycket.Message{Level: p.text(), Text: p.text()}
		args = fmt.Sprintf("%q", message)
		err = n.Add(message.Level, message.Text)
		if m.bytes()+len(messageText(message)) > fuzzLimit {
			want = pycket.ErrTooLarge
			break
		}
		m.alive, m.messages = true, append(m.messages, message)
	case "drain":
		got, err = n.Drain()
		wanted, m.messages = m.messages, nil
	case "take":
		name := p.name()
		args = strconv.Quote(name)
		got, err = pycket.Get(n, name, "none")
		wanted = "none"
		if reservedName(name) {
			want = pycket.ErrReserved
			break
		}
		if text, ok := m.notes[name]; ok {
			var decoded string
			if err := json.Unmarshal([]byte(text), &decoded); err != nil {
				panic(err)
			}
			wanted = decoded
			delete(m.notes, name)
		}
	case "get":
		name := p.name()
		args = strconv.Quote(name)
		got, err = pycket.Get[any](s, name, "none")
		wanted = "none"
		if reservedName(name) {
			want = pycket.ErrReserved
			break
		}
		if text, ok := m.values[name]; ok {
			if err := (pycket.JSON{}).Decode([]byte(text), &wanted); err != nil {
				panic(err)
			}
		}
	case "keys":
		got, err = s.Keys()
		wanted = append([]string{}, slices.Sorted(maps.Keys(m.values))...)
	case "rotate":
		err = s.Rotate()
	case "destroy":
		err = s.Destroy()
		m.end()
	case "refresh":
		s.Refresh()
	}
	said := fmt.Sprintf("  %s %s: %v, %v", op, args, got, err)
	switch {
	case (err == nil) != (want == nil), want != nil && !errors.Is(err, want) && !strings.Contains(err.Error(), want.Error()):
		return fmt.Sprintf("%s; the MODEL says %v", said, want)
	case !cmp.Equal(wanted, got):
		return fmt.Sprintf("%s; the MODEL says %v", said, wanted)
	}
	return said
}

// Errors that have no names.
var (
	errNotNumber = errors.New("what is stored is not a whole number, or the sum does not fit 64 bits")
	errNoUser    = errors.New("the user's name is empty")
	errNoSession = errors.New("there is no session to remember")
	errShort     = errors.New("the idle timeout is 0s")
)

// compareSession compares a session, as a new request reads it, with its model.
func compareSession(g *guest, m model) (diff string) {
	g.visit(func(_ context.Context, s *pycket.SessionManager, n *pycket.NotificationManager) {
		var errs []error
		got := map[string]string{}
		names, err := s.Keys()
		errs = append(errs, err)
		for _, name := range names {
			value, err := pycket.Get[any](s, name, nil)
			errs = append(errs, err)
			data, err := pycket.JSON{}.Encode(value)
			errs = append(errs, err)
			got[name] = string(data)
		}
		diff = cmp.Diff(m.values, got)
		notes, err := n.Keys()
		errs = append(errs, err)
		diff += cmp.Diff(append([]string{}, slices.Sorted(maps.Keys(m.notes))...), notes)
		user, err := s.User()
		errs = append(errs, err)
		diff += cmp.Diff(m.user, user)
		at, err := s.AuthTime()
		errs = append(errs, err)
		diff += cmp.Diff(m.auth, !at.IsZero())
		if err := errors.Join(errs...); err != nil {
			diff += err.Error()
		}
	})
	return diff
}

// compareStore checks what holds of all that stands in Redis: the records' byte counts, the TTLs, and the
// lists of the accounts.
func compareStore(a *arena, models []model) (diff string) {
	want, accounts := []string{}, map[string]int{}
	for _, m := range models {
		if m.alive {
			want = append(want, strconv.Itoa(m.bytes()))
		}
		if m.user != "" {
			accounts[m.user]++
		}
	}
	got := []string{}
	for db, c := range []redis.Conn{a.conn, a.note} {
		keys, err := redis.Strings(c.Do("KEYS", "*"))
		if err != nil {
			return err.Error()
		}
		for _, key := range keys {
			if left, err := redis.Int64(c.Do("PTTL", key)); left <= 0 || err != nil {
				diff += fmt.Sprintf("%s has a TTL of %d, %v\n", key, left, err)
			}
			if db == 1 || !strings.HasPrefix(key, "pycket:s:") {
				continue
			}
			record, err := redis.String(c.Do("HGET", key, "pycket:id"))
			switch {
			case err == redis.ErrNil: // the mark of a Destroy
			case err != nil:
				diff += err.Error()
			default:
				got = append(got, record[36:])
			}
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	diff += cmp.Diff(want, got)
	for _, user := range slices.Concat(slices.Collect(maps.Keys(accounts)), []string{"me", "nobody"}) {
		list, err := a.app.Sessions(context.Background(), user)
		if len(list) != accounts[user] || err != nil {
			diff += fmt.Sprintf("%q has %d sessions, want %d: %v\n", user, len(list), accounts[user], err)
		}
	}
	return diff
}
