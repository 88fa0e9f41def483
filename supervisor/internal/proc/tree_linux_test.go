package proc

import (
	"os/exec"
	"testing"
)

func TestHasVariable(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("sleep", "3600")
	cmd.Env = []string{"X" + markerVar + "=abc", markerVar + "=abcd", "Y=" + markerVar + "=abc"}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start sleep: %v", err)
	}
	defer cmd.Wait()         //nolint:errcheck // it was killed
	defer cmd.Process.Kill() //nolint:errcheck // it is alive
	eventually(t, "sleep has the variable", func() bool { return hasVariable(cmd.Process.Pid, []byte(markerVar+"=abcd")) })
	if hasVariable(cmd.Process.Pid, []byte(markerVar+"=abc")) {
		t.Error("another variable, or a longer value, was taken for the marker")
	}
}
