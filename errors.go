package pycket

import (
	"errors"
	"strconv"

	"github.com/pycket/pycket/internal/store"
)

// Errors that a caller can act on. Test for them with [errors.Is]: every error of this package names the operation and
// the key, if there is one, and wraps its cause.
var (
	// ErrNotBound is returned by the managers of a mixin that is not bound to a request: its handler was not made by
	// [Handler], [HandlerFunc] or [Bind], or does not embed it.
	ErrNotBound = errors.New("the mixin is not bound to a request: embed it, and serve the handler through pycket.Handler, pycket.HandlerFunc or pycket.Bind, which takes a pointer")

	// ErrNoApp is returned when the request, or the context, did not come through [App.Wrap].
	ErrNoApp = errors.New("the request did not come through App.Wrap: wrap the server's handler")

	// ErrGone is returned by every write to a session that another request has destroyed, rotated or revoked while this
	// one was running, or less than five seconds before it began: the browser may have sent it without knowing. Nothing
	// was written, and the response sets no session cookie. After those five seconds a write starts a fresh session. A
	// Login does so at once if the session was destroyed or revoked before the request began; Destroy then has nothing to
	// do.
	ErrGone = errors.New("the session was ended or given a new id by another request")

	// ErrHeadersSent is returned when a session needs a new cookie and the response's headers are already sent. Nothing
	// was stored.
	ErrHeadersSent = errors.New("the response's headers are already sent, so its cookie cannot be set")

	// ErrTooLarge is returned when a value is larger than Settings.MaxValueBytes, or would make the session larger than
	// Settings.MaxSessionBytes. Nothing was changed.
	ErrTooLarge = store.ErrTooLarge

	// ErrUnavailable is returned when Redis did not answer, or could not carry out the command, within
	// RedisSettings.Timeout. If a write may have been carried out all the same, the message says so. If the caller's
	// context ends earlier, the error is context.Canceled or context.DeadlineExceeded instead.
	ErrUnavailable = store.ErrUnavailable

	// ErrNotReplicated is returned when a write was carried out, and fewer replicas than RedisSettings.WaitReplicas have
	// confirmed within RedisSettings.Timeout that they have it: if the master fails now, it may be lost. All goes on as
	// if the write had returned nil: what is returned besides is right, the cookie is set, and the request reads what it
	// has written. A Lookup of a notification may return it with true, Pop with a value and Drain with messages: they have
	// been taken out, and might be handed out again after a failover.
	ErrNotReplicated = store.ErrNotReplicated

	// ErrMisconfigured is returned, together with ErrUnavailable or ErrNotReplicated, when Redis answers, but pycket can't
	// work with the way it is set up (password, rights, TLS, database), or with a session that a later version of pycket has
	// stored, which is left as it is. Waiting does not help; the message says what does.
	ErrMisconfigured = store.ErrMisconfigured

	// ErrCorrupt is returned when what is stored can't be read: not into the type that was asked for, not by this codec,
	// or because the key holds something of another Redis type. Other names stay readable; Delete and Destroy remove it.
	ErrCorrupt = store.ErrCorrupt

	// ErrReserved is returned for a name that begins with "pycket:". The library keeps its own records under such names.
	ErrReserved = errors.New(`names that begin with "pycket:" are reserved`)
)

// An opError is the form of every error: pycket: <operation> <key>: <cause>.
type opError struct {
	op    string
	name  string
	named bool
	cause error
}

func (e *opError) Error() string {
	if e.named {
		return "pycket: " + e.op + " " + strconv.Quote(e.name) + ": " + e.cause.Error()
	}
	return "pycket: " + e.op + ": " + e.cause.Error()
}

func (e *opError) Unwrap() error { return e.cause }

// failed gives an error the form of this package's errors. It returns nil for nil.
func failed(op string, err error) error {
	if err == nil {
		return nil
	}
	return &opError{op: op, cause: err}
}

// failedOn is failed for an operation on one name.
func failedOn(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return &opError{op, name, true, err}
}
