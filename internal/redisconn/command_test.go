package redisconn

import (
	"strings"
	"testing"
)

// words shows a command's wire.
func (c *Command) words() string { return strings.ReplaceAll(string(c.wire), "\r\n", " ") }

func TestCommand(t *testing.T) {
	c := NewCommand("k", 5, "HSET")
	c.String("k")
	c.Bytes([]byte("a b"))
	c.Int(-7)
	c.Flag(true)
	c.Then(2, "PTTL")
	c.String("")
	if got, want := c.words(), "*5 $4 HSET $1 k $3 a b $2 -7 $1 1 *2 $4 PTTL $0  "; got != want || c.replies != 2 || !c.repeatable {
		t.Errorf("%q, %d replies, want %q", got, c.replies, want)
	}
	asking := c.withAsking()
	if got, want := asking.words(), "*1 $6 ASKING *5 $4 HSET $1 k $3 a b $2 -7 $1 1 *1 $6 ASKING *2 $4 PTTL $0  "; got != want || asking.replies != 2 || !asking.asking {
		t.Errorf("%q, %d replies, want %q", got, asking.replies, want)
	}
	if c.asking {
		t.Error("withAsking has changed the command")
	}
}

func TestScript(t *testing.T) {
	c := NewScript("return 1", false).On(1, "k", "l")
	c.Flag(false)
	if got, want := c.words(), "*6 $7 EVALSHA $40 e0e1f9fabfc9d4800c877a703b823ac0578ff8db $1 2 $1 k $1 l $1 0 "; got != want || c.key != "k" || c.repeatable {
		t.Errorf("%q, key %q, want %q", got, c.key, want)
	}
	c.Then(1, "TIME")
	whole := c.Whole()
	if got, want := whole.words(), "*6 $4 EVAL $8 return 1 $1 2 $1 k $1 l $1 0 *1 $4 TIME "; got != want || whole.key != "k" || whole.replies != 2 || whole.repeatable {
		t.Errorf("%q, %d replies, want %q", got, whole.replies, want)
	}
}
