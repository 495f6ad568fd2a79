package main

import (
	"net/http"

	"github.com/alexedwards/scs/v2"

	"github.com/pycket/pycket"
)

// moveFromSCS moves live logins of scs over: whoever comes with a session of scs is logged in here, and the old session
// ends. Two first requests at the same time may both do so; the browser keeps one session, and the other one expires.
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
