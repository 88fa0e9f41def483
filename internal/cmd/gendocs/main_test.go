package main

import (
	"bytes"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/runqy/runqy-worker/internal/config"
)

func TestPagesAreUpToDate(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("client_golang exports fewer metrics of a process here")
	}
	const root = "../../.."
	for _, p := range pages() {
		t.Run(p.name, func(t *testing.T) {
			got, err := os.ReadFile(p.path(root))
			if err != nil {
				t.Fatal(err)
			}
			want, err := p.render(root)
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Equal(got, want) {
				return
			}
			gotLines, wantLines := bytes.Split(got, []byte("\n")), bytes.Split(want, []byte("\n"))
			for i, line := range wantLines {
				if i >= len(gotLines) || !bytes.Equal(gotLines[i], line) {
					t.Fatalf("docs/%s is out of date from line %d on; run make generate. That line would be:\n%s", p.name, i+1, line)
				}
			}
			t.Fatalf("docs/%s has lines after the end of the generated page; run make generate", p.name)
		})
	}
}

func TestEachSectionIsInOneTable(t *testing.T) {
	all := bySection([]config.Key{{Name: "a.b", Variables: []string{"RUNQY_A_B"}}, {Name: "a.c.d"}, {Name: "e"}})
	table, err := all.table("a")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"**`a.b`**<br>`RUNQY_A_B`", "**`a.c.d`**"} {
		if !strings.Contains(table, want) {
			t.Errorf("the table of section a lacks %s:\n%s", want, table)
		}
	}
	for _, name := range []string{"a", "nosuch"} {
		if _, err := all.table(name); err == nil {
			t.Errorf("no error for section %s, which was shown already or does not exist", name)
		}
	}
	if err := all.complete(); err == nil || !strings.HasSuffix(err.Error(), "the sections e") {
		t.Errorf("with section e in no table: got error %v, want one that names e", err)
	}
}

func TestEachMetricIsInOneTable(t *testing.T) {
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
		t.Error("no error although nearly every metric is in no table")
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
