package pycket

import (
	"cmp"
	"net/http"
	"reflect"
	"slices"
	"sync"
)

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
// It panics, when the handler is made, if requests would share a mixin, since it is a pointer, or would not be
// bound to it, since it is a field with a name or is embedded by two ways.
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

// Bind binds the mixins that a handler embeds to a request, for frameworks that make a handler for
// each request themselves. handler is a pointer to the struct. What has no mixin is left alone; where there are
// some that can't be bound, since handler is no pointer or they are fields with names, their operations return
// [ErrNotBound], and the App's Logger gets a line.
func Bind(handler any, w http.ResponseWriter, r *http.Request) {
	if bind(handler, w, r) {
		return
	}
	t := reflect.TypeOf(handler)
	if q := requestOf(w, r); q != nil && t != nil && hasMixins(t) {
		q.app.warnings.unbindable(t)
	}
}

// bind tells whether there was something to bind.
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

// mixinField is where a mixin stands in a handler.
type mixinField struct {
	path    string // as in Shop.base.SessionMixin
	mixin   reflect.Type
	depth   int  // of embedding; -1 if it, or what it stands in, has a name
	pointer bool // the mixin, or what it stands in
}

var mixinTypes = []reflect.Type{reflect.TypeFor[SessionMixin](), reflect.TypeFor[NotificationMixin]()}

// mixinFields are the mixins of a type. What a pointer with a name leads to is none of its own, unless that is a
// mixin itself.
func mixinFields(t reflect.Type) (list []mixinField) {
	var met []reflect.Type // by pointers, which can lead in circles
	var walk func(t reflect.Type, at mixinField)
	walk = func(t reflect.Type, at mixinField) {
		if t.Kind() == reflect.Pointer {
			t = t.Elem()
			if slices.Contains(met, t) || at.depth < 0 && !slices.Contains(mixinTypes, t) {
				return
			}
			met = append(met, t)
			at.pointer = true
		}
		if slices.Contains(mixinTypes, t) {
			at.mixin = t
			list = append(list, at)
			return
		}
		if t.Kind() != reflect.Struct {
			return
		}
		for f := range t.Fields() {
			depth := at.depth + 1
			if at.depth < 0 || !f.Anonymous {
				depth = -1
			}
			walk(f.Type, mixinField{path: at.path + "." + f.Name, depth: depth, pointer: at.pointer})
		}
	}
	walk(t, mixinField{path: cmp.Or(t.Name(), "struct")})
	return list
}

// misplacedMixin says what is wrong with the mixins of a type of which each request gets a copy, "" if nothing
// is.
func misplacedMixin(t reflect.Type) string {
	fields := mixinFields(t)
	if slices.ContainsFunc(fields, func(f mixinField) bool { return f.pointer }) {
		return "embed the mixins by value, not as pointers: requests would share them"
	}
	for _, f := range fields {
		// Go promotes the methods of what is embedded least deep, if that is one.
		if f.depth < 0 || slices.ContainsFunc(fields, func(g mixinField) bool {
			return g != f && g.mixin == f.mixin && g.depth >= 0 && g.depth <= f.depth
		}) {
			return "no request would be bound to the mixin " + f.path + ": embed each mixin once, by value"
		}
	}
	return ""
}

// hasMixins tells whether there are mixins in a type, or in what it points to.
func hasMixins(t reflect.Type) bool {
	if has, known := mixed.Load(t); known {
		return has.(bool)
	}
	inner := t
	for inner.Kind() == reflect.Pointer {
		inner = inner.Elem()
	}
	has := len(mixinFields(inner)) > 0
	mixed.Store(t, has)
	return has
}

// mixed remembers what hasMixins has found out: Bind asks in every request.
var mixed sync.Map
