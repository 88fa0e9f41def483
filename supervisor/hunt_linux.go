package supervisor

import (
	"bytes"
	"errors"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// clockTick is USER_HZ, the unit of times in /proc/<pid>/stat; it is 100 on
// every architecture that Go supports.
const clockTick = 10 * time.Millisecond

// procInfo is one line of /proc/<pid>/stat. pid and start together name a
// process for ever; a pid alone is reused.
type procInfo struct {
	pid, parent, group, session int
	state                       byte
	start                       uint64 // clock ticks after boot
	cpu                         time.Duration
}

// lookup reads a process; one that is gone has only its pid.
func lookup(pid int) procInfo {
	p := procInfo{pid: pid}
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return p
	}
	// The name, in parentheses, may hold anything.
	i := bytes.LastIndexByte(data, ')')
	if i < 0 {
		return p
	}
	f := bytes.Fields(data[i+1:])
	if len(f) < 20 {
		return p
	}
	num := func(i int) int {
		n, err := strconv.Atoi(string(f[i]))
		if err != nil {
			return 0
		}
		return n
	}
	p.state = f[0][0]
	p.parent, p.group, p.session = num(1), num(2), num(3)
	p.cpu = time.Duration(num(11)+num(12)) * clockTick
	p.start = uint64(num(19))
	return p
}

func (p procInfo) alive() bool { return p.state != 0 && p.state != 'Z' && p.state != 'X' }

// kill sends SIGKILL, to this process or to nobody.
func (p procInfo) kill() {
	fd, err := unix.PidfdOpen(p.pid, 0)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) {
		if lookup(p.pid).start == p.start {
			unix.Kill(p.pid, unix.SIGKILL) //nolint:errcheck // it may be gone
		}
		return
	}
	if err != nil {
		return
	}
	defer unix.Close(fd)
	if lookup(p.pid).start == p.start { // now fd cannot mean another one
		unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) //nolint:errcheck // it may be gone
	}
}

// family lists the living processes that belong to a child: members of its
// group, those that carry its nonce, and all that descend from either. The
// leader counts too.
func family(leader procInfo, nonce string) []procInfo {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil && len(names) == 0 {
		return nil
	}
	marker := []byte(nonceVar + "=" + nonce)
	self := os.Getpid()
	children := map[int][]procInfo{}
	var found []procInfo
	seen := map[int]bool{self: true}
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil || pid == self {
			continue
		}
		p := lookup(pid)
		if !p.alive() {
			continue
		}
		children[p.parent] = append(children[p.parent], p)
		member := p.group == leader.pid && p.session == leader.session && p.start >= leader.start
		if !seen[pid] && (member || pid == leader.pid && p.start == leader.start || carries(pid, marker)) {
			seen[pid] = true
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

// carries tells whether the environment that pid was started with has marker.
func carries(pid int, marker []byte) bool {
	env, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil {
		return false
	}
	for len(env) > 0 {
		i := bytes.Index(env, marker)
		if i < 0 {
			return false
		}
		end := i + len(marker)
		if (i == 0 || env[i-1] == 0) && (end == len(env) || env[end] == 0) {
			return true
		}
		env = env[end:]
	}
	return false
}

// killTree kills the child with everything that belongs to it. The family is
// taken first: once the leader is dead its descendants have other parents.
func killTree(leader procInfo, nonce string) {
	all := family(leader, nonce)
	signalGroup(leader.pid, killSignal)
	for _, p := range all {
		p.kill()
	}
}

// hunt kills what is left of a child's family until nothing is, or limit has
// passed: a process may fork while it is being looked for.
func hunt(leader procInfo, nonce string, limit time.Duration) {
	deadline := time.Now().Add(limit)
	var hunted []int
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		left := family(leader, nonce)
		if len(left) == 0 || time.Now().After(deadline) {
			break
		}
		for _, p := range left {
			p.kill()
			if p.pid != leader.pid && len(hunted) < 10_000 {
				hunted = append(hunted, p.pid)
			}
		}
		time.Sleep(wait)
	}
	// Orphans become ours where the worker is init, or a subreaper.
	for _, pid := range hunted {
		unix.Wait4(pid, nil, unix.WNOHANG, nil) //nolint:errcheck // most are not ours
	}
}

func inGroup(pid, group int) bool { return lookup(pid).group == group }

// cpuTime is the user and system time a process has used, all threads.
func cpuTime(pid int) (time.Duration, bool) {
	p := lookup(pid)
	return p.cpu, p.state != 0
}

// residentSize is a process' resident memory in bytes.
func residentSize(pid int) (int64, bool) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/statm")
	if err != nil {
		return 0, false
	}
	f := bytes.Fields(data)
	if len(f) < 2 {
		return 0, false
	}
	pages, err := strconv.ParseInt(string(f[1]), 10, 64)
	return pages * int64(os.Getpagesize()), err == nil
}

func (p procInfo) line(nonce string) string {
	return formatWatch(p.pid, p.start, p.session, nonce)
}

func parseProc(pid int, start uint64, session int) procInfo {
	return procInfo{pid: pid, start: start, session: session}
}
