package pycket_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pycket/pycket/internal/redistest"
)

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
