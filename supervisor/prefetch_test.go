package supervisor

import (
	"fmt"
	"math"
	"testing"
	"time"
)

func TestRoom(t *testing.T) {
	const ms = time.Millisecond
	is := func(d time.Duration) mean { return mean{d, true} }
	for _, tc := range []struct {
		name string
		load load
		want Room
	}{
		{"async, empty", load{left: 10}, Room{Free: 10, Idle: true}},
		{"async, full", load{concurrent: 10, beside: is(20 * ms)}, Room{Rate: 500}},
		{"async, half full", load{left: 5, concurrent: 5, beside: is(100 * ms)}, Room{Free: 5, Rate: 50, Idle: true}},
		{"async, nothing measured", load{left: 5, concurrent: 5}, Room{Free: 5, Idle: true}},
		{"more than there may be", load{left: -1}, Room{}},

		{"sync, empty, nothing known", load{left: 10, oneByOne: true, withdraws: true}, Room{Free: 2, Idle: true}},
		{"sync, empty, concurrency 1", load{left: 1, oneByOne: true, withdraws: true}, Room{Free: 1, Idle: true}},
		{"sync, one runs, nothing known", load{left: 9, oneByOne: true, withdraws: true, running: true}, Room{Free: 1}},
		{"sync, one runs for long, nothing known",
			load{left: 9, oneByOne: true, withdraws: true, running: true, ran: time.Hour}, Room{Free: 1}},
		{"sync, one waits, nothing known",
			load{left: 8, oneByOne: true, withdraws: true, running: true, waiting: 1, unknown: 1}, Room{}},

		{"sync, short ones", load{left: 10, oneByOne: true, withdraws: true, next: is(ms)}, Room{Free: 10, Rate: 1000, Idle: true}},
		{"sync, 20 ms each", load{left: 100, oneByOne: true, withdraws: true, next: is(20 * ms)}, Room{Free: 6, Rate: 50, Idle: true}},
		{"sync, one of 20 ms runs",
			load{left: 100, oneByOne: true, withdraws: true, next: is(20 * ms), running: true, runs: is(20 * ms), ran: 10 * ms},
			Room{Free: 5, Rate: 50}},
		{"sync, five of 20 ms wait",
			load{left: 100, oneByOne: true, withdraws: true, next: is(20 * ms), running: true, runs: is(20 * ms), waiting: 5, expected: 100 * ms},
			Room{Rate: 50}},
		{"sync, no time at all", load{left: 100, oneByOne: true, withdraws: true, next: is(0)}, Room{Free: 100, Rate: 1e6, Idle: true}},
		{"sync, one of an unknown type waits",
			load{left: 100, oneByOne: true, withdraws: true, next: is(ms), running: true, runs: is(ms), waiting: 1, unknown: 1},
			Room{Rate: 1000}},

		{"sync, enough waits",
			load{left: 4, oneByOne: true, withdraws: true, next: is(5 * ms), running: true, runs: is(5 * ms), waiting: 5, expected: 25 * ms},
			Room{Rate: 200}},
		{"sync, half of it has begun",
			load{left: 5, oneByOne: true, withdraws: true, next: is(5 * ms), running: true, runs: is(5 * ms), waiting: 4, expected: 20 * ms},
			Room{Free: 5, Rate: 200}},
		{"sync, enough waits, but not for long",
			load{left: 4, oneByOne: true, withdraws: true, next: is(ms), running: true, runs: is(ms), waiting: 5, expected: 5 * ms},
			Room{Free: 4, Rate: 1000}},

		{"sync, long ones", load{left: 10, oneByOne: true, withdraws: true, next: is(time.Second)}, Room{Free: 2, Rate: 1, Idle: true}},
		{"sync, a long one runs",
			load{left: 9, oneByOne: true, withdraws: true, next: is(ms), running: true, runs: is(time.Second), ran: ms}, Room{Free: 1}},
		{"sync, a long one runs and one waits",
			load{left: 8, oneByOne: true, withdraws: true, next: is(ms), running: true, runs: is(time.Second), ran: ms, waiting: 1, expected: ms},
			Room{}},
		{"sync, a long one is about to end",
			load{left: 8, oneByOne: true, withdraws: true, next: is(time.Second), running: true, runs: is(time.Second), ran: 950 * ms}, Room{Free: 1, Rate: 1}},
		{"sync, late, by the least time",
			load{left: 9, oneByOne: true, withdraws: true, next: is(ms), running: true, runs: is(ms), ran: 101 * ms}, Room{}},
		{"sync, not yet late",
			load{left: 9, oneByOne: true, withdraws: true, next: is(50 * ms), running: true, runs: is(50 * ms), ran: 200 * ms}, Room{Free: 3, Rate: 20}},
		{"sync, late, by its mean",
			load{left: 9, oneByOne: true, withdraws: true, next: is(50 * ms), running: true, runs: is(50 * ms), ran: 201 * ms}, Room{}},
		{"sync, after a withdrawal",
			load{left: 9, oneByOne: true, withdraws: true, withdrawn: true, next: is(ms), running: true, runs: is(ms)}, Room{}},

		{"no withdrawal, short ones", load{left: 10, oneByOne: true, next: is(ms)}, Room{Free: 2, Rate: 1000, Idle: true}},
		{"no withdrawal, one runs", load{left: 9, oneByOne: true, next: is(ms), running: true, runs: is(ms)}, Room{Free: 1, Rate: 1000}},
		{"no withdrawal, one waits",
			load{left: 8, oneByOne: true, next: is(ms), running: true, runs: is(ms), waiting: 1, expected: ms}, Room{Rate: 1000}},

		{"both kinds, only async ones run",
			load{left: 5, oneByOne: true, withdraws: true, concurrent: 5, beside: is(time.Second)}, Room{Free: 2, Rate: 5, Idle: true}},
		{"both kinds run",
			load{left: 4, oneByOne: true, withdraws: true, concurrent: 5, beside: is(time.Second), running: true, next: is(10 * ms), runs: is(10 * ms)},
			Room{Free: 4, Rate: 105}},
	} {
		if got := tc.load.room(); got.Free != tc.want.Free || got.Idle != tc.want.Idle || math.Abs(got.Rate-tc.want.Rate) > 1e-6 {
			t.Errorf("%s: %+v, want %+v", tc.name, got, tc.want)
		}
	}
}

func TestMean(t *testing.T) {
	var m mean
	m.add(0)
	if !m.known || m.value != 0 {
		t.Errorf("after the first duration of 0: %+v, want 0, known", m)
	}
	m = mean{}
	m.add(time.Second)
	for range 100 {
		m.add(time.Millisecond)
	}
	if m.value < time.Millisecond || m.value > 1100*time.Microsecond {
		t.Errorf("after a hundred of 1ms: %v, want about that", m.value)
	}
}

func TestDurationsAreBounded(t *testing.T) {
	var d durations
	for i := range maxMeasured + 10 {
		d.of(fmt.Sprint("type ", i)).add(time.Second)
	}
	if len(d.types) != maxMeasured || !d.others.known {
		t.Errorf("%d types are measured apart, the others known %v; want %d and true", len(d.types), d.others.known, maxMeasured)
	}
}
