package main

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/pycket/pycket"
)

// echo takes Wrap as a middleware of net/http.
func withEcho(app *pycket.App) http.Handler {
	e := echo.New()
	e.Use(echo.WrapMiddleware(app.Wrap))
	e.GET("/", func(c echo.Context) error {
		user, visits, err := visit(pycket.NewSessionManager(c.Response(), c.Request()))
		show(c.Response(), c.Request(), user, visits, err)
		return nil
	})
	e.POST("/login", func(c echo.Context) error {
		session := pycket.NewSessionManager(c.Response(), c.Request())
		notifications := pycket.NewNotificationManager(c.Response(), c.Request())
		if err := login(session, notifications, c.FormValue("user")); err != nil {
			return echo.NewHTTPError(http.StatusServiceUnavailable).SetInternal(err)
		}
		return c.Redirect(http.StatusSeeOther, "/")
	})
	e.POST("/logout", echo.WrapHandler(pycket.HandlerFunc(Site{}, (*Site).Logout))) // a handler of net/http
	return e
}
