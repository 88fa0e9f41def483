package supervisor

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/procfs"
)

// processStat returns what /proc/<pid>/stat tells; the zero value when the process is gone.
func processStat(pid int) procfs.ProcStat {
	p, err := procfs.NewProc(pid)
	if err != nil {
		return procfs.ProcStat{}
	}
	s, err := p.Stat()
	if err != nil {
		return procfs.ProcStat{}
	}
	return s
}

func alive(pid int) bool {
	state := processStat(pid).State
	return state != "" && state != "Z" && state != "X"
}

func kill(t *testing.T, pid int, sig syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, sig); err != nil {
		t.Fatalf("send %v to %d: %v", sig, pid, err)
	}
}

func grandchildren(t *testing.T, r *harness, id, kind string) []int {
	t.Helper()
	q := task(id, 1)
	q.Type = kind
	got := r.do(q)
	var pids []int
	if err := json.Unmarshal(got.Result, &pids); err != nil || got.err != nil || len(pids) != 4 {
		t.Fatalf("grandchildren: %+v, %v", got, err)
	}
	return pids
}

func TestNoOrphansAfterStop(t *testing.T) {
	t.Parallel()
	r := startReady(t, testOptions("spawns_grandchildren.py"))
	pids := append(grandchildren(t, r, "t", "stay"), r.Snapshot().PID)
	if err := r.Stop(context.Background()); err != nil {
		t.Fatalf("Stop: %v", err)
	}
	for _, pid := range pids {
		if alive(pid) {
			t.Errorf("process %d is alive after Stop", pid)
		}
	}
}

func TestNoOrphansAfterCrash(t *testing.T) {
	t.Parallel()
	r := startReady(t, testOptions("spawns_grandchildren.py"))
	pids := append(grandchildren(t, r, "t", "die"), r.Snapshot().PID)
	r.awaitStatus(StatusDegraded)
	for _, pid := range pids {
		if pid != 0 && alive(pid) {
			t.Errorf("process %d has outlived the crash", pid)
		}
	}
}

// A process that nothing can find holds stdout open: the crash is reported all the same, when the pipes have been read
// for long enough.
func TestEscapeeHoldsStdout(t *testing.T) {
	t.Parallel()
	r := startReady(t, testOptions("escapes.py"))
	var crash *CrashError
	if got := r.do(task("t", 1)); !errors.As(got.err, &crash) || crash.Cause != CauseExit {
		t.Errorf("Do: %v, want a crash by its exit", got.err)
	}
	var pid int
	if _, err := fmt.Sscan(r.Snapshot().Stderr[0], &pid); err != nil {
		t.Fatalf("no pid on stderr %q: %v", r.Snapshot().Stderr, err)
	}
	if !alive(pid) {
		t.Error("the escapee was found after all: say so in the package comment")
	}
	kill(t, pid, syscall.SIGKILL)
}

// runTestWorker is the worker that is killed: it runs a supervisor, gives it a task, prints the pids and waits for its
// end.
func runTestWorker(args []string) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	o := testOptions(args[0])
	o.Guardian = []string{exe, "guardian"}
	s, err := New(o)
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Run(context.Background()) }()
	for s.Snapshot().Status != StatusRunning {
		select {
		case err := <-ended:
			return err
		case <-time.After(time.Millisecond):
		}
	}
	reply, err := s.Do(context.Background(), Request{TaskID: "t", Type: "stay"})
	if err != nil {
		return err
	}
	var pids []int
	if err := json.Unmarshal(reply.Result, &pids); err != nil {
		return err
	}
	pids = append(pids, s.Snapshot().PID)
	all, err := procfs.AllProcs()
	if err != nil {
		return err
	}
	var guardians []int
	for _, p := range all {
		if processStat(p.PID).PPID == os.Getpid() && p.PID != s.Snapshot().PID {
			guardians = append(guardians, p.PID)
		}
	}
	data, err := json.Marshal(map[string][]int{"tree": pids, "guardian": guardians})
	if err != nil {
		return err
	}
	fmt.Println(string(data))
	if len(args) > 1 { // "stop": end cleanly when asked to
		bufio.NewReader(os.Stdin).ReadString('\n') //nolint:errcheck // any end will do
		if err := s.Stop(context.Background()); err != nil {
			return err
		}
	}
	return <-ended
}

type testWorker struct {
	cmd      *exec.Cmd
	stdin    interface{ Close() error }
	tree     []int
	guardian int
}

func startTestWorker(t *testing.T, args ...string) *testWorker {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatalf("find the test's program: %v", err)
	}
	w := &testWorker{cmd: exec.Command(exe, append([]string{"worker"}, args...)...)}
	w.cmd.Stderr = os.Stderr
	in, err := w.cmd.StdinPipe()
	if err != nil {
		t.Fatalf("make a pipe: %v", err)
	}
	w.stdin = in
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		t.Fatalf("make a pipe: %v", err)
	}
	if err := w.cmd.Start(); err != nil {
		t.Fatalf("start the worker: %v", err)
	}
	t.Cleanup(func() {
		w.cmd.Process.Kill() //nolint:errcheck // it may be gone
		w.cmd.Wait()         //nolint:errcheck // as said
		for _, pid := range append(w.tree, w.guardian) {
			if pid > 0 && alive(pid) {
				syscall.Kill(pid, syscall.SIGKILL) //nolint:errcheck // it may be gone
			}
		}
	})
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		t.Fatalf("the worker printed nothing: %v", err)
	}
	var printed map[string][]int
	if err := json.Unmarshal(line, &printed); err != nil {
		t.Fatalf("the worker printed %q: %v", line, err)
	}
	w.tree = printed["tree"]
	if len(printed["guardian"]) != 1 || len(w.tree) != 5 {
		t.Fatalf("the worker printed %s, want one guardian and a process tree of five", line)
	}
	w.guardian = printed["guardian"][0]
	for _, pid := range append(w.tree, w.guardian) {
		if !alive(pid) {
			t.Fatalf("process %d is not alive", pid)
		}
	}
	return w
}

func (w *testWorker) awaitGone(t *testing.T) time.Duration {
	t.Helper()
	begin := time.Now()
	eventually(t, "all are gone", func() bool {
		for _, pid := range append(w.tree, w.guardian) {
			if alive(pid) {
				return false
			}
		}
		return true
	})
	return time.Since(begin)
}

func TestGuardianKillsTheProcessTreeOfAKilledWorker(t *testing.T) {
	t.Parallel()
	w := startTestWorker(t, "spawns_grandchildren.py")
	// What reaches a terminal's processes must not end the guardian first.
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		kill(t, w.guardian, sig)
	}
	kill(t, w.cmd.Process.Pid, syscall.SIGKILL)
	t.Logf("all gone after %v", w.awaitGone(t))
}

func TestGuardianLeavesWithTheWorker(t *testing.T) {
	t.Parallel()
	w := startTestWorker(t, "spawns_grandchildren.py", "stop")
	w.stdin.Close()
	if err := w.cmd.Wait(); err != nil {
		t.Errorf("the worker: %v", err)
	}
	w.awaitGone(t)
}
