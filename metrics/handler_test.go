package metrics_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"github.com/runqy/runqy-worker/metrics"
)

const (
	acceptOpenMetrics = "application/openmetrics-text;version=1.0.0"
	acceptProtobuf    = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
)

// scrape asks the handler as a scraper would.
func scrape(t *testing.T, g prometheus.Gatherer, accept, encoding string) *http.Response {
	t.Helper()
	req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil)
	req.Header.Set("Accept", accept)
	req.Header.Set("Accept-Encoding", encoding)
	rec := httptest.NewRecorder()
	metrics.Handler(g, slog.New(slog.DiscardHandler)).ServeHTTP(rec, req)
	res := rec.Result()
	if res.StatusCode != http.StatusOK {
		t.Fatalf("status %s, want 200 OK: %s", res.Status, rec.Body)
	}
	return res
}

func body(t *testing.T, r io.Reader) string {
	t.Helper()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestScrapePassesPromtool(t *testing.T) {
	set, reg := newSet(t, fullSources())
	set.TaskFinished("low", "resize", "task-1", time.Second, true)
	if out := runTool(t, body(t, scrape(t, reg, "", "").Body), "promtool", "check", "metrics"); out != "" {
		t.Errorf("promtool check metrics:\n%s", out)
	}
}

func TestOpenMetricsCarriesTheTaskAsExemplar(t *testing.T) {
	set, reg := newSet(t, fullSources())
	set.TaskFinished("low", "resize", "task-1", 30*time.Millisecond, false)
	res := scrape(t, reg, acceptOpenMetrics, "")
	if ct := res.Header.Get("Content-Type"); !strings.HasPrefix(ct, "application/openmetrics-text") {
		t.Errorf("Content-Type is %q, want OpenMetrics", ct)
	}
	text := body(t, res.Body)
	if want := `runqy_task_duration_seconds_bucket{queue="low",type="other",le="0.05"} 1 # {task_id="task-1"} 0.03`; !strings.Contains(text, want) {
		t.Errorf("no line begins %s", want)
	}
	if !strings.HasSuffix(text, "# EOF\n") {
		t.Error("the answer does not end in # EOF")
	}
}

// Of many tasks each bucket keeps one a second, so the rare slow one is not lost among the quick.
func TestExemplarsAreTakenOncePerSecondAndBucket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set, reg := newSet(t, fullSources())
		exemplars := func() string {
			var ids []string
			for line := range strings.Lines(body(t, scrape(t, reg, acceptOpenMetrics, "").Body)) {
				if _, rest, ok := strings.Cut(line, ` # {task_id="`); ok {
					id, _, _ := strings.Cut(rest, `"`)
					ids = append(ids, id)
				}
			}
			return strings.Join(ids, " ")
		}
		set.TaskFinished("low", "", "quick-1", time.Millisecond, false)
		set.TaskFinished("low", "", "quick-2", time.Millisecond, false)
		set.TaskFinished("low", "", "slow-1", time.Minute, false)
		set.TaskFinished("low", "", "slow-2", time.Minute, false)
		set.TaskFinished("low", "", "endless", time.Hour, false)
		if got, want := exemplars(), "quick-1 slow-1 endless"; got != want {
			t.Errorf("exemplars %q, want %q", got, want)
		}
		time.Sleep(time.Second)
		set.TaskFinished("low", "", "quick-3", time.Millisecond, false)
		if got, want := exemplars(), "quick-3 slow-1 endless"; got != want {
			t.Errorf("a second later: exemplars %q, want %q", got, want)
		}
	})
}

func TestGzip(t *testing.T) {
	_, reg := newSet(t, fullSources())
	res := scrape(t, reg, "", "gzip")
	if got := res.Header.Get("Content-Encoding"); got != "gzip" {
		t.Fatalf("Content-Encoding is %q, want gzip", got)
	}
	zr, err := gzip.NewReader(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(body(t, zr), "runqy_worker_healthy 1\n") {
		t.Error("the unzipped answer lacks runqy_worker_healthy")
	}
}

func TestProtobufCarriesClassicAndNativeHistogram(t *testing.T) {
	set, reg := newSet(t, fullSources())
	for d := time.Millisecond; d < time.Hour; d *= 2 {
		set.TaskFinished("low", "resize", "task-1", d, false)
	}
	dec := expfmt.NewDecoder(scrape(t, reg, acceptProtobuf, "").Body, expfmt.NewFormat(expfmt.TypeProtoDelim))
	var h *dto.Histogram
	for h == nil {
		var mf dto.MetricFamily
		if err := dec.Decode(&mf); err != nil {
			t.Fatalf("runqy_task_duration_seconds not found: %v", err)
		}
		if mf.GetName() == "runqy_task_duration_seconds" {
			h = mf.GetMetric()[1].GetHistogram()
		}
	}
	if len(h.GetBucket()) != 21 { // +Inf is listed too, for its exemplar
		t.Errorf("%d classic buckets, want 21", len(h.GetBucket()))
	}
	if h.GetSchema() != 3 {
		t.Errorf("native schema %d, want 3, eight buckets to a power of two", h.GetSchema())
	}
	if len(h.GetPositiveSpan()) == 0 || len(h.GetPositiveDelta()) == 0 {
		t.Error("no native buckets")
	}
	if len(h.GetExemplars()) == 0 {
		t.Error("no exemplar at the native histogram")
	}
}

// A task of every length that the classic buckets tell apart fits the native ones at full resolution, with no reset and
// no widening.
func TestNativeBucketsHoldTheWholeRange(t *testing.T) {
	set, reg := newSet(t, fullSources())
	n := uint64(0)
	for s := 0.001; s < 1800; s *= 1.05 {
		set.TaskFinished("low", "resize", "", time.Duration(s*float64(time.Second)), false)
		n++
	}
	found, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		if f.GetName() != "runqy_task_duration_seconds" {
			continue
		}
		h := f.GetMetric()[1].GetHistogram()
		if h.GetSchema() != 3 || h.GetSampleCount() != n {
			t.Errorf("schema %d with %d of %d observations, want schema 3 with all", h.GetSchema(), h.GetSampleCount(), n)
		}
	}
}

type brokenCollector struct{ d *prometheus.Desc }

func (c brokenCollector) Describe(ch chan<- *prometheus.Desc) { ch <- c.d }
func (c brokenCollector) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.NewInvalidMetric(c.d, errors.New("disk on fire"))
}

func TestABrokenCollectorDoesNotTakeTheRestAlong(t *testing.T) {
	_, reg := newSet(t, fullSources())
	reg.MustRegister(brokenCollector{prometheus.NewDesc("broken", "Never works.", nil, nil)})
	var log bytes.Buffer
	rec := httptest.NewRecorder()
	metrics.Handler(reg, slog.New(slog.NewTextHandler(&log, nil))).
		ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	if rec.Code != http.StatusOK || !strings.Contains(rec.Body.String(), "runqy_worker_healthy 1\n") {
		t.Errorf("status %d, and the rest of the metrics is missing", rec.Code)
	}
	if !strings.Contains(log.String(), "disk on fire") {
		t.Errorf("the fault is not logged: %q", log.String())
	}
}
