//go:build unix

package supervisor

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	killSignal = syscall.SIGKILL
	termSignal = syscall.SIGTERM
)

// signalGroup signals the process group; an empty one is no error to anybody.
func signalGroup(pgid int, sig syscall.Signal) {
	if pgid > 1 {
		syscall.Kill(-pgid, sig) //nolint:errcheck // as said
	}
}

// describe says how a process ended and whether SIGKILL ended it.
func describe(state *os.ProcessState) (cause, how string, sigkill bool) {
	if state == nil {
		return CauseExit, "its exit status is unknown", false
	}
	ws, ok := state.Sys().(syscall.WaitStatus)
	if !ok || !ws.Signaled() {
		return CauseExit, fmt.Sprintf("exit status %d", state.ExitCode()), false
	}
	sig := ws.Signal()
	how = "killed by " + unix.SignalName(sig)
	if sig != unix.SIGKILL { // whose text is "killed"
		how += fmt.Sprintf(" (%v)", sig)
	}
	if ws.CoreDump() {
		how += ", core dumped"
	}
	return CauseSignal, how, sig == syscall.SIGKILL
}
