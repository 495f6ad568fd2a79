package redisconn

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/gomodule/redigo/redis"
)

var (
	// ErrUnavailable means that Redis can't be reached, does not answer in time, or can't carry out the command.
	ErrUnavailable = errors.New("redis is unavailable")

	// ErrMisconfigured comes with ErrUnavailable or ErrNotReplicated if Redis answers, and its configuration, or the application's, must
	// change.
	ErrMisconfigured = errors.New("wrong configuration")

	// ErrWrongType means that a key holds a value of another Redis type.
	ErrWrongType = errors.New("the key holds a value of another Redis type")

	// ErrNotReplicated means that a command was carried out, and fewer replicas than it asked for have said in time that
	// they have what it has written: see [Command.Replicate]. The reply is there.
	ErrNotReplicated = errors.New("redis has carried out the write, and too few replicas have confirmed it in time")

	errClosed   = errors.New("the connections are closed")
	errProtocol = errors.New("redis: the reply is malformed")
)

// A Refusal says that Redis takes no writes at present: it is a replica, or full, or can't save, or has lost its
// replicas. Nothing was changed: Redis does not refuse a script that has written.
type Refusal struct{ cause error }

func (r Refusal) Error() string { return r.cause.Error() }
func (r Refusal) Unwrap() error { return r.cause }

// unavailable marks a cause as ErrUnavailable, and also as ErrMisconfigured if a configuration must change. It adds what
// to do, if that is known.
func unavailable(cause error) error {
	if advice := adviceFor(cause); advice != "" {
		return fmt.Errorf("%w: %w: %w; %s", ErrUnavailable, ErrMisconfigured, cause, advice)
	}
	if advice := adviceIfItLasts(cause); advice != "" {
		return fmt.Errorf("%w: %w; %s", ErrUnavailable, cause, advice)
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, cause)
}

// adviceIfItLasts says what to do about an error that may pass by itself. It returns "" for most.
func adviceIfItLasts(err error) string {
	if errors.Is(err, syscall.ECONNREFUSED) {
		return "no server listens there: start it, or correct the address in the settings"
	}
	if refused := new(Refusal); errors.As(err, refused) {
		return adviceOnWrites(refused.Error())
	}
	return ""
}

// adviceOnWrites says what to do about a [Refusal]. It returns "" for any other error of Redis. Before Redis 7, the
// script's line precedes the code.
func adviceOnWrites(text string) string {
	for _, known := range []struct{ code, advice string }{
		{"READONLY ", "it is a replica, which takes no writes: put the master in Redis.URL"},
		{"OOM ", "it is full: raise its maxmemory, or delete other data"},
		{"MISCONF ", "it can't save to its disk and refuses writes until it can: its log says what to fix"},
		{"NOREPLICAS ", "it has fewer replicas than it wants: bring them back, or lower its min-replicas-to-write"},
	} {
		if strings.HasPrefix(text, known.code) || strings.Contains(text, "-"+known.code) {
			return known.advice
		}
	}
	return ""
}

// better returns the error of two that says what must change, the first if that does not tell them apart. The first may
// be nil.
func better(first, second error) error {
	if first == nil || adviceFor(first) == "" && adviceFor(second) != "" {
		return second
	}
	return first
}

// errOwnLimit is the cause of contexts that end with the timeout, not by the caller.
var errOwnLimit = errors.New("the timeout has passed")

// unconfirmed is the error of a command that was carried out, and whose WAIT was refused.
func unconfirmed(refused redis.Error) error {
	err := withoutArgs(refused)
	if advice := adviceFor(err); advice != "" {
		return fmt.Errorf("%w: %w: %w; %s", ErrNotReplicated, ErrMisconfigured, err, advice)
	}
	return fmt.Errorf("%w: %w", ErrNotReplicated, err)
}

// failure marks an error as ErrUnavailable, unless it is that of the caller's context: then Redis is not to blame.
func failure(ctx context.Context, err error) error {
	if ended := ctx.Err(); ended != nil && errors.Is(err, ended) && context.Cause(ctx) != errOwnLimit {
		return err
	}
	return unavailable(err)
}

// outcome returns the error of a command: err, or what its replies say.
func (c *Command) outcome(ctx context.Context, r *Replies, err error) error {
	if err == nil {
		return r.err(c.replies)
	}
	if errors.Is(err, ErrNotReplicated) {
		return err
	}
	if errors.As(err, new(*brokenError)) && !c.repeatable {
		err = fmt.Errorf("the command may have been carried out: %w", err)
	}
	return failure(ctx, err)
}

// A brokenError says that a connection broke under a command, which may have been carried out or not.
type brokenError struct {
	cause  error
	reused bool // the connection had carried out commands before
}

func (e *brokenError) Error() string { return e.cause.Error() }
func (e *brokenError) Unwrap() error { return e.cause }

// A sentinelError is what asking a sentinel has failed with.
type sentinelError struct {
	address string
	cause   error
}

func (e *sentinelError) Error() string {
	return "the sentinel at " + e.address + ": " + e.cause.Error()
}
func (e *sentinelError) Unwrap() error { return e.cause }

// timedOut reports whether the deadline of a connection or of connecting has passed.
func timedOut(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded)
}

