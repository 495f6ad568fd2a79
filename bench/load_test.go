package main

import (
	"bufio"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
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
		b, err := newBrowser(&visitor{}, server.Listener.Addr().String(), "/", time.Now().Add(patience))
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
	if s.requests == 0 || s.failures != 0 || s.latencies.total != s.requests {
		t.Errorf("%d requests, %d failures, %d latencies", s.requests, s.failures, s.latencies.total)
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
	v := &visitor{}
	for _, step := range []struct {
		body string
		want bool
	}{{"1", true}, {"2", true}, {"2", false}, {"3", true}, {"5", false}, {"", false}, {wideNumber(1), true}} {
		if got := countsUp(v, []byte(step.body), false); got != step.want {
			t.Errorf("%q: %v, want %v", step.body, got, step.want)
		}
	}
}

func TestReadCommand(t *testing.T) {
	const get, ping = "*2\r\n$3\r\nGET\r\n$4\r\na\r\nb\r\n", "*1\r\n$4\r\nPING\r\n"
	r := bufio.NewReader(strings.NewReader(get + ping + "PING\r\n"))
	for _, want := range []string{get, ping} {
		if got, err := readCommand(r); err != nil || string(got) != want {
			t.Fatalf("got %q, %v, want %q", got, err, want)
		}
	}
	if got, err := readCommand(r); err == nil {
		t.Errorf("an inline command was taken for %q", got)
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
	for _, args := range [][]string{{"-workloads", "F"}, {"-connections", "0"}, {"-connections", "1,"}, {"-rounds", "-1"}, {"more"}} {
		if _, err := parseFlags(args); err == nil {
			t.Errorf("%v were taken", args)
		}
	}
}
