package config

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// field ties a key to its place in the Config, and to the words that describe it in docs/configuration.md. The type of
// the place decides how a text or a YAML node becomes a value (see decode).
type field struct {
	key      string
	place    func(*Config) any // a pointer
	limit    limit             // what the key accepts beyond its type
	secret   secrecy
	fallback string // the words for a default that is no fixed value
	doc      string // one or two sentences in Markdown
}

// secrecy says how much of a value may be shown.
type secrecy int

const (
	public   secrecy = iota
	urlText          // credentials in it are masked
	mapTexts         // values whose names are those of secrets are masked
)

// variable is the environment variable of the key.
func (f field) variable() string {
	return "RUNQY_" + strings.ToUpper(strings.ReplaceAll(f.key, ".", "_"))
}

// variables are all environment variables of the key, the one that is named after it first.
func (f field) variables() []string {
	names := []string{f.variable()}
	for _, s := range synonyms {
		if s.key == f.key {
			names = append(names, s.variable)
		}
	}
	if f.key == listenKey {
		names = append(names, healthEnabled, healthPort)
	}
	return names
}

// emptyMeansEmpty reports whether a variable that is set to nothing is a value. For a number it can only be a variable
// that somebody left blank.
func (f field) emptyMeansEmpty() bool {
	return strings.HasPrefix(f.key, "health.") || strings.HasPrefix(f.key, "fleet.client.")
}

// size is the type of places that hold a number of bytes.
type size int64

// fields lists every key, in the order in which they are documented.
func fields() []field {
	return slices.Concat(
		environmentFields(), workerFields(), pythonFields(), restartFields(), recycleFields(), checkFields(),
		heartbeatFields(), resultsFields(), healthFields(), fleetFields(), dashboardFields(),
	)
}

func environmentFields() []field {
	return []field{
		{key: "environment", place: func(c *Config) any { return &c.Environment }, limit: rule("a name of at most 128 bytes", checkEnvironment),
			doc: "A name for the deployment, for example `production`. The heartbeat, health answers and metrics show it."},
		{key: "redis.url", place: func(c *Config) any { return &c.Redis.URL }, secret: urlText,
			limit: rule("a URL with `redis://`, `rediss://`, `redis-socket://`, `redis-sentinel://`, `redis-cluster://` or `embedded://`", checkRedis),
			doc:   "The Redis that holds the queues. [operations.md](operations.md#redis) shows each form and its options."},
	}
}

func workerFields() []field {
	return []field{
		{key: "worker.id", place: func(c *Config) any { return &c.Worker.ID },
			limit:    rule("letters, digits, `.`, `_` and `-`, at most 128; a letter or digit first", checkID),
			fallback: "`worker-<6 hex digits>`, new at each start",
			doc:      "The name of this worker. A second live worker with the same id refuses to start."},
		{key: "worker.queues", place: func(c *Config) any { return &c.Worker.Queues }, limit: rule("weights from 1 to 1000", checkQueues),
			doc: "The queues to serve, with their weights. A plain list of names means equal weights."},
		{key: "worker.strict_priority", place: func(c *Config) any { return &c.Worker.StrictPriority },
			doc: "Take tasks from a queue only while all queues of greater weight are empty."},
		{key: "worker.concurrency", place: func(c *Config) any { return &c.Worker.Concurrency }, limit: between(1, 10_000),
			doc: "The most tasks that the Python process is given at once. Synchronous handlers still run one at a time, and no more tasks wait " +
				"for them in the process than will [begin soon](operations.md#how-many-at-once)."},
		{key: "worker.max_recoveries", place: func(c *Config) any { return &c.Worker.MaxRecoveries }, limit: between(0, 1_000_000),
			doc: "A task whose worker vanished this often while it had the task is archived. 0: never."},
		{key: "worker.shutdown_timeout", place: func(c *Config) any { return &c.Worker.ShutdownTimeout }, limit: positive(),
			doc: "How long running tasks may take to end after SIGTERM. After it they are stopped and go back to pending."},
	}
}

func pythonFields() []field {
	return []field{
		{key: "python.command", place: func(c *Config) any { return &c.Python.Command }, limit: rule("at least the program", checkCommand),
			doc: "The program and its arguments. A text is split as a shell splits words. It runs in `python.dir`."},
		{key: "python.dir", place: func(c *Config) any { return &c.Python.Dir }, limit: rule("a directory that exists", checkDir),
			doc: "The working directory of the Python process."},
		{key: "python.env", place: func(c *Config) any { return &c.Python.Env }, limit: rule("names without `=`", checkEnv), secret: mapTexts,
			doc: "Variables that are added to the environment of the Python process."},
		{key: "python.startup_timeout", place: func(c *Config) any { return &c.Python.StartupTimeout }, limit: positive(),
			doc: "How long the Python process may take from its start to its ready message."},
		{key: "python.stop_timeout", place: func(c *Config) any { return &c.Python.StopTimeout }, limit: positive(),
			doc: "How long the Python process may take to end, and a cancelled task to react, before the process is killed."},
	}
}

