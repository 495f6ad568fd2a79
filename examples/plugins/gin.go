package main

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/pycket/pycket"
)

// gin's Use takes gin's own functions, so Wrap goes around the engine. A gin handler has what pycket needs in its
// context.
func withGin(app *pycket.App) http.Handler {
	gin.SetMode(gin.ReleaseMode)
	engine := gin.New()
	engine.GET("/", func(c *gin.Context) {
		user, visits, err := visit(pycket.NewSessionManager(c.Writer, c.Request))
		show(c.Writer, c.Request, user, visits, err)
	})
	engine.POST("/login", func(c *gin.Context) {
		session := pycket.NewSessionManager(c.Writer, c.Request)
		notifications := pycket.NewNotificationManager(c.Writer, c.Request)
		back(c.Writer, c.Request, login(session, notifications, c.PostForm("user")))
	})
	engine.POST("/logout", gin.WrapH(pycket.HandlerFunc(Site{}, (*Site).Logout))) // a handler of net/http
	return app.Wrap(engine)
}
