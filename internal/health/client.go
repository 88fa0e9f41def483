package health

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"
)

// Probe is a question to the worker.
type Probe string

// The probes.
const (
	ProbeHealth Probe = ""      // is it healthy?
	ProbeLive   Probe = "live"  // does its supervisor's loop turn?
	ProbeReady  Probe = "ready" // does it take new tasks?
)

const (
	// checkTimeout leaves the command half a second to start and to print.
	checkTimeout = 2500 * time.Millisecond
	maxResult    = 64 << 10
)

// Check asks the worker behind the unix socket and answers within 2.5 s, whatever happens. The Result can always be
// printed; its OK is the answer to the probe. The error, which the Result repeats, says why the worker could not be
// asked.
func Check(ctx context.Context, socketPath string, probe Probe) (Result, error) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	if socketPath == "" {
		err := errors.New("no unix socket to ask the worker on: set health.socket")
		return FailedResult(err), err
	}
	result, err := ask(ctx, socketPath, probe)
	if err != nil {
		err = explain(err, socketPath)
		return FailedResult(err), err
	}
	return result, nil
}

func ask(ctx context.Context, socketPath string, probe Probe) (Result, error) {
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socketPath)
		},
	}
	defer transport.CloseIdleConnections()
	target := "http://worker/healthcheck?" + url.Values{"probe": {string(probe)}}.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return Result{}, err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return Result{}, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusServiceUnavailable {
		return Result{}, fmt.Errorf("unexpected answer %s", resp.Status)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxResult))
	if err != nil {
		return Result{}, err
	}
	var result Result
	if err := json.Unmarshal(body, &result); err != nil {
		return Result{}, fmt.Errorf("unreadable answer: %w", err)
	}
	result.OK = resp.StatusCode == http.StatusOK
	return result, nil
}

// explain says what a failure means and what to check.
func explain(err error, socketPath string) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED): // what the system says adds nothing
		return fmt.Errorf("no worker answers at the unix socket %s (is it running with the same configuration?)", socketPath)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s belongs to another user: run healthcheck as the worker's: %w", socketPath, err)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("the worker does not answer on %s within %s: %w", socketPath, checkTimeout, err)
	}
	return fmt.Errorf("ask the worker on %s: %w", socketPath, err)
}
