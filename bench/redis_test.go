package main

import (
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestParseInfo(t *testing.T) {
	got := parseInfo("# Stats\r\ntotal_commands_processed:120\r\ntotal_reads_processed:30\r\nused_cpu_sys:1.5\r\nused_cpu_user:0.5\r\n" +
		"used_memory:1024\r\nconnected_clients:3\r\n# Commandstats\r\ncmdstat_evalsha:calls=7,usec=1,usec_per_call=0.1\r\n" +
		"cmdstat_eval:calls=1,usec=1\r\ncmdstat_rpoplpush:calls=4,usec=9\r\ncmdstat_set:calls=9,usec=1\r\n")
	if want := (load{calls: 120, scripts: 8, reads: 30, pops: 4, cpu: 2 * time.Second, memory: 1024, clients: 3}); got != want {
		t.Errorf("INFO is read as %+v, want %+v", got, want)
	}
}
