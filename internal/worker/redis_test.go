package worker

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/runqy/runqy-worker/internal/redistest"
)

func TestARedisThatLosesTasksIsNamed(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		want string // of the line; empty: there is none
	}{
		"nothing is saved": {nil, `msg="redis can lose tasks" eviction_policy=noeviction memory_limit=false persistence=none`},
		"it evicts": {
			[]string{"--appendonly", "yes", "--maxmemory", "1gb", "--maxmemory-policy", "allkeys-lru"},
			`msg="redis can lose tasks" eviction_policy=allkeys-lru memory_limit=true persistence="append-only file"`,
		},
		"it keeps tasks": {[]string{"--appendonly", "yes"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			w := &Worker{client: redistest.Start(t, c.args...).Client, log: slog.New(slog.NewTextHandler(&log, nil))}
			w.warnOfLosses(t.Context())
			if c.want == "" && log.Len() > 0 || !strings.Contains(log.String(), c.want) {
				t.Errorf("the log is %q, want %q", &log, c.want)
			}
		})
	}
}
