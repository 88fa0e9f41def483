package logging

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func asJSON(w io.Writer) slog.Handler {
	return slog.NewJSONHandler(w, &slog.HandlerOptions{Level: slog.LevelInfo})
}

// reader is a destination that takes nothing before open, and then everything. Written belongs to the log's goroutine
// until Close.
type reader struct {
	open    chan struct{}
	written bytes.Buffer
}

func newReader() *reader { return &reader{open: make(chan struct{})} }

func (r *reader) Write(p []byte) (int, error) {
	<-r.open
	return r.written.Write(p)
}

// line is a line of the log.
type line struct {
	Level, Msg, Component string
	N, Lines              int
}

func readLines(t *testing.T, text string) []line {
	t.Helper()
	var all []line
	for s := range strings.Lines(text) {
		var l line
		if err := json.Unmarshal([]byte(s), &l); err != nil {
			t.Fatalf("the line %q is not whole: %v", s, err)
		}
		all = append(all, l)
	}
	return all
}

func TestLinesComeInOrder(t *testing.T) {
	var out bytes.Buffer
	l := Start(&out, asJSON)
	log := slog.New(l.Handler()).With("component", "c")
	for n := range 100 {
		log.Log(t.Context(), []slog.Level{slog.LevelInfo, slog.LevelError}[n%2], "m", "n", n)
	}
	fmt.Fprintln(l, `{"msg":"the end"}`)
	l.Close(time.Minute)
	lines := readLines(t, out.String())
	if len(lines) != 101 || lines[100].Msg != "the end" {
		t.Fatalf("the log has %d lines, want 101, the last of them what was written as text", len(lines))
	}
	for n, got := range lines[:100] {
		if got.N != n || got.Component != "c" {
			t.Fatalf("line %d is %+v", n, got)
		}
	}
	if n := l.Dropped(); n != 0 {
		t.Errorf("%d lines dropped, want none", n)
	}
}

// While nobody reads, nobody who logs waits. Then all that fitted comes, a line says how many did not, and what is a
// warning has come all the same.
func TestNobodyWaitsForTheReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := newReader()
		l := Start(out, asJSON)
		log := slog.New(l.Handler())
		const ordinary = 5000
		text := strings.Repeat("x", 1000)
		for n := range ordinary {
			log.Info(text, "n", n) // never blocks, or synctest says that all are asleep
			if n == ordinary/2 {
				log.Warn("what matters")
			}
		}
		dropped := l.Dropped()
		if dropped < ordinary/4 {
			t.Errorf("%d of %d lines of 1 KB dropped, want most", dropped, ordinary)
		}
		close(out.open)
		synctest.Wait()
		log.Info("after it")
		l.Close(time.Second)

		lines := readLines(t, out.written.String())
		var notices, came, warned int
		for i, got := range lines {
			switch got.Msg {
			case "log lines dropped":
				notices += got.Lines
				if i != len(lines)-2 || got.Level != "WARN" || got.Component != "log" {
					t.Errorf("line %d of %d is %+v, want the notice where lines are missing", i, len(lines), got)
				}
			case text:
				if got.N != came {
					t.Fatalf("line %d has n=%d, want %d: there is a gap before the notice", i, got.N, came)
				}
				came++
			case "what matters":
				warned++
			}
		}
		if int64(notices) != dropped || came+notices != ordinary || warned != 1 || lines[len(lines)-1].Msg != "after it" {
			t.Errorf("%d lines came, %d are said to be missing, %d warnings; want together %d, %d dropped, 1 warning, and then the next line",
				came, notices, warned, ordinary, dropped)
		}
		if l.Dropped() != dropped {
			t.Errorf("%d lines dropped in the end, want %d", l.Dropped(), dropped)
		}
	})
}

func TestWarningsAreBoundedToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := newReader()
		l := Start(out, asJSON)
		log := slog.New(l.Handler())
		for range 5000 {
			log.Error(strings.Repeat("x", 1000))
		}
		if n := l.Dropped(); n < 1000 {
			t.Errorf("%d lines dropped, want most of 5000", n)
		}
		close(out.open)
		l.Close(time.Second)
		if got := out.written.Len(); got > 2*(maxQueued+reserved)+1000 {
			t.Errorf("%d bytes were kept, want %d twice at most", got, maxQueued+reserved)
		}
	})
}

