package heartbeat

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/prometheus/procfs"
)

// processProof reads what proves a process; it answers zero values when this /proc shows another PID namespace than the
// one the process lives in, since pids looked up there would name strangers.
func processProof(pid int) (bootID, pidNamespace string, start uint64) {
	if self, err := os.Readlink("/proc/self"); err != nil || self != strconv.Itoa(pid) {
		return "", "", 0
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", "", 0
	}
	ns, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return "", "", 0
	}
	stat, err := processStat(pid)
	if err != nil {
		return "", "", 0
	}
	return strings.TrimSpace(string(boot)), ns, stat.Starttime
}

// processLiveness looks for the process with that pid and start time.
func processLiveness(pid int, start uint64) liveness {
	stat, err := processStat(pid)
	if err != nil {
		// /proc may hide the processes of other users (hidepid), so a missing entry alone proves nothing: the kernel is
		// asked directly.
		if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			return livenessGone
		}
		return livenessUnknown
	}
	switch {
	case stat.Starttime != start: // the pid has been given to another process
		return livenessGone
	case stat.State == "Z" || stat.State == "X": // a zombie: it has ended, and its parent has not been told yet
		return livenessGone
	}
	return livenessAlive
}

// processStat reads /proc/<pid>/stat.
func processStat(pid int) (procfs.ProcStat, error) {
	p, err := procfs.NewProc(pid)
	if err != nil {
		return procfs.ProcStat{}, err
	}
	return p.Stat()
}
