// Package backdoor lets package pyckettest and the command cmd/pycket into an App, where the API doesn't. Nothing else
// uses it.
package backdoor

import (
	"github.com/pycket/pycket/internal/signed"
	"github.com/pycket/pycket/internal/store"
)

// An App is what a test or an operator may reach in a pycket.App.
type App struct {
	Store  *store.Store
	Signer *signed.Signer[*store.ID] // of its cookies

	// Decode reads a value as it is stored in a session: kind 's', a notification: 'n', or a message: 'm', without a name.
	Decode func(kind byte, handle, name string, stored []byte, into any) error
}

// Open opens an App, which is a *pycket.App. The root sets it, since this package can't import the root.
var Open func(app any) App
