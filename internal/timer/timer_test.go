package timer

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestSleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		if err := Sleep(t.Context(), time.Minute); err != nil || time.Since(begun) != time.Minute {
			t.Errorf("Sleep(1m) returned %v after %v, want nil after 1m", err, time.Since(begun))
		}
		stop := errors.New("stop")
		ctx, cancel := context.WithCancelCause(t.Context())
		go func() { // ends by itself
			time.Sleep(time.Second)
			cancel(stop)
		}()
		begun = time.Now()
		if err := Sleep(ctx, time.Hour); !errors.Is(err, stop) || time.Since(begun) != time.Second {
			t.Errorf("Sleep(1h) returned %v after %v, want the cause after 1s", err, time.Since(begun))
		}
	})
}
