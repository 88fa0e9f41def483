//go:build !linux

package proc

import "time"

// stat identifies a process. A group or session is not looked up.
type stat struct {
	pid, session int
	start        uint64
}

func readStat(pid int) stat { return stat{pid: pid} }

func inGroup(int, int) bool { return false }

// CPUTime is the user and system time that a process has used, of all its threads; false where the system does not
// tell.
func CPUTime(int) (time.Duration, bool) { return 0, false }

// ResidentSize is a process' resident memory in bytes; false where the system does not tell.
func ResidentSize(int) (int64, bool) { return 0, false }

// killRemaining kills what the group signal reaches; there is no /proc to search.
func killRemaining(leader stat, _ string, _ time.Duration) { signalGroup(leader.pid, killSignal) }

func killTree(leader stat, _ string) { signalGroup(leader.pid, killSignal) }
