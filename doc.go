// Package pycket gives net/http handlers sessions and one-shot notifications (flash messages), kept in Redis.
//
// It is the Go sibling of Python's pycket, which gave Tornado handlers self.session and
// self.notifications. An acknowledged write is never lost, a session that was logged out never comes
// back, and a request that doesn't use its session costs nothing.
//
//	type Main struct {
//		pycket.SessionMixin
//		pycket.NotificationMixin
//		DB *sql.DB // whatever else the handler needs
//	}
//
//	func (h *Main) ServeHTTP(w http.ResponseWriter, r *http.Request) {
//		err := h.Session().Set("foo", []string{"bar", "baz"})
//		foo, err := pycket.Get(h.Session(), "foo", []string{"the fallback"})
//		note, err := pycket.Get(h.Notifications(), "saved", "") // handed out once, to one request
//	}
//
//	app, err := pycket.New(pycket.Settings{Secrets: []string{secret}})
//	mux.Handle("/", pycket.Handler(Main{DB: db}))
//	http.ListenAndServe(addr, app.Wrap(mux))
//
// Without a mixin, [NewSessionManager] and [NewNotificationManager] return the same managers, anywhere you
// have the ResponseWriter and the Request, and [SessionFrom] and [NotificationsFrom] where only a context is at hand.
// [TemplateFuncs] shows notifications in templates.
//
// Operations end with the request's context, which the server cancels when the browser hangs up and when the handler
// returns. [SessionManager.WithContext] returns the same session with another context, such as a service's, which has
// its own deadline, or one for work that outlives the handler.
//
// # What it promises
//
// When a write returns nil, Redis has acknowledged it. If parallel requests of one session set different names, all
// their writes survive; [Update] and [SessionManager.Increment] lose no change to one name. After Destroy, Rotate,
// Login or a revoke, no request under way can bring anything back under the old id: its writes return [ErrGone]. A
// notification is handed to one request only. A request that doesn't use its session sends nothing to Redis and sets no
// cookie. Every operation takes at most one round trip; the README lists the exceptions.
//
// # Users
//
// [SessionManager.Login] binds a session to a user. [App.Sessions] lists a user's sessions, and [App.Revoke] and
// [App.RevokeUser] end them, at once and on every server. [SessionManager.RevokeOthers] is "log out everywhere else".
//
// All of this works in a Redis Cluster too: see RedisSettings.Cluster.
//
// In the repository, docs/storage.md describes what is in Redis, docs/settings.md every setting, and
// docs/security.md the threats.
package pycket
