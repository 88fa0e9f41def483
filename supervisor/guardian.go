package supervisor

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
)

// guardian is the worker's end of the guardian process. A nil guardian does
// nothing. A guardian that dies is replaced by ensure.
type guardian struct {
	argv []string
	log  *slog.Logger

	mu       sync.Mutex // guards the fields below; keeps messages whole and in order
	proc     *guardianProcess
	tried    time.Time
	watching map[int]string // the watch line per pid, for a successor
}

// guardianProcess is one process and the pipe that the kernel closes when the
// worker dies, however it dies.
type guardianProcess struct {
	cmd  *exec.Cmd
	pipe *os.File
	gone chan struct{} // closed when the process is reaped
}

func newGuardian(argv []string, log *slog.Logger) *guardian {
	if len(argv) == 0 {
		return nil
	}
	return &guardian{argv: argv, log: log, watching: map[int]string{}}
}

func startGuardian(argv []string) (*guardianProcess, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make the guardian's pipe: %w", err)
	}
	defer r.Close()
	g := &guardianProcess{cmd: exec.Command(argv[0], argv[1:]...), pipe: w, gone: make(chan struct{})}
	g.cmd.Env = []string{"GOMAXPROCS=1"} // no secrets, and no nonce: it must not hunt itself
	g.cmd.ExtraFiles = []*os.File{r}
	g.cmd.SysProcAttr = guardianAttr()
	if filepath.IsAbs(argv[0]) {
		g.cmd.Dir = "/" // it must not keep a directory busy
	}
	if err := g.cmd.Start(); err != nil {
		w.Close()
		return nil, fmt.Errorf("start the guardian %q: %w", argv[0], err)
	}
	go func() { // ends with the process; dismiss and ensure wait for it
		g.cmd.Wait() //nolint:errcheck // nothing follows from how it ended
		close(g.gone)
	}()
	return g, nil
}

// ensure starts a guardian when none lives, not more often than
// guardianPause. A worker without one still works, and says so.
func (g *guardian) ensure(now time.Time) {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.proc != nil {
		select {
		case <-g.proc.gone:
			g.log.Warn("the guardian process is gone; another will be started")
			g.proc.pipe.Close()
			g.proc = nil
		default:
			return
		}
	}
	if !g.tried.IsZero() && now.Sub(g.tried) < guardianPause {
		return
	}
	g.tried = now
	proc, err := startGuardian(g.argv)
	if err != nil {
		g.log.Error("no guardian: processes that tasks start will outlive a worker that is killed", slog.Any("error", err))
		return
	}
	g.proc = proc
	for _, line := range g.watching {
		g.send(line)
	}
}

func (g *guardian) watch(p procInfo, nonce string) {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.watching[p.pid] = p.line(nonce)
	g.send(g.watching[p.pid])
}

// release must come before the process is reaped: afterwards the pid may be
// anybody's.
func (g *guardian) release(p procInfo) {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.watching, p.pid)
	g.send(fmt.Sprintf("release %d\n", p.pid))
}

// send needs mu. A guardian that is gone is found by ensure, and one that
// does not read must not hold the worker up.
func (g *guardian) send(line string) {
	if g.proc == nil {
		return
	}
	g.proc.pipe.SetWriteDeadline(time.Now().Add(time.Second)) //nolint:errcheck // a pipe has deadlines
	io.WriteString(g.proc.pipe, line)                         //nolint:errcheck // as said
}

// dismiss ends the guardian and waits for it.
func (g *guardian) dismiss() {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.proc == nil {
		return
	}
	g.send("done\n")
	g.proc.pipe.Close()
	patience := time.NewTimer(5 * time.Second)
	defer patience.Stop()
	select {
	case <-g.proc.gone:
	case <-patience.C:
		g.proc.cmd.Process.Kill() //nolint:errcheck // it may be gone
		<-g.proc.gone
	}
	g.proc = nil
}

func formatWatch(pid int, start uint64, session int, nonce string) string {
	return fmt.Sprintf("watch %d %d %d %s\n", pid, start, session, nonce)
}

// RunGuardian is the body of the guardian process, which Options.Guardian
// starts: it reads descriptor 3 until the worker says that it is done, or is
// gone; then it kills every process group it was told of, and whatever else
// carries their nonce. It ignores SIGINT, SIGTERM and SIGHUP, because it must
// outlive the worker. It returns an error when it was not started by a worker.
func RunGuardian() error {
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	pipe := os.NewFile(guardianFD, "guardian")
	if info, err := pipe.Stat(); err != nil || info.Mode()&os.ModeNamedPipe == 0 {
		return errors.New("the guardian is started by a worker, with a pipe as descriptor 3; do not run it by hand")
	}
	type watched struct {
		leader procInfo
		nonce  string
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
		var nonce string
		switch {
		case line == "done\n":
			return nil
		case strings.HasPrefix(line, "watch "):
			if _, err := fmt.Sscanf(line, "watch %d %d %d %s\n", &pid, &start, &session, &nonce); err == nil && pid > 1 && nonce != "" {
				watching[pid] = watched{parseProc(pid, start, session), nonce}
			}
		case strings.HasPrefix(line, "release "):
			if _, err := fmt.Sscanf(line, "release %d\n", &pid); err == nil {
				delete(watching, pid)
			}
		}
	}
	for _, w := range watching {
		hunt(w.leader, w.nonce, 2*huntLimit)
	}
	return nil
}
