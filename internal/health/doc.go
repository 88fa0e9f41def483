// Package health answers the question whether this worker is well: to probes
// and people over HTTP, to the healthcheck command over a unix socket, and to
// the worker itself, which takes no task while the answer is no.
//
// It judges nothing about the Python process; that verdict is handed in. Its
// own part is to watch what the worker depends on: [Checker] asks Redis and,
// where one is configured, the database, each on a connection of its own, so
// that a server that accepts and never answers is noticed within seconds even
// while every other connection waits on it.
package health
