package main

import (
	"bufio"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestReadResponse(t *testing.T) {
	for name, test := range map[string]struct {
		text   string
		status int
		body   string
		cookie string
		fails  bool
	}{
		"length":  {"HTTP/1.1 200 OK\r\nSet-Cookie: a=b; Path=/\r\nContent-Length: 5\r\n\r\nhello", 200, "hello", "a=b", false},
		"chunked": {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", 200, "hello", "", false},
		"empty":   {"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n", 500, "", "", false},
		"short":   {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", 0, "", "", true},
		"other":   {"SSH-2.0-OpenSSH_9.2p1\r\n\r\n", 0, "", "", true},
		"length?": {"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", 0, "", "", true},
	} {
		t.Run(name, func(t *testing.T) {
			r := bufio.NewReader(strings.NewReader(test.text))
			status, body, cookie, err := readResponse(r, nil)
			if test.fails {
				if err == nil {
					t.Fatal("no error")
				}
				return
			}
			if err != nil || status != test.status || string(body) != test.body || string(cookie) != test.cookie {
				t.Errorf("got %d, %q, cookie %q, %v", status, body, cookie, err)
			}
			if r.Buffered() > 0 {
				t.Errorf("%d bytes were left", r.Buffered())
			}
		})
	}
}

// loadFrom sends a handler requests over two connections for a moment.
func loadFrom(t *testing.T, handler http.HandlerFunc, check func(*visitor, []byte, bool) bool) *slice {
	t.Helper()
	server := httptest.NewServer(handler)
	defer server.Close()
	var browsers []*browser
	for range 2 {
		b, err := newBrowser([]*visitor{{}, {}}, server.Listener.Addr().String(), "/", time.Now().Add(patience))
		if err != nil {
			t.Fatal(err)
		}
		defer b.close()
		browsers = append(browsers, b)
	}
	return load(browsers, check, 20*time.Millisecond)
}

func TestLoadCountsWhatIsRight(t *testing.T) {
	s := loadFrom(t, func(w http.ResponseWriter, _ *http.Request) { answer(w, idleAnswer, nil) }, isIdleAnswer)
	if s.requests == 0 || s.failures != 0 || s.p50 <= 0 || s.p99 < s.p50 {
		t.Errorf("%d requests, %d failures, p50 %v, p99 %v", s.requests, s.failures, s.p50, s.p99)
	}
}

func TestLoadDoesNotCountWhatIsWrong(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{
		"status": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, idleAnswer, http.StatusTeapot) },
		"body":   func(w http.ResponseWriter, _ *http.Request) { answer(w, "nothing", nil) },
		"none":   func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			s := loadFrom(t, handler, isIdleAnswer)
			if s.requests != 0 || s.failures == 0 {
				t.Errorf("%d requests, %d failures", s.requests, s.failures)
			}
		})
	}
}

func TestCountsUp(t *testing.T) {
	v := &visitor{seen: true}
	for _, step := range []struct {
		body string
		want bool
	}{{"1", true}, {"2", true}, {"2", false}, {"3", true}, {"5", false}, {"", false}, {wideNumber(1), true}} {
		if got := countsUp(v, []byte(step.body), false); got != step.want {
			t.Errorf("%q: %v, want %v", step.body, got, step.want)
		}
	}
	for body, want := range map[string]bool{"5": false, "6": true, "9": true} {
		others := &visitor{last: 5}
		if got := countsUp(others, []byte(body), false); got != want {
			t.Errorf("%q after others have counted on from 5: %v, want %v", body, got, want)
		}
		if got := countsUp(others, []byte("20"), false); got {
			t.Error("what was seen is not remembered")
		}
	}
}

func TestVisitorsTakeTurns(t *testing.T) {
	var seen [6]atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.Atoi(r.Header.Get("Cookie"))
		if err == nil {
			seen[n].Add(1)
		}
		answer(w, idleAnswer, err)
	}))
	defer server.Close()
	address := server.Listener.Addr().String()
	visitors := make([]*visitor, len(seen))
	for i := range visitors {
		visitors[i] = &visitor{cookie: strconv.Itoa(i), seen: true}
	}
	check := func(t *testing.T, s *slice) {
		if s.requests == 0 || s.failures > 0 {
			t.Errorf("%d requests, %d failures", s.requests, s.failures)
		}
		for i := range seen {
			if n := seen[i].Swap(0); n == 0 {
				t.Errorf("visitor %d sent nothing", i)
			}
		}
	}
	t.Run("own", func(t *testing.T) {
		b, err := newBrowser(visitors, address, "/", time.Now().Add(patience))
		if err != nil {
			t.Fatal(err)
		}
		defer b.close()
		check(t, load([]*browser{b}, isIdleAnswer, 50*time.Millisecond))
	})
	t.Run("wrk", func(t *testing.T) {
		s, err := newWrk(t).load(address, "/", visitors, 2, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		check(t, s)
		if s.elapsed < 900*time.Millisecond || s.p50 <= 0 || s.p99 < s.p50 {
			t.Errorf("elapsed %v, p50 %v, p99 %v", s.elapsed, s.p50, s.p99)
		}
		for i, v := range visitors {
			if v.seen {
				t.Errorf("wrk sent the cookie of visitor %d, unnoticed", i)
			}
		}
	})
}

