package pycket_test

import (
	"fmt"
	"net/http"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/gomodule/redigo/redis"

	"github.com/pycket/pycket/internal/redistest"
)

// figure is a figure of Redis's INFO.
func figure(t *testing.T, server *redistest.Server, section, name string) float64 {
	t.Helper()
	info, err := redis.String(server.Do(0, "INFO", section), nil)
	require(t, err)
	m := regexp.MustCompile(`(?m)^` + name + `:([\d.]+)`).FindStringSubmatch(info)
	if m == nil {
		t.Fatalf("INFO has no %s", name)
	}
	n, err := strconv.ParseFloat(m[1], 64)
	require(t, err)
	return n
}

// The table of sizes in docs/operations.md: what Redis needs for a session, in bytes, and for a request, in processor
// time. Memory does not depend on the machine, so it must be about what the page says; run this with -v to see the rest.
func TestSizing(t *testing.T) {
	server := redistest.Start(t)
	site := unstartedSite(t, settings(server))
	page, err := os.ReadFile("docs/operations.md")
	require(t, err)

	const sessions = 500
	for _, kind := range []struct {
		name string
		ops  func(i int) []string
	}{
		{"one value of 20 bytes", func(int) []string { return []string{"set:cart:" + strings.Repeat("x", 18)} }},
		{"a user, ten values of 20 bytes", func(i int) []string {
			ops := []string{fmt.Sprintf("login:user%d", i), "setmany"}
			for n := range 10 {
				ops[1] += fmt.Sprintf(":value%d:%s", n, strings.Repeat("x", 18))
			}
			return ops
		}},
		{"the same, and a notification", func(i int) []string {
			ops := []string{fmt.Sprintf("login:user%d", i), "setmany", "note:saved:it is saved"}
			for n := range 10 {
				ops[1] += fmt.Sprintf(":value%d:%s", n, strings.Repeat("x", 18))
			}
			return ops
		}},
		{"one value of 4 KB", func(int) []string { return []string{"set:cart:" + strings.Repeat("x", 4096)} }},
	} {
		m := regexp.MustCompile(`(?m)^\| ` + kind.name + ` \| ([\d,]+) \| ([\d,]+) \|`).FindStringSubmatch(string(page))
		if m == nil {
			t.Errorf("docs/operations.md does not have: %s", kind.name)
			continue
		}
		for i, longest := range []int{64, 256} { // bytes; 64 is the default
			server.Do(0, "CONFIG", "SET", "hash-max-ziplist-value", longest)
			site.browser().must(kind.ops(0)...) // what is made once is no session's
			server.Do(0, "FLUSHALL", "SYNC")    // Valkey frees memory later otherwise
			before := figure(t, server, "memory", "used_memory")
			for i := range sessions {
				b := site.browser()
				b.client.Transport = withAgent{b.client.Transport}
				b.must(kind.ops(i)...)
			}
			bytes := (figure(t, server, "memory", "used_memory") - before) / sessions
			t.Logf("%-35s %6.0f bytes, %8.0f in a GiB, with hash-max-listpack-value %d", kind.name, bytes, 1<<30/bytes, longest)
			documented, _ := strconv.ParseFloat(strings.ReplaceAll(m[1+i], ",", ""), 64)
			if bytes < documented/1.5 || bytes > documented*1.5 { // servers differ
				t.Errorf("%s: %.0f bytes, and the page says %s", kind.name, bytes, m[1+i])
			}
		}
	}

	server.Do(0, "FLUSHALL")
	browsers := make([]*browser, 32)
	for i := range browsers {
		browsers[i] = site.browser()
		browsers[i].must(fmt.Sprintf("login:user%d", i), "set:a:b", "set:cart:some")
	}
	for _, kind := range []struct {
		name string
		ops  []string
	}{
		{"reads", []string{"get:a", "get:cart"}},
		{"reads and writes", []string{"get:a", "set:cart:other"}},
		{"sets a notification and takes it", []string{"note:saved:x", "take:saved"}},
		{"logs in", []string{"login:ann"}},
	} {
		const requests = 100 // of each browser
		runtime.GC()
		spent := func() float64 {
			return figure(t, server, "cpu", "used_cpu_user") + figure(t, server, "cpu", "used_cpu_sys")
		}
		before := spent()
		var visits sync.WaitGroup
		for i, b := range browsers {
			visits.Go(func() {
				ops := slices.Clone(kind.ops)
				if kind.name == "logs in" {
					ops[0] = fmt.Sprintf("login:user%d", i)
				}
				for range requests {
					if _, outcomes, err := b.try(ops...); err != nil || outcomes[0].Err != "" {
						t.Error(outcomes, err)
						return
					}
				}
			})
		}
		visits.Wait()
		micros := (spent() - before) * 1e6 / float64(requests*len(browsers))
		t.Logf("a request that %-32s %6.1f µs, %8.0f a second", kind.name, micros, 1e6/micros)
		if !strings.Contains(string(page), "| "+kind.name+" |") {
			t.Errorf("docs/operations.md does not have: %s", kind.name)
		}
	}
}

// withAgent sends a user agent as long as those of browsers.
type withAgent struct{ http.RoundTripper }

func (w withAgent) RoundTrip(r *http.Request) (*http.Response, error) {
	r.Header.Set("User-Agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36")
	return w.RoundTripper.RoundTrip(r)
}
