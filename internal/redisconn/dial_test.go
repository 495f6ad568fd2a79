//go:build unix

package redisconn

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/pycket/pycket/internal/redistest"
)

// dial carries out a command on a connection that is new.
func dial(t *testing.T, target Target, c *Command) (Reply, error) {
	t.Helper()
	target.Network = "tcp"
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	own, err := target.Dial(ctx)
	if err != nil {
		return Reply{}, err
	}
	defer own.Close()
	if own.(*conn).reused {
		t.Error("a new connection counts as used")
	}
	r, err := own.(*conn).carryOut(time.Now().Add(3*time.Second), c)
	if err == nil {
		err = r.err(c.replies)
	}
	return r[0], err
}

// The server is greeted with the password, or the user and the password, and both databases.
func TestGreeting(t *testing.T) {
	server := redistest.Start(t, "--databases", "3", "--requirepass", "word", "--user", "ann", "on", ">secret", "~*", "+@all")
	for _, test := range []struct {
		target Target
		want   string // of the error, if there is one
	}{
		{Target{Password: "word"}, ""},
		{Target{Username: "ann", Password: "secret"}, ""},
		{Target{Password: "word", Database: 2}, ""},
		{Target{Password: "word", Database: 2, Other: 1}, ""},
		{Target{Password: "word", Database: 0, Other: 2}, ""},
		{Target{Password: "word", Database: 3}, "Redis.DBSessions, or the path of Redis.URL, is 3, and Redis refuses that database"},
		{Target{Password: "word", Other: 3}, "Redis.DBNotifications is 3, and Redis refuses that database"},
		{Target{Password: "word", Database: 3, Other: 2}, "Redis.DBSessions, or the path of Redis.URL, is 3"},
		{Target{Password: "wrong", Other: 1}, "WRONGPASS"},
		{Target{Username: "ann", Password: "word", Other: 1}, "WRONGPASS"},
		{Target{Other: 1}, "NOAUTH"},
	} {
		test.target.Address = server.Addr
		list := NewCommand("", 2, "CLIENT")
		list.String("INFO")
		r, err := dial(t, test.target, list)
		if test.want != "" {
			if err == nil || !strings.HasPrefix(err.Error(), test.want) || errors.As(err, new(*brokenError)) {
				t.Errorf("%+v: %v", test.target, err)
			}
			continue
		}
		if want := " db=" + string(rune('0'+test.target.Database)) + " "; err != nil || !strings.Contains(string(r.Value()), want) {
			t.Errorf("%+v: %s, %v", test.target, r.Value(), err)
		}
	}
}

// A server may refuse a connection and close it, or not answer at all.
func TestGreetingFails(t *testing.T) {
	full := redistest.FakeConn(t, func(c net.Conn, _ []string) {
		io.WriteString(c, "-ERR max number of clients reached\r\n")
		c.Close()
	})
	if _, err := dial(t, Target{Address: full, Password: "word", Other: 1}, ping()); err == nil || !strings.Contains(err.Error(), "max number of clients") {
		t.Error(err)
	}
	// An old server repeats the arguments of what it does not know.
	old := redistest.Fake(t, func(words []string) string {
		return "-ERR unknown command `AUTH`, with args beginning with: `" + words[1] + "`\r\n"
	})
	if _, err := dial(t, Target{Address: old, Password: "word"}, ping()); err == nil || strings.Contains(err.Error(), "word") {
		t.Error(err)
	}
	silent := redistest.Fake(t, func([]string) string { return "" })
	s := newServer(t, Target{Address: silent, Other: 1}, 4, 200*time.Millisecond)
	began := time.Now()
	if _, err := s.Do(t.Context(), began, ping()); !errors.Is(err, ErrUnavailable) || strings.Contains(err.Error(), "carried out") {
		t.Error(err)
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("it took %v", took)
	}
}

// A server that does not speak TLS is found out long before the deadline.
func TestPlainServer(t *testing.T) {
	server := redistest.Start(t)
	s := newServer(t, Target{Address: server.Addr, TLS: new(tls.Config)}, 4, 20*time.Second)
	began := time.Now()
	if _, err := s.Do(t.Context(), began, ping()); !errors.Is(err, ErrMisconfigured) || !errors.Is(err, errPlain) {
		t.Error(err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
}
