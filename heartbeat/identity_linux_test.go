package heartbeat

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// The name of a program may look like the fields that follow it in /proc/<pid>/stat.
func TestProcessStatOfAnyName(t *testing.T) {
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatalf("find sleep: %v", err)
	}
	started, err := processStat(os.Getpid())
	if err != nil {
		t.Fatalf("read the stat of this process: %v", err)
	}
	for _, name := range []string{"sleep", "a b", "evil) Z 1 2", ":-)", ")"} {
		link := filepath.Join(t.TempDir(), name)
		if err := os.Symlink(sleep, link); err != nil {
			t.Fatalf("link sleep: %v", err)
		}
		cmd := exec.Command(link, "600")
		if err := cmd.Start(); err != nil {
			t.Fatalf("start %q: %v", name, err)
		}
		stat, err := processStat(cmd.Process.Pid)
		if err != nil || stat.Comm != name || stat.PPID != os.Getpid() || stat.Starttime < started.Starttime || processLiveness(stat.PID, stat.Starttime) != livenessAlive {
			t.Errorf("%q: %+v, %v; want a living child of this process", name, stat, err)
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Errorf("kill %q: %v", name, err)
		}
		_ = cmd.Wait()
	}
	if _, err := processStat(1 << 30); err == nil {
		t.Error("the stat of a pid that no system has was read, want an error")
	}
}

func TestIdentityIsComplete(t *testing.T) {
	a, b := mustIdentity(t), mustIdentity(t)
	if a.BootID == "" || a.PIDNamespace == "" || a.PIDStart == 0 || a.PID != os.Getpid() || a.Host == "" {
		t.Errorf("incomplete: %+v", a)
	}
	if len(a.Nonce) != 16 || a.Nonce == b.Nonce {
		t.Errorf("nonces %q and %q", a.Nonce, b.Nonce)
	}
}

func TestLivenessOf(t *testing.T) {
	self := mustIdentity(t)
	cmd := exec.Command("sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	other := self
	other.PID = cmd.Process.Pid
	stat, err := processStat(other.PID)
	if err != nil {
		t.Fatalf("read the stat of sleep: %v", err)
	}
	other.PIDStart = stat.Starttime
	if got := livenessOf(self, other); got != livenessAlive {
		t.Errorf("running process: %v", got)
	}
	recycled := other
	recycled.PIDStart--
	if got := livenessOf(self, recycled); got != livenessGone {
		t.Errorf("another process under that pid: %v", got)
	}
	elsewhere := other
	elsewhere.PIDNamespace = "pid:[1]"
	if got := livenessOf(self, elsewhere); got != livenessUnknown {
		t.Errorf("another PID namespace: %v", got)
	}
	elsewhere = other
	elsewhere.BootID = "other"
	if got := livenessOf(self, elsewhere); got != livenessUnknown {
		t.Errorf("another host: %v", got)
	}
	if got := livenessOf(self, Identity{}); got != livenessUnknown {
		t.Errorf("no identity at all: %v", got)
	}
	if got := livenessOf(Identity{}, Identity{PID: 1, PIDStart: 1}); got != livenessUnknown {
		t.Errorf("two systems without /proc: %v", got)
	}

	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	// Not reaped yet, it becomes a zombie: as dead as it gets.
	for deadline := time.Now().Add(10 * time.Second); livenessOf(self, other) != livenessGone; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a zombie still counts as alive")
		}
	}
	_ = cmd.Wait()
	if got := livenessOf(self, other); got != livenessGone {
		t.Errorf("reaped process: %v", got)
	}
}
