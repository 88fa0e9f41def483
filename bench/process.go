package main

import (
	"syscall"
	"time"

	"github.com/prometheus/procfs"

	"github.com/runqy/runqy-worker/bench/internal/programs"
)

// usage is what processes have used since they started.
type usage struct {
	worker, python time.Duration // processor time: of programs in Go, and of interpreters
	switches       float64       // voluntary context switches of the programs in Go, all threads
	workerPeak     float64       // the largest resident size of the programs in Go, bytes
	pythonPeak     float64       // of the interpreters, the sum
}

func usageOf(roots []*programs.Process) usage {
	var u usage
	for _, root := range roots {
		for _, m := range programs.Descendants(root.PID()) {
			if m.Python {
				u.python += m.CPU
				u.pythonPeak += peakOf(m.PID)
				continue
			}
			u.worker += m.CPU
			if m.PID == root.PID() { // the guardian of a worker is another program of ours
				u.switches += switchesOf(m.PID)
				u.workerPeak += peakOf(m.PID)
			}
		}
	}
	return u
}

func peakOf(pid int) float64 {
	p, err := procfs.NewProc(pid)
	if err != nil {
		return 0
	}
	s, err := p.NewStatus()
	if err != nil {
		return 0
	}
	return float64(s.VmHWM)
}

func switchesOf(pid int) float64 {
	threads, err := procfs.AllThreads(pid)
	if err != nil {
		return 0
	}
	var sum uint64
	for _, t := range threads {
		if s, err := t.NewStatus(); err == nil {
			sum += s.VoluntaryCtxtSwitches
		}
	}
	return float64(sum)
}

// ownCPU is the processor time that the bench itself has used.
func ownCPU() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
