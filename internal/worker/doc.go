// Package worker puts a worker together: it builds every component from the configuration, connects them, and starts
// and stops them in the right order.
//
// The components do not know each other. One [status.Health] says how the worker is: monitor makes it of the
// supervisor's snapshot and of what health.Dependencies knows about Redis and the database. The queue's gate, the
// heartbeat, the metrics, the probes, the dashboard and the service manager each make what they show from that one
// value (report.go, dashboard.go, busy.go, sdnotify.go).
package worker
