package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/runqy/runqy-worker/bench/internal/programs"
)

// sample has two rounds of one workload; another failed and a third was not chosen.
func sample() *results {
	r := &results{
		Date: time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC), Rounds: 2, Took: "1m0s",
		Machine: machine{
			Machine: programs.Machine{
				CPU: "a processor", Cores: 2, Memory: "8 GiB", Versions: map[string]string{"Redis": "7.0.15"}, Command: "make bench",
			},
			Baseline: "abc",
		},
		Workloads: []description{
			{Name: "noop", Title: "Nothing", About: "Tasks.", Systems: []string{"worker c100", "baseline c100", "asynq + pipe c100", "RQ <Worker>"}},
			{Name: "delay", Title: "Far", About: "A proxy.", Systems: []string{"worker c100 1 ms"}},
			{Name: "push", Title: "Push", About: "Pushes.", Skipped: "not chosen", Systems: []string{"worker c1"}},
		},
	}
	for round := 1; round <= 2; round++ {
		for system, rate := range map[string]float64{"worker c100": 6000, "baseline c100": 700, "asynq + pipe c100": 1000, "RQ <Worker>": 50} {
			r.Records = append(r.Records, record{Workload: "noop", System: system, Round: round, Figures: figures{tasksPerSecond: rate * float64(round)}})
		}
	}
	r.Records = append(r.Records, record{Workload: "delay", System: "worker c100 1 ms", Round: 1, Error: "no such thing\nsecond line"})
	return r
}

func TestPage(t *testing.T) {
	page := string(pageOf(sample(), "images/benchmarks.svg"))
	for _, want := range []string{
		"| no-op, c100, against asynq + pipe c100 | 0.70× (0.7×) | ≥ 5× | 6.00× (6.00–6.00) | met |",
		"| scripts per task, c100 | (5) | ≤ 0.1 | not measured |  |",
		"| worker c100 | 9,000 (6,000–12,000) |",
		"| worker c100 1 ms | not measured: no such thing",
		"Not measured: not chosen.",
		"Redis 7.0.15",
		"the worker of revision abc",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not have %q:\n%s", want, page)
		}
	}
}

func TestPlotIsXML(t *testing.T) {
	for _, r := range []*results{sample(), {}} {
		d := xml.NewDecoder(strings.NewReader(string(drawPlot(r))))
		for {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("the plot: %v\n%s", err, drawPlot(r))
			}
		}
	}
	if plot := string(drawPlot(sample())); !strings.Contains(plot, "RQ &lt;Worker&gt;") || !strings.Contains(plot, ">9,000</text>") {
		t.Errorf("the plot:\n%s", plot)
	}
}

// The page can be written again from the raw file.
func TestRawFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "results", "1.json")
	if err := sample().save(path); err != nil {
		t.Fatal(err)
	}
	again, err := loadResults(path)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "images"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := writePage(filepath.Join(dir, "page.md"), again); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(dir, "page.md"))
	if err != nil {
		t.Fatal(err)
	}
	if want := pageOf(sample(), "images/benchmarks.svg"); string(got) != string(want) {
		t.Errorf("the page from the raw file is another one:\n%s", got)
	}
}

// A target that names a system which no workload has would never be measured.
func TestTargetsNameWhatIsMeasured(t *testing.T) {
	b := &bench{baseline: "baseline"}
	systems := map[string][]string{}
	for _, w := range b.workloads() {
		for _, c := range w.cells {
			if slices.Contains(systems[w.name], c.system) {
				t.Errorf("the workload %s has the system %s twice", w.name, c.system)
			}
			systems[w.name] = append(systems[w.name], c.system)
		}
	}
	check := func(o operand) {
		t.Helper()
		if !slices.Contains(systems[o.workload], o.system) {
			t.Errorf("the workload %s has no system %s, only %v", o.workload, o.system, systems[o.workload])
		}
		if !slices.ContainsFunc(columns, func(c column) bool { return c.figure == o.figure }) {
			t.Errorf("no table shows the figure %s", o.figure)
		}
	}
	for _, target := range allTargets() {
		for _, worker := range []string{"worker", "baseline"} {
			check(target.value.as(worker))
			if target.over != (operand{}) {
				check(target.over.as(worker))
			}
		}
	}
}
