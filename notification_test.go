package pycket_test

import (
	"errors"
	"net/http"
	"testing"

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
