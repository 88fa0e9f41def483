package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// cell is one system at one workload.
type cell struct {
	system string
	run    func(ctx context.Context, tasks int) (figures, error)
	// The first measurement is a trial of so many tasks, which is not kept; the others have as many as fit the time.
	// 0: run chooses by itself.
	trial int
	most  int // tasks
}

// workload is what each of some systems does once in each round.
type workload struct {
	name  string
	title string
	about string
	skip  string // why it is not done; empty: it is
	cells []cell
}

// record is what one measurement has found.
type record struct {
	Workload string  `json:"workload"`
	System   string  `json:"system"`
	Round    int     `json:"round"`
	Figures  figures `json:"figures,omitempty"`
	Error    string  `json:"error,omitempty"`
}

// results is the raw file.
type results struct {
	Date      time.Time     `json:"date"`
	Machine   machine       `json:"machine"`
	Rounds    int           `json:"rounds"`
	Seconds   float64       `json:"seconds"` // that one measurement should take
	Quick     bool          `json:"quick"`
	Took      string        `json:"took"`
	Workloads []description `json:"workloads"`
	Records   []record      `json:"records"`
}

// description is what the page says of a workload.
type description struct {
	Name    string   `json:"name"`
	Title   string   `json:"title"`
	About   string   `json:"about"`
	Skipped string   `json:"skipped,omitempty"`
	Systems []string `json:"systems"`
}

// quickLimit is when a quick run stops to begin measurements.
const quickLimit = 150 * time.Second

// rounds measures everything that was chosen and returns how many measurements have failed. In each round the order of
// the systems is turned by one, so that none is always the first.
func (b *bench) rounds(ctx context.Context, r *results) (failed int) {
	began := time.Now()
	workloads := b.workloads()
	for i, w := range workloads {
		if !b.options.only.MatchString(w.name) {
			workloads[i].skip = "not chosen"
		}
		d := description{Name: w.name, Title: w.title, About: w.about, Skipped: workloads[i].skip}
		for _, c := range w.cells {
			d.Systems = append(d.Systems, c.system)
		}
		r.Workloads = append(r.Workloads, d)
	}
	for round := 1; round <= r.Rounds; round++ {
		for _, w := range workloads {
			if w.skip != "" {
				continue
			}
			for i := range w.cells {
				c := w.cells[(i+round-1)%len(w.cells)]
				if ctx.Err() != nil || !b.options.systems.MatchString(c.system) {
					continue
				}
				if b.options.quick && time.Since(began) > quickLimit {
					r.Records = append(r.Records, record{Workload: w.name, System: c.system, Round: round, Error: "no time was left"})
					continue
				}
				rec := b.measureCell(ctx, w.name, c, round)
				if rec.Error != "" {
					failed++
				}
				r.Records = append(r.Records, rec)
			}
		}
	}
	r.Took = time.Since(began).Round(time.Second).String()
	return failed
}

func (b *bench) measureCell(ctx context.Context, workload string, c cell, round int) record {
	rec := record{Workload: workload, System: c.system, Round: round}
	began := time.Now()
	tasks, trial, err := b.taskCount(ctx, workload, c)
	if rec.Figures = trial; err == nil && trial == nil {
		rec.Figures, err = c.run(ctx, tasks)
	}
	line := fmt.Sprintf("%d/%d %-10s %-22s", round, b.options.rounds, workload, c.system)
	if err != nil {
		rec.Error = err.Error()
		fmt.Fprintf(os.Stderr, "%s failed: %v\n", line, err)
		return rec
	}
	if rate := rec.Figures[tasksPerSecond]; rate > 0 {
		b.rates[workload+" "+c.system] = rate
	}
	fmt.Fprintf(os.Stderr, "%s %s (%.1f s)\n", line, headline(rec.Figures), time.Since(began).Seconds())
	return rec
}

// taskCount says how many tasks take the time that a measurement should take. In a quick run a trial that took half of
// that time is the measurement.
func (b *bench) taskCount(ctx context.Context, workload string, c cell) (int, figures, error) {
	if c.trial == 0 {
		return 0, nil, nil
	}
	rate, known := b.rates[workload+" "+c.system]
	if !known {
		f, err := c.try(ctx)
		if err != nil {
			return 0, nil, fmt.Errorf("trial: %w", err)
		}
		rate = f[tasksPerSecond]
		if b.options.quick && f[taskCount] >= rate*b.options.seconds/2 {
			return 0, f, nil
		}
	}
	return min(max(int(rate*b.options.seconds), c.trial), c.most), nil, nil
}

// try makes the trial: with more tasks when they were done too soon to tell a rate.
func (c cell) try(ctx context.Context) (figures, error) {
	const enough, grow = 0.1, 8 // seconds; times
	for tasks := c.trial; ; tasks = min(c.most, grow*tasks) {
		f, err := c.run(ctx, tasks)
		if tasks < c.most && (errors.Is(err, errTooFew) || err == nil && f[taskCount] < enough*f[tasksPerSecond]) {
			continue
		}
		return f, err
	}
}

// headline is the figure that a line of progress shows.
func headline(f figures) string {
	if rate, ok := f[tasksPerSecond]; ok {
		return fmt.Sprintf("%9.0f tasks/s %8.0f us", rate, f[totalCPU])
	}
	if ms, ok := f[startTime]; ok {
		return fmt.Sprintf("%9.0f ms", ms)
	}
	if ms, ok := f[stopBeyond]; ok {
		return fmt.Sprintf("%9.0f ms beyond the timeouts", ms)
	}
	if p50, ok := f[latencyP50]; ok {
		return fmt.Sprintf("p50 %.2f ms, p99 %.2f ms", p50, f[latencyP99])
	}
	if cpu, ok := f[roundCPU]; ok {
		return fmt.Sprintf("%9.0f ms of CPU a round", cpu)
	}
	return fmt.Sprintf("%9.1f commands/s", f[idleCommands])
}

func (r *results) save(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("save the raw file: %w", err)
	}
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return fmt.Errorf("encode the raw file: %w", err)
	}
	if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("save the raw file: %w", err)
	}
	return nil
}

func loadResults(path string) (*results, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the raw file: %w", err)
	}
	r := &results{}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("read the raw file %s: %w", path, err)
	}
	return r, nil
}
