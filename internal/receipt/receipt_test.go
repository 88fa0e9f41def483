package receipt

import (
	"testing"
	"testing/synctest"
	"time"
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
