//go:build unix

package proc

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// exitOf says how a process ended and whether SIGKILL ended it.
func exitOf(state *os.ProcessState) (e Exit, sigkill bool) {
	if state == nil {
		return Exit{Cause: Exited, Text: "its exit status is unknown"}, false
	}
	ws, ok := state.Sys().(syscall.WaitStatus)
	if !ok || !ws.Signaled() {
		return Exit{Cause: Exited, Text: fmt.Sprintf("exit status %d", state.ExitCode())}, false
	}
	sig := ws.Signal()
	text := "killed by " + unix.SignalName(sig)
	if sig != unix.SIGKILL { // whose text is "killed"
		text += fmt.Sprintf(" (%v)", sig)
	}
	if ws.CoreDump() {
		text += ", core dumped"
	}
	return Exit{Cause: Signaled, Text: text}, sig == syscall.SIGKILL
}
