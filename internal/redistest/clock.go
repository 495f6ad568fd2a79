//go:build unix

package redistest

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gomodule/redigo/redis"
)

// StartClocked is [Start] for a server whose clock [Server.SetClock] sets. Without Debian's package faketime it does what
// [Require] does.
func StartClocked(t testing.TB, args ...string) *Server {
	t.Helper()
	Require(t, "faketime", "faketime")
	library, _ := filepath.Glob("/usr/lib/*/faketime/libfaketime.so.1")
	libc, _ := filepath.Glob("/lib/*/libc.so.6")
	if len(library) == 0 || len(libc) == 0 {
		Skip(t, "libfaketime.so.1 and libc.so.6 are not where Debian puts them, in /usr/lib/*/faketime and /lib/*; on Debian: apt-get install libfaketime libc6")
	}
	file := filepath.Join(t.TempDir(), "clock")
	writeClock(t, file, 0)
	server := startDaemon(t, &daemon{args: args, clock: file, env: []string{
		"LD_PRELOAD=" + library[0] + ":" + libc[0], // the C library's malloc: jemalloc's asks for the time, and waits for itself
		"FAKETIME_TIMESTAMP_FILE=" + file, "FAKETIME_NO_CACHE=1",
		"FAKETIME_DONT_FAKE_MONOTONIC=1", // nobody sets that clock
	}})
	t.Cleanup(server.end)
	return server
}

func writeClock(t testing.TB, file string, ahead time.Duration) {
	t.Helper()
	err := os.WriteFile(file+".new", fmt.Appendf(nil, "%+.3f\n", ahead.Seconds()), 0o600)
	if err == nil {
		err = os.Rename(file+".new", file)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// SetClock makes the server's clock jump: it is then so far ahead of the machine's, or behind it if that is negative.
func (s *Server) SetClock(ahead time.Duration) {
	s.t.Helper()
	writeClock(s.t, s.clock, ahead)
	for range 500 {
		at, err := redis.Int64s(s.Do(0, "TIME"), nil)
		if err != nil {
			s.t.Fatal(err)
		}
		if off := time.Until(time.Unix(at[0], at[1]*1000)) - ahead; math.Abs(off.Seconds()) < 2 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.t.Fatalf("the server's clock is not %v ahead", ahead)
}
