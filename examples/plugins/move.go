package main

import (
	"net/http"

	"github.com/alexedwards/scs/v2"

	"github.com/pycket/pycket"
)

// moveFromSCS moves live logins of scs over: whoever comes with a session of scs is logged in here, and the old session
// ends, so that a logout is final. Of several first requests at the same time, those that come last may be answered as a
// stranger's.
//
//	handler := app.Wrap(old.LoadAndSave(moveFromSCS(old, mux)))
func moveFromSCS(old *scs.SessionManager, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user := old.GetString(r.Context(), "user")
		if user != "" {
			values := pycket.Values{"theme": old.GetString(r.Context(), "theme")} // what else is worth keeping
			err := pycket.NewSessionManager(w, r).Login(user, values)
			if err == nil {
				err = old.Destroy(r.Context())
			}
			if err != nil {
				sorry(w, err)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}
