package pycket

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// ping tries on every server that has slots what the operations do there: in two round trips, by EVAL and by
// EVALSHA, as operations come to need both. It leaves nothing.
func (st *store) ping(ctx context.Context) error {
	began := time.Now()
	probes, err := st.redis.probes(ctx, began)
	if err != nil {
		return advised(err)
	}
	for _, at := range probes {
		key := st.session(at.tag)
		r, err := st.redis.do(ctx, began, true, key, "EVAL", st.probe.source, 1, key, "1")
		v := verdict(r.number)
		if err == nil && v == done {
			v, _, err = st.eval(ctx, began, &st.probe, key, "2", nil)
		}
		if err == nil && v != done {
			err = errMalformed
		}
		if err != nil && at.server != "" {
			err = fmt.Errorf("%s: %w", at.server, err)
		}
		if err != nil {
			return advised(err)
		}
	}
	return nil
}

// A probe is a server to try, and a tag whose keys lie there.
type probe struct {
	tag    string
	server string // of a cluster
}

// advised adds to an error what to do about it, where Redis has said enough to know.
func advised(err error) error {
	if what := advice(err.Error()); what != "" && !errors.Is(err, ErrMisconfigured) { // which has it
		return fmt.Errorf("%w: %s", err, what)
	}
	return err
}

// advice says what to do about what Redis says, "" if that needs none or tells too little.
func advice(text string) string {
	for _, known := range []struct{ says, advice string }{
		{"READONLY", "it is a replica, which takes no writes; let Redis.URL lead to the master"},
		{"OOM command", "it is full; raise its maxmemory, or delete what else it holds"},
		{"MISCONF", "it can't save to its disk and refuses writes until it can; mend the disk or the permissions, which its log tells of"},
		{"NOREPLICAS", "it has fewer replicas than it is told to want; bring them back, or lower its min-replicas-to-write"},
		{"NOPERM", noRights},
		{"The user executing the script", noRights}, // in place of NOPERM, in scripts, in Redis 7
		{"WRONGPASS", "mend the user and password in Redis.URL"},
		{"NOAUTH", "Redis wants a password; put it into Redis.URL, as in redis://user:password@host"},
		{"older than 6.2", "use Redis 6.2 or later, or Valkey"},
		{"ACL failure in script", noRights}, // and in later ones
		{"nknown command", noCommand},
		{"nknown Redis command", noCommand}, // in scripts
	} {
		if strings.Contains(text, known.says) {
			return known.advice
		}
	}
	if strings.Contains(text, "DB index") {
		if strings.Contains(text, ": SELECT") { // by the script; the other is selected when a connection is made
			return "Redis.DBNotifications is a database that it does not have; set it to that of the sessions, which may be the same, or raise its setting databases"
		}
		return "Redis.DBSessions, or the database in Redis.URL, is one that it does not have; use another, or raise its setting databases"
	}
	return ""
}

const (
	noRights  = "its user lacks a right; give the user in Redis.URL those that docs/settings.md lists, by ACL SETUSER"
	noCommand = "it lacks a command that pycket needs; take the rename-command out of its configuration, or use another server"
)
