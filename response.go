package pycket

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pycket/pycket/internal/stats"
	"github.com/pycket/pycket/internal/store"
)

// A response is the writer that handlers get: the server's own, except that the session's headers are added just before
// the headers are sent. Informational responses (1xx) are passed on and don't count.
type response struct {
	http.ResponseWriter
	request   *request
	committed atomic.Bool // the headers are sent
}

func (w *response) owner() *request { return w.request }

// Unwrap is for http.ResponseController.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// commit adds the session's headers, once, and reports whether it has changed the browser's cookie. It waits for the
// operations that began before it, which may need a cookie. Each is over when Timeout has passed since it began, its own
// wait included, and the lock is handed on in their order: so the headers need not choose between a response that hangs
// and a session whose cookie is not sent. Operations that begin after it find the headers sent.
func (w *response) commit() (cookie bool) {
	if w.committed.Load() {
		return false
	}
	q := w.request
	c := call{app: q.app, ctx: q.Context, kind: stats.Cookie, began: time.Now()}
	op := operation{request: q, ctx: q.Context, began: store.Began{At: c.began, Trips: &q.trips}}
	q.lock.Lock()
	defer func() {
		op.end(&c)
		c.renewed(op.err)
	}()
	if w.committed.Load() {
		return false
	}
	op.headers(w.ResponseWriter.Header())
	w.committed.Store(true)
	return q.cookie != keepCookie
}

// headers adds the session's headers.
func (op *operation) headers(h http.Header) {
	if !op.touched {
		return
	}
	addVary(h)
	if op.cookie == keepCookie && op.due() {
		op.cookie = setCookie
	}
	if op.cookie == setCookie && op.lifetime == asStored {
		var idle []byte
		idle, op.err = op.value(store.IdleField) // which may find that the session has ended
		ms, _ := strconv.ParseInt(string(idle), 10, 64)
		op.lifetime = op.lifetimeFor(time.Duration(ms) * time.Millisecond)
	}
	var line string
	switch op.cookie {
	case keepCookie:
		return
	case setCookie:
		var err error
		if line, err = op.app.cookies.set(op.http, op.id, op.lifetime); err != nil {
			op.app.logger.Error("pycket: the session's cookie cannot be made", "error", err)
			return
		}
		if op.app.cookies.dropped(op.http) {
			op.app.warnings.Plain()
		}
	case deleteCookie:
		line = op.app.cookies.delete(op.http)
	}
	if op.clears && op.app.settings.Cookies.ClearSiteData {
		// Caches and what scripts have stored (https://www.w3.org/TR/clear-site-data/). Not cookies: one may be set here.
		h.Set("Clear-Site-Data", `"cache", "storage"`)
	}
	h.Add("Set-Cookie", line)
	forbidSharedCaching(h)
}

// lifetimeFor returns how long a cookie lasts, in seconds, if Remember has set the idle timeout, 0 for none.
func (q *request) lifetimeFor(idle time.Duration) int64 {
	if idle == 0 {
		return q.app.cookies.lifetime
	}
	return int64(idle.Seconds())
}

// due reports whether the browser should be given its cookie again: Remember has changed its lifetime, or more than a
// tenth of that has passed. The session was found alive, but another request may have rotated it since, and the new
// cookie must not be replaced, so due asks Redis once more. Nor must the newer cookie of another session be replaced:
// see dead.
func (op *operation) due() bool {
	if op.state != alive || op.id == nil {
		return false
	}
	renew := op.renew
	age := time.Now().Unix() - op.issued // negative if this server's clock was set back
	if !renew && (op.late || op.lifetime == 0 || max(age, -age) <= op.lifetime/10) {
		return false
	}
	o, err := op.app.store.Check(op.ctx, op.began, op.id)
	still := err == nil && op.settle(o)
	if op.trying { // this request has rotated it, and the answer was lost
		o, err = op.app.store.Check(op.ctx, op.began, op.id)
		still = err == nil && op.settle(o)
	}
	op.err = err
	if err == nil && o.State == store.Rotated {
		err = errors.New("another request has given the session a new id meanwhile, whose cookie must stay")
	}
	if renew && err != nil && !errors.Is(err, context.Canceled) { // then no browser is waiting
		op.app.warnings.Forgotten(err)
	}
	return still
}

func addVary(h http.Header) {
	for _, line := range h["Vary"] {
		for field := range strings.SplitSeq(line, ",") {
			if field = strings.TrimSpace(field); field == "*" || strings.EqualFold(field, "Cookie") {
				return
			}
		}
	}
	h.Add("Vary", "Cookie")
}

