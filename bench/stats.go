package main

import (
	"math"
	"slices"
	"strings"
)

// spread is the middle of some values, and the smallest and the largest.
type spread struct {
	median, least, most float64
	n                   int
}

func spreadOf(values []float64) spread {
	if len(values) == 0 {
		return spread{}
	}
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return spread{median: (sorted[(n-1)/2] + sorted[n/2]) / 2, least: sorted[0], most: sorted[n-1], n: n}
}

// percentile is the smallest value that is not exceeded by p of a hundred values.
func percentile(values []float64, p float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[max(0, int(math.Ceil(float64(len(sorted))*p/100))-1)]
}

// values lists a figure of a system at a workload, in the order of the rounds.
func (r *results) values(workload, system, figure string) []float64 {
	var out []float64
	for _, rec := range r.Records {
		if rec.Workload == workload && rec.System == system {
			if v, ok := rec.Figures[figure]; ok {
				out = append(out, v)
			}
		}
	}
	return out
}

// operand is a figure of a system at a workload.
type operand struct{ workload, system, figure string }

// ratios divides one figure by another within each round.
func (r *results) ratios(above, below operand) []float64 {
	byRound := func(o operand) map[int]float64 {
		out := map[int]float64{}
		for _, rec := range r.Records {
			if rec.Workload == o.workload && rec.System == o.system {
				if v, ok := rec.Figures[o.figure]; ok {
					out[rec.Round] = v
				}
			}
		}
		return out
	}
	over, under := byRound(above), byRound(below)
	var out []float64
	for round := 1; round <= r.Rounds; round++ {
		a, ok := over[round]
		if b := under[round]; ok && b > 0 {
			out = append(out, a/b)
		}
	}
	return out
}

// as is the operand with another system where it names the worker.
func (o operand) as(worker string) operand {
	if rest, ok := strings.CutPrefix(o.system, "worker "); ok {
		o.system = worker + " " + rest
	}
	return o
}
