// Package metrics is the worker's Prometheus metric set.
//
// What happens is counted as it happens, through the methods of [Set]. What merely is (health, queue depths, the
// interpreter's figures, the child's memory) is read from [Sources] at each scrape, so that a scrape never shows an
// older state than the one the rest of the worker acts on.
//
// Task ids and worker ids are never labels, except for the worker's own id on runqy_worker_info: a series per task
// would outgrow any server. A task id may be an exemplar, which costs one slot per bucket whatever the load.
//
// docs/metrics.md describes every metric and is generated from them (make generate); rules/ holds the alerts and the
// recording rules that read them.
package metrics
