package worker

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/runqy/runqy-worker/internal/redistest"
	"github.com/runqy/runqy-worker/test/harness"
)

// An idle worker with its views on, everything included, sends Redis at most 8 commands a second over 6 connections.
func TestIdleCost(t *testing.T) {
	t.Parallel()
	const window = 10 * time.Second
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	w := harness.StartWorker(t, server.URL, harness.Settings{ // the defaults, which the harness makes faster
		"heartbeat.interval": "5s", "heartbeat.ttl": "15s",
	})
	q.PythonPID(w.ID)
	q.Result(q.Enqueue("echo", 1))
	q.AwaitEmpty()
	q.AwaitHeartbeat(w.ID, "processed=1", "active_task=")
	time.Sleep(2 * time.Second) // for what a task leaves to be done
	connections := q.RedisFigures().Connections
	sent := monitored(t, server.Addr, window)
	total := 0
	for _, n := range sent {
		total += n
	}
	rate := float64(total) / window.Seconds()
	t.Logf("%.1f commands a second over %d connections: %v", rate, connections, sent)
	if total == 0 || rate > 8 {
		t.Errorf("an idle worker sends %.1f commands a second, want 8 at most", rate)
	}
	if connections > 6 {
		t.Errorf("an idle worker has %d connections, want 6 at most", connections)
	}
	w.Stop()
}

// monitored counts the commands that MONITOR shows, without those inside scripts: what has been sent. INFO cannot tell
// them apart.
func monitored(t *testing.T, addr string, window time.Duration) map[string]int {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatalf("connect for MONITOR: %v", err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := fmt.Fprint(conn, "MONITOR\r\n"); err != nil {
		t.Fatalf("send MONITOR: %v", err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(window)); err != nil {
		t.Fatalf("limit MONITOR: %v", err)
	}
	sent := make(map[string]int)
	for lines := bufio.NewReader(conn); ; {
		line, err := lines.ReadString('\n')
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return sent
		}
		if err != nil {
			t.Fatalf("read MONITOR: %v", err)
		}
		client, command, ok := strings.Cut(line, "] ")
		if name, _, _ := strings.Cut(command, " "); ok && !strings.HasSuffix(client, " lua") {
			sent[name]++
		}
	}
}

// What one task costs that does nothing, when many stand in the queue, or in each of many: counts, which depend little on
// the machine.
func TestCostOfATask(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		queues                                          int
		scripts, reads, commands, switches, allocations float64 // at most
	}{
		{queues: 1, scripts: 0.1, reads: 0.1, commands: 10, switches: 1, allocations: 60},
		{queues: 20, scripts: 0.2, reads: 0.5, commands: 10, switches: 1, allocations: 60},
	} {
		t.Run(fmt.Sprintf("queues=%d", c.queues), func(t *testing.T) {
			t.Parallel()
			cost, tasks := drainQueues(t, c.queues)
			for _, figure := range []struct {
				name       string
				total, bar float64
			}{
				{"scripts", cost.scripts, c.scripts},
				{"socket reads of Redis", cost.reads, c.reads},
				{"Redis commands", cost.commands, c.commands},
				{"voluntary switches", cost.switches, c.switches},
				{"allocations", cost.allocations, c.allocations},
			} {
				each := figure.total / float64(tasks)
				text := fmt.Sprintf("%.3f %s for a task, at most %v", each, figure.name, figure.bar)
				if each > figure.bar {
					t.Error(text)
				} else {
					t.Log(text)
				}
			}
		})
	}
}

// drainCost is what a worker and its Redis have done while the worker emptied its queues.
type drainCost struct{ scripts, reads, commands, switches, allocations float64 }

// drainQueues has a worker do tasks that stand in so many queues, and says what that took.
func drainQueues(t *testing.T, queues int) (cost drainCost, tasks int) {
	t.Helper()
	tasks = 10_000
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	var names []string
	for n := range queues {
		names = append(names, fmt.Sprint("queue-", n))
	}
	w := harness.NewWorker(t, server.URL, harness.Settings{
		"worker.concurrency": 100, "heartbeat.interval": "5s", "heartbeat.ttl": "15s", "worker.queues": names,
	})
	w.Binary = harness.ProgramWithoutRace(t)
	file := filepath.Join(t.TempDir(), "tasks.ndjson")
	harness.WriteFile(t, file, strings.Repeat(`{"payload":{"n":1}}`+"\n", tasks/queues))
	for _, name := range names {
		if out := w.Command("enqueue", name, "echo", "--from-file", file); out.Code != 0 {
			t.Fatalf("enqueue --from-file: %+v, want exit code 0", out)
		}
		// The start is not part of it: a paused queue hands out nothing.
		if err := q.Inspector.PauseQueue(name); err != nil {
			t.Fatalf("pause the queue: %v", err)
		}
	}
	w.Start("run", "-c", w.Config)
	q.PythonPID(w.ID)
	mallocs := func() float64 { return harness.Samples(t, w.Addr())["go_memstats_mallocs_total"] }
	mallocsBefore, redisBefore, switchesBefore := mallocs(), q.RedisFigures(), harness.VoluntarySwitches(t, w.PID())
	began := time.Now()
	keys := make([]string, len(names))
	for i, name := range names {
		if err := q.Inspector.UnpauseQueue(name); err != nil {
			t.Fatalf("unpause the queue: %v", err)
		}
		keys[i] = "asynq:{" + name + "}:processed"
	}
	looks := float64(len(names))
	harness.EventuallyWithin(t, 3*harness.Timeout, "the tasks are done", func() error {
		looks++
		done := 0
		for _, n := range q.Redis.MGet(t.Context(), keys...).Val() {
			text, _ := n.(string)
			count, _ := strconv.Atoi(text)
			done += count
		}
		if done < tasks {
			return harness.NotYet(w, "%d of %d are", done, tasks)
		}
		return nil
	})
	took := time.Since(began)
	redis, switches := q.RedisFigures(), harness.VoluntarySwitches(t, w.PID())-switchesBefore
	t.Logf("%d tasks took %v", tasks, took.Round(time.Millisecond))
	scripts := []string{"evalsha", "eval", "fcall"}
	cost = drainCost{
		scripts: float64(redis.Sum(scripts...) - redisBefore.Sum(scripts...)),
		reads:   float64(redis.Reads-redisBefore.Reads) - looks, commands: float64(redis.Commands-redisBefore.Commands) - looks,
		switches: float64(switches), allocations: mallocs() - mallocsBefore,
	}
	w.Stop()
	return cost, tasks
}
