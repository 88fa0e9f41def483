package proc

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	guardianFD = 3
	// guardianPause is the least time between two starts of a guardian.
	guardianPause = 10 * time.Second
	// guardianTimeout bounds how long a guardian that is told to end may take.
	guardianTimeout = 5 * time.Second
	// guardianWriteTimeout bounds how long a guardian that does not read may hold the worker up.
	guardianWriteTimeout = time.Second
)

// Guardian is the worker's end of the guardian process, which kills the process trees of a worker that is gone. A nil
// Guardian does nothing. A guardian process that dies is replaced by [Guardian.Ensure]. All methods may be called from
// any goroutine.
type Guardian struct {
	argv []string
	log  *slog.Logger

	mu       sync.Mutex // guards the fields below; keeps messages whole and in order
	process  *guardianProcess
	tried    time.Time
	watching map[int]string // the watch line per pid, for a successor
}

// guardianProcess is one process and the pipe that the kernel closes when the worker dies, however it dies.
type guardianProcess struct {
	cmd  *exec.Cmd
	pipe *os.File
	gone chan struct{} // closed when the process is reaped
}

// NewGuardian returns a guardian whose process is a program that calls [RunGuardian], or nil when argv is empty. It
// starts nothing.
func NewGuardian(argv []string, log *slog.Logger) *Guardian {
	if len(argv) == 0 {
		return nil
	}
	return &Guardian{argv: argv, log: log, watching: map[int]string{}}
}

func startGuardian(argv []string) (*guardianProcess, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make the guardian's pipe: %w", err)
	}
	defer r.Close()
	g := &guardianProcess{cmd: exec.Command(argv[0], argv[1:]...), pipe: w, gone: make(chan struct{})}
	g.cmd.Env = []string{"GOMAXPROCS=1"} // no secrets, and no marker: it must not kill itself
	g.cmd.ExtraFiles = []*os.File{r}
	g.cmd.SysProcAttr = guardianAttr()
	if filepath.IsAbs(argv[0]) {
		g.cmd.Dir = "/" // it must not keep a directory busy
	}
	if err := g.cmd.Start(); err != nil {
		w.Close()
		return nil, fmt.Errorf("start the guardian %q: %w", argv[0], err)
	}
	go func() { // ends with the process; Stop and Ensure wait for it
		g.cmd.Wait() //nolint:errcheck // nothing follows from how it ended
		close(g.gone)
	}()
	return g, nil
}

// Ensure starts a guardian process when none lives, at most every ten seconds. A worker without one still works: what
// its tasks have started then outlives it when it is killed. A failure is logged.
func (g *Guardian) Ensure(now time.Time) {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.process != nil {
		select {
		case <-g.process.gone:
			g.log.Warn("guardian process gone")
			g.process.pipe.Close()
			g.process = nil
		default:
			return
		}
	}
	if !g.tried.IsZero() && now.Sub(g.tried) < guardianPause {
		return
	}
	g.tried = now
	process, err := startGuardian(g.argv)
	if err != nil {
		g.log.Error("guardian start failed", slog.Any("error", err),
			slog.String("effect", "processes that tasks start will outlive a worker that is killed"))
		return
	}
	g.process = process
	for _, line := range g.watching {
		g.send(line)
	}
}

// watch makes the guardian kill the process tree of p when the worker is gone.
func (g *Guardian) watch(p stat, marker string) {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.watching[p.pid] = watchLine(p, marker)
	g.send(g.watching[p.pid])
}

// release ends watch. It must come before the process is reaped: afterwards the pid may be anybody's.
func (g *Guardian) release(p stat) {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.watching, p.pid)
	g.send(fmt.Sprintf("release %d\n", p.pid))
}

// send needs mu. A guardian that is gone is found by Ensure, and one that does not read must not hold the worker up.
func (g *Guardian) send(line string) {
	if g.process == nil {
		return
	}
	g.process.pipe.SetWriteDeadline(time.Now().Add(guardianWriteTimeout)) //nolint:errcheck // a pipe has deadlines
	io.WriteString(g.process.pipe, line)                                  //nolint:errcheck // as said
}

// Stop ends the guardian process and waits for it, for at most five seconds: then it is killed.
func (g *Guardian) Stop() {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.process == nil {
		return
	}
	g.send("done\n")
	g.process.pipe.Close()
	timeout := time.NewTimer(guardianTimeout)
	defer timeout.Stop()
	select {
	case <-g.process.gone:
	case <-timeout.C:
		g.process.cmd.Process.Kill() //nolint:errcheck // it may be gone
		<-g.process.gone
	}
	g.process = nil
}

// watchLine is what the guardian is told of a process to watch.
func watchLine(p stat, marker string) string {
	return fmt.Sprintf("watch %d %d %d %s\n", p.pid, p.start, p.session, marker)
}

// RunGuardian is the body of the guardian process: it reads descriptor 3 until the worker says that it is done, or is
// gone; then it kills every process group that it was told of, and whatever else carries their marker. It ignores
// SIGINT, SIGTERM and SIGHUP, because it must outlive the worker. It returns an error when it was not started by a
// worker.
func RunGuardian() error {
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	pipe := os.NewFile(guardianFD, "guardian")
	if info, err := pipe.Stat(); err != nil || info.Mode()&os.ModeNamedPipe == 0 {
		return errors.New("the guardian is started by a worker, with a pipe as descriptor 3; do not run it by hand")
	}
	type watched struct {
		leader stat
		marker string
	}
	watching := map[int]watched{}
	in := bufio.NewReaderSize(pipe, 4096)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			break
		}
		var pid, session int
		var start uint64
		var marker string
		switch {
		case line == "done\n":
			return nil
		case strings.HasPrefix(line, "watch "):
			if _, err := fmt.Sscanf(line, "watch %d %d %d %s\n", &pid, &start, &session, &marker); err == nil && pid > 1 && marker != "" {
				watching[pid] = watched{stat{pid: pid, start: start, session: session}, marker}
			}
		case strings.HasPrefix(line, "release "):
			if _, err := fmt.Sscanf(line, "release %d\n", &pid); err == nil {
				delete(watching, pid)
			}
		}
	}
	for _, w := range watching {
		killRemaining(w.leader, w.marker, 2*treeTimeout)
	}
	return nil
}
