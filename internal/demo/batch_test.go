package demo

import (
	"testing"
	"time"
)

func TestCheckOfResults(t *testing.T) {
	for _, c := range []struct {
		kind, result string
		outcome      outcome
		asExpected   bool
	}{
		{fast, `{"n":7,"square":49,"attempts":1}`, completed, true},
		{fast, `{"attempts":2,"square":49,"n":7}`, completed, true}, // its first attempt was cut short
		{fast, `{"n":7,"square":48,"attempts":1}`, lost, false},
		{fast, `{"n":8,"square":64,"attempts":1}`, lost, false},
		{fast, `{"n":7,"square":49,"attempts":1,"more":1}`, lost, false},
		{fast, `{"n":7,"square":49}`, lost, false},
		{fast, `null`, lost, false},
		{fast, `{`, lost, false},
		{slow, `{"n":7,"attempts":1}`, completed, true},
		{retrying, `{"n":7,"attempts":2}`, completed, true},
		{retrying, `{"n":7,"attempts":1}`, completed, false},
		{failing, `{"n":7,"attempts":1}`, lost, false},
	} {
		s := &sample{kind: c.kind, n: 7}
		s.check(c.result)
		if s.outcome != c.outcome || s.asExpected() != c.asExpected || (s.where == "") != c.asExpected {
			t.Errorf("%s %s: outcome %d, as expected %v, %q", c.kind, c.result, s.outcome, s.asExpected(), s.where)
		}
	}
}

func TestPercentile(t *testing.T) {
	var values []time.Duration
	if got := percentile(values, 0.5); got != 0 {
		t.Errorf("the median of nothing is %v, want 0", got)
	}
	for i := range 20 {
		values = append(values, time.Duration(i+1))
	}
	for p, want := range map[float64]time.Duration{0.5: 10, 0.95: 19, 1: 20} {
		if got := percentile(values, p); got != want {
			t.Errorf("the %v quantile is %v, want %v", p, got, want)
		}
	}
	if got := percentile(values[:1], 0.95); got != 1 {
		t.Errorf("the quantile of one value is %v, want 1", got)
	}
}

func TestRedisCLI(t *testing.T) {
	for url, want := range map[string]string{
		"redis://127.0.0.1:40123":                 "redis-cli -p 40123",
		"redis://:s3cret@h.example:6380/2":        "redis-cli -h h.example -p 6380 -n 2",
		"redis://me:s3cret@localhost/0":           "redis-cli --user me",
		"rediss://h:1":                            "redis-cli -h h -p 1 --tls",
		"redis-socket:///run/redis.sock?db=3":     "redis-cli -s /run/redis.sock -n 3",
		"redis-cluster://a:1,b:2":                 "redis-cli -c -h a -p 1",
		"redis-sentinel://a:1,b:2/0?master=first": "redis-cli",
	} {
		if got := redisCLI(url); got != want {
			t.Errorf("redis-cli for %s is %q, want %q", url, got, want)
		}
	}
}
