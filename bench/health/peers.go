package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/runqy/runqy-worker/bench/internal/programs"
)

// peers are the other systems, by the names that faults know them by.
var peers = map[string]func() subject{
	"celery": func() subject { return &celery{} },
	"rq":     func() subject { return &rq{} },
	"asynq":  func() subject { return &plainAsynq{} },
}

// peer is what the other systems share: one process.
type peer struct{ proc *programs.Process }

func (p *peer) process() *programs.Process { return p.proc }

// launch starts the worker of a peer, on a host of its own if the case has one.
func (p *peer) launch(ctx context.Context, d *bed, name string, argv ...string) error {
	if d.net != nil {
		argv = append(d.net.by(), argv...)
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = d.scripts(), d.peerEnv(d.url)
	var err error
	if p.proc, err = programs.Start(ctx, d.dir, name, cmd); err != nil {
		return err
	}
	d.atEnd(func() { p.proc.Stop(exitSignal) })
	return nil
}

func (d *bed) peerEnv(url string) []string {
	return programs.Environ("HEALTH_BENCH_REDIS="+url, "HEALTH_BENCH_SWITCH="+d.word, "PYTHONPATH="+d.scripts(), "C_FORCE_ROOT=1")
}

// direct is the URL of Redis for the bench itself, past everything that is broken.
func (d *bed) direct() string { return "redis://" + d.redis.Addr + "/0" }

// script runs one of python/, which enqueues a task and prints its id.
func (d *bed) script(ctx context.Context, name string, t task) (string, error) {
	payload := []byte("{}")
	if t.payload != nil {
		var err error
		if payload, err = json.Marshal(t.payload); err != nil {
			return "", fmt.Errorf("encode a payload: %w", err)
		}
	}
	cmd := exec.CommandContext(ctx, d.python, filepath.Join(d.scripts(), name), t.name, string(payload))
	cmd.Env = d.peerEnv(d.direct())
	text, err := programs.Output(cmd)
	if err != nil {
		lines := splitLines(err.Error()) // the last one of a traceback says it
		return "", errors.New(lines[len(lines)-1])
	}
	return strings.TrimSpace(text), nil
}

// celery is Celery's worker with one process for tasks. Its health is `celery inspect ping`, which its documentation
// names for that.
type celery struct{ peer }

func (*celery) name() string    { return "celery" }
func (*celery) pending() string { return "celery" }

func (c *celery) start(ctx context.Context, d *bed) error {
	return c.launch(ctx, d, "celery", d.python, "-m", "celery", "-A", "celery_app", "worker", "-l", "warning", "-c", "1", "-n", "bench@here")
}

func (c *celery) surfaces(d *bed) []surface {
	return []surface{{"inspect ping", 2 * time.Second, func(ctx context.Context) answer {
		cmd := exec.CommandContext(ctx, d.python, "-m", "celery", "-A", "celery_app", "inspect", "ping", "-d", "bench@here")
		cmd.Dir, cmd.Env = d.scripts(), d.peerEnv(d.direct())
		text, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		switch {
		case err == nil:
			return answer{green, ""}
		case ctx.Err() == nil && errors.As(err, &exit):
			return answer{red, oneLine(string(text))}
		default:
			return noAnswer(err)
		}
	}}}
}

func (*celery) enqueue(ctx context.Context, d *bed, t task) (string, error) {
	return d.script(ctx, "celery_app.py", t)
}

func (*celery) done(ctx context.Context, d *bed, id string) (bool, error) {
	text, err := d.redis.Client.MGet(ctx, "celery-task-meta-"+id).Result()
	if err != nil {
		return false, fmt.Errorf("look for a result: %w", err)
	}
	result, _ := text[0].(string)
	return strings.Contains(result, `"status": "SUCCESS"`), nil
}

// handlers is the process of the pool.
func (c *celery) handlers(context.Context, *bed) int {
	if tree := programs.Descendants(c.proc.PID()); len(tree) > 1 {
		return tree[1].PID
	}
	return 0
}

// rq is RQ's worker, which forks for each job. Its health is its own key in Redis, which it lets expire when it does not
// renew it.
type rq struct{ peer }

func (*rq) name() string    { return "rq" }
func (*rq) pending() string { return "rq:queue:default" }

func (r *rq) start(ctx context.Context, d *bed) error {
	return r.launch(ctx, d, "rq", d.python, "-m", "rq.cli", "worker", "--quiet", "--url", d.url, "--name", "bench")
}

func (r *rq) surfaces(d *bed) []surface {
	return []surface{{"heartbeat", 250 * time.Millisecond, func(ctx context.Context) answer {
		n, err := d.redis.Client.Exists(ctx, "rq:worker:bench").Result()
		if err != nil {
			return noAnswer(err)
		}
		return isGreen(n > 0, "there is no rq:worker:bench")
	}}}
}

func (*rq) enqueue(ctx context.Context, d *bed, t task) (string, error) {
	return d.script(ctx, "rq_job.py", t)
}

func (*rq) done(ctx context.Context, d *bed, id string) (bool, error) {
	status, err := d.redis.Client.HMGet(ctx, "rq:job:"+id, "status").Result()
	if err != nil {
		return false, fmt.Errorf("look for a job: %w", err)
	}
	return status[0] == "finished", nil
}

// handlers is none: there is a process only while a job runs.
func (*rq) handlers(context.Context, *bed) int { return 0 }
