package listing

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/runqy/runqy-worker/heartbeat"
	"github.com/runqy/runqy-worker/internal/fleet"
	"github.com/runqy/runqy-worker/internal/status"
)

func workers() []fleet.Worker {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return []fleet.Worker{
		{State: status.Busy, Worker: heartbeat.Worker{ID: "w1", Alive: true, TTL: 13 * time.Second, Age: 2 * time.Second, Expiry: start, Beat: heartbeat.Beat{
			Started: start, LastBeat: start.Add(90 * time.Second), Healthy: true, Status: "running", State: "FREE", Queues: []string{"a", "b"},
			ActiveTasks: []string{"t1"}, Concurrency: 4, Processed: 10, Failed: 2, TTL: 15 * time.Second, Address: "h:8001",
		}}},
		{State: status.Busy, Reason: "exit \x1b[31m", Worker: heartbeat.Worker{
			ID: "worker-long-name", Alive: true, Err: errors.New("field pid"), Beat: heartbeat.Beat{Status: "degraded", Reason: status.Reason{Summary: "exit \x1b[31m", Stderr: []string{"9"}}},
		}},
		{State: status.Dead, Cause: fleet.CauseRefused, Reason: "connection refused", Worker: heartbeat.Worker{
			ID: "w2", Alive: true, Beat: heartbeat.Beat{Status: "running", Healthy: true, Address: "h:1"},
		}},
		{State: status.Dead, Cause: fleet.CauseHeartbeatExpired, Reason: "no heartbeat since 2026-01-02T03:04:05Z", Worker: heartbeat.Worker{ID: "w3", Expiry: start}},
	}
}

func TestTable(t *testing.T) {
	var b bytes.Buffer
	if err := Table(&b, workers(), false); err != nil {
		t.Fatal(err)
	}
	want := `
WORKER            HEALTHY  STATUS    STATE  QUEUES  TASKS  PROCESSED  FAILED  CRASHES  UP     BEAT      ADDRESS  REASON
w1                true     running   BUSY   a,b     1/4    10         2       0        1m30s  2.0s ago  h:8001   
worker-long-name  false    degraded  BUSY           0/0    0          0       0        -      -         -        exit ?[31m; field pid
w2                true     running   DEAD           0/0    0          0       0        -      -         h:1      refused: connection refused
w3                -        gone      DEAD   -       -      -          -       -        -      -         -        no heartbeat since 2026-01-02T03:04:05Z
`
	if got := b.String(); got != want[1:] {
		t.Errorf("the table is:\n%s\nwant:%s", got, want)
	}
}

func TestColourDoesNotChangeTheText(t *testing.T) {
	var plain, coloured bytes.Buffer
	if err := errors.Join(Table(&plain, workers(), false), Table(&coloured, workers(), true)); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(coloured.String(), "\x1b[31m") {
		t.Error("an unhealthy worker is not red")
	}
	stripped := coloured.String()
	for _, code := range []string{"\x1b[31m", "\x1b[2m", "\x1b[0m", "\x1b[22m"} {
		stripped = strings.ReplaceAll(stripped, code, "")
	}
	if stripped != plain.String() {
		t.Errorf("without its colours the table is:\n%q\nwant:\n%q", stripped, plain.String())
	}
}

func TestJSON(t *testing.T) {
	var b bytes.Buffer
	if err := JSON(&b, workers()); err != nil {
		t.Fatal(err)
	}
	var got []map[string]any
	if err := json.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if len(got) != 4 || got[0]["healthy"] != true || got[0]["age_seconds"] != 2.0 || got[3]["status"] != "gone" || got[3]["alive"] != false ||
		got[1]["error"] != "field pid" || got[3]["started"] != nil || got[0]["state"] != "BUSY" || got[2]["state"] != "DEAD" || got[2]["cause"] != "refused" {
		t.Errorf("the list is %v, want the four workers with their states, causes and errors", got)
	}
	b.Reset()
	if err := JSON(&b, nil); err != nil || b.String() != "[]\n" {
		t.Errorf("JSON of no workers = %q, %v; want []", b.String(), err)
	}
}
