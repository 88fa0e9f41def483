package alerting

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/hibiken/asynq"

	"github.com/runqy/runqy-worker/internal/redistest"
	"github.com/runqy/runqy-worker/test/harness"
)

const grafanaDashboard = "../../deploy/grafana/dashboards/runqy-worker.json"

// dashboard is what Grafana reads of the file, as far as these tests look.
type dashboard struct {
	UID, Title    string
	ID            *int
	SchemaVersion int
	Panels        []panel
	Templating    struct{ List []variable }
	Annotations   struct{ List []annotation }
}

type panel struct {
	ID                       int
	Type, Title, Description string
	Datasource               datasource
	GridPos                  struct{ H, W, X, Y int }
	Links                    []struct{ URL string }
	Targets                  []target
	FieldConfig              struct {
		Defaults struct {
			Unit       string
			Thresholds struct{ Steps []struct{ Value *float64 } }
			Custom     struct{ ThresholdsStyle struct{ Mode string } }
		}
	}
}

type target struct {
	Datasource                datasource
	Expr, LegendFormat, RefID string
	Format                    string
}

type datasource struct{ Type, UID string }

type variable struct {
	Name, Type, AllValue string
	Datasource           datasource
	Query                json.RawMessage
}

type annotation struct {
	Datasource datasource
	Expr       string
}

func readDashboard(t *testing.T) dashboard {
	t.Helper()
	var d dashboard
	if err := json.Unmarshal([]byte(harness.ReadFile(t, grafanaDashboard)), &d); err != nil {
		t.Fatalf("%s: %v", grafanaDashboard, err)
	}
	if len(d.Panels) < 20 || len(d.Templating.List) < 4 {
		t.Fatalf("%s has %d panels and %d variables, want 20 and 4 at least", grafanaDashboard, len(d.Panels), len(d.Templating.List))
	}
	return d
}

// The file is one that Grafana provisions, and each panel says what it shows, in which unit, and where to read on.
func TestGrafanaDashboardIsWellFormed(t *testing.T) {
	t.Parallel()
	d := readDashboard(t)
	if written := harness.Execute(t, os.Environ(), "python3", "../../deploy/grafana/dashboard.py"); written.Out != harness.ReadFile(t, grafanaDashboard) {
		t.Errorf("deploy/grafana/dashboard.py writes another dashboard: make generate; it says %q", written.ErrOut)
	}
	if d.UID == "" || d.Title == "" || d.ID != nil || d.SchemaVersion < 36 {
		t.Errorf("uid %q, title %q, id %v, schemaVersion %d, want a uid, a title, no id (Grafana gives it) and 36 at least", d.UID, d.Title, d.ID, d.SchemaVersion)
	}
	limits := alertLimits(t)
	ids, titles, taken := map[int]bool{}, map[string]bool{}, map[[2]int]string{}
	for _, p := range d.Panels {
		if ids[p.ID] || p.ID == 0 || titles[p.Title] || p.Title == "" {
			t.Errorf("panel %d %q, want an id and a title of its own", p.ID, p.Title)
		}
		ids[p.ID], titles[p.Title] = true, true
		if p.GridPos.W < 1 || p.GridPos.H < 1 || p.GridPos.X < 0 || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("%s: it does not fit into 24 columns: %+v", p.Title, p.GridPos)
		}
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				if other := taken[at]; other != "" {
					t.Fatalf("panel %s lies over panel %s", p.Title, other)
				}
				taken[at] = p.Title
			}
		}
		if p.Type != "row" {
			p.check(t, limits)
		}
	}
	asked := ""
	for _, q := range d.queries() {
		asked += q.Expr + "\n"
	}
	for _, metric := range []string{
		"runqy_queue_unserved_tasks", "runqy_worker_idle_tasks", "runqy_worker_recycling_suspended", "runqy_log_lines_dropped_total",
	} {
		if !strings.Contains(asked, metric+"{") {
			t.Errorf("no panel shows %s", metric)
		}
	}
	for _, v := range d.Templating.List {
		if v.Type != "datasource" && v.Datasource.UID != "${datasource}" {
			t.Errorf("variable %s asks %+v, want ${datasource}", v.Name, v.Datasource)
		}
	}
}

