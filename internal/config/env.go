package config

import (
	"fmt"
	"maps"
	"net"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// synonyms are the other variables that are accepted beside RUNQY_A_B_C.
var synonyms = []struct {
	variable, key string
	seconds       bool
}{
	{"ENVIRONMENT", "environment", false},
	{"RUNQY_QUEUES", "worker.queues", false},
	{"RUNQY_CONCURRENCY", "worker.concurrency", false},
	{"RUNQY_SHUTDOWN_TIMEOUT", "worker.shutdown_timeout", false},
	{"RUNQY_WORKER_HEALTHCHECK_EVENT_LOOP_BLOCK_THRESHOLD_SECONDS", "health.event_loop_block_threshold", true},
}

const (
	listenKey     = "health.listen"
	healthEnabled = "RUNQY_WORKER_HEALTHCHECK_ENABLED"
	healthPort    = "RUNQY_WORKER_HEALTHCHECK_PORT"
)

// otherVariables are RUNQY_ variables that are not keys of the configuration.
var otherVariables = []string{"RUNQY_CONFIG", "RUNQY_LOG_FORMAT", "RUNQY_LOG_LEVEL", healthEnabled, healthPort}

// readEnvironment adds the variables as a layer above the file.
func (l *loader) readEnvironment() {
	known := slices.Clone(otherVariables)
	for _, f := range l.fields {
		known = append(known, f.variable())
		if value, ok := l.lookup(f.variable()); ok && (value != "" || f.emptyMeansEmpty()) {
			l.add(f.key, input{origin: Origin{Name: f.variable()}, text: value})
		}
	}
	for _, s := range synonyms {
		known = append(known, s.variable)
		value, ok := l.lookup(s.variable)
		if !ok || strings.TrimSpace(value) == "" {
			continue
		}
		in := input{origin: Origin{Name: s.variable}, text: value, seconds: s.seconds}
		f := l.byKey[s.key]
		long, both := l.top(s.key)
		if both && long.origin.Name == f.variable() {
			// Other programs use ENVIRONMENT too: RUNQY_ENVIRONMENT, when it is set, wins.
			if s.variable != "ENVIRONMENT" && l.differ(f, long, in) {
				l.conflict(f, long, in)
			}
			continue
		}
		l.add(s.key, in)
	}
	l.readHealthVariables()

	for _, name := range slices.Sorted(maps.Keys(l.env)) {
		if strings.HasPrefix(name, "RUNQY_") && !strings.HasPrefix(name, "RUNQY_TEST_") && !slices.Contains(known, name) {
			warning := "the environment variable " + name + " is not known and is ignored"
			if best := closest(name, known); best != "" {
				warning += "; did you mean " + best + "?"
			}
			l.warnings = append(l.warnings, warning)
		}
	}
}

// differ reports whether two inputs of a key mean different values. Inputs with faults differ when their texts do.
func (l *loader) differ(f field, a, b input) bool {
	var one, two Config
	if len(a.decode(f.place(&one))) > 0 || len(b.decode(f.place(&two))) > 0 {
		return strings.TrimSpace(a.text) != strings.TrimSpace(b.text)
	}
	return !reflect.DeepEqual(one, two)
}

func (l *loader) conflict(f field, a, b input) {
	l.fault(b.origin, f.key, redact(f, b.text),
		fmt.Sprintf("and %s %s are both set and say different things: unset one of them", a.origin, quote(redact(f, a.text))))
	l.bad[f.key] = true
}

// readHealthVariables folds the two older variables of the health server into health.listen: the port keeps the host
// that is configured elsewhere, and false means no server.
func (l *loader) readHealthVariables() {
	const key = listenKey
	f := l.byKey[key]
	variable := f.variable()
	long, set := l.top(key)
	fromVariable := set && long.origin.Name == variable
	listen := defaultListen
	if set {
		if text, ok := long.scalar(); ok {
			listen = text
		}
	}

	enabled, hasEnabled := true, false
	if text, ok := l.lookup(healthEnabled); ok && strings.TrimSpace(text) != "" {
		var err error
		if enabled, err = parseBool(text); err != nil {
			l.fault(Origin{Name: healthEnabled}, key, text, err.Error())
			return
		}
		hasEnabled = true
	}
	if hasEnabled && !enabled {
		off := input{origin: Origin{Name: healthEnabled}}
		if fromVariable && listen != "" {
			l.conflict(f, long, input{origin: off.origin, text: "false"})
			return
		}
		l.add(key, off)
		return
	}
	if hasEnabled && listen == "" {
		if fromVariable {
			l.conflict(f, long, input{origin: Origin{Name: healthEnabled}, text: "true"})
			return
		}
		listen = defaultListen
		l.add(key, input{origin: Origin{Name: healthEnabled}, text: listen})
	}

	text, ok := l.lookup(healthPort)
	text = strings.TrimSpace(text)
	if !ok || text == "" {
		return
	}
	origin := Origin{Name: healthPort}
	if strings.HasPrefix(text, "tcp://") {
		// Kubernetes sets this one for a Service called runqy-worker-healthcheck.
		l.warnings = append(l.warnings, healthPort+" looks like the link to a Kubernetes Service and is ignored (enableServiceLinks: false keeps it away)")
		return
	}
	port, err := strconv.Atoi(text)
	if err != nil || port < 0 || port > 65535 {
		l.fault(origin, key, text, "is not a port from 0 to 65535")
		return
	}
	host, currentPort, err := net.SplitHostPort(listen)
	if err != nil {
		host = ""
	}
	if fromVariable && currentPort != strconv.Itoa(port) {
		l.conflict(f, long, input{origin: origin, text: text})
		return
	}
	l.add(key, input{origin: origin, text: net.JoinHostPort(host, strconv.Itoa(port))})
}
