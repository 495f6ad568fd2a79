package main

import (
	"net/http"

	"github.com/gorilla/mux"

	"github.com/pycket/pycket"
)

// gorilla/mux calls its own middleware for matched routes only, so Wrap goes around the router: a NotFoundHandler may
// use the session, too.
func withGorillaMux(app *pycket.App) http.Handler {
	router := mux.NewRouter()
	router.Handle("/", pycket.HandlerFunc(Site{}, (*Site).Show)).Methods("GET")
	router.Handle("/login", pycket.HandlerFunc(Site{}, (*Site).Login)).Methods("POST")
	router.Handle("/logout", pycket.HandlerFunc(Site{}, (*Site).Logout)).Methods("POST")
	return app.Wrap(router)
}
