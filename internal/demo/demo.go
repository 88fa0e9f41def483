// Package demo runs the whole system on one machine: a Redis inside this process, a worker, a Python process with
// sample tasks, and a batch of them that is followed to its end.
package demo

import (
	"context"
	"crypto/rand"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/heartbeat"
	"github.com/runqy/runqy-worker/internal/config"
	"github.com/runqy/runqy-worker/internal/redisclient"
	"github.com/runqy/runqy-worker/internal/status"
	"github.com/runqy/runqy-worker/internal/worker"
)

// DefaultListen is where the demo serves HTTP when it is told nothing and the port is free.
const DefaultListen = "127.0.0.1:8001"

// MaxTasks bounds Options.Tasks.
const MaxTasks = 100_000

const (
	concurrency = 4
	// readyTimeout is how long the worker may take until it takes tasks.
	readyTimeout      = time.Minute
	readyPollInterval = 20 * time.Millisecond
	// ownQueue is the queue in a Redis that others use too.
	ownQueue = "runqy_demo"
)

//go:embed tasks.py
var tasksFile []byte

// Options say what to show, and how this program runs a worker.
type Options struct {
	Tasks        int           // how many, 1 to MaxTasks
	ExitWhenDone bool          // end after the batch; else run on until the context is over
	Limit        time.Duration // how long the batch may take; 0: 30 s and half a second for each task
	Listen       string        // address of the HTTP server; empty: DefaultListen, or a free port if that is taken
	RedisURL     string        // empty or embedded://: a Redis inside this process
	Program      string        // how to call this program, for the commands that are printed
	Environ      []string      // as os.Environ returns it

	Out    io.Writer
	Colour bool // Out shows colours

	NewWorker func(*config.Config) (*worker.Worker, error)
	RunWorker func(context.Context, *worker.Worker) error // runs it until the context is over
}

// errWorkerEnded says that the worker ended by itself; its own error says why.
var errWorkerEnded = errors.New("the worker ended by itself")

// UnaccountedError lists the tasks of the batch that did not end as expected.
type UnaccountedError struct {
	IDs   []string
	Total int
}

// Error names the tasks, the first ones if there are many.
func (e *UnaccountedError) Error() string {
	shown, more := e.IDs, ""
	if len(shown) > maxNamed {
		shown, more = shown[:maxNamed], fmt.Sprintf(" and %d more", len(e.IDs)-maxNamed)
	}
	return fmt.Sprintf("%d of %d tasks did not end as expected: %s%s", len(e.IDs), e.Total, strings.Join(shown, ", "), more)
}

// Run shows the demo. With ExitWhenDone the error is nil when every task ended as expected, and an *UnaccountedError
// when some did not. Else Run goes on until ctx is over and the worker has drained. A configuration that cannot be
// used, an address for instance, is a *config.Error. Nothing is left running, and no file is left.
func Run(ctx context.Context, o Options) (err error) {
	python, err := findPython(o.Environ)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "runqy-demo-")
	if err != nil {
		return fmt.Errorf("make a directory for the sample tasks: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := os.WriteFile(filepath.Join(dir, "tasks.py"), tasksFile, 0o600); err != nil {
		return fmt.Errorf("write the sample tasks: %w", err)
	}
	d := &demo{Options: o, dir: dir, python: python, run: randomHex(), workerID: "worker-demo", queue: "inference_default"}
	if err := d.openRedis(ctx); err != nil {
		return err
	}
	defer d.closeRedis()
	b, err := newBatch(d.client, d.queue, d.run, d.Tasks)
	if err != nil {
		return err
	}
	if err := d.newWorker(); err != nil {
		return err
	}
	return d.runAll(ctx, b)
}

// demo is one run of it.
type demo struct {
	Options
	dir, python string
	run         string // tells this run's task ids from those of others
	workerID    string
	queue       string

	embedded *redisclient.Embedded // nil with a real Redis
	url      string                // carries the password
	target   redisclient.Target
	client   redis.UniversalClient
	worker   *worker.Worker
	moved    bool // DefaultListen was taken
}

