package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/coder/websocket"

	"github.com/pycket/pycket"
)

// Events streams server-sent events to a user, one a tick, until they log out anywhere or their session is revoked.
type Events struct {
	pycket.SessionMixin
	Ticks <-chan time.Time
}

func (h *Events) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	for {
		h.Session().Refresh()
		user, err := h.Session().User()
		if err != nil || user == "" {
			return // logged out, revoked, or Redis is down: the browser connects again
		}
		fmt.Fprintf(w, "data: hello %s\n\n", user)
		if http.NewResponseController(w).Flush() != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-h.Ticks:
		}
	}
}

// Socket stores what a websocket says.
type Socket struct{ pycket.SessionMixin }

func (h *Socket) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	session := h.Session()
	if _, err := session.Increment("sockets", 1); err != nil { // begins the session if there is none
		sorry(w, err)
		return
	}
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return // Accept has answered
	}
	defer conn.CloseNow()
	ctx := context.WithoutCancel(r.Context()) // the request's ends with the upgrade
	session = session.WithContext(ctx)
	for {
		_, message, err := conn.Read(ctx)
		if err != nil {
			return
		}
		if err := session.Set("last", string(message)); err != nil { // ErrGone after a logout elsewhere
			conn.Close(websocket.StatusPolicyViolation, "please log in again")
			return
		}
		if err := conn.Write(ctx, websocket.MessageText, []byte("stored")); err != nil {
			return
		}
	}
}
