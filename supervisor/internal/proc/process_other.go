//go:build !unix

package proc

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

func processAttr() *syscall.SysProcAttr { return nil }

func guardianAttr() *syscall.SysProcAttr { return nil }

func awaitDeath(cmd *exec.Cmd) death {
	cmd.Wait() //nolint:errcheck // the state is in cmd.ProcessState
	return death{cmd.ProcessState.ExitCode()}
}

func reap(*exec.Cmd) {}

func signalGroup(pid int, _ syscall.Signal) {
	if p, err := os.FindProcess(pid); err == nil {
		p.Kill() //nolint:errcheck // it may be gone
	}
}

// death is what the system tells of a process that has died.
type death struct{ code int }

// exit says how the process ended and whether SIGKILL ended it.
func (d death) exit() (e Exit, sigkill bool) {
	return Exit{Cause: Exited, Text: fmt.Sprintf("exit status %d", d.code)}, false
}
