package pycket_test

import (
	"context"
	"fmt"
	"net/http"

	"github.com/pycket/pycket"
)

// Posts shows what was saved, once.
type Posts struct{ pycket.NotificationMixin }

func (h *Posts) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/save" {
		fmt.Fprintln(w, h.Notifications().Set("saved", 3))
		return
	}
	saved, err := pycket.Get(h.Notifications(), "saved", 0)
	fmt.Fprintln(w, saved, "saved", err)
}

func ExampleNotificationMixin_Notifications() {
	browser := serve(pycket.Handler(Posts{}))
	browser.get("/save")
	browser.get("/")
	browser.get("/")
	// Output:
	// <nil>
	// 3 saved <nil>
	// 0 saved <nil>
}

func ExampleNewNotificationManager() {
	browser := serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		notifications := pycket.NewNotificationManager(w, r)
		if r.URL.Path == "/save" {
			fmt.Fprintln(w, notifications.Add("success", "Saved."))
			return
		}
		messages, err := notifications.Drain()
		fmt.Fprintln(w, messages, err)
	}))
	browser.get("/save")
	browser.get("/")
	browser.get("/")
	// Output:
	// <nil>
	// [{success Saved.}] <nil>
	// [] <nil>
}

// Several messages are shown in the order in which they were added.
func ExampleNotificationManager_Add() {
	serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		notifications := pycket.NewNotificationManager(w, r)
		notifications.Add("success", "Your order is on its way.")
		notifications.Add("warning", "The cake is sold out.")
		messages, err := notifications.Drain()
		for _, m := range messages {
			fmt.Fprintf(w, "%s: %s\n", m.Level, m.Text)
		}
		fmt.Fprintln(w, err)
	})).get("/")
	// Output:
	// success: Your order is on its way.
	// warning: The cake is sold out.
	// <nil>
}

func ExampleNotificationManager_Drain() {
	serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		notifications := pycket.NewNotificationManager(w, r)
		notifications.Add("info", "Welcome back.")
		messages, _ := notifications.Drain()
		again, err := notifications.Drain()
		fmt.Fprintln(w, len(messages), len(again), err)
	})).get("/")
	// Output:
	// 1 0 <nil>
}

func ExampleNotificationManager_Set() {
	serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		notifications := pycket.NewNotificationManager(w, r)
		err := notifications.Set("imported", map[string]int{"lines": 120})
		imported, _ := pycket.Get(notifications, "imported", map[string]int{})
		again, _ := notifications.Has("imported")
		fmt.Fprintln(w, imported, again, err)
	})).get("/")
	// Output:
	// map[lines:120] false <nil>
}

func ExampleNotificationManager_SetMany() {
	serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		notifications := pycket.NewNotificationManager(w, r)
		err := notifications.SetMany(pycket.Values{"saved": true, "next": "/posts"})
		names, _ := notifications.Keys()
		fmt.Fprintln(w, names, err)
	})).get("/")
	// Output:
	// [next saved] <nil>
}

// A notification that is not there.
func ExampleNotificationManager_Lookup() {
	serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var next string
		found, err := pycket.NewNotificationManager(w, r).Lookup("next", &next)
		fmt.Fprintf(w, "%v %q %v\n", found, next, err)
	})).get("/")
	// Output:
	// false "" <nil>
}

// A look that leaves the notification to the next page.
func ExampleNotificationManager_Peek() {
	serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		notifications := pycket.NewNotificationManager(w, r)
		notifications.Set("next", "/posts")
		var next string
		notifications.Peek("next", &next)
		waiting, err := notifications.Has("next")
		fmt.Fprintln(w, next, waiting, err)
	})).get("/")
	// Output:
	// /posts true <nil>
}

func ExampleNotificationManager_Has() {
	serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		waiting, err := pycket.NewNotificationManager(w, r).Has("next")
		fmt.Fprintln(w, waiting, err)
	})).get("/")
	// Output:
	// false <nil>
}

func ExampleNotificationManager_Keys() {
	serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		notifications := pycket.NewNotificationManager(w, r)
		notifications.Set("saved", true)
		names, err := notifications.Keys()
		fmt.Fprintln(w, names, err)
	})).get("/")
	// Output:
	// [saved] <nil>
}

func ExampleNotificationManager_Delete() {
	serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		notifications := pycket.NewNotificationManager(w, r)
		notifications.Set("saved", true)
		err := notifications.Delete("saved") // nobody will see it
		waiting, _ := notifications.Has("saved")
		fmt.Fprintln(w, waiting, err)
	})).get("/")
	// Output:
	// false <nil>
}

func ExampleNotificationManager_WithContext() {
	serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancel(r.Context())
		cancel()
		err := pycket.NewNotificationManager(w, r).WithContext(ctx).Add("info", "too late")
		fmt.Fprintln(w, err)
	})).get("/")
	// Output:
	// pycket: add: context canceled
}
