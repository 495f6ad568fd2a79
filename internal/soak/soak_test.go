//go:build unix

package main

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pycket/pycket/internal/redistest"
)

func TestMain(m *testing.M) {
	if text := os.Getenv(childVariable); text != "" {
		exit(child(text))
	}
	os.Exit(m.Run())
}

// The promises are kept while everything breaks, for a short time here. Run the program for longer.
func TestSoak(t *testing.T) {
	for _, on := range kinds {
		t.Run(on, func(t *testing.T) {
			if testing.Short() && on != "server" {
				t.Skip("takes a minute; run without -short")
			}
			redistest.Require(t, "redis-server", "redis-server")
			if on == "sentinel" {
				redistest.Require(t, "redis-sentinel", "redis-sentinel")
			}
			kept, err := soak(t.Context(), t.Output(), on, 20*time.Second, uint64(time.Now().UnixNano())) // #nosec G115 -- any
			if err != nil {
				t.Fatal(err)
			}
			if !kept {
				t.Error("see VIOLATION above")
			}
		})
	}
}

// steps makes a history of "operation value" or "operation value from–to", one after the other unless that says
// otherwise; ? is an outcome that is not known.
func steps(list ...string) (h history) {
	start := time.Now()
	for i, text := range list {
		words := strings.Fields(text)
		s := step{do: words[0], value: words[1], done: true, confirmed: true, from: start.Add(time.Duration(2*i) * time.Second)}
		s.to = s.from.Add(time.Second)
		for _, word := range words[2:] {
			switch word {
			case "?":
				s.done = false
			case "unconfirmed":
				s.confirmed = false
			case "slow":
				s.to = s.from.Add(time.Minute)
			}
		}
		if s.value == "-" {
			s.value = ""
		}
		s.known = s.done && s.do != "set" && s.do != "delete"
		h = append(h, s)
	}
	return h
}

func TestHistory(t *testing.T) {
	for _, test := range []struct {
		what     string
		history  history
		possible bool
		lost     bool
	}{
		{"what is set is read", steps("set a", "get a", "delete -", "get -"), true, false},
		{"a write is lost", steps("set a", "set b", "get a"), false, true},
		{"a write that was not confirmed is lost", steps("set a", "set b unconfirmed", "get a"), false, false},
		{"a write is late", steps("set a", "set b ?", "get a", "get b"), true, false},
		{"an outcome that is not known may be none", steps("set a", "set b ?", "get a"), true, false},
		{"two at once, in either order", steps("set a slow", "set b", "get a"), true, false},
		{"a value comes back", steps("set a", "set b", "get b", "set c", "get b"), false, true},
		{"one of two increments is lost", steps("increment 1", "increment 1", "get 1"), false, true},
		{"increments count", steps("increment 1", "update 2 ?", "increment 3", "get 3"), true, false},
		{"a notification is handed out once", steps("notify a", "take a", "take -"), true, false},
		{"a notification is handed out twice", steps("notify a", "take a", "take a"), false, false},
		{"a notification was perhaps taken", steps("notify a", "take a ?", "take -"), true, false},
	} {
		if possible := test.history.check() == "Ok"; possible != test.possible {
			t.Errorf("%s: possible is %v", test.what, possible)
		}
		if lost := test.history.lost(); lost != test.lost {
			t.Errorf("%s: lost is %v", test.what, lost)
		}
	}
}

// What is suspected is a violation unless a fault explains it.
func TestSuspects(t *testing.T) {
	l := newLedger(t.Output())
	w := l.begin(window{kind: "hangs"})
	l.end(w)
	before, during := w.from.Add(-time.Minute), w.from
	l.suspect(suspect{from: during, to: w.to, text: "explained", excuse: duringFault, counts: []string{"values"}})
	l.suspect(suspect{from: before, to: before.Add(time.Second), text: "too early", excuse: duringFault})
	l.suspect(suspect{from: during, to: w.to, text: "another fault", excuse: duringFailover})
	l.suspect(suspect{from: during, to: w.to, text: "no excuse"})
	if l.summary("test") || strings.Join(l.violations, ", ") != "too early, another fault, no excuse" || l.counts["values"] != 1 {
		t.Error(l.violations, l.counts)
	}
}
