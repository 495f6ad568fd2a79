package pycket

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// response is the writer that handlers get: the server's own, but that the session's headers are added
// at the moment the headers are sent. Informational answers (1xx) are passed on; they don't count.
type response struct {
	http.ResponseWriter
	request   *request
	committed atomic.Bool // the headers are sent
}

func (w *response) owner() *request { return w.request }

// Unwrap is for http.ResponseController.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// commit adds the session's headers, once. It waits for the operations that began before it: they may be about
// to need a cookie. That is no longer than Timeout: see queueLock. Those that begin after it find the headers sent.
// It reports whether it has changed the browser's cookie.
func (w *response) commit() (cookie bool) {
	if w.committed.Load() {
		return false
	}
	q, began := w.request, time.Now()
	q.mu.Lock()
	defer q.mu.Unlock()
	if w.committed.Load() {
		return false
	}
	q.current = operation{q.Context, began}
	q.headers(w.ResponseWriter.Header())
	w.committed.Store(true)
	return q.cookie != keepCookie
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

// canFlush reports whether http.ResponseController has something to flush w by. If it has not, no headers are
// sent.
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

// hijack warns of a session whose cookie the handler would have to send itself, from Header: after
// WriteHeader, as websocket libraries should call it first, there is none. If it fails, the handler may still
// answer as others do.
func (w *response) hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffer, err := w.ResponseWriter.(http.Hijacker).Hijack()
	if err == nil && w.commit() {
		w.request.app.logger.Warn("pycket: a connection is hijacked before the session's new cookie was sent: call WriteHeader first, or send Header()'s Set-Cookie")
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

// A handler finds out what its writer can do by asserting interfaces, so the writer must have exactly
// those of the server's. These are the sets that net/http's writers and common middleware have; of
// another set, a subset is offered and http.ResponseController reaches the rest. They are the request
// itself under other method sets, and cost no allocation.
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

// writer is the request's writer for handlers.
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
