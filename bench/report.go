// The report: all that was measured, as text and as JSON.

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
)

type report struct {
	Machine    machine     `json:"machine"`
	Sessions   int         `json:"sessions_per_contestant"`
	Rounds     int         `json:"rounds"`
	Slice      string      `json:"slice"`
	Results    []result    `json:"results"`
	Costs      []cost      `json:"costs"`
	Footprints []footprint `json:"footprints"`
	Redis      []redisUse  `json:"redis"`
	Growth     []growth    `json:"growth"`
	Targets    []target    `json:"targets"`

	workloads []workload // that were measured
}

// A machine is all that must be the same for two reports to be compared.
type machine struct {
	System string `json:"system"`
	CPUs   int    `json:"cpus"`
	Go     string `json:"go"`
	Redis  string `json:"redis"`
	Load   string `json:"load_generator"`
	Commit string `json:"commit"` // of pycket, or ""
}

func (r *report) result(workload, contestant string, connections int) (result, bool) {
	i := slices.IndexFunc(r.Results, func(c result) bool {
		return c.Workload == workload && c.Contestant == contestant && c.Connections == connections
	})
	if i < 0 {
		return result{}, false
	}
	return r.Results[i], true
}

// failures counts the requests that were answered wrong, or not at all.
func (r *report) failures() (n int) {
	for _, c := range r.Results {
		n += c.Failures
	}
	return n
}

func (r *report) writeJSON(file string) error {
	data, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(data, '\n'), 0o644)
}

func (r *report) writeText(out io.Writer) error {
	var text strings.Builder
	fmt.Fprintf(&text, "%s, %d CPUs, %s, Redis %s; %d rounds of %s\n", r.Machine.System, r.Machine.CPUs, r.Machine.Go, r.Machine.Redis, r.Rounds, r.Slice)
	fmt.Fprintf(&text, "Load: %s, with the cookies of %d sessions in turn.\n", r.Machine.Load, r.Sessions)
	if r.Machine.Commit != "" {
		fmt.Fprintf(&text, "Commit %s.\n", r.Machine.Commit)
	}
	fmt.Fprint(&text, "Ratios are to the floor, the first of each table, within the same round: median (quartiles).\n"+
		"CPU is per request; load generator, application and Redis share the machine.\n")
	for _, w := range r.workloads {
		r.resultTable(&text, w)
	}
	r.costTable(&text)
	r.redisTable(&text)
	r.footprintTable(&text)
	for _, g := range r.Growth {
		growthTable(&text, g)
	}
	r.targetTable(&text)
	_, err := io.WriteString(out, text.String())
	return err
}

// table writes a title and lines of cells in columns, all but the first column to the right.
func table(out *strings.Builder, title string, head []string, lines [][]string) {
	width := 0
	for _, line := range lines {
		width = max(width, len([]rune(line[0])))
	}
	fmt.Fprintf(out, "\n%s\n", title)
	columns := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, line := range append([][]string{head}, lines...) {
		// A strings.Builder takes everything.
		_, _ = fmt.Fprintf(columns, "%-*s\t%s\t\n", width, line[0], strings.Join(line[1:], "\t"))
	}
	_ = columns.Flush()
}

func (s spread) String() string { return fmt.Sprintf("%.2f (%.2f-%.2f)", s.Median, s.Q1, s.Q3) }

func (r *report) resultTable(out *strings.Builder, w workload) {
	var lines [][]string
	connections := 0
	for _, c := range r.Results {
		if c.Workload != w.Letter {
			continue
		}
		number := ""
		if c.Connections != connections {
			connections = c.Connections
			number = fmt.Sprint(connections)
		}
		lines = append(lines, []string{
			c.Contestant, number, c.Ratio.String(), fmt.Sprintf("%.0f", c.Throughput),
			fmt.Sprintf("%.0f", c.P50), fmt.Sprintf("%.0f", c.P99),
			fmt.Sprintf("%.1f", c.AppCPU), fmt.Sprintf("%.1f", c.RedisCPU), c.CPURatio.String(), fmt.Sprint(c.Failures),
		})
	}
	table(out, w.Letter+": "+w.Title,
		[]string{"", "connections", "throughput / floor", "requests/s", "p50 µs", "p99 µs", "app CPU µs", "Redis CPU µs", "CPU / floor", "failures"}, lines)
}

func (r *report) costTable(out *strings.Builder) {
	var lines [][]string
	for _, c := range r.Costs {
		lines = append(lines, []string{
			c.Workload + " " + c.Contestant, fmt.Sprintf("%.1f", c.Allocs), fmt.Sprintf("%.1f", c.OverBare), fmt.Sprintf("%.0f", c.Bytes),
			fmt.Sprintf("%.1f", c.Commands), fmt.Sprintf("%.1f", c.RoundTrips),
		})
	}
	table(out, "Per request, one at a time", []string{"", "allocations", "over bare handler", "bytes allocated", "commands", "round trips"}, lines)
}

func (r *report) redisTable(out *strings.Builder) {
	var lines [][]string
	for _, u := range r.Redis {
		var kinds []string
		for _, k := range u.Kinds {
			calls := ""
			if k.Calls != 1 {
				calls = fmt.Sprintf("%.3g ", k.Calls)
			}
			kinds = append(kinds, fmt.Sprintf("%s%s %.2f", calls, k.Name, k.Microseconds))
		}
		line := []string{u.Workload + " " + u.Contestant, fmt.Sprintf("%.1f", u.Processor), fmt.Sprintf("%.0f", u.PerCore), "-", "-",
			fmt.Sprintf("%.2f", u.InCommands), strings.Join(kinds, " + ")}
		if p := u.Pipelined; p != nil {
			line[3], line[4] = fmt.Sprintf("%.2f", p.Processor), fmt.Sprintf("%.0f", p.PerCore)
		}
		lines = append(lines, line)
	}
	table(out, fmt.Sprintf("What Redis spends on a request, at %d connections, and with 16 requests in a pipeline", targetConnections),
		[]string{"", "CPU µs", "a core serves/s", "pipelined CPU µs", "a core serves/s", "in commands µs", "which are, µs"}, lines)
}

func (r *report) footprintTable(out *strings.Builder) {
	var lines [][]string
	for _, f := range r.Footprints {
		lines = append(lines, []string{f.Contestant, fmt.Sprint(f.OneValue), fmt.Sprint(f.Wide)})
	}
	table(out, "Bytes in Redis per session", []string{"", "one value of 40 bytes", "50 of them"}, lines)
}

func growthTable(out *strings.Builder, g growth) {
	var lines [][]string
	for _, p := range g.Points {
		lines = append(lines, []string{p.X, fmt.Sprintf("%.1f", p.Value), p.Ratio.String()})
	}
	table(out, "Reading one value, by "+g.Axis, []string{"", g.Unit, "relative to " + g.RelativeTo}, lines)
}

func (r *report) targetTable(out *strings.Builder) {
	var lines [][]string
	for _, t := range r.Targets {
		bound, value, verdict := "at least", "-", "not measured"
		if t.AtMost {
			bound = "at most"
		}
		if t.Measured {
			value, verdict = fmt.Sprintf("%.3g", t.Value), "missed"
			if t.Met {
				verdict = "reached"
			}
		}
		lines = append(lines, []string{t.Name, value, fmt.Sprintf("%s %.4g", bound, t.Bound), verdict})
	}
	table(out, fmt.Sprintf("Targets, at %d connections unless it says so", targetConnections), []string{"", "value", "target", ""}, lines)
}
