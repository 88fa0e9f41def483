// Command bench measures the worker beside other queue systems, in one run on one machine, and writes
// docs/benchmarks.md:
//
//	make bench
//	make bench-quick BENCH=noop
//
// A run has rounds. In each round every system does every workload once, so that what disturbs the machine disturbs all
// of them, and ratios are computed within a round. Each measurement has a redis-server and processes of its own.
//
// The tasks are those of bench/python. All systems run the same Python and store results in the same Redis.
package main
