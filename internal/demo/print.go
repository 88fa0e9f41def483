package demo

import (
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/fatih/color"
)

// maxNamed is how many tasks are named when many did not end as expected.
const maxNamed = 20

func (d *demo) printf(format string, args ...any) { fmt.Fprintf(d.Out, format, args...) }

// paint marks text where colours are shown.
func (d *demo) paint(text string, attributes ...color.Attribute) string {
	if !d.Colour {
		return text
	}
	c := color.New(attributes...)
	c.EnableColor() // the caller has decided
	return c.Sprint(text)
}

// entry is a text with what it is about, on one line.
type entry struct{ label, text string }

func (d *demo) printSection(title string, entries ...entry) {
	if title != "" {
		d.printf("\n%s\n", d.paint(title, color.Bold))
	}
	for _, e := range entries {
		d.printf("  %-18s %s\n", e.label, e.text)
	}
}

func (d *demo) printHead(pid int) {
	redis := d.target.String() + ", queue " + d.queue + " is this demo's own"
	if d.embedded != nil {
		redis = d.embedded.Addr() + ", inside this process: nothing in it outlives it"
	}
	d.printSection("",
		entry{"redis", redis},
		entry{"worker", fmt.Sprintf("%s on queue %s, %d tasks at a time", d.workerID, d.queue, concurrency)},
		entry{"python", fmt.Sprintf("pid %d: %s %s/tasks.py", pid, d.python, d.dir)},
	)
	if base := d.baseURL(); base != "" {
		note := ""
		if d.moved {
			note = " (" + DefaultListen + " is in use)"
		}
		d.printSection("", entry{"http", base + note})
	}
}

// printCommands says what to open and what to type.
func (d *demo) printCommands(b *batch, pid int) {
	if base := d.baseURL(); base != "" {
		d.printSection("Open",
			entry{"the dashboard", base + "/"},
			entry{"healthy or not", base + "/health?verbose=1"},
			entry{"for Prometheus", base + "/metrics"},
			entry{"the queues", base + "/health/v2/queues"},
		)
	}
	cli := redisCLI(d.url)
	d.printSection("Ask Redis, in another terminal",
		entry{"the worker", cli + " HGETALL asynq:workers:" + d.workerID},
		entry{"waiting tasks", cli + " LLEN asynq:" + d.queue + ":pending"},
		entry{"running tasks", cli + " LRANGE asynq:" + d.queue + ":active 0 -1"},
		entry{"one task", cli + " HGETALL asynq:t:" + b.example(retrying).id},
		entry{"its result", cli + " GET asynq:result:" + b.example(retrying).id},
	)
	if u, err := url.Parse(d.url); err == nil && u.User != nil {
		d.printSection("", entry{"", "(with the password in the environment: export REDISCLI_AUTH=...)"})
	}
	ask := " --redis " + shellWord(strings.TrimSuffix(d.target.String(), "/0"))
	d.printSection("Send a task",
		entry{"and wait for it", d.Program + " enqueue " + d.queue + ` slow '{"n": 7, "seconds": 3}' --wait` + ask})
	entries := []entry{{"kill Python", "kill -9 " + strconv.Itoa(pid)}}
	if base := d.baseURL(); base != "" {
		entries = append(entries, entry{"503, and why", "curl -i '" + base + "/health?verbose=1'"})
	}
	entries = append(entries,
		entry{"this one waits", d.Program + " enqueue " + d.queue + ` fast '{"n": 8}'` + ask},
		entry{"bring it back", d.Program + " restart " + d.workerID + ask},
	)
	d.printSection("Break it", entries...)
}

// example is the first sample of a kind, or the first at all.
func (b *batch) example(kind string) *sample {
	for _, s := range b.samples {
		if s.kind == kind {
			return s
		}
	}
	return b.samples[0]
}

func (d *demo) printTable(b *batch) {
	d.printf("\n%s\n", d.paint(fmt.Sprintf("%-10s %9s %10s %8s %9s %5s %9s %9s",
		"TASKS", "EXPECTED", "COMPLETED", "RETRIED", "ARCHIVED", "LOST", "P50", "P95"), color.Bold))
	onPurpose := 0
	for _, l := range b.table() {
		if l.kind == failing {
			onPurpose = l.archived
		}
		text := fmt.Sprintf("%-10s %9d %10d %8d %9d %5d %9s %9s",
			l.kind, l.expected, l.completed, l.retried, l.archived, l.lost, milliseconds(l.p50), milliseconds(l.p95))
		if l.lost > 0 {
			text = d.paint(text, color.FgRed)
		}
		d.printf("%s\n", text)
	}
	d.printf("P50 and P95: from enqueueing to the outcome; all tasks were enqueued at once.\n")
	if len(b.unaccounted()) == 0 {
		text := fmt.Sprintf("All %d tasks are accounted for; %d failed on purpose.", len(b.samples), onPurpose)
		d.printf("\n%s\n", d.paint(text, color.FgGreen))
	}
}

func (d *demo) printMissing(missing []*sample, workerState string) {
	d.printf("\n%s\n", d.paint("These tasks did not end as expected:", color.FgRed))
	for i, s := range missing {
		if i == maxNamed {
			d.printf("  and %d more\n", len(missing)-maxNamed)
			break
		}
		where := s.where
		if where == "" {
			where = "not looked at"
		}
		d.printf("  %-30s %s\n", s.id, where)
	}
	if workerState != "" {
		d.printf("%s\n", workerState)
	}
}

// shellWord quotes what a shell would not take as it is.
func shellWord(s string) string {
	if strings.ContainsAny(s, " \t\n'\"\\$`&|;<>()*?[]{}!#~") {
		return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
	}
	return s
}

func milliseconds(d time.Duration) string {
	switch {
	case d == 0:
		return "-"
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1f ms", d.Seconds()*1e3)
	}
	return fmt.Sprintf("%.0f ms", d.Seconds()*1e3)
}

// baseURL is where a browser on this machine finds the HTTP server; empty when there is none.
func (d *demo) baseURL() string {
	addr, ok := d.worker.Addr().(*net.TCPAddr)
	if !ok {
		return ""
	}
	host := addr.IP.String()
	if addr.IP.IsUnspecified() {
		host = "localhost"
	}
	return "http://" + net.JoinHostPort(host, strconv.Itoa(addr.Port))
}

// redisCLI is how redis-cli is called for a Redis URL, without its password.
func redisCLI(rawURL string) string {
	scheme, _, _ := strings.Cut(rawURL, "://")
	u, err := url.Parse(rawURL)
	if err != nil {
		return "redis-cli"
	}
	args := []string{"redis-cli"}
	db := strings.Trim(u.Path, "/")
	switch scheme {
	case "redis-socket", "unix":
		args, db = append(args, "-s", u.Path), ""
	case "redis-sentinel":
		return "redis-cli" // the master's address is not in the URL
	case "redis-cluster":
		args = append(args, "-c")
		fallthrough
	default:
		first, _, _ := strings.Cut(u.Host, ",")
		host, port, err := net.SplitHostPort(first)
		if err != nil {
			host, port = first, ""
		}
		if host != "" && host != "127.0.0.1" && host != "localhost" {
			args = append(args, "-h", host)
		}
		if port != "" {
			args = append(args, "-p", port)
		}
	}
	if scheme == "rediss" {
		args = append(args, "--tls")
	}
	if u.Query().Has("db") {
		db = u.Query().Get("db")
	}
	if db != "" && db != "0" {
		args = append(args, "-n", db)
	}
	if user := u.User.Username(); user != "" {
		args = append(args, "--user", user)
	}
	return strings.Join(args, " ")
}
