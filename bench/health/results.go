package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/runqy/runqy-worker/bench/internal/programs"
)

// results are everything that one run found, in its raw file.
type results struct {
	Machine  programs.Machine `json:"machine"`
	Date     time.Time        `json:"date"`
	Took     string           `json:"took"`
	Parallel int              `json:"parallel"`
	Faults   []description    `json:"faults"`
	Records  []*record        `json:"records"`
}

// description is what the page says of a fault.
type description struct {
	Name  string   `json:"name"`
	Title string   `json:"title"`
	Group string   `json:"group"`
	Truth truth    `json:"truth,omitempty"`
	Peers []string `json:"peers,omitempty"`
}

func describe(all []fault) (out []description) {
	for i := range all {
		out = append(out, description{all[i].name, all[i].title, all[i].group, all[i].truth, all[i].peers})
	}
	return out
}

func (r *results) save(path string) error {
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return fmt.Errorf("encode the results: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("save the results: %w", err)
	}
	if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("save the results: %w", err)
	}
	return nil
}

func loadResults(path string) (*results, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the results: %w", err)
	}
	r := &results{}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return r, nil
}

// find returns the record of a case, nil if it was not done.
func (r *results) find(fault, system string) *record {
	for _, rec := range r.Records {
		if rec.Fault == fault && rec.System == system {
			return rec
		}
	}
	return nil
}

// ourFaults is how many cases our worker got wrong.
func (r *results) ourFaults() (n int) {
	for _, rec := range r.Records {
		if rec.System == "worker" && rec.wrong() {
			n++
		}
	}
	return n
}

// systems are those that were judged, ours first.
func (r *results) systems() (names []string) {
	for _, name := range append([]string{"worker"}, everybody()...) {
		if slices.ContainsFunc(r.Records, func(rec *record) bool { return rec.System == name }) {
			names = append(names, name)
		}
	}
	return names
}

// counts are of one system.
type counts struct{ cases, falseGreens, falseReds, stuck, failed int }

func (r *results) count(system string) (c counts) {
	for _, rec := range r.Records {
		if rec.System != system {
			continue
		}
		c.cases++
		greens, reds := false, false
		for _, j := range rec.Judged {
			greens = greens || j.FalseGreen
			reds = reds || j.FalseRed
		}
		c.falseGreens += number(greens)
		c.falseReds += number(reds)
		c.stuck += number(rec.Stuck)
		c.failed += number(rec.Error != "")
	}
	return c
}

func number(b bool) int {
	if b {
		return 1
	}
	return 0
}

// closing counts, in one line.
func (r *results) closing() string {
	var parts []string
	for _, name := range r.systems() {
		c := r.count(name)
		text := fmt.Sprintf("%s: %d cases, %d false greens, %d false reds", titles[name], c.cases, c.falseGreens, c.falseReds)
		if c.stuck > 0 {
			text += fmt.Sprintf(", %d did not recover", c.stuck)
		}
		if c.failed > 0 {
			text += fmt.Sprintf(", %d not judged", c.failed)
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, "; ")
}

// line is a record for a terminal.
func (r *record) line() string {
	text := fmt.Sprintf("%-8s %-24s %s", r.System, r.Fault, r.Truth)
	if r.Error != "" {
		return text + " ERROR " + oneLine(r.Error)
	}
	earliest, latest, back := -1.0, -1.0, 0.0
	var wrong []string
	for name, j := range r.Judged {
		if j.RedAfter >= 0 && (earliest < 0 || j.RedAfter < earliest) {
			earliest = j.RedAfter
		}
		latest, back = max(latest, j.RedAfter), max(back, j.Back)
		switch {
		case j.FalseGreen:
			wrong = append(wrong, "FALSE GREEN "+name+" ("+j.Why+")")
		case j.FalseRed:
			wrong = append(wrong, "FALSE RED "+name+" ("+j.Why+")")
		}
	}
	if earliest >= 0 {
		text += fmt.Sprintf(", not green after %.1f to %.1f s", earliest, latest)
	} else {
		text += ", green"
	}
	if r.Stuck {
		text += ", STUCK"
	} else if r.Back > 0 {
		text += fmt.Sprintf(", works again after %.1f s, green after %.1f s", r.Back, back)
	}
	slices.Sort(wrong)
	for _, w := range wrong {
		text += "\n      " + w
	}
	return text + fmt.Sprintf(" [%s; %.0f s]", r.Probe, r.Seconds)
}

// titles are the names of the systems for people.
var titles = map[string]string{"worker": "runqy-worker", "celery": "Celery", "rq": "RQ", "asynq": "asynq"}
