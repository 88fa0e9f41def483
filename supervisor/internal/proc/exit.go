package proc

// Cause is what ended a process.
type Cause int

// The causes of a process' end.
const (
	Exited      Cause = iota // by itself, with an exit status
	Signaled                 // by a signal
	OutOfMemory              // by the kernel's OOM killer
)

// Exit is how a process ended.
type Exit struct {
	Cause Cause
	Text  string // "exit status 3", "killed by SIGSEGV …"; one line
}

// Exit says how the process ended. It may only be called after Dead is closed.
func (p *Process) Exit() Exit { return p.exit }

// exitOf says how the process ended, from what the system tells of it and whether a SIGKILL was ours.
func (p *Process) exitOf(d death, killed bool) Exit {
	e, sigkill := d.exit()
	if !sigkill || killed {
		return e
	}
	n, ok := p.oom.read()
	switch {
	case !ok || !p.counts:
		e.Text += ", not sent by the worker: possibly the OOM killer"
	case n > p.kills:
		e.Cause = OutOfMemory
		e.Text += " by the kernel's OOM killer: out of memory"
	default:
		e.Text += ", not sent by the worker, and the OOM killer counted nothing"
	}
	return e
}
