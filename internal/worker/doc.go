// Package worker puts a worker together: it builds every part from the configuration, connects them, and starts and
// stops them in the right order.
//
// The parts do not know each other. The supervisor's snapshot is the one truth about the Python process; together
// with what the health checker knows of Redis and the database it makes a health.Report, and the heartbeat, the
// metrics, the probes and the gate of the queue all read that one report.
package worker
