package pycket_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pycket/pycket"
	"github.com/pycket/pycket/internal/redistest"
)

// seal makes the codec that seals what another one encodes.
func seal(t *testing.T, codec pycket.Codec, secrets ...string) pycket.Codec {
	t.Helper()
	sealed, err := heard.sealed(codec, secrets...)
	require(t, err)
	return sealed
}

// sealedSettings are settings for a server, with values sealed.
func sealedSettings(t *testing.T, server *redistest.Server, secrets ...string) pycket.Settings {
	t.Helper()
	s := settings(server)
	s.Codec = seal(t, pycket.JSON{}, secrets...)
	return s
}

// Redis can't count what it can't read: sums are made here, and still none is lost.
func TestSealedCounts(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		const requests, each = 16, 4
		site := newSite(t, sealedSettings(t, server, secret))
		b := site.browser()
		b.must("set:first:x")
		parallel(requests, func(i int) {
			tab := b.tab()
			for range each {
				if _, list, err := tab.try("inc:n:1", "update:u"); err != nil || list[0].Err+list[1].Err != "" {
					t.Errorf("request %d: %v, %v", i, list, err)
				}
			}
		})
		const sum = requests * each
		b.want([]outcome{{Value: float64(sum)}, {Value: float64(sum)}, {Value: float64(sum - 65)}}, "number:n", "number:u", "inc:n:-65")
	})
}

// What the values are stands neither in Redis nor in what is sent to it. Names do: see Sealed.
func TestSealedHidesValues(t *testing.T) {
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		p := redistest.NewProxy(t, server)
		s := sealedSettings(t, server, secret)
		s.Redis.URL = p.URL()
		site := newSite(t, s)
		b := site.browser()
		plain := []string{"plainvalue", "plainother", "plainnote", "plainlevel", "plaintext", "815815"}
		b.must("login:me", "set:name:plainvalue", "setmany:a:plainother:b:plainother", "inc:n:815815", "update:n", "inc:n:-1",
			"note:note:plainnote", "notemany:more:plainnote", "add:plainlevel:plaintext", "add:plainlevel:plaintext", "rotate")
		stands, sent := fmt.Sprint(contents(t, server)), p.Sent()
		for _, text := range plain {
			if strings.Contains(stands, text) {
				t.Errorf("%q stands in Redis", text)
			}
			if strings.Contains(sent, text) {
				t.Errorf("%q was sent to Redis", text)
			}
		}
		for _, name := range []string{"name", "note", "pycket:m:"} { // or the dump shows nothing
			if !strings.Contains(stands, name) {
				t.Errorf("%q does not stand in Redis", name)
			}
		}
		b.want([]outcome{{Value: "plainvalue"}, {Value: 815815.0}, {Value: "plainnote"}, {Value: "plainlevel=plaintext plainlevel=plaintext"}},
			"get:name", "number:n", "take:note", "drain")
	})
}

// Who reads Redis can't see either that two values are the same, or that one has not changed.
func TestSealedTwice(t *testing.T) {
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		site := newSite(t, sealedSettings(t, server, secret))
		b := site.browser()
		seen := map[string]string{}
		for range 3 {
			b.must("setmany:a:same:b:same", "note:c:same", "add:same:same")
			key := server.OnlyKey()
			stands := server.Hash(0, key)
			stands["c"] = server.Hash(1, strings.Replace(key, ":s:", ":n:", 1))["c"]
			stands["message"] = string(server.Do(1, "LINDEX", strings.Replace(key, ":s:", ":m:", 1), -1).([]byte))
			for _, name := range []string{"a", "b", "c", "message"} {
				if before, ok := seen[stands[name]]; ok {
					t.Errorf("%s has the bytes that %s had", name, before)
				}
				seen[stands[name]] = name
			}
		}
	})
}

