//go:build unix

package proc

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// death is what the system tells of a process that has died.
type death struct {
	status syscall.WaitStatus
	known  bool
}

// exit says how the process ended and whether SIGKILL ended it.
func (d death) exit() (e Exit, sigkill bool) {
	switch {
	case !d.known:
		return Exit{Cause: Exited, Text: "its exit status is unknown"}, false
	case !d.status.Signaled():
		return Exit{Cause: Exited, Text: fmt.Sprintf("exit status %d", d.status.ExitStatus())}, false
	}
	sig := d.status.Signal()
	text := "killed by " + unix.SignalName(sig)
	if sig != unix.SIGKILL { // whose text is "killed"
		text += fmt.Sprintf(" (%v)", sig)
	}
	if d.status.CoreDump() {
		text += ", core dumped"
	}
	return Exit{Cause: Signaled, Text: text}, sig == syscall.SIGKILL
}