func (p panel) check(t *testing.T, limits map[string]string) {
	t.Helper()
	defaults := p.FieldConfig.Defaults
	if p.Description == "" || defaults.Unit == "" || len(defaults.Thresholds.Steps) == 0 {
		t.Errorf("%s: description %q, unit %q, %d thresholds, want all three", p.Title, p.Description, defaults.Unit, len(defaults.Thresholds.Steps))
	}
	if p.Datasource.UID != "${datasource}" || len(p.Targets) == 0 {
		t.Errorf("%s: asks %+v with %d queries, want ${datasource} and one at least", p.Title, p.Datasource, len(p.Targets))
	}
	refs := map[string]bool{}
	for _, q := range p.Targets {
		if q.Expr == "" || q.RefID == "" || refs[q.RefID] || q.Datasource.UID != "${datasource}" {
			t.Errorf("%s: query %+v, want an expression, a refId of its own and ${datasource}", p.Title, q)
		}
		refs[q.RefID] = true
		if strings.Contains(q.Expr, "{") && !strings.Contains(q.Expr, `"$job"`) && !strings.Contains(q.Expr, "ALERTS") {
			t.Errorf("%s: what is chosen above does not matter to %s", p.Title, q.Expr)
		}
		if regexp.MustCompile(`(sum|avg|count)[^(]*\(\s*runqy_queue_`).MatchString(q.Expr) {
			t.Errorf("%s does not take the maximum of runqy_queue_*: %s", p.Title, q.Expr)
		}
	}
	alerts := ""
	for _, link := range p.Links {
		_, anchor, _ := strings.Cut(link.URL, "docs/runbook.md#")
		expr, ok := limits[anchor]
		if !ok {
			t.Errorf("%s: %s is no section of the runbook", p.Title, link.URL)
		}
		alerts += expr + "\n"
	}
	// A line that is drawn is where an alert fires.
	if defaults.Custom.ThresholdsStyle.Mode != "dashed" {
		return
	}
	for _, step := range defaults.Thresholds.Steps {
		if step.Value != nil && !strings.Contains(alerts, "> "+strconv.FormatFloat(*step.Value, 'f', -1, 64)) {
			t.Errorf("%s: no alert that it links to has the limit %v", p.Title, *step.Value)
		}
	}
}

// alertLimits are the expressions of the shipped alerts by the anchors of their runbook sections.
func alertLimits(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, group := range items(t, readTree(t, "../../metrics/rules/alerts.yaml"), "groups") {
		for _, rule := range items(t, group, "rules") {
			if name, ok := rule["alert"].(string); ok {
				found[strings.ToLower(name)] += at[string](t, rule, "expr") + "\n"
			}
		}
	}
	return found
}

// The provisioning names the folder of the dashboard and the address of Prometheus.
func TestGrafanaProvisioning(t *testing.T) {
	t.Parallel()
	const dir = "../../deploy/grafana/provisioning"
	provider := at[tree](t, readTree(t, filepath.Join(dir, "dashboards/runqy.yaml")), "providers", 0)
	if provider["type"] != "file" || at[string](t, provider, "options", "path") == "" {
		t.Errorf("the provider is %v, want a folder of files", provider)
	}
	source := at[tree](t, readTree(t, filepath.Join(dir, "datasources/prometheus.yaml")), "datasources", 0)
	if source["type"] != "prometheus" || source["url"] == "" {
		t.Errorf("the datasource is %v, want Prometheus and its URL", source)
	}
	scraped := at[string](t, readTree(t, "../../deploy/prometheus/prometheus.yml"), "global", "scrape_interval")
	if got := at[string](t, source, "jsonData", "timeInterval"); got != scraped {
		t.Errorf("timeInterval is %s, want Prometheus' scrape_interval, %s", got, scraped)
	}
}

