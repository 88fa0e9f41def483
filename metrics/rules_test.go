package metrics_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// promisedAlerts are the names that people route and silence by.
func promisedAlerts() []string {
	return []string{
		"RunqyWorkerUnhealthy", "RunqyWorkerDown", "RunqyAllWorkersDown", "RunqyHeartbeatStale",
		"RunqyQueueBacklog", "RunqyQueueLatencyHigh", "RunqyNoProgress", "RunqyTaskFailures",
		"RunqyTasksSlow", "RunqyEventLoopBlocked", "RunqyWorkerCrashLooping", "RunqyFleetUnchecked",
		"RunqyTaskWaitHigh", "RunqyTasksLost", "RunqyWorkerRecycling", "RunqyWorkerDied", "RunqyQueueUnserved",
	}
}

const (
	runbook = "../docs/runbook.md"
	// runbookURL lets an external label of Prometheus name another page.
	runbookURL = "{{ with $externalLabels.runqy_runbook }}{{ . }}{{ else }}" +
		"https://github.com/runqy/runqy-worker/blob/main/docs/runbook.md{{ end }}#"
)

type rule struct {
	Alert, Record, Expr, For string
	Labels, Annotations      map[string]string
}

func readYAML(t *testing.T, path string, v any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(b, v); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func readRules(t *testing.T, path string) []rule {
	t.Helper()
	var file struct {
		Groups []struct{ Rules []rule }
	}
	readYAML(t, path, &file)
	var rules []rule
	for _, g := range file.Groups {
		rules = append(rules, g.Rules...)
	}
	if len(rules) == 0 {
		t.Fatalf("%s holds no rules", path)
	}
	return rules
}

func files(t *testing.T, pattern string) []string {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) == 0 {
		t.Fatalf("%s matches no file (%v)", pattern, err)
	}
	return paths
}

func TestPromtoolTakesTheRules(t *testing.T) {
	runTool(t, "", "promtool", append([]string{"check", "rules"}, files(t, "rules/*.yaml")...)...)
	runTool(t, "", "promtool", append([]string{"test", "rules"}, files(t, "rules/tests/*.yaml")...)...)
}

func TestDeployedConfigurationLoadsTheRules(t *testing.T) {
	out := runTool(t, "", "promtool", "check", "config", "../deploy/prometheus/prometheus.yml")
	if !strings.Contains(out, "2 rule files found") {
		t.Errorf("deploy/prometheus/prometheus.yml does not load both rule files:\n%s", out)
	}
	runTool(t, "", "amtool", "check-config", "../deploy/alertmanager/alertmanager.yml")
}

func TestEveryAlertIsThereAndComplete(t *testing.T) {
	text, err := os.ReadFile(runbook)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, r := range readRules(t, "rules/alerts.yaml") {
		if r.Alert == "" {
			continue // what alerts read is recorded beside them
		}
		names = append(names, r.Alert)
		if s := r.Labels["severity"]; s != "critical" && s != "warning" {
			t.Errorf("%s has severity %q, want critical or warning", r.Alert, s)
		}
		for _, a := range []string{"summary", "description"} {
			if r.Annotations[a] == "" {
				t.Errorf("%s has no %s", r.Alert, a)
			}
		}
		// GitHub makes the anchor of a heading by lowering its letters.
		if got, want := r.Annotations["runbook_url"], runbookURL+strings.ToLower(r.Alert); got != want {
			t.Errorf("%s has runbook_url %q, want %q", r.Alert, got, want)
		}
		if !strings.Contains(string(text), "\n## "+r.Alert+"\n") {
			t.Errorf("%s has no section in docs/runbook.md", r.Alert)
		}
	}
	for _, want := range promisedAlerts() {
		if !slices.Contains(names, want) {
			t.Errorf("alert %s is missing", want)
		}
	}
	for _, heading := range regexp.MustCompile(`(?m)^## (Runqy\w+)$`).FindAllStringSubmatch(string(text), -1) {
		if !slices.Contains(names, heading[1]) {
			t.Errorf("docs/runbook.md has a section for %s, which is no alert", heading[1])
		}
	}
	for _, link := range regexp.MustCompile(`\]\(#(\w+)\)`).FindAllStringSubmatch(string(text), -1) {
		if link[1] != "numbers" && !slices.ContainsFunc(names, func(n string) bool { return strings.ToLower(n) == link[1] }) {
			t.Errorf("docs/runbook.md links to #%s, which is no section", link[1])
		}
	}
}

