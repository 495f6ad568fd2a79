package pycket_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pycket/pycket"
	"github.com/pycket/pycket/internal/redistest"
)

// both is a handler with both mixins and a field of its own.
type both struct {
	pycket.SessionMixin
	pycket.NotificationMixin
	greeting string
}

func (h *both) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := h.Session().Set("foo", []string{"bar", "baz"}); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if err := h.Notifications().Set("saved", "it is"); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	foo, err := pycket.Get(h.Session(), "foo", []string{"the fallback"})
	note, noteErr := pycket.Get(h.Notifications(), "saved", "")
	again, againErr := pycket.Get(h.Notifications(), "saved", "none")
	fmt.Fprintln(w, h.greeting, foo, note, again, errors.Join(err, noteErr, againErr))
}

func (h *both) Other(w http.ResponseWriter, r *http.Request) {
	foo, err := pycket.Get(h.Session(), "foo", []string{"the fallback"})
	fmt.Fprintln(w, h.greeting, foo, err)
}

// The example of the design, on a first visit: one id and one cookie for both mixins.
func TestHowItReads(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		mux := http.NewServeMux()
		mux.Handle("/", pycket.Handler(both{greeting: "hello"}))
		mux.Handle("GET /other", pycket.HandlerFunc(both{greeting: "other"}, (*both).Other))
		site := newSite(t, settings(server), mux)
		b := site.browser()

		a := b.get("/")
		if want := "hello [bar baz] it is none <nil>\n"; a.body != want {
			t.Errorf("first visit: %q, want %q", a.body, want)
		}
		if n := len(a.header["Set-Cookie"]); n != 1 {
			t.Errorf("first visit sets %d cookies, want 1", n)
		}
		server.OnlyKey() // there is one
		if a := b.get("/other"); a.body != "other [bar baz] <nil>\n" || a.setsCookie() {
			t.Errorf("second visit: %q, cookie set: %v", a.body, a.setsCookie())
		}
		if a := site.browser().get("/other"); a.body != "other [the fallback] <nil>\n" || a.setsCookie() {
			t.Errorf("a stranger: %q, cookie set: %v", a.body, a.setsCookie())
		}
	})
}

type sessionOnly struct {
	pycket.SessionMixin
	meet chan *pycket.SessionManager
}

func (h *sessionOnly) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	mine := h.Session()
	h.meet <- mine
	if h.Session() != mine {
		http.Error(w, "the manager has changed", http.StatusInternalServerError)
		return
	}
	if err := mine.Set("me", r.URL.Path); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	me, err := pycket.Get(h.Session(), "me", "")
	fmt.Fprint(w, me, err)
}

func TestParallelRequestsShareNoManager(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		const n = 16
		meet := make(chan *pycket.SessionManager)
		site := newSite(t, settings(server), pycket.Handler(sessionOnly{meet: meet}))
		var wg sync.WaitGroup
		for i := range n {
			b := site.browser()
			wg.Go(func() {
				path := fmt.Sprintf("/%d", i)
				if a := b.get(path); a.body != path+"<nil>" {
					t.Errorf("%s got %q", path, a.body)
				}
			})
		}
		managers := map[*pycket.SessionManager]bool{} // all alive at once
		for range n {
			managers[<-meet] = true
		}
		wg.Wait()
		if len(managers) != n {
			t.Errorf("%d requests had %d managers", n, len(managers))
		}
		if got := server.Size(); got != n {
			t.Errorf("%d first visits made %d keys", n, got)
		}
	})
}

type notificationsOnly struct{ pycket.NotificationMixin }

func (h *notificationsOnly) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	err := h.Notifications().Set("a", 1)
	n, getErr := pycket.Get(h.Notifications(), "a", 0)
	fmt.Fprint(w, n, err, getErr)
}

// bare is a handler that some framework made by itself.
type bare struct {
	pycket.SessionMixin
	pycket.NotificationMixin
}

func TestOneMixinAndBindAndPair(t *testing.T) {
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		mux := http.NewServeMux()
		mux.Handle("/one", pycket.Handler(notificationsOnly{}))
		mux.HandleFunc("/bind", func(w http.ResponseWriter, r *http.Request) {
			h := new(bare)
			pycket.Bind(h, w, r)
			pycket.Bind(new(struct{}), w, r) // no mixin: left alone
			err := errors.Join(h.Session().Set("a", "bound"), h.Notifications().Set("b", "note"))
			fmt.Fprint(w, err, h.Session() == pycket.NewSessionManager(w, r), h.Notifications() == pycket.NewNotificationManager(w, r))
		})
		mux.HandleFunc("/pair", func(w http.ResponseWriter, r *http.Request) {
			a, err := pycket.Get(pycket.NewSessionManager(w, r), "a", "")
			b, noteErr := pycket.Get(pycket.NewNotificationManager(w, r), "b", "")
			fmt.Fprint(w, a, " ", b, err, noteErr)
		})
		mux.HandleFunc("/lost", func(w http.ResponseWriter, r *http.Request) { // a framework may replace the context: the writer still leads there
			fmt.Fprint(w, pycket.NewSessionManager(struct{ wrappedWriter }{wrappedWriter{w}}, r.WithContext(t.Context())).Set("a", 1))
		})
		site := newSite(t, settings(server), mux)
		for path, want := range map[string]string{"/one": "1 <nil> <nil>", "/lost": "<nil>"} {
			if got := site.browser().get(path).body; got != want {
				t.Errorf("%s: %q", path, got)
			}
		}
		b := site.browser()
		if got := b.get("/bind").body; got != "<nil> true true" {
			t.Errorf("Bind: %q", got)
		}
		if got := b.get("/pair").body; got != "bound note<nil> <nil>" {
			t.Errorf("the pair: %q", got)
		}
	})
}