// forbidSharedCaching keeps a response that carries a cookie out of every cache but the browser's. It keeps what the
// handler has set if that has no-store or private.
func forbidSharedCaching(h http.Header) {
	for _, line := range h["Cache-Control"] {
		for directive := range strings.SplitSeq(line, ",") {
			switch strings.ToLower(strings.TrimSpace(directive)) {
			case "no-store", "private":
				return
			}
		}
	}
	h.Set("Cache-Control", "private, no-store")
}

func (w *response) WriteHeader(status int) {
	if status >= 200 || status == http.StatusSwitchingProtocols {
		w.commit()
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *response) Write(p []byte) (int, error) {
	w.commit()
	return w.ResponseWriter.Write(p)
}

func (w *response) WriteString(s string) (int, error) {
	w.commit()
	return io.WriteString(w.ResponseWriter, s)
}

func (w *response) flush() {
	w.commit()
	w.ResponseWriter.(http.Flusher).Flush()
}

// FlushError is what http.ResponseController calls before it looks further down.
func (w *response) FlushError() error {
	if canFlush(w.ResponseWriter) {
		w.commit()
	}
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// canFlush reports whether http.ResponseController can flush w. If it can't, it sends no headers.
func canFlush(w http.ResponseWriter) bool {
	for {
		if own, ok := w.(interface{ owner() *request }); ok { // of another App, which has FlushError in any case
			w = own.owner().ResponseWriter
			continue
		}
		switch v := w.(type) {
		case http.Flusher, interface{ FlushError() error }:
			return true
		case interface{ Unwrap() http.ResponseWriter }:
			w = v.Unwrap()
		default:
			return false
		}
	}
}

// hijack warns if the session has a new cookie, which the handler would have to send itself, from Header. A handler
// that has called WriteHeader, as websocket libraries should, has sent it. If hijack fails, the handler may still
// respond as usual.
func (w *response) hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffer, err := w.ResponseWriter.(http.Hijacker).Hijack()
	if err == nil && w.commit() {
		w.request.app.logger.Warn("pycket: a connection was hijacked before the session's new cookie was sent: call WriteHeader first, or send Header()'s Set-Cookie")
	}
	return conn, buffer, err
}

func (w *response) readFrom(r io.Reader) (int64, error) {
	w.commit()
	return w.ResponseWriter.(io.ReaderFrom).ReadFrom(r)
}

func (w *response) push(target string, options *http.PushOptions) error {
	return w.ResponseWriter.(http.Pusher).Push(target, options)
}

// A handler finds out what its writer can do by asserting interfaces, so the writer must have exactly those of the
// server's. These types have the sets that net/http's writers and common middleware have. For any other set the writer
// has a subset, and http.ResponseController reaches the rest. They are the request itself with other method sets, and
// cost no allocation.
type (
	plainWriter     request
	flushWriter     request // httptest.ResponseRecorder, most middleware
	hijackWriter    request
	flushHijacker   request
	http1Writer     request // net/http, HTTP/1.x: sendfile by ReadFrom
	http2Writer     request // net/http, HTTP/2
	flushReadWriter request
)

func (w *flushWriter) Flush()     { w.flush() }
func (w *flushHijacker) Flush()   { w.flush() }
func (w *http1Writer) Flush()     { w.flush() }
func (w *http2Writer) Flush()     { w.flush() }
func (w *flushReadWriter) Flush() { w.flush() }

func (w *hijackWriter) Hijack() (net.Conn, *bufio.ReadWriter, error)  { return w.hijack() }
func (w *flushHijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) { return w.hijack() }
func (w *http1Writer) Hijack() (net.Conn, *bufio.ReadWriter, error)   { return w.hijack() }

func (w *http1Writer) ReadFrom(r io.Reader) (int64, error)     { return w.readFrom(r) }
func (w *flushReadWriter) ReadFrom(r io.Reader) (int64, error) { return w.readFrom(r) }

func (w *http2Writer) Push(target string, options *http.PushOptions) error {
	return w.push(target, options)
}

// writer returns the request's writer for handlers.
func (q *request) writer() http.ResponseWriter {
	_, flush := q.ResponseWriter.(http.Flusher)
	_, hijack := q.ResponseWriter.(http.Hijacker)
	_, readFrom := q.ResponseWriter.(io.ReaderFrom)
	_, push := q.ResponseWriter.(http.Pusher)
	switch {
	case flush && hijack && readFrom:
		return (*http1Writer)(q)
	case flush && push:
		return (*http2Writer)(q)
	case flush && hijack:
		return (*flushHijacker)(q)
	case flush && readFrom:
		return (*flushReadWriter)(q)
	case flush:
		return (*flushWriter)(q)
	case hijack:
		return (*hijackWriter)(q)
	}
	return (*plainWriter)(q)
}
