package main

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

// usual are the systems as one would run them for one task at a time.
func (b *bench) usual() []*system {
	systems := append(b.both(workerOptions{concurrency: 1}), b.plainAsynq(1, false), b.celery("prefork c1", "-c", "1"), b.rq("SimpleWorker"))
	return append(systems, b.further(b.celery("solo", "--pool", "solo"), b.rq("Worker"))...)
}

func (b *bench) latency() workload {
	const gap = 20 * time.Millisecond
	w := workload{name: "latency", title: "One task for an idle system", about: "From just before the enqueue until the result is in Redis, " +
		"each task 20 ms (10 to 30) after the result of the one before. asynq's server has fewer, since it polls an empty queue once a second."}
	for _, s := range b.usual() {
		tasks, between := 200, gap
		if b.options.quick {
			tasks = 50
		}
		if s.name == b.plainAsynq(1, false).name {
			tasks, between = max(3, tasks/20), 1100*time.Millisecond
		}
		w.cells = append(w.cells, cell{system: s.name, run: func(ctx context.Context, _ int) (figures, error) {
			return b.idleLatency(ctx, s, tasks, between)
		}})
	}
	return w
}

func (b *bench) half() workload {
	w := workload{name: "half-load", title: "One task among others", about: "Tasks come at half of the rate at which the system has emptied a queue in the " +
		"first table, every 2 ms as many as are due. From just before the enqueue until the result is in Redis."}
	systems := append(b.both(workerOptions{concurrency: 100}), b.plainAsynq(100, false), b.celery("prefork c1", "-c", "1"), b.rq("SimpleWorker"))
	for _, s := range systems {
		w.cells = append(w.cells, cell{system: s.name, run: func(ctx context.Context, _ int) (figures, error) { return b.halfLoad(ctx, s) }})
	}
	return w
}

func (b *bench) starts() workload {
	w := workload{name: "start", title: "From the start to the first result", about: "One task waits. From just before the program is started " +
		"until the result is in Redis."}
	for _, s := range b.usual() {
		w.cells = append(w.cells, cell{system: s.name, run: func(ctx context.Context, _ int) (figures, error) { return b.firstResult(ctx, s) }})
	}
	return w
}

func (b *bench) idleCost() workload {
	window := 10 * time.Second
	if b.options.quick {
		window = 3 * time.Second
	}
	w := workload{name: "idle", title: "A system that waits", about: fmt.Sprintf("%s without tasks, after a few: what it sends to Redis, "+
		"as MONITOR shows it, what Redis does for it, commands inside scripts included, and what it uses.", window)}
	systems := append(b.both(workerOptions{concurrency: 1}), b.plainAsynq(1, false), b.celery("prefork c1", "-c", "1"))
	for _, s := range systems {
		w.cells = append(w.cells, cell{system: s.name, run: func(ctx context.Context, _ int) (figures, error) {
			return b.idle(ctx, s, window)
		}})
	}
	return w
}

func (b *bench) push() workload {
	most, pushes := 200, 50
	if b.options.quick {
		most, pushes = 10, 15
	}
	n := memoryFor(most)
	w := workload{name: "push", title: fmt.Sprintf("One push to %d idle workers", n), about: fmt.Sprintf(
		"%d workers with their Python processes wait for one queue; %d times a task comes, about 200 ms after the result of the one before. What a push costs "+
			"is what Redis did beyond what it does for the workers while they wait.", n, pushes)}
	if n < most {
		w.about += fmt.Sprintf(" There is no memory for %d workers.", most)
	}
	for _, s := range b.both(workerOptions{concurrency: 1}) {
		w.cells = append(w.cells, cell{system: s.name, run: func(ctx context.Context, _ int) (figures, error) {
			return b.pushes(ctx, s, n, pushes)
		}})
	}
	return w
}

func (b *bench) hanging() workload {
	w := workload{name: "hangs", title: "Where does it hang?", about: "`runqy-worker stack WORKER TASK` for each kind of hang, from the start of that program " +
		"to its end; an answer that does not begin with the line at which it hangs is a failure. The figures are of the answers, nine in each round."}
	kinds := hangKinds()
	if b.options.quick {
		kinds = kinds[:1]
	}
	for _, kind := range kinds {
		w.cells = append(w.cells, cell{system: kind, run: func(ctx context.Context, _ int) (figures, error) { return b.hangs(ctx, kind) }})
	}
	return w
}

func (b *bench) stopping() workload {
	w := workload{name: "stop", title: "From SIGTERM to the end", about: "`worker.shutdown_timeout` and `python.stop_timeout` are 1 s each, and a task runs that " +
		"does not end. What it takes beyond the two seconds; below 0: less."}
	for _, frozen := range []bool{false, true} {
		name := map[bool]string{false: "Redis answers", true: "Redis is frozen"}[frozen]
		w.cells = append(w.cells, cell{system: name, run: func(ctx context.Context, _ int) (figures, error) { return b.stops(ctx, frozen) }})
	}
	return w
}

func (b *bench) fleet() workload {
	w := workload{name: "fleet", title: "The fleet's checker", about: "`runqy-worker fleet` with its defaults pings simulated workers every 5 s, each with an " +
		"address and a connection of its own. The time until all are found FREE is from the start of the program."}
	sizes, window := []int{1000, 10_000}, 15*time.Second
	if b.options.quick {
		sizes, window = sizes[:1], fleetInterval
	}
	for _, n := range sizes {
		w.cells = append(w.cells, cell{system: grouped(strconv.Itoa(n)) + " workers", run: func(ctx context.Context, _ int) (figures, error) {
			return b.checker(ctx, n, window)
		}})
	}
	return w
}
