package heartbeat

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// processProof reads what proves a process; it answers zero values when this
// /proc shows another PID namespace than the one the process lives in, since
// pids looked up there would name strangers.
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
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return "", "", 0
	}
	_, start, err = parseStat(stat)
	if err != nil {
		return "", "", 0
	}
	return strings.TrimSpace(string(boot)), ns, start
}

// processLiveness looks for the process with that pid and start time.
func processLiveness(pid int, start uint64) liveness {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		// /proc may hide the processes of other users (hidepid), so a missing
		// entry alone proves nothing: the kernel is asked directly.
		if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			return livenessGone
		}
		return livenessUnknown
	}
	state, gotStart, err := parseStat(stat)
	switch {
	case err != nil:
		return livenessUnknown
	case gotStart != start: // the pid has been given to another process
		return livenessGone
	case state == 'Z' || state == 'X': // a corpse that waits to be reaped
		return livenessGone
	}
	return livenessAlive
}

// parseStat reads the state (field 3) and the start time in clock ticks since
// boot (field 22) out of the content of /proc/<pid>/stat. Field 2 is the
// command in parentheses and may itself hold spaces and parentheses, so fields
// are counted from the last one that closes.
func parseStat(stat []byte) (state byte, start uint64, err error) {
	end := bytes.LastIndexByte(stat, ')')
	if end < 0 {
		return 0, 0, errors.New("parse process stat: no command field")
	}
	fields := bytes.Fields(stat[end+1:])
	const startField = 22 - 3 // counted from field 3
	if len(fields) <= startField || len(fields[0]) != 1 {
		return 0, 0, errors.New("parse process stat: too few fields")
	}
	start, err = strconv.ParseUint(string(fields[startField]), 10, 64)
	if err != nil {
		return 0, 0, fmt.Errorf("parse process stat: start time: %w", err)
	}
	return fields[0][0], start, nil
}
