package pycket_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pycket/pycket"
	"github.com/pycket/pycket/internal/redistest"
)

// store sets values, in the session and as notifications.
func (s *site) store(b *browser, list []value) {
	s.t.Helper()
	s.visit(b, func(_ http.ResponseWriter, _ *http.Request, m *pycket.SessionManager, n *pycket.NotificationManager) {
		for _, v := range list {
			if err := errors.Join(m.Set(v.name, v.set), n.Set(v.name, v.set)); err != nil {
				s.t.Errorf("set %s: %v", v.name, err)
			}
		}
	})
}

type nested struct {
	Name  string             `json:"name"`
	When  time.Time          `json:"when"`
	Inner struct{ A, B int } `json:"inner"`
	Tags  map[string][]int   `json:"tags"`
	Next  *nested            `json:"next"`
}

// value sets a value in one request and reads it into its own type in another.
type value struct {
	name string
	set  any
	get  func(m pycket.Manager, name string) (any, error)
}

func of[T any](name string, v T) value {
	return value{name, v, func(m pycket.Manager, name string) (any, error) {
		var fallback T
		got, err := pycket.Get(m, name, fallback)
		return got, err
	}}
}

func values() []value {
	when := time.Date(2026, 11, 22, 19, 50, 9, 123456789, time.FixedZone("CET", 3600))
	deep := nested{Name: "outer", When: when, Tags: map[string][]int{"a": {1, 2}, "": {3}}, Next: &nested{Name: "inner", When: when}}
	deep.Inner.A, deep.Inner.B = 1, -2
	type id int32
	type word string
	return []value{
		of("text", "plain"), of("empty text", ""), of("odd text", "<&>\u2028\"\\ufffd\ufffd\x00ü"), of("word", word("w")),
		of("true", true), of("false", false),
		of("int", 42), of("negative", -1), of("zero", 0), of("int8", int8(-128)), of("int64", int64(math.MinInt64)),
		of("uint64", uint64(math.MaxUint64)), of("uint8", uint8(255)), of("id", id(7)),
		of("float", 1.5), of("large float", 1e300), of("float32", float32(0.25)),
		of("bytes", []byte{0, 1, 255, '\n'}), of("no bytes", []byte(nil)),
		of("time", when), of("duration", time.Hour),
		of("texts", []string{"bar", "baz", ""}), of("no texts", []string(nil)), of("array", [3]int{1, 2, 3}),
		of("map", map[string]int{"a": 1, "": 2}), of("no map", map[string]int(nil)), of("map of maps", map[string]map[string]bool{"a": {"b": true}}),
		of("struct", deep), of("pointer", &deep), of("nil pointer", (*nested)(nil)),
		of("large", strings.Repeat("x", 100_000)),
	}
}

// onlyJSON can be read into an any, which gob cannot.
func onlyJSON() []value {
	return []value{
		of[any]("any int", 42), of[any]("any large int", uint64(math.MaxUint64)), of[any]("any float", 1.5),
		of[any]("any text", "a"), of[any]("any nil", nil), of[any]("any bool", true),
		of("any map", map[string]any{"n": 1, "list": []any{1, 2.5, "a", nil, map[string]any{"deep": -7}}}),
		of("any list", []any{1, "a", []any{2}}), of("raw", json.RawMessage(`{"a":[1]}`)),
	}
}

// Every type of value comes back as it was set, from an open session and from a sealed one.
func TestValues(t *testing.T) {
	for name, codec := range map[string]pycket.Codec{
		"json": nil, "gob": pycket.Gob{}, "sealed json": seal(t, pycket.JSON{}, secret), "sealed gob": seal(t, pycket.Gob{}, secret),
	} {
		t.Run(name, func(t *testing.T) {
			redistest.Every(t, func(t *testing.T, server *redistest.Server) {
				s := settings(server)
				s.Codec = codec
				site := newSite(t, s)
				list := values()
				if !strings.HasSuffix(name, "gob") {
					list = append(list, onlyJSON()...)
				}
				b := site.browser()
				site.store(b, list)
				site.visit(b, func(_ http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, n *pycket.NotificationManager) {
					for _, v := range list {
						for _, m := range []pycket.Manager{s, n} {
							found, hasErr := m.Has(v.name)
							got, err := v.get(m, v.name)
							if !found || hasErr != nil || err != nil {
								t.Errorf("%T %s: found: %v, %v, %v", m, v.name, found, hasErr, err)
							}
							if diff := cmp.Diff(v.set, got); diff != "" {
								t.Errorf("%T %s (-want +got):\n%s", m, v.name, diff)
							}
						}
						if found, err := n.Has(v.name); found || err != nil {
							t.Errorf("%s is still there: %v", v.name, err)
						}
					}
				})
			})
		})
	}
}

