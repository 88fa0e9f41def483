package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// scrape reads the metrics of a worker, and says how long that took.
func scrape(ctx context.Context, address string) (text string, took time.Duration, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", http.NoBody)
	if err != nil {
		return "", 0, fmt.Errorf("scrape: %w", err)
	}
	began := time.Now()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", 0, fmt.Errorf("scrape: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", 0, fmt.Errorf("scrape: %w", err)
	}
	return string(body), time.Since(began), nil
}

// scrapeOften scrapes a worker every 50 ms until the function that it returns is called, which adds how long that took.
func scrapeOften(ctx context.Context, sys *system, f figures) func() {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	var times []float64
	running.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			if _, took, err := scrape(ctx, sys.metrics); err == nil {
				times = append(times, float64(took)/float64(time.Millisecond))
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	})
	return func() {
		cancel()
		running.Wait()
		f[scrapeP50], f[scrapeP99] = percentile(times, 50), percentile(times, 99)
	}
}