type wrappedWriter struct{ http.ResponseWriter }

func (w wrappedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// every calls all operations of both managers and returns their errors.
func every(s *pycket.SessionManager, n *pycket.NotificationManager) map[string]error {
	var into string
	errs := map[string]error{}
	for name, m := range map[string]pycket.Manager{"session": s, "notifications": n} {
		errs[name+".Set"] = m.Set("a", "b")
		errs[name+".SetMany"] = m.SetMany(pycket.Values{"a": "b"})
		_, errs[name+".Lookup"] = m.Lookup("a", &into)
		_, errs[name+".Has"] = m.Has("a")
		_, errs[name+".Keys"] = m.Keys()
		errs[name+".Delete"] = m.Delete("a")
		_, errs[name+".Get"] = pycket.Get(m, "a", "")
	}
	_, errs["Update"] = pycket.Update(s, "c", 0, func(n int) (int, error) { return n, nil })
	_, errs["Increment"] = s.Increment("n", 1)
	errs["Clear"] = s.Clear()
	_, errs["Pop"] = pycket.Pop(s, "a", "")
	_, errs["Handle"] = s.Handle()
	_, errs["RevokeOthers"] = s.RevokeOthers()
	_, _, errs["Expiry"] = s.Expiry()
	errs["Rotate"] = s.Rotate()
	errs["Destroy"] = s.Destroy()
	s.Refresh()
	_, errs["Peek"] = n.Peek("a", &into)
	errs["Add"] = n.Add("info", "text")
	_, errs["Drain"] = n.Drain()
	for _, err := range errs {
		heard.err(err)
	}
	return errs
}

func TestUnboundAndUnwrapped(t *testing.T) {
	w, r := httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil)
	var unbound bare
	session, notifications := pycket.NewSessionManager(w, r), pycket.NewNotificationManager(w, r)
	for want, errs := range map[error][]map[string]error{
		pycket.ErrNotBound: {every(unbound.Session(), unbound.Notifications()), every(unbound.Session().WithContext(t.Context()), unbound.Notifications().WithContext(t.Context()))},
		pycket.ErrNoApp:    {every(session, notifications), every(pycket.SessionFrom(t.Context()), pycket.NotificationsFrom(t.Context())), every(session.WithContext(t.Context()), notifications.WithContext(t.Context()))},
	} {
		for name, err := range errs[0] {
			wantError(t, err, want)
			for _, view := range errs[1:] {
				wantError(t, view[name], want)
			}
		}
	}
	if pycket.NewSessionManager(nil, nil).Set("a", 1) == nil {
		t.Error("without a pair: no error")
	}
	pointers := struct {
		*pycket.SessionMixin
		*pycket.NotificationMixin
	}{}
	pycket.Bind(&pointers, w, r)
	if err := pointers.Session().Set("a", 1); !errors.Is(err, pycket.ErrNotBound) {
		t.Errorf("a mixin that is a nil pointer: %v", err)
	}
}

type sharing struct{ *pycket.SessionMixin }

func (h *sharing) ServeHTTP(http.ResponseWriter, *http.Request) {}

// What a handler may look like, and what it may not.
type (
	namedSession struct{ session pycket.SessionMixin }
	namedNotes   struct{ Notes pycket.NotificationMixin }
	oneNamed     struct {
		pycket.SessionMixin
		Notes pycket.NotificationMixin
	}
	namedBase struct{ base bare }
	otherBase struct{ pycket.SessionMixin }
	twoBases  struct {
		bare
		otherBase
	}
	baseAndOwn struct {
		otherBase
		pycket.SessionMixin
	}
	namedPointer struct{ session *pycket.SessionMixin }
	pointerBase  struct{ *bare }
	fineBase     struct {
		bare
		Other *otherBase // somebody else's
		Name  string
	}
	noMixin struct{ Next *noMixin }
)

