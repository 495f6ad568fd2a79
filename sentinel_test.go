package pycket_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/pycket/pycket"
	"github.com/pycket/pycket/internal/redistest"
)

// A master that dies or hangs is replaced, and sessions go on with the new one.
func TestSentinelFailover(t *testing.T) {
	for name, fail := range map[string]func(*redistest.Server){
		"killed": (*redistest.Server).Kill,
		"hangs":  func(s *redistest.Server) { s.Signal(syscall.SIGSTOP) },
	} {
		t.Run(name, func(t *testing.T) {
			group := redistest.StartGroup(t)
			s := settings(group.Servers[0])
			s.Redis.URL, s.Redis.Timeout = "", 2*time.Second
			s.Redis.Sentinel = pycket.SentinelSettings{Master: group.Name, Addresses: group.Sentinels}
			site := newSite(t, s)
			if err := site.app.Ping(t.Context()); err != nil {
				t.Fatal(err)
			}
			b := site.browser()
			b.must("set:a:before")
			group.Servers[0].Do(0, "WAIT", 2, 1000)
			old := group.Servers[0]
			began := time.Now()
			fail(old)
			if name == "hangs" {
				defer old.Signal(syscall.SIGCONT)
			}
			for tries := 0; ; tries++ {
				_, list, _ := b.try("set:b:after")
				if len(list) == 1 && list[0].Err == "" {
					break
				}
				if tries == 100 {
					t.Fatalf("no service: %v", list)
				}
			}
			t.Logf("without service for %v", time.Since(began))
			b.want([]outcome{{Value: "before"}, {Value: "after"}}, "get:a", "get:b")
			if master := group.Master(); master == old || master == nil {
				t.Errorf("the master is %v", master)
			}
		})
	}
}
