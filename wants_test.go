package pycket_test

// What tests of all files want, in a line each. What they are made of is in harness_test.go.

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pycket/pycket"
	"github.com/pycket/pycket/internal/redistest"
)

// require ends the test if there is an error, since what follows makes no sense then.
func require(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantGet reads a value, or takes a notification, and compares.
func wantGet[T any](t *testing.T, m pycket.Manager, name string, want T) {
	t.Helper()
	var fallback T
	got, err := pycket.Get(m, name, fallback)
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%q: %v (-want +got):\n%s", name, err, diff)
	}
}

// wantSessions wants a user to have so many sessions.
func wantSessions(t *testing.T, site *site, user string, want int) {
	t.Helper()
	if infos := list(t, site, user); len(infos) != want {
		t.Errorf("%s has %d sessions, want %d: %v", user, len(infos), want, infos)
	}
}

// fetch gets a path with these lines in the request's header. It may be called by any goroutine.
func (b *browser) fetch(path string, lines ...string) (answer, error) {
	r, err := http.NewRequest("GET", b.base.String()+path, nil)
	if err != nil {
		return answer{}, err
	}
	for _, line := range lines {
		switch name, value, _ := strings.Cut(line, ": "); name {
		case "":
		case "Host":
			r.Host = value
		default:
			r.Header.Add(name, value)
		}
	}
	return b.send(r)
}

// logged is a site whose log is read.
func logged(t *testing.T, s pycket.Settings) (*journal, *site) {
	t.Helper()
	log, logger := newJournal()
	s.Logger = logger
	return log, newSite(t, s)
}

// wantRevoked ends a user's sessions, but for those with the handles given, and wants so many to have ended.
func wantRevoked(t *testing.T, site *site, want int, user string, except ...string) {
	t.Helper()
	if n, err := site.app.RevokeUser(t.Context(), user, except...); n != want || err != nil {
		t.Errorf("%d sessions of %s were ended, want %d: %v", n, user, want, err)
	}
}

// wantNothingStored wants a visit to have made no session.
func wantNothingStored(t *testing.T, server *redistest.Server, a answer) {
	t.Helper()
	if a.setsCookie() || server.Size() != 0 {
		t.Errorf("Set-Cookie: %q, %d keys are stored", a.header["Set-Cookie"], server.Size())
	}
}

// wantWithin wants less time to have passed than a bound that is far from what the operation takes.
func wantWithin(t *testing.T, began time.Time, most time.Duration) {
	t.Helper()
	if took := time.Since(began); took > most {
		t.Errorf("it has taken %v, want up to %v", took, most)
	}
}
