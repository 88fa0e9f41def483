//go:build !linux

package harness

import "syscall"

// DieWithParent does nothing where there is no signal for a parent's death.
func DieWithParent() *syscall.SysProcAttr { return nil }

// Alive reports whether there is a process with that id.
func Alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

// threadStates knows nothing of threads here.
func threadStates(int) (string, error) { return "", nil }
