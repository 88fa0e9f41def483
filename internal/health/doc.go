// Package health reports how this worker is: to probes and people over HTTP, to the healthcheck command over a unix
// socket, and to the worker itself, which takes no task while it is not healthy.
//
// Every answer is made of one [status.Health]. reason.go composes it of what the supervisor says about the Python
// process and of what [Dependencies] knows about Redis and the database, which are asked on connections of their own: a
// server that accepts connections and never answers is noticed within seconds. visitor.go decides what each visitor may
// see.
package health
