//go:build unix

package proc

import "syscall"

const (
	killSignal = syscall.SIGKILL
	termSignal = syscall.SIGTERM
)

// signalGroup signals the process group; that an empty one cannot be signalled is no error.
func signalGroup(pgid int, sig syscall.Signal) {
	if pgid > 1 {
		syscall.Kill(-pgid, sig) //nolint:errcheck // as said
	}
}
