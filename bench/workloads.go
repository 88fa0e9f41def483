package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

const (
	smallPayload = `{"n":1234567}`
	sleepPayload = `{"seconds":0.01}`
	slotPayload  = `{"seconds":0.05}`
	spinPayload  = `{"seconds":0.005}`
)

// bytesPayload is a payload of about so many bytes.
func bytesPayload(n int) string { return `{"data":"` + strings.Repeat("x", n) + `"}` }

// workloads lists what is measured, in this order.
func (b *bench) workloads() []workload {
	return []workload{
		b.noop(), b.payload("payload-1k", "of 1 KB", 1000), b.payload("payload-1m", "of 1 MB", 1_000_000), b.asyncSleep(), b.processor(),
		b.views(), b.stacks(), b.delay(), b.slots(), b.severalWorkers(), b.million(), b.scrapes(),
		b.latency(), b.half(), b.starts(), b.idleCost(), b.push(), b.fleet(), b.hanging(), b.stopping(),
	}
}

// drained has a system empty a queue.
func (b *bench) drained(sys *system, o drainOptions, trial, most int) cell {
	return cell{
		system: sys.name, trial: trial, most: most,
		run: func(ctx context.Context, tasks int) (figures, error) { return b.drain(ctx, sys, o, tasks) },
	}
}

// piped has the SDK work without a queue.
func (b *bench) piped(async bool, o drainOptions, trial, most int) cell {
	name := "SDK pipe"
	if async {
		name += " async"
	}
	return cell{
		system: name, trial: trial, most: most,
		run: func(ctx context.Context, tasks int) (figures, error) {
			return b.barePipe(ctx, async, o.taskType, o.payload, tasks)
		},
	}
}

// both is a worker of this checkout and one of the baseline, if there is one.
func (b *bench) both(o workerOptions) []*system { return append([]*system{b.ours(o)}, b.before(o)...) }

// named is both with something added to the names.
func (b *bench) named(suffix string, o workerOptions) []*system {
	systems := b.both(o)
	for _, s := range systems {
		s.name += " " + suffix
	}
	return systems
}

func (b *bench) noop() workload {
	o := drainOptions{taskType: "echo", payload: smallPayload}
	w := workload{name: "noop", title: "Tasks that do nothing", about: "What a system costs: the tasks return their payload. They stand " +
		"in the queue before the system starts, and what is measured begins with the first that are done and ends with the last. " +
		"“SDK pipe” is the Python process alone, 100 tasks under way, without a queue or Redis: the limit."}
	add := func(trial, most int, systems ...*system) {
		for _, s := range systems {
			w.cells = append(w.cells, b.drained(s, o, trial, most))
		}
	}
	for _, async := range []bool{false, true} {
		for _, c := range []int{100, 10, 1} {
			systems := b.both(workerOptions{concurrency: c, async: async})
			if async && c < 100 {
				systems = b.further(systems...)
			}
			add(1000, 60_000, systems...)
		}
		w.cells = append(w.cells, b.piped(async, o, 10_000, 400_000))
	}
	add(1000, 60_000, b.plainAsynq(100, false), b.plainAsynq(1, false))
	add(1000, 60_000, b.further(b.plainAsynq(100, true))...)
	add(300, 10_000, b.celery("prefork c1", "-c", "1"))
	add(300, 10_000, b.further(b.celery("prefork c2", "-c", "2"), b.celery("solo", "--pool", "solo"))...)
	add(100, 5000, b.rq("SimpleWorker"))
	add(20, 500, b.further(b.rq("Worker"))...)
	return w
}

func (b *bench) payload(name, title string, size int) workload {
	o := drainOptions{taskType: "echo", payload: bytesPayload(size)}
	w := workload{name: name, title: "Payloads " + title, about: "As above; the payload is the result, too."}
	trial, most := 1000, 40_000
	if size > 100_000 {
		trial, most = 60, 400
	}
	systems := append(b.both(workerOptions{concurrency: 100}), b.plainAsynq(100, false))
	for _, s := range append(systems, b.further(b.celery("prefork c1", "-c", "1"))...) {
		w.cells = append(w.cells, b.drained(s, o, trial, most))
	}
	w.cells = append(w.cells, b.piped(false, o, trial, most))
	return w
}

func (b *bench) asyncSleep() workload {
	o := drainOptions{taskType: "sleep", payload: sleepPayload}
	w := workload{name: "sleep", title: "Async tasks that wait 10 ms, 100 at once",
		about: "100 tasks of 10 ms at once are at most 10,000 a second."}
	for _, s := range append(b.both(workerOptions{concurrency: 100, async: true}), b.plainAsynq(100, true)) {
		w.cells = append(w.cells, b.drained(s, o, 1000, 30_000))
	}
	w.cells = append(w.cells, b.piped(true, o, 3000, 30_000))
	return w
}

