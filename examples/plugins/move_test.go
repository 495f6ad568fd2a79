package main

import (
	"fmt"
	"net/http"
	"sync"
	"testing"

	"github.com/alexedwards/scs/v2"

	"github.com/pycket/pycket"
)

// A login that scs made is one of pycket from the next request on, and scs's session is over.
func TestMoveFromSCS(t *testing.T) {
	app, old := newApp(t), scs.New()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		user, err := pycket.NewSessionManager(w, r).User()
		theme, _ := pycket.Get(pycket.NewSessionManager(w, r), "theme", "none")
		fmt.Fprint(w, user, " ", theme, " ", old.Exists(r.Context(), "user"), " ", err)
	})
	mux.Handle("/", withServeMux(app))
	handler := app.Wrap(old.LoadAndSave(moveFromSCS(old, mux)))
	before := old.LoadAndSave(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		old.Put(r.Context(), "user", "ann")
		old.Put(r.Context(), "theme", "dark")
	}))
	site := http.NewServeMux()
	site.Handle("/", handler)
	site.Handle("/before", before)

	b := browse(t, site)
	b.wants("/", nil, " none false <nil>")
	b.wants("/before", nil, "")
	b.wants("/", nil, "ann dark false <nil>")
	b.wants("/", nil, "ann dark false <nil>")
	response, err := b.PostForm(b.site+"/logout", nil)
	if _, body := b.page(response, err); body != " none false <nil>" {
		t.Errorf("after the logout: %q", body)
	}

	b.wants("/before", nil, "")
	var tabs sync.WaitGroup
	for range 8 {
		tabs.Go(func() {
			response, err := b.Get(b.site)
			if _, body := b.page(response, err); body != "ann dark false <nil>" && body != " none false <nil>" {
				t.Errorf("one of several first requests: %q", body)
			}
		})
	}
	tabs.Wait()
	b.wants("/", nil, "ann dark false <nil>")
}