// withoutArgs cuts the end of "unknown command …, with args beginning with: …": the args may be a password, or what
// was to be stored.
func withoutArgs(err error) error {
	if err == nil {
		return nil
	}
	if text, _, cut := strings.Cut(err.Error(), ", with args"); cut {
		return redis.Error(text)
	}
	return err
}

// isAlert reports whether either side has rejected what the other offered for TLS.
func isAlert(err error) bool {
	var refused *net.OpError
	return errors.As(err, &refused) && (refused.Op == "remote error" || refused.Op == "local error")
}

// adviceFor says what to do about an error that comes from how Redis, or the application, is configured. It returns ""
// for any other.
func adviceFor(err error) string {
	table, settings := refusals, "Redis.TLS"
	if errors.As(err, new(*sentinelError)) {
		table, settings = refusalsOfSentinels, "Redis.Sentinel.TLS"
	}
	var refused redis.Error
	if errors.As(err, &refused) {
		for _, known := range table {
			if strings.Contains(string(refused), known.text) {
				return known.advice
			}
		}
		return ""
	}
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var certificate *tls.CertificateVerificationError
	var noTLS tls.RecordHeaderError
	switch {
	case (errors.Is(err, errPlain) || errors.As(err, &noTLS)) && settings == "Redis.TLS":
		return "use redis:// instead of rediss:// in Redis.URL, without Redis.TLS, or the port on which the server speaks TLS"
	case errors.Is(err, errPlain), errors.As(err, &noTLS):
		return "leave Redis.Sentinel.TLS nil, or name the port on which the sentinel speaks TLS"
	case errors.As(err, &unknown):
		return "put the CA of the server's certificate into the RootCAs of " + settings + ", or add it to those that this machine trusts"
	case errors.As(err, &name) && settings == "Redis.TLS":
		return "use a name in the server's certificate as the ServerName of Redis.TLS or, without sentinels and cluster, as the host in Redis.URL"
	case errors.As(err, &name):
		return "use a name in the sentinel's certificate as the host in Redis.Sentinel.Addresses, or as the ServerName of Redis.Sentinel.TLS"
	case errors.As(err, &certificate):
		return "give the server a valid certificate"
	case isAlert(err):
		return "give " + settings + " a client certificate that the server trusts and a version of TLS that it speaks, or let it ask for none (tls-auth-clients no)"
	}
	return ""
}

// refusals are the errors of Redis that come from its configuration or the application's.
var refusals = []struct{ text, advice string }{
	{"WRONGPASS", adviceOnPassword},
	{"NOAUTH", adviceOnPassword},
	{"invalid password", adviceOnPassword},
	{"unauthenticated", adviceOnPassword}, // to a large command
	{"AUTH <password> called", "leave the password out of Redis.URL, or add its user, as in redis://user:password@host: the server asks for none"},
	{"no password is set", "leave the password out of Redis.URL: the server asks for none"},
	{"NOPERM", adviceOnRights},
	{"ACL failure in script", adviceOnRights},
	{"The user executing the script can't", adviceOnRights},
	{"DENIED", "give the server a password (requirepass) and put it into Redis.URL, or bind it to an address that only this application reaches"},
	{"DB index is out of range", adviceOnDatabase},
	{"invalid DB index", adviceOnDatabase},
	{"SELECT is not allowed in cluster mode", "name the servers of the cluster in Redis.Cluster"},
	{"cluster support disabled", "leave Redis.Cluster empty, and name the server in Redis.URL"},
}

// refusalsOfSentinels are the errors of sentinels that come from configuration.
var refusalsOfSentinels = []struct{ text, advice string }{
	{"No such master with that name", "use the name that the sentinels' configuration gives the master for Redis.Sentinel.Master"},
	{"WRONGPASS", adviceOnSentinelPassword},
	{"NOAUTH", adviceOnSentinelPassword},
	{"invalid password", adviceOnSentinelPassword},
	{"unauthenticated", adviceOnSentinelPassword},
	{"AUTH <password> called", "leave Redis.Sentinel.Password empty, or set Redis.Sentinel.User too: the sentinels ask for no password of the default user"},
	{"no password is set", "leave Redis.Sentinel.Password empty: the sentinels ask for none"},
	{"NOPERM", "allow the user in Redis.Sentinel.User the command SENTINEL, with ACL SETUSER on every sentinel"},
	{"DENIED", "give the sentinels a password (requirepass) and put it into Redis.Sentinel.Password, or let them run with protected-mode no"},
	{"unknown command", "name sentinels in Redis.Sentinel.Addresses, whose port is 26379 by default: this is another server"},
}

const (
	adviceOnSentinelPassword = "use the sentinels' own user and password in Redis.Sentinel.User and Redis.Sentinel.Password" // #nosec G101 -- no secret

	adviceOnPassword = "use the server's user and password in Redis.URL, as in redis://user:password@host" // #nosec G101 -- an example
	adviceOnDatabase = "use databases that the server has for Redis.DBSessions and Redis.DBNotifications: 0 for both if it has only one"
	adviceOnRights   = "give the user in Redis.URL the rights that docs/operations.md lists, on the keys under Redis.Prefix, with ACL SETUSER"
)
