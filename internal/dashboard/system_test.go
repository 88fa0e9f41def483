package dashboard

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/runqy/runqy-worker/internal/status"
)

func TestSystemState(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*View)
		want   string
	}{
		"well":              {func(*View) {}, "good Healthy: 3 workers take tasks."},
		"someone died":      {func(v *View) { v.System.Deaths = []Death{death("w", 0, 1)} }, "good Healthy"},
		"no worker":         {func(v *View) { *v = *unservedView() }, "bad No worker: 3 tasks wait in 1 queue."},
		"none, and nothing": {func(v *View) { v.Fleet, v.Queues.List = Fleet{At: fixedNow}, nil }, "quiet No worker: No worker is registered, and no task waits."},
		"none is healthy": {
			func(v *View) { v.Fleet.Serving, v.Fleet.Unhealthy, v.Fleet.Dead, v.Queues.List = 0, 2, 1, nil },
			"bad No healthy worker: 0 workers take tasks, 2 not healthy, 1 dead.",
		},
		"a typo":          {func(v *View) { *v = *elsewhereView() }, "bad 1 queue is not served: 3 tasks wait in 1 queue."},
		"typos":           {func(v *View) { v.System.Unserved, v.System.Stranded, v.System.Waits = 2, 7, 1 }, "bad 2 queues are not served: 7 tasks wait in 2 queues."},
		"dead":            {func(v *View) { v.Fleet.Dead = 2 }, "bad 2 workers are dead: 3 workers take tasks, 2 dead."},
		"not healthy":     {func(v *View) { v.Fleet.Unhealthy = 1 }, "bad 1 worker is not healthy: 3 workers take tasks, 1 not healthy."},
		"unreadable":      {func(v *View) { v.Queues.List[0].Err = errors.New("WRONGTYPE") }, "bad 1 queue cannot be read"},
		"starting":        {func(v *View) { v.System.Unserved, v.System.Stranded, v.System.Waits = 1, 7, 1 }, "warn Starting: 7 tasks wait in 1 queue for workers"},
		"all start":       {func(v *View) { v.Fleet.Serving, v.Fleet.Starting, v.Queues.List = 0, 1, nil }, "quiet Starting: 1 worker is starting."},
		"all drain":       {func(v *View) { v.Fleet.Serving, v.Queues.List = 0, nil }, "quiet No worker takes tasks"},
		"too many queues": {func(v *View) { v.System.Unread = 12 }, "warn 12 queues are not read"},
		"Redis is away":   {func(v *View) { v.Health.Broker, v.Queues.Err = status.Unhealthy, "Redis does not answer" }, "bad Unknown: It cannot be read: Redis does not answer"},
		"Redis refuses": {
			func(v *View) {
				v.Health.Broker, v.Health.Tone, v.Fleet.Serving, v.Fleet.Unhealthy = status.Unhealthy, Bad, 2, 1
			},
			"bad 1 worker is not healthy: 2 workers take tasks, 1 not healthy.",
		},
		"this one hangs": {func(v *View) {
			v.Health.Broker, v.Health.Worker, v.Health.Tone = status.Unhealthy, status.Unhealthy, Bad
		}, "good Healthy"},
		"a checker that is refused": {
			func(v *View) {
				v.Process, v.Active, v.Load = nil, nil, nil
				v.Health.Broker, v.Health.Tone = status.Unhealthy, Bad
				v.Health.Reasons = []status.Reason{{Summary: "Redis refuses the lease: READONLY."}}
			},
			"bad The checker is not healthy: Redis refuses the lease: READONLY.",
		},
		"no queues":         {func(v *View) { v.Queues.Err = "no" }, "bad Unknown: It cannot be read: no"},
		"no workers":        {func(v *View) { v.Fleet.Err = "no" }, "bad Unknown: It cannot be read: no"},
		"no system":         {func(v *View) { v.System.Err = "no" }, "bad Unknown: It cannot be read: no"},
		"not yet read":      {func(v *View) { v.System = SystemView{} }, "quiet Not known yet: "},
		"read too long ago": {func(v *View) { v.Fleet.At = fixedNow.Add(-2 * staleAfter) }, "quiet Not known yet: "},
	} {
		v := healthyView()
		c.change(v)
		state := (page{View: v}).SystemState()
		if got := fmt.Sprintf("%s %s: %s", state.Tone, state.Label, state.Detail); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// With no worker at all and tasks that wait, the word stands nowhere on the page.
func TestNothingIsHealthyWithoutAWorker(t *testing.T) {
	doc := parse(t, pageOf(t, unservedView()))
	for _, id := range sectionIDs {
		if text := textOf(byID(t, doc, id)); strings.Contains(strings.ToLower(text), "healthy") {
			t.Errorf("the section %s says %q", id, text)
		}
	}
	health := byID(t, doc, "health")
	if title := textOf(elements(doc, "title")[0]); title != "✕ No worker – fleet checker" || attr(health, "data-title") != title || attr(health, "data-tone") != "bad" {
		t.Errorf("the title is %q, the tone %s", title, attr(health, "data-tone"))
	}
	for _, row := range elements(byID(t, doc, "queues"), "tr") {
		if strings.Contains(attr(row, "class"), "tone-good") {
			t.Errorf("a queue without workers has a tick: %q", textOf(row))
		}
	}
	want := []string{
		"bad: Queue inference_defualt: 3 tasks wait and no worker serves it.",
		"warn: 2 workers died within the last hour, worker-dead99 3 m ago: 2 tasks went back.",
	}
	if got := texts(page{View: unservedView()}.Notices()); !slices.Equal(got, want) {
		t.Errorf("notices %q, want %q", got, want)
	}
	none := unservedView()
	none.System.Deaths = none.System.Deaths[1:]
	want[1] = "warn: 1 worker died within the last hour, worker-abc123 40 m ago: no task is known to have gone back."
	if got := texts(page{View: none}.Notices()); !slices.Equal(got, want) {
		t.Errorf("without a task that went back: notices %q, want %q", got, want)
	}
	if text := textOf(byID(t, doc, "fleet")); !strings.Contains(text, "worker-dead99") || !strings.Contains(text, "connection refused") {
		t.Errorf("who died is not among the workers: %q", text)
	}
}

// A worker that is dead and still registered says for how long.
func TestDeadWorkersShowSinceWhen(t *testing.T) {
	v := healthyView()
	v.Fleet.Workers[1] = dead(v.Fleet.Workers[1])
	rows := elements(byID(t, parse(t, pageOf(t, v)), "fleet"), "tr")
	if got := textOf(rows[2]); !strings.Contains(got, "DEAD for 2 m") {
		t.Errorf("the row is %q", got)
	}
	if got := textOf(rows[1]); strings.Contains(got, "FREE running for") {
		t.Errorf("the row of a worker that lives is %q", got)
	}
}

// A worker's page names the worker, and the worst of the system in a heading of the same kind.
func TestWorkersPageShowsTheSystem(t *testing.T) {
	doc := parse(t, pageOf(t, elsewhereView()))
	if got := textOf(byID(t, doc, "health-title")); !strings.Contains(got, "worker-abc123") || !strings.Contains(got, "Healthy") {
		t.Errorf("the heading is %q, want the worker and its state", got)
	}
	system := byID(t, doc, "system-title")
	if got := textOf(system); !strings.Contains(got, "The whole system") || !strings.Contains(got, "1 queue is not served") || system.Data != byID(t, doc, "health-title").Data {
		t.Errorf("the heading of the system is a %s, %q", system.Data, got)
	}
	if title := textOf(elements(doc, "title")[0]); title != "✓ Healthy – worker-abc123 – system: ✕ 1 queue is not served" {
		t.Errorf("the title is %q", title)
	}
	queues := byID(t, doc, "queues")
	if got := textOf(queues); !strings.Contains(got, "not this worker's") || !strings.Contains(got, "3 tasks wait and no worker serves it") {
		t.Errorf("the queues are %q", got)
	}
	if n := len(elements(queues, "form")); n != 2 {
		t.Errorf("%d buttons, want one for each queue of the worker's own", n)
	}
}
