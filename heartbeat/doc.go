// Package heartbeat shows, through Redis, that a worker is alive and how it is doing, and reads what the other workers
// show.
//
// A worker has the hash asynq:workers:<id>. It is written as a whole, with a TTL, every interval and shortly after
// every change; when the worker dies the hash expires, when it stops cleanly the hash is deleted. The sorted set
// runqy:workers, the registry, lists the ids by the second their hash expires, so that the workers can be found without
// scanning keys.
//
// Two processes must never write heartbeats under one id. Each process therefore draws a nonce, every write is guarded
// by it inside Redis, and [Writer.Register] decides which process may have the id in the first place.
//
// The age of a heartbeat is what has elapsed of the hash's TTL, as Redis counts it. Timestamps in the hash are for
// people: clocks of two machines are never compared.
package heartbeat
