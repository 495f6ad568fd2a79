package main

import (
	"net/http"

	"github.com/pycket/pycket"
)

// net/http's own router, with its own protection against requests from other sites (CSRF).
func withServeMux(app *pycket.App) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /{$}", pycket.HandlerFunc(Site{}, (*Site).Show))
	mux.Handle("POST /login", pycket.HandlerFunc(Site{}, (*Site).Login))
	mux.Handle("POST /logout", pycket.HandlerFunc(Site{}, (*Site).Logout))
	return app.Wrap(http.NewCrossOriginProtection().Handler(mux))
}
