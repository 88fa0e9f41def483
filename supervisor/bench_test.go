package supervisor

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// pump keeps a number of requests in flight: each answer submits the next.
type pump struct {
	b       *testing.B
	payload []byte
	s       *Supervisor
	next    atomic.Int64
	took    []time.Duration
	done    chan struct{} // receives once for each request that is not followed by another
}

// pumped is the Caller of one request.
type pumped struct {
	pump  *pump
	n     int64
	begin time.Time
}

func (p *pump) submit() {
	n := p.next.Add(1)
	if n > int64(p.b.N) {
		p.done <- struct{}{}
		return
	}
	p.s.Submit(Request{
		TaskID: fmt.Sprint("task-", n), Type: "echo", Payload: p.payload, Caller: &pumped{p, n, time.Now()},
	})
}

func (c *pumped) Began(time.Time)          {}
func (c *pumped) Progress(float64, string) {}
func (c *pumped) Ended(reply Reply, err error) {
	if err != nil || reply.Error != "" {
		c.pump.b.Errorf("task %d: %+v %v", c.n, reply, err)
	}
	c.pump.took[c.n-1] = time.Since(c.begin)
	c.pump.submit()
}

// BenchmarkEcho measures round trips through Submit to the SDK, with a handler that does nothing but return its payload.
func BenchmarkEcho(b *testing.B) {
	for _, bench := range []struct {
		handler     string
		concurrency int
		size        int // of the payload, in bytes
	}{{"def", 1, 8}, {"def", 64, 8}, {"async def", 64, 8}, {"def", 2, 1 << 20}} {
		b.Run(fmt.Sprintf("%s/concurrency=%d/size=%d", bench.handler, bench.concurrency, bench.size), func(b *testing.B) {
			o := testOptions("")
			o.Command = []string{"python3", "-c", "import runqy\n@runqy.task\n" + bench.handler + " echo(payload):\n    return payload\nrunqy.run()\n"}
			o.Env = append(os.Environ(), "PYTHONPATH="+cmp.Or(os.Getenv("SDK"), "../python"))
			o.MaxMessage = 4 << 20
			o.Concurrency = bench.concurrency
			o.Logger = slog.New(slog.DiscardHandler)
			s, err := New(o)
			if err != nil {
				b.Fatalf("New: %v", err)
			}
			ended := make(chan error, 1)
			go func() { ended <- s.Run(context.Background()) }()
			for s.Snapshot().Status != StatusRunning {
				time.Sleep(time.Millisecond)
			}
			p := &pump{b: b, s: s, payload: []byte(`"` + strings.Repeat("x", bench.size-2) + `"`), took: make([]time.Duration, b.N), done: make(chan struct{}, bench.concurrency)}
			b.ReportAllocs()
			b.ResetTimer()
			for range bench.concurrency {
				p.submit()
			}
			for range bench.concurrency {
				<-p.done
			}
			b.StopTimer()
			slices.Sort(p.took)
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tasks/s")
			b.ReportMetric(float64(p.took[len(p.took)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(p.took[len(p.took)*99/100].Microseconds()), "p99-µs")
			if err := s.Stop(context.Background()); err != nil {
				b.Errorf("Stop: %v", err)
			}
			if err := <-ended; err != nil {
				b.Errorf("Run: %v", err)
			}
		})
	}
}
