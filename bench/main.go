// Bench measures pycket beside other session libraries and beside handlers that use none. See README.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// seed makes the order of the contestants the same in every run.
const seed = 20

// manySessions are as many as a busy process sees at a time.
const manySessions = 1000

// options are the flags.
type options struct {
	quick       bool
	rounds      int
	slice       time.Duration
	workloads   []workload
	connections []int
	generator   string
	json, plots string
	growth      bool
}

func main() {
	log.SetFlags(0)
	if address := os.Getenv(childVariable); address != "" {
		if err := serveApps(address); err != nil {
			log.Fatal(err)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	o, err := parseFlags(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil {
		err = run(ctx, o)
	}
	if err != nil {
		log.Fatal("bench: ", err)
	}
}

func parseFlags(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.BoolVar(&o.quick, "quick", false, "take about two minutes, without quartiles")
	flags.IntVar(&o.rounds, "rounds", 0, "`number` of rounds (6, with -quick 1)")
	flags.DurationVar(&o.slice, "slice", time.Second, "`duration` of a contestant's turn in a round; wrk takes whole seconds")
	flags.StringVar(&o.generator, "generator", "", "`generator` of the load, wrk or own (by default wrk where it is installed)")
	letters := flags.String("workloads", "A,B,C,D,E,F", "`letters` of the workloads to measure")
	numbers := flags.String("connections", "1,64", "`numbers` of connections")
	flags.StringVar(&o.json, "json", "", "write the results as JSON to this `file`")
	flags.StringVar(&o.plots, "plots", "", "write plots as SVG to this `directory`")
	flags.BoolVar(&o.growth, "growth", true, "measure how cost grows with sizes and numbers")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("%q is no flag; see -help", flags.Arg(0))
	}
	if o.rounds == 0 {
		o.rounds = 6
		if o.quick {
			o.rounds = 1
		}
	}
	if o.rounds < 0 || o.slice <= 0 {
		return o, errors.New("-rounds and -slice must be positive")
	}
	if !slices.Contains([]string{"", "wrk", "own"}, o.generator) {
		return o, fmt.Errorf("-generator: %q is no load generator; use wrk or own", o.generator)
	}
	for letter := range strings.SplitSeq(*letters, ",") {
		i := slices.IndexFunc(workloads, func(w workload) bool { return w.Letter == letter })
		if i < 0 {
			return o, fmt.Errorf("-workloads: %q is no workload; use A to F, with commas between", letter)
		}
		o.workloads = append(o.workloads, workloads[i])
	}
	for number := range strings.SplitSeq(*numbers, ",") {
		n, err := strconv.Atoi(number)
		if err != nil || n < 1 {
			return o, fmt.Errorf("-connections: %q is no number of connections; use numbers with commas between", number)
		}
		o.connections = append(o.connections, n)
	}
	return o, nil
}

// run starts Redis and the application, measures, reports, and stops both whatever happens.
func run(ctx context.Context, o options) (err error) {
	wrk, err := generatorOf(o)
	if err != nil {
		return err
	}
	if wrk != nil {
		defer func() { err = errors.Join(err, wrk.close()) }()
	}
	redis, err := startRedis(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, redis.stop()) }()
	server, err := startApps(redis.address)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.stop()) }()

	r, err := measure(ctx, redis, server, wrk, o)
	if err != nil {
		return err
	}
	if err := r.writeText(os.Stdout); err != nil {
		return err
	}
	if o.json != "" {
		if err := r.writeJSON(o.json); err != nil {
			return err
		}
	}
	if o.plots != "" {
		if err := r.writePlots(o.plots); err != nil {
			return err
		}
	}
	if n := r.failures(); n > 0 {
		return fmt.Errorf("%d requests failed; what failed is not measured", n)
	}
	return nil
}

// generatorOf returns wrk, or nil for the generator of load.go.
func generatorOf(o options) (*wrk, error) {
	if o.generator == "own" {
		return nil, nil
	}
	w, err := findWrk()
	if err == nil && w == nil && o.generator == "wrk" {
		err = errors.New("wrk is not installed; -generator own needs none")
	}
	if w != nil && o.slice%time.Second != 0 {
		err = errors.Join(errors.New("wrk takes whole seconds as -slice; -generator own takes less"), w.close())
	}
	return w, err
}

// commit describes what is measured, as git does. It is "" if that can't be known.
func commit(ctx context.Context) string {
	output, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*").Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(output))
}

func measure(ctx context.Context, redis *redisServer, server *appServer, wrk *wrk, o options) (*report, error) {
	version, err := redis.info("server", "redis_version")
	if err != nil {
		return nil, err
	}
	generator := "the benchmark's own generator"
	if wrk != nil {
		generator = "wrk " + wrk.version
	}
	r := &report{
		Machine: machine{
			System: runtime.GOOS + "/" + runtime.GOARCH, CPUs: runtime.NumCPU(),
			Go: runtime.Version(), Redis: version, Load: generator, Commit: commit(ctx),
		},
		Sessions:  manySessions,
		Rounds:    o.rounds,
		Slice:     o.slice.String(),
		workloads: o.workloads,
	}
	counted := 1000
	if o.quick {
		counted = 200
	}
	plan := growthPlanOf(o.quick)
	b := &bench{
		redis: redis, server: server, wrk: wrk, sessions: manySessions, rounds: o.rounds, slice: o.slice,
		order: rand.New(rand.NewPCG(seed, seed)),
	}
	total := timeOfCosts(o.workloads)
	for _, w := range o.workloads {
		total += time.Duration(o.rounds*len(o.connections)*len(w.entries)) * b.turnTime()
	}
	if o.growth {
		total += plan.time(b.turnTime())
	}
	b.progress = newProgress(os.Stderr, total)
	defer b.progress.end()

	for _, w := range o.workloads {
		results, err := b.run(ctx, w, o.connections)
		if err != nil {
			return nil, err
		}
		r.Results = append(r.Results, results...)
	}
	if r.Footprints, err = b.footprints(); err != nil {
		return nil, err
	}
	if r.Costs, err = b.measureCosts(ctx, o.workloads, counted); err != nil {
		return nil, err
	}
	if o.growth {
		if r.Growth, err = b.measureGrowth(ctx, plan); err != nil {
			return nil, err
		}
	}
	r.Redis = r.redisUses()
	r.Targets = targetsOf(r)
	return r, nil
}
