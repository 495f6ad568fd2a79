// What is measured: the workloads, who serves each, and how an answer is told from a wrong one.

package main

import (
	"strconv"
	"strings"
)

// A workload is one kind of request. Entries are compared with the first, the floor: the least that a
// handler must do which keeps its value in Redis by itself, without any session library.
type workload struct {
	Letter, Title string
	repeatable    bool   // the commands of a request do the same when they are sent again
	prepare       string // the path that makes a visitor's session first; "" if the workload has none
	check         func(v *visitor, body []byte, cookie bool) bool
	entries       []entry
}

// An entry is a contestant in a workload: the app that serves it, and where.
type entry struct{ name, app, path string }

// A visitor is somebody with a cookie, or without one yet.
type visitor struct {
	cookie string
	last   int64 // the number that the visitor got last, and checked
	seen   bool  // that was the last number, as nobody else has sent the cookie since
}

const (
	// userValue is the one value of 40 bytes.
	userValue = "a user's name, or whatever has 40 bytes."

	// cachedPycket is the name of pycket with Settings.CacheFor.
	cachedPycket = "pycket cache"

	idleAnswer  = "nothing was needed"
	firstAnswer = "welcome"

	wideFields = 50
	wideField  = "f25" // the one that is read and set
	blobBytes  = 3072
)

var workloads = []workload{
	{
		// Who renews the session's expiry when it is read:
		//   get, rueidis get   don't
		//   rueidis cache      doesn't, and sends nothing to Redis as long as nothing changes
		//   pycket             does, once per tenth of the idle timeout
		//   scs                does (IdleTimeout), by writing the whole session at every request
		//   gorilla            can't: it is called without Save (an expiry that doesn't slide), and once
		//                      more with Save at every request, the only way to make it slide
		//   gin                can't, as gorilla, which it wraps
		Letter: "A", Title: "read one value", repeatable: true, prepare: "/first", check: isUserValue,
		entries: []entry{
			{"get", "floor", "/read"},
			{"rueidis get", "rueidis", "/read"},
			{"rueidis cache", "rueidis", "/cached"},
			{"pycket", "pycket", "/read"},
			{"scs", "scs", "/read"},
			{"gorilla+boj", "boj", "/read"},
			{"gorilla+boj, Save", "boj", "/renew"},
			{"gorilla+rbcervilla", "rbcervilla", "/read"},
			{"gin", "gin", "/read"},
		},
	},
	{
		// Only pycket's two keep what parallel requests of one session count; the others read, add and
		// write. Here there are so many sessions that they hardly ever meet.
		Letter: "B", Title: "read and update a counter", prepare: "/first", check: countsUp,
		entries: []entry{
			{"get+setex", "floor", "/count"},
			{"pycket", "pycket", "/count"},
			{"pycket Increment", "pycket", "/increment"},
			{"scs", "scs", "/count"},
			{"gorilla+boj", "boj", "/count"},
			{"gorilla+rbcervilla", "rbcervilla", "/count"},
			{"gin", "gin", "/count"},
		},
	},
	{
		// gorilla has no part in a request that doesn't call it: it would be the floor once more.
		Letter: "C", Title: "session not used, cookie sent", repeatable: true, prepare: "/first", check: isIdleAnswer,
		entries: []entry{
			{"none", "floor", "/idle"},
			{"pycket", "pycket", "/idle"},
			{"scs", "scs", "/idle"},
			{"gin", "gin", "/idle"},
		},
	},
	{
		Letter: "D", Title: "first visit, writes one value", check: isFirstAnswer,
		entries: []entry{
			{"setex", "floor", "/first"},
			{"pycket", "pycket", "/first"},
			{"scs", "scs", "/first"},
			{"gorilla+boj", "boj", "/first"},
			{"gorilla+rbcervilla", "rbcervilla", "/first"},
			{"gin", "gin", "/first"},
		},
	},
	{
		// The field that is read is the one that is set, to the next number: an entry whose writes got
		// lost would answer wrong.
		Letter: "E", Title: "50 fields, read one and set one", prepare: "/fill", check: countsUp,
		entries: []entry{
			{"blob", "floor", "/wide"},
			{"pycket", "pycket", "/wide"},
			{"scs", "scs", "/wide"},
			{"gorilla+boj", "boj", "/wide"},
			{"gorilla+rbcervilla", "rbcervilla", "/wide"},
			{"gin", "gin", "/wide"},
		},
	},
	{
		// A page: it reads the session, then takes the messages that wait to be shown. None do. The floor keeps
		// them in a list beside the session and asks for both in one round trip. The gorilla stores and gin have
		// flashes, and save the session only if there were some. scs pops a value.
		Letter: "F", Title: "a page: read one value, drain the messages, none waiting", repeatable: true, prepare: "/first", check: isUserValue,
		entries: []entry{
			{"get+lpop", "floor", "/page"},
			{"pycket", "pycket", "/page"},
			{"scs", "scs", "/page"},
			{"gorilla+boj", "boj", "/page"},
			{"gorilla+rbcervilla", "rbcervilla", "/page"},
			{"gin", "gin", "/page"},
		},
	},
}

func isUserValue(_ *visitor, body []byte, _ bool) bool  { return string(body) == userValue }
func isIdleAnswer(_ *visitor, body []byte, _ bool) bool { return string(body) == idleAnswer }

func isFirstAnswer(_ *visitor, body []byte, cookie bool) bool {
	return cookie && string(body) == firstAnswer
}

// countsUp accepts the number after the last one, or a larger one if somebody else has counted on.
func countsUp(v *visitor, body []byte, _ bool) bool {
	n, err := strconv.ParseInt(string(body), 10, 64)
	ok := err == nil && (n == v.last+1 || !v.seen && n > v.last)
	v.last, v.seen = n, true
	return ok
}

// wideNumber is a field's value of 40 bytes: a number, for what sets it next to count on.
func wideNumber(n int64) string {
	digits := strconv.FormatInt(n, 10)
	return strings.Repeat("0", 40-len(digits)) + digits
}

// nextWideNumber is what a field is set to after it was read.
func nextWideNumber(value string) (string, error) {
	n, err := strconv.ParseInt(value, 10, 64)
	return wideNumber(n + 1), err
}

func fieldName(i int) string { return "f" + strconv.Itoa(i) }
