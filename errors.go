package pycket

import (
	"errors"
	"fmt"
	"strconv"
)

// What a caller may want to decide on. Test for them with [errors.Is]; every error of this package
// names the operation and, where there is one, the key, and wraps its cause.
var (
	// ErrNotBound is returned by the managers of a mixin that nothing bound to a request: the handler
	// was not made by [Handler], [HandlerFunc] or [Bind], or does not embed the mixin.
	ErrNotBound = errors.New("the mixin is not bound to a request: embed it, and serve the handler through pycket.Handler, pycket.HandlerFunc or pycket.Bind, which takes a pointer")

	// ErrNoApp is returned when the request did not come through [App.Wrap].
	ErrNoApp = errors.New("the request did not come through App.Wrap: wrap the server's handler")

	// ErrGone is returned by every write to a session that was destroyed, rotated or revoked by
	// somebody else while this request was running, or less than five seconds before it began: until then the
	// browser may have sent it without knowing. Nothing was written, and the response sets no session cookie.
	// After those five seconds a write starts a fresh session. A Login does at once, if the session was
	// destroyed or revoked before the request began; Destroy then has nothing to do.
	ErrGone = errors.New("the session was ended or given a new id by another request")

	// ErrHeadersSent is returned when a session would need a new cookie and the response's headers are
	// already gone. Nothing was stored.
	ErrHeadersSent = errors.New("the response's headers are already sent, so its cookie cannot be set")

	// ErrTooLarge is returned when a value is larger than Settings.MaxValueBytes or would make the
	// session larger than Settings.MaxSessionBytes. Nothing was changed.
	ErrTooLarge = errors.New("too large")

	// ErrUnavailable is returned when Redis did not answer, or could not carry out the command, within
	// RedisSettings.Timeout. Where a write may have been carried out all the same, the message says so. A context
	// of the caller's that ends before is no outage: the error is then context.Canceled or
	// context.DeadlineExceeded, and not this one.
	ErrUnavailable = errors.New("redis is unavailable")

	// ErrMisconfigured is returned, together with ErrUnavailable, when Redis is there and set up in a way that
	// pycket can't work with: password, rights, TLS, database. Waiting does not help; the message says what
	// does.
	ErrMisconfigured = errors.New("redis is not set up for this")

	// ErrCorrupt is returned when what stands in Redis cannot be read: not into the type that was asked
	// for, not by this codec, or because the key holds something of another Redis type. Other names stay
	// readable; Delete and Destroy get out of it.
	ErrCorrupt = errors.New("what is stored cannot be read")

	// ErrReserved is returned for a name that begins with "pycket:"; the library keeps its own records
	// under such names.
	ErrReserved = errors.New(`names that begin with "pycket:" are reserved`)
)

// opError is the form of every error: pycket: <operation> <key>: <cause>.
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

// failed gives err the form of this package's errors, once.
func failed(op string, err error) error {
	if err == nil {
		return nil
	}
	return made(op, "", false, err)
}

// failedOn is failed for an operation on one name.
func failedOn(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return made(op, name, true, err)
}

// madeError and metValue are nil but in tests. Those see by them every error that is made, and every value
// that was encoded or is about to be decoded, so that none of the ones repeats any of the others: see
// silence_test.go.
var (
	madeError func(*opError)
	metValue  func(value any, data []byte)
)

//go:noinline
func made(op, name string, named bool, cause error) error { // apart, so that success costs no call
	err := &opError{op, name, named, cause}
	if madeError != nil {
		madeError(err)
	}
	return err
}

// unavailable marks a cause as ErrUnavailable, and one that will not pass by itself as ErrMisconfigured too.
func unavailable(cause error) error {
	if advice := adviceFor(cause); advice != "" {
		return fmt.Errorf("%w: %w: %w; %s", ErrUnavailable, ErrMisconfigured, cause, advice)
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, cause)
}
