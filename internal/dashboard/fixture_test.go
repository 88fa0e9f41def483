package dashboard

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/runqy/runqy-worker/internal/status"
)

// fixedNow is when every fixture is looked at.
var fixedNow = time.Date(2026, 11, 22, 12, 34, 56, 0, time.UTC)

// wave is a chart of three minutes to the history's end, with a gap.
func wave(label string, n int, height float64, f func(x float64) float64) Chart {
	c := Chart{Label: label, Values: make([]float64, n)}
	for i := range c.Values {
		x := float64(i) / float64(n)
		c.Values[i] = height * f(x)
		if x > 0.3 && x < 0.33 {
			c.Values[i] = math.NaN()
			continue
		}
		c.Top = max(c.Top, c.Values[i])
	}
	return c
}

func reasons(summaries ...string) []status.Reason {
	out := make([]status.Reason, len(summaries))
	for i, s := range summaries {
		out[i].Summary = s
	}
	return out
}

func flat(label string, v float64) Chart {
	return wave(label, 180, v, func(float64) float64 { return 1 })
}

// healthyView is a healthy worker, seen by a trusted visitor who may not see payloads.
func healthyView() *View {
	return &View{
		Name: "worker-abc123", Version: "v0.4.0", Environment: "production", Host: "gpu-03", At: fixedNow,
		Trusted: true, Token: "token-of-the-fixture",
		Health: Health{
			Tone: Good, Label: "Healthy", Since: fixedNow.Add(-26 * time.Hour),
			Health: status.Health{Status: "running", State: "FREE", Worker: "healthy", Broker: "healthy", Database: "not configured"},
		},
		Process: &Process{
			Tone: Good, Status: "running", PID: 41234, Python: "CPython 3.11.7", Handlers: "async",
			Started: fixedNow.Add(-26 * time.Hour), Memory: 1312 << 20, MemoryMax: 2 << 30, CPU: 0.12,
			Lag: 3 * time.Millisecond, LagLimit: 5 * time.Second, OnCrash: "restart", CanAct: true,
			Stderr: []string{"INFO loading model small", "INFO model loaded in 2.3 s"},
		},
		Queues: Queues{At: fixedNow, List: []Queue{
			{
				Name: "inference_default", Tone: Good,
				Depth:        status.Depth{Pending: 3, Active: 2, Scheduled: 12, Latency: 120 * time.Millisecond},
				PendingChart: wave("pending tasks, 15 minutes, now 3, most 12", 180, 12, func(x float64) float64 { return math.Abs(math.Sin(9 * x)) }),
				LatencyChart: wave("age of the oldest, 15 minutes, now 120 ms, most 0.4 s", 180, 0.4, func(x float64) float64 { return math.Abs(math.Sin(9 * x)) }),
			},
			{Name: "emails", Tone: Good, PendingChart: flat("pending tasks, 15 minutes, always 0", 0), LatencyChart: flat("age of the oldest, 15 minutes, always 0", 0)},
		}},
		Load: &Load{
			Processed: 18242, Failed: 31, Rate: 4.2, P50: 180 * time.Millisecond, P95: 1200 * time.Millisecond,
			RateChart:   wave("finished tasks a second, 15 minutes, now 4.2, most 6", 180, 6, func(x float64) float64 { return 0.7 + 0.2*math.Sin(20*x) }),
			FailedChart: flat("failed tasks a second, 15 minutes, always 0", 0),
			P50Chart:    wave("half of the tasks end within, 15 minutes, now 180 ms", 180, 0.2, func(x float64) float64 { return 0.8 + 0.1*math.Sin(30*x) }),
			P95Chart:    wave("95 % of the tasks end within, 15 minutes, now 1.2 s", 180, 1.5, func(x float64) float64 { return 0.8 + 0.2*math.Sin(25*x) }),
		},
		Active: &Active{Concurrency: 4, Tasks: []ActiveTask{
			{ID: "0f8fad5b-d9cb-469f-a165-70867728950e", Queue: "inference_default", Type: "train", Running: 200 * time.Second, Progress: 0.4, Message: "epoch 4 of 10"},
			{ID: "7c9e6679-7425-40de-944b-e07fc1f90ae7", Queue: "inference_default", Type: "classify", Running: 310 * time.Millisecond, Progress: -1},
		}},
		Failures: Failures{At: fixedNow},
		Fleet: Fleet{At: fixedNow, Free: 2, Busy: 1, Workers: []Worker{
			worker("worker-abc123", true), worker("worker-def456", false), busy(worker("worker-fed321", false)),
		}, Serving: 3},
		System: SystemView{At: fixedNow},
	}
}

