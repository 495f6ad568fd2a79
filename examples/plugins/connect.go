package main

import (
	"context"
	"net/http"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/pycket/pycket"
)

// A service of connect-go has only a context. It shares the session with the site's pages, and may begin one.
func withConnect(app *pycket.App) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", withServeMux(app))
	mux.Handle(visitsProcedure, connect.NewUnaryHandler(visitsProcedure, countVisit))
	return app.Wrap(mux)
}

const visitsProcedure = "/visits.v1.VisitsService/Count"

func countVisit(ctx context.Context, _ *connect.Request[emptypb.Empty]) (*connect.Response[wrapperspb.Int64Value], error) {
	visits, err := pycket.SessionFrom(ctx).Increment("visits", 1)
	if err != nil {
		return nil, connect.NewError(connect.CodeUnavailable, err)
	}
	return connect.NewResponse(wrapperspb.Int64(visits)), nil
}
