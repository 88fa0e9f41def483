package listing

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/runqy/runqy-worker/client"
)

func workers() []client.Worker {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return []client.Worker{
		{
			ID: "w1", State: client.Busy, Alive: true, Healthy: true, Status: client.StatusRunning,
			Started: start, LastBeat: start.Add(90 * time.Second), TTL: 13 * time.Second, Age: 2 * time.Second, Expiry: start,
			Interval: 5 * time.Second, Queues: []string{"a", "b"}, ActiveTasks: []string{"t1"}, Concurrency: 4, Processed: 10, Failed: 2,
			Address: "h:8001",
		},
		{
			ID: "worker-long-name", State: client.Busy, Reason: "exit \x1b[31m", Alive: true, Status: client.StatusDegraded,
			HealthReason: "exit \x1b[31m", Stderr: []string{"9"}, Err: errors.New("field pid"),
		},
		{
			ID: "w2", State: client.Dead, Cause: client.CauseRefused, Reason: "connection refused", Alive: true,
			Status: client.StatusRunning, Address: "h:1",
		},
		{
			ID: "w3", State: client.Dead, Cause: client.CauseHeartbeatExpired, Reason: "its heartbeat expired at 2026-01-02T03:04:05Z",
			Expiry: start,
		},
		{
			ID: "w4", State: client.Dead, Cause: client.CauseRefused, Reason: "connection refused", Queues: []string{"a"},
			Died: &client.Death{At: start, Age: 200 * time.Second, Cause: client.CauseRefused, Reason: "connection refused", Tasks: 2},
		},
		{
			ID: "w5", State: client.Free, Alive: true, Healthy: true, Status: client.StatusRunning,
			Died: &client.Death{At: start, Age: time.Minute, Cause: client.CauseProcessGone, Reason: "no \x1b[2J process\nat all", Tasks: 1, Earlier: true},
		},
		{
			ID: "w6", State: client.Dead, Cause: client.CauseHeartbeatExpired, Reason: "no heartbeat",
			Died: &client.Death{At: start, Age: time.Minute, Cause: client.CauseProcessGone, Reason: "gone", Earlier: true},
		},
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
w2                false    running   DEAD           0/0    0          0       0        -      -         h:1      refused: connection refused
w3                false    gone      DEAD   -       -      -          -       -        -      -         -        its heartbeat expired at 2026-01-02T03:04:05Z
w4                false    gone      DEAD   a       -      -          -       -        -      -         -        refused: connection refused; died 3m20s ago, 2 tasks went back
w5                true     running   FREE           0/0    0          0       0        -      -         -        an earlier process of this id died 1m0s ago (process_gone: no ?[2J process), 1 task went back
w6                false    gone      DEAD   -       -      -          -       -        -      -         -        no heartbeat; an earlier process of this id died 1m0s ago (process_gone: gone), no task is known to have gone back
`
	if got := b.String(); got != want[1:] {
		t.Errorf("got:\n%s\nwant:%s", got, want)
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
		t.Errorf("got:\n%q\nwant:\n%q", stripped, plain.String())
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
	died, _ := got[4]["died"].(map[string]any)
	if died["age_seconds"] != 200.0 || died["tasks"] != 2.0 || died["cause"] != "refused" || died["at"] != "2026-01-02T03:04:05Z" || got[4]["expiry"] != nil ||
		got[4]["healthy"] != false || got[0]["died"] != nil {
		t.Errorf("who died is %v as JSON", got[4])
	}
	if now, _ := got[5]["died"].(map[string]any); died["earlier"] != false || now["earlier"] != true {
		t.Errorf("died %v and %v, want only the second to be an earlier process", died, now)
	}
	if len(got) != 7 || got[0]["healthy"] != true || got[0]["age_seconds"] != 2.0 || got[3]["status"] != "gone" || got[3]["alive"] != false ||
		got[1]["error"] != "field pid" || got[3]["started"] != nil || got[0]["state"] != "BUSY" || got[2]["state"] != "DEAD" || got[2]["cause"] != "refused" {
		t.Errorf("the workers as JSON are %v, not what was listed", got)
	}
	b.Reset()
	if err := JSON(&b, nil); err != nil || b.String() != "[]\n" {
		t.Errorf("no workers: %q, %v", b.String(), err)
	}
}
