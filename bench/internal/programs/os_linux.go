package programs

import (
	"syscall"
	"time"
)

// DieWithParent lets no process outlive a bench that was killed.
func DieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

// sleepExactly is time.Sleep to a tenth of a millisecond, where Go's timers wait for whole milliseconds. It blocks a thread.
func sleepExactly(d time.Duration) {
	if d > 0 {
		t := syscall.NsecToTimespec(int64(d))
		_ = syscall.Nanosleep(&t, nil)
	}
}
