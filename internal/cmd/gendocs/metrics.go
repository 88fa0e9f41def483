package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/runqy/runqy-worker/internal/fleet"
	"github.com/runqy/runqy-worker/internal/status"
	"github.com/runqy/runqy-worker/metrics"
	"github.com/runqy/runqy-worker/queue"
	"github.com/runqy/runqy-worker/supervisor"
)

func metricsFunctions(root string) (template.FuncMap, func() error, error) {
	all, err := declared()
	if err != nil {
		return nil, nil, err
	}
	rules, err := readRules(filepath.Join(root, "metrics", "rules"))
	if err != nil {
		return nil, nil, err
	}
	return template.FuncMap{
		"metrics":    all.table,
		"alerts":     func() (string, error) { return alerts(rules) },
		"recordings": func() string { return recordings(rules) },
	}, all.complete, nil
}

// metricSet holds the metrics of a worker by name; a table takes those that it shows.
type metricSet map[string]*dto.MetricFamily

// declared gathers what the leader of a fleet exports that has a Python process and one queue. The metrics of the Go
// runtime and of the worker's own process are left out: they change with the releases of Go and client_golang.
func declared() (metricSet, error) {
	reg := prometheus.NewPedanticRegistry()
	now := time.Now()
	queues := []string{"q"}
	_, err := metrics.New(reg, metrics.Sources{
		Info:        metrics.Info{WorkerID: "w", Started: now},
		QueueNames:  queues,
		CrashCauses: supervisor.CrashCauses(), RestartCauses: supervisor.RestartCauses(),
		Worker: func() metrics.Worker {
			return metrics.Worker{LastBeat: now, LastCycle: now, LastTake: now, Report: status.Mark{Number: 1}}
		},
		Queues: func(context.Context) (map[string]status.Depth, error) {
			return map[string]status.Depth{"q": {}}, nil
		},
		Python: func() metrics.Python { return metrics.Python{Version: "3", GC: make([]metrics.GC, 1)} },
		// Any process will do: it is the names that count.
		ChildPID:        os.Getpid,
		LogLinesDropped: func() int64 { return 0 },
	})
	if err != nil {
		return nil, fmt.Errorf("register the worker's metrics: %w", err)
	}
	_, err = metrics.NewFleet(reg, metrics.FleetSources{
		States: func() map[string]int {
			return map[string]int{string(status.Free): 0, string(status.Busy): 0, string(status.Dead): 0}
		},
		Stranded:    func(context.Context) (map[string]int64, error) { return map[string]int64{"q": 0}, nil },
		DeadReasons: fleet.Causes(), RecoveredReasons: queue.RecoveryReasons(), QueueNames: queues,
	})
	if err != nil {
		return nil, fmt.Errorf("register the fleet's metrics: %w", err)
	}
	gathered, err := reg.Gather()
	if err != nil {
		return nil, fmt.Errorf("gather the metrics: %w", err)
	}
	all := make(metricSet, len(gathered))
	for _, f := range gathered {
		if name := f.GetName(); !strings.HasPrefix(name, "go_") && !strings.HasPrefix(name, "process_") {
			all[name] = f
		}
	}
	return all, nil
}

// table shows the named metrics in that order and takes them out of all.
func (all metricSet) table(names ...string) (string, error) {
	var b strings.Builder
	b.WriteString("| metric | type | labels | meaning |\n|---|---|---|---|")
	for _, name := range names {
		f, ok := all[name]
		if !ok {
			return "", fmt.Errorf("%s is not exported, or another table has shown it already", name)
		}
		delete(all, name)
		kind := strings.ToLower(f.GetType().String())
		if u := unit(name); u != "" {
			kind += ", " + u
		}
		fmt.Fprintf(&b, "\n| `%s` | %s | %s | %s |", name, kind, labels(f), meaning(f))
	}
	return b.String(), nil
}

// complete returns an error that names the metrics which no table has shown.
func (all metricSet) complete() error {
	if len(all) == 0 {
		return nil
	}
	return fmt.Errorf("no table of metrics.md.tmpl has %s", strings.Join(slices.Sorted(maps.Keys(all)), ", "))
}

// unit reads the unit out of a name, where Prometheus' rules want it to stand.
func unit(name string) string {
	name = strings.TrimSuffix(name, "_total")
	switch {
	case strings.HasSuffix(name, "_timestamp_seconds"), strings.HasSuffix(name, "_start_time_seconds"):
		return "seconds since the epoch"
	case strings.HasSuffix(name, "_seconds"):
		return "seconds"
	case strings.HasSuffix(name, "_bytes"):
		return "bytes"
	}
	return ""
}

// labels names the labels of f, with their values where the worker draws them from a list of its own.
func labels(f *dto.MetricFamily) string {
	values := map[string][]string{}
	var names []string
	for _, m := range f.GetMetric() {
		for _, l := range m.GetLabel() {
			name := l.GetName()
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
			if !slices.Contains(values[name], l.GetValue()) {
				values[name] = append(values[name], l.GetValue())
			}
		}
	}
	between := ", "
	for i, name := range names {
		names[i] = "`" + name + "`"
		if len(values[name]) > 1 {
			between = "; "
			names[i] += ": `" + strings.Join(values[name], "`, `") + "`"
		}
	}
	return strings.Join(names, between)
}

// ownName finds the names of metrics in a help text, where they have no marks.
var ownName = regexp.MustCompile(`\b(?:runqy|python)_[a-z_]+`)

// meaning is the help of f, and for a histogram what its buckets span.
func meaning(f *dto.MetricFamily) string {
	text := ownName.ReplaceAllString(strings.TrimSuffix(f.GetHelp(), "."), "`$0`")
	if f.GetType() != dto.MetricType_HISTOGRAM {
		return text
	}
	h := f.GetMetric()[0].GetHistogram()
	classic := h.GetBucket()
	text += fmt.Sprintf(". Classic buckets from %s to %s s",
		number(classic[0].GetUpperBound()), number(classic[len(classic)-1].GetUpperBound()))
	if h.Schema != nil {
		text += ", and native ones"
	}
	return text
}

func number(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }
