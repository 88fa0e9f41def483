// Package bench measures the worker beside its peers, in one run on one machine, so that the figures can be compared:
//
//	make bench
//
// The benchmarks start the real program, a real redis-server and a real Python process. docs/benchmarks.md keeps what
// they printed, where and when.
package bench
