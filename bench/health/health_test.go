package main

import (
	"regexp"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/test/harness"
)

func TestMain(m *testing.M) {
	redis.SetLogger(mute{})
	harness.Main(m, 3)
}

// testSlack is what the bench's limits are multiplied by in tests, which share the machine with others.
const testSlack = 2

// The quick cases; the tests beside them want the processors too.
func TestHealth(t *testing.T) {
	t.Parallel()
	judgeOurs(t, options{program: harness.ProgramWithoutRace(t), quick: true})
}

// All cases with our worker; make health-bench has the others beside it.
func TestLongHealth(t *testing.T) {
	harness.Long(t)
	t.Parallel()
	judgeOurs(t, options{program: harness.ProgramWithoutRace(t)})
}

func judgeOurs(t *testing.T, o options) {
	t.Helper()
	o.root, o.python, o.slack, o.only = harness.RepositoryFile(t, "."), "python3", testSlack, regexp.MustCompile("")
	b, err := prepare(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.close)
	chosen := o.choose()
	for i := range chosen {
		f := &chosen[i]
		t.Run(f.name, func(t *testing.T) {
			if !f.alone {
				t.Parallel()
			}
			if missing := f.missing(); missing != "" {
				t.Skip(missing)
			}
			if r := b.do(t.Context(), f, &ours{}); r.wrong() {
				t.Errorf("%s\n%s", r.line(), r.Log)
			}
		})
	}
}
