package harness

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// What /health answers.
const (
	HealthyBody   = `{"status":"HEALTHY"}`
	UnhealthyBody = `{"status":"UNHEALTHY"}`
)

// Samples asks once for /metrics and returns the values by the samples' names with their labels, nil without an answer.
func Samples(t *testing.T, address string) map[string]float64 {
	t.Helper()
	code, body := Get(t, "http://"+address+"/metrics")
	if code != 200 {
		return nil
	}
	out := map[string]float64{}
	for line := range strings.Lines(body) {
		if i := strings.LastIndexByte(strings.TrimSpace(line), ' '); i > 0 && line[0] != '#' {
			if v, err := strconv.ParseFloat(strings.TrimSpace(line[i:]), 64); err == nil {
				out[line[:i]] = v
			}
		}
	}
	return out
}

// SumSamples returns the sum of all samples of one name.
func SumSamples(all map[string]float64, name string) float64 {
	sum := 0.0
	for sample, v := range all {
		if strings.HasPrefix(sample, name+"{") {
			sum += v
		}
	}
	return sum
}

// SelectSamples returns the samples whose names contain part.
func SelectSamples(all map[string]float64, part string) map[string]float64 {
	out := map[string]float64{}
	for sample, v := range all {
		if strings.Contains(sample, part) {
			out[sample] = v
		}
	}
	return out
}

// Get asks an HTTP server once, with pairs of a header's name and value. After an error the code is 0 and the body says
// why.
func Get(t *testing.T, url string, header ...string) (code int, body string) {
	t.Helper()
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatalf("ask %s: %v", url, err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(text)
}

// AwaitAnswer waits until a path of the worker's HTTP server answers with a code and, unless it is "", a body.
func (w *Worker) AwaitAnswer(path string, code int, body string) {
	w.t.Helper()
	url := "http://" + w.Addr() + path
	Eventually(w.t, fmt.Sprintf("%s answers %d %s", path, code, body), func() error {
		gotCode, gotBody := Get(w.t, url)
		if gotCode != code || body != "" && gotBody != body {
			return fmt.Errorf("it answers %d %q", gotCode, gotBody)
		}
		return nil
	})
}

// AwaitMetric waits until a sample of /metrics, named with its labels as it is printed, has a value.
func (w *Worker) AwaitMetric(sample, value string) {
	w.t.Helper()
	Eventually(w.t, sample+" is "+value, func() error {
		_, body := Get(w.t, "http://"+w.Addr()+"/metrics")
		if !slices.Contains(strings.Split(body, "\n"), sample+" "+value) {
			return fmt.Errorf("samples: %q", LinesWith(body, strings.SplitN(sample, "{", 2)[0]))
		}
		return nil
	})
}

// LinesWith returns the lines that contain part and are no comments.
func LinesWith(text, part string) []string {
	var found []string
	for line := range strings.Lines(text) {
		if strings.Contains(line, part) && !strings.HasPrefix(line, "#") {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found
}
