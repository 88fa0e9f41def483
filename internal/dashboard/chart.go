package dashboard

import (
	"math"
	"strconv"
)

// Every chart is drawn on a canvas of this size and stretched to where it stands.
const (
	canvasWidth  = 1000
	canvasHeight = 200
	canvasMargin = 4 // above and below, for half of a line's width
)

// The numbers of points that are worth drawing.
const (
	sparkPoints = 90
	plotPoints  = 300
)

// plot is a chart ready for the template.
type plot struct {
	Label         string
	Width, Height int
	Series        []series
	Top, Now      string // the largest value of the scale, and the last that was measured
	Empty         bool   // nothing was measured
}

// series is one line of a plot; the paths have nothing but letters and digits in them.
type series struct {
	Name       string // of the style sheet's class
	Line, Area string
}

// spark draws a small chart; write formats its values.
func spark(c Chart, write func(float64) string) plot {
	return newPlot(sparkPoints, write, named{"first", c})
}

// overlay draws two charts on one scale, the second, of its own colour, before the first.
func overlay(back, front Chart, colour string, write func(float64) string) plot {
	p := newPlot(plotPoints, write, named{"first", back}, named{colour, front})
	p.Label = line(back.Label) + "; " + line(front.Label)
	return p
}

type named struct {
	name  string
	chart Chart
}

func newPlot(points int, write func(float64) string, charts ...named) plot {
	p := plot{Label: line(charts[0].chart.Label), Width: canvasWidth, Height: canvasHeight, Empty: true}
	top := 0.0
	for _, c := range charts {
		top = max(top, scale(c.chart))
	}
	for _, c := range charts {
		values := thin(c.chart.Values, points)
		line, area := draw(values, top)
		p.Series = append(p.Series, series{Name: c.name, Line: line, Area: area})
		p.Empty = p.Empty && line == ""
	}
	p.Top, p.Now = write(top), write(last(charts[0].chart.Values))
	return p
}

// scale is the top of a chart, however wrong it may have been given.
func scale(c Chart) float64 {
	top := 0.0
	if c.Top > 0 && !math.IsInf(c.Top, 0) {
		top = c.Top
	}
	for _, v := range c.Values {
		if v > top && !math.IsInf(v, 0) {
			top = v
		}
	}
	return top
}

// last is the newest value; NaN when it was not measured.
func last(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	return values[len(values)-1]
}

// thin leaves at most limit points, each the largest of those it stands for, so that no peak is lost.
func thin(values []float64, limit int) []float64 {
	if len(values) <= limit {
		return values
	}
	out := make([]float64, limit)
	for i := range out {
		out[i] = math.NaN()
		for _, v := range values[i*len(values)/limit : (i+1)*len(values)/limit] {
			if math.IsNaN(out[i]) || v > out[i] {
				out[i] = v
			}
		}
	}
	return out
}

// draw makes the paths of a line and of the area below it. What was not measured leaves a gap; a lone value is a dot.
func draw(values []float64, top float64) (line, area string) {
	var l, a []byte
	for i := 0; i < len(values); {
		if math.IsNaN(values[i]) {
			i++
			continue
		}
		from := i
		for i < len(values) && !math.IsNaN(values[i]) {
			i++
		}
		l = segment(l, values, from, i, top)
		a = segment(a, values, from, i, top)
		a = append(a, 'V')
		a = strconv.AppendInt(a, canvasHeight, 10)
		a = append(a, 'H')
		a = strconv.AppendInt(a, across(from, len(values)), 10)
		a = append(a, 'Z')
	}
	return string(l), string(a)
}

// segment appends the line through values[from:to].
func segment(path []byte, values []float64, from, to int, top float64) []byte {
	for i := from; i < to; i++ {
		command := byte('L')
		if i == from {
			command = 'M'
		}
		path = append(path, command)
		path = strconv.AppendInt(path, across(i, len(values)), 10)
		path = append(path, ' ')
		path = strconv.AppendInt(path, up(values[i], top), 10)
	}
	if to == from+1 {
		path = append(path, "h0"...) // with round caps a line without length is a dot
	}
	return path
}

// across is where the i-th of n values stands, the newest at the right edge.
func across(i, n int) int64 {
	if n < 2 {
		return canvasWidth
	}
	return int64(math.Round(float64(i) * canvasWidth / float64(n-1)))
}

// up is how high a value stands, counted from above as SVG does.
func up(v, top float64) int64 {
	share := 0.0
	if top > 0 {
		share = min(1, max(0, v/top))
	}
	return int64(math.Round(canvasHeight - canvasMargin - share*(canvasHeight-2*canvasMargin)))
}