func worker(id string, self bool) Worker {
	return Worker{
		ID: id, Self: self, Tone: Good, State: "FREE", Serving: true, Status: "running", Queues: []string{"inference_default", "emails"}, Address: "10.0.3.17:8001",
		Host: "gpu-03", Active: 2, Concurrency: 4, Processed: 18242, Failed: 31, BeatAge: 1300 * time.Millisecond,
		Started: fixedNow.Add(-26 * time.Hour), Version: "v0.4.0",
	}
}

func busy(w Worker) Worker {
	w.State, w.Active, w.Reason = "BUSY", 4, "all 4 slots are taken"
	return w
}

func dead(w Worker) Worker {
	w.Serving = false
	w.State, w.Status, w.Tone, w.BeatAge, w.Reason = "DEAD", "", Bad, -1, "10.0.3.99:8001: connection refused"
	w.DeadSince = fixedNow.Add(-150 * time.Second)
	return w
}

// loadView is a worker that has more to do than it can.
func loadView() *View {
	v := healthyView()
	v.Health.State = status.Busy
	v.Process.CPU = 0.97
	v.Process.Lag = 240 * time.Millisecond
	q := &v.Queues.List[0]
	q.Tone, q.Pending, q.Active, q.Retry, q.Archived, q.Latency = Warn, 12345, 4, 17, 3, 312*time.Second
	q.PendingChart = wave("pending tasks, 15 minutes, now 12345, most 12345", 180, 12345, func(x float64) float64 { return x * x })
	q.LatencyChart = wave("age of the oldest, 15 minutes, now 312 s", 180, 312, func(x float64) float64 { return x })
	v.Queues.List[1].Paused, v.Queues.List[1].Pending, v.Queues.List[1].Tone = true, 7, Warn
	v.Load.FailedShare = 0.04
	v.Load.FailedChart = wave("failed tasks a second, 15 minutes, now 0.2, most 0.4", 180, 0.4, func(x float64) float64 { return x })
	v.Active.Tasks = append(v.Active.Tasks,
		ActiveTask{ID: "a", Queue: "inference_default", Type: "render", Running: 42 * time.Second, Progress: 0.93},
		ActiveTask{ID: "b", Queue: "inference_default", Type: "render", Running: 3 * time.Second, Progress: 0})
	v.Failures = Failures{At: fixedNow, Retry: 17, Archived: 3, List: []Failure{failure("retry", 10*time.Second), failure("archived", 3*time.Minute), failure("retry", 4*time.Minute)}}
	v.Fleet.Free, v.Fleet.Busy, v.Fleet.Dead, v.Fleet.Serving = 1, 1, 1, 2
	v.Fleet.Workers = []Worker{dead(worker("worker-dead99", false)), busy(worker("worker-abc123", true)), worker("worker-def456", false)}
	return v
}

func failure(state status.TaskState, ago time.Duration) Failure {
	f := Failure{
		ID: "2b1e1f0a-" + string(state) + "-" + ago.String(), Queue: "inference_default", Type: "classify", State: state, Attempts: 3, MaxAttempts: 26,
		FailedAt: fixedNow.Add(-ago), Error: "ValueError: payload.image must be a PPM in base64: binascii.Error('Incorrect padding')",
		Traceback: "Traceback (most recent call last):\n  File \"/app/main.py\", line 61, in classify\n    pixels = read_ppm(payload[\"image\"])\nbinascii.Error: Incorrect padding\n",
	}
	if state == status.Retry {
		f.NextAt = fixedNow.Add(42 * time.Second)
	}
	return f
}

