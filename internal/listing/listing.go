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

	"github.com/runqy/runqy-worker/client"
	"github.com/runqy/runqy-worker/internal/status"
)

// Table writes one aligned line per worker. Colour marks the lines that want attention and is the caller's decision:
// only a terminal shows it.
func Table(w io.Writer, workers []client.Worker, colour bool) error {
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

func row(w client.Worker) string {
	reason := fullReason(w)
	if !w.Alive {
		queues := strings.Join(w.Queues, ",")
		return strings.Join([]string{
			Clean(w.ID), "false", "gone", string(w.State), Clean(orDash(queues)), "-", "-", "-", "-", "-", "-", Clean(orDash(w.Address)), Clean(reason),
		}, "\t")
	}
	beat := "-"
	if w.Interval > 0 { // else the age is not known
		beat = fmt.Sprintf("%.1fs ago", w.Age.Seconds())
	}
	up := "-"
	if !w.Started.IsZero() && w.LastBeat.After(w.Started) { // both on the worker's clock
		up = w.LastBeat.Sub(w.Started).Round(time.Second).String()
	}
	cells := []string{
		w.ID, fmt.Sprint(w.Healthy), string(w.Status), string(w.State), strings.Join(w.Queues, ","),
		fmt.Sprintf("%d/%d", len(w.ActiveTasks), w.Concurrency), fmt.Sprint(w.Processed), fmt.Sprint(w.Failed), fmt.Sprint(w.Crashes),
		up, beat, orDash(w.Address), reason,
	}
	for i, cell := range cells {
		cells[i] = Clean(cell)
	}
	return strings.Join(cells, "\t")
}

// fullReason joins everything that tells why a worker is not FREE, in one line.
func fullReason(w client.Worker) string {
	var parts []string
	add := func(s string) {
		if s, _, _ = strings.Cut(s, "\n"); s != "" && !slices.Contains(parts, s) {
			parts = append(parts, s)
		}
	}
	if w.Cause != "" && (w.Alive || w.Died != nil && !w.Died.Earlier) {
		add(string(w.Cause) + ": " + w.Reason)
	} else {
		add(w.Reason)
	}
	if w.Alive {
		add(w.HealthReason)
	}
	if w.Err != nil {
		add(w.Err.Error())
	}
	if w.Died != nil {
		add(death(w))
	}
	return strings.Join(parts, "; ")
}

// death tells when a process of the worker died, and what became of its tasks.
func death(w client.Worker) string {
	text := "died"
	switch {
	case w.Died.Earlier:
		text = "an earlier process of this id died"
	case w.State != client.Dead:
		text = "was found dead" // and has come back
	}
	text += " " + w.Died.Age.Truncate(time.Second).String() + " ago"
	if w.Died.Earlier || w.State != client.Dead {
		reason, _, _ := strings.Cut(w.Died.Reason, "\n")
		text += " (" + string(w.Died.Cause) + ": " + reason + ")"
	}
	switch w.Died.Tasks {
	case 0:
		return text + ", no task is known to have gone back"
	case 1:
		return text + ", 1 task went back"
	}
	return text + fmt.Sprintf(", %d tasks went back", w.Died.Tasks)
}

func paint(w client.Worker, line string) string {
	c := color.New(color.FgYellow)
	switch {
	case !w.Alive:
		c = color.New(color.Faint)
	case w.State == client.Dead, !w.Healthy:
		c = color.New(color.FgRed)
	case w.Err == nil && w.Status == client.StatusRunning:
		return line
	}
	c.EnableColor() // the caller has decided
	return c.Sprint(line)
}

// Clean keeps what another process wrote to Redis from steering the terminal or breaking the columns.
func Clean(s string) string {
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
	Status      client.Status `json:"status"`          // "gone" without a heartbeat
	State       client.State  `json:"state"`           // FREE, BUSY or DEAD
	Cause       client.Cause  `json:"cause,omitempty"` // of DEAD
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
	Expiry      *time.Time    `json:"expiry"`
	Host        string        `json:"host"`
	PID         int           `json:"pid"`
	PythonPID   int           `json:"python_pid"`
	Version     string        `json:"version"`
	Environment string        `json:"environment"`
	Address     string        `json:"address"`
	Died        *died         `json:"died,omitempty"` // the last process with this id that was found dead within an hour
	Error       string        `json:"error,omitempty"`
}

// died is when and why a process died, and how many tasks were taken back from it.
type died struct {
	At         time.Time    `json:"at"`
	AgeSeconds float64      `json:"age_seconds"`
	Cause      client.Cause `json:"cause"`
	Reason     string       `json:"reason"`
	Tasks      int          `json:"tasks"`   // that are known
	Earlier    bool         `json:"earlier"` // another process than the one that is registered now
}

// JSON writes the workers as one list on one line.
func JSON(out io.Writer, workers []client.Worker) error {
	entries := make([]entry, 0, len(workers))
	for _, w := range workers {
		e := entry{
			ID: w.ID, Alive: w.Alive, Healthy: w.Healthy, Status: w.Status, State: w.State, Cause: w.Cause, Reason: w.Reason,
			Queues: list(w.Queues), ActiveTask: w.ActiveTask, ActiveTasks: list(w.ActiveTasks), Concurrency: w.Concurrency,
			Processed: w.Processed, Failed: w.Failed, Restarts: w.Restarts, Crashes: w.Crashes, LagSeconds: w.EventLoopLag.Seconds(),
			Started: moment(w.Started), LastBeat: moment(w.LastBeat), AgeSeconds: w.Age.Seconds(), TTLSeconds: w.TTL.Seconds(),
			Expiry: moment(w.Expiry), Host: w.Host, PID: w.PID, PythonPID: w.PythonPID, Version: w.Version, Environment: w.Environment,
			Address: w.Address,
		}
		if !w.Alive {
			e.Status = client.Status(status.Gone)
		}
		if e.Reason == "" || e.Reason == w.HealthReason {
			e.Reason = status.Reason{Summary: w.HealthReason, Stderr: w.Stderr}.Text()
		}
		if w.Err != nil {
			e.Error = w.Err.Error()
		}
		if d := w.Died; d != nil {
			e.Died = &died{At: d.At.UTC(), AgeSeconds: d.Age.Seconds(), Cause: d.Cause, Reason: d.Reason, Tasks: d.Tasks, Earlier: d.Earlier}
		}
		entries = append(entries, e)
	}
	return json.NewEncoder(out).Encode(entries)
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
