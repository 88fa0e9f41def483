// Command health breaks what a worker needs, in many ways, and asks everything that tells whether it is healthy, again and
// again: is it called healthy although it cannot work, or unhealthy although it can? It writes docs/health-benchmark.md:
//
//	make health-bench
//	go run ./bench/health -only 'redis-.*' -peers ”
//
// Each case has a worker, a Redis, a Python and a directory of its own. Whether the worker can work is no opinion: a task
// is enqueued, and either it is done or it is not. The same is done to Celery, RQ and asynq, judged by the health that
// their documentation names.
//
// A false green is an answer "healthy" that is given more than ten seconds after the fault began, while no task could be
// done. A false red is any other answer while tasks are done.
package main
