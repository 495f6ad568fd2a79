package pycket

import (
	"github.com/pycket/pycket/internal/backdoor"
	"github.com/pycket/pycket/internal/store"
)

func init() { backdoor.Open = func(app any) backdoor.App { return app.(*App).opened() } }

// opened lets package pyckettest and the command in.
func (a *App) opened() backdoor.App {
	return backdoor.App{
		Store:  a.store,
		Signer: &a.cookies.signer,
		Decode: func(kind byte, handle, name string, stored []byte, into any) error {
			op := operation{request: &request{app: a, id: &store.ID{Handle: handle}}}
			plain, err := op.open(valueKind(kind), name, stored)
			if err != nil {
				return err
			}
			return a.decode(plain, into)
		},
	}
}
