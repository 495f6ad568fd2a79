// The report: all that was measured, as text and as JSON.

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
)

type report struct {
	Machine    machine     `json:"machine"`
	Rounds     int         `json:"rounds"`
	Slice      string      `json:"slice"`
	Results    []result    `json:"results"`
	Costs      []cost      `json:"costs"`
	Footprints []footprint `json:"footprints"`
	Growth     []growth    `json:"growth"`
	Targets    []target    `json:"targets"`

	workloads []workload // that were measured
}

type machine struct {
	System string `json:"system"`
	CPUs   int    `json:"cpus"`
	Go     string `json:"go"`
	Redis  string `json:"redis"`
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
	fmt.Fprint(&text, "Ratios are to the floor, the first of each table, within the same round: median (quartiles).\n"+
		"CPU is per request; load generator, application and Redis share the machine.\n")
	for _, w := range r.workloads {
		r.resultTable(&text, w)
	}
	r.costTable(&text)
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
			value, verdict = fmt.Sprintf("%.4g", t.Value), "missed"
			if t.Met {
				verdict = "met"
			}
		}
		lines = append(lines, []string{t.Name, fmt.Sprintf("%s %g", bound, t.Bound), value, verdict})
	}
	table(out, fmt.Sprintf("Targets, at %d connections", targetConnections), []string{"", "target", "measured", ""}, lines)
}
