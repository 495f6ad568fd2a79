// The plots: line charts as SVG, readable on light and on dark ground.

package main

import (
	"fmt"
	"html"
	"math"
	"os"
	"path/filepath"
	"strings"
)

// A chart has lines over steps of equal width, with the quartiles as whiskers, and a line at 1 for what
// all are compared with.
type chart struct {
	title, xAxis, yAxis string
	one                 string // what stands at 1
	xs                  []string
	lines               []chartLine
}

type chartLine struct {
	name   string
	points []spread // one for each of xs
}

// writePlots makes all charts of a report.
func (r *report) writePlots(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	charts := map[string]chart{}
	for _, w := range r.workloads {
		charts["throughput-"+w.Letter] = r.chartOf(w, "throughput / floor (more is better)", func(c result) spread { return c.Ratio })
		charts["cpu-"+w.Letter] = r.chartOf(w, "CPU per request / floor (less is better)", func(c result) spread { return c.CPURatio })
	}
	for _, g := range r.Growth {
		c := chart{title: "Reading one value, by " + g.Axis, xAxis: g.Axis, yAxis: "relative to " + g.RelativeTo, one: g.RelativeTo}
		line := chartLine{name: "pycket"}
		for _, p := range g.Points {
			c.xs = append(c.xs, p.X)
			line.points = append(line.points, p.Ratio)
		}
		c.lines = []chartLine{line}
		charts["growth-"+g.Name] = c
	}
	for name, c := range charts {
		if err := os.WriteFile(filepath.Join(dir, name+".svg"), []byte(c.svg()), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (r *report) chartOf(w workload, yAxis string, of func(result) spread) chart {
	c := chart{title: w.Letter + ": " + w.Title, xAxis: "connections", yAxis: yAxis, one: w.entries[0].name}
	for _, e := range w.entries {
		line := chartLine{name: e.name}
		for _, result := range r.Results {
			if result.Workload != w.Letter || result.Contestant != e.name {
				continue
			}
			if e.name == c.one { // it is the line at 1
				c.xs = append(c.xs, fmt.Sprint(result.Connections))
				continue
			}
			line.points = append(line.points, of(result))
		}
		if e.name != c.one {
			c.lines = append(c.lines, line)
		}
	}
	return c
}

// A style makes a contestant look alike in all charts, and differ by more than its colour.
type style struct{ colour, marker string }

var styles = map[string]style{
	"pycket":             {"#e5534b", "M-5,0a5,5 0 1,0 10,0a5,5 0 1,0 -10,0z"},
	"pycket Increment":   {"#d8762c", "M-5,-5h10v10h-10z"},
	cachedPycket:         {"#a40e26", "M0,-6l6,6l-6,6l-6,-6z"},
	"rueidis cache":      {"#57606a", "M-5,-5h10v10h-10z"},
	"rueidis get":        {"#7d8590", "M0,-6l6,6l-6,6l-6,-6z"},
	"scs":                {"#2f81f7", "M0,-6l5.5,10h-11z"},
	"gorilla+boj":        {"#2da44e", "M0,6l5.5,-10h-11z"},
	"gorilla+boj, Save":  {"#1b9e9e", "M0,-6l6,6l-6,6l-6,-6z"},
	"gorilla+rbcervilla": {"#a371f7", "M-5,-5h10v10h-10z"},
	"gin":                {"#bf8700", "M-5,0a5,5 0 1,0 10,0a5,5 0 1,0 -10,0z"},
}

const (
	chartWidth, chartHeight       = 800, 440
	left, right, top, bottom      = 70, 210, 50, 60
	plotWidth, plotHeight         = chartWidth - left - right, chartHeight - top - bottom
	whiskerWidth, betweenWhiskers = 3, 5
)

const chartStyle = `<style>
svg { --ink: #1f2328; --faint: #d0d7de; --ground: #ffffff; font: 13px system-ui, sans-serif }
@media (prefers-color-scheme: dark) { svg { --ink: #e6edf3; --faint: #3d444d; --ground: #0d1117 } }
text { fill: var(--ink) }
.ground { fill: var(--ground) }
.grid { stroke: var(--faint) }
.one { stroke: var(--ink); stroke-dasharray: 6 4 }
.title { font-size: 16px; font-weight: 600 }
.line { fill: none; stroke-width: 2 }
</style>
`

func (c chart) svg() string {
	highest, step := c.scale()
	x := func(i int) float64 { return left + (float64(i)+0.5)*plotWidth/float64(len(c.xs)) }
	y := func(v float64) float64 { return top + plotHeight*(1-v/highest) }

	var b strings.Builder
	text := func(x, y float64, attributes, s string) {
		fmt.Fprintf(&b, `<text x="%.1f" y="%.1f" %s>%s</text>`+"\n", x, y, attributes, html.EscapeString(s))
	}
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" aria-label="%s">`+"\n",
		chartWidth, chartHeight, html.EscapeString(c.title))
	b.WriteString(chartStyle)
	fmt.Fprintf(&b, `<rect class="ground" width="%d" height="%d"/>`+"\n", chartWidth, chartHeight)
	text(left, 28, `class="title"`, c.title)
	text(left+plotWidth/2, chartHeight-14, `text-anchor="middle"`, c.xAxis)
	text(0, 0, fmt.Sprintf(`text-anchor="middle" transform="translate(18 %d) rotate(-90)"`, top+plotHeight/2), c.yAxis)
	for i := 0; float64(i)*step <= highest+step/2; i++ {
		v := float64(i) * step
		fmt.Fprintf(&b, `<line class="grid" x1="%d" x2="%d" y1="%.1f" y2="%.1f"/>`+"\n", left, left+plotWidth, y(v), y(v))
		text(left-8, y(v)+4, `text-anchor="end"`, fmt.Sprintf("%.4g", v))
	}
	for i, name := range c.xs {
		text(x(i), top+plotHeight+20, `text-anchor="middle"`, name)
	}
	fmt.Fprintf(&b, `<line class="one" x1="%d" x2="%d" y1="%.1f" y2="%.1f"/>`+"\n", left, left+plotWidth, y(1), y(1))

	const legend = left + plotWidth + 20
	fmt.Fprintf(&b, `<line class="one" x1="%d" x2="%d" y1="%d" y2="%d"/>`+"\n", legend, legend+24, top+10, top+10)
	text(legend+32, top+14, "", c.one+" = 1")
	for i, line := range c.lines {
		// Lines stand a little beside each other, so that no whisker hides another.
		aside := (float64(i) - float64(len(c.lines)-1)/2) * betweenWhiskers
		place := func(j int) float64 { return x(j) + aside }
		style := styles[line.name]
		fmt.Fprintf(&b, `<g stroke="%s" fill="%s">`+"\n", style.colour, style.colour)
		var path strings.Builder
		for j, p := range line.points {
			fmt.Fprintf(&path, "%.1f,%.1f ", place(j), y(p.Median))
			fmt.Fprintf(&b, `<path d="M%.1f,%.1fh%dm-%d,0V%.1fm-%d,0h%d"/>`+"\n", place(j)-whiskerWidth, y(p.Q1),
				2*whiskerWidth, whiskerWidth, y(p.Q3), whiskerWidth, 2*whiskerWidth)
			fmt.Fprintf(&b, `<path d="%s" transform="translate(%.1f %.1f)"/>`+"\n", style.marker, place(j), y(p.Median))
		}
		fmt.Fprintf(&b, `<polyline class="line" points="%s"/>`+"\n", strings.TrimSpace(path.String()))
		key := top + 34 + 24*i
		fmt.Fprintf(&b, `<path d="M%d,%dh24" stroke-width="2"/><path d="%s" transform="translate(%d %d)"/>`+"\n</g>\n", legend, key, style.marker, legend+12, key)
		text(legend+32, float64(key)+4, "", line.name)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// scale chooses the end of the y axis, which begins at 0, and the distance of its marks.
func (c chart) scale() (highest, step float64) {
	most := 1.0
	for _, line := range c.lines {
		for _, p := range line.points {
			most = max(most, p.Q3)
		}
	}
	most *= 1.05
	step = math.Pow(10, math.Floor(math.Log10(most)))
	for _, part := range []float64{0.1, 0.2, 0.5} {
		if most/(step*part) <= 10 {
			step *= part
			break
		}
	}
	return math.Ceil(most/step) * step, step
}
