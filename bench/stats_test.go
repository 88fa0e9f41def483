package main

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"
)

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   spread
	}{
		{nil, spread{}},
		{[]float64{7}, spread{7, 7, 7, 1}},
		{[]float64{3, 1, 2}, spread{2, 1, 3, 3}},
		{[]float64{4, 1, 3, 2}, spread{2.5, 1, 4, 4}},
	} {
		if got := spreadOf(c.values); got != c.want {
			t.Errorf("the spread of %v is %+v, want %+v", c.values, got, c.want)
		}
	}
}

func TestPercentile(t *testing.T) {
	var hundred []float64
	for i := range 100 {
		hundred = append(hundred, float64(100-i))
	}
	for p, want := range map[float64]float64{1: 1, 50: 50, 99: 99, 100: 100} {
		if got := percentile(hundred, p); got != want {
			t.Errorf("percentile %v of 1 to 100 is %v", p, got)
		}
	}
	if got := percentile([]float64{5, 9}, 99); got != 9 {
		t.Errorf("percentile 99 of 5 and 9 is %v", got)
	}
	if got := percentile(nil, 50); !math.IsNaN(got) {
		t.Errorf("a percentile of nothing is %v", got)
	}
}

// A round in which one of the two failed has no ratio, and no other round's figure takes its place.
func TestRatiosWithinRounds(t *testing.T) {
	r := &results{Rounds: 4, Records: []record{
		{Workload: "w", System: "a", Round: 1, Figures: figures{tasksPerSecond: 10}},
		{Workload: "w", System: "b", Round: 1, Figures: figures{tasksPerSecond: 5}},
		{Workload: "w", System: "a", Round: 2, Figures: figures{tasksPerSecond: 30}},
		{Workload: "w", System: "b", Round: 2, Error: "failed"},
		{Workload: "w", System: "b", Round: 3, Figures: figures{tasksPerSecond: 1}},
		{Workload: "w", System: "a", Round: 4, Figures: figures{tasksPerSecond: 9}},
		{Workload: "w", System: "b", Round: 4, Figures: figures{tasksPerSecond: 3}},
	}}
	got := r.ratios(operand{"w", "a", tasksPerSecond}, operand{"w", "b", tasksPerSecond})
	if want := []float64{2, 3}; !slices.Equal(got, want) {
		t.Errorf("the ratios are %v, want %v", got, want)
	}
}

// A trial whose tasks are done too soon is made again with more of them, up to a bound.
func TestTrialGrows(t *testing.T) {
	const rate, least = 10_000.0, 900.0
	var tried []int
	c := cell{trial: 100, most: 50_000, run: func(_ context.Context, tasks int) (figures, error) {
		tried = append(tried, tasks)
		if n := float64(tasks) - least; n > 0 {
			return figures{taskCount: n, tasksPerSecond: rate}, nil
		}
		return nil, errTooFew
	}}
	if f, err := c.try(t.Context()); err != nil || f[tasksPerSecond] != rate {
		t.Errorf("the trial has found %v, %v", f, err)
	}
	if want := []int{100, 800, 6400}; !slices.Equal(tried, want) {
		t.Errorf("it tried %v tasks, want %v", tried, want)
	}
	tried, c.most = nil, 800
	if _, err := c.try(t.Context()); !errors.Is(err, errTooFew) || !slices.Equal(tried, []int{100, 800}) {
		t.Errorf("at its bound the trial has tried %v and found %v", tried, err)
	}
}

func TestShort(t *testing.T) {
	for value, want := range map[float64]string{
		0: "0.00", 0.0123: "0.012", 0.25: "0.25", 3.14159: "3.14", 15.55: "15.6", 999.6: "1,000", 1234567: "1,234,567", -1500: "-1,500",
	} {
		if got := short(value); got != want {
			t.Errorf("%v is written %s, want %s", value, got, want)
		}
	}
}
