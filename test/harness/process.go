package harness

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Kill sends a signal to a process, which must be there.
func Kill(t *testing.T, pid int, s syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, s); err != nil {
		t.Fatalf("kill %v %d: %v", s, pid, err)
	}
}

// KillAndAwaitDeath kills a process with SIGKILL, which must be there, and returns when no thread of it runs any more: on a
// busy machine one that waits for a processor may still end the system call that it is in. It may stay a zombie.
func KillAndAwaitDeath(t *testing.T, pid int) {
	t.Helper()
	Kill(t, pid, syscall.SIGKILL)
	Eventually(t, fmt.Sprintf("process %d is dead", pid), func() error {
		states, err := threadStates(pid)
		if left := strings.Trim(states, "ZX"); err == nil && left != "" {
			return fmt.Errorf("threads in state %q", left)
		}
		return err
	})
}

// KillWorkers kills workers with SIGKILL, all of them before it waits for the ends of their processes, and returns when
// it began.
func KillWorkers(t *testing.T, workers ...*Worker) time.Time {
	t.Helper()
	at := time.Now()
	for _, w := range workers {
		Kill(t, w.PID(), syscall.SIGKILL)
	}
	for _, w := range workers {
		w.WaitExit()
	}
	return at
}

// SignalTree sends a signal to a worker and to everything that it has started.
func SignalTree(t *testing.T, w *Worker, s syscall.Signal) {
	t.Helper()
	for _, pid := range ProcessTree(t, w.PID()) {
		Kill(t, pid, s)
	}
}

// ProcessTree returns a process and all its descendants.
func ProcessTree(t *testing.T, pid int) []int {
	t.Helper()
	tree := []int{pid}
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatalf("list the children of process %d: %v", pid, err)
	}
	for _, path := range tasks {
		text, _ := os.ReadFile(path) // a thread may have ended
		for _, child := range strings.Fields(string(text)) {
			n, err := strconv.Atoi(child)
			if err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			tree = append(tree, ProcessTree(t, n)...)
		}
	}
	return tree
}