// degradedView is a worker whose Python process died and stays dead.
func degradedView() *View {
	v := loadView()
	v.Health = Health{
		Tone: Bad, Label: "Degraded", Since: fixedNow.Add(-200 * time.Second),
		Health: status.Health{
			Status: "degraded", State: "BUSY", Worker: "unhealthy", Broker: "healthy", Database: "healthy",
			Reasons: reasons("the Python process was killed by signal 9 (out of memory?) while it ran task 0f8fad5b"),
		},
	}
	v.Process = &Process{
		Tone: Bad, Status: "degraded", Memory: -1, CPU: -1, LagLimit: 5 * time.Second, Crashes: 2, Restarts: 1, OnCrash: "degrade", CanAct: true,
		Stderr: []string{
			"Traceback (most recent call last):", "  File \"/app/main.py\", line 61, in classify",
			"    scores = model.predict(pixels)", "\x1b[31mMemoryError\x1b[0m: cannot allocate 4.2 GiB",
		},
	}
	v.Active = &Active{Concurrency: 4}
	v.Load.Rate = 0
	return v
}

// startingView is a worker that has just been started.
func startingView() *View {
	v := healthyView()
	v.Health = Health{Tone: Quiet, Label: "Starting", Since: fixedNow.Add(-2 * time.Second), Health: status.Health{
		Status: "starting", State: "BUSY", Worker: "unhealthy", Broker: "healthy", Database: "not configured",
		Reasons: reasons("the Python process has not reported that it is ready"),
	}}
	v.Process = &Process{Tone: Quiet, Status: "starting", PID: 41234, Started: fixedNow.Add(-2 * time.Second), Memory: -1, CPU: -1, LagLimit: 5 * time.Second, OnCrash: "degrade"}
	v.Load = &Load{P50: -1, P95: -1}
	v.Active = &Active{Concurrency: 1}
	for i := range v.Queues.List {
		v.Queues.List[i].PendingChart, v.Queues.List[i].LatencyChart = Chart{Label: "pending tasks, not measured yet"}, Chart{Label: "age of the oldest, not measured yet"}
	}
	return v
}

// strangerView is what a visitor from elsewhere gets of the degraded worker.
func strangerView() *View {
	v := degradedView()
	v.Trusted, v.Token, v.Process.Stderr, v.Process.CanAct = false, "", nil, false
	for i := range v.Failures.List {
		v.Failures.List[i].Error, v.Failures.List[i].Traceback = "", ""
	}
	return v
}

// checkerView is a health checker of the fleet without a worker around it.
func checkerView() *View {
	v := healthyView()
	v.Name, v.Process, v.Load, v.Active = "fleet checker", nil, nil, nil
	return v
}

// unservedView is a system without a worker, in which tasks wait.
func unservedView() *View {
	v := checkerView()
	q := Queue{Name: "inference_defualt", Tone: Good, Depth: status.Depth{Pending: 3, Latency: 312 * time.Second}}
	q.judge(status.Service{})
	idle := Queue{Name: "emails", Tone: Good}
	idle.judge(status.Service{})
	v.Queues.List = []Queue{idle, q}
	v.Fleet = Fleet{At: fixedNow}
	v.System = SystemView{At: fixedNow, Unserved: 1, Stranded: 3, Deaths: []Death{death("worker-dead99", 3*time.Minute, 2), death("worker-abc123", 40*time.Minute, 0)}}
	return v
}

func death(id string, ago time.Duration, tasks int) Death {
	return Death{
		Key: "n1", ID: id, At: fixedNow.Add(-ago), Cause: "refused", Reason: "dial tcp 10.0.3.99:8001: connect: connection refused",
		Queues: []string{"inference_default", "emails"}, Address: "10.0.3.99:8001", Host: "gpu-04", Tasks: tasks,
	}
}

// elsewhereView is a healthy worker in a system with a queue that nobody serves.
func elsewhereView() *View {
	v := healthyView()
	q := Queue{Name: "inference_defualt", Tone: Good, Depth: status.Depth{Pending: 3, Latency: 312 * time.Second}}
	q.judge(status.Service{})
	v.Queues.Elsewhere = []Queue{q}
	v.System = SystemView{At: fixedNow, Unserved: 1, Stranded: 3, Deaths: []Death{death("worker-dead99", 3*time.Minute, 1)}}
	return v
}

// retriesView has a task in each stage of being tried again, and a worker that is not healthy.
func retriesView() *View {
	v := loadView()
	last := failure("archived", time.Minute)
	last.Attempts = last.MaxAttempts
	v.Failures.List = append(v.Failures.List, last)
	v.Fleet.Workers[1].Tone, v.Fleet.Workers[1].Status = Bad, "degraded"
	return v
}

