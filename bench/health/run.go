package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// record is what became of one case with one system.
type record struct {
	Fault   string            `json:"fault"`
	System  string            `json:"system"`
	Truth   truth             `json:"truth"`           // while the fault lasted
	Probe   string            `json:"probe,omitempty"` // what became of the tasks that decide
	Said    map[string][]span `json:"said,omitempty"`  // by surface
	Judged  map[string]judged `json:"judged,omitempty"`
	Back    float64           `json:"back"` // seconds from the end of the fault until a task was done; -1: none was; 0: it does not end
	Stuck   bool              `json:"stuck,omitempty"`
	Ended   bool              `json:"ended,omitempty"` // the process of the system, by itself
	Error   string            `json:"error,omitempty"` // the case could not be done
	Log     string            `json:"log,omitempty"`   // the end of the worker's, when something was wrong
	Seconds float64           `json:"seconds"`
}

// wrong reports whether the system did something that it should not.
func (r *record) wrong() bool {
	for _, j := range r.Judged {
		if j.FalseGreen || j.FalseRed {
			return true
		}
	}
	return r.Stuck || r.Error != ""
}

// startLimit is how long a system may take until it is healthy for the first time, and until it has done its first task.
const startLimit = 60 * time.Second

// maxLog is how much of a log is kept.
const maxLog = 1000

// do is one case with one system.
func (b *bench) do(ctx context.Context, f *fault, s subject) *record {
	began := time.Now()
	r := &record{Fault: f.name, System: s.name()}
	d, err := b.newBed(ctx, f, s)
	defer d.close()
	if err == nil {
		err = d.observe(ctx, r)
	}
	if err != nil {
		r.Error = err.Error()
	}
	if p := s.process(); p != nil && r.wrong() {
		r.Log = p.Tail()
		r.Log = strings.ToValidUTF8(r.Log[max(0, len(r.Log)-maxLog):], "")
	}
	r.Seconds = time.Since(began).Seconds()
	return r
}

// observe starts the system, breaks something and looks at what it says.
func (d *bed) observe(ctx context.Context, r *record) error {
	f := d.fault
	if err := d.subject.start(ctx, d); err != nil {
		return err
	}
	w := startWatch(ctx, d.subject.surfaces(d), d.slack)
	defer w.stop()
	if !f.never {
		if err := d.awaitWorking(ctx, w); err != nil {
			return err
		}
	}
	injected := time.Now()
	if f.inject != nil {
		if err := f.inject(ctx, d); err != nil {
			return fmt.Errorf("inject %s: %w", f.name, err)
		}
	}
	pause(ctx, time.Until(injected.Add(f.after)))
	p := &probe{cancel: func() {}}
	if !f.idle {
		p = d.startProbe(ctx, f.feed)
	}
	defer p.stop()
	d.awaitEnd(ctx, w, p, injected.Add(f.after))
	t := times{begin: f.after.Seconds(), end: time.Since(injected).Seconds(), back: -1, slack: d.slack}
	p.stop()
	can, told := p.outcome(ctx, d)
	r.Probe, r.Ended = told, d.subject.process().Failed() != nil
	if f.lift != nil && ctx.Err() == nil {
		if err := f.lift(ctx, d); err != nil {
			return fmt.Errorf("end %s: %w", f.name, err)
		}
		t.over = time.Since(injected).Seconds()
		t.back = d.awaitBack(ctx, w, injected)
	}
	w.stop()
	if err := ctx.Err(); err != nil {
		return err
	}
	return d.conclude(r, w, injected, can, t)
}

// length is how long the answers are looked at. What ends by itself has to last longer.
func (d *bed) length() time.Duration { return time.Duration(d.slack * float64(d.fault.length())) }

