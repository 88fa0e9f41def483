package supervisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"
)

func TestTailIsBounded(t *testing.T) {
	var l tail
	for i := range 100 {
		l.add([]byte(fmt.Sprint("line ", i)))
	}
	if got := l.last(); len(got) != tailLines || got[0] != "line 80" || got[19] != "line 99" {
		t.Errorf("%q", got)
	}
	for range 10 {
		l.add([]byte(strings.Repeat("x", 5000)))
	}
	size := 0
	for _, s := range l.last() {
		size += len(s)
	}
	if size > tailBytes || size < tailLineMax {
		t.Errorf("%d bytes", size)
	}
	l.add([]byte("\xff"))
	if got := l.last(); got[len(got)-1] != "\uFFFD" {
		t.Errorf("%q", got)
	}
}

func TestLogQueueCountsWhatItDrops(t *testing.T) {
	q := newLogQueue()
	for range logQueueLines + 5 {
		q.put(logLine{msg: "x", origin: "stderr"})
	}
	q.close()
	var buf logBuffer
	q.run(context.Background(), slog.New(slog.NewTextHandler(&buf, nil)))
	out := buf.String()
	if n := strings.Count(out, "origin=stderr"); n != logQueueLines {
		t.Errorf("%d lines logged", n)
	}
	if !strings.Contains(out, "lines=5") {
		t.Error("the dropped lines are not counted")
	}
}

func TestLedgerIdle(t *testing.T) {
	l := newLedger(0, nil)
	write := func() int64 { return 0 }
	a, _, errA := l.add(Request{TaskID: "a"}, write)
	_, _, errB := l.add(Request{TaskID: "b"}, write)
	if err := errors.Join(errA, errB); err != nil {
		t.Fatal(err)
	}
	called := 0
	if in, over := l.seal(func() { called++ }); in != 2 || over != 0 {
		t.Errorf("%d %d", in, over)
	}
	if _, _, err := l.add(Request{TaskID: "c"}, write); !errors.Is(err, errSealed) {
		t.Errorf("sealed: %v", err)
	}
	if in, oldest := l.late(a); !in || !oldest {
		t.Error("a is in flight and the oldest")
	}
	if l.answer("b", outcome{}); called != 1 {
		t.Errorf("only an overdue one is left: called %d times", called)
	}
	if l.answer("b", outcome{}) {
		t.Error("answered twice")
	}
	l.answer("a", outcome{})
	if in, _ := l.late(a); in || called != 1 || l.overdue != 0 {
		t.Errorf("after the end: %v %d %d", in, called, l.overdue)
	}
}

func TestLedgerTakesItsNumber(t *testing.T) {
	l := newLedger(2, nil)
	write := func() int64 { return 0 }
	_, full1, _ := l.add(Request{TaskID: "a"}, write)
	_, full2, _ := l.add(Request{TaskID: "b"}, write)
	_, _, err := l.add(Request{TaskID: "c"}, write)
	if full1 || !full2 || !errors.Is(err, errFull) {
		t.Errorf("%v %v %v", full1, full2, err)
	}
}

func TestWriterHaltFreesABlockedWrite(t *testing.T) {
	r, f, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer f.Close()
	w := newLineWriter(f)
	ended := make(chan error, 1)
	go func() { ended <- w.run() }()
	w.put(make([]byte, 8<<20))
	if start := w.put([]byte("next\n")); start != 8<<20 {
		t.Errorf("the second line begins at %d", start)
	}
	if _, err := r.Read(make([]byte, 1)); err != nil { // it has begun
		t.Fatal(err)
	}
	w.halt()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("halt is no error: %v", err)
		}
	case <-time.After(patience):
		t.Fatal("the writer is stuck")
	}
	if w.sent() == 0 || w.sent() >= 8<<20 {
		t.Errorf("sent %d bytes", w.sent())
	}
}

func TestNewNamesEveryFault(t *testing.T) {
	_, err := New(Options{OnCrash: "explode", StallTimeout: -1, MaxTasks: -1})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"Command", "Concurrency", "StartupTimeout", "StopTimeout", "BlockThreshold", "StallTimeout",
		"MaxTasks", "MaxMessage", `"explode"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("lacks %s:\n%v", want, err)
		}
	}
	o := testOptions("echo_v1.py")
	o.OnCrash, o.Restart = PolicyRestart, RestartPolicy{Max: -1, MaxDelay: -1}
	if _, err := New(o); err == nil || !strings.Contains(err.Error(), "Restart.Max is -1") || !strings.Contains(err.Error(), "Restart.Window") {
		t.Errorf("%v", err)
	}
}
