package main

import (
	"strings"
	"testing"
	"time"
)

func TestJudge(t *testing.T) {
	lifted := &fault{lift: nothing}
	for name, c := range map[string]struct {
		fault *fault
		spans []span
		can   bool
		times times
		want  judged
	}{
		"it is red in time": {
			spans: []span{{green, -1, 4, ""}, {red, 4.2, 14, ""}}, times: times{end: 14},
			want: judged{RedAfter: 4.2, Back: -1},
		},
		"it stays green": {
			spans: []span{{green, -1, 14, ""}}, times: times{end: 14},
			want: judged{RedAfter: -1, Back: -1, FalseGreen: true, Why: "green 14.0 s after the fault began"},
		},
		"it is green again although the fault lasts": {
			spans: []span{{red, 1, 2, ""}, {green, 3, 11, ""}, {red, 11.5, 14, ""}}, times: times{end: 14},
			want: judged{RedAfter: 11.5, Back: -1, FalseGreen: true, Why: "green 11.0 s after the fault began"},
		},
		"the fault begins later": {
			spans: []span{{green, -1, 12, ""}, {red, 12.5, 17, ""}}, times: times{begin: 3, end: 17},
			want: judged{RedAfter: 9.5, Back: -1},
		},
		"no answer is not green": {
			spans: []span{{green, -1, 0.5, ""}, {silent, 0.6, 14, ""}}, times: times{end: 14},
			want: judged{RedAfter: 0.6, Back: -1},
		},
		"it works and is green": {
			spans: []span{{green, -1, 14, ""}}, can: true, times: times{end: 14},
			want: judged{RedAfter: -1, Back: -1},
		},
		"it works and is red for a moment": {
			spans: []span{{green, -1, 4, ""}, {red, 5, 5, "why"}, {green, 6, 14, ""}}, can: true, times: times{end: 14},
			want: judged{RedAfter: -1, Back: -1, FalseRed: true, Why: "red from 5.0 to 5.0 s: why"},
		},
		"it works again soon enough": {
			fault: &fault{settle: 10 * time.Second},
			spans: []span{{green, -1, 0, ""}, {red, 1, 9, ""}, {green, 9.5, 14, ""}}, can: true, times: times{end: 14},
			want: judged{RedAfter: -1, Back: -1},
		},
		"it is replaced as planned": {
			spans: []span{{green, -1, 0, ""}, {neither, 1, 4, ""}, {green, 4.5, 14, ""}}, can: true, times: times{end: 14},
			want: judged{RedAfter: -1, Back: -1},
		},
		"it is replaced for too long": {
			spans: []span{{green, -1, 0, ""}, {neither, 1, 13, ""}, {green, 13.5, 14, ""}}, can: true, times: times{end: 14},
			want: judged{RedAfter: -1, Back: -1, FalseRed: true, Why: "neither from 1.0 to 13.0 s: "},
		},
		"it is green after the end of the fault": {
			fault: lifted, spans: []span{{red, 1, 17, ""}, {green, 17.5, 18, ""}}, times: times{end: 14, back: 15},
			want: judged{RedAfter: 1, Back: 3},
		},
		"it stays red after the end of the fault": {
			fault: lifted, spans: []span{{red, 1, 39, ""}}, times: times{end: 14, back: 15},
			want: judged{RedAfter: 1, Back: 25, FalseRed: true, Why: "not green 25.0 s after the fault was over"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := c.fault
			if f == nil {
				f = &fault{}
			}
			if c.fault == nil || c.fault.lift == nil {
				c.times.back = -1
			}
			c.times.slack = 1
			if got := f.judge(c.spans, c.can, c.times); got != c.want {
				t.Errorf("it is judged as %+v, want %+v", got, c.want)
			}
		})
	}
}

func TestSpans(t *testing.T) {
	began := time.Now()
	at := func(s float64) time.Time { return began.Add(time.Duration(s * float64(time.Second))) }
	w := &watch{names: []string{"a"}, said: map[string][]sample{"a": {
		{at(0), answer{green, ""}}, {at(1), answer{green, ""}}, {at(2), answer{red, "why"}}, {at(3), answer{red, "why still"}},
	}}}
	got := w.spans("a", at(1))
	want := []span{{green, -1, 0, ""}, {red, 1, 2, "why"}}
	if len(got) != len(want) || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("the spans are %+v, want %+v", got, want)
	}
}

// The page has every case, its closing line counts, and what is wrong is bold.
func TestPage(t *testing.T) {
	spans := map[string][]span{"/readyz": {{red, 2, 14, `{"status":"NOT_READY","reason":"Redis refuses: OOM | full."}`}}}
	r := &results{
		Faults: []description{
			{Name: "one", Title: "First", Group: "Some", Peers: []string{"celery"}}, {Name: "two", Title: "Second", Group: "Others"},
		},
		Records: []*record{
			{Fault: "one", System: "worker", Truth: unable, Said: spans, Judged: map[string]judged{"/readyz": {RedAfter: 2, Back: -1}, "heartbeat": {FalseGreen: true}}},
			{Fault: "one", System: "celery", Truth: able, Judged: map[string]judged{"inspect ping": {FalseRed: true}}},
			{Fault: "two", System: "worker", Error: "it could not be done"},
		},
	}
	page := string(pageOf(r))
	for _, want := range []string{
		"## Some\n", "| First | cannot work | **green** | – | 2.0 s |", "| works, **red** |\n", "## Others\n", "| Second | **not judged** |",
		"| First | Redis refuses: OOM \\| full. |",
		"runqy-worker: 2 cases, 1 false greens, 0 false reds, 1 not judged; Celery: 1 cases, 0 false greens, 1 false reds.\n",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q:\n%s", want, page)
		}
	}
}

// Every case has a name and a title of its own, and so many there are at least.
func TestFaults(t *testing.T) {
	const least = 40
	names, titles := map[string]bool{}, map[string]bool{}
	all := faults(false)
	for _, f := range all {
		if f.name == "" || f.title == "" || f.group == "" || names[f.name] || titles[f.title] {
			t.Errorf("%q (%s) has no name or title of its own", f.name, f.title)
		}
		names[f.name], titles[f.title] = true, true
	}
	if len(all) < least {
		t.Errorf("there are %d cases, want at least %d", len(all), least)
	}
}
