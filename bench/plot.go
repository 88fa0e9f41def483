package main

import (
	"bytes"
	"fmt"
	"html"
	"math"
)

// drawPlot draws the rates of the first workload as bars, on a logarithmic scale.
func drawPlot(r *results) []byte {
	const width, left, right, row, top = 760, 190, 70, 22, 46
	type bar struct {
		system string
		rate   spread
	}
	var bars []bar
	least, most := math.Inf(1), 0.0
	for _, d := range r.Workloads {
		if d.Name != "noop" {
			continue
		}
		for _, s := range d.Systems {
			if rate := spreadOf(r.values(d.Name, s, tasksPerSecond)); rate.n > 0 {
				bars = append(bars, bar{s, rate})
				least, most = min(least, rate.median), max(most, rate.median)
			}
		}
	}
	var p bytes.Buffer
	height := top + row*len(bars) + 30
	fmt.Fprintf(&p, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n",
		width, height, width, height)
	fmt.Fprint(&p, "<style>text{fill:#24292f}.bar{fill:#8c959f}.ours{fill:#0969da}.line{stroke:#d0d7de}"+
		"@media(prefers-color-scheme:dark){text{fill:#e6edf3}.bar{fill:#6e7681}.ours{fill:#4493f8}.line{stroke:#30363d}}</style>\n")
	fmt.Fprintf(&p, `<text x="8" y="20" font-size="14" font-weight="bold">Tasks that do nothing: tasks a second, medians, logarithmic scale</text>`+"\n")
	if len(bars) == 0 {
		fmt.Fprint(&p, "</svg>\n")
		return p.Bytes()
	}
	low, high := math.Floor(math.Log10(least)), math.Ceil(math.Log10(most))
	high = max(high, low+1)
	at := func(rate float64) float64 {
		return left + (math.Log10(rate)-low)/(high-low)*(width-left-right)
	}
	for e := low; e <= high; e++ {
		x := at(math.Pow(10, e))
		fmt.Fprintf(&p, `<line class="line" x1="%.1f" x2="%.1f" y1="%d" y2="%d"/><text x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n",
			x, x, top-8, height-24, x, height-8, grouped(fmt.Sprintf("%.0f", math.Pow(10, e))))
	}
	for i, b := range bars {
		y, class := top+i*row, "bar"
		if len(b.system) > 6 && b.system[:6] == "worker" {
			class = "bar ours"
		}
		fmt.Fprintf(&p, `<text x="%d" y="%d" text-anchor="end">%s</text><rect class="%s" x="%d" y="%d" width="%.1f" height="%d"/><text x="%.1f" y="%d">%s</text>`+"\n",
			left-8, y+12, html.EscapeString(b.system), class, left, y, at(b.rate.median)-left, row-6, at(b.rate.median)+6, y+12, short(b.rate.median))
	}
	fmt.Fprint(&p, "</svg>\n")
	return p.Bytes()
}
