package metrics_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const ruleManifest = "../deploy/kubernetes/components/prometheus/prometheusrule.yaml"

const ruleHeader = `# The rules of metrics/rules for the Prometheus operator, written by ` + "`make generate`" + `: change them there.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: runqy-worker
  labels:
    app.kubernetes.io/name: runqy-worker
spec:
  groups:
`

// The operator wants the rules inside an object of its own; this keeps them the same as those that are tested.
func TestPrometheusRuleHasTheShippedRules(t *testing.T) {
	files, err := filepath.Glob("rules/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("rules: %v, %v", files, err)
	}
	slices.Sort(files)
	var want strings.Builder
	want.WriteString(ruleHeader)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, groups, found := strings.Cut("\n"+string(text), "\ngroups:\n")
		if !found {
			t.Fatalf("%s has no line `groups:`", file)
		}
		for line := range strings.Lines(groups) {
			if strings.TrimSpace(line) != "" {
				want.WriteString("  ")
			}
			want.WriteString(line)
		}
	}
	if *update {
		if err := os.WriteFile(ruleManifest, []byte(want.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	have, err := os.ReadFile(ruleManifest)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != want.String() {
		t.Errorf("%s is not what metrics/rules has: make generate", ruleManifest)
	}
}
