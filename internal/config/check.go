package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/runqy/runqy-worker/internal/redisclient"
)

// MaxQueueWeight bounds a queue's weight: asynq keeps a list as long as the sum of all weights.
const MaxQueueWeight = 1000

// maxName bounds the length in bytes of the name of a queue or a worker.
const maxName = 128

// reservedQueues would collide with keys of asynq or of the worker once the view asynq:<queue>:pending is written.
var reservedQueues = []string{"t", "result", "workers", "queues", "servers", "schedulers", "scheduler_history"}

var idPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// CheckQueueName returns why a name cannot be that of a queue, or nil.
func CheckQueueName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("a queue's name is empty")
	case len(name) > maxName:
		return fmt.Errorf("queue name %s is longer than %d bytes", quote(name), maxName)
	case slices.Contains(reservedQueues, name):
		return fmt.Errorf("queue name %q is reserved: its keys would collide with others in Redis (so would %s)",
			name, strings.Join(slices.DeleteFunc(slices.Clone(reservedQueues), func(r string) bool { return r == name }), ", "))
	case strings.ContainsAny(name, "{}:,"):
		return fmt.Errorf("queue name %s has a brace, a colon or a comma: use letters, digits, dots, _ and -", quote(name))
	case strings.ContainsFunc(name, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }):
		return fmt.Errorf("queue name %s has white space or control characters: use letters, digits, dots, _ and -", quote(name))
	}
	return nil
}

func checkQueues(c *Config) string {
	if len(c.Worker.Queues) == 0 {
		return "names no queue: write {name: weight} or a list of names"
	}
	return "" // names and weights are checked where they are read, with their line
}

func checkWeight(name string, weight int) string {
	if weight < 1 || weight > MaxQueueWeight {
		return fmt.Sprintf("weight %d of queue %s is not from 1 to %d", weight, name, MaxQueueWeight)
	}
	return ""
}

func checkID(c *Config) string {
	if id := c.Worker.ID; len(id) > maxName || !idPattern.MatchString(id) {
		return fmt.Sprintf("is not a worker id: use letters, digits, . _ and -, at most %d, a letter or digit first", maxName)
	}
	return ""
}

func checkEnvironment(c *Config) string {
	if c.Environment == "" || len(c.Environment) > maxName || strings.ContainsFunc(c.Environment, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return "is not a name: write development, staging, production, …"
	}
	return ""
}

func checkStackSignal(c *Config) string {
	text := c.Python.StackSignal
	n, err := strconv.Atoi(text)
	if text == "auto" || err == nil && (n == 0 || n >= firstSignal && n <= lastSignal) {
		return ""
	}
	return fmt.Sprintf("is neither auto, nor 0, nor a real-time signal's number from %d to %d", firstSignal, lastSignal)
}

func checkRedis(c *Config) string {
	if _, err := redisclient.Parse(c.Redis.URL); err != nil {
		return "is not a Redis URL: " + err.Error()
	}
	return ""
}

func checkCommand(c *Config) string {
	if len(c.Python.Command) == 0 || c.Python.Command[0] == "" {
		return "names no program: write [python3, main.py]"
	}
	if slices.ContainsFunc(c.Python.Command, func(s string) bool { return strings.ContainsRune(s, 0) }) {
		return "has a NUL byte, which no argument can carry"
	}
	return ""
}

func checkDir(c *Config) string {
	if c.Python.Dir == "" || strings.ContainsRune(c.Python.Dir, 0) {
		return "is not a directory: write . for the current one"
	}
	return ""
}

var errNoDirectory = errors.New("is not a directory")

// checkDirExists checks the directory in which the process will be started. One that cannot be read is left to the
// start of the process, whose error says why.
func checkDirExists(dir string) error {
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
		return errNoDirectory
	}
	return nil
}

func checkEnv(c *Config) string {
	for name, value := range c.Python.Env {
		if name == "" || strings.ContainsAny(name, "=\x00") {
			return fmt.Sprintf("%s is not the name of a variable", quote(name))
		}
		if strings.ContainsRune(value, 0) {
			return fmt.Sprintf("the value of %s has a NUL byte, which no variable can carry", name)
		}
	}
	return ""
}

func checkOnCrash(c *Config) string {
	if !slices.Contains([]string{"degrade", "restart", "exit"}, c.Python.OnCrash) {
		return "is none of degrade, restart, exit"
	}
	return ""
}

func checkMaxMemory(c *Config) string {
	if n := c.Python.MaxMemory; n < 0 || (n > 0 && n < 1<<20) {
		return "is less than 1MiB, which no Python fits in: write 2GiB, or 0 for no limit"
	}
	return ""
}

func checkMaxMessage(c *Config) string {
	if n := c.Python.MaxMessage; n < 1<<10 || n > 2<<30 {
		return "is not from 1KiB to 2GiB"
	}
	return ""
}

func checkListen(c *Config) string {
	if c.Health.Listen == "" {
		return ""
	}
	if _, err := splitAddress(c.Health.Listen); err != nil {
		return err.Error() + `: write ":8001", "127.0.0.1:8001", or "" for no HTTP server`
	}
	return ""
}

func checkAdvertise(c *Config) string {
	if c.Health.Advertise == "" {
		return ""
	}
	port, err := splitAddress(c.Health.Advertise)
	if err == nil && (port == 0 || strings.HasPrefix(c.Health.Advertise, ":")) {
		err = fmt.Errorf("does not name a host and a port")
	}
	if err != nil {
		return err.Error() + `: write the host:port that others reach this worker at`
	}
	return ""
}

// splitAddress returns the port of host:port; the host may be empty.
func splitAddress(address string) (port int, err error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil || strings.ContainsAny(host, " \t/@") {
		return 0, fmt.Errorf("is not host:port")
	}
	port, err = strconv.Atoi(text)
	if err != nil || port < 0 || port > 65535 {
		return 0, fmt.Errorf("has no port from 0 to 65535")
	}
	return port, nil
}

func checkSocket(c *Config) string {
	if len(c.Health.Socket) > maxSocketPath {
		return fmt.Sprintf("is longer than the %d bytes that the path of a socket can have", maxSocketPath)
	}
	if strings.ContainsRune(c.Health.Socket, 0) {
		return "has a NUL byte"
	}
	return ""
}

func checkDatabase(c *Config) string {
	u := c.Health.DatabaseURL
	if u == "" || strings.HasPrefix(u, "postgres://") || strings.HasPrefix(u, "postgresql://") {
		return ""
	}
	return "is not a PostgreSQL URL: write postgres://user:password@host:5432/name"
}