// emptyView is a worker in an empty Redis, all alone.
func emptyView() *View {
	return &View{
		Name: "w", At: fixedNow, Health: Health{Tone: Good, Label: "Healthy", Health: status.Health{State: "FREE"}},
		Process: &Process{Tone: Good, Status: "running", PID: 1, Memory: -1, CPU: -1}, Load: &Load{P50: -1, P95: -1}, Active: &Active{Concurrency: 1},
		Queues: Queues{At: fixedNow}, Failures: Failures{At: fixedNow}, Fleet: Fleet{At: fixedNow}, System: SystemView{At: fixedNow},
	}
}

// evil is text that must reach the page as text alone.
const evil = `<img src=x onerror=alert(1)>"'><script>alert(2)</script>` + "\u202egnp.exe\u0000\x1b[2J\r\n{{.Token}}`${1}`</pre></title>"

// hostileView has something evil in every text that comes from outside.
func hostileView() *View {
	v := degradedView()
	v.Payloads = true
	v.Name, v.Version, v.Environment, v.Host = evil, evil, evil, evil
	v.Health.Reasons = reasons(evil, strings.Repeat("x", 10_000))
	v.Process.Python, v.Process.Handlers, v.Process.Status = evil, evil, evil
	v.Process.Stderr = []string{evil, strings.Repeat("y", 100_000)}
	v.Queues.Err, v.Failures.Err, v.Fleet.Err, v.System.Err = evil, evil, evil, evil
	v.System.Deaths = []Death{{ID: evil, Cause: evil, Reason: evil, Queues: []string{evil}, Address: evil, Host: evil, At: fixedNow}}
	v.Queues.Elsewhere = []Queue{{Name: evil + "2", Fault: evil, Tone: Bad, Stranded: 1}}
	v.Queues.List = append(v.Queues.List,
		Queue{Name: evil, Tone: Bad, Depth: status.Depth{Err: errors.New(evil)}, PendingChart: Chart{Label: evil, Values: []float64{1, math.Inf(1), math.NaN(), -4, math.MaxFloat64}, Top: math.NaN()}},
		Queue{Name: strings.Repeat("long", 2500), Tone: Warn, Depth: status.Depth{Pending: math.MaxInt64, Latency: math.MaxInt64}})
	v.Active.Tasks = []ActiveTask{{ID: evil, Queue: evil, Type: evil, Running: time.Second, Progress: 7, Message: evil, Payload: evil}}
	v.Failures.List = []Failure{{ID: evil, Queue: evil, Type: evil, State: evil, Error: evil, Traceback: evil, Payload: evil, FailedAt: fixedNow.Add(time.Hour)}}
	v.Fleet.Workers = []Worker{{ID: evil, State: evil, Status: evil, Reason: evil, Queues: []string{evil}, Unreachable: evil, Address: evil, Host: evil, Version: evil, Tone: Bad}}
	return v
}

// hugeView is a fleet of 1,000 workers and 40 queues.
func hugeView() *View {
	v := loadView()
	q := v.Queues.List[0]
	for i := range 38 {
		q.Name = fmt.Sprintf("tenant_%02d_inference", i)
		v.Queues.List = append(v.Queues.List, q)
	}
	v.Fleet = Fleet{At: fixedNow, Free: 900, Busy: 97, Dead: 3, Unhealthy: 5, More: 950}
	for i := range 50 {
		w := worker(fmt.Sprintf("worker-%06x", i), i == 4)
		if i < 3 {
			w = dead(w)
		}
		v.Fleet.Workers = append(v.Fleet.Workers, w)
	}
	for i := range 30 {
		v.Failures.List = append(v.Failures.List, failure("archived", time.Duration(i+10)*time.Minute))
	}
	v.Failures.Archived = 41234
	v.Active.More = 12
	return v
}

// fixtures are all views that the tests render.
func fixtures() map[string]*View {
	return map[string]*View{
		"healthy": healthyView(), "load": loadView(), "degraded": degradedView(), "starting": startingView(), "stranger": strangerView(),
		"checker": checkerView(), "unserved": unservedView(), "elsewhere": elsewhereView(), "retries": retriesView(), "empty": emptyView(), "hostile": hostileView(), "huge": hugeView(),
	}
}

func fixtureNames() []string { return slices.Sorted(maps.Keys(fixtures())) }
