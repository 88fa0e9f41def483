package proc

import (
	"bytes"
	"os"
	"path"
	"strconv"
	"strings"
)

// oomCounter is the file in which the kernel counts the OOM kills of the worker's memory cgroup, which the process
// shares; empty: none readable.
type oomCounter string

func findOOMCounter() oomCounter {
	membership, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return ""
	}
	for _, file := range oomFiles(string(membership)) {
		if _, ok := oomCounter(file).read(); ok {
			return oomCounter(file)
		}
	}
	return ""
}

// oomFiles lists where the counter may be, the likeliest first, for cgroup v2 and v1, with and without a cgroup
// namespace.
func oomFiles(membership string) []string {
	var files []string
	for line := range strings.Lines(membership) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		switch {
		case parts[1] == "memory":
			files = append(files, path.Join("/sys/fs/cgroup/memory", parts[2], "memory.oom_control"),
				"/sys/fs/cgroup/memory/memory.oom_control")
		case parts[0] == "0":
			files = append(files, path.Join("/sys/fs/cgroup", parts[2], "memory.events"),
				"/sys/fs/cgroup/memory.events")
		}
	}
	return files
}

func (c oomCounter) read() (uint64, bool) {
	if c == "" {
		return 0, false
	}
	data, err := os.ReadFile(string(c))
	if err != nil {
		return 0, false
	}
	return parseOOMKills(data)
}

func parseOOMKills(data []byte) (uint64, bool) {
	for line := range bytes.Lines(data) {
		if f := bytes.Fields(line); len(f) == 2 && string(f[0]) == "oom_kill" {
			n, err := strconv.ParseUint(string(f[1]), 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}
