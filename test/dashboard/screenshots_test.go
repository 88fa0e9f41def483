package dashboard

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/hibiken/asynq"

	"github.com/runqy/runqy-worker/internal/redistest"
	"github.com/runqy/runqy-worker/test/harness"
)

// Takes the pictures of docs/dashboard.md from real workers under real load. `make screenshots` calls it.
func TestDashboardScreenshots(t *testing.T) {
	dir := os.Getenv("RUNQY_SCREENSHOTS")
	if dir == "" {
		t.Skip("RUNQY_SCREENSHOTS names no directory: make screenshots")
	}
	minutes, err := strconv.ParseFloat(cmp.Or(os.Getenv("RUNQY_SCREENSHOTS_MINUTES"), "15"), 64)
	if err != nil {
		t.Fatalf("RUNQY_SCREENSHOTS_MINUTES: %v", err)
	}
	server := redistest.Start(t)
	q := harness.NewQueue(t, server.Client)
	const emails = "emails"
	handlers, err := os.ReadFile(harness.TaskFile(t, "dashboard.py"))
	if err != nil {
		t.Fatalf("read the handlers: %v", err)
	}
	set := func(id string) harness.Settings {
		home := t.TempDir()
		harness.WriteFile(t, filepath.Join(home, "main.py"), string(handlers)) // a path as short as a user's
		return harness.Settings{
			"worker.id": id, "worker.queues": map[string]int{harness.QueueName: 3, emails: 1}, "worker.concurrency": 4, "environment": "production",
			"python.command": []string{"python3", "main.py"}, "python.dir": home, "python.max_memory": "2GiB", "heartbeat.interval": "5s", "heartbeat.ttl": "15s",
		}
	}
	w := harness.StartWorker(t, server.URL, set("worker-abc123"))
	q.PythonPID(w.ID)
	// The long one runs where the pictures are taken: there is no other worker yet.
	long := q.Enqueue("fine-tune", map[string]any{"steps": int(minutes*60*1.4) + 120}, asynq.MaxRetry(3), asynq.Timeout(time.Hour))
	q.AwaitHeartbeat(w.ID, "active_task="+long)
	second := harness.StartWorker(t, server.URL, set("worker-7f3e21"))
	third := harness.StartWorker(t, server.URL, set("worker-c0ffee"))
	q.PythonPID(second.ID)
	q.PythonPID(third.ID)

	ctx, cancel := context.WithCancel(t.Context())
	var feeding sync.WaitGroup
	defer feeding.Wait()
	defer cancel()
	feeding.Go(func() { feed(ctx, q, emails) })
	b := openBrowser(t, w)
	b.open()
	shot := func(name, scheme string, width, height int64) {
		b.scheme(scheme)
		b.do(chromedp.EmulateViewport(width, height))
		b.open()
		b.shows("#live", "Live")
		ask[bool](b, `(() => { document.activeElement.blur(); return true })()`)
		limited, done := context.WithTimeout(b.ctx, harness.Timeout)
		defer done()
		picture, err := chromedp.Run(limited, chromedp.CaptureScreenshot())
		if err != nil {
			t.Fatalf("take a picture: %v", err)
		}
		picture = fewerColours(t, picture)
		if err := os.WriteFile(filepath.Join(dir, "dashboard-"+name+".png"), picture, 0o644); err != nil {
			t.Fatalf("write a picture: %v", err)
		}
		t.Logf("%s: %d kB", name, len(picture)/1000)
		if len(picture) > 200_000 {
			t.Errorf("the picture %s has %d bytes, want 200,000 at most", name, len(picture))
		}
	}
	select { // nothing to wait for but the history
	case <-time.After(time.Duration(minutes * float64(time.Minute))):
	case <-ctx.Done():
	}
	shot("healthy-light", "light", 1280, 1120)
	shot("healthy-dark", "dark", 1280, 1120)

	for n := range 6000 {
		q.Enqueue("classify", map[string]any{"image": fmt.Sprintf("batch/%04d.jpg", n), "broken": n%80 == 0}, asynq.MaxRetry(5))
	}
	b.shows("#health .notices", "Queue "+harness.QueueName)
	b.holds(`/[1-9]0 s/.test(document.querySelector("#health .vitals").textContent)`) // the backlog has a history
	shot("load-light", "light", 1280, 1120)
	shot("load-dark", "dark", 1280, 1120)

	third.Signal(9)
	third.WaitExit()
	b.shows("#fleet", "DEAD")
	if _, err := q.Client.Enqueue(asynq.NewTask("exhaust", []byte(`{}`)), asynq.Queue(emails), asynq.MaxRetry(0)); err != nil {
		t.Fatalf("enqueue a task that exhausts the memory: %v", err)
	}
	// Whoever takes it dies; the pictures are of this worker, so it is sent on until this one has died.
	harness.Eventually(t, "this worker is degraded", func() error {
		if b.text("#state") == "Degraded" {
			return nil
		}
		if _, err := q.Client.Enqueue(asynq.NewTask("exhaust", []byte(`{}`)), asynq.Queue(emails), asynq.MaxRetry(0), asynq.Unique(3*time.Second)); err == nil {
			t.Log("sent another one")
		}
		return errNotYet
	})
	b.shows("#process", "97 % of the machine")
	b.shows("#fleet", "DEAD")
	shot("degraded-light", "light", 1280, 1120)
	shot("degraded-dark", "dark", 1280, 1120)
	shot("phone", "light", 390, 844)
}