func wantPanic(t *testing.T, want string, f func()) {
	t.Helper()
	defer func() {
		t.Helper()
		var got string
		if r := recover(); r != nil {
			got = fmt.Sprint(r)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}()
	f()
}

func making[T any](prototype T) func() {
	return func() { pycket.HandlerFunc(prototype, func(*T, http.ResponseWriter, *http.Request) {}) }
}

// A mixin that no request would be bound to is a mistake in the handler: its author is told at once.
func TestMisplacedMixinIsRefused(t *testing.T) {
	misplaced := func(field string) string {
		return "pycket: Handler: no request would have the mixin " + field + " to itself: embed each mixin once, by value"
	}
	for name, test := range map[string]struct {
		make func()
		want string
	}{
		"a named field":               {making(namedSession{}), misplaced("namedSession.session")},
		"a named field, notes":        {making(namedNotes{}), misplaced("namedNotes.Notes")},
		"one of two is named":         {making(oneNamed{}), misplaced("oneNamed.Notes")},
		"in a named field":            {making(namedBase{}), misplaced("namedBase.base.SessionMixin")},
		"by two ways":                 {making(twoBases{}), misplaced("twoBases.otherBase.SessionMixin")},
		"embedded, and in a base":     {making(baseAndOwn{}), misplaced("baseAndOwn.SessionMixin")},
		"a named pointer":             {making(namedPointer{}), misplaced("namedPointer.session")},
		"a named pointer, set":        {making(namedPointer{new(pycket.SessionMixin)}), misplaced("namedPointer.session")},
		"in a base that is a pointer": {making(pointerBase{}), misplaced("pointerBase.bare.SessionMixin")},
		"the same, set":               {making(pointerBase{new(bare)}), misplaced("pointerBase.bare.SessionMixin")},
		"an embedded pointer":         {func() { pycket.Handler(sharing{}) }, misplaced("sharing.SessionMixin")},
		"an embedded pointer, set":    {func() { pycket.Handler(sharing{new(pycket.SessionMixin)}) }, misplaced("sharing.SessionMixin")},
		"a pointer as the prototype":  {making(new(bare)), misplaced("struct.SessionMixin")},

		"in a base":     {making(fineBase{}), ""},
		"no mixin":      {making(noMixin{}), ""},
		"a mixin alone": {making(pycket.SessionMixin{}), ""},
		"no struct":     {making(1), ""},
		"a time":        {making(struct{ at time.Time }{}), ""},
	} {
		t.Run(name, func(t *testing.T) { wantPanic(t, test.want, test.make) })
	}
}

// Bind runs in requests, which nothing of the library ends by a panic: what it can't bind stays unbound, and a
// line for each type of handler says so.
func TestBindSaysWhatItCannotBind(t *testing.T) {
	log, logger := newJournal()
	app := newApp(t, pycket.Settings{Secrets: []string{secret}, Logger: logger})
	visit := func(handler any, use func() error) {
		t.Helper()
		app.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			pycket.Bind(handler, w, r)
			if err := use(); !errors.Is(err, pycket.ErrNotBound) {
				t.Errorf("%T: %v, want ErrNotBound", handler, err)
			}
		})).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
	}
	var value bare
	pointer := &value
	var named namedSession
	var based namedBase
	for range 3 {
		visit(value, func() error { return value.Session().Set("a", 1) })
		visit(&pointer, func() error { return value.Notifications().Set("a", 1) })
		visit(&named, func() error { return named.session.Session().Set("a", 1) })
		visit(&based, func() error { return based.base.Session().Set("a", 1) })
	}
	var said []string
	for _, w := range log.warnings(t) {
		said = append(said, w.Level+" "+w.Msg)
	}
	want := []string{
		"ERROR pycket: Bind got a pycket_test.bare, and can't bind its mixins: give it a pointer to a struct that embeds them",
		"ERROR pycket: Bind got a **pycket_test.bare, and can't bind its mixins: give it a pointer to a struct that embeds them",
		"ERROR pycket: Bind got a *pycket_test.namedSession, and can't bind its mixins: give it a pointer to a struct that embeds them",
		"ERROR pycket: Bind got a *pycket_test.namedBase, and can't bind its mixins: give it a pointer to a struct that embeds them",
	}
	if diff := cmp.Diff(want, said); diff != "" {
		t.Errorf("the log (-want +got):\n%s", diff)
	}

	// What can be bound is, and what has no mixin is left alone.
	quiet, logger := newJournal()
	app = newApp(t, pycket.Settings{Secrets: []string{secret}, Logger: logger})
	app.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		var whole fineBase
		for _, handler := range []any{&whole, &named.session, &based.base, pointerBase{pointer}, new(noMixin), noMixin{}, 1, nil} {
			pycket.Bind(handler, w, r)
		}
		for _, m := range []*pycket.SessionManager{whole.Session(), named.session.Session(), based.base.Session(), pointer.Session()} {
			if found, err := m.Has("a"); found || err != nil {
				t.Error(found, err)
			}
		}
	})).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
	if got := quiet.String(); got != "" {
		t.Errorf("the log: %s", got)
	}
	pycket.Bind(value, httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil)) // and no App
}
