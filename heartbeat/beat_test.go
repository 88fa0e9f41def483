package heartbeat

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/runqy/runqy-worker/internal/status"
)

func sampleBeat() Beat {
	return Beat{
		Started: time.Date(2025, 3, 4, 5, 6, 7, 0, time.FixedZone("CET", 3600)), Healthy: true,
		Queues: []string{"critical", "default"}, ActiveTask: "t1", Status: status.Running, State: status.Busy,
		LastBeat: time.Date(2025, 3, 4, 5, 6, 8, 123e6, time.UTC), ActiveTasks: []string{"t1", `t"2`},
		Concurrency: 4, Processed: 12, Failed: 3, Restarts: 1, Crashes: 2, EventLoopLag: 1500 * time.Millisecond,
		PythonPID: 4242, Version: "1.0.0", Environment: "development", Address: "host:8001",
		Identity: Identity{Host: "host", PID: 77, Nonce: "abcd", BootID: "b", PIDNamespace: "pid:[1]", PIDStart: 99},
		Interval: 5 * time.Second, TTL: 15 * time.Second,
	}
}

func hashOf(b Beat) map[string]string {
	f := b.fields()
	hash := make(map[string]string)
	for i := 0; i < len(f); i += 2 {
		hash[f[i]] = f[i+1]
	}
	return hash
}

func TestFieldsAreTheOnesThatUsersRead(t *testing.T) {
	marked := sampleBeat()
	marked.Report = status.Mark{Number: 12, Age: 503 * time.Millisecond}
	got := hashOf(marked)
	want := map[string]string{
		"started": "2025-03-04T04:06:07Z", "healthy": "true", "queue": "critical,default", "active_task": "t1",
		"status": "running", "state": "BUSY", "reason": "", "report": "12; age=0.503", "last_beat": "2025-03-04T05:06:08.123Z",
		"active_tasks": `["t1","t\"2"]`, "concurrency": "4", "processed": "12", "failed": "3", "restarts": "1",
		"crashes": "2", "event_loop_lag_seconds": "1.500", "host": "host", "pid": "77", "python_pid": "4242",
		"version": "1.0.0", "environment": "development", "address": "host:8001", "nonce": "abcd", "boot_id": "b",
		"pid_namespace": "pid:[1]", "pid_start": "99", "interval_seconds": "5.000", "ttl_seconds": "15.000",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("fields\n got %v\nwant %v", got, want)
	}
}

func TestEmptyBeatHasNoMisleadingValues(t *testing.T) {
	got := hashOf(Beat{})
	for name, want := range map[string]string{
		"healthy": "false", "active_task": "", "active_tasks": "[]", "python_pid": "", "queue": "",
		"event_loop_lag_seconds": "0.000", "processed": "0",
	} {
		if got[name] != want {
			t.Errorf("%s = %q, want %q", name, got[name], want)
		}
	}
}

func TestParseBeatRoundTrip(t *testing.T) {
	want := sampleBeat()
	got, err := ParseBeat(hashOf(want))
	if err != nil {
		t.Fatalf("parse: %v", err)
	}
	want.Started = want.Started.UTC()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("round trip\n got %+v\nwant %+v", got, want)
	}
}

func TestParseBeatToleratesMissingAndUnknownFields(t *testing.T) {
	b, err := ParseBeat(map[string]string{"healthy": "true", "queue": "default", "colour": "blue"})
	if err != nil || !b.Healthy || len(b.Queues) != 1 {
		t.Errorf("ParseBeat = %+v, %v; want it healthy with one queue", b, err)
	}
}

func TestParseBeatNamesEveryFault(t *testing.T) {
	bad := map[string]string{
		"healthy": "1", "started": "yesterday", "pid": "-3", "concurrency": "99999999999", "active_tasks": "t1",
		"event_loop_lag_seconds": "NaN", "processed": "many",
	}
	good := hashOf(sampleBeat())
	for name, v := range bad {
		good[name] = v
	}
	b, err := ParseBeat(good)
	if err == nil {
		t.Fatal("ParseBeat of bad fields returned no error")
	}
	for name := range bad {
		if !strings.Contains(err.Error(), "field "+name+":") {
			t.Errorf("error does not name %s: %v", name, err)
		}
	}
	if b.Healthy || b.Host != "host" || b.Version != "1.0.0" {
		t.Errorf("the readable fields are lost or the bad one believed: %+v", b)
	}
}

func FuzzParseBeat(f *testing.F) {
	f.Add("true", "2025-03-04T05:06:07Z", "12", `["a"]`, "1.5")
	f.Add("1", "", "-1", "{", "Inf")
	f.Fuzz(func(t *testing.T, healthy, started, pid, tasks, lag string) {
		b, err := ParseBeat(map[string]string{"healthy": healthy, "started": started, "pid": pid, "active_tasks": tasks, "event_loop_lag_seconds": lag})
		if b.PID < 0 || b.EventLoopLag < 0 || (b.Healthy && healthy != "true") {
			t.Fatalf("impossible beat %+v", b)
		}
		if err != nil {
			return
		}
		// What was read can be written and read again.
		if _, err := ParseBeat(hashOf(b)); err != nil && b.Started.Year() >= 0 && b.Started.Year() <= 9999 {
			t.Fatalf("second reading: %v", err)
		}
	})
}