// newWrk skips the test if wrk is not installed.
func newWrk(t *testing.T) *wrk {
	t.Helper()
	w, err := findWrk()
	if err != nil {
		t.Fatal(err)
	}
	if w == nil {
		t.Skip("wrk is not installed")
	}
	t.Cleanup(func() {
		if err := w.close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func TestWrkSeesErrors(t *testing.T) {
	w := newWrk(t)
	for name, handler := range map[string]http.HandlerFunc{
		"status": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "", http.StatusInternalServerError) },
		"none":   func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(handler)
			defer server.Close()
			s, err := w.load(server.Listener.Addr().String(), "/", []*visitor{{}}, 1, time.Second)
			if err != nil {
				t.Fatal(err)
			}
			if s.requests != 0 || s.failures == 0 {
				t.Errorf("%d requests, %d failures", s.requests, s.failures)
			}
		})
	}
	t.Run("nobody", func(t *testing.T) {
		if s, err := w.load("127.0.0.1:1", "/", []*visitor{{}}, 1, time.Second); err == nil {
			t.Errorf("no error, but %+v", s)
		}
	})
}

func TestParseWrk(t *testing.T) {
	s, err := parseWrk("Running 1s test\n  Non-2xx or 3xx responses: 3\nnumbers 100 3 1000500 20 90\n")
	if err != nil || s.requests != 97 || s.failures != 3 || s.elapsed != 1000500*time.Microsecond ||
		s.p50 != 20*time.Microsecond || s.p99 != 90*time.Microsecond {
		t.Errorf("got %+v, %v", s, err)
	}
	for _, output := range []string{"", "Running 1s test\n", "numbers 100\n", "numbers a b c d e\n"} {
		if s, err := parseWrk(output); err == nil {
			t.Errorf("%q was taken for %+v", output, s)
		}
	}
}

func TestWhereTheLoadComesFrom(t *testing.T) {
	t.Run("half seconds", func(t *testing.T) {
		newWrk(t)
		if _, err := generatorOf(options{slice: 500 * time.Millisecond}); err == nil {
			t.Error("wrk was given half a second")
		}
		if w, err := generatorOf(options{slice: 500 * time.Millisecond, generator: "own"}); w != nil || err != nil {
			t.Errorf("own: %v, %v", w, err)
		}
	})
	t.Setenv("PATH", t.TempDir())
	if w, err := generatorOf(options{slice: time.Second}); w != nil || err != nil {
		t.Errorf("without wrk: %v, %v", w, err)
	}
	if _, err := generatorOf(options{slice: time.Second, generator: "wrk"}); err == nil {
		t.Error("wrk was asked for, is not there, and nothing is said")
	}
}

func TestReadCommand(t *testing.T) {
	const get, ping = "*2\r\n$3\r\nGET\r\n$4\r\na\r\nb\r\n", "*1\r\n$4\r\nPING\r\n"
	r := bufio.NewReader(strings.NewReader(get + ping + "PING\r\n"))
	for _, want := range []struct {
		sent string
		args []string
	}{{get, []string{"GET", "a\r\nb"}}, {ping, []string{"PING"}}} {
		if sent, args, err := readCommand(r); err != nil || string(sent) != want.sent || !slices.Equal(args, want.args) {
			t.Fatalf("got %q, %q, %v, want %q", sent, args, err, want)
		}
	}
	if got, _, err := readCommand(r); err == nil {
		t.Errorf("an inline command was taken for %q", got)
	}
	if got, _, err := readCommand(bufio.NewReader(strings.NewReader("*0\r\n"))); err == nil {
		t.Errorf("nothing was taken for %q", got)
	}
}

func TestFlags(t *testing.T) {
	o, err := parseFlags([]string{"-quick", "-workloads", "A,E", "-connections", "2,64", "-growth=false"})
	if err != nil {
		t.Fatal(err)
	}
	if len(o.workloads) != 2 || o.workloads[1].Letter != "E" || fmt.Sprint(o.connections) != "[2 64]" || o.growth {
		t.Errorf("got %+v", o)
	}
	if o, err = parseFlags(nil); err != nil || o.slice != time.Second || fmt.Sprint(o.connections) != "[1 64]" || o.generator != "" {
		t.Errorf("by default: %+v, %v", o, err)
	}
	for _, args := range [][]string{{"-workloads", "G"}, {"-slice", "0"}, {"-generator", "ab"}, {"-connections", "0"}, {"-connections", "1,"}, {"-rounds", "-1"}, {"more"}} {
		if _, err := parseFlags(args); err == nil {
			t.Errorf("%v were taken", args)
		}
	}
}
