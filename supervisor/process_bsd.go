//go:build unix && !linux

package supervisor

import (
	"os"
	"os/exec"
	"syscall"
)

func childAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func guardianAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

// awaitDeath reaps at once: here nothing can hold the pid.
func awaitDeath(cmd *exec.Cmd) { cmd.Wait() } //nolint:errcheck // the state is in cmd.ProcessState

func reap(*exec.Cmd) {}

func widen(*os.File) {}

func unread(*os.File) int64 { return 0 }
