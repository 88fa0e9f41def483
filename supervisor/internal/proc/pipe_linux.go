package proc

import (
	"os"

	"golang.org/x/sys/unix"
)

// pipeSize lets large payloads pass with fewer switches between the processes.
const pipeSize = 1 << 20

// widen enlarges a pipe; where the system refuses, the usual size does.
func widen(f *os.File) {
	control(f, func(fd int) {
		unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, pipeSize) //nolint:errcheck // as said
	})
}

// unread is how many bytes in the pipe nobody has read.
func unread(f *os.File) (n int64) {
	control(f, func(fd int) {
		if v, err := unix.IoctlGetInt(fd, unix.TIOCINQ); err == nil {
			n = int64(v)
		}
	})
	return n
}

func control(f *os.File, do func(fd int)) {
	if raw, err := f.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) { do(int(fd)) }) //nolint:errcheck // a closed file is left alone
	}
}
