package pycket

import "net/http"

// A SessionMixin gives a handler struct that embeds it, by value, the method Session. It is bound to a
// request by [Handler], [HandlerFunc] or [Bind].
type SessionMixin struct{ bound pair }

// A NotificationMixin gives a handler struct that embeds it, by value, the method Notifications. It is
// bound to a request by [Handler], [HandlerFunc] or [Bind].
type NotificationMixin struct{ bound pair }

// pair is what a mixin is bound to.
type pair struct {
	w http.ResponseWriter
	r *http.Request
}

func (p *pair) bind(w http.ResponseWriter, r *http.Request) {
	if p != nil {
		p.w, p.r = w, r
	}
}

// Session gives the request's session. Redis is not touched before the first operation, which returns
// [ErrNotBound] if the mixin was not bound to a request.
func (m *SessionMixin) Session() *SessionManager {
	if m == nil || m.bound.r == nil {
		return &SessionManager{manager{cause: ErrNotBound}}
	}
	return NewSessionManager(m.bound.w, m.bound.r)
}

// Notifications gives the request's notifications. Redis is not touched before the first operation,
// which returns [ErrNotBound] if the mixin was not bound to a request.
func (m *NotificationMixin) Notifications() *NotificationManager {
	if m == nil || m.bound.r == nil {
		return &NotificationManager{manager{cause: ErrNotBound}}
	}
	return NewNotificationManager(m.bound.w, m.bound.r)
}

func (m *SessionMixin) sessionPair() *pair {
	if m == nil { // embedded as a pointer, and not set
		return nil
	}
	return &m.bound
}

func (m *NotificationMixin) notificationPair() *pair {
	if m == nil {
		return nil
	}
	return &m.bound
}

// The methods of both mixins have different names, since a struct may embed both.
type (
	sessionMixed      interface{ sessionPair() *pair }
	notificationMixed interface{ notificationPair() *pair }
)

// Handler makes an http.Handler of a struct that embeds mixins. Every request is served by a copy of
// the prototype of its own, so that no two requests share a mixin, with all its other fields as they
// are: what those point to is shared and must be safe for that.
//
//	mux.Handle("/", pycket.Handler(Main{DB: db}))
//
// It panics, when the handler is made, if a mixin is embedded as a pointer: requests would share it.
func Handler[T any, P interface {
	*T
	http.Handler
}](prototype T) http.Handler {
	return HandlerFunc(prototype, func(h *T, w http.ResponseWriter, r *http.Request) { P(h).ServeHTTP(w, r) })
}

// HandlerFunc is [Handler] for one of several methods of a struct:
//
//	mux.Handle("POST /cart", pycket.HandlerFunc(Shop{DB: db}, (*Shop).AddToCart))
func HandlerFunc[T any](prototype T, serve func(*T, http.ResponseWriter, *http.Request)) http.Handler {
	one, other := prototype, prototype
	if sharesMixin(&one, &other) {
		panic("pycket: Handler: embed the mixins by value, not as pointers: requests would share them")
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := prototype
		Bind(&h, w, r)
		serve(&h, w, r)
	})
}

// Bind binds the mixins that a handler embeds to a request, for frameworks that make a handler for
// each request themselves. handler is a pointer to the struct. What embeds no mixin is left alone.
func Bind(handler any, w http.ResponseWriter, r *http.Request) {
	if h, ok := handler.(sessionMixed); ok {
		h.sessionPair().bind(w, r)
	}
	if h, ok := handler.(notificationMixed); ok {
		h.notificationPair().bind(w, r)
	}
}

// sharesMixin tells whether two copies of a handler have a mixin in common.
func sharesMixin(one, other any) bool {
	if h, ok := one.(sessionMixed); ok && h.sessionPair() == other.(sessionMixed).sessionPair() {
		return true
	}
	h, ok := one.(notificationMixed)
	return ok && h.notificationPair() == other.(notificationMixed).notificationPair()
}
