package pycket_test

import (
	"errors"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pycket/pycket"
	"github.com/pycket/pycket/internal/redistest"
)

// unreadable is a type that nothing can be read into. It calls a function first.
type unreadable struct{}

var beforeUnreadable func()

func (*unreadable) UnmarshalJSON([]byte) error {
	beforeUnreadable()
	return errors.New("unreadable")
}

// A notification that cannot be read is put back, though the browser has hung up when that is found out.
func TestPutBackAfterHangUp(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		site := newSite(t, settings(server))
		b := site.browser()
		b.must("note:saved:once")
		site.leave(b, func(hangUp func(), r *http.Request, _ *pycket.SessionManager, n *pycket.NotificationManager) {
			beforeUnreadable = func() {
				hangUp()
				<-r.Context().Done()
			}
			_, err := n.Lookup("saved", new(unreadable))
			wantError(t, err, pycket.ErrCorrupt, `take "saved"`)
		})
		b.want([]outcome{{Value: "once"}}, "take:saved")
	})
}

// A notification that is put back does not replace one that was set since.
func TestPutBackAfterNewer(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		site := newSite(t, settings(server))
		site.visit(site.browser(), func(_ http.ResponseWriter, _ *http.Request, _ *pycket.SessionManager, n *pycket.NotificationManager) {
			noError(t, n.Set("a", "older"))
			beforeUnreadable = func() { n.Set("a", "newer") }
			_, err := n.Lookup("a", new(unreadable))
			wantError(t, err, pycket.ErrCorrupt)
			wantGet(t, n, "a", "newer")
		})
	})
}

// A request that has read its session knows that no notifications are waiting. What it adds itself counts, and Refresh
// makes it ask again.
func TestNoneWaiting(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		site := newSite(t, settings(server))
		b := site.browser()
		b.must("set:a:b")
		b.want([]outcome{{Value: "b"}, {}, {}, {Value: "own"}, {Value: "info=text"}}, "get:a", "note:n:own", "add:info:text", "take:n", "drain")

		slow := b.tab()
		done := make(chan []outcome)
		go func() {
			_, list, _ := slow.try("get:a", "hold", "drain", "take:n", "nhas:n", "nkeys", "refresh", "drain", "take:n")
			done <- list
		}()
		<-site.holding
		b.must("note:n:other", "add:info:other")
		site.release <- struct{}{}
		want := []outcome{{Value: "b"}, {}, {Value: ""}, {Value: ""}, {Value: false}, {Value: []any{}}, {}, {Value: "info=other"}, {Value: "other"}}
		if diff := cmp.Diff(want, <-done); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}

		// A session that follows another, and one that a user gets from another, is not taken for the one that was read.
		b.must("add:info:kept")
		b.want([]outcome{{Value: "b"}, {}, {Value: "info=kept"}}, "get:a", "rotate", "drain")
		b.want([]outcome{{Value: "b"}, {}, {}, {Value: "info=text"}}, "get:a", "destroy", "add:info:text", "drain")
	})
}
