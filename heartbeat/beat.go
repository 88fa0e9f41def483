package heartbeat

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/runqy/runqy-worker/internal/status"
)

// RegistryKey is the sorted set of worker ids, scored by the unix second at which their heartbeat expires.
const RegistryKey = "runqy:workers"

// Key returns the key of the heartbeat hash of the worker id.
func Key(id string) string { return "asynq:workers:" + id }

// Beat is the content of one heartbeat. The comment behind a field is its name in the hash.
type Beat struct {
	Started      time.Time     // started: when the worker started
	Healthy      bool          // healthy: "true" or "false"
	Queues       []string      // queue: names by priority, comma-separated
	ActiveTask   string        // active_task: id of the longest-running task, or empty
	Status       status.Status // status
	State        status.State  // state: FREE or BUSY
	Reason       status.Reason // reason: why it is not healthy, or what a replacement of its process waits for; in the hash its whole text, or empty
	Report       status.Mark   // report: which report of the health this is made from, as "12; age=0.503"
	LastBeat     time.Time     // last_beat: set by the Writer, on the worker's clock
	ActiveTasks  []string      // active_tasks: JSON list of task ids
	Concurrency  int           // concurrency
	Processed    int64         // processed: finished attempts
	Failed       int64         // failed: failed attempts
	Restarts     int64         // restarts of the Python process
	Crashes      int64         // crashes of the Python process
	EventLoopLag time.Duration // event_loop_lag_seconds: to the millisecond
	PythonPID    int           // python_pid: empty in the hash when there is none (0 here)
	Version      string        // version of the worker program
	Environment  string        // environment
	Address      string        // address: host:port of the HTTP server, or empty

	Identity // host, pid, nonce, boot_id, pid_namespace, pid_start: set by the Writer

	Interval time.Duration // interval_seconds: set by the Writer
	TTL      time.Duration // ttl_seconds: set by the Writer
}

// timeLayout has milliseconds, so that two beats of one second differ.
const timeLayout = "2006-01-02T15:04:05.000Z07:00"

// fields returns the hash as name, value, name, value. Every value is text: left to the client, a bool would become 1
// or 0.
func (b Beat) fields() []string {
	tasks := b.ActiveTasks
	if tasks == nil {
		tasks = []string{}
	}
	// A list of strings always marshals.
	tasksJSON, _ := json.Marshal(tasks)
	pythonPID := ""
	if b.PythonPID > 0 {
		pythonPID = strconv.Itoa(b.PythonPID)
	}
	return []string{
		"started", formatTime(b.Started, time.RFC3339),
		"healthy", strconv.FormatBool(b.Healthy),
		"queue", strings.Join(b.Queues, ","),
		"active_task", b.ActiveTask,
		"status", string(b.Status),
		"state", string(b.State),
		"reason", b.Reason.Text(),
		"report", b.Report.String(),
		"last_beat", formatTime(b.LastBeat, timeLayout),
		"active_tasks", string(tasksJSON),
		"concurrency", strconv.Itoa(b.Concurrency),
		"processed", strconv.FormatInt(b.Processed, 10),
		"failed", strconv.FormatInt(b.Failed, 10),
		"restarts", strconv.FormatInt(b.Restarts, 10),
		"crashes", strconv.FormatInt(b.Crashes, 10),
		"event_loop_lag_seconds", formatSeconds(b.EventLoopLag),
		"host", b.Host,
		"pid", strconv.Itoa(b.PID),
		"python_pid", pythonPID,
		"version", b.Version,
		"environment", b.Environment,
		"address", b.Address,
		"nonce", b.Nonce,
		"boot_id", b.BootID,
		"pid_namespace", b.PIDNamespace,
		"pid_start", strconv.FormatUint(b.PIDStart, 10),
		"interval_seconds", formatSeconds(b.Interval),
		"ttl_seconds", formatSeconds(b.TTL),
	}
}

// ParseBeat reads a heartbeat hash as HGETALL returns it. Unknown fields are ignored and missing ones left zero, so
// that versions can be mixed; a field that is there but cannot be read is an error that names it. The Beat holds
// whatever could be read even when there is an error.
func ParseBeat(hash map[string]string) (Beat, error) {
	p := fieldParser{hash: hash}
	b := Beat{
		Started:      p.time("started"),
		Healthy:      p.bool("healthy"),
		ActiveTask:   hash["active_task"],
		Status:       status.Status(hash["status"]),
		State:        status.State(hash["state"]),
		Reason:       status.ParseReason(hash["reason"]),
		LastBeat:     p.time("last_beat"),
		ActiveTasks:  p.list("active_tasks"),
		Concurrency:  int(p.count("concurrency", math.MaxInt32)),
		Processed:    p.count("processed", math.MaxInt64),
		Failed:       p.count("failed", math.MaxInt64),
		Restarts:     p.count("restarts", math.MaxInt64),
		Crashes:      p.count("crashes", math.MaxInt64),
		EventLoopLag: p.seconds("event_loop_lag_seconds"),
		PythonPID:    int(p.count("python_pid", math.MaxInt32)),
		Version:      hash["version"],
		Environment:  hash["environment"],
		Address:      hash["address"],
		Identity: Identity{
			Host:         hash["host"],
			PID:          int(p.count("pid", math.MaxInt32)),
			Nonce:        hash["nonce"],
			BootID:       hash["boot_id"],
			PIDNamespace: hash["pid_namespace"],
			PIDStart:     uint64(p.count("pid_start", math.MaxInt64)),
		},
		Interval: p.seconds("interval_seconds"),
		TTL:      p.seconds("ttl_seconds"),
	}
	if q := hash["queue"]; q != "" {
		b.Queues = strings.Split(q, ",")
	}
	return b, errors.Join(p.errs...)
}

// fieldParser reads typed fields and collects every fault.
type fieldParser struct {
	hash map[string]string
	errs []error
}

func (p *fieldParser) fault(name, want string) {
	p.errs = append(p.errs, fmt.Errorf("heartbeat field %s: %.100q is not %s", name, p.hash[name], want))
}

func (p *fieldParser) time(name string) time.Time {
	v := p.hash[name]
	if v == "" {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339Nano, v)
	if err != nil {
		p.fault(name, "an RFC 3339 time")
		return time.Time{}
	}
	return t.UTC()
}

func (p *fieldParser) bool(name string) bool {
	switch p.hash[name] {
	case "true":
		return true
	case "false", "":
		return false
	}
	p.fault(name, "true or false")
	return false
}

func (p *fieldParser) count(name string, limit int64) int64 {
	v := p.hash[name]
	if v == "" {
		return 0
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < 0 || n > limit {
		p.fault(name, "a whole number")
		return 0
	}
	return n
}

func (p *fieldParser) seconds(name string) time.Duration {
	v := p.hash[name]
	if v == "" {
		return 0
	}
	s, err := strconv.ParseFloat(v, 64)
	// Written so that NaN fails too.
	if err != nil || !(s >= 0 && s <= 1e9) {
		p.fault(name, "a number of seconds")
		return 0
	}
	return time.Duration(math.Round(s*1000)) * time.Millisecond
}

func (p *fieldParser) list(name string) []string {
	v := p.hash[name]
	if v == "" {
		return nil
	}
	var ids []string
	if err := json.Unmarshal([]byte(v), &ids); err != nil {
		p.fault(name, "a JSON list of strings")
		return nil
	}
	return ids
}

func formatTime(t time.Time, layout string) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(layout)
}

func formatSeconds(d time.Duration) string {
	return strconv.FormatFloat(max(d, 0).Seconds(), 'f', 3, 64)
}
