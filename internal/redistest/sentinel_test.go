//go:build unix

package redistest

import (
	"testing"

	"github.com/gomodule/redigo/redis"
)

// An isolated master is there for Dial alone: its replicas get nothing more, and the sentinels replace it.
func TestIsolate(t *testing.T) {
	g := StartDivisible(t)
	old := g.Servers[0]
	if g.Master() != old {
		t.Fatal("the first server is not the master")
	}
	c, err := g.Dial(t.Context(), "tcp", g.announced[0])
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewConn(c, 0, 0)
	defer client.Close()
	set := func(milliseconds int) (replicas int) {
		t.Helper()
		if _, err := client.Do("SET", "a", "b"); err != nil {
			t.Fatal(err)
		}
		replicas, err := redis.Int(client.Do("WAIT", 2, milliseconds))
		if err != nil {
			t.Fatal(err)
		}
		return replicas
	}
	if n := set(30_000); n != 2 {
		t.Errorf("%d replicas have what was set, want 2", n)
	}
	g.Isolate(old)
	if n := set(50); n != 0 {
		t.Errorf("%d replicas have what an isolated master was told, want none", n)
	}
	for master := old; master == nil || master == old; {
		master = g.Master()
	}
}
