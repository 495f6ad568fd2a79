// The rounds: every contestant of a workload gets one short slice in each, in a new order each time, and
// is compared with the floor's slice of the same round, so that what the machine does besides hits all.

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// A bench is what all measurements need.
type bench struct {
	redis    *redisServer
	server   *appServer
	progress *progress
	order    *rand.Rand // of the contestants within a round
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
}

// run measures one workload, with every number of connections in every round.
func (b *bench) run(ctx context.Context, w workload, connections []int) ([]result, error) {
	visitors, err := b.visitors(w, connections)
	if err != nil {
		return nil, err
	}
	slices := make([][][]*slice, len(connections)) // by connections, entry and round
	for i := range slices {
		slices[i] = make([][]*slice, len(w.entries))
	}
	for range b.rounds {
		for i, n := range connections {
			for _, j := range b.order.Perm(len(w.entries)) {
				if err := ctx.Err(); err != nil {
					return nil, err
				}
				b.progress.step(fmt.Sprintf("%s, %d connections: %s", w.Letter, n, w.entries[j].name))
				s, err := b.take(w, w.entries[j], visitors[j][:n])
				if err != nil {
					return nil, fmt.Errorf("workload %s, %s: %w", w.Letter, w.entries[j].name, err)
				}
				slices[i][j] = append(slices[i][j], s)
			}
		}
	}
	var results []result
	for i, n := range connections {
		for j, e := range w.entries {
			r := summarize(slices[i][j], slices[i][0])
			r.Workload, r.Connections, r.Contestant, r.Floor = w.Letter, n, e.name, w.entries[0].name
			results = append(results, r)
		}
	}
	return results, b.redis.flush()
}

// visitors makes as many sessions for every entry as there are connections at most.
func (b *bench) visitors(w workload, connections []int) ([][]*visitor, error) {
	most := 0
	for _, n := range connections {
		most = max(most, n)
	}
	visitors := make([][]*visitor, len(w.entries))
	for j, e := range w.entries {
		for range most {
			v := &visitor{}
			if w.prepare != "" {
				var err error
				if v, err = visit(b.server.addresses[e.app], w.prepare); err != nil {
					return nil, fmt.Errorf("workload %s, %s: %w", w.Letter, e.name, err)
				}
			}
			visitors[j] = append(visitors[j], v)
		}
	}
	return visitors, nil
}

// take gives one contestant its slice.
func (b *bench) take(w workload, e entry, visitors []*visitor) (*slice, error) {
	browsers := make([]*browser, 0, len(visitors))
	defer func() {
		for _, browser := range browsers {
			browser.close()
		}
	}()
	for _, v := range visitors {
		browser, err := newBrowser(v, b.server.addresses[e.app], e.path, time.Now().Add(b.slice+2*patience))
		if err != nil {
			return nil, err
		}
		browsers = append(browsers, browser)
	}
	// This warms the connections up, those to Redis too. What fails now will fail again and be counted.
	load(browsers, w.check, b.slice/10)
	if err := b.server.collectGarbage(); err != nil {
		return nil, err
	}

	appBefore, redisBefore, err := b.cpu()
	if err != nil {
		return nil, err
	}
	s := load(browsers, w.check, b.slice)
	appAfter, redisAfter, err := b.cpu()
	if err != nil {
		return nil, err
	}
	s.appCPU, s.redisCPU = appAfter-appBefore, redisAfter-redisBefore
	if w.prepare == "" { // it makes sessions all the time, which must not pile up
		return s, b.redis.flush()
	}
	return s, nil
}

func (b *bench) cpu() (app, redis time.Duration, err error) {
	if app, err = b.server.cpu(); err == nil {
		redis, err = b.redis.cpu()
	}
	return app, redis, err
}

// summarize compares the rounds of a contestant with those of the floor.
func summarize(rounds, floor []*slice) result {
	var r result
	var ratios, cpuRatios, throughputs, app, redis []float64
	var latencies histogram
	for i, s := range rounds {
		r.Requests += s.requests
		r.Failures += s.failures
		latencies.merge(&s.latencies)
		if s.requests == 0 || floor[i].requests == 0 {
			continue // there is nothing to divide by; the failures tell
		}
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
	r.P50, r.P99 = microseconds(latencies.quantile(0.5)), microseconds(latencies.quantile(0.99))
	return r
}

func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
