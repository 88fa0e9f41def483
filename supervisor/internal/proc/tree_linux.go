package proc

import (
	"bytes"
	"errors"
	"os"
	"strconv"
	"time"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"

	"github.com/runqy/runqy-worker/internal/backoff"
)

// maxOrphans bounds how many pids of killed descendants are remembered.
const maxOrphans = 10_000

// kill sends SIGKILL to this process, or to none if it is gone.
func (s stat) kill() {
	fd, err := unix.PidfdOpen(s.pid, 0)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) {
		if readStat(s.pid).start == s.start {
			unix.Kill(s.pid, unix.SIGKILL) //nolint:errcheck // it may be gone
		}
		return
	}
	if err != nil {
		return
	}
	defer unix.Close(fd)
	if readStat(s.pid).start == s.start { // now fd cannot mean another one
		unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) //nolint:errcheck // it may be gone
	}
}

// processTree lists the living processes that belong to a leader: itself, the members of its group, those that carry
// its marker, and all that descend from any of these. The calling process is never among them.
func processTree(leader stat, marker string) []stat {
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		return nil
	}
	all, err := fs.AllProcs()
	if err != nil {
		return nil
	}
	variable := []byte(markerVar + "=" + marker)
	self := os.Getpid()
	children := map[int][]stat{}
	var found []stat
	seen := map[int]bool{self: true}
	for _, process := range all {
		if process.PID == self {
			continue
		}
		p := statOf(process)
		if !p.alive() {
			continue
		}
		children[p.parent] = append(children[p.parent], p)
		member := p.group == leader.pid && p.session == leader.session && p.start >= leader.start
		if !seen[p.pid] && (member || p.pid == leader.pid && p.start == leader.start || hasVariable(p.pid, variable)) {
			seen[p.pid] = true
			found = append(found, p)
		}
	}
	for i := 0; i < len(found); i++ {
		for _, p := range children[found[i].pid] {
			if !seen[p.pid] && p.start >= found[i].start {
				seen[p.pid] = true
				found = append(found, p)
			}
		}
	}
	return found
}

// hasVariable reports whether the environment that pid was started with has this variable, "KEY=value".
func hasVariable(pid int, variable []byte) bool {
	env, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil {
		return false
	}
	for len(env) > 0 {
		i := bytes.Index(env, variable)
		if i < 0 {
			return false
		}
		end := i + len(variable)
		if (i == 0 || env[i-1] == 0) && (end == len(env) || env[end] == 0) {
			return true
		}
		env = env[end:]
	}
	return false
}

// killTree kills the leader with everything that belongs to it. The tree is listed first: once the leader is dead its
// descendants have other parents.
func killTree(leader stat, marker string) {
	all := processTree(leader, marker)
	signalGroup(leader.pid, killSignal)
	for _, p := range all {
		p.kill()
	}
}

// killRemaining kills what is left of a dead leader's process tree until nothing is, or timeout has passed: a process
// may fork while the tree is being listed.
func killRemaining(leader stat, marker string, timeout time.Duration) {
	deadline := time.Now().Add(timeout)
	var orphans []int
	pauses := backoff.Policy{First: time.Millisecond, Max: 50 * time.Millisecond}
	for n := 1; ; n++ {
		left := processTree(leader, marker)
		if len(left) == 0 || time.Now().After(deadline) {
			break
		}
		for _, p := range left {
			p.kill()
			if p.pid != leader.pid && len(orphans) < maxOrphans {
				orphans = append(orphans, p.pid)
			}
		}
		time.Sleep(pauses.Delay(n))
	}
	// Orphans become ours where the worker is init, or a subreaper.
	for _, pid := range orphans {
		unix.Wait4(pid, nil, unix.WNOHANG, nil) //nolint:errcheck // most are not ours
	}
}