func restartFields() []field {
	return []field{
		{key: "python.on_crash", place: func(c *Config) any { return &c.Python.OnCrash }, limit: rule("`degrade`, `restart` or `exit`", checkOnCrash),
			doc: "What follows a crash of the Python process. `degrade`: wait for `runqy-worker restart`. `restart`: start it again. " +
				"`exit`: end the worker with exit code 70, also where it would be degraded."},
		{key: "python.restart.max", place: func(c *Config) any { return &c.Python.Restart.Max }, limit: between(1, 1_000_000),
			doc: "How many restarts within the window `on_crash: restart` allows. After them the worker is degraded. So many times is a process also " +
				"replaced that says it is broken, or whose tasks all fail (`max_consecutive_failures`); under `on_crash: degrade` once. What follows then is the same, under `on_crash: exit` the end with code 70."},
		{key: "python.restart.window", place: func(c *Config) any { return &c.Python.Restart.Window }, limit: positive(),
			doc: "How long a crash counts for `python.restart.max`."},
		{key: "python.restart.initial_delay", place: func(c *Config) any { return &c.Python.Restart.InitialDelay }, limit: positive(),
			doc: "The wait before the first restart. It doubles with each further one."},
		{key: "python.restart.max_delay", place: func(c *Config) any { return &c.Python.Restart.MaxDelay },
			limit: positive().also("at least `python.restart.initial_delay`"),
			doc:   "The longest wait before a restart."},
	}
}

func recycleFields() []field {
	return []field{
		{key: "python.max_task_crashes", place: func(c *Config) any { return &c.Python.MaxTaskCrashes }, limit: between(1, 1_000_000),
			doc: "A task that crashed the Python process this often, while no other ran, is archived. One that ran beside others in so many " +
				"crashes [runs alone](operations.md#who-is-charged) from then on."},
		{key: "python.max_tasks", place: func(c *Config) any { return &c.Python.MaxTasks }, limit: between(0, 1<<40),
			doc: "Replace the Python process after so many tasks. 0: never."},
		{key: "python.max_memory", place: func(c *Config) any { return (*size)(&c.Python.MaxMemory) }, limit: rule("0, or at least 1MiB", checkMaxMemory),
			doc: "Replace the Python process when its resident memory exceeds this size, for example `2GiB`. 0: never."},
		{key: "python.max_message", place: func(c *Config) any { return (*size)(&c.Python.MaxMessage) }, limit: rule("1KiB to 2GiB", checkMaxMessage),
			doc: "The longest line of the protocol. A task or a result that is longer fails."},
		{key: "python.stall_timeout", place: func(c *Config) any { return &c.Python.StallTimeout }, limit: atLeast(0),
			doc: "A Python process that is stalled for this long counts as crashed. 0: never."},
		{key: "python.stack_signal", place: func(c *Config) any { return &c.Python.StackSignal },
			limit: rule(fmt.Sprintf("`auto`, `0`, or %d to %d", firstSignal, lastSignal), checkStackSignal),
			doc: fmt.Sprintf("The real-time signal that asks a hung Python process [where it is](troubleshooting.md#a-task-hangs). `auto`: %d. "+
				"0: none, and only a process in which some thread still runs can say it.", autoSignal)},
	}
}

func checkFields() []field {
	return []field{
		{key: "python.check_interval", place: func(c *Config) any { return &c.Python.CheckInterval }, limit: positive(),
			doc: "How often the Python process is asked, while it has nothing to do, whether it can do its work " +
				"([`@health`](python.md#health)). After a failed task it is asked at most this often too."},
		{key: "python.check_timeout", place: func(c *Config) any { return &c.Python.CheckTimeout }, limit: positive(),
			doc: "How long the `@health` function may take. One that takes longer has failed."},
		{key: "python.check_failures", place: func(c *Config) any { return &c.Python.CheckFailures }, limit: between(1, 1_000_000),
			doc: "So many failures of the `@health` function in a row count as a crash. The worker is unhealthy from the first on."},
		{key: "python.max_consecutive_failures", place: func(c *Config) any { return &c.Python.MaxConsecutiveFailures },
			limit: between(0, 1_000_000_000),
			doc: "Replace the Python process after so many failed attempts without a success between them; `Permanent` and a " +
				"`Retry` with a delay do not count. It counts for " +
				"`python.restart.max` as a crash does. 0: never."},
		{key: "python.replace_timeout", place: func(c *Config) any { return &c.Python.ReplaceTimeout }, limit: positive(),
			doc: "How long a planned replacement of the Python process waits for running tasks. Those that have not ended by then go back " +
				"to their queue, their retry count unchanged; before `max_tasks` and `max_memory` that is a failed attempt."},
	}
}

func heartbeatFields() []field {
	return []field{
		{key: "heartbeat.interval", place: func(c *Config) any { return &c.Heartbeat.Interval }, limit: atLeast(100 * time.Millisecond),
			doc: "How often the heartbeat is written. A change of health is written at once."},
		{key: "heartbeat.ttl", place: func(c *Config) any { return &c.Heartbeat.TTL },
			limit: positive().also("at least two intervals"),
			doc:   "How long the heartbeat stays in Redis after the last write. When it has expired, the worker counts as gone."},
	}
}

