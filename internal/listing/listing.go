// Package listing writes the registry of workers for people and for scripts.
package listing

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/fatih/color"

	"github.com/runqy/runqy-worker/internal/fleet"
	"github.com/runqy/runqy-worker/internal/status"
)

// Table writes one aligned line per worker. Colour marks the lines that want attention and is the caller's decision:
// only a terminal shows it.
func Table(w io.Writer, workers []fleet.Worker, colour bool) error {
	var b bytes.Buffer
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "WORKER\tHEALTHY\tSTATUS\tSTATE\tQUEUES\tTASKS\tPROCESSED\tFAILED\tCRASHES\tUP\tBEAT\tADDRESS\tREASON")
	for _, worker := range workers {
		fmt.Fprintln(t, row(worker))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	// Colouring whole lines afterwards keeps the columns aligned: tabwriter would count the escape sequences as text.
	for i, line := range strings.SplitAfter(b.String(), "\n") {
		if i > 0 && i <= len(workers) && colour {
			line = paint(workers[i-1], strings.TrimSuffix(line, "\n")) + "\n"
		}
		if _, err := io.WriteString(w, line); err != nil {
			return err
		}
	}
	return nil
}

func row(w fleet.Worker) string {
	reason := reasonOf(w)
	if !w.Alive {
		return strings.Join([]string{
			clean(w.ID), "-", string(status.Gone), string(w.State), "-", "-", "-", "-", "-", "-", "-", "-", clean(reason),
		}, "\t")
	}
	b := w.Beat
	beat := "-"
	if b.TTL > 0 {
		beat = fmt.Sprintf("%.1fs ago", w.Age.Seconds())
	}
	up := "-"
	if !b.Started.IsZero() && b.LastBeat.After(b.Started) { // both on the worker's clock
		up = b.LastBeat.Sub(b.Started).Round(time.Second).String()
	}
	cells := []string{
		w.ID, fmt.Sprint(b.Healthy), string(b.Status), string(w.State), strings.Join(b.Queues, ","),
		fmt.Sprintf("%d/%d", len(b.ActiveTasks), b.Concurrency), fmt.Sprint(b.Processed), fmt.Sprint(b.Failed), fmt.Sprint(b.Crashes),
		up, beat, orDash(b.Address), reason,
	}
	for i, cell := range cells {
		cells[i] = clean(cell)
	}
	return strings.Join(cells, "\t")
}

// reasonOf is all that is known about why a worker is not FREE, on one line.
func reasonOf(w fleet.Worker) string {
	var parts []string
	add := func(s string) {
		if s, _, _ = strings.Cut(s, "\n"); s != "" && !slices.Contains(parts, s) {
			parts = append(parts, s)
		}
	}
	if w.Cause != "" && w.Alive {
		add(w.Cause + ": " + w.Reason)
	} else {
		add(w.Reason)
	}
	if w.Alive {
		add(w.Beat.Reason.Summary)
	}
	if w.Err != nil {
		add(w.Err.Error())
	}
	return strings.Join(parts, "; ")
}

func paint(w fleet.Worker, line string) string {
	c := color.New(color.FgYellow)
	switch {
	case !w.Alive:
		c = color.New(color.Faint)
	case w.State == status.Dead, !w.Beat.Healthy:
		c = color.New(color.FgRed)
	case w.Err == nil && w.Beat.Status == status.Running:
		return line
	}
	c.EnableColor() // the caller has decided
	return c.Sprint(line)
}

// clean keeps what another process wrote to Redis from controlling the terminal or breaking the columns.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || r == '\r' {
			return ' '
		}
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// entry has the names of the heartbeat's fields.
type entry struct {
	ID          string        `json:"id"`
	Alive       bool          `json:"alive"`
	Healthy     bool          `json:"healthy"`
	Status      status.Status `json:"status"`          // "gone" without a heartbeat
	State       status.State  `json:"state"`           // FREE, BUSY or DEAD
	Cause       string        `json:"cause,omitempty"` // of DEAD
	Reason      string        `json:"reason"`
	Queues      []string      `json:"queues"`
	ActiveTask  string        `json:"active_task"`
	ActiveTasks []string      `json:"active_tasks"`
	Concurrency int           `json:"concurrency"`
	Processed   int64         `json:"processed"`
	Failed      int64         `json:"failed"`
	Restarts    int64         `json:"restarts"`
	Crashes     int64         `json:"crashes"`
	LagSeconds  float64       `json:"event_loop_lag_seconds"`
	Started     *time.Time    `json:"started"`
	LastBeat    *time.Time    `json:"last_beat"`
	AgeSeconds  float64       `json:"age_seconds"`
	TTLSeconds  float64       `json:"ttl_seconds"`
	Expiry      time.Time     `json:"expiry"`
	Host        string        `json:"host"`
	PID         int           `json:"pid"`
	PythonPID   int           `json:"python_pid"`
	Version     string        `json:"version"`
	Environment string        `json:"environment"`
	Address     string        `json:"address"`
	Error       string        `json:"error,omitempty"`
}

// JSON writes the workers as one list on one line.
func JSON(w io.Writer, workers []fleet.Worker) error {
	entries := make([]entry, 0, len(workers))
	for _, worker := range workers {
		b := worker.Beat
		e := entry{
			ID: worker.ID, Alive: worker.Alive, Healthy: b.Healthy, Status: b.Status,
			State: worker.State, Cause: worker.Cause, Reason: worker.Reason,
			Queues: list(b.Queues), ActiveTask: b.ActiveTask, ActiveTasks: list(b.ActiveTasks), Concurrency: b.Concurrency,
			Processed: b.Processed, Failed: b.Failed, Restarts: b.Restarts, Crashes: b.Crashes, LagSeconds: b.EventLoopLag.Seconds(),
			Started: moment(b.Started), LastBeat: moment(b.LastBeat), AgeSeconds: worker.Age.Seconds(), TTLSeconds: worker.TTL.Seconds(),
			Expiry: worker.Expiry, Host: b.Host, PID: b.PID, PythonPID: b.PythonPID, Version: b.Version, Environment: b.Environment, Address: b.Address,
		}
		if !worker.Alive {
			e.Status = status.Gone
		}
		if e.Reason == "" || e.Reason == b.Reason.Summary {
			e.Reason = b.Reason.Text()
		}
		if worker.Err != nil {
			e.Error = worker.Err.Error()
		}
		entries = append(entries, e)
	}
	return json.NewEncoder(w).Encode(entries)
}

func list(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
