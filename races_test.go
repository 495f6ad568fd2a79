package pycket_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

const (
	rounds     = 20
	contenders = 32
)

// fleet are browsers with one session, each of a process of the application: this one and another.
func fleet(t *testing.T, server *redisServer, b *browser, n int) []*browser {
	t.Helper()
	child := startChild(t, server)
	fleet := make([]*browser, n)
	for i := range fleet {
		fleet[i] = b.tab()
		if i%2 == 1 {
			other := newBrowser(t, child)
			other.client.Jar.SetCookies(other.base, b.client.Jar.Cookies(b.base))
			fleet[i] = other
		}
	}
	return fleet
}

// all runs one list of operations for each browser at once, and wants all of them to succeed.
func all(t *testing.T, fleet []*browser, ops func(i int) []string) [][]outcome {
	t.Helper()
	outcomes := make([][]outcome, len(fleet))
	parallel(len(fleet), func(i int) {
		_, list, err := fleet[i].try(ops(i)...)
		if err != nil {
			t.Error(err)
		}
		for _, o := range list {
			if o.Err != "" {
				t.Error(o.Err)
			}
		}
		outcomes[i] = list
	})
	return outcomes
}

// Promise 2: parallel requests, in two processes, set different names of one session. Every request has
// read the session before, and works between load and write.
func TestNoLostNames(t *testing.T) {
	everyServer(t, func(t *testing.T, server *redisServer) {
		site := newSite(t, settings(server))
		b := site.browser()
		b.must("set:here:before")
		browsers := fleet(t, server, b, contenders)
		for round := range rounds {
			all(t, browsers, func(i int) []string {
				return []string{"get:here", "sleep:2ms", fmt.Sprintf("set:round%d name%d:x", round, i)}
			})
		}
		if got, want := len(b.must("keys")[0].([]any)), rounds*contenders+1; got != want {
			t.Errorf("%d names have survived, want %d", got, want)
		}
	})
}

func TestNoLostCounts(t *testing.T) {
	everyServer(t, func(t *testing.T, server *redisServer) {
		site := newSite(t, settings(server))
		b := site.browser()
		b.must("inc:increments:0", "inc:updates:0")
		browsers := fleet(t, server, b, contenders)
		for round := range rounds {
			all(t, browsers, func(int) []string {
				return []string{"number:increments", "sleep:2ms", "inc:increments:1", "number:updates", "slowupdate:updates"}
			})
			got := b.must("number:increments", "number:updates")
			want := float64((round + 1) * contenders)
			if got[0] != want || got[1] != want {
				t.Fatalf("round %d: %v increments and %v updates, want %v", round, got[0], got[1], want)
			}
		}
	})
}

// Promise 4: one notification, many readers in two processes.
func TestOneReader(t *testing.T) {
	everyServer(t, func(t *testing.T, server *redisServer) {
		site := newSite(t, settings(server))
		b := site.browser()
		b.must("set:a:b")
		browsers := fleet(t, server, b, contenders)
		for round := range rounds {
			b.must("note:saved:once", "add:info:only")
			var named, queued int
			for _, list := range all(t, browsers, func(int) []string { return []string{"take:saved", "drain"} }) {
				if len(list) == 2 && list[0].Value == "once" {
					named++
				}
				if len(list) == 2 && list[1].Value == "info=only" {
					queued++
				}
			}
			if named != 1 || queued != 1 {
				t.Errorf("round %d: the notification had %d readers, the message %d, want 1", round, named, queued)
			}
		}
	})
}

// A reader and a writer of notifications at once lose nothing, and keep the order.
func TestReaderAndWriterOfNotifications(t *testing.T) {
	everyServer(t, func(t *testing.T, server *redisServer) {
		const messages = 300
		site := newSite(t, settings(server))
		b := site.browser()
		b.must("set:a:b")
		browsers := fleet(t, server, b, 2)

		var written atomic.Bool
		var wg sync.WaitGroup
		wg.Go(func() {
			defer written.Store(true)
			for i := range messages {
				if _, list, err := browsers[0].try(fmt.Sprintf("add:n:%d", i), fmt.Sprintf("note:name%d:x", i)); err != nil || list[0].Err+list[1].Err != "" {
					t.Error(list, err)
				}
			}
		})
		var read []string
		names := map[string]bool{}
		for last := false; !last; {
			last = written.Load() // once more after the last was written
			_, list, err := browsers[1].try("drain", "nkeys")
			if err != nil {
				t.Fatal(err)
			}
			text, _ := list[0].Value.(string)
			read = append(read, strings.Fields(text)...)
			keys, _ := list[1].Value.([]any)
			for _, name := range keys {
				_, list, err := browsers[1].try("take:" + name.(string))
				if err != nil || list[0].Value != "x" {
					t.Error(list, err)
				}
				if names[name.(string)] {
					t.Errorf("%s was read twice", name)
				}
				names[name.(string)] = true
			}
		}
		wg.Wait()
		if len(names) != messages {
			t.Errorf("%d names were read, want %d", len(names), messages)
		}
		if len(read) != messages {
			t.Fatalf("%d messages were read, want %d", len(read), messages)
		}
		for i, text := range read {
			if want := fmt.Sprintf("n=%d", i); text != want {
				t.Fatalf("message %d is %q, want %q", i, text, want)
			}
		}
	})
}

// Goroutines of one request share one manager, and on a first visit make one session.
func TestGoroutinesOfOneRequest(t *testing.T) {
	everyServer(t, func(t *testing.T, server *redisServer) {
		site := newSite(t, settings(server), goroutines())
		b := site.browser()
		a := b.get("/")
		if a.body != "32 names, 32 counted\n" {
			t.Error(a.body)
		}
		if n := len(a.header["Set-Cookie"]); n != 1 || len(server.keys(0)) != 1 {
			t.Errorf("%d cookies, %d sessions, want one of each", n, len(server.keys(0)))
		}
	})
}
