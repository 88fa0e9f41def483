package dashboard

import (
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestDraw(t *testing.T) {
	none := math.NaN()
	for _, c := range []struct {
		name       string
		values     []float64
		top        float64
		line, area string
	}{
		{"nothing", nil, 1, "", ""},
		{"nothing measured", []float64{none, none}, 1, "", ""},
		{"from the floor to the top", []float64{0, 10}, 10, "M0 196L1000 4", "M0 196L1000 4V200H0Z"},
		{"a gap", []float64{10, 10, none, 5, 5}, 10, "M0 4L250 4M750 100L1000 100", "M0 4L250 4V200H0ZM750 100L1000 100V200H750Z"},
		{"a lone value is a dot", []float64{none, 5, none}, 10, "M500 100h0", "M500 100h0V200H500Z"},
		{"one value", []float64{10}, 10, "M1000 4h0", "M1000 4h0V200H1000Z"},
		{"no scale", []float64{0, 0}, 0, "M0 196L1000 196", "M0 196L1000 196V200H0Z"},
		{"beyond the scale", []float64{-3, math.Inf(1)}, 1, "M0 196L1000 4", "M0 196L1000 4V200H0Z"},
	} {
		if line, area := draw(c.values, c.top); line != c.line || area != c.area {
			t.Errorf("%s: line %q, area %q; want %q, %q", c.name, line, area, c.line, c.area)
		}
	}
}

func TestThinKeepsPeaks(t *testing.T) {
	values := make([]float64, 1000)
	values[517] = 9
	for i := 200; i < 300; i++ {
		values[i] = math.NaN()
	}
	got := thin(values, 90)
	if len(got) != 90 || slices.Max(slices.DeleteFunc(slices.Clone(got), math.IsNaN)) != 9 {
		t.Errorf("%d points, the peak is lost: %v", len(got), got)
	}
	if !slices.ContainsFunc(got, math.IsNaN) {
		t.Error("the gap is lost")
	}
	if short := []float64{1, 2}; &thin(short, 90)[0] != &short[0] {
		t.Error("a short series is copied")
	}
}

func TestPlot(t *testing.T) {
	p := overlay(Chart{Label: "all", Values: []float64{1, 4}, Top: 4}, Chart{Label: "failed", Values: []float64{0, 2}, Top: 2}, "second", rate)
	if p.Label != "all; failed" || p.Top != "4/s" || p.Now != "4/s" || p.Empty {
		t.Errorf("plot %+v", p)
	}
	if want := "M0 196L1000 100"; p.Series[1].Line != want {
		t.Errorf("the second line is %q, want %q: both have one scale", p.Series[1].Line, want)
	}
	if p := spark(Chart{Label: "none", Values: []float64{math.NaN()}}, amount); !p.Empty || p.Now != nothing {
		t.Errorf("nothing measured gives %+v", p)
	}
	// A wrong top does not push the line out of the picture.
	for _, top := range []float64{math.NaN(), math.Inf(1), -1, 0, 3} {
		if p := spark(Chart{Values: []float64{0, 8}, Top: top}, amount); p.Top != "8" || !strings.HasSuffix(p.Series[0].Line, "L1000 4") {
			t.Errorf("with a top of %v: %+v", top, p)
		}
	}
}

func FuzzDraw(f *testing.F) {
	f.Add([]byte{1, 2, 255, 3}, 4.0)
	path := regexp.MustCompile(`^[MLVHZh0-9 ]*$`)
	number := regexp.MustCompile(`\d+`)
	f.Fuzz(func(t *testing.T, raw []byte, top float64) {
		values := make([]float64, len(raw))
		for i, b := range raw {
			values[i] = float64(b) - 3
			switch b {
			case 255:
				values[i] = math.NaN()
			case 254:
				values[i] = math.Inf(1)
			}
		}
		line, area := draw(thin(values, plotPoints), top)
		for _, p := range []string{line, area} {
			if !path.MatchString(p) {
				t.Fatalf("the path %q has more than letters and digits", p)
			}
			for _, n := range number.FindAllString(p, -1) {
				if len(n) > 4 {
					t.Fatalf("the path %q leaves the picture", p)
				}
			}
		}
	})
}