func resultsFields() []field {
	return []field{
		{key: "results.ttl", place: func(c *Config) any { return &c.Results.TTL }, limit: atLeast(time.Second),
			doc: "How long results and readable task hashes stay in Redis."},
		{key: "results.redis_cli_views", place: func(c *Config) any { return &c.Results.RedisCLIViews },
			doc: "Keep the readable hashes of tasks, `asynq:t:<id>`, and the readable copies of the queues' lists, `asynq:<queue>:pending` and " +
				"`asynq:<queue>:active`. Results are kept in any case. " +
				"[operations.md](operations.md#redis) lists these keys."},
	}
}

func healthFields() []field {
	return []field{
		{key: listenKey, place: func(c *Config) any { return &c.Health.Listen }, limit: rule("`host:port`, `:port` or empty", checkListen),
			doc: "The address of the HTTP server. Empty: no server. Port 0 takes a free port, which is logged. " +
				"`" + healthEnabled + "=false` turns the server off, and `" + healthPort + "` changes the port alone."},
		{key: "health.advertise", place: func(c *Config) any { return &c.Health.Advertise }, limit: rule("`host:port` or empty", checkAdvertise),
			fallback: "derived from `health.listen`",
			doc:      "The host and the port at which other workers reach this one."},
		{key: "health.socket", place: func(c *Config) any { return &c.Health.Socket }, limit: rule("a path of at most 103 bytes", checkSocket),
			fallback: "a file in the run-time directory",
			doc: "The unix socket through which `runqy-worker healthcheck` asks the worker. The run-time directory is `$RUNTIME_DIRECTORY`, " +
				"else `$XDG_RUNTIME_DIR`, else `/run/runqy-worker` where it can be written, else one in the temporary directory."},
		{key: "health.event_loop_block_threshold", place: func(c *Config) any { return &c.Health.EventLoopBlockThreshold },
			limit: atLeast(100 * time.Millisecond),
			doc: "A Python process that is silent, or whose event loop is blocked, for longer than this is stalled. " +
				"The variable that ends in `_SECONDS` also takes a plain number of seconds."},
		{key: "health.task_idle_warning", place: func(c *Config) any { return &c.Health.TaskIdleWarning }, limit: atLeast(0),
			doc: "A task that has run for this long without CPU time of its process and without progress is " +
				"[marked](operations.md#idle-tasks), and goes on. 0: never."},
		{key: "health.consume_timeout", place: func(c *Config) any { return &c.Health.ConsumeTimeout }, limit: atLeast(time.Second),
			doc: "While tasks wait and a slot is free for longer than this, and none could be taken, the worker is not healthy. It goes on to " +
				"try, one task at a time."},
		{key: "health.database_url", place: func(c *Config) any { return &c.Health.DatabaseURL }, secret: urlText,
			limit: rule("a URL with `postgres://` or `postgresql://`", checkDatabase),
			doc:   "A PostgreSQL database that the tasks need. It is checked with `SELECT 1`; while it does not answer, no task is taken."},
		{key: "health.web_config", place: func(c *Config) any { return &c.Health.WebConfig },
			limit: limit{text: "a file that exists"},
			doc: "TLS and passwords for the HTTP server: an " +
				"[exporter-toolkit file](https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md). " +
				"[operations.md](operations.md#a-password-on-the-port) has an example."},
	}
}

func fleetFields() []field {
	return []field{
		{key: "fleet.enabled", place: func(c *Config) any { return &c.Fleet.Enabled },
			doc: "Take part in the election of the leader, which checks the health of all workers."},
		{key: "fleet.interval", place: func(c *Config) any { return &c.Fleet.Interval }, limit: atLeast(100 * time.Millisecond),
			doc: "How often the leader pings every worker."},
		{key: "fleet.ping_timeout", place: func(c *Config) any { return &c.Fleet.PingTimeout }, limit: positive(),
			doc: "How long a worker may take to answer a ping."},
		{key: "fleet.client.ca_file", place: func(c *Config) any { return &c.Fleet.Client.CAFile },
			limit: limit{text: "a PEM file that exists"},
			doc: "The certificates of the authority that signed the workers' certificates. When it is set, pings use TLS " +
				"([more](operations.md#remote-procedures))."},
		{key: "fleet.client.username", place: func(c *Config) any { return &c.Fleet.Client.Username },
			limit: limit{text: "together with `fleet.client.password_file`"},
			doc:   "The user name that pings send, for workers whose `health.web_config` asks for one."},
		{key: "fleet.client.password_file", place: func(c *Config) any { return &c.Fleet.Client.PasswordFile },
			limit: limit{text: "a file that exists, together with `fleet.client.username`"},
			doc:   "The file that holds the password for pings."},
	}
}

func dashboardFields() []field {
	return []field{
		{key: "dashboard.show_payloads", place: func(c *Config) any { return &c.Dashboard.ShowPayloads },
			doc: "The dashboard shows the payloads of tasks to visitors who may see what tasks carry " +
				"([who that is](operations.md#security))."},
	}
}
