package heartbeat

import (
	"os"
	"os/exec"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	tail := " 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 8812 20 21"
	for _, command := range []string{"(sleep)", "(a b)", "(evil) Z 1 2)", "()", "(:-))"} {
		state, start, err := parseStat([]byte("123 " + command + " S" + tail + "\n"))
		if err != nil || state != 'S' || start != 8812 {
			t.Errorf("%s: state %c, start %d, %v", command, state, start, err)
		}
	}
	for _, bad := range []string{"", "1 sleep S 1", "1 (sleep) S 1 2 3", "1 (x) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 x 20"} {
		if _, _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("1 (a) b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20"))
	f.Fuzz(func(_ *testing.T, b []byte) { _, _, _ = parseStat(b) })
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
	stat, err := os.ReadFile("/proc/" + itoa(other.PID) + "/stat")
	if err != nil {
		t.Fatal(err)
	}
	if _, other.PIDStart, err = parseStat(stat); err != nil {
		t.Fatal(err)
	}
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
