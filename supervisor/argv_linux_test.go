package supervisor

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Python looks for its library beside the name that it was called by: a bare name would be looked up on the child's
// PATH, which may lead to another Python.
func TestProgramIsCalledByItsFullPath(t *testing.T) {
	// python3 itself may be a script that looks for the real one on the PATH.
	out, err := exec.Command("python3", "-c", "import sys; print(sys.executable)").Output()
	if err != nil {
		t.Fatalf("find the real python3: %v", err)
	}
	python := filepath.Join(filepath.Dir(strings.TrimSpace(string(out))), "python3")
	t.Setenv("PATH", filepath.Dir(python))
	o := testOptions("echo_v2.py")
	o.Env = []string{"PATH=/nowhere"}
	pid := startReady(t, o).Snapshot().PID
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		t.Fatalf("read the command line of the process: %v", err)
	}
	if name, _, _ := strings.Cut(string(line), "\x00"); name != python {
		t.Errorf("the program was called %q, want %q", name, python)
	}
}
