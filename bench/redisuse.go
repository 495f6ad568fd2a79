// What Redis spends on a request: its processor's time, by kind of command, and so what one core of it serves.

package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/gomodule/redigo/redis"
)

// A commandUse is what INFO commandstats says of a command: how often it ran, and how long.
type commandUse struct {
	Calls        int `json:"calls"`
	Microseconds int `json:"us"`
}

func (u commandUse) plus(v commandUse) commandUse {
	return commandUse{u.Calls + v.Calls, u.Microseconds + v.Microseconds}
}

// commands reads the uses of all commands since the server began. What a script or a transaction runs counts twice, in
// its own use and in that of EVALSHA or EXEC.
func (s *redisServer) commands() (map[string]commandUse, error) {
	text, err := redis.String(s.conn.Do("INFO", "commandstats"))
	if err != nil {
		return nil, err
	}
	return parseCommandStats(text)
}

func parseCommandStats(text string) (map[string]commandUse, error) {
	uses := map[string]commandUse{}
	for line := range strings.Lines(text) {
		name, numbers, ok := strings.Cut(strings.TrimPrefix(line, "cmdstat_"), ":")
		if !ok {
			continue // the section's heading
		}
		var u commandUse
		if _, err := fmt.Sscanf(numbers, "calls=%d,usec=%d,", &u.Calls, &u.Microseconds); err != nil {
			return nil, fmt.Errorf("redis says %q of its commands: %w", line, err)
		}
		uses[name] = u
	}
	return uses, nil
}

func usedSince(before, after map[string]commandUse) map[string]commandUse {
	uses := map[string]commandUse{}
	for name, u := range after {
		if calls := u.Calls - before[name].Calls; calls > 0 {
			uses[name] = commandUse{calls, u.Microseconds - before[name].Microseconds}
		}
	}
	return uses
}

// A redisUse is what Redis spends on one request of a contestant. The kinds of commands and how many there are of each
// are known from the requests that a proxy has seen, and how long they take from the contestant's turns.
type redisUse struct {
	Workload   string     `json:"workload"`
	Contestant string     `json:"contestant"`
	Kinds      []kindUse  `json:"kinds"`       // the longest first
	InCommands float64    `json:"commands_us"` // the sum of the kinds
	Processor  float64    `json:"processor_us"`
	PerCore    float64    `json:"requests_per_core_second"`
	Pipelined  *pipelined `json:"pipelined"`
}

// A kindUse is one kind of command in a request.
type kindUse struct {
	Name         string  `json:"name"`
	Calls        float64 `json:"calls"`
	Microseconds float64 `json:"us"` // of all calls
}

// redisUses brings together what the costs and the turns tell about all contestants that send commands.
func (r *report) redisUses() []redisUse {
	var uses []redisUse
	for _, c := range r.Costs {
		turns, ok := r.result(c.Workload, c.Contestant, targetConnections)
		if !ok || len(c.Kinds) == 0 || turns.RedisCPU == 0 {
			continue
		}
		u := redisUse{
			Workload: c.Workload, Contestant: c.Contestant, Pipelined: c.Pipelined,
			Processor: turns.RedisCPU, PerCore: 1e6 / turns.RedisCPU,
		}
		for name, calls := range c.Kinds {
			all := turns.Commands[name]
			k := kindUse{Name: name, Calls: calls, Microseconds: calls * float64(all.Microseconds) / float64(max(all.Calls, 1))}
			u.Kinds = append(u.Kinds, k)
			u.InCommands += k.Microseconds
		}
		slices.SortFunc(u.Kinds, func(a, b kindUse) int {
			return cmp.Or(cmp.Compare(b.Microseconds, a.Microseconds), strings.Compare(a.Name, b.Name))
		})
		uses = append(uses, u)
	}
	return uses
}

// A command is what a client sent, as the proxy saw it.
type command struct {
	args   []string
	queued bool // within MULTI, so that EXEC runs it
}

// kindsOf counts the commands by name, per request. What is queued is part of its EXEC.
func kindsOf(commands []command, requests int) map[string]float64 {
	counts := map[string]int{}
	for _, c := range commands {
		if !c.queued {
			counts[strings.ToLower(c.args[0])]++
		}
	}
	kinds := map[string]float64{}
	for name, n := range counts {
		kinds[name] = float64(n) / float64(requests)
	}
	return kinds
}

// A pipelined is what Redis spends on the commands of one request if it reads those of many at once, so that reading
// and answering hardly count.
type pipelined struct {
	Processor float64 `json:"processor_us"`
	PerCore   float64 `json:"requests_per_core_second"`
}

// pipeline sends the commands of a request again and again, 16 requests at a time.
func (s *redisServer) pipeline(commands []command) (*pipelined, error) {
	conn, err := redis.Dial("tcp", s.address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	const depth, batches, rounds = 16, 1000, 3
	var processor []float64
	for range rounds {
		before, err := s.cpu()
		if err != nil {
			return nil, err
		}
		for range batches {
			if err := sendAll(conn, commands, depth); err != nil {
				return nil, err
			}
		}
		after, err := s.cpu()
		if err != nil {
			return nil, err
		}
		processor = append(processor, microseconds(after-before)/(depth*batches))
	}
	median := spreadOf(processor).Median
	return &pipelined{median, 1e6 / median}, nil
}

// sendAll sends the commands a number of times in one write, and reads all replies.
func sendAll(conn redis.Conn, commands []command, times int) error {
	for range times {
		for _, c := range commands {
			if err := conn.Send(c.args[0], redis.Args{}.AddFlat(c.args[1:])...); err != nil {
				return err
			}
		}
	}
	if err := conn.Flush(); err != nil {
		return err
	}
	for range times * len(commands) {
		if _, err := conn.Receive(); err != nil {
			return err
		}
	}
	return nil
}
