package store

import (
	"errors"
	"fmt"
	"time"

	"github.com/pycket/pycket/internal/redisconn"
)

// A State is what an operation has found of the session that an id names.
type State int

const (
	// Alive means that the id opened the session, or began it, and the operation was carried out.
	Alive State = iota

	// Expired means that there is no such session, and no trace of one.
	Expired

	// Destroyed means that the session was ended, by Destroy or a revoke.
	Destroyed

	// Rotated means that the session has another id.
	Rotated

	// Taken means that the id of a new session is in use.
	Taken
)

// An Outcome is the state of a session and, if it was Destroyed or Rotated, how long ago that was by Redis's
// clock, and the token that Destroy was given.
type Outcome struct {
	State State
	Ago   time.Duration
	Token string

	// Unconfirmed is ErrNotReplicated, with its cause, if what was written may be lost with the master, or what Destroy
	// or Revoke has found may be only the word of a master that was replaced.
	Unconfirmed error
}

// Errors that a caller can act on.
var (
	// ErrUnavailable and ErrMisconfigured are those of package redisconn.
	ErrUnavailable   = redisconn.ErrUnavailable
	ErrMisconfigured = redisconn.ErrMisconfigured

	// ErrNotReplicated means that a write was carried out, and too few replicas have confirmed it in time.
	ErrNotReplicated = redisconn.ErrNotReplicated

	// ErrTooLarge means that the session would become larger than MaxSessionBytes. Nothing was changed.
	ErrTooLarge = errors.New("too large")

	// ErrNotNumber means that there is no whole number to add to, or that the sum does not fit. Nothing was changed.
	ErrNotNumber = errors.New("what is stored is not a whole number, or the sum does not fit 64 bits")

	// ErrCorrupt means that a key holds what pycket has not written.
	ErrCorrupt = errors.New("what is stored cannot be read")
)

// A Refusal is that of package redisconn: an error of a Redis that takes no writes.
type Refusal = redisconn.Refusal

// ErrMalformed means that a script has returned what no script should, or that the network has changed it.
var ErrMalformed = fmt.Errorf("%w: a script has run, and returned a malformed answer", ErrUnavailable)

// errLater means that a session's layout is a later one. Nothing was changed: see docs/storage.md.
var errLater = fmt.Errorf("%w: %w: a later version of pycket has stored the session; run that version", ErrUnavailable, ErrMisconfigured)

// mapped turns errors of the connections into this package's own.
func mapped(err error) error {
	if errors.Is(err, redisconn.ErrWrongType) {
		return fmt.Errorf("%w: %w, which is not pycket's: use another Prefix or database", ErrCorrupt, err)
	}
	return err
}
