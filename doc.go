// Package pycket gives net/http handlers sessions and one-shot notifications, kept in Redis.
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
// Without a mixin, [NewSessionManager] and [NewNotificationManager] give the same managers wherever the
// pair of writer and request is at hand.
//
// Operations end with the context of the request, which the server cancels when the browser hangs up and when the
// handler returns. [SessionManager.WithContext] gives a view that takes another: that of a service, with its
// deadline, or one for work that outlives the handler.
//
// # What it promises
//
// When a write returns nil, Redis has acknowledged it. Requests of one session that run in parallel and
// set different names all survive; [Update] and [SessionManager.Increment] lose no change of one name.
// After Destroy, Rotate, Login or a revoke no request that was under way brings anything back under the old
// id: its writes return [ErrGone]. A notification is handed to one request. A request that doesn't use its
// session sends Redis nothing and sets no cookie. Every operation is one round trip, or none, but for those on
// all sessions of an account and, in a cluster, for signing in.
//
// # Accounts
//
// [SessionManager.Login] binds a session to an account; [App.Sessions] lists an account's sessions, and
// [App.Revoke] and [App.RevokeUser] end them, at once and on every server.
//
// They work in a Redis Cluster, too: see RedisSettings.Cluster.
//
// docs/storage.md in the repository describes what stands in Redis, docs/settings.md every setting,
// docs/security.md the threats.
package pycket