// Each query of the dashboard, and of its variables and marks, has data in a real Prometheus that looks at real
// workers, whether it scrapes native histograms or classic ones.
func TestGrafanaQueriesHaveData(t *testing.T) {
	t.Parallel()
	d := readDashboard(t)
	redis := redistest.Start(t)
	q := harness.NewQueue(t, redis.Client)
	on := harness.Settings{"worker.queues": []string{harness.QueueName}, "fleet.enabled": true, "fleet.interval": "1s"}
	works := watched(t, redis.URL, "works", on)
	broken := watched(t, redis.URL, "broken", on)
	q.PythonPID(works.ID)
	harness.Kill(t, q.PythonPID(broken.ID), syscall.SIGKILL) // so that an alert fires

	targets := []string{works.Addr(), broken.Addr()}
	for name, p := range map[string]*server{
		"classic": startPrometheus(t, prometheusConfig(t, targets, "")),
		"native":  startPrometheus(t, prometheusConfig(t, targets, ""), "--enable-feature=native-histograms"),
	} {
		t.Run(name, func(t *testing.T) {
			chosen := p.choose(t, d)
			left := d.queries()
			var last string
			harness.Eventually(t, "every query has data", func() error {
				// There is always something that has just happened.
				q.Enqueue("echo", nil)
				q.Enqueue("boom", nil, asynq.MaxRetry(0))
				for title, query := range left {
					answer := p.query(chosen.Replace(query.Expr))
					if text := failed(answer); text != "" {
						return harness.Fatal("%s: %s: %s", title, query.Expr, text)
					}
					if last = query.lacks(answer); last == "" {
						delete(left, title)
					}
				}
				if len(left) > 0 {
					return fmt.Errorf("not so %q; the last: %s", slices.Sorted(maps.Keys(left)), last)
				}
				return nil
			})
		})
	}
}

// queries are all that the dashboard asks, by where it does.
func (d dashboard) queries() map[string]target {
	all := map[string]target{}
	for _, p := range d.Panels {
		for _, q := range p.Targets {
			all[p.Title+" "+q.RefID] = q
		}
	}
	for i, a := range d.Annotations.List {
		if a.Expr != "" {
			all[fmt.Sprintf("annotation %d", i)] = target{Expr: a.Expr}
		}
	}
	return all
}

// lacks returns what is missing in an answer: a number, or a label that the legend names; "" if nothing is.
func (q target) lacks(answer []sample) string {
	legend := regexp.MustCompile(`\{\{(\w+)\}\}`)
	for _, s := range answer {
		for _, label := range legend.FindAllStringSubmatch(q.LegendFormat, -1) {
			if s.Metric[label[1]] == "" {
				return fmt.Sprintf("%v has no label %s", s.Metric, label[1])
			}
		}
		text, _ := s.Value[1].(string)
		if v, err := strconv.ParseFloat(text, 64); err == nil && !math.IsNaN(v) {
			return ""
		}
	}
	return fmt.Sprintf("%s answers %v", q.Expr, answer)
}

// choose runs the variables' queries, and puts all of their values in their places, as Grafana does when all are chosen
// one by one.
func (s *server) choose(t *testing.T, d dashboard) *strings.Replacer {
	t.Helper()
	replace := []string{"$__rate_interval", "15s"}
	for _, v := range d.Templating.List {
		if v.Type == "datasource" {
			continue
		}
		var query struct{ Query string }
		if err := json.Unmarshal(v.Query, &query); err != nil {
			t.Fatalf("variable %s: %v", v.Name, err)
		}
		parts := regexp.MustCompile(`^label_values\((.+), (\w+)\)$`).FindStringSubmatch(query.Query)
		if parts == nil {
			t.Fatalf("variable %s asks %q, want label_values(selector, label)", v.Name, query.Query)
		}
		selector := strings.NewReplacer(replace...).Replace(parts[1])
		var values []string
		harness.Eventually(t, "the variable "+v.Name+" has values", func() error {
			var answer struct{ Data []string }
			if err := s.ask("/api/v1/label/"+parts[2]+"/values", url.Values{"match[]": {selector}}, &answer); err != nil {
				return err
			}
			if len(answer.Data) == 0 || v.Name == "instance" && len(answer.Data) < 2 {
				return errors.New("none yet for " + selector)
			}
			values = values[:0]
			for _, value := range answer.Data {
				values = append(values, strings.ReplaceAll(regexp.QuoteMeta(value), `\`, `\\`))
			}
			return nil
		})
		replace = append(replace, "$"+v.Name, "("+strings.Join(values, "|")+")")
	}
	return strings.NewReplacer(replace...)
}
