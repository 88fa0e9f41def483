package harness

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// DieWithParent lets no worker outlive a test binary that was killed.
func DieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

// Alive reports whether a process runs. A zombie does not.
func Alive(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	_, rest, ok := strings.Cut(string(stat), ") ")
	return ok && rest[0] != 'Z' && rest[0] != 'X'
}

// threadStates returns one letter for each thread of a process: T for one that is stopped.
func threadStates(pid int) (string, error) {
	files, err := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/stat")
	if err != nil {
		return "", err
	}
	var states strings.Builder
	for _, path := range files {
		stat, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		if _, rest, ok := strings.Cut(string(stat), ") "); ok {
			states.WriteByte(rest[0])
		}
	}
	return states.String(), nil
}