func TestNames(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		names := []string{"", " ", "W", "N", "a", "ü", "\x00", "\n", "a:b", "pycket", "Pycket:id", " pycket:", "{}", strings.Repeat("n", 1000), "\xff\xfe", "-1", "5 3\n"}
		for i := range 256 {
			names = append(names, string([]byte{byte(i), byte(i)}))
		}
		site := newSite(t, settings(server))
		b := site.browser()
		site.visit(b, func(_ http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, n *pycket.NotificationManager) {
			for i, name := range names {
				if err := errors.Join(s.Set(name, i), n.Set(name, i)); err != nil {
					t.Errorf("%q: %v", name, err)
				}
			}
		})
		site.visit(b, func(_ http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, n *pycket.NotificationManager) {
			for _, m := range []pycket.Manager{s, n} {
				keys, err := m.Keys()
				if err != nil || len(keys) != len(names) {
					t.Errorf("%T: %d names, want %d: %v", m, len(keys), len(names), err)
				}
				for i, name := range names {
					if got, err := pycket.Get(m, name, -1); got != i || err != nil {
						t.Errorf("%T %q: %d, want %d: %v", m, name, got, i, err)
					}
				}
			}
			noError(t, s.Delete(names...))
		})
		site.visit(b, func(_ http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, n *pycket.NotificationManager) {
			if keys, err := s.Keys(); len(keys) != 0 || err != nil {
				t.Errorf("%q are left: %v", keys, err)
			}
		})
		if len(server.Keys(0)) != 1 {
			t.Error("an emptied session is no session any more")
		}
	})
}

