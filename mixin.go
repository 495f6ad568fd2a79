package pycket

import (
	"cmp"
	"net/http"
	"reflect"
)

// A SessionMixin gives the method Session to a handler struct that embeds it by value. [Handler],
// [HandlerFunc] or [Bind] binds it to a request.
type SessionMixin struct{ bound pair }

// A NotificationMixin gives the method Notifications to a handler struct that embeds it by value. [Handler],
// [HandlerFunc] or [Bind] binds it to a request.
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

// Session returns the request's session. Redis is not touched before the first operation, which returns
// [ErrNotBound] if the mixin was not bound to a request.
func (m *SessionMixin) Session() *SessionManager {
	if m == nil || m.bound.r == nil {
		return &SessionManager{manager{cause: ErrNotBound}}
	}
	return NewSessionManager(m.bound.w, m.bound.r)
}

// Notifications returns the request's notifications. Redis is not touched before the first operation,
// which returns [ErrNotBound] if the mixin was not bound to a request.
func (m *NotificationMixin) Notifications() *NotificationManager {
	if m == nil || m.bound.r == nil {
		return &NotificationManager{manager{cause: ErrNotBound}}
	}
	return NewNotificationManager(m.bound.w, m.bound.r)
}

func (m *SessionMixin) sessionPair() *pair {
	if m == nil { // embedded as a pointer that is nil
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

// Handler makes an http.Handler of a struct that embeds mixins. Each request is served by a separate copy of the
// prototype, so no two requests share a mixin. What the prototype's other fields point to is shared, and must be safe
// for concurrent use.
//
//	mux.Handle("/", pycket.Handler(Main{DB: db}))
//
// It panics if a mixin is a pointer, since requests would share it, and if a mixin is a named field or is
// embedded in two ways, since it could not be bound to requests.
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
	if fault := misplacedMixin(reflect.TypeFor[T]()); fault != "" {
		panic("pycket: Handler: " + fault)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := prototype
		bind(&h, w, r)
		serve(&h, w, r)
	})
}

// Bind binds the mixins that a handler embeds to a request, for frameworks that make a handler for each
// request themselves. The handler must be a pointer to the struct. Bind does nothing to a handler without
// mixins. If it can't bind them, because the handler is not a pointer or they are named fields, their
// operations return [ErrNotBound], and the App's Logger receives a line.
func Bind(handler any, w http.ResponseWriter, r *http.Request) {
	if bind(handler, w, r) {
		return
	}
	if q := requestOf(w, r); q != nil && handler != nil {
		q.app.warnings.Unbindable(reflect.TypeOf(handler), hasMixins)
	}
}

// bind reports whether there was something to bind.
func bind(handler any, w http.ResponseWriter, r *http.Request) bool {
	session, one := handler.(sessionMixed)
	if one {
		session.sessionPair().bind(w, r)
	}
	notification, other := handler.(notificationMixed)
	if other {
		notification.notificationPair().bind(w, r)
	}
	return one || other
}

// misplacedMixin returns what is wrong with the mixins of a handler's type, or "". Each must be embedded once, by
// value, in the struct or in a struct that it embeds. Mixins behind a named pointer belong to another struct.
func misplacedMixin(t reflect.Type) (fault string) {
	met := map[reflect.Type]bool{}
	walkMixins(t, cmp.Or(t.Name(), "struct"), true, met, func(mixin reflect.Type, path string, placed bool) {
		if fault == "" && (!placed || met[mixin]) {
			fault = "no request would have the mixin " + path + " to itself: embed each mixin once, by value"
		}
		met[mixin] = true
	})
	return fault
}

// walkMixins finds the mixins in a type. A mixin is placed if all fields on the path to it are embedded by value.
func walkMixins(t reflect.Type, path string, placed bool, met map[reflect.Type]bool, found func(mixin reflect.Type, path string, placed bool)) {
	isMixin := func(t reflect.Type) bool {
		return t == reflect.TypeFor[SessionMixin]() || t == reflect.TypeFor[NotificationMixin]()
	}
	if t.Kind() == reflect.Pointer {
		t, placed = t.Elem(), false
		if met[t] && !isMixin(t) { // pointers can lead in circles
			return
		}
		met[t] = true
	}
	if isMixin(t) {
		found(t, path, placed)
		return
	}
	if t.Kind() != reflect.Struct {
		return
	}
	for f := range t.Fields() {
		if f.Type.Kind() == reflect.Pointer && !f.Anonymous && !isMixin(f.Type.Elem()) {
			continue
		}
		walkMixins(f.Type, path+"."+f.Name, placed && f.Anonymous, met, found)
	}
}

// hasMixins reports whether there are mixins in a type, or in what it points to.
func hasMixins(t reflect.Type) (has bool) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	walkMixins(t, "", true, map[reflect.Type]bool{}, func(reflect.Type, string, bool) { has = true })
	return has
}
