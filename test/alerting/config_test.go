package alerting

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/runqy/runqy-worker/test/harness"
)

// This file turns the configuration that is shipped into one for a test: the same alerts in seconds instead of minutes.
// Addresses, durations and the limits named below change, nothing else, so that a fault in the shipped files is found.

const (
	forScale   = 60 // a minute that an alert or a message waits is a second
	rangeScale = 20 // five minutes that an expression looks back are fifteen seconds
	// maxFor and maxRange bound what remains of a long "for", and of a long look back: alerts end that much later.
	maxFor   = 10 * time.Second
	maxRange = 20 * time.Second
)

// testLimits are the limits that no short test would reach, or would reach by being slow.
var testLimits = []struct{ alert, shipped, test string }{
	{"RunqyHeartbeatStale", "> 30", "> 4"}, // the tests' workers beat each second
	{"RunqyEventLoopBlocked", "> 5", "> 1"},
	{"RunqyQueueBacklog", "> 1000", "> 20"},
	{"RunqyQueueLatencyHigh", "> 300", "> 5"},
	{"RunqyTasksSlow", "> 60", "> 1"},
}

type tree = map[string]any

func readTree(t *testing.T, path string) tree {
	t.Helper()
	var doc tree
	if err := yaml.Unmarshal([]byte(harness.ReadFile(t, path)), &doc); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return doc
}

func writeTree(t *testing.T, path string, doc tree) {
	t.Helper()
	text, err := yaml.Marshal(doc)
	if err != nil {
		t.Fatalf("marshal %s: %v", path, err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatalf("make the folder of %s: %v", path, err)
	}
	harness.WriteFile(t, path, string(text))
}

// at returns the node of a tree at a path of keys and indexes, and fails the test if it is not there or of another
// type.
func at[T any](t *testing.T, node any, path ...any) T {
	t.Helper()
	for i, step := range path {
		switch key := step.(type) {
		case string:
			node = node.(tree)[key]
		case int:
			list, _ := node.([]any)
			if key >= len(list) {
				t.Fatalf("%v: the list has %d items, want more", path[:i+1], len(list))
			}
			node = list[key]
		}
	}
	found, ok := node.(T)
	if !ok {
		t.Fatalf("%v is %T, want %T", path, node, found)
	}
	return found
}

func items(t *testing.T, node tree, key string) []tree {
	t.Helper()
	var out []tree
	for i := range at[[]any](t, node, key) {
		out = append(out, at[tree](t, node, key, i))
	}
	return out
}

// prometheusConfig lays out a folder like the repository, with targets in place of the shipped one, and returns the
// path of the configuration in it. Without an Alertmanager the alerts stay in Prometheus.
func prometheusConfig(t *testing.T, targets []string, alertmanager string) string {
	t.Helper()
	dir := t.TempDir()
	doc := readTree(t, "../../deploy/prometheus/prometheus.yml")
	global := at[tree](t, doc, "global")
	global["scrape_interval"], global["evaluation_interval"] = "1s", "1s"
	at[tree](t, doc, "scrape_configs", 0, "static_configs", 0)["targets"] = targets
	if alertmanager == "" {
		delete(doc, "alerting")
	} else {
		at[tree](t, doc, "alerting", "alertmanagers", 0, "static_configs", 0)["targets"] = []string{alertmanager}
	}
	path := filepath.Join(dir, "deploy/prometheus/prometheus.yml")
	writeTree(t, path, doc)
	for _, name := range []string{"alerts.yaml", "recording.yaml"} {
		shipped := filepath.Join("../../metrics/rules", name)
		inTest := filepath.Join(dir, "metrics/rules", name)
		writeTree(t, inTest, shortened(t, readTree(t, shipped)))
		sameRules(t, shipped, inTest)
	}
	return path
}

// shortened shortens the durations of rules, and lowers the limits in testLimits.
func shortened(t *testing.T, doc tree) tree {
	t.Helper()
	lookback := regexp.MustCompile(`\[\w+\]|offset \w+`)
	for _, group := range items(t, doc, "groups") {
		for _, rule := range items(t, group, "rules") {
			expr := lookback.ReplaceAllStringFunc(at[string](t, rule, "expr"), func(r string) string {
				if by, found := strings.CutPrefix(r, "offset "); found {
					return "offset " + scaled(t, by, rangeScale, maxRange)
				}
				return "[" + scaled(t, strings.Trim(r, "[]"), rangeScale, maxRange) + "]"
			})
			for _, limit := range testLimits {
				if rule["alert"] != limit.alert {
					continue
				}
				if strings.Count(expr, limit.shipped) != 1 {
					t.Fatalf("%s: want %q once in %s", limit.alert, limit.shipped, expr)
				}
				expr = strings.Replace(expr, limit.shipped, limit.test, 1)
			}
			rule["expr"] = expr
			if held, ok := rule["for"].(string); ok {
				rule["for"] = scaled(t, held, forScale, maxFor)
			}
		}
	}
	return doc
}

// scaled divides a duration as Prometheus writes it, to no more than most.
func scaled(t *testing.T, text string, by int, most time.Duration) string {
	t.Helper()
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("duration: %v", err)
	}
	return strconv.FormatInt(min(d/time.Duration(by), most).Milliseconds(), 10) + "ms"
}

// sameRules checks that two files have the same rules, which differ in nothing but numbers.
func sameRules(t *testing.T, shipped, inTest string) {
	t.Helper()
	// With a recorded name's digits left alone: those of numbers and durations only.
	number := regexp.MustCompile(`\b\d+(\.\d+)?(ms|[smhd])?\b`)
	plain := func(path string) tree {
		doc := readTree(t, path)
		for _, group := range items(t, doc, "groups") {
			for _, rule := range items(t, group, "rules") {
				rule["expr"] = number.ReplaceAllString(at[string](t, rule, "expr"), "N")
				if rule["for"] != nil {
					rule["for"] = "N"
				}
			}
		}
		return doc
	}
	if want, got := plain(shipped), plain(inTest); !reflect.DeepEqual(want, got) {
		t.Fatalf("the rules for the test are not those of %s:\n%v\nwant\n%v", shipped, got, want)
	}
}

// alertmanagerConfig writes the shipped configuration with every receiver, named by the path, at a webhook.
func alertmanagerConfig(t *testing.T, hook string) string {
	t.Helper()
	doc := readTree(t, "../../deploy/alertmanager/alertmanager.yml")
	shortenRoute(t, at[tree](t, doc, "route"))
	for _, receiver := range items(t, doc, "receivers") {
		receiver["webhook_configs"] = []tree{{"url": hook + "/" + at[string](t, receiver, "name")}}
	}
	path := filepath.Join(t.TempDir(), "alertmanager.yml")
	writeTree(t, path, doc)
	return path
}

func shortenRoute(t *testing.T, route tree) {
	t.Helper()
	for _, key := range []string{"group_wait", "group_interval", "repeat_interval"} {
		if d, ok := route[key].(string); ok {
			route[key] = scaled(t, d, forScale, time.Hour)
		}
	}
	if route["routes"] == nil {
		return
	}
	for _, r := range items(t, route, "routes") {
		shortenRoute(t, r)
	}
}
