package main

import (
	"net/http"

	"github.com/go-chi/chi/v5"

	"github.com/pycket/pycket"
)

// chi takes Wrap as it takes any middleware. Those that use the session come after it.
func withChi(app *pycket.App) http.Handler {
	router := chi.NewRouter()
	router.Use(app.Wrap)
	router.Method("GET", "/", pycket.HandlerFunc(Site{}, (*Site).Show))
	router.Method("POST", "/login", pycket.HandlerFunc(Site{}, (*Site).Login))
	router.Method("POST", "/logout", pycket.HandlerFunc(Site{}, (*Site).Logout))
	return router
}
