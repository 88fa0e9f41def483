package main

import (
	"fmt"
	"slices"
)

// target is a figure, or a ratio of two, with what it should be.
type target struct {
	title string
	value operand
	over  operand // value is divided by it within each round; none: value is absolute
	scale float64 // what the value is multiplied by; 0: 1
	limit float64
	least bool   // the limit is a minimum
	unit  string // after the number
	noted string // what was measured before the engine was rebuilt, on 2026-11-27, by other programs
}

// The systems that targets name.
const (
	full       = "worker c100"
	plainFull  = "asynq + pipe c100"
	celeryOne  = "Celery prefork c1"
	sdkPipe    = "SDK pipe"
	bareLooped = "bare loop"
)

// targets are those of the worker of this checkout.
var targets = []target{
	{
		title: "no-op, c100, against asynq + pipe c100", limit: 5, least: true, unit: "×", noted: "0.7×",
		value: operand{"noop", full, tasksPerSecond}, over: operand{"noop", plainFull, tasksPerSecond},
	},
	{
		title: "no-op, c100, against Celery prefork c1", limit: 30, least: true, unit: "×", noted: "4.0×",
		value: operand{"noop", full, tasksPerSecond}, over: operand{"noop", celeryOne, tasksPerSecond},
	},
	{
		title: "no-op, c100, against the SDK's bare pipe", limit: 30, least: true, unit: " %", noted: "3.7 %",
		value: operand{"noop", full, tasksPerSecond}, over: operand{"noop", sdkPipe, tasksPerSecond}, scale: 100,
	},
	{
		title: "no-op, c1, against Celery prefork c1", limit: 6, least: true, unit: "×", noted: "1.6×",
		value: operand{"noop", "worker c1", tasksPerSecond}, over: operand{"noop", celeryOne, tasksPerSecond},
	},
	{
		title: "CPU per task, c100, against asynq + pipe c100", limit: 0.25, unit: "×", noted: "1.4×",
		value: operand{"noop", full, totalCPU}, over: operand{"noop", plainFull, totalCPU},
	},
	{
		title: "idle latency p50 against Celery's p50", limit: 0.6, unit: "×", noted: "0.8×",
		value: operand{"latency", "worker c1", latencyP50}, over: operand{"latency", celeryOne, latencyP50},
	},
	{
		title: "idle latency p99 against Celery's p50", limit: 1, unit: "×", noted: "–",
		value: operand{"latency", "worker c1", latencyP99}, over: operand{"latency", celeryOne, latencyP50},
	},
	{
		title: "10 ms async sleep, c100, against the bare pipe", limit: 85, least: true, unit: " %", noted: "12 %",
		value: operand{"sleep", "worker c100 async", tasksPerSecond}, over: operand{"sleep", "SDK pipe async", tasksPerSecond}, scale: 100,
	},
	{
		title: "5 ms CPU, c10, against the bare loop", limit: 97, least: true, unit: " %", noted: "90 %",
		value: operand{"cpu", "worker c10", tasksPerSecond}, over: operand{"cpu", bareLooped, tasksPerSecond}, scale: 100,
	},
	{
		title: "5 ms CPU, c1, against the bare loop", limit: 85, least: true, unit: " %", noted: "–",
		value: operand{"cpu", "worker c1", tasksPerSecond}, over: operand{"cpu", bareLooped, tasksPerSecond}, scale: 100,
	},
	{
		title: "1 KB payload against asynq + pipe c100", limit: 3, least: true, unit: "×", noted: "0.6×",
		value: operand{"payload-1k", full, tasksPerSecond}, over: operand{"payload-1k", plainFull, tasksPerSecond},
	},
	{
		title: "with 1 ms to Redis, c100, against loopback", limit: 80, least: true, unit: " %", noted: "–",
		value: operand{"delay", "worker c100 1 ms", tasksPerSecond}, over: operand{"delay", "worker c100 loopback", tasksPerSecond}, scale: 100,
	},
	{
		title: "32 slots of 50 ms tasks, 10 ms to Redis, of the ideal", limit: 90, least: true, unit: " %", noted: "14 %",
		value: operand{"slots", "worker c32 async", tasksPerSecond}, scale: 100.0 / 640,
	},
	{
		title: "worker's memory at full load, 1 KB payloads", limit: 30, unit: " MiB", noted: "36 MiB",
		value: operand{"payload-1k", full, workerPeak},
	},
	{
		title: "`/metrics`, 20 queues, p99 under load", limit: 10, unit: " ms", noted: "15–46 ms",
		value: operand{"scrape", full, scrapeP99},
	},
	{
		title: "worker's CPU for a payload of 1 MB", limit: 5, unit: " ms", noted: "12–16 ms",
		value: operand{"payload-1m", full, workerCPU}, scale: 0.001,
	},
	{
		title: "views on against off", limit: 75, least: true, unit: " %", noted: "–",
		value: operand{"views", "worker c100 views on", tasksPerSecond}, over: operand{"views", "worker c100 views off", tasksPerSecond}, scale: 100,
	},
	{
		title: "stacks on against off", limit: 99, least: true, unit: " %", noted: "–",
		value: operand{"stacks", "worker c100 stacks on", tasksPerSecond}, over: operand{"stacks", "worker c100 stacks off", tasksPerSecond}, scale: 100,
	},
	{
		title: "scripts per task, c100", limit: 0.1, noted: "5",
		value: operand{"noop", full, redisScripts},
	},
	{
		title: "socket reads of Redis per task, c100", limit: 0.1, noted: "3.9",
		value: operand{"noop", full, redisReads},
	},
	{
		title: "Redis calls per task, c100", limit: 10, noted: "25",
		value: operand{"noop", full, redisCalls},
	},
	{
		title: "voluntary switches of the worker per task, c100", limit: 1, noted: "13.2",
		value: operand{"noop", full, switches},
	},
	{
		title: "allocations of the worker per task, c100", limit: 60, noted: "230",
		value: operand{"noop", full, allocations},
	},
	{
		title: "pops for one push to idle workers", limit: 2, noted: "57, 200 workers",
		value: operand{"push", "worker c1", pushPops},
	},
	{
		title: "commands of an idle worker, one queue", limit: 8, unit: " /s", noted: "8.7 /s",
		value: operand{"idle", "worker c1", idleCommands},
	},
	{
		title: "connections of an idle worker, one queue", limit: 6, noted: "–",
		value: operand{"idle", "worker c1", connections},
	},
	{
		title: "SIGTERM to the end, Redis answers, beyond the timeouts", limit: 2000, unit: " ms", noted: "–",
		value: operand{"stop", "Redis answers", stopBeyond},
	},
	{
		title: "SIGTERM to the end, Redis frozen, beyond the timeouts", limit: 2000, unit: " ms", noted: "18 s",
		value: operand{"stop", "Redis is frozen", stopBeyond},
	},
}

// allTargets are those, and one of each kind of hang.
func allTargets() []target {
	all := slices.Clone(targets)
	for _, kind := range hangKinds() {
		all = append(all, target{
			title: "`stack` names the line: " + kind, limit: 200, unit: " ms", noted: "–", value: operand{"hangs", kind, latencyP50},
		})
	}
	return all
}

// values are the figure or the ratio in each round, of a system in the place of the worker: the worker or the baseline.
func (t target) values(r *results, worker string) []float64 {
	value, over := t.value.as(worker), t.over.as(worker)
	var out []float64
	if t.over == (operand{}) {
		out = r.values(value.workload, value.system, value.figure)
	} else {
		out = r.ratios(value, over)
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
