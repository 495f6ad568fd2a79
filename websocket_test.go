package pycket_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/pycket/pycket"
	"github.com/pycket/pycket/internal/redistest"
)

// socket serves a websocket: every message is an operation, and is answered with its outcome. What the
// query asks for is done before the upgrade.
func (h *operations) socket(w http.ResponseWriter, r *http.Request) {
	for _, op := range r.URL.Query()["op"] {
		if o := h.carryOut(w, op); o.Err != "" {
			http.Error(w, o.Err, http.StatusInternalServerError)
			return
		}
	}
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return // Accept has answered
	}
	defer conn.CloseNow()
	// The context of the request is not for a hijacked connection: see Accept.
	ctx := context.WithoutCancel(r.Context())
	for {
		_, op, err := conn.Read(ctx)
		if err != nil {
			return
		}
		o := h.carryOut(w, string(op))
		if o.Err != "" {
			o = outcome{Err: o.Err}
		}
		message, _ := json.Marshal(o)
		conn.Write(ctx, websocket.MessageText, message) // or Read fails, too
	}
}

// newSocketSite serves websockets beside the operations handler.
func newSocketSite(t *testing.T, server *redistest.Server) *site {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle("/socket", pycket.HandlerFunc(operations{}, (*operations).socket))
	mux.Handle("/", pycket.Handler(operations{}))
	return newSite(t, settings(server), mux)
}

// openSocket is a browser's, open until the test ends.
type openSocket struct {
	t    testing.TB
	conn *websocket.Conn
}

// open opens a websocket, after some operations. It also returns the answer to the upgrade.
func (b *browser) open(ops ...string) (*openSocket, answer) {
	b.t.Helper()
	query := ""
	if len(ops) > 0 {
		query = "?op=" + strings.Join(ops, "&op=")
	}
	conn, response, err := websocket.Dial(b.t.Context(), b.base.String()+"/socket"+query, &websocket.DialOptions{HTTPClient: b.client})
	if err != nil {
		b.t.Fatal(err)
	}
	heard.response(response)
	b.t.Cleanup(func() { conn.CloseNow() })
	return &openSocket{b.t, conn}, answer{status: response.StatusCode, header: response.Header}
}

// ask sends an operation and waits for what comes of it; it may be called by any goroutine.
func (s *openSocket) ask(op string) (o outcome, err error) {
	if err = s.conn.Write(s.t.Context(), websocket.MessageText, []byte(op)); err != nil {
		return o, err
	}
	_, message, err := s.conn.Read(s.t.Context())
	if err != nil {
		return o, err
	}
	return o, json.Unmarshal(message, &o)
}

// want sends operations, one after the other, and compares what comes of each.
func (s *openSocket) want(want []outcome, ops ...string) {
	s.t.Helper()
	got := []outcome{}
	for _, op := range ops {
		o, err := s.ask(op)
		if err != nil {
			s.t.Fatalf("%s: %v", op, err)
		}
		got = append(got, o)
	}
	equal(s.t, fmt.Sprint(ops), want, got)
}

// A socket has the session of the request that it was upgraded from, for as long as it is open; by
// Refresh it sees what others have written.
func TestWebsocket(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		site := newSocketSite(t, server)
		b := site.browser()
		b.must("set:a:1", "inc:n:40", "note:waiting:note")
		socket, upgrade := b.open()
		if upgrade.status != http.StatusSwitchingProtocols || upgrade.setsCookie() {
			t.Errorf("status %d, Set-Cookie %q", upgrade.status, upgrade.header["Set-Cookie"])
		}
		socket.want([]outcome{{Value: "1"}, {}, {Value: 41.0}, {Value: "here"}, {Value: "note"}},
			"get:a", "set:b:here", "inc:n:1", "get:b", "take:waiting")
		b.want([]outcome{{Value: "here"}, {Value: 42.0}, {}, {Value: ""}}, "get:b", "inc:n:1", "set:a:2", "take:waiting")
		socket.want([]outcome{{Value: "1"}, {}, {Value: "2"}, {Value: 42.0}, {Value: 43.0}, {Value: []any{"a", "b", "n"}}},
			"get:a", "refresh", "get:a", "number:n", "update:n", "keys")
		b.want([]outcome{{Value: 43.0}}, "number:n")

		// Two sockets of one browser count together.
		other, _ := b.open()
		sockets := []*openSocket{socket, other}
		parallel(2, func(i int) {
			for range 20 {
				_, err := sockets[i].ask("inc:both:1")
				noError(t, err)
			}
		})
		b.want([]outcome{{Value: 40.0}}, "number:both")
	})
}

