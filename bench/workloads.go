package main

import (
	"context"
)

const smallPayload = `{"n":1234567}`

// workloads lists what is measured, in this order.
func (b *bench) workloads(context.Context) []workload {
	return []workload{b.noop()}
}

// drained has a system empty a queue.
func (b *bench) drained(sys *system, o drainOptions, trial, most int) cell {
	return cell{
		system: sys.name, trial: trial, least: trial, most: most,
		run: func(ctx context.Context, tasks int) (figures, error) { return b.drain(ctx, sys, o, tasks) },
	}
}

func (b *bench) piped(async bool, o drainOptions, trial, most int) cell {
	name := "SDK pipe"
	if async {
		name += " async"
	}
	return cell{
		system: name, trial: trial, least: trial, most: most,
		run: func(ctx context.Context, tasks int) (figures, error) {
			return b.barePipe(ctx, async, o.taskType, o.payload, tasks)
		},
	}
}

// noop is the drain of tasks that do nothing: what a system costs.
func (b *bench) noop() workload {
	o := drainOptions{taskType: "echo", payload: smallPayload}
	w := workload{name: "noop", about: "Tasks that return their payload. They stand in the queue before the system starts; " +
		"measured from the first that are done to the last, results stored."}
	add := func(trial, most int, systems ...*system) {
		for _, s := range systems {
			w.cells = append(w.cells, b.drained(s, o, trial, most))
		}
	}
	for _, async := range []bool{false, true} {
		for _, c := range []int{100, 10, 1} {
			add(2000, 60_000, b.ours(workerOptions{concurrency: c, async: async}))
			add(1000, 60_000, b.before(workerOptions{concurrency: c, async: async})...)
		}
		w.cells = append(w.cells, b.piped(async, o, 10_000, 400_000))
	}
	add(1000, 60_000, b.plainAsynq(100, false), b.plainAsynq(1, false), b.plainAsynq(100, true))
	add(200, 10_000, b.celery("prefork c1", "-c", "1"), b.celery("prefork c2", "-c", "2"), b.celery("solo", "--pool", "solo"))
	add(100, 5000, b.rq("SimpleWorker"))
	add(20, 500, b.rq("Worker"))
	return w
}
