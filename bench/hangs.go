package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/runqy/runqy-worker/bench/internal/programs"
)

// hangingID is the id of a worker whose process hangs.
const hangingID = "worker-hangs"

// hangLimit is how long a process may take until it hangs and says so.
const hangLimit = time.Minute

// hangKinds are the arguments of test/children/hangs.py.
func hangKinds() []string {
	return []string{
		"lock", "socket", "subprocess", "queue", "c_with_the_gil", "c_without_the_gil",
		"await", "blocked_loop", "deadlock", "import_lock", "sleep", "load",
	}
}

// hanging is a worker whose Python process hangs, and how it is asked where.
type hanging struct {
	bench  *bench
	site   *site
	worker *programs.Process
	where  string   // what the answer begins with
	ask    []string // the arguments of the command
	socket string
}

// startHanging returns when the process hangs in the way of the kind, and the worker says where.
func (b *bench) startHanging(ctx context.Context, kind string, settings ...string) (*hanging, error) {
	h := &hanging{bench: b, ask: []string{"stack", hangingID}}
	file := filepath.Join(b.root, "test", "children", "hangs.py")
	var err error
	if h.where, err = markedLine(file, "# hangs: "+kind); err != nil {
		return nil, err
	}
	if h.site, err = b.startRedis(ctx, 0); err != nil {
		return nil, err
	}
	settings = append([]string{"RUNQY_WORKER_ID=" + hangingID, "RUNQY_PYTHON_COMMAND=" + strings.Join([]string{b.python, file, kind}, " ")}, settings...)
	sys := b.ours(workerOptions{concurrency: 1, settings: settings})
	tasks := sys.dialect()
	if err := tasks.prepare(ctx, h.site, "hang", smallPayload); err != nil {
		h.stop()
		return nil, err
	}
	if h.worker, err = sys.start(ctx, h.site); err != nil {
		h.stop()
		return nil, err
	}
	_, port, _ := net.SplitHostPort(sys.metrics)
	h.socket = filepath.Join(b.dir, "s"+port) // as worker names it
	if kind != "load" {
		h.ask = append(h.ask, taskID(seriesSample, 0))
		if _, err := push(ctx, h.site, tasks, taskID(seriesSample, 0)); err != nil {
			h.stop()
			return nil, err
		}
	}
	err = programs.Await(ctx, hangLimit, 50*time.Millisecond, func() (bool, error) {
		_, named := h.answer(ctx)
		return named, h.worker.Failed()
	})
	if err != nil {
		err = fmt.Errorf("a process that hangs in %s is not seen to: %w\n%s", kind, err, h.worker.Tail())
		h.stop()
		return nil, err
	}
	return h, nil
}

// answer asks with the command, and says how long it took, the start of that program included, and whether its answer
// begins with the line.
func (h *hanging) answer(ctx context.Context) (took time.Duration, named bool) {
	cmd := exec.CommandContext(ctx, h.bench.program, append(h.ask, "--redis", h.site.url)...)
	cmd.Env = programs.Environ("RUNQY_HEALTH_SOCKET=" + h.socket)
	began := time.Now()
	out, err := programs.Output(cmd)
	return time.Since(began), err == nil && strings.HasPrefix(out, h.where)
}

func (h *hanging) stop() {
	if h.worker != nil {
		h.worker.Stop(syscall.SIGKILL)
	}
	h.site.stop()
}

// markedLine returns the place of the line of a file that ends with a mark, as a stack names it.
func markedLine(file, mark string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", fmt.Errorf("find the line that hangs: %w", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		if strings.HasSuffix(lines.Text(), mark) {
			return fmt.Sprintf("%s:%d in ", file, n), nil
		}
	}
	return "", fmt.Errorf("%s has no line with %q", file, mark)
}

// hangs measures how long the stack command takes for one kind of hang.
func (b *bench) hangs(ctx context.Context, kind string) (figures, error) {
	h, err := b.startHanging(ctx, kind)
	if err != nil {
		return nil, err
	}
	defer h.stop()
	const asks = 9
	var took []float64
	for range asks {
		t, named := h.answer(ctx)
		if !named {
			return nil, fmt.Errorf("an answer to where a process hangs in %s does not name the line", kind)
		}
		took = append(took, float64(t)/float64(time.Millisecond))
	}
	return latencies(took), nil
}

// stops measures how much longer than its two timeouts a worker takes to end whose task ignores that.
func (b *bench) stops(ctx context.Context, frozen bool) (figures, error) {
	const timeout = time.Second // each
	h, err := b.startHanging(ctx, "sleep", "RUNQY_WORKER_SHUTDOWN_TIMEOUT="+timeout.String(), "RUNQY_PYTHON_STOP_TIMEOUT="+timeout.String())
	if err != nil {
		return nil, err
	}
	defer h.stop()
	if frozen {
		if err := h.site.server.Signal(syscall.SIGSTOP); err != nil {
			return nil, fmt.Errorf("freeze Redis: %w", err)
		}
	}
	began := time.Now()
	if err := h.worker.Signal(syscall.SIGTERM); err != nil {
		return nil, fmt.Errorf("stop the worker: %w", err)
	}
	select {
	case <-h.worker.Exited():
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return figures{stopBeyond: float64(time.Since(began)-2*timeout) / float64(time.Millisecond)}, nil
}