// A line that no queue has room for is the only one that is lost.
func TestALineThatIsTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l := Start(&out, asJSON)
		log := slog.New(l.Handler())
		for _, level := range []slog.Level{slog.LevelInfo, slog.LevelError} {
			log.Log(t.Context(), level, strings.Repeat("x", 2*maxQueued))
			synctest.Wait()
			log.Info("after it")
			synctest.Wait()
		}
		l.Close(time.Second)
		lines := readLines(t, out.String())
		if len(lines) != 4 || lines[0].Lines != 1 || lines[1].Msg != "after it" || lines[2].Lines != 1 || lines[3].Msg != "after it" {
			t.Errorf("the log is %+v, want twice a notice of one line, and the line after it", lines)
		}
	})
}

func TestCloseWaitsNoLongerThanItIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := newReader()
		l := Start(out, asJSON)
		log := slog.New(l.Handler())
		log.Info("never read")
		began := time.Now()
		l.Close(time.Second)
		if took := time.Since(began); took != time.Second {
			t.Errorf("Close took %v, want 1 s", took)
		}
		log.Info("too late")
		if n := l.Dropped(); n != 1 {
			t.Errorf("%d lines dropped, want the one after Close", n)
		}
		close(out.open) // or the test would leave a goroutine behind
	})
}

// faulty takes a part of a write and fails, as long as it is told to.
type faulty struct {
	mu      sync.Mutex // guards the rest
	err     error
	partly  int
	written bytes.Buffer
}

func (f *faulty) set(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func (f *faulty) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		return f.written.Write(p)
	}
	n := min(f.partly, len(p))
	f.written.Write(p[:n])
	f.partly = 0
	return n, f.err
}

func TestLinesThatCannotBeWrittenAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &faulty{err: errors.New("no space left"), partly: 10}
		l := Start(out, asJSON)
		log := slog.New(l.Handler())
		for range 3 {
			log.Info("lost")
			synctest.Wait()
		}
		out.set(nil)
		log.Info("written")
		l.Close(time.Second)
		torn, rest, _ := strings.Cut(out.written.String(), "\n")
		lines := readLines(t, rest)
		if len(torn) != 10 || len(lines) != 2 || lines[0].Msg != "written" || lines[1].Lines != int(l.Dropped()) || l.Dropped() < 3 {
			t.Errorf("the log is %q then %+v, %d dropped; want the torn line by itself, the one that was written, and how many are missing",
				torn, lines, l.Dropped())
		}
	})
}

func TestADestinationThatIsNonBlockingIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &faulty{err: syscall.EAGAIN, partly: 10}
		l := Start(out, asJSON)
		log := slog.New(l.Handler())
		log.Info("late")
		time.Sleep(time.Minute)
		out.set(nil)
		l.Close(time.Second)
		if lines := readLines(t, out.written.String()); len(lines) != 1 || lines[0].Msg != "late" || l.Dropped() != 0 {
			t.Errorf("the log is %+v, %d dropped; want the line", lines, l.Dropped())
		}

		out.set(syscall.EAGAIN)
		l = Start(out, asJSON)
		slog.New(l.Handler()).Info("never")
		l.Close(time.Second)
		<-l.ended // it gives up by itself
		if n := l.Dropped(); n != 1 {
			t.Errorf("%d lines dropped, want 1", n)
		}
	})
}

// A level that is off costs nothing, and a line no more than without the queue.
func TestCosts(t *testing.T) {
	l := Start(io.Discard, asJSON)
	defer l.Close(time.Minute)
	log, direct := slog.New(l.Handler()), slog.New(asJSON(io.Discard))
	ctx := context.Background()
	off := func(log *slog.Logger) func() {
		return func() { log.LogAttrs(ctx, slog.LevelDebug, "m", slog.Int("n", 1)) }
	}
	on := func(log *slog.Logger) func() {
		return func() { log.LogAttrs(ctx, slog.LevelInfo, "m", slog.Int("n", 1)) }
	}
	if n := testing.AllocsPerRun(1000, off(log)); n != 0 {
		t.Errorf("a line whose level is off allocates %v times, want never", n)
	}
	for range 10000 { // until the buffers have their size
		on(log)()
	}
	if n, want := testing.AllocsPerRun(1000, on(log)), testing.AllocsPerRun(1000, on(direct)); n > want+1 { // under the race detector pools forget
		t.Errorf("a line allocates %v times, want %v as without the queue", n, want)
	}
}

func BenchmarkLine(b *testing.B) {
	l := Start(io.Discard, asJSON)
	defer l.Close(time.Minute)
	ctx := context.Background()
	for name, log := range map[string]*slog.Logger{"queued": slog.New(l.Handler()), "direct": slog.New(asJSON(io.Discard))} {
		for what, level := range map[string]slog.Level{"on": slog.LevelInfo, "off": slog.LevelDebug} {
			b.Run(name+"/"+what, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					log.LogAttrs(ctx, level, "m", slog.Int("n", 1), slog.String("queue", "inference"))
				}
			})
		}
	}
}
