package main

import (
	"context"
	"fmt"
	"syscall"
	"time"
)

// forever is longer than any case, in seconds.
const forever = 3600

// runs returns a step of a case: a task that is a part of the fault.
func runs(name string, payload map[string]any) func(context.Context, *bed) error {
	return func(ctx context.Context, d *bed) error { return d.run(ctx, task{name: name, payload: payload}) }
}

// switches returns a step of a case: every process behaves in another way.
func switches(word string) func(context.Context, *bed) error {
	return func(_ context.Context, d *bed) error { return d.setSwitch(word) }
}

// signals returns a step of a case: a signal to the process that runs the handlers.
func signals(s syscall.Signal) func(context.Context, *bed) error {
	return func(ctx context.Context, d *bed) error {
		pid := d.subject.handlers(ctx, d)
		if pid == 0 {
			return fmt.Errorf("%s has no process for handlers", d.subject.name())
		}
		if err := syscall.Kill(pid, s); err != nil {
			return fmt.Errorf("send %v to %d: %w", s, pid, err)
		}
		return nil
	}
}

// processes are the process that runs the handlers, broken.
func processes() []fault {
	n := func(seconds float64) map[string]any { return map[string]any{"seconds": seconds} }
	return []fault{
		{
			name: "python-killed", title: "Python is killed", truth: unable, quick: true, peers: []string{"celery"},
			inject: signals(syscall.SIGKILL),
		},
		{
			name: "python-killed-restart", title: "Python is killed, with `on_crash: restart`", truth: able, settle: 10 * time.Second,
			env: []string{"RUNQY_PYTHON_ON_CRASH=restart"}, inject: signals(syscall.SIGKILL),
			feed: time.Second, any: true, // one may be taken that moment, and is tried again much later
		},
		{
			name: "python-crash-loop", title: "Every task kills Python, with `on_crash: restart`", truth: unable,
			env:    []string{"RUNQY_PYTHON_ON_CRASH=restart", "RUNQY_PYTHON_RESTART_MAX=3", "RUNQY_PYTHON_RESTART_INITIAL_DELAY=100ms"},
			inject: runs("crash", nil), probe: task{name: "crash"}, feed: 200 * time.Millisecond, peers: inPython(),
		},
		{
			name: "python-stopped", title: "Python is stopped (SIGSTOP)", truth: unable, peers: []string{"celery"},
			inject: signals(syscall.SIGSTOP), lift: signals(syscall.SIGCONT),
		},
		{
			name: "python-deadlock-gil", title: "A handler is deadlocked and holds the GIL", truth: unable, peers: inPython(),
			inject: runs("hold_gil", nil),
		},
		{
			name: "python-deadlock", title: "A handler is deadlocked, without the GIL, until its time limit of 3 s", truth: asked,
			inject: limited("lock", nil), after: 3 * time.Second,
		},
		{
			name: "python-spinning", title: "A handler goes round for ever, until its time limit of 3 s", truth: asked,
			inject: limited("spin", n(forever)), after: 3 * time.Second,
		},
		{
			name: "python-loop-blocked", title: "An asyncio loop is blocked by a handler", truth: unable, python: "async_tasks.py",
			env: []string{"RUNQY_CONCURRENCY=4"}, inject: runs("block", n(forever)),
		},
		{
			name: "python-main-thread-gone", title: "The main thread of Python is gone, another lives", truth: unable, quick: true,
			inject: runs("leave", nil), after: time.Second,
		},
		{
			name: "python-out-of-memory", title: "Python gets no memory: every task fails", truth: unable,
			env:   []string{"RUNQY_PYTHON_MAX_CONSECUTIVE_FAILURES=3"},
			probe: task{name: "memory"}, feed: 250 * time.Millisecond, peers: inPython(),
		},
		{
			name: "python-out-of-descriptors", title: "Python has no file descriptor left, which its `@health` asks for", truth: unable,
			env:    []string{"HEALTH_BENCH_CHECK=1", "RUNQY_PYTHON_CHECK_INTERVAL=1s"},
			inject: runs("descriptors", nil), probe: task{name: "needs_descriptor"}, peers: []string{"celery"},
		},
		{
			name: "python-stdin-closed", title: "Python has closed its input", truth: unable, python: "closes.py",
			inject: signals(syscall.SIGUSR1),
		},
		{
			name: "python-stdout-closed", title: "Python has closed its output", truth: unable, python: "closes.py",
			inject: signals(syscall.SIGUSR2),
		},
		{
			name: "python-all-failing", title: "Every task fails, with `max_consecutive_failures: 3`", truth: unable,
			env:    []string{"RUNQY_PYTHON_MAX_CONSECUTIVE_FAILURES=3"},
			inject: switches("fail"), feed: 250 * time.Millisecond, peers: everybody(),
		},
		{
			name: "python-never-ready", title: "Python does not get ready", truth: unable, never: true, env: []string{"HEALTH_BENCH_LOAD=3600"},
		},
		{
			name: "python-missing", title: "Python cannot be started", truth: unable, never: true, env: []string{"RUNQY_PYTHON_COMMAND=/nonexistent/python3 tasks.py"},
		},
	}
}

// limited returns a step of a case: a task with a time limit of 3 s.
func limited(name string, payload map[string]any) func(context.Context, *bed) error {
	return func(ctx context.Context, d *bed) error {
		return d.run(ctx, task{name: name, payload: payload, limit: 3 * time.Second})
	}
}

// checks are a process that says of itself that it cannot work.
func checks() []fault {
	env := []string{"HEALTH_BENCH_CHECK=1", "RUNQY_PYTHON_CHECK_INTERVAL=1s", "RUNQY_PYTHON_CHECK_TIMEOUT=2s"}
	env = env[:len(env):len(env)]
	return []fault{
		{
			name: "check-fails", title: "`@health` fails", truth: unable, quick: true, env: append(env, "RUNQY_PYTHON_CHECK_FAILURES=100"),
			inject: switches("check fails"), lift: switches("passes"),
		},
		{
			name: "check-hangs", title: "`@health` does not return", truth: unable, env: env, inject: switches("check hangs"),
		},
		{
			name: "check-flaps", title: "`@health` fails now and then", truth: able, blinks: true, env: append(env, "RUNQY_PYTHON_CHECK_FAILURES=10"),
			inject: switches("check flaps"), watch: 20 * time.Second, lasts: true,
		},
	}
}

// databases are the database that a worker is configured to need.
func databases() []fault {
	return []fault{
		{
			name: "database-gone", title: "The database refuses connections", truth: unable, prepare: startDatabase, probe: task{name: "needs_database"},
			inject: func(_ context.Context, d *bed) error { d.database.Refuse(); return nil },
			lift:   func(ctx context.Context, d *bed) error { return d.database.Resume(ctx) },
		},
		{
			name: "database-hangs", title: "The database takes connections and does not answer", truth: unable, prepare: startDatabase,
			probe:  task{name: "needs_database"},
			inject: func(_ context.Context, d *bed) error { d.database.Freeze(); return nil },
			lift:   func(_ context.Context, d *bed) error { d.database.Thaw(); return nil },
		},
	}
}
