package supervisor

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

func alive(pid int) bool { return lookup(pid).alive() }

func kill(t *testing.T, pid int, sig syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, sig); err != nil {
		t.Fatalf("send %v to %d: %v", sig, pid, err)
	}
}

func grandchildren(t *testing.T, r *rig, id, kind string) []int {
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
		t.Fatal(err)
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

// A process that nothing can find holds stdout open: the crash is reported all
// the same, when the pipes have been read for long enough.
func TestEscapeeHoldsStdout(t *testing.T) {
	t.Parallel()
	r := startReady(t, testOptions("escapes.py"))
	var crash *CrashError
	if got := r.do(task("t", 1)); !errors.As(got.err, &crash) || crash.Cause != CauseExit {
		t.Errorf("Do: %v", got.err)
	}
	var pid int
	if _, err := fmt.Sscan(r.Snapshot().Stderr[0], &pid); err != nil {
		t.Fatal(err)
	}
	if !alive(pid) {
		t.Error("the escapee was found after all: say so in the package comment")
	}
	kill(t, pid, syscall.SIGKILL)
}

// runTestWorker is the worker that is killed: it runs a supervisor, gives it
// a task, prints the pids and waits for its end.
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
	guardians := func() (found []int) {
		for _, p := range processes() {
			if p.parent == os.Getpid() && p.pid != s.Snapshot().PID {
				found = append(found, p.pid)
			}
		}
		return found
	}
	data, err := json.Marshal(map[string][]int{"family": pids, "guardian": guardians()})
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

func processes() []procInfo {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var all []procInfo
	for _, e := range entries {
		var pid int
		if _, err := fmt.Sscan(e.Name(), &pid); err == nil {
			all = append(all, lookup(pid))
		}
	}
	return all
}

type testWorker struct {
	cmd      *exec.Cmd
	stdin    interface{ Close() error }
	family   []int
	guardian int
}

func startTestWorker(t *testing.T, args ...string) *testWorker {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	w := &testWorker{cmd: exec.Command(exe, append([]string{"worker"}, args...)...)}
	w.cmd.Stderr = os.Stderr
	in, err := w.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	w.stdin = in
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.cmd.Process.Kill() //nolint:errcheck // it may be gone
		w.cmd.Wait()         //nolint:errcheck // as said
		for _, pid := range append(w.family, w.guardian) {
			if pid > 0 && alive(pid) {
				syscall.Kill(pid, syscall.SIGKILL) //nolint:errcheck // it may be gone
			}
		}
	})
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		t.Fatalf("the worker said nothing: %v", err)
	}
	var said map[string][]int
	if err := json.Unmarshal(line, &said); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	w.family = said["family"]
	if len(said["guardian"]) != 1 || len(w.family) != 5 {
		t.Fatalf("one guardian and a family of five expected: %s", line)
	}
	w.guardian = said["guardian"][0]
	for _, pid := range append(w.family, w.guardian) {
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
		for _, pid := range append(w.family, w.guardian) {
			if alive(pid) {
				return false
			}
		}
		return true
	})
	return time.Since(begin)
}

func TestGuardianKillsTheFamilyOfAKilledWorker(t *testing.T) {
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

func TestGuardianIsReplaced(t *testing.T) {
	t.Parallel()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	g := newGuardian([]string{exe, "guardian"}, testOptionsLogger())
	now := time.Now()
	g.ensure(now)
	first := g.proc.cmd.Process.Pid
	sleeper := exec.Command("sleep", "3600")
	sleeper.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	sleeper.Env = []string{nonceVar + "=test-of-the-guardian"}
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	defer sleeper.Process.Kill() //nolint:errcheck // it may be gone
	g.watch(lookup(sleeper.Process.Pid), "test-of-the-guardian")
	kill(t, first, syscall.SIGKILL)
	<-g.proc.gone
	g.ensure(now.Add(time.Second)) // too early
	if g.proc != nil {
		t.Error("a guardian was started at once")
	}
	g.ensure(now.Add(guardianPause))
	if g.proc == nil || g.proc.cmd.Process.Pid == first {
		t.Fatal("no new guardian")
	}
	gone := g.proc.gone
	g.proc.pipe.Close() // as the worker's death would
	<-gone
	err = sleeper.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || !strings.Contains(err.Error(), "killed") {
		t.Errorf("the successor did not know the process: %v", err)
	}
}

func TestGuardianRefusesToRunByHand(t *testing.T) {
	t.Parallel()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(exe, "guardian").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "do not run it by hand") {
		t.Errorf("%v: %s", err, out)
	}
}

func TestCarries(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("sleep", "3600")
	cmd.Env = []string{"X" + nonceVar + "=abc", nonceVar + "=abcd", "Y=" + nonceVar + "=abc"}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()         //nolint:errcheck // it was killed
	defer cmd.Process.Kill() //nolint:errcheck // it is alive
	eventually(t, "it has executed sleep", func() bool { return carries(cmd.Process.Pid, []byte(nonceVar+"=abcd")) })
	if carries(cmd.Process.Pid, []byte(nonceVar+"=abc")) {
		t.Error("another variable, or a longer value, was taken for the nonce")
	}
}