// A new secret is put in front, and the old one still opens what it has sealed. Without it that is corrupt,
// by name; the rest of the session is not.
func TestSealedSecretsRotate(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		before := newSite(t, sealedSettings(t, server, secret))
		both := newSite(t, sealedSettings(t, server, otherSecret, secret))
		after := newSite(t, sealedSettings(t, server, otherSecret))
		b := before.browser()
		b.must("setmany:old:x:doomed:x", "inc:number:1", "note:old:note", "add:old:text")
		both.receive(b).want([]outcome{{Value: "x"}, {Value: 2.0}, {}, {}, {}}, "get:old", "inc:number:1", "set:new:y", "note:new:note", "add:new:text") // the number is sealed anew
		after.visit(after.receive(b), func(_ http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, n *pycket.NotificationManager) {
			for op, lookup := range map[string]func(string) error{
				"get":       func(name string) error { _, err := pycket.Get(s, name, ""); return err },
				"increment": func(name string) error { _, err := s.Increment(name, 1); return err },
				"pop":       func(name string) error { _, err := pycket.Pop(s, name, ""); return err },
				"take":      func(name string) error { _, err := pycket.Get(n, name, ""); return err },
				"peek":      func(name string) error { var text string; _, err := n.Peek(name, &text); return err },
			} {
				wantError(t, lookup("old"), pycket.ErrCorrupt, "pycket: "+op, `"old"`)
			}
			wantGet(t, s, "new", "y")
			wantGet(t, n, "new", "note")
			wantGet(t, s, "number", 2)
			messages, err := n.Drain()
			wantError(t, err, pycket.ErrCorrupt, "pycket: drain: 1 messages")
			if diff := cmp.Diff([]pycket.Message{{Level: "new", Text: "text"}}, messages); diff != "" {
				t.Errorf("messages (-want +got):\n%s", diff)
			}
			if err := errors.Join(s.Delete("old"), s.Set("doomed", "anew"), n.Delete("old")); err != nil {
				t.Errorf("no way out: %v", err)
			}
		})
		after.receive(b).want([]outcome{{Value: []any{"doomed", "new", "number"}}, {Value: []any{}}, {Value: "anew"}}, "keys", "nkeys", "get:doomed")
	})
}

// Whoever writes to Redis can't move a value to another session, to another name, or to be another kind of value.
func TestSealedStaysInPlace(t *testing.T) {
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		site := newSite(t, sealedSettings(t, server, secret))
		type place struct{ who, kind, name string }
		places := []place{{"ann", "s", ""}, {"ann", "s", "a"}, {"ann", "n", ""}, {"ann", "n", "a"}, {"ann", "m", ""}, {"bob", "s", ""}, {"bob", "n", ""}, {"bob", "m", ""}}
		browsers := map[string]*browser{"ann": site.browser(), "bob": site.browser()}
		database := map[string]int{"s": 0, "n": 1, "m": 1}
		key := func(p place) string {
			return strings.Replace(keyOf(idOf(t, browsers[p.who].cookie())), ":s:", ":"+p.kind+":", 1)
		}
		message := pycket.Message{Level: "info", Text: "as all are"}
		for _, b := range browsers {
			site.visit(b, func(_ http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, n *pycket.NotificationManager) {
				both := pycket.Values{"": message, "a": message}
				noError(t, errors.Join(s.SetMany(both), n.SetMany(both), n.Add(message.Level, message.Text)))
			})
		}
		stored := map[place]any{}
		for _, p := range places {
			if p.kind == "m" {
				stored[p] = server.Do(1, "LINDEX", key(p), 0)
			} else {
				stored[p] = server.Do(database[p.kind], "HGET", key(p), p.name)
			}
		}
		for _, from := range places {
			for _, to := range places {
				if to.kind == "m" {
					server.Do(1, "DEL", key(to))
					server.Do(1, "RPUSH", key(to), stored[from])
				} else {
					server.Do(database[to.kind], "HSET", key(to), to.name, stored[from])
				}
				site.visit(browsers[to.who], func(_ http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, n *pycket.NotificationManager) {
					var got pycket.Message
					var err error
					switch to.kind {
					case "s":
						_, err = s.Lookup(to.name, &got)
					case "n":
						_, err = n.Peek(to.name, &got)
					case "m":
						var list []pycket.Message
						if list, err = n.Drain(); len(list) > 0 {
							got = list[0]
						}
					}
					if from == to && (got != message || err != nil) || from != to && (got == message || !errors.Is(err, pycket.ErrCorrupt)) {
						t.Errorf("%v in the place of %v: %v, %v", from, to, got, err)
					}
				})
			}
		}
	})
}

