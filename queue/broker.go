package queue

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"google.golang.org/protobuf/encoding/protowire"
)

// broker is the Redis client that asynq's server is given, which does the housekeeping: it forwards tasks whose time has
// come, expires completed ones, recovers those of other asynq servers, and writes its part of the server list. Only
// scripts are looked at, by the shape of their keys: the dequeue finds nothing, and what judges times does so by Redis'
// clock. Everything else passes through.
type broker struct {
	redis.UniversalClient
	// stopping is closed when the dequeue may return.
	stopping <-chan struct{}
	active   func() []ActiveTask
	lapsed   *redis.Script
	silent   *noChannel // for the subscription

	mu        sync.Mutex               // guards rewritten
	rewritten map[string]*redis.Script // by the digest of asynq's own source; as many as asynq has such scripts
}

// scriptKind is what we do with a script of asynq's.
type scriptKind int

const (
	scriptOther   scriptKind = iota
	scriptDequeue            // the loop takes the tasks
	scriptLapsed             // lists tasks with a lapsed lease: ours are left out
	scriptRecover            // takes one of those from active: guarded
	scriptForward            // moves tasks that are due to pending
	scriptExpire             // deletes what has expired, by the time in its first argument
	scriptServer             // writes the server and its workers
)

// prologues stand in front of asynq's source, in the same script.
var prologues = map[scriptKind]string{
	scriptForward: dayLua + clockLua + "ARGV[1], ARGV[3] = now, nowNano\n",
	scriptExpire:  dayLua + clockLua + "ARGV[1] = now\n",
	scriptRecover: dayLua + clockLua + guardLua,
}

// EvalSha implements redis.Scripter.
func (b *broker) EvalSha(ctx context.Context, digest string, keys []string, args ...any) *redis.Cmd {
	kind := kindOf(keys)
	switch {
	case kind == scriptDequeue:
		<-b.stopping
		return nilCmd(ctx)
	case kind == scriptLapsed:
		return b.lapsed.Run(ctx, b.UniversalClient, keys, args[1])
	case kind == scriptServer:
		return b.UniversalClient.EvalSha(ctx, digest, keys, b.serverState(args)...)
	case prologues[kind] == "":
		return b.UniversalClient.EvalSha(ctx, digest, keys, args...)
	}
	b.mu.Lock()
	script := b.rewritten[digest]
	b.mu.Unlock()
	if script == nil {
		// asynq answers this by sending the source through Eval, which is where we learn it.
		cmd := redis.NewCmd(ctx)
		cmd.SetErr(redis.ErrNoScript)
		return cmd
	}
	return script.Run(ctx, b.UniversalClient, keys, relativeTimes(kind, keys, args)...)
}

// Eval implements redis.Scripter.
func (b *broker) Eval(ctx context.Context, source string, keys []string, args ...any) *redis.Cmd {
	kind := kindOf(keys)
	switch {
	case kind == scriptDequeue, kind == scriptLapsed:
		return b.EvalSha(ctx, "", keys, args...)
	case kind == scriptServer:
		return b.UniversalClient.Eval(ctx, source, keys, b.serverState(args)...)
	case prologues[kind] == "":
		return b.UniversalClient.Eval(ctx, source, keys, args...)
	}
	sum := sha1.Sum([]byte(source)) //nolint:gosec // Redis names scripts by SHA-1
	script := redis.NewScript(prologues[kind] + source)
	b.mu.Lock()
	b.rewritten[hex.EncodeToString(sum[:])] = script
	b.mu.Unlock()
	return script.Run(ctx, b.UniversalClient, keys, relativeTimes(kind, keys, args)...)
}

// Subscribe implements redis.UniversalClient, for asynq's cancellations.
func (b *broker) Subscribe(ctx context.Context, channels ...string) *redis.PubSub {
	return b.silent.Subscribe(ctx, channels...)
}

