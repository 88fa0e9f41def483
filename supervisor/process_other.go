//go:build !unix

package supervisor

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// Without process groups only the process itself is reached.
const (
	killSignal = syscall.SIGKILL
	termSignal = syscall.SIGTERM
)

func childAttr() *syscall.SysProcAttr { return nil }

func guardianAttr() *syscall.SysProcAttr { return nil }

func awaitDeath(cmd *exec.Cmd) { cmd.Wait() } //nolint:errcheck // the state is in cmd.ProcessState

func reap(*exec.Cmd) {}

func widen(*os.File) {}

func unread(*os.File) int64 { return 0 }

func signalGroup(pid int, _ syscall.Signal) {
	if p, err := os.FindProcess(pid); err == nil {
		p.Kill() //nolint:errcheck // it may be gone
	}
}

func describe(state *os.ProcessState) (cause, how string, sigkill bool) {
	return CauseExit, fmt.Sprintf("exit status %d", state.ExitCode()), false
}