// The answer to the upgrade was the last chance for a cookie: on a stranger's socket a first write is
// refused, and leaves nothing behind.
func TestWebsocketOfStranger(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		site := newSocketSite(t, server)
		socket, upgrade := site.browser().open()
		if upgrade.setsCookie() {
			t.Errorf("Set-Cookie: %q", upgrade.header["Set-Cookie"])
		}
		refused := outcome{Err: "ErrHeadersSent"}
		socket.want([]outcome{{Value: ""}, refused, refused, refused, refused, refused, refused, refused, refused},
			"get:a", "set:a:1", "setmany:a:1", "inc:n:1", "update:n", "note:a:1", "notemany:a:1", "add:info:text", "login:me")
		socket.want([]outcome{{}, {Value: ""}, {Value: []any{}}, {}, {}}, "refresh", "get:a", "keys", "rotate", "destroy")
		equal(t, "keys", 0, server.Size())
	})
}

// A session that is made, or gets a new id, before the upgrade sends its cookie with the 101.
func TestWebsocketSetsCookie(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		site := newSocketSite(t, server)
		b := site.browser()
		socket, upgrade := b.open("set:a:1")
		if upgrade.status != http.StatusSwitchingProtocols || len(upgrade.header["Set-Cookie"]) != 1 {
			t.Errorf("status %d, Set-Cookie %q", upgrade.status, upgrade.header["Set-Cookie"])
		}
		first := b.cookie()
		if first == "" {
			t.Fatal("the browser has no cookie")
		}
		socket.want([]outcome{{Value: "1"}, {}}, "get:a", "set:b:socket")
		b.want([]outcome{{Value: "1"}, {Value: "socket"}}, "get:a", "get:b")

		rotated, _ := b.open("rotate")
		if b.cookie() == first {
			t.Error("the id is the old one")
		}
		rotated.want([]outcome{{}, {Err: "ErrHeadersSent"}}, "set:c:3", "rotate")
		b.want([]outcome{{Value: "3"}}, "get:c")
		wantAnonymous(t, site, first)
	})
}

// After a logout in another tab, an open socket brings nothing back; after a login there it is out of the
// session, too, since its id is the old one.
func TestWebsocketGone(t *testing.T) {
	for _, ending := range []string{"destroy", "rotate", "login:me"} {
		for before, want := range map[string]outcome{"refresh": {}, "get:a": {Value: "before"}, "set:early:x": {}} {
			t.Run(ending+" after the socket's "+before, func(t *testing.T) {
				redistest.Every(t, func(t *testing.T, server *redistest.Server) {
					site := newSocketSite(t, server)
					b := site.browser()
					b.must("set:a:before", "inc:n:1")
					socket, _ := b.open()
					socket.want([]outcome{want}, before)
					b.must(ending)
					gone := outcome{Err: "ErrGone"}
					for _, write := range lateWrites {
						socket.want([]outcome{gone}, write)
					}
					socket.want([]outcome{{}, {Value: ""}, gone}, "refresh", "get:a", "set:a:late")
					if ending == "destroy" {
						wantNothingLeft(t, server)
					} else {
						b.want([]outcome{{Value: "before"}, {Value: 1.0}}, "get:a", "number:n")
					}
				})
			})
		}
	}
}
