package main

import (
	"bytes"
	"os"
	"runtime"
	"testing"
)

func TestThePageIsThatOfTheCode(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("client_golang tells less of a process here")
	}
	const root = "../.."
	got, err := os.ReadFile(output(root))
	if err != nil {
		t.Fatal(err)
	}
	want, err := render(root)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(got, want) {
		return
	}
	gotLines, wantLines := bytes.Split(got, []byte("\n")), bytes.Split(want, []byte("\n"))
	for i, line := range wantLines {
		if i >= len(gotLines) || !bytes.Equal(gotLines[i], line) {
			t.Fatalf("docs/metrics.md is not what the code says, from line %d on; run make generate. That line would be:\n%s", i+1, line)
		}
	}
	t.Fatal("docs/metrics.md goes on where the generated page ends; run make generate")
}

func TestEachMetricStandsInOneTable(t *testing.T) {
	all, err := declared()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := all.table("runqy_worker_healthy"); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"runqy_worker_healthy", "runqy_no_such"} {
		if _, err := all.table(name); err == nil {
			t.Errorf("no error for %s, which was shown already or does not exist", name)
		}
	}
	if err := all.complete(); err == nil {
		t.Error("no error although nearly every metric stands in no table")
	}
}

func TestUnit(t *testing.T) {
	for name, want := range map[string]string{
		"runqy_worker_healthy": "", "runqy_task_duration_seconds": "seconds", "a_cpu_seconds_total": "seconds",
		"a_resident_memory_bytes": "bytes", "a_received_bytes_total": "bytes",
		"a_start_time_seconds": "seconds since the epoch", "a_last_beat_timestamp_seconds": "seconds since the epoch",
	} {
		if got := unit(name); got != want {
			t.Errorf("unit of %s: %q, want %q", name, got, want)
		}
	}
}