// What cannot be done is an error that names it, and changes nothing: on a first visit, not even a
// session is made.
func TestRefusals(t *testing.T) {
	for name, codec := range map[string]pycket.Codec{"json": pycket.JSON{}, "gob": pycket.Gob{}} {
		t.Run(name, func(t *testing.T) {
			redistest.Every(t, func(t *testing.T, server *redistest.Server) {
				s := settings(server)
				s.Codec, s.MaxValueBytes, s.MaxSessionBytes = codec, 1000, 3000
				site := newSite(t, s)
				refused := func(_ http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, n *pycket.NotificationManager) {
					for _, m := range []pycket.Manager{s, n} {
						wantError(t, m.Set("chan", make(chan int)), nil, `"chan"`, "chan int")
						wantError(t, m.SetMany(pycket.Values{"fine": 1, "func": func() {}}), nil, `"func"`)
						wantError(t, m.Set("pycket:id", "x"), pycket.ErrReserved, `"pycket:id"`)
						wantError(t, m.SetMany(pycket.Values{"fine": 1, "pycket:x": 1}), pycket.ErrReserved, `"pycket:x"`)
						wantError(t, m.Delete("fine", "pycket:id"), pycket.ErrReserved, "pycket:id")
						_, err := m.Has("pycket:id")
						wantError(t, err, pycket.ErrReserved, "pycket:id")
						_, err = pycket.Get(m, "pycket:id", "")
						wantError(t, err, pycket.ErrReserved, "pycket:id")
						wantError(t, m.Set("large", strings.Repeat("x", 1001)), pycket.ErrTooLarge, `"large"`, "too large", "MaxValueBytes")
						wantError(t, m.SetMany(pycket.Values{"a": strings.Repeat("x", 900), "b": strings.Repeat("x", 900), "c": strings.Repeat("x", 900), "d": strings.Repeat("x", 900)}), pycket.ErrTooLarge, "MaxSessionBytes")
						_, err = m.Lookup("a", "no pointer")
						wantError(t, err, nil, `"a"`, "pointer")
						_, err = m.Lookup("a", (*int)(nil))
						wantError(t, err, nil, `"a"`, "pointer")
						_, err = m.Lookup("a", nil)
						wantError(t, err, nil, `"a"`, "pointer")
						if codec == (pycket.JSON{}) {
							wantError(t, m.Set("bad", "\xff"), nil, `"bad"`, "UTF-8")
							wantError(t, m.Set("bad", map[string]string{"a\xff": `\`}), nil, `"bad"`, "UTF-8")
							wantError(t, m.Set("nan", math.NaN()), nil, `"nan"`)
							wantError(t, m.Set("number", json.Number("not a number")), nil, `"number"`, "invalid number literal")
						}
					}
					_, err := s.Increment("pycket:id", 1)
					wantError(t, err, pycket.ErrReserved, "increment", "pycket:id")
					_, err = pycket.Update(s, "pycket:id", 1, func(n int) (int, error) { return n, nil })
					wantError(t, err, pycket.ErrReserved, "update", "pycket:id")
					_, err = pycket.Update(s, "u", 1, func(int) (int, error) { return 0, errOwn })
					wantError(t, err, errOwn, "update", `"u"`)
					wantError(t, n.Add("info", strings.Repeat("x", 1001)), pycket.ErrTooLarge, "add")
				}
				a := site.visit(site.browser(), refused)
				wantNothingStored(t, server, a)

				b := site.browser()
				site.works(b, func(s *pycket.SessionManager, n *pycket.NotificationManager) error {
					return errors.Join(s.Set("a", "text"), n.Set("a", "text"), s.Set("max", int64(math.MaxInt64)))
				})
				before := server.Do(0, "HGETALL", server.OnlyKey())
				site.visit(b, refused)
				site.visit(b, func(_ http.ResponseWriter, _ *http.Request, s *pycket.SessionManager, n *pycket.NotificationManager) {
					for _, m := range []pycket.Manager{s, n} {
						number := 7
						_, err := m.Lookup("a", &number)
						wantError(t, err, nil, `"a"`, "int")
						if number != 7 {
							t.Errorf("a failed Lookup has changed its target to %d", number)
						}
						if strings.Contains(fmt.Sprint(err), "text") {
							t.Errorf("%v repeats what is stored", err)
						}
					}
					_, err := s.Increment("a", 1)
					wantError(t, err, nil, "increment", `"a"`, "whole number")
					_, err = pycket.Update(s, "a", 1, func(n int) (int, error) { return n, nil })
					wantError(t, err, nil, "update", `"a"`)
					text, err := pycket.Get(n, "a", "")
					if text != "text" || err != nil {
						t.Errorf("the notification was not put back: %q, %v", text, err)
					}
					noError(t, n.Set("a", "text"))
				})
				if diff := cmp.Diff(before, server.Do(0, "HGETALL", server.OnlyKey())); diff != "" {
					t.Errorf("something has changed:\n%s", diff)
				}
			})
		})
	}
}

var errOwn = errors.New("the caller's own")

func TestIncrement(t *testing.T) {
	for name, codec := range map[string]pycket.Codec{"json": nil, "gob": pycket.Gob{}, "other": hexCodec{}, "sealed": seal(t, pycket.JSON{}, secret)} {
		t.Run(name, func(t *testing.T) {
			redistest.Both(t, func(t *testing.T, server *redistest.Server) {
				s := settings(server)
				s.Codec = codec
				site := newSite(t, s)
				b := site.browser()
				site.use(b, func(s *pycket.SessionManager) {
					for _, step := range []struct {
						name     string
						by, want int64
					}{
						{"new", 5, 5}, {"new", -7, -2}, {"new", 0, -2},
						{"huge", 1 << 53, 1 << 53}, {"huge", 1, 1<<53 + 1}, {"huge", math.MaxInt64 - 1<<53 - 1, math.MaxInt64},
						{"low", math.MinInt64, math.MinInt64},
					} {
						got, err := s.Increment(step.name, step.by)
						if got != step.want || err != nil {
							t.Errorf("%s by %d: %d, want %d: %v", step.name, step.by, got, step.want, err)
						}
					}
					noError(t, s.Set("set", 41))
					if n, err := s.Increment("set", 1); n != 42 || err != nil {
						t.Errorf("after a Set: %d, %v", n, err)
					}
				})
				if !server.Embedded() || name == "other" || name == "sealed" { // miniredis does not check for overflow
					site.use(b, func(s *pycket.SessionManager) {
						_, err := s.Increment("huge", 1)
						wantError(t, err, nil, "increment", `"huge"`)
						_, err = s.Increment("low", -1)
						wantError(t, err, nil, "increment", `"low"`)
						noError(t, s.Set("text", "x"))
						_, err = s.Increment("text", 1)
						wantError(t, err, nil, "increment", `"text"`)
						wantGet(t, s, "text", "x")
					})
				}
				site.use(b, func(s *pycket.SessionManager) {
					for name, want := range map[string]int64{"new": -2, "set": 42, "low": math.MinInt64} {
						wantGet(t, s, name, want)
					}
				})
			})
		})
	}
}

// hexCodec is a codec of an application, with which Redis can't do sums.
type hexCodec struct{}

func (hexCodec) Encode(value any) ([]byte, error) {
	data, err := json.Marshal(value)
	return fmt.Appendf(nil, "%x", data), err
}

func (hexCodec) Decode(data []byte, into any) error {
	var plain []byte
	if _, err := fmt.Sscanf(string(data), "%x", &plain); err != nil {
		return err
	}
	return json.Unmarshal(plain, into)
}

type basket struct {
	Items []string
	Count map[string]int
}

// initialOf checks that what one visitor's Update does to its initial value is in no other's, nor in the value
// itself.
func initialOf[T any](t *testing.T, site *site, name string, initial T, add func(T, string) T, want func(string) T) {
	t.Run(name, func(t *testing.T) {
		before := fmt.Sprintf("%+v", initial)
		visitors := map[string]*browser{"Ann": site.browser(), "Bob": site.browser()}
		for visitor, b := range visitors {
			site.use(b, func(s *pycket.SessionManager) {
				got, err := pycket.Update(s, name, initial, func(value T) (T, error) { return add(value, visitor), nil })
				if diff := cmp.Diff(want(visitor), got); diff != "" || err != nil {
					t.Errorf("Update returns %v (-want +got):\n%s", err, diff)
				}
			})
		}
		for visitor, b := range visitors {
			site.use(b, func(s *pycket.SessionManager) { wantGet(t, s, name, want(visitor)) })
		}
		if after := fmt.Sprintf("%+v", initial); after != before {
			t.Errorf("the initial value has become %s", after)
		}
	})
}

// Two visitors whose carts begin as the same variable have two carts, whatever the function does to it.
func TestUpdateCopiesInitial(t *testing.T) {
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		for name, codec := range map[string]pycket.Codec{"json": pycket.JSON{}, "gob": pycket.Gob{}, "sealed": seal(t, pycket.JSON{}, secret)} {
			t.Run(name, func(t *testing.T) {
				s := settings(server)
				s.Codec = codec
				site := newSite(t, s)
				initialOf(t, site, "map", map[string]int{}, func(m map[string]int, v string) map[string]int { m[v]++; return m },
					func(v string) map[string]int { return map[string]int{v: 1} })
				initialOf(t, site, "slice", []string{"none"}, func(s []string, v string) []string { s[0] = v; return s },
					func(v string) []string { return []string{v} })
				initialOf(t, site, "room in a slice", make([]string, 0, 8), func(s []string, v string) []string { return append(s, v) },
					func(v string) []string { return []string{v} })
				initialOf(t, site, "struct", basket{Count: map[string]int{"tea": 1}}, func(b basket, v string) basket { b.Count[v]++; return b },
					func(v string) basket { return basket{Count: map[string]int{"tea": 1, v: 1}} })
				initialOf(t, site, "pointer", &basket{Items: []string{"tea"}}, func(b *basket, v string) *basket { b.Items = append(b.Items, v); return b },
					func(v string) *basket { return &basket{Items: []string{"tea", v}} })
				initialOf(t, site, "array", [1]map[string]int{{"tea": 1}}, func(a [1]map[string]int, v string) [1]map[string]int { a[0][v]++; return a },
					func(v string) [1]map[string]int { return [1]map[string]int{{"tea": 1, v: 1}} })
				initialOf(t, site, "nil", nil, func(s []string, v string) []string { return append(s, v) },
					func(v string) []string { return []string{v} })
				initialOf(t, site, "text", "for ", func(s, v string) string { return s + v }, func(v string) string { return "for " + v })
				if name != "gob" {
					initialOf[any](t, site, "any", map[string]any{}, func(m any, v string) any { m.(map[string]any)[v] = 1; return m },
						func(v string) any { return map[string]any{v: 1} })
				}
			})
		}
	})
}

// If there is no value again when the function is called again, it gets the initial one as it was.
func TestUpdateTriesAgainWithInitial(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		site := newSite(t, settings(server))
		b := site.browser()
		site.works(b, func(s *pycket.SessionManager, _ *pycket.NotificationManager) error { return s.Set("other", 1) })
		tab := b.tab()
		site.use(b, func(s *pycket.SessionManager) {
			calls := 0
			got, err := pycket.Update(s, "cart", map[string]int{"tea": 1}, func(cart map[string]int) (map[string]int, error) {
				calls++
				site.use(tab, func(other *pycket.SessionManager) {
					switch calls {
					case 1:
						wantCart(t, cart, map[string]int{"tea": 1})
						noError(t, other.Set("cart", map[string]int{"cake": 1}))
					case 2:
						wantCart(t, cart, map[string]int{"cake": 1})
						noError(t, other.Delete("cart"))
					case 3:
						wantCart(t, cart, map[string]int{"tea": 1})
					}
				})
				cart["seen"] = calls
				return cart, nil
			})
			noError(t, err)
			wantCart(t, got, map[string]int{"tea": 1, "seen": 3})
		})
	})
}

// An Update reads and writes within one timeout. What the function takes does not count.
func TestUpdateTakesOneTimeout(t *testing.T) {
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		proxy, s := proxied(t, server)
		s.Redis.Timeout = time.Second
		site := newSite(t, s)
		b := site.browser()
		b.must("set:other:1")
		site.use(b, func(s *pycket.SessionManager) {
			began := time.Now()
			proxy.Hold()
			time.AfterFunc(700*time.Millisecond, proxy.Pass)
			_, err := pycket.Update(s, "n", 0, func(n int) (int, error) { proxy.Hold(); return n + 1, nil })
			wantError(t, err, pycket.ErrUnavailable)
			if took := time.Since(began); took > 1500*time.Millisecond {
				t.Errorf("it takes %v, with a timeout of a second", took)
			}
			proxy.Pass()
		})
		site.use(b, func(s *pycket.SessionManager) {
			_, err := pycket.Update(s, "m", 0, func(n int) (int, error) { time.Sleep(1100 * time.Millisecond); return n + 1, nil })
			noError(t, err)
		})
	})
}

func wantCart(t *testing.T, got, want map[string]int) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the cart (-want +got):\n%s", diff)
	}
}

func TestManagers(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		site := newSite(t, settings(server))
		b := site.browser()
		b.want([]outcome{{}, {}, {Value: "1"}, {Value: []any{"a", "b", "c"}}, {Value: true}, {Value: false}},
			"setmany:a:1:b:2:c:3", "setmany", "get:a", "keys", "has:b", "has:x")
		b.want([]outcome{{Value: "1"}, {}, {Value: ""}, {Value: []any{"b", "c"}}, {}, {Value: "new"}},
			"get:a", "delete:a:a:x", "get:a", "keys", "set:b:new", "get:b")
		b.want([]outcome{{Value: "new"}, {Value: ""}, {}}, "get:b", "get:a", "delete:b:c")
		b.want([]outcome{{Value: []any{}}, {}, {Value: []any{"a"}}}, "keys", "set:a:again", "keys")

		b.want([]outcome{{}, {Value: []any{"a", "b"}}, {Value: true}, {Value: "1"}, {Value: "1"}, {Value: ""}, {Value: false}, {}, {Value: []any{}}},
			"notemany:a:1:b:2", "nkeys", "nhas:a", "peek:a", "take:a", "take:a", "nhas:a", "ndelete:b:x", "nkeys")
		b.want([]outcome{{}, {}, {}, {Value: "1"}}, "note:x:1", "add:info:first", "add:error:second", "take:x")
		b.want([]outcome{{Value: "info=first error=second"}, {Value: ""}}, "drain", "drain")
		b.want([]outcome{{Value: "again"}}, "get:a")

		// Refresh lets a request that runs long see what others have written.
		slow := b.tab()
		done := make(chan []outcome)
		go func() {
			_, list, _ := slow.try("get:a", "hold", "get:a", "refresh", "get:a")
			done <- list
		}()
		<-site.holding
		b.must("set:a:newer")
		site.release <- struct{}{}
		if diff := cmp.Diff([]outcome{{Value: "again"}, {}, {Value: "again"}, {}, {Value: "newer"}}, <-done); diff != "" {
			t.Errorf("Refresh (-want +got):\n%s", diff)
		}
	})
}

// Sessions over 4 KB are read by the value; everything else is the same.
func TestLargeSession(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		site := newSite(t, settings(server))
		b := site.browser()
		ops, names := []string{}, []any{}
		for i := range 300 {
			ops = append(ops, fmt.Sprintf("set:name%03d:%040d", i, i))
			names = append(names, fmt.Sprintf("name%03d", i))
		}
		b.must(ops...)
		b.want([]outcome{
			{Value: fmt.Sprintf("%040d", 7)}, {Value: ""}, {Value: true}, {Value: false}, {Value: names},
			{}, {Value: "x"}, {}, {Value: ""}, {Value: 1.0}, {Value: 1.0}, {Value: 1.0},
		}, "get:name007", "get:none", "has:name008", "has:none", "keys", "set:name007:x", "get:name007", "delete:name008", "get:name008", "update:u", "number:u", "inc:i:1")
		b.want([]outcome{{Value: "x"}, {Value: ""}, {Value: 2.0}, {Value: 2.0}}, "get:name007", "get:name008", "update:u", "inc:i:1")
	})
}

// Two writers at once cannot pass the limit together.
func TestSessionLimitInParallel(t *testing.T) {
	redistest.Both(t, func(t *testing.T, server *redistest.Server) {
		s := settings(server)
		s.MaxSessionBytes = 1000
		site := newSite(t, s)
		b := site.browser()
		b.must("set:a:b")
		parallel(contenders, func(i int) {
			_, list, err := b.tab().try(fmt.Sprintf("set:n%d:%0100d", i, i), fmt.Sprintf("note:n%d:%0100d", i, i), fmt.Sprintf("add:i:%0100d", i))
			for _, o := range list {
				if err != nil || o.Err != "" && o.Err != "ErrTooLarge" {
					t.Error(o, err)
				}
			}
		})
		total := 0
		for db, key := range []string{server.OnlyKey(), strings.Replace(server.OnlyKey(), ":s:", ":n:", 1)} {
			for _, part := range server.Do(db, "HGETALL", key).([]any) {
				total += len(part.([]byte))
			}
		}
		for _, part := range server.Do(1, "LRANGE", strings.Replace(server.OnlyKey(), ":s:", ":m:", 1), 0, -1).([]any) {
			total += len(part.([]byte))
		}
		total -= len("pycket:id") + len(server.Do(0, "HGET", server.OnlyKey(), "pycket:id").([]byte))
		if total > 1000 || total < 800 {
			t.Errorf("the session takes %d bytes", total)
		}
		counted := string(server.Do(0, "HGET", server.OnlyKey(), "pycket:id").([]byte))[36:]
		if counted != fmt.Sprint(total) {
			t.Errorf("the session counts %s bytes and has %d", counted, total)
		}
		// What makes it smaller is always allowed, and counted.
		b.must("drain")
		names := b.must("nkeys")[0].([]any)
		for _, name := range names {
			b.must("take:" + name.(string))
		}
		for _, name := range b.must("keys")[0].([]any) {
			b.must("delete:" + name.(string))
		}
		if counted := string(server.Do(0, "HGET", server.OnlyKey(), "pycket:id").([]byte))[35:]; counted != "00" {
			t.Errorf("emptied, the record ends with %q, want 00", counted)
		}
	})
}
