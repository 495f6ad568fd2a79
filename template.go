package pycket

import (
	"context"
	"errors"
	"html/template"
)

// TemplateFuncs returns functions for html/template, with which a layout shows notifications without the handler's
// help. They find the request by a context in the template's data, such as that of a *http.Request:
//
//	layout := template.New("layout").Funcs(pycket.TemplateFuncs())
//
//	{{range messages .Context}}<p class="{{.Level}}">{{.Text}}</p>{{end}}
//	{{with notification .Context "saved"}}<p>{{.}}</p>{{end}}
//
// messages takes all messages out: see [NotificationManager.Drain]. notification takes one notification out, whatever
// its type, and returns nil if there is none; with the codec [Gob], which can't read into an any, only messages works.
//
// On an error the template's execution fails with an error that wraps it. Execute the template into a buffer, so that
// half a page never leaves the server. [ErrNotReplicated] is no such error, since what was taken out is there to be
// shown.
func TemplateFuncs() template.FuncMap {
	return template.FuncMap{
		"messages": func(ctx context.Context) ([]Message, error) {
			messages, err := NotificationsFrom(ctx).Drain()
			return messages, unlessTaken(err)
		},
		"notification": func(ctx context.Context, name string) (any, error) {
			value, err := Get[any](NotificationsFrom(ctx), name, nil)
			return value, unlessTaken(err)
		},
	}
}

// unlessTaken returns nil for the error of an operation that was carried out.
func unlessTaken(err error) error {
	if errors.Is(err, ErrNotReplicated) {
		return nil
	}
	return err
}
