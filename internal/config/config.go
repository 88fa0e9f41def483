// Package config loads the worker's configuration from a YAML file, the environment and flags, and lists every fault of
// all three at once.
//
// Flags beat environment, environment beats file, file beats defaults. Every key a.b.c is also the variable
// RUNQY_A_B_C. The values of the file may contain ${VAR} and ${VAR:-default}; $$ is a plain dollar sign.
package config

import (
	"crypto/rand"
	"encoding/hex"
	"strconv"
	"time"
)

// Config is a complete, valid configuration. Load makes it; it never changes afterwards and may be read from any
// goroutine.
type Config struct {
	Environment string
	Redis       Redis
	Worker      Worker
	Python      Python
	Heartbeat   Heartbeat
	Results     Results
	Health      Health
	Fleet       Fleet
	Dashboard   Dashboard

	origins    map[string]Origin // by key; a key that is not there has its default
	runtimeDir string            // where SocketPath puts the socket
}

// Redis is the server that holds the queues.
type Redis struct {
	URL string // as redisclient.Parse reads it; carries the password
}

// Worker is what this process does.
type Worker struct {
	ID             string
	IDSet          bool           // the id was configured, not made up
	Queues         map[string]int // weight by name, 1 to MaxQueueWeight
	StrictPriority bool
	Concurrency    int // tasks in flight to the Python process
	MaxRecoveries  int // archive a task that lost its worker this often; 0: never

	ShutdownTimeout time.Duration
}

// Python is the supervised process.
type Python struct {
	Command        []string // argv, at least the program
	Dir            string
	Env            map[string]string // added to the environment
	StartupTimeout time.Duration
	StopTimeout    time.Duration
	OnCrash        string // degrade, restart or exit
	Restart        Restart
	MaxTaskCrashes int           // archive a task that crashed the process this often
	MaxTasks       int           // recycle after so many tasks; 0: never
	MaxMemory      int64         // recycle above so many resident bytes; 0: never
	MaxMessage     int64         // bytes of one protocol line
	StallTimeout   time.Duration // stalled this long is a crash; 0: never
	CheckInterval  time.Duration // how often the SDK's @health function is asked while idle
	CheckTimeout   time.Duration // its answer takes this long at most
	CheckFailures  int           // so many in a row are a crash
	ReplaceTimeout time.Duration // how long a planned replacement waits for running tasks
	StackSignal    string        // see StackSignalNumber

	MaxConsecutiveFailures int // replace the process after so many failed attempts without a success; 0: never
}

// The real-time signals that a process may use: the C libraries keep those below for themselves.
const (
	firstSignal = 35
	lastSignal  = 64
	// autoSignal is python.stack_signal: auto. Runtimes and tools that use real-time signals take those at either end.
	autoSignal = 50
)

// StackSignalNumber is the signal that asks the process for its stacks; 0: none does.
func (p Python) StackSignalNumber() int {
	if p.StackSignal == "auto" {
		return autoSignal
	}
	n, _ := strconv.Atoi(p.StackSignal) // it was checked
	return n
}

// Restart bounds the restarts under on_crash: restart.
type Restart struct {
	Max          int // within Window
	Window       time.Duration
	InitialDelay time.Duration
	MaxDelay     time.Duration
}

// Heartbeat says how often the worker's hash in Redis is written, and how long it stays.
type Heartbeat struct {
	Interval, TTL time.Duration
}

// Results is what is kept in Redis for readers.
type Results struct {
	TTL           time.Duration
	RedisCLIViews bool
}

// Health is the HTTP server and what it checks.
type Health struct {
	Listen                  string // host:port; empty: no HTTP server
	Advertise               string // host:port; empty: derived from Listen
	Socket                  string // see SocketPath
	EventLoopBlockThreshold time.Duration
	TaskIdleWarning         time.Duration // a running task without CPU time and progress for so long is marked; 0: never
	ConsumeTimeout          time.Duration
	DatabaseURL             string // carries the password
	WebConfig               string // a file of prometheus/exporter-toolkit
}

// Fleet is the health checker of all workers.
type Fleet struct {
	Enabled               bool
	Interval, PingTimeout time.Duration
	Client                FleetClient
}

// Dashboard is the page at / of the HTTP server.
type Dashboard struct {
	ShowPayloads bool // to visitors who may see what tasks carry
}

// FleetClient is how the leader reaches workers behind TLS and passwords.
type FleetClient struct {
	CAFile, Username, PasswordFile string
}

// Default returns the configuration of a worker that is told nothing, with a fresh random worker id.
func Default() *Config {
	return &Config{
		Environment: "development",
		Redis:       Redis{URL: "redis://localhost:6379/0"},
		Worker: Worker{
			ID:              randomID(),
			Queues:          map[string]int{"inference_default": 1},
			Concurrency:     1,
			MaxRecoveries:   10,
			ShutdownTimeout: 30 * time.Second,
		},
		Python: Python{
			Command:        []string{"python3", "main.py"},
			Dir:            ".",
			Env:            map[string]string{},
			StartupTimeout: time.Minute,
			StopTimeout:    10 * time.Second,
			OnCrash:        "degrade",
			Restart:        Restart{Max: 5, Window: 10 * time.Minute, InitialDelay: time.Second, MaxDelay: 5 * time.Minute},
			MaxTaskCrashes: 3,
			MaxMessage:     64 << 20,
			StallTimeout:   5 * time.Minute,
			StackSignal:    "auto",
			CheckInterval:  30 * time.Second,
			CheckTimeout:   5 * time.Second,
			CheckFailures:  3,
			ReplaceTimeout: 10 * time.Minute,
		},
		Heartbeat: Heartbeat{Interval: 5 * time.Second, TTL: 15 * time.Second},
		Results:   Results{TTL: 24 * time.Hour, RedisCLIViews: true},
		Health: Health{Listen: defaultListen, EventLoopBlockThreshold: 5 * time.Second, TaskIdleWarning: 5 * time.Minute,
			ConsumeTimeout: 10 * time.Second},
		Fleet: Fleet{Enabled: true, Interval: 5 * time.Second, PingTimeout: 3 * time.Second},
	}
}

const defaultListen = ":8001"

func randomID() string {
	var b [3]byte
	_, _ = rand.Read(b[:]) // never fails
	return "worker-" + hex.EncodeToString(b[:])
}