// feed sends an ordinary day's tasks until ctx is over.
func feed(ctx context.Context, q *harness.Queue, emails string) {
	random := rand.New(rand.NewPCG(1, 2))
	for n := 0; ; n++ {
		day := 1 + 0.6*float64(n%400)/400
		select {
		case <-time.After(time.Duration(float64(160*time.Millisecond) / day * (0.4 + random.ExpFloat64()))):
		case <-ctx.Done():
			return
		}
		kind, queue, payload := "classify", harness.QueueName, fmt.Sprintf(`{"image": "uploads/%05d.jpg", "broken": %v}`, n, n%400 == 40)
		if n%6 == 0 {
			kind, queue, payload = "welcome", emails, `{"to": "ada@example.com"}`
		}
		burst := 1
		if n%120 == 60 {
			burst = 40
		}
		for range burst {
			if _, err := q.Client.EnqueueContext(ctx, asynq.NewTask(kind, []byte(payload)), asynq.Queue(queue), asynq.MaxRetry(5)); err != nil {
				return
			}
		}
	}
}

// fewerColours writes a picture with a palette of its 256 most frequent colours, which a page has hardly more than.
func fewerColours(t *testing.T, picture []byte) []byte {
	t.Helper()
	full, err := png.Decode(bytes.NewReader(picture))
	if err != nil {
		t.Fatalf("decode a picture: %v", err)
	}
	count := map[color.RGBA]int{}
	at := func(x, y int) color.RGBA { return color.RGBAModel.Convert(full.At(x, y)).(color.RGBA) }
	size := full.Bounds()
	for y := size.Min.Y; y < size.Max.Y; y++ {
		for x := size.Min.X; x < size.Max.X; x++ {
			count[at(x, y)]++
		}
	}
	frequent := slices.SortedFunc(maps.Keys(count), func(a, b color.RGBA) int { return cmp.Compare(count[b], count[a]) })
	palette := color.Palette{}
	for _, c := range frequent[:min(len(frequent), 256)] {
		palette = append(palette, c)
	}
	index := map[color.RGBA]uint8{}
	for c := range count {
		index[c] = uint8(palette.Index(c))
	}
	small := image.NewPaletted(size, palette)
	for y := size.Min.Y; y < size.Max.Y; y++ {
		for x := size.Min.X; x < size.Max.X; x++ {
			small.SetColorIndex(x, y, index[at(x, y)])
		}
	}
	var out bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&out, small); err != nil {
		t.Fatalf("encode a picture: %v", err)
	}
	return out.Bytes()
}
