package main

import "fmt"

// figures are what one measurement of one system has found, by the names under which the raw file has them.
type figures map[string]float64

// The names of figures. A figure that cannot be measured of a system is missing there.
const (
	tasksPerSecond = "tasks_per_s"
	totalCPU       = "cpu_us_per_task"
	workerCPU      = "worker_us_per_task"
	pythonCPU      = "python_us_per_task"
	redisCPU       = "redis_us_per_task"
	redisCalls     = "redis_calls_per_task"
	redisScripts   = "scripts_per_task"
	redisReads     = "redis_reads_per_task"
	switches       = "switches_per_task"
	allocations    = "allocations_per_task"
	pendingBytes   = "bytes_per_pending_task"
	finishedBytes  = "bytes_per_finished_task"
	workerPeak     = "worker_peak_mib"
	pythonPeak     = "python_peak_mib"
	taskCount      = "tasks"
	latencyP50     = "p50_ms"
	latencyP99     = "p99_ms"
	scrapeP50      = "scrape_p50_ms"
	scrapeP99      = "scrape_p99_ms"
	startTime      = "start_ms"
	stopBeyond     = "stop_beyond_ms"
	offered        = "offered_tasks_per_s"
	delayMeasured  = "ping_ms"
	idleCommands   = "idle_commands_per_s"
	idleCalls      = "idle_calls_per_s"
	idleCPU        = "idle_cpu_ms_per_s"
	idleRedis      = "idle_redis_us_per_s"
	connections    = "connections"
	pushPops       = "pops_per_push"
	pushScripts    = "scripts_per_push"
	pushCPU        = "redis_us_per_push"
	foundTime      = "found_ms"
	roundCPU       = "cpu_ms_per_round"
	roundCommands  = "commands_per_round"
)

// column is how a table shows a figure.
type column struct {
	figure, head string
}

var columns = []column{
	{tasksPerSecond, "tasks/s"},
	{offered, "offered/s"},
	{delayMeasured, "PING, ms"},
	{latencyP50, "p50, ms"},
	{latencyP99, "p99, ms"},
	{startTime, "ms"},
	{stopBeyond, "ms beyond the timeouts"},
	{scrapeP50, "scrape p50, ms"},
	{scrapeP99, "scrape p99, ms"},
	{totalCPU, "CPU, µs"},
	{workerCPU, "worker"},
	{pythonCPU, "Python"},
	{redisCPU, "Redis"},
	{redisCalls, "Redis calls"},
	{redisScripts, "scripts"},
	{redisReads, "reads"},
	{switches, "switches"},
	{allocations, "allocations"},
	{pendingBytes, "bytes pending"},
	{finishedBytes, "bytes finished"},
	{foundTime, "all found, ms"},
	{roundCPU, "CPU, ms per round"},
	{roundCommands, "Redis calls per round"},
	{pushPops, "pops per push"},
	{pushScripts, "scripts per push"},
	{pushCPU, "Redis, µs per push"},
	{idleCommands, "commands/s"},
	{idleCalls, "Redis calls/s, each"},
	{idleRedis, "Redis, µs/s, each idle"},
	{idleCPU, "CPU, ms/s"},
	{connections, "connections"},
	{workerPeak, "worker, MiB"},
	{pythonPeak, "Python, MiB"},
}

// short writes a figure with about three digits.
func short(v float64) string {
	switch abs := max(v, -v); {
	case abs >= 100:
		return grouped(fmt.Sprintf("%.0f", v))
	case abs >= 10:
		return fmt.Sprintf("%.1f", v)
	case abs >= 0.1 || abs == 0:
		return fmt.Sprintf("%.2f", v)
	default:
		return fmt.Sprintf("%.3f", v)
	}
}

// grouped sets commas between thousands.
func grouped(digits string) string {
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
