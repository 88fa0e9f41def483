package proc

import (
	"time"

	"github.com/prometheus/procfs"
)

// clockTick is USER_HZ, the unit of times in /proc/<pid>/stat; it is 100 on every architecture that Go supports.
const clockTick = 10 * time.Millisecond

// stat is what /proc/<pid>/stat tells of a process. pid and start together name a process for ever; a pid alone is
// reused.
type stat struct {
	pid, parent, group, session int
	state                       string        // empty: it is gone
	start                       uint64        // clock ticks after boot
	cpu                         time.Duration // user and system time of all threads
	resident                    int64         // bytes
}

// readStat reads a process; one that is gone has only its pid.
func readStat(pid int) stat {
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		return stat{pid: pid}
	}
	p, err := fs.Proc(pid)
	if err != nil {
		return stat{pid: pid}
	}
	return statOf(p)
}

func statOf(p procfs.Proc) stat {
	s, err := p.Stat()
	if err != nil {
		return stat{pid: p.PID}
	}
	return stat{
		pid: p.PID, parent: s.PPID, group: s.PGRP, session: s.Session, state: s.State, start: s.Starttime,
		cpu: time.Duration(s.UTime+s.STime) * clockTick, resident: int64(s.ResidentMemory()),
	}
}

// alive reports whether the process runs: a zombie does not.
func (s stat) alive() bool { return s.state != "" && s.state != "Z" && s.state != "X" }

func inGroup(pid, group int) bool { return readStat(pid).group == group }

// CPUTime is the user and system time that a process has used, of all its threads; false where the system does not
// tell.
func CPUTime(pid int) (time.Duration, bool) {
	s := readStat(pid)
	return s.cpu, s.state != ""
}

// ResidentSize is a process' resident memory in bytes; false where the system does not tell.
func ResidentSize(pid int) (int64, bool) {
	s := readStat(pid)
	return s.resident, s.state != ""
}
