package receipt

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/runqy/runqy-worker/internal/pause"
)

// Between a slow answer and the next arrangement nothing hangs.
func TestNothingIsDueRightAfterASlowAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r Log
		begun := time.Now()
		r.Expect(begun)
		r.Ask()
		time.Sleep(wokenWithin)
		r.Answer(begun, nil)
		if f := r.Judge(time.Now()); f != nil {
			t.Errorf("failure %+v", f)
		}
		time.Sleep(wokenWithin)
		if r.Judge(time.Now()) == nil {
			t.Error("no failure when nothing follows")
		}
	})
}

// A pause of the whole process is no fault of what was due in it.
func TestPauseOfTheProcessIsNoFailure(t *testing.T) {
	for name, asked := range map[string]bool{"due": false, "unanswered": true} {
		t.Run(name, func(t *testing.T) {
			var pauses pause.Watch
			r := &Log{Running: pauses.Running}
			now := time.Now()
			r.Expect(now)
			if asked {
				r.Ask()
			}
			if f := r.Judge(now); f != nil {
				t.Errorf("before the pause: %+v", f)
			}
			now = now.Add(time.Hour)
			if f := r.Judge(now); f != nil {
				t.Errorf("right after the pause: %+v", f)
			}
			for range 10 {
				now = now.Add(500 * time.Millisecond)
				r.Judge(now)
			}
			if r.Judge(now) == nil {
				t.Error("no failure when nothing follows the pause")
			}
		})
	}
}
