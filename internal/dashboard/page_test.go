package dashboard

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/runqy/runqy-worker/internal/status"
)

func texts(notices []notice) []string {
	var out []string
	for _, n := range notices {
		out = append(out, string(n.Tone)+": "+n.Text)
	}
	return out
}

func TestNotices(t *testing.T) {
	if got := (page{View: healthyView()}).Notices(); len(got) > 0 {
		t.Errorf("nothing is wrong, and yet %q", texts(got))
	}
	v := healthyView()
	v.Load.FailedShare = 0.25
	v.Queues.List[1].Err = errors.New("WRONGTYPE")
	v.Queues.List[0].Paused = true
	v.Fleet.Unhealthy, v.Fleet.Dead = 2, 5
	v.Fleet.Workers[0].Tone, v.Fleet.Workers[1].Tone = Bad, Bad // this one and another
	want := []string{
		"bad: Queue emails cannot be read: WRONGTYPE", "bad: 5 workers are dead.", "bad: 1 worker is not healthy: worker-def456.",
		"warn: Queue inference_default is paused; 3 tasks wait.", "warn: 25 % of the attempts that ended in the last minute failed.",
	}
	if got := texts(page{View: v}.Notices()); !slices.Equal(got, want) {
		t.Errorf("notices %q, want %q", got, want)
	}
	for range 5 {
		v.Queues.List = append(v.Queues.List, v.Queues.List[1])
	}
	v.Failures.Err = "b"
	got := texts(page{View: v}.Notices())
	if len(got) != maxNotices+1 || got[maxNotices] != "warn: And 5 more things below." {
		t.Errorf("many notices: %q", got)
	}
	// What was read last is no news.
	v.Queues.Err, v.Fleet.Err, v.Load = "a", "c", nil
	want = []string{"bad: The queues cannot be read: a", "bad: The failed tasks cannot be read: b", "bad: The other workers cannot be read: c"}
	if got := texts(page{View: v}.Notices()); !slices.Equal(got, want) {
		t.Errorf("notices without Redis %q, want %q", got, want)
	}
	v = healthyView()
	v.Process.TooLarge = "it has 3 GiB after loading already"
	want = []string{"warn: The Python process is too large and is not replaced: it has 3 GiB after loading already."}
	if got := texts(page{View: v}.Notices()); !slices.Equal(got, want) {
		t.Errorf("notices %q, want %q", got, want)
	}
	v = healthyView()
	v.Queues.List[0].judge(status.Service{Others: 1})
	v.Fleet.Workers[0].Tone, v.Fleet.Workers[0].Unreachable = Warn, "401 Unauthorized"
	want = []string{
		"bad: Queue inference_default: 3 tasks wait and no healthy worker serves it (1 takes no tasks).",
		"warn: This worker cannot be pinged, so others may take it for dead: 401 Unauthorized",
	}
	if got := texts(page{View: v}.Notices()); !slices.Equal(got, want) {
		t.Errorf("notices %q, want %q", got, want)
	}
}

func TestQueueTone(t *testing.T) {
	for want, queues := range map[Tone][]Queue{
		Good: {{Tone: Good}, {Tone: Good, Depth: status.Depth{Pending: 1000, Latency: longWait}}},
		Warn: {
			{Tone: Good, Depth: status.Depth{Pending: 1001}},
			{Tone: Good, Depth: status.Depth{Pending: 1, Latency: longWait + 1}}, {Tone: Warn},
		},
		Bad: {{Tone: Bad, Depth: status.Depth{Pending: 5000}}},
	} {
		for _, q := range queues {
			if got := (page{View: healthyView()}).QueueTone(q); got != want {
				t.Errorf("%+v is %s, want %s", q, got, want)
			}
		}
	}
}

func TestTheOldestOfAllQueues(t *testing.T) {
	for _, c := range []struct{ a, b, rest, want time.Duration }{
		{0, 0, 0, 0}, {3, 5, 4, 5}, {0, -1, 0, -1}, {-1, 0, 0, -1}, {-1, 7, 0, 7}, {7, 0, -1, 7},
	} {
		v := &View{Queues: Queues{
			List: []Queue{{Depth: status.Depth{Latency: c.a}}, {Depth: status.Depth{Latency: c.b}}},
			Rest: Queue{Depth: status.Depth{Latency: c.rest}},
		}}
		if got := (page{View: v}).Totals().Oldest; got != c.want {
			t.Errorf("of %d, %d and %d the oldest is %d, want %d", c.a, c.b, c.rest, got, c.want)
		}
	}
	v := healthyView()
	v.Queues.List = []Queue{{Name: "q", Tone: Good, Depth: status.Depth{Pending: 2000, Latency: -1}}}
	if got, want := texts(page{View: v}.Notices()), []string{"warn: Queue q: 2,000 tasks wait."}; !slices.Equal(got, want) {
		t.Errorf("notices %q, want %q", got, want)
	}
}

func TestChecks(t *testing.T) {
	for name, want := range map[string]string{
		"healthy":  "Python process healthy good, Redis healthy good, Database not configured quiet, New tasks are taken good",
		"load":     "Python process healthy good, Redis healthy good, Database not configured quiet, New tasks wait for a free slot quiet",
		"degraded": "Python process unhealthy bad, Redis healthy good, Database healthy good, New tasks are not taken bad",
		"starting": "Python process unhealthy quiet, Redis healthy good, Database not configured quiet, New tasks are not taken quiet",
		"checker":  "Redis answers good",
	} {
		var got []string
		for _, c := range (page{View: fixtures()[name]}).Checks() {
			got = append(got, c.What+" "+c.Answer+" "+string(c.Tone))
		}
		if strings.Join(got, ", ") != want {
			t.Errorf("%s: checks %q, want %q", name, got, want)
		}
	}
	for _, c := range []struct {
		paused, more int
		err, want    string
	}{
		{0, 0, "", "are taken good"}, {1, 0, "", "are taken, from 1 of 2 queues quiet"}, {2, 0, "", "are not taken: every queue is paused warn"},
		{2, 5, "", "are taken, but not from 2 queues quiet"}, {2, 0, "no", "are taken good"},
	} {
		v := healthyView()
		v.Queues.Err, v.Queues.More = c.err, c.more
		for i := range c.paused {
			v.Queues.List[i].Paused = true
		}
		if got := (page{View: v}).Checks()[3]; got.Answer+" "+string(got.Tone) != c.want {
			t.Errorf("with %d of 2 queues paused new tasks %s %s, want %s", c.paused, got.Answer, got.Tone, c.want)
		}
	}
	v := healthyView()
	v.Health.Database = "unhealthy"
	if c := (page{View: v}).Checks()[2]; c.Tone != Bad {
		t.Errorf("a check that failed is %s", c.Tone)
	}
}
