package proc

import (
	"errors"
	"os/exec"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

func processAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// guardianAttr puts the guardian into a session of its own, out of reach of the terminal's and the worker's group.
func guardianAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

// childInfo overlays unix.Siginfo, siginfo_t of sigaction(2), for the field of a child that unix.Siginfo hides.
type childInfo struct {
	_      [3]int32 // si_signo, si_errno, si_code
	fields struct { // begin where a pointer may
		_      [0]uintptr
		_      [2]int32 // si_pid, si_uid
		status int32    // the exit status, or the signal
	}
}

// What si_code says: the values of CLD_… in <bits/siginfo-consts.h>.
const (
	childExited = 1
	childDumped = 3
)

// awaitDeath returns when the process is dead but leaves it a zombie, so that its pid and group id are not given to
// another process before reap.
func awaitDeath(cmd *exec.Cmd) death {
	var info unix.Siginfo
	for {
		err := unix.Waitid(unix.P_PID, cmd.Process.Pid, &info, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return deathOf(&info, err)
		}
	}
}

// deathOf translates what waitid tells into the status that wait would tell.
func deathOf(info *unix.Siginfo, err error) death {
	status := syscall.WaitStatus((*childInfo)(unsafe.Pointer(info)).fields.status)
	switch info.Code {
	case childExited:
		status <<= 8
	case childDumped:
		status |= 0x80
	}
	return death{status, err == nil}
}

func reap(cmd *exec.Cmd) { cmd.Wait() } //nolint:errcheck // the state is in cmd.ProcessState