// openRedis starts the embedded Redis, or connects to the one that was given.
func (d *demo) openRedis(ctx context.Context) error {
	d.url = d.RedisURL
	if d.url == "" {
		d.url = "embedded://"
	}
	target, err := redisclient.Parse(d.url)
	if err != nil {
		return fmt.Errorf("redis: %w", err)
	}
	if target.Embedded() {
		if d.embedded, err = redisclient.StartEmbeddedTarget(target); err != nil {
			return err
		}
		// For everybody else it is a Redis like others.
		u, err := url.Parse(d.url)
		if err != nil {
			d.embedded.Close()
			return errors.New("redis: the password of the embedded:// URL has characters to be percent-encoded")
		}
		u.Scheme, u.Host = "redis", d.embedded.Addr()
		d.url = u.String()
		if target, err = redisclient.Parse(d.url); err != nil {
			d.embedded.Close()
			return fmt.Errorf("redis: %w", err)
		}
	} else {
		// Others may be there, another demo too.
		d.queue, d.workerID = ownQueue, "worker-demo-"+d.run
	}
	d.target = target
	d.client = target.Open()
	if err := redisclient.CheckServer(ctx, d.client); err != nil {
		d.closeRedis()
		return fmt.Errorf("redis at %s: %w", target, err)
	}
	return nil
}

func (d *demo) closeRedis() {
	_ = d.client.Close()
	if d.embedded != nil {
		d.embedded.Close()
	}
}

// newWorker builds the worker. An address that the user did not ask for gives way when somebody else has it.
func (d *demo) newWorker() error {
	listen := d.Listen
	if listen == "" {
		listen = DefaultListen
	}
	cfg, err := d.config(listen)
	if err != nil {
		return err
	}
	d.worker, err = d.NewWorker(cfg)
	if errors.Is(err, syscall.EADDRINUSE) {
		if d.Listen != "" {
			return fmt.Errorf("--listen %s: somebody else listens there; choose another port, or 127.0.0.1:0 for any: %w", listen, err)
		}
		d.moved = true
		if cfg, err = d.config("127.0.0.1:0"); err != nil {
			return err
		}
		d.worker, err = d.NewWorker(cfg)
	}
	return err
}

// config is the demo's own. It ignores the user's environment, which is meant for other workers.
func (d *demo) config(listen string) (*config.Config, error) {
	flags := map[string]string{
		"environment":         "demo",
		"redis.url":           d.url,
		"worker.id":           d.workerID,
		"worker.queues":       d.queue,
		"worker.concurrency":  strconv.Itoa(concurrency),
		"python.command":      fmt.Sprintf("[%q,%q]", d.python, "tasks.py"),
		"python.dir":          d.dir,
		"python.on_crash":     "degrade", // so that a kill -9 can be looked at
		"heartbeat.interval":  "1s",      // and LLEN is fresh
		"results.ttl":         "1h",
		"health.listen":       listen,
		"health.socket":       filepath.Join(d.dir, "worker.sock"),
		"health.database_url": "",
	}
	names := map[string]string{"redis.url": "--redis", "health.listen": "--listen"}
	cfg, _, err := config.Load(config.Options{Flags: flags, FlagNames: names})
	return cfg, err
}