// kindOf recognises asynq's scripts by their keys.
func kindOf(keys []string) scriptKind {
	if len(keys) == 0 {
		return scriptOther
	}
	if len(keys) == 2 && strings.HasPrefix(keys[0], "asynq:servers:{") && strings.HasPrefix(keys[1], "asynq:workers:{") {
		return scriptServer
	}
	var rest []string
	for _, key := range keys {
		_, r := queueOfKey(key)
		rest = append(rest, r)
	}
	switch {
	case len(keys) == 4 && rest[1] == "paused":
		return scriptDequeue
	case len(keys) == 1 && rest[0] == "lease":
		return scriptLapsed
	case len(keys) == 1 && (rest[0] == "completed" || rest[0] == "aggregation_sets"):
		return scriptExpire
	case len(keys) == 2 && rest[1] == "pending" && (rest[0] == "scheduled" || rest[0] == "retry"):
		return scriptForward
	case len(keys) >= 8 && strings.HasPrefix(rest[0], "t:") && rest[1] == "active" && rest[2] == "lease":
		return scriptRecover
	}
	return scriptOther
}

// relativeTimes turns the times in the arguments of asynq's retry and archive, which are those of our clock, into
// distances from now; the guard adds Redis' time again.
func relativeTimes(kind scriptKind, keys []string, args []any) []any {
	if kind != scriptRecover {
		return args
	}
	times := []int{2, 3} // of retry: when it is due, when the counters expire
	if len(keys) == 9 {
		times = []int{2, 3, 5} // of archive: now, the oldest to keep, when the counters expire
	}
	now := time.Now().Unix()
	args = append([]any(nil), args...)
	for _, i := range times {
		if at, ok := args[i].(int64); ok {
			args[i] = at - now
		}
	}
	return args
}

// The field numbers of asynq's ServerInfo and WorkerInfo, in internal/proto/asynq.proto of the pinned release.
const (
	serverHost    = protowire.Number(1)
	serverPID     = protowire.Number(2)
	serverID      = protowire.Number(3)
	serverQueues  = protowire.Number(5)
	serverStatus  = protowire.Number(7)
	serverWorkers = protowire.Number(9) // how many tasks run
	workerTaskID  = protowire.Number(4)
	workerType    = protowire.Number(5)
	workerPayload = protowire.Number(6)
	workerQueue   = protowire.Number(7)
	workerStarted = protowire.Number(8)
	workerEnds    = protowire.Number(9)
)

// serverState adds the tasks that run to what asynq's server writes of itself: it started none of them. It also marks the
// server as a worker's.
func (b *broker) serverState(args []any) []any {
	if len(args) != 2 {
		return args // it is cleared
	}
	info, ok := args[1].([]byte)
	if !ok {
		return args
	}
	server := identityOf(info)
	running := 0
	out := append([]any(nil), args...)
	for _, t := range b.active() {
		if t.Started.IsZero() {
			continue
		}
		running++
		w := append([]byte(nil), server...)
		w = appendText(w, workerTaskID, t.ID)
		w = appendText(w, workerType, t.Type)
		w = appendText(w, workerPayload, string(t.Payload))
		w = appendText(w, workerQueue, t.Queue)
		w = appendTime(w, workerStarted, t.Started)
		w = appendTime(w, workerEnds, t.deadline)
		out = append(out, t.ID, w)
	}
	// In protobuf the last one of a field wins.
	info = protowire.AppendTag(append([]byte(nil), info...), serverWorkers, protowire.VarintType)
	info = protowire.AppendVarint(info, uint64(running))
	out[1] = protowire.AppendVarint(protowire.AppendTag(info, serverOwn, protowire.VarintType), 1)
	return out
}

// identityOf returns the fields of an encoded ServerInfo that a WorkerInfo has too: host, pid and server id.
func identityOf(info []byte) []byte {
	var out []byte
	for len(info) > 0 {
		num, _, n := protowire.ConsumeField(info)
		if n < 0 {
			return out
		}
		if num == serverHost || num == serverPID || num == serverID {
			out = append(out, info[:n]...)
		}
		info = info[n:]
	}
	return out
}

func appendText(b []byte, num protowire.Number, text string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, num, protowire.BytesType), text)
}

// appendTime appends a google.protobuf.Timestamp.
func appendTime(b []byte, num protowire.Number, t time.Time) []byte {
	if t.IsZero() {
		return b
	}
	stamp := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), uint64(t.Unix()))
	stamp = protowire.AppendVarint(protowire.AppendTag(stamp, 2, protowire.VarintType), uint64(t.Nanosecond()))
	return protowire.AppendBytes(protowire.AppendTag(b, num, protowire.BytesType), stamp)
}

func nilCmd(ctx context.Context) *redis.Cmd {
	cmd := redis.NewCmd(ctx)
	cmd.SetErr(redis.Nil)
	return cmd
}
