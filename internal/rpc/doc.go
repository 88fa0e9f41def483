// Package rpc is the worker's remote interface and its client: runqy.v1.WorkerService, which says which worker answers
// and whether it would take a task, and the standard grpc.health.v1. Both are served as Connect (so curl --json works),
// gRPC and gRPC-Web on the worker's one HTTP port.
package rpc
