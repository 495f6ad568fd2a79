// The rounds: every contestant of a workload gets one short slice in each, in a new order each time, and
// is compared with the floor's slice of the same round, so that what the machine does besides hits all.

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// A bench is what all measurements need.
type bench struct {
	redis    *redisServer
	server   *appServer
	wrk      *wrk // nil if the load comes from this process
	progress *progress
	order    *rand.Rand // of the contestants within a round
	sessions int        // of every entry
	rounds   int
	slice    time.Duration
}

// A result is one contestant of one workload at one number of connections.
type result struct {
	Workload    string  `json:"workload"`
	Connections int     `json:"connections"`
	Contestant  string  `json:"contestant"`
	Floor       string  `json:"floor"`
	Ratio       spread  `json:"throughput_ratio"` // to the floor
	CPURatio    spread  `json:"cpu_ratio"`        // application and Redis, to the floor
	Throughput  float64 `json:"requests_per_second"`
	P50         float64 `json:"p50_us"`
	P99         float64 `json:"p99_us"`
	AppCPU      float64 `json:"app_cpu_us"` // per request
	RedisCPU    float64 `json:"redis_cpu_us"`
	Requests    int     `json:"requests"`
	Failures    int     `json:"failures"`

	Commands map[string]commandUse `json:"redis_commands"` // of all rounds
}

// run measures one workload, with every number of connections in every round.
func (b *bench) run(ctx context.Context, w workload, connections []int) ([]result, error) {
	visitors, err := b.visitors(w, connections)
	if err != nil {
		return nil, err
	}
	turns := make([][][]*slice, len(connections)) // by connections, entry and round
	for i := range turns {
		turns[i] = make([][]*slice, len(w.entries))
	}
	for range b.rounds {
		for i, n := range connections {
			for _, j := range b.order.Perm(len(w.entries)) {
				if err := ctx.Err(); err != nil {
					return nil, err
				}
				b.progress.step(fmt.Sprintf("%s, %d connections: %s", w.Letter, n, w.entries[j].name), b.turnTime())
				s, err := b.take(w, w.entries[j], visitors[j], n)
				if err != nil {
					return nil, fmt.Errorf("workload %s, %s: %w", w.Letter, w.entries[j].name, err)
				}
				turns[i][j] = append(turns[i][j], s)
			}
		}
	}
	var results []result
	for i, n := range connections {
		for j, e := range w.entries {
			r := summarize(turns[i][j], turns[i][0])
			r.Workload, r.Connections, r.Contestant, r.Floor = w.Letter, n, e.name, w.entries[0].name
			results = append(results, r)
		}
	}
	return results, b.redis.flush()
}

// visitors makes visitors for every entry, with sessions if the workload needs them, and at least one for every
// connection.
func (b *bench) visitors(w workload, connections []int) ([][]*visitor, error) {
	n := max(b.sessions, slices.Max(connections))
	visitors := make([][]*visitor, len(w.entries))
	for j, e := range w.entries {
		if w.prepare == "" {
			for range n {
				visitors[j] = append(visitors[j], &visitor{})
			}
			continue
		}
		var err error
		if visitors[j], err = visit(b.server.addresses[e.app], w.prepare, n); err != nil {
			return nil, fmt.Errorf("workload %s, %s: %w", w.Letter, e.name, err)
		}
	}
	return visitors, nil
}

// turnTime is about what take takes, with warming up and collecting garbage.
func (b *bench) turnTime() time.Duration { return b.slice * 115 / 100 }

// take gives one contestant its slice.
func (b *bench) take(w workload, e entry, visitors []*visitor, connections int) (*slice, error) {
	address := b.server.addresses[e.app]
	browsers := make([]*browser, 0, connections)
	defer func() {
		for _, browser := range browsers {
			browser.close()
		}
	}()
	for i := range connections {
		var own []*visitor
		for j := i; j < len(visitors); j += connections {
			own = append(own, visitors[j])
		}
		browser, err := newBrowser(own, address, e.path, time.Now().Add(b.slice+2*patience))
		if err != nil {
			return nil, err
		}
		browsers = append(browsers, browser)
	}
	// This warms the connections up, those to Redis too. It is also what checks the answers for wrk, so its failures
	// count.
	warm := load(browsers, w.check, b.slice/10)
	if err := b.server.collectGarbage(); err != nil {
		return nil, err
	}

	before, err := b.usage()
	if err != nil {
		return nil, err
	}
	var s *slice
	if b.wrk != nil {
		s, err = b.wrk.load(address, e.path, visitors, connections, b.slice)
	} else {
		s = load(browsers, w.check, b.slice)
	}
	if err != nil {
		return nil, err
	}
	after, err := b.usage()
	if err != nil {
		return nil, err
	}
	s.failures += warm.failures
	s.appCPU, s.redisCPU = after.app-before.app, after.redis-before.redis
	s.commands = usedSince(before.commands, after.commands)
	if w.prepare == "" { // it makes sessions all the time, which must not pile up
		return s, b.redis.flush()
	}
	return s, nil
}

// A usage is what application and Redis have used since they began.
type usage struct {
	app, redis time.Duration // of the processor
	commands   map[string]commandUse
}

func (b *bench) usage() (u usage, err error) {
	if u.app, err = b.server.cpu(); err != nil {
		return u, err
	}
	if u.redis, err = b.redis.cpu(); err != nil {
		return u, err
	}
	u.commands, err = b.redis.commands()
	return u, err
}

// summarize compares the rounds of a contestant with those of the floor.
func summarize(rounds, floor []*slice) result {
	r := result{Commands: map[string]commandUse{}}
	var ratios, cpuRatios, throughputs, app, redis, p50, p99 []float64
	for i, s := range rounds {
		r.Requests += s.requests
		r.Failures += s.failures
		if s.requests == 0 || floor[i].requests == 0 {
			continue // there is nothing to divide by; the failures tell
		}
		for name, u := range s.commands {
			r.Commands[name] = r.Commands[name].plus(u)
		}
		p50, p99 = append(p50, microseconds(s.p50)), append(p99, microseconds(s.p99))
		throughputs = append(throughputs, s.throughput())
		ratios = append(ratios, s.throughput()/floor[i].throughput())
		app = append(app, microseconds(s.appCPU)/float64(s.requests))
		redis = append(redis, microseconds(s.redisCPU)/float64(s.requests))
		if floor[i].cpu() > 0 {
			cpuRatios = append(cpuRatios, s.cpu()/floor[i].cpu())
		}
	}
	r.Ratio, r.CPURatio = spreadOf(ratios), spreadOf(cpuRatios)
	r.Throughput = spreadOf(throughputs).Median
	r.AppCPU, r.RedisCPU = spreadOf(app).Median, spreadOf(redis).Median
	r.P50, r.P99 = spreadOf(p50).Median, spreadOf(p99).Median
	return r
}

func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