// Whoever writes to Redis can't make values up, change or shorten them.
func TestSealedTampered(t *testing.T) {
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		site := newSite(t, sealedSettings(t, server, secret))
		b := site.browser()
		site.works(b, func(s *pycket.SessionManager, n *pycket.NotificationManager) error {
			return errors.Join(s.SetMany(pycket.Values{"a": "the value", "b": "untouched"}), n.SetMany(pycket.Values{"a": "the note", "b": "untouched"}))
		})
		key := server.OnlyKey()
		notes := strings.Replace(key, ":s:", ":n:", 1)
		whole := server.Hash(0, key)["a"]
		flipped := func(i int) string {
			data := []byte(whole)
			data[i] ^= 1
			return string(data)
		}
		const name, nonce, tag = 4, 24, 16
		foreign, err := seal(t, pycket.JSON{}, otherSecret).Encode("the value")
		require(t, err)
		for what, data := range map[string]string{
			"the key's name": flipped(0), "the nonce": flipped(name), "the nonce's end": flipped(name + nonce - 1),
			"the text": flipped(name + nonce), "the tag": flipped(len(whole) - 1), "the tag's first byte": flipped(len(whole) - tag),
			"one byte less": whole[:len(whole)-1], "one byte more": whole + "x", "no tag": whole[:len(whole)-tag],
			"only the head": whole[:name+nonce], "less than a head": whole[:name+nonce-1], "only the key's name": whole[:name],
			"nothing": "", "plain": `"the value"`, "digits": "42", "another secret's": string(foreign),
			"another secret's under the name of the first": whole[:name] + string(foreign[name:]),
		} {
			t.Run(what, func(t *testing.T) {
				server.Do(0, "HSET", key, "a", data)
				server.Do(1, "HSET", notes, "a", data)
				site.visit(b, func(_ http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, n *pycket.NotificationManager) {
					got := "as it was"
					for op, read := range map[string]func() (bool, error){
						"get":  func() (bool, error) { return s.Lookup("a", &got) },
						"peek": func() (bool, error) { return n.Peek("a", &got) },
						"take": func() (bool, error) { return n.Lookup("a", &got) },
						"pop": func() (bool, error) {
							popped, err := pycket.Pop(s, "a", got)
							return popped != got, err
						},
					} {
						found, err := read()
						wantError(t, err, pycket.ErrCorrupt, `pycket: `+op+` "a"`)
						if found || got != "as it was" {
							t.Errorf("%s: found: %v, %q", op, found, got)
						}
					}
					_, err := pycket.Update(s, "a", "", func(string) (string, error) { return "mine", nil })
					wantError(t, err, pycket.ErrCorrupt, `pycket: update "a"`)
					if text, err := pycket.Get(s, "b", ""); text != "untouched" || err != nil {
						t.Errorf("another name: %q, %v", text, err)
					}
					if found, err := n.Has("a"); !found || err != nil {
						t.Errorf("the notification was not put back: %v", err)
					}
					if err := errors.Join(s.Delete("a"), n.Delete("a")); err != nil {
						t.Errorf("no way out: %v", err)
					}
					if found, err := s.Has("a"); found || err != nil {
						t.Errorf("it is still there: %v", err)
					}
				})
			})
		}
	})
}

func TestSealedSettings(t *testing.T) {
	short := secret[:31]
	for name, test := range map[string]struct {
		secrets []string
		want    string
	}{
		"none":         {nil, "pycket: sealed: no secret is given; "},
		"empty":        {[]string{""}, "pycket: sealed: secret 0 is only 0 bytes long; "},
		"short":        {[]string{short}, "pycket: sealed: secret 0 is only 31 bytes long; "},
		"short second": {[]string{secret, short}, "pycket: sealed: secret 1 is only 31 bytes long; "},
	} {
		t.Run(name, func(t *testing.T) {
			codec, err := heard.sealed(pycket.JSON{}, test.secrets...)
			if codec != nil || err == nil || !strings.HasPrefix(err.Error(), test.want) {
				t.Fatalf("%v, want %q", err, test.want)
			}
			if slices.Contains(test.secrets, short) && strings.Contains(err.Error(), short) {
				t.Errorf("%q repeats the secret", err)
			}
		})
	}
	if _, err := heard.sealed(pycket.Gob{}, secret[:32]); err != nil {
		t.Errorf("32 bytes: %v", err)
	}
	data, err := seal(t, nil, secret).Encode("text") // no codec is JSON
	require(t, err)
	var got string
	if err := seal(t, pycket.JSON{}, secret).Decode(data, &got); got != "text" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}
