package main

import (
	"io"
	"net"
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

// What goes through the proxy arrives whole, in order and not earlier than the delay.
func TestProxy(t *testing.T) {
	const delay = 20 * time.Millisecond
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	echoed := make(chan struct{})
	go func() {
		defer close(echoed)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.Copy(conn, conn)
	}()
	defer func() { _ = l.Close(); <-echoed }()
	p, err := startProxy(t.Context(), l.Addr().String(), delay)
	if err != nil {
		t.Fatal(err)
	}
	defer p.stop()
	conn, err := net.Dial("tcp", p.addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	sent := make([]byte, 300<<10)
	for i := range sent {
		sent[i] = byte(i / 1000)
	}
	began := time.Now()
	writing := make(chan struct{})
	go func() {
		defer close(writing)
		_, _ = conn.Write(sent)
	}()
	got := make([]byte, len(sent))
	if _, err := io.ReadFull(conn, got); err != nil {
		t.Fatal(err)
	}
	<-writing
	if took := time.Since(began); took < 2*delay {
		t.Errorf("there and back took %s, less than twice %s", took, delay)
	}
	if string(got) != string(sent) {
		t.Error("other bytes came back")
	}
}
