package main

import "fmt"

// target is a figure, or a ratio of two, with what it should be.
type target struct {
	title string
	value operand
	over  *operand // value is divided by it within each round; nil: value is absolute
	scale float64  // what the value is multiplied by; 0: 1
	limit float64
	least bool   // the limit is a minimum
	unit  string // after the number
	noted string // what was measured before the engine was rebuilt, on 2026-11-27, by other programs
}

// targets are those of the worker of this checkout.
func targets() []target {
	noop := func(system, figure string) *operand { return &operand{"noop", system, figure} }
	rate := func(workload, system string) operand { return operand{workload, system, tasksPerSecond} }
	full := func(figure string) operand { return operand{"noop", "worker c100", figure} }
	const celery, plain = "Celery prefork c1", "asynq + pipe c100"
	latencyCelery := &operand{"latency", celery, latencyP50}
	of := func(o operand) *operand { return &o }
	return []target{
		{title: "no-op, c100, against asynq + pipe c100", value: full(tasksPerSecond), over: noop(plain, tasksPerSecond), limit: 5, least: true, unit: "×", noted: "0.7×"},
		{title: "no-op, c100, against Celery prefork c1", value: full(tasksPerSecond), over: noop(celery, tasksPerSecond), limit: 30, least: true, unit: "×", noted: "4.0×"},
		{title: "no-op, c100, against the SDK's bare pipe", value: full(tasksPerSecond), over: noop("SDK pipe", tasksPerSecond), scale: 100, limit: 30, least: true, unit: " %", noted: "3.7 %"},
		{title: "no-op, c1, against Celery prefork c1", value: rate("noop", "worker c1"), over: noop(celery, tasksPerSecond), limit: 6, least: true, unit: "×", noted: "1.6×"},
		{title: "CPU per task, c100, against asynq + pipe c100", value: full(totalCPU), over: noop(plain, totalCPU), limit: 0.25, unit: "×", noted: "1.4×"},
		{title: "idle latency p50 against Celery's p50", value: operand{"latency", "worker c1", latencyP50}, over: latencyCelery, limit: 0.6, unit: "×", noted: "0.8×"},
		{title: "idle latency p99 against Celery's p50", value: operand{"latency", "worker c1", latencyP99}, over: latencyCelery, limit: 1, unit: "×", noted: "–"},
		{title: "10 ms async sleep, c100, against the bare pipe", value: rate("sleep", "worker c100 async"), over: of(rate("sleep", "SDK pipe async")), scale: 100, limit: 85, least: true, unit: " %", noted: "12 %"},
		{title: "5 ms CPU, c10, against the bare loop", value: rate("cpu", "worker c10"), over: of(rate("cpu", "bare loop")), scale: 100, limit: 97, least: true, unit: " %", noted: "90 %"},
		{title: "5 ms CPU, c1, against the bare loop", value: rate("cpu", "worker c1"), over: of(rate("cpu", "bare loop")), scale: 100, limit: 85, least: true, unit: " %", noted: "–"},
		{title: "1 KB payload against asynq + pipe", value: rate("payload-1k", "worker c100"), over: of(rate("payload-1k", plain)), limit: 3, least: true, unit: "×", noted: "0.6×"},
		{title: "with 1 ms to Redis, c100, against loopback", value: rate("delay", "worker c100 1 ms"), over: of(rate("delay", "worker c100 loopback")), scale: 100, limit: 80, least: true, unit: " %", noted: "–"},
		{title: "32 slots of 50 ms tasks, 10 ms to Redis, of the ideal", value: rate("slots", "worker c32 async"), scale: 100.0 / 640, limit: 90, least: true, unit: " %", noted: "14 %"},
		{title: "worker's memory at full load, 1 KB payloads", value: operand{"payload-1k", "worker c100", workerPeak}, limit: 30, unit: " MiB", noted: "36 MiB"},
		{title: "`/metrics`, 20 queues, p99 under load", value: operand{"scrape", "worker c100", scrapeP99}, limit: 10, unit: " ms", noted: "15–46 ms"},
		{title: "worker's CPU for a payload of 1 MB", value: operand{"payload-1m", "worker c100", workerCPU}, scale: 1e-3, limit: 5, unit: " ms", noted: "12–16 ms"},
		{title: "views on against off", value: rate("views", "worker c100 views on"), over: of(rate("views", "worker c100 views off")), scale: 100, limit: 75, least: true, unit: " %", noted: "–"},
		{title: "scripts per task, c100", value: full(redisScripts), limit: 0.1, noted: "5"},
		{title: "socket reads of Redis per task, c100", value: full(redisReads), limit: 0.1, noted: "3.9"},
		{title: "Redis calls per task, c100", value: full(redisCalls), limit: 10, noted: "25"},
		{title: "voluntary switches of the worker per task, c100", value: full(switches), limit: 1, noted: "13.2"},
		{title: "allocations of the worker per task, c100", value: full(allocations), limit: 60, noted: "230"},
		{title: "pops for one push to idle workers", value: operand{"push", "worker c1", pushPops}, limit: 2, noted: "57 (200 workers)"},
		{title: "commands of an idle worker, one queue", value: operand{"idle", "worker c1", idleCalls}, limit: 8, unit: " /s", noted: "8.7 /s"},
		{title: "connections of an idle worker, one queue", value: operand{"idle", "worker c1", connections}, limit: 6, noted: "–"},
	}
}

// values are the figure or the ratio in each round, and those of another system in the place of the worker.
func (t target) values(r *results, worker string) []float64 {
	value, over := t.value.as(worker), t.over
	if over != nil {
		o := over.as(worker)
		over = &o
	}
	var out []float64
	if over == nil {
		out = r.values(value.workload, value.system, value.figure)
	} else {
		out = r.ratios(value, *over)
	}
	if t.scale != 0 {
		for i := range out {
			out[i] *= t.scale
		}
	}
	return out
}

func (t target) met(value float64) bool {
	if t.least {
		return value >= t.limit
	}
	return value <= t.limit
}

func (t target) want() string {
	sign := "≤"
	if t.least {
		sign = "≥"
	}
	return fmt.Sprintf("%s %g%s", sign, t.limit, t.unit)
}