// runAll runs the worker beside what the user sees, and ends both.
func (d *demo) runAll(ctx context.Context, b *batch) error {
	working, stop := context.WithCancel(ctx)
	defer stop()
	showing, end := context.WithCancelCause(ctx)
	defer end(nil)
	ended := make(chan error, 1)
	go func() { // ends after stop; its value is waited for below
		ended <- d.RunWorker(working, d.worker)
		end(errWorkerEnded)
	}()
	err := d.show(showing, b)
	early := errors.Is(context.Cause(showing), errWorkerEnded)
	stop()
	workerErr := <-ended
	switch {
	case early && workerErr != nil:
		err = workerErr // it is why showing ended
	case early && err == nil:
		err = errWorkerEnded
	case ctx.Err() != nil && !d.ExitWhenDone:
		err = workerErr // told to stop, and that is how it ends
	case ctx.Err() != nil:
		err = errors.Join(errors.New("interrupted before every task was done"), workerErr)
	default:
		err = errors.Join(err, workerErr)
	}
	if d.embedded == nil {
		err = errors.Join(err, b.remove())
	}
	return err
}

// show is what the user sees, until ctx is over or, with ExitWhenDone, the batch is.
func (d *demo) show(ctx context.Context, b *batch) error {
	pid, err := d.waitReady(ctx)
	if err != nil {
		return err
	}
	d.printHead(pid)
	if !d.ExitWhenDone {
		d.printCommands(b, pid)
	}
	limit := d.Limit
	if limit <= 0 {
		limit = 30*time.Second + time.Duration(d.Tasks)*500*time.Millisecond
	}
	runErr := b.run(ctx, limit)
	if runErr != nil && ctx.Err() != nil && !d.ExitWhenDone {
		return nil
	}
	d.printTable(b)
	missing := b.unaccounted()
	if len(missing) > 0 {
		d.printMissing(missing, d.workerState(ctx))
	}
	if d.ExitWhenDone {
		if len(missing) > 0 {
			unaccounted := &UnaccountedError{IDs: ids(missing), Total: d.Tasks}
			if runErr != nil {
				return fmt.Errorf("%w; %w", runErr, unaccounted)
			}
			return unaccounted
		}
		return runErr
	}
	if runErr != nil {
		d.printf("%v\n", runErr)
	}
	d.printf("\nThe worker runs on. Press Ctrl-C to stop.\n")
	<-ctx.Done()
	return nil
}

// waitReady waits until the worker takes tasks and returns the pid of its Python process.
func (d *demo) waitReady(ctx context.Context) (pid int, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, readyTimeout, fmt.Errorf("the worker takes no tasks after %s", readyTimeout))
	defer cancel()
	for {
		beat, err := d.beat(ctx)
		switch {
		case err != nil: // asked again
		case beat.Healthy && beat.Status == status.Running:
			return beat.PythonPID, nil
		case beat.Status == status.Degraded && beat.Crashes > 0: // else the outcome of the start is not known yet
			return 0, fmt.Errorf("the Python process did not start (Python 3.8 or newer is needed): %s", beat.Reason.Text())
		}
		select {
		case <-time.After(readyPollInterval):
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

// workerState says why the worker takes no tasks, or nothing.
func (d *demo) workerState(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if beat, err := d.beat(ctx); err == nil && !beat.Healthy {
		return fmt.Sprintf("the worker is not healthy (%s): %s", beat.Status, beat.Reason.Text())
	}
	return ""
}

func (d *demo) beat(ctx context.Context) (heartbeat.Beat, error) {
	hash, err := d.client.HGetAll(ctx, heartbeat.Key(d.workerID)).Result()
	if err != nil {
		return heartbeat.Beat{}, err
	}
	return heartbeat.ParseBeat(hash)
}

// findPython is the full name of python3 on the PATH of environ.
func findPython(environ []string) (string, error) {
	path := ""
	for _, entry := range environ {
		if value, ok := strings.CutPrefix(entry, "PATH="); ok {
			path = value
		}
	}
	for _, dir := range filepath.SplitList(path) {
		file := filepath.Join(dir, "python3")
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return filepath.Abs(file)
		}
	}
	return "", fmt.Errorf("python3 is not on PATH (%s): install Python 3.8 or newer (Debian and Ubuntu: apt install python3; macOS: brew install python3)", path)
}

func randomHex() string {
	var b [3]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
