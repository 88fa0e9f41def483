package config

import (
	"strings"
	"time"
)

// field ties a key to its place in the Config. The type of the place decides
// how a text or a YAML node becomes a value (see decode).
type field struct {
	key    string
	place  func(*Config) any // a pointer
	check  func(*Config) string
	secret secrecy
}

// secrecy says how much of a value may be shown.
type secrecy int

const (
	public   secrecy = iota
	urlText          // credentials in it are masked
	mapTexts         // values whose names speak of secrets are masked
)

// variable is the environment variable of the key.
func (f field) variable() string {
	return "RUNQY_" + strings.ToUpper(strings.ReplaceAll(f.key, ".", "_"))
}

// emptyMeansEmpty tells whether a variable that is set to nothing is a value.
// For a number it can only be a variable that somebody left blank.
func (f field) emptyMeansEmpty() bool {
	return strings.HasPrefix(f.key, "health.") || strings.HasPrefix(f.key, "fleet.client.")
}

// size is the type of places that hold a number of bytes.
type size int64

// fields lists every key, in the order in which they are documented.
func fields() []field {
	return []field{
		{key: "environment", place: func(c *Config) any { return &c.Environment }, check: checkEnvironment},
		{key: "redis.url", place: func(c *Config) any { return &c.Redis.URL }, check: checkRedis, secret: urlText},

		{key: "worker.id", place: func(c *Config) any { return &c.Worker.ID }, check: func(c *Config) string { return checkID(c.Worker.ID) }},
		{key: "worker.queues", place: func(c *Config) any { return &c.Worker.Queues }, check: checkQueues},
		{key: "worker.strict_priority", place: func(c *Config) any { return &c.Worker.StrictPriority }},
		{key: "worker.concurrency", place: func(c *Config) any { return &c.Worker.Concurrency },
			check: func(c *Config) string { return between(c.Worker.Concurrency, 1, 10_000) }},
		{key: "worker.shutdown_timeout", place: func(c *Config) any { return &c.Worker.ShutdownTimeout },
			check: func(c *Config) string { return positive(c.Worker.ShutdownTimeout) }},

		{key: "python.command", place: func(c *Config) any { return &c.Python.Command }, check: checkCommand},
		{key: "python.dir", place: func(c *Config) any { return &c.Python.Dir }, check: checkDir},
		{key: "python.env", place: func(c *Config) any { return &c.Python.Env }, check: checkEnv, secret: mapTexts},
		{key: "python.startup_timeout", place: func(c *Config) any { return &c.Python.StartupTimeout },
			check: func(c *Config) string { return positive(c.Python.StartupTimeout) }},
		{key: "python.stop_timeout", place: func(c *Config) any { return &c.Python.StopTimeout },
			check: func(c *Config) string { return positive(c.Python.StopTimeout) }},
		{key: "python.on_crash", place: func(c *Config) any { return &c.Python.OnCrash }, check: checkOnCrash},
		{key: "python.restart.max", place: func(c *Config) any { return &c.Python.Restart.Max },
			check: func(c *Config) string { return between(c.Python.Restart.Max, 1, 1_000_000) }},
		{key: "python.restart.window", place: func(c *Config) any { return &c.Python.Restart.Window },
			check: func(c *Config) string { return positive(c.Python.Restart.Window) }},
		{key: "python.restart.initial_delay", place: func(c *Config) any { return &c.Python.Restart.InitialDelay },
			check: func(c *Config) string { return positive(c.Python.Restart.InitialDelay) }},
		{key: "python.restart.max_delay", place: func(c *Config) any { return &c.Python.Restart.MaxDelay },
			check: func(c *Config) string { return positive(c.Python.Restart.MaxDelay) }},
		{key: "python.max_task_crashes", place: func(c *Config) any { return &c.Python.MaxTaskCrashes },
			check: func(c *Config) string { return between(c.Python.MaxTaskCrashes, 1, 1_000_000) }},
		{key: "python.max_tasks", place: func(c *Config) any { return &c.Python.MaxTasks },
			check: func(c *Config) string { return between(c.Python.MaxTasks, 0, 1<<40) }},
		{key: "python.max_memory", place: func(c *Config) any { return (*size)(&c.Python.MaxMemory) }, check: checkMaxMemory},
		{key: "python.max_message", place: func(c *Config) any { return (*size)(&c.Python.MaxMessage) }, check: checkMaxMessage},
		{key: "python.stall_timeout", place: func(c *Config) any { return &c.Python.StallTimeout },
			check: func(c *Config) string { return atLeast(c.Python.StallTimeout, 0) }},

		{key: "heartbeat.interval", place: func(c *Config) any { return &c.Heartbeat.Interval },
			check: func(c *Config) string { return atLeast(c.Heartbeat.Interval, 100*time.Millisecond) }},
		{key: "heartbeat.ttl", place: func(c *Config) any { return &c.Heartbeat.TTL },
			check: func(c *Config) string { return positive(c.Heartbeat.TTL) }},

		{key: "results.ttl", place: func(c *Config) any { return &c.Results.TTL },
			check: func(c *Config) string { return atLeast(c.Results.TTL, time.Second) }},
		{key: "results.redis_cli_views", place: func(c *Config) any { return &c.Results.RedisCLIViews }},

		{key: "health.listen", place: func(c *Config) any { return &c.Health.Listen }, check: checkListen},
		{key: "health.advertise", place: func(c *Config) any { return &c.Health.Advertise }, check: checkAdvertise},
		{key: "health.socket", place: func(c *Config) any { return &c.Health.Socket }, check: checkSocket},
		{key: "health.event_loop_block_threshold", place: func(c *Config) any { return &c.Health.EventLoopBlockThreshold },
			check: func(c *Config) string { return atLeast(c.Health.EventLoopBlockThreshold, 100*time.Millisecond) }},
		{key: "health.database_url", place: func(c *Config) any { return &c.Health.DatabaseURL }, check: checkDatabase, secret: urlText},
		{key: "health.web_config", place: func(c *Config) any { return &c.Health.WebConfig }},

		{key: "fleet.enabled", place: func(c *Config) any { return &c.Fleet.Enabled }},
		{key: "fleet.interval", place: func(c *Config) any { return &c.Fleet.Interval },
			check: func(c *Config) string { return atLeast(c.Fleet.Interval, 100*time.Millisecond) }},
		{key: "fleet.ping_timeout", place: func(c *Config) any { return &c.Fleet.PingTimeout },
			check: func(c *Config) string { return positive(c.Fleet.PingTimeout) }},
		{key: "fleet.client.ca_file", place: func(c *Config) any { return &c.Fleet.Client.CAFile }},
		{key: "fleet.client.username", place: func(c *Config) any { return &c.Fleet.Client.Username }},
		{key: "fleet.client.password_file", place: func(c *Config) any { return &c.Fleet.Client.PasswordFile }},

		{key: "dashboard.show_payloads", place: func(c *Config) any { return &c.Dashboard.ShowPayloads }},
	}
}

// relation is a rule about two keys. It is not looked at while either of them
// has a fault of its own.
type relation struct {
	key, other string // the fault is reported at key
	check      func(*Config) string
}

func relations() []relation {
	return []relation{
		{"heartbeat.ttl", "heartbeat.interval", func(c *Config) string {
			if c.Heartbeat.TTL < 2*c.Heartbeat.Interval {
				return "is less than two intervals of " + showDuration(c.Heartbeat.Interval) +
					": one late beat would declare the worker dead; write at least " + showDuration(2*c.Heartbeat.Interval)
			}
			return ""
		}},
		{"python.restart.max_delay", "python.restart.initial_delay", func(c *Config) string {
			if c.Python.Restart.MaxDelay < c.Python.Restart.InitialDelay {
				return "is less than python.restart.initial_delay (" + showDuration(c.Python.Restart.InitialDelay) + ")"
			}
			return ""
		}},
		{"fleet.client.username", "fleet.client.password_file", func(c *Config) string {
			if (c.Fleet.Client.Username == "") != (c.Fleet.Client.PasswordFile == "") {
				return "belongs together with fleet.client.password_file: set both or neither"
			}
			return ""
		}},
	}
}
