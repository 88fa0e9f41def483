package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// surfaces are all that tells of our worker's health: the names are the columns of the page.
func (o *ours) surfaces(d *bed) []surface {
	const often, seldom = 250 * time.Millisecond, time.Second
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	at := func(path string) string { return "http://" + o.address + path }
	return []surface{
		{name: "heartbeat", every: often, ask: func(ctx context.Context) answer { return o.heartbeat(ctx, d) }},
		{name: "/health", every: often, ask: func(ctx context.Context) answer { return byCode(ctx, client, at("/health"), `{"status":"HEALTHY"}`) }},
		{name: "/readyz", every: often, ask: func(ctx context.Context) answer { return ready(ctx, client, at("/readyz")) }},
		{name: "metric", every: 2 * often, ask: func(ctx context.Context) answer { return byMetric(ctx, client, at("/metrics")) }},
		{name: "Ping", every: often, ask: func(ctx context.Context) answer { return byPing(ctx, client, at("/runqy.v1.WorkerService/Ping")) }},
		{name: "banner", every: 2 * often, ask: func(ctx context.Context) answer { return byBanner(ctx, client, at("/")) }},
		{name: "healthcheck", every: seldom, ask: func(ctx context.Context) answer { return o.healthcheck(ctx, d) }},
	}
}

// Of a heartbeat, with the defaults of the worker's settings.
const (
	beatInterval = 5 * time.Second
	beatTTL      = 15 * time.Second
)

// heartbeat reads the hash and its remaining life as docs/operations.md says: one that has lapsed, or whose worker has
// missed two beats, is not green.
func (*ours) heartbeat(ctx context.Context, d *bed) answer {
	key := "asynq:workers:" + workerID
	pipe := d.redis.Client.Pipeline()
	fields, life := pipe.HGetAll(ctx, key), pipe.PTTL(ctx, key)
	if _, err := pipe.Exec(ctx); err != nil {
		return noAnswer(err)
	}
	hash, age := fields.Val(), beatTTL-life.Val()
	switch {
	case len(hash) == 0:
		return answer{red, "there is no heartbeat"}
	case age >= 2*beatInterval:
		return answer{red, "two beats were missed"}
	}
	return isGreen(hash["healthy"] == "true", hash["status"]+": "+hash["reason"])
}

func (o *ours) healthcheck(ctx context.Context, d *bed) answer {
	cmd := exec.CommandContext(ctx, d.program, "healthcheck")
	cmd.Env = o.env
	text, err := cmd.Output()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return answer{green, ""}
	case ctx.Err() == nil && errors.As(err, &exit) && exit.ExitCode() == 1:
		return answer{red, oneLine(string(text))}
	default:
		return noAnswer(err)
	}
}

// fetch asks once and returns the code and the body of the answer.
func fetch(ctx context.Context, client *http.Client, method, url string, body []byte) (int, string, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return 0, "", fmt.Errorf("ask %s: %w", url, err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", fmt.Errorf("ask %s: %w", url, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, "", fmt.Errorf("read the answer of %s: %w", url, err)
	}
	return resp.StatusCode, string(text), nil
}

// byCode is green at 200, with that body if it is given, and red at 503.
func byCode(ctx context.Context, client *http.Client, url, body string) answer {
	code, text, err := fetch(ctx, client, http.MethodGet, url, nil)
	switch {
	case err != nil:
		return noAnswer(err)
	case code == http.StatusOK && (body == "" || text == body):
		return answer{green, ""}
	case code == http.StatusServiceUnavailable:
		return answer{red, oneLine(text)}
	default:
		return answer{silent, fmt.Sprintf("%d %s", code, oneLine(text))}
	}
}

// ready is what /readyz says, which is about more than health: no task is taken while the process is replaced as planned.
func ready(ctx context.Context, client *http.Client, url string) answer {
	a := byCode(ctx, client, url, "")
	if a.colour == red && strings.Contains(a.detail, `"The worker is restarting`) {
		a.colour = neither
	}
	return a
}

// readyReason is the reason in an answer of /readyz.
func readyReason(body string) string {
	_, reason, _ := strings.Cut(body, `"reason":"`)
	return strings.TrimSuffix(reason, `"}`)
}

func byMetric(ctx context.Context, client *http.Client, url string) answer {
	code, text, err := fetch(ctx, client, http.MethodGet, url, nil)
	if err != nil {
		return noAnswer(err)
	}
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, "runqy_worker_healthy "); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				return noAnswer(err)
			}
			return isGreen(n == 1, "runqy_worker_healthy "+value)
		}
	}
	return answer{silent, fmt.Sprintf("%d without runqy_worker_healthy", code)}
}

func byPing(ctx context.Context, client *http.Client, url string) answer {
	code, text, err := fetch(ctx, client, http.MethodPost, url, []byte("{}"))
	if err != nil {
		return noAnswer(err)
	}
	var pong struct {
		Healthy  bool
		WorkerID string
		Reason   string
	}
	if err := json.Unmarshal([]byte(text), &pong); err != nil || code != http.StatusOK || pong.WorkerID != workerID {
		return answer{silent, fmt.Sprintf("%d %s", code, oneLine(text))}
	}
	return isGreen(pong.Healthy, pong.Reason)
}

// The banner of the dashboard, and what it is headed with.
var (
	banner   = regexp.MustCompile(`<div class="banner tone-(\w+)"`)
	headline = regexp.MustCompile(`<span id="state"[^>]*>([^<]*)</span>`)
)

func byBanner(ctx context.Context, client *http.Client, url string) answer {
	code, text, err := fetch(ctx, client, http.MethodGet, url, nil)
	if err != nil {
		return noAnswer(err)
	}
	tone := banner.FindStringSubmatch(text)
	if tone == nil {
		return answer{silent, fmt.Sprintf("%d without a banner", code)}
	}
	a := isGreen(tone[1] == "good", tone[1])
	if h := headline.FindStringSubmatch(text); h != nil && a.colour == red {
		a.detail += ": " + h[1]
		if tone[1] == "quiet" && h[1] == "Restarting" {
			a.colour = neither
		}
	}
	return a
}
