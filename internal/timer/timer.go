// Package timer waits for a time with a way out.
package timer

import (
	"context"
	"time"
)

// Sleep waits for d and returns nil, or returns the cause of ctx's end as soon as ctx ends.
func Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