func (b *bench) processor() workload {
	o := drainOptions{taskType: "spin", payload: spinPayload}
	w := workload{name: "cpu", title: "Tasks that compute for 5 ms", about: "5 ms by the clock of the handler's thread. The bare loop calls the " +
		"handler in a loop of Python's: the limit."}
	systems := append(b.both(workerOptions{concurrency: 1}), b.both(workerOptions{concurrency: 10})...)
	systems = append(systems, b.further(b.plainAsynq(10, false), b.celery("prefork c1", "-c", "1"), b.rq("SimpleWorker"))...)
	for _, s := range systems {
		w.cells = append(w.cells, b.drained(s, o, 50, 1000))
	}
	w.cells = append(w.cells, cell{system: "bare loop", trial: 50, most: 1000, run: func(ctx context.Context, tasks int) (figures, error) {
		return b.bareLoop(ctx, o.taskType, o.payload, tasks)
	}})
	return w
}

func (b *bench) views() workload {
	o := drainOptions{taskType: "echo", payload: smallPayload}
	w := workload{name: "views", title: "With and without the views for redis-cli", about: "`results.redis_cli_views` on and off, the tasks of the first table."}
	for _, on := range []string{"on", "off"} {
		setting := "RUNQY_RESULTS_REDIS_CLI_VIEWS=" + map[string]string{"on": "true", "off": "false"}[on]
		for _, s := range b.named("views "+on, workerOptions{concurrency: 100, settings: []string{setting}}) {
			w.cells = append(w.cells, b.drained(s, o, 1000, 60_000))
		}
	}
	return w
}

func (b *bench) stacks() workload {
	o := drainOptions{taskType: "echo", payload: smallPayload}
	w := workload{name: "stacks", title: "With and without the registration for stacks", about: "`python.stack_signal` is `auto` or 0, the tasks of the " +
		"first table."}
	for _, on := range []string{"on", "off"} {
		setting := "RUNQY_PYTHON_STACK_SIGNAL=" + map[string]string{"on": "auto", "off": "0"}[on]
		for _, s := range b.named("stacks "+on, workerOptions{concurrency: 100, settings: []string{setting}}) {
			w.cells = append(w.cells, b.drained(s, o, 1000, 200_000))
		}
	}
	return w
}

func (b *bench) delay() workload {
	w := workload{name: "delay", title: "A longer way to Redis", about: "A proxy delays what passes in each direction by half of 1 ms and of 10 ms. " +
		"It shares the machine with the rest."}
	for _, ms := range []int{0, 1, 10} {
		o := drainOptions{taskType: "echo", payload: smallPayload, delay: time.Duration(ms) * time.Millisecond}
		suffix := fmt.Sprintf("%d ms", ms)
		if ms == 0 {
			suffix = "loopback"
		}
		for _, s := range b.named(suffix, workerOptions{concurrency: 100}) {
			w.cells = append(w.cells, b.drained(s, o, 1000/(1+ms), 60_000))
		}
	}
	return w
}

func (b *bench) slots() workload {
	o := drainOptions{taskType: "sleep", payload: slotPayload, delay: 10 * time.Millisecond}
	w := workload{name: "slots", title: "32 async tasks of 50 ms, 10 ms to Redis", about: "If no slot were ever empty, that would be 640 tasks a second."}
	for _, s := range b.both(workerOptions{concurrency: 32, async: true}) {
		w.cells = append(w.cells, b.drained(s, o, 320, 10_000))
	}
	return w
}

func (b *bench) severalWorkers() workload {
	w := workload{name: "workers", title: "Several workers on one queue", about: "Each with its Python process, all on this machine: with more workers than cores the sum " +
		"shows what they cost each other. The queue is paused until all have started, and measured when a quarter of the tasks is done."}
	numbers := []int{1, 2, 4, 8}
	if b.options.quick {
		numbers = numbers[:2]
	}
	for _, n := range numbers {
		o := drainOptions{taskType: "echo", payload: smallPayload, processes: n}
		for _, s := range b.named(fmt.Sprintf("×%d", n), workerOptions{concurrency: 100}) {
			w.cells = append(w.cells, b.drained(s, o, 4000, 100_000))
		}
	}
	return w
}

func (b *bench) million() workload {
	waiting := 1_000_000
	if b.options.quick {
		waiting = 100_000
	}
	o := drainOptions{taskType: "echo", payload: smallPayload, window: 100_000, limit: time.Duration(5 * b.options.seconds * float64(time.Second))}
	w := workload{name: "million", title: fmt.Sprintf("%d tasks wait", waiting), about: fmt.Sprintf(
		"The first 100,000 of them, or as many as were done within %s.", o.limit)}
	for _, s := range b.both(workerOptions{concurrency: 100}) {
		w.cells = append(w.cells, cell{system: s.name, run: func(ctx context.Context, _ int) (figures, error) {
			return b.drain(ctx, s, o, waiting)
		}})
	}
	return w
}

func (b *bench) scrapes() workload {
	o := drainOptions{taskType: "echo", payload: smallPayload, during: scrapeOften}
	w := workload{name: "scrape", title: "/metrics under load", about: "20 queues with tasks, a scrape every 50 ms."}
	for _, s := range b.both(workerOptions{concurrency: 100, queues: 20}) {
		// With few tasks in each queue only the start and the end would be measured, when most queues are empty.
		w.cells = append(w.cells, b.drained(s, o, 20_000, 60_000))
	}
	return w
}