// Each alert is shown silent, then firing, then silent again, in one and the same run of a file of its own.
func TestEveryAlertIsTested(t *testing.T) {
	for _, alert := range promisedAlerts() {
		var file struct {
			Tests []struct {
				Cases []struct {
					Alertname string      `yaml:"alertname"`
					At        string      `yaml:"eval_time"`
					Expected  []yaml.Node `yaml:"exp_alerts"`
				} `yaml:"alert_rule_test"`
			}
		}
		readYAML(t, filepath.Join("rules/tests", alert+".yaml"), &file)
		complete := false
		for _, run := range file.Tests {
			shape := ""
			last := time.Duration(0)
			for _, c := range run.Cases {
				at, err := time.ParseDuration(c.At)
				if err != nil {
					t.Fatalf("%s: eval_time: %v", alert, err)
				}
				if c.Alertname != alert || at < last {
					t.Errorf("%s: the case at %s is of %s or out of order", alert, c.At, c.Alertname)
				}
				last = at
				if len(c.Expected) > 0 {
					shape += "F"
				} else {
					shape += "-"
				}
			}
			complete = complete || regexp.MustCompile(`-.*F.*-`).MatchString(shape)
		}
		if !complete {
			t.Errorf("rules/tests/%s.yaml has no run that is silent, fires and is silent again", alert)
		}
	}
}

// metricName finds metrics in expressions and in prose; a name that goes on with * stands for all that begin so. A
// recorded name is left whole.
var metricName = regexp.MustCompile(`[a-z_]*:?(?:runqy|python)_[a-z0-9_]+(?::[a-z0-9_]+|\*)?`)

// known tells whether name, as it stands in an expression or in prose, is exported, or the part of a histogram that is.
func known(names map[string]bool, name string) bool {
	if prefix, ok := strings.CutSuffix(name, "*"); ok {
		for n := range names {
			if strings.HasPrefix(n, prefix) {
				return true
			}
		}
		return false
	}
	histograms := []string{"runqy_task_duration_seconds", "runqy_task_wait_seconds"}
	for _, part := range []string{"", "_bucket", "_sum", "_count"} {
		if base, ok := strings.CutSuffix(name, part); ok && names[base] && (part == "" || slices.Contains(histograms, base)) {
			return true
		}
	}
	return false
}

func TestRulesReadOnlyWhatIsExported(t *testing.T) {
	names := exported(t)
	for _, path := range files(t, "rules/*.yaml") {
		recorded := map[string]bool{} // a file may read what it records itself: it is loaded as a whole
		for _, r := range readRules(t, path) {
			recorded[r.Record] = true
		}
		for _, r := range readRules(t, path) {
			found := metricName.FindAllString(r.Expr, -1)
			if len(found) == 0 && !strings.Contains(r.Expr, "up{") {
				t.Errorf("%s: no metric found in %q", r.Alert+r.Record, r.Expr)
			}
			for _, name := range found {
				if !known(names, name) && !recorded[name] {
					t.Errorf("%s reads %s, which is not exported", r.Alert+r.Record, name)
				}
			}
			if strings.Contains(r.Expr, "runqy_queue_") && regexp.MustCompile(`(sum|avg|count)[^(]*\(\s*runqy_queue_`).MatchString(r.Expr) {
				t.Errorf("%s does not take the maximum of runqy_queue_*: %s", r.Alert+r.Record, r.Expr)
			}
		}
	}
}

// The tables of docs/metrics.md are generated; this reads the prose.
func TestDocsNameNoOtherMetric(t *testing.T) {
	names := exported(t)
	recorded := map[string]bool{}
	for _, r := range readRules(t, "rules/alerts.yaml") {
		recorded[r.Record] = true
	}
	for _, r := range readRules(t, "rules/recording.yaml") {
		recorded[r.Record] = true
		level, rest, _ := strings.Cut(r.Record, ":")
		metric, op, ok := strings.Cut(rest, ":")
		if !ok || level == "" || op == "" || !strings.HasPrefix(metric, "runqy_") {
			t.Errorf("%s is not named level:metric:operations", r.Record)
		}
	}
	for _, path := range files(t, "../docs/*.md") {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range metricName.FindAllString(string(b), -1) {
			if !known(names, name) && !recorded[name] && name != "python_pid" && name != "python_version" && name != "runqy_runbook" {
				t.Errorf("%s names %s, which is not exported", path, name)
			}
		}
	}
}
