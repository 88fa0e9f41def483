package worker

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/runqy/runqy-worker/internal/config"
	"github.com/runqy/runqy-worker/queue"
	"github.com/runqy/runqy-worker/supervisor"
)

// processor is the queue's handler: it gives each task to the Python process.
type processor struct {
	supervisor *supervisor.Supervisor
	touch      func() // a task has started or ended
}

// Process implements queue.Handler.
func (p processor) Process(ctx context.Context, t *queue.Task) (json.RawMessage, error) {
	p.touch()
	defer p.touch()
	reply, err := p.supervisor.Do(ctx, supervisor.Request{
		TaskID: t.ID, Queue: t.Queue, Type: t.Type, Payload: t.Payload,
		RetryCount: t.RetryCount, MaxRetry: t.MaxRetry, Deadline: t.Deadline, Headers: t.Headers,
	})
	if err != nil {
		return nil, attemptError(err)
	}
	switch {
	case reply.Error == "":
		return reply.Result, nil
	case !reply.Retry:
		return nil, &queue.PermanentError{Message: reply.Error}
	case reply.RetryDelay > 0:
		return nil, &queue.RetryError{Delay: reply.RetryDelay, Message: reply.Error}
	}
	return nil, errors.New(reply.Error)
}

// attemptError says in the queue's words what became of a task that was not answered.
func attemptError(err error) error {
	var crash *supervisor.CrashError
	switch {
	case errors.As(err, &crash):
		return &queue.CrashError{Err: err}
	case errors.Is(err, supervisor.ErrNotRun), errors.Is(err, supervisor.ErrStopped), errors.Is(err, supervisor.ErrDuplicate):
		return queue.ErrUntouched
	}
	return err
}

func (w *Worker) taskFinished(t *queue.Task, took time.Duration, failed bool) {
	w.processed.Add(1)
	if failed {
		w.failed.Add(1)
	}
	w.metrics.TaskFinished(t.Queue, t.ID, took, failed)
}

func (w *Worker) supervisorOptions(opts Options) supervisor.Options {
	c := w.cfg.Python
	return supervisor.Options{
		Command: c.Command, Dir: c.Dir, Env: childEnviron(opts.Environ, opts.SDK, w.cfg),
		Concurrency: w.cfg.Worker.Concurrency, StartupTimeout: c.StartupTimeout, StopTimeout: c.StopTimeout,
		OnCrash: supervisor.Policy(c.OnCrash),
		Restart: supervisor.RestartPolicy{
			Max: c.Restart.Max, Window: c.Restart.Window, InitialDelay: c.Restart.InitialDelay, MaxDelay: c.Restart.MaxDelay,
		},
		MaxTasks: c.MaxTasks, MaxMemory: c.MaxMemory, MaxMessage: c.MaxMessage,
		BlockThreshold: w.cfg.Health.EventLoopBlockThreshold, StallTimeout: c.StallTimeout,
		Guardian: opts.Guardian, Logger: w.log,
		// The metrics are made after the supervisor, which calls these only once it runs.
		Events: supervisor.Events{
			Crashed:   func(cause string) { w.metrics.Crashed(cause) },
			Restarted: func(cause string) { w.metrics.Restarted(cause) },
		},
	}
}

// childEnviron is the environment of the Python process: the worker's own without its settings and secrets, the SDK
// on PYTHONPATH, and what python.env adds, which is given on purpose and so wins.
func childEnviron(own []string, sdk string, cfg *config.Config) []string {
	secrets := secretsOf(cfg)
	vars := make(map[string]string)
	for _, entry := range own {
		name, value, ok := strings.Cut(entry, "=")
		if !ok || strings.HasPrefix(name, "RUNQY_") || name == "NOTIFY_SOCKET" || carries(value, secrets) {
			continue
		}
		vars[name] = value
	}
	for name, value := range cfg.Python.Env {
		vars[name] = value
	}
	if sdk != "" {
		path := sdk
		if have := vars["PYTHONPATH"]; have != "" {
			path += string(filepath.ListSeparator) + have
		}
		vars["PYTHONPATH"] = path
	}
	if _, set := vars["PYTHONUNBUFFERED"]; !set {
		vars["PYTHONUNBUFFERED"] = "1" // so that the last lines before a crash reach the log
	}
	vars["RUNQY_WORKER_CONCURRENCY"] = strconv.Itoa(cfg.Worker.Concurrency)
	env := make([]string, 0, len(vars))
	for name, value := range vars {
		env = append(env, name+"="+value)
	}
	slices.Sort(env)
	return env
}

// secretsOf lists the texts that must not reach the child: the worker's URLs with credentials and their passwords.
// They often stand in a variable of another name, which the configuration file refers to.
func secretsOf(cfg *config.Config) []string {
	var secrets []string
	for _, raw := range []string{cfg.Redis.URL, cfg.Health.DatabaseURL} {
		u, err := url.Parse(raw)
		if err != nil || u.User == nil {
			continue
		}
		secrets = append(secrets, raw)
		if password, ok := u.User.Password(); ok && password != "" {
			secrets = append(secrets, u.User.String(), password)
		}
	}
	if file := cfg.Fleet.Client.PasswordFile; file != "" {
		if b, err := os.ReadFile(file); err == nil {
			secrets = append(secrets, strings.TrimSpace(string(b)))
		}
	}
	return secrets
}

// carries tells whether a value holds a secret: a long one anywhere in it, a short one only as the whole of it, since
// that could be a part of any word.
func carries(value string, secrets []string) bool {
	const long = 8
	for _, s := range secrets {
		if s != "" && (value == s || len(s) >= long && strings.Contains(value, s)) {
			return true
		}
	}
	return false
}
