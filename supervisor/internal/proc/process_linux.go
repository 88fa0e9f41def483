package proc

import (
	"errors"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

func processAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// guardianAttr puts the guardian into a session of its own, out of reach of the terminal's and the worker's group.
func guardianAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

// awaitDeath returns when the process is dead but leaves it a zombie, so that its pid and group id are not given to
// another process before reap.
func awaitDeath(cmd *exec.Cmd) {
	for {
		err := unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

func reap(cmd *exec.Cmd) { cmd.Wait() } //nolint:errcheck // the state is in cmd.ProcessState
