package proc

import (
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestGuardianIsReplaced(t *testing.T) {
	t.Parallel()
	exe, err := os.Executable()
	if err != nil {
		t.Fatalf("find the test's program: %v", err)
	}
	g := NewGuardian([]string{exe, "guardian"}, slog.New(slog.DiscardHandler))
	now := time.Now()
	g.Ensure(now)
	first := g.process.cmd.Process.Pid
	sleeper := exec.Command("sleep", "3600")
	sleeper.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	sleeper.Env = []string{markerVar + "=test-of-the-guardian"}
	if err := sleeper.Start(); err != nil {
		t.Fatalf("start sleep: %v", err)
	}
	defer sleeper.Process.Kill() //nolint:errcheck // it may be gone
	g.watch(readStat(sleeper.Process.Pid), "test-of-the-guardian")
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatalf("kill the guardian: %v", err)
	}
	<-g.process.gone
	g.Ensure(now.Add(time.Second)) // too early
	if g.process != nil {
		t.Error("a guardian was started a second after the last, want a pause of ten")
	}
	g.Ensure(now.Add(guardianPause))
	if g.process == nil || g.process.cmd.Process.Pid == first {
		t.Fatal("no new guardian was started after the pause")
	}
	gone := g.process.gone
	g.process.pipe.Close() // as the worker's death would
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
		t.Fatalf("find the test's program: %v", err)
	}
	out, err := exec.Command(exe, "guardian").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "do not run it by hand") {
		t.Errorf("the guardian, run by hand: %v, %s; want an error", err, out)
	}
}
