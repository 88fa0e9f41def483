package programs

import (
	"context"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/prometheus/procfs"
)

// Machine says where the figures of a bench come from.
type Machine struct {
	CPU      string            `json:"cpu"`
	Cores    int               `json:"cores"`
	Memory   string            `json:"memory"`
	Kernel   string            `json:"kernel"`
	Load     float64           `json:"load"` // of the minute before the start
	Versions map[string]string `json:"versions"`
	Revision string            `json:"revision"`
	Command  string            `json:"command"`
}

// Describe looks at the machine and the versions of all that is looked at. python is the interpreter of the other systems.
func Describe(ctx context.Context, python, command string) Machine {
	m := Machine{
		Cores: runtime.NumCPU(), Command: command, Versions: map[string]string{"Go": strings.TrimPrefix(runtime.Version(), "go")},
	}
	m.Revision, _ = Output(exec.CommandContext(ctx, "git", "describe", "--always", "--dirty"))
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		_, rest, _ := strings.Cut(string(text), "model name")
		name, _, _ := strings.Cut(rest, "\n")
		m.CPU = strings.Trim(name, "\t :")
	}
	if fs, err := procfs.NewDefaultFS(); err == nil {
		if memory, err := fs.Meminfo(); err == nil && memory.MemTotal != nil {
			m.Memory = strconv.FormatUint(*memory.MemTotal>>20, 10) + " GiB"
		}
		if load, err := fs.LoadAvg(); err == nil {
			m.Load = load.Load1
		}
	}
	m.Kernel, _ = Output(exec.CommandContext(ctx, "uname", "-sr"))
	if text, err := Output(exec.CommandContext(ctx, "redis-server", "--version")); err == nil {
		_, rest, _ := strings.Cut(text, "v=")
		m.Versions["Redis"], _, _ = strings.Cut(rest, " ")
	}
	const ask = "import platform,celery,rq,redis;print(platform.python_version(),celery.__version__,rq.VERSION,redis.__version__)"
	if text, err := Output(exec.CommandContext(ctx, python, "-c", ask)); err == nil {
		for i, name := range []string{"Python", "Celery", "RQ", "redis-py"} {
			if fields := strings.Fields(text); i < len(fields) {
				m.Versions[name] = fields[i]
			}
		}
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, module := range info.Deps {
			if module.Path == "github.com/hibiken/asynq" {
				m.Versions["asynq"] = strings.TrimPrefix(module.Version, "v")
			}
		}
	}
	return m
}
