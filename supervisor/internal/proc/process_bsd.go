//go:build unix && !linux

package proc

import (
	"os/exec"
	"syscall"
)

func processAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func guardianAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

// awaitDeath reaps at once: here nothing can hold the pid.
func awaitDeath(cmd *exec.Cmd) death {
	cmd.Wait() //nolint:errcheck // the state is in cmd.ProcessState
	status, known := cmd.ProcessState.Sys().(syscall.WaitStatus)
	return death{status, known}
}

func reap(*exec.Cmd) {}
