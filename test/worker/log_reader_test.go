package worker

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/runqy/runqy-worker/internal/redistest"
	"github.com/runqy/runqy-worker/test/harness"
)

// fullPipe returns a pipe that takes nothing more until somebody reads.
func fullPipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatalf("make a pipe: %v", err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	raw, err := w.SyscallConn()
	if err != nil {
		t.Fatalf("reach the pipe's descriptor: %v", err)
	}
	block := append(bytes.Repeat([]byte{'-'}, 1023), '\n')
	err = raw.Write(func(fd uintptr) (done bool) {
		for {
			if _, err := syscall.Write(int(fd), block); err != nil {
				return true
			}
		}
	})
	if err != nil {
		t.Fatalf("fill the pipe: %v", err)
	}
	return r, w
}

// writes is a program with a handler that writes n lines to standard error.
const writes = `
import sys, time
from runqy import run, task

@task("write")
def write(n):
    for i in range(n):
        print("line", i, "x" * 1000, file=sys.stderr)
    return n

@task("sleep")
def sleep(seconds):
    time.sleep(seconds)

if __name__ == "__main__":
    run()
`

// startUnread runs a worker whose standard output and standard error nobody reads, and returns where they could be read.
func startUnread(t *testing.T) (*harness.Queue, *harness.Worker, *os.File) {
	t.Helper()
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	program := filepath.Join(t.TempDir(), "main.py")
	harness.WriteFile(t, program, writes)
	w := harness.NewWorker(t, server.URL, harness.Settings{
		"worker.shutdown_timeout": "5s", "python.stop_timeout": "5s", "python.command": []string{"python3", program},
	})
	var r *os.File
	r, w.Output = fullPipe(t)
	w.Start("run", "-c", w.Config)
	return q, w, r
}

// addressOf is the address of a worker that cannot log it.
func addressOf(t *testing.T, q *harness.Queue, w *harness.Worker) string {
	t.Helper()
	q.AwaitHeartbeat(w.ID, "status=running", "healthy=true")
	return q.Heartbeat(w.ID)["address"]
}

// Whoever reads the log has stopped: the worker starts, works, tells the truth and ends as if it were read.
func TestNobodyReadsTheLog(t *testing.T) {
	t.Parallel()
	q, w, _ := startUnread(t)
	pid := q.PythonPID(w.ID)
	address := addressOf(t, q, w)
	if got := q.Result(q.Enqueue("write", 3)); got != "3" {
		t.Errorf("result %s, want 3", got)
	}

	began := time.Now()
	harness.Kill(t, pid, syscall.SIGKILL)
	for path, want := range map[string]int{"/health": 503, "/readyz": 503, "/livez": 200} {
		harness.Eventually(t, fmt.Sprintf("%s answers %d", path, want), func() error {
			if code, body := harness.Get(t, "http://"+address+path); code != want {
				return harness.NotYet(w, "it answers %d %s", code, body)
			}
			return nil
		})
	}
	q.AwaitHeartbeat(w.ID, "status=degraded", "healthy=false")
	harness.Eventually(t, "the metric is red", func() error {
		if v, ok := harness.Samples(t, address)["runqy_worker_healthy"]; !ok || v != 0 {
			return harness.NotYet(w, "it is %v", v)
		}
		return nil
	})
	if out := w.Command("healthcheck"); out.Code != 1 {
		t.Errorf("healthcheck ends with %d, want 1: %+v", out.Code, out)
	}
	t.Logf("red everywhere after %v", time.Since(began))

	if out := w.Command("restart", w.ID); out.Code != 0 {
		t.Errorf("the restart failed: %+v", out)
	}
	task := q.Enqueue("sleep", 600)
	q.AwaitHeartbeat(w.ID, "active_task="+task)
	began = time.Now()
	w.Stop()
	t.Logf("ended after %v", time.Since(began))
	checkGivenBack(t, q, task, 25)
}

// A process that writes while nobody reads the log is not held up. What could not be kept is counted, and the log says so
// where it is missing.
func TestLostLogLinesAreCounted(t *testing.T) {
	t.Parallel()
	q, w, r := startUnread(t)
	address := addressOf(t, q, w)
	if got := q.Result(q.Enqueue("write", 10_000)); got != "10000" {
		t.Errorf("result %s, want 10000", got)
	}
	var dropped float64
	harness.Eventually(t, "lines are counted as dropped", func() error {
		was := dropped
		if dropped = harness.Samples(t, address)["runqy_log_lines_dropped_total"]; dropped < 5000 || dropped != was {
			return harness.NotYet(w, "%v are, a moment ago %v", dropped, was)
		}
		return nil
	})

	var read harness.LogBuffer
	var reading sync.WaitGroup
	t.Cleanup(reading.Wait) // the pipe is closed then
	reading.Go(func() { _, _ = io.Copy(&read, r) })
	harness.Eventually(t, "the log says how many lines are missing", func() error {
		line := read.Find("log lines dropped")
		if line == nil || line["lines"] != dropped {
			return harness.NotYet(w, "it says %v, want lines=%v", line, dropped)
		}
		return nil
	})
	w.Stop()
	if line := read.Find("worker drained"); line == nil {
		t.Error("the end is not in the log")
	}
	w.Output.Close()
}

// Whoever reads the log is gone: a worker does not die of that.
func TestTheReaderOfTheLogIsGone(t *testing.T) {
	t.Parallel()
	q, w, r := startUnread(t)
	address := addressOf(t, q, w)
	w.Output.Close()
	r.Close()
	if got := q.Result(q.Enqueue("write", 10)); got != "10" {
		t.Errorf("result %s, want 10", got)
	}
	harness.Eventually(t, "lines are counted as dropped", func() error {
		if n := harness.Samples(t, address)["runqy_log_lines_dropped_total"]; n == 0 {
			return errors.New("none is")
		}
		return nil
	})
	w.Stop()
}