// awaitEnd waits until the fault, which began at a time, has been looked at for long enough.
func (d *bed) awaitEnd(ctx context.Context, w *watch, p *probe, began time.Time) {
	f := d.fault
	enough := began.Add(max(greenLimit+time.Second, f.settle+2*time.Second))
	if d.short {
		enough = began.Add(f.settle + 5*time.Second)
	}
	end := began.Add(d.length())
	for ; time.Now().Before(end) && ctx.Err() == nil; pause(ctx, 250*time.Millisecond) {
		if now := time.Now(); f.lasts || now.Before(enough) {
			continue
		}
		switch {
		case f.truth == able:
			if done, _ := p.outcome(ctx, d); done {
				return
			}
		case f.truth == unable:
			if w.noneGreen(3 * time.Second) {
				return
			}
		}
	}
}

// conclude judges every surface.
func (d *bed) conclude(r *record, w *watch, injected time.Time, can bool, t times) error {
	f := d.fault
	r.Truth = unable
	if can {
		r.Truth = able
	}
	r.Said, r.Judged = map[string][]span{}, map[string]judged{}
	for _, name := range w.names {
		r.Said[name] = w.spans(name, injected)
		r.Judged[name] = f.judge(r.Said[name], can, t)
	}
	if f.lift != nil {
		r.Back = -1
		if r.Stuck = t.back < 0; !r.Stuck {
			r.Back = t.back - t.over
		}
	}
	if d.subject.name() == "worker" && f.truth != asked && f.truth != r.Truth {
		return fmt.Errorf("the worker was to be one that %s, but %s", f.truth, r.Probe)
	}
	return nil
}

// awaitWorking waits until every surface is green and a task has been done.
func (d *bed) awaitWorking(ctx context.Context, w *watch) error {
	var id, said string
	end := time.Now().Add(time.Duration(d.slack * float64(startLimit)))
	for ; time.Now().Before(end) && ctx.Err() == nil; pause(ctx, 100*time.Millisecond) {
		if err := d.subject.process().Failed(); err != nil {
			return err
		}
		var ok bool
		if ok, said = w.allGreen(w.began); !ok {
			continue
		}
		if id == "" {
			var err error
			if id, err = d.enqueueSoon(ctx, d.fault.firstTask()); err != nil {
				return err
			}
		}
		said = "its first task is not done"
		if done, err := d.subject.done(ctx, d, id); err == nil && done {
			return nil
		}
	}
	return fmt.Errorf("%s does not start: %s\n%s", d.subject.name(), said, d.subject.process().Tail())
}

// awaitBack waits, after the fault was lifted, until a task is done and every surface is green, and a while longer than
// they should take; it returns the time of the former, negative if there was none.
func (d *bed) awaitBack(ctx context.Context, w *watch, injected time.Time) float64 {
	const more = 10 * time.Second
	limit := time.Duration(d.slack * float64(backLimit+more))
	lifted := time.Now()
	id, back := "", -1.0
	for end := lifted.Add(limit); time.Now().Before(end) && ctx.Err() == nil; pause(ctx, 100*time.Millisecond) {
		if d.subject.process().Failed() != nil {
			break // nobody starts it again
		}
		if id == "" {
			id, _ = d.enqueueSoon(ctx, d.fault.firstTask()) // Redis may need a moment
			continue
		}
		if back < 0 {
			if done, err := d.subject.done(ctx, d, id); err == nil && done {
				back = time.Since(injected).Seconds()
			}
			continue
		}
		if ok, _ := w.allGreen(lifted); ok {
			break
		}
	}
	return back
}

// enqueueTimeout is how long it may take to enqueue a task: for some systems a Python process is started for it.
const enqueueTimeout = 10 * time.Second

func (d *bed) enqueueSoon(ctx context.Context, t task) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, enqueueTimeout)
	defer cancel()
	return d.subject.enqueue(ctx, d, t)
}

// firstTask is one that every system can do when nothing is broken.
func (f *fault) firstTask() task { return task{name: "echo", payload: map[string]any{"n": 0}} }
