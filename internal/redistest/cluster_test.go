//go:build unix

package redistest

import (
	"strings"
	"testing"

	"github.com/gomodule/redigo/redis"
)

func TestMove(t *testing.T) {
	server := StartCluster(t, 3, 1)
	if nodes := server.Nodes(); len(nodes) != 4 {
		t.Fatalf("%d nodes", len(nodes))
	}
	server.Do(0, "SET", "{a}1", "one")
	server.Do(0, "SET", "{a}2", "two")
	from := server.NodeOf("{a}1")
	if got, _ := redis.String(from.Do(0, "GET", "{a}1"), nil); got != "one" {
		t.Errorf("its node has %q", got)
	}

	move := server.BeginMove("{a}1")
	move.Carry("{a}1")
	c := dial(t, from.Addr)
	if _, err := c.Do("GET", "{a}1"); err == nil || !strings.HasPrefix(err.Error(), "ASK ") {
		t.Errorf("while the slot moves: %v", err)
	}
	move.Carry("{a}2")
	move.End()
	if _, err := c.Do("GET", "{a}2"); err == nil || !strings.HasPrefix(err.Error(), "MOVED ") {
		t.Errorf("after the slot has moved: %v", err)
	}
	if got, _ := redis.String(server.Do(0, "GET", "{a}2"), nil); got != "two" {
		t.Errorf("after the slot has moved: %q", got)
	}

	back := server.BeginMove("{a}1") // or else a test whose sessions share a slot fails, once in a while
	back.Carry("{a}1", "{a}2")
	back.End()
	if got, _ := redis.String(server.NodeOf("{a}1").Do(0, "GET", "{a}1"), nil); got != "one" {
		t.Errorf("after the slot has moved on, its node has %q", got)
	}

	server.BeginMove("b").Undo()
	server.Do(0, "SET", "b", "stays")
	if got, _ := redis.String(server.NodeOf("b").Do(0, "GET", "b"), nil); got != "stays" {
		t.Errorf("after Undo: %q", got)
	}
}
