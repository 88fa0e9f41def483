package queue

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"
	"google.golang.org/protobuf/encoding/protowire"
)

// serversKey is asynq's set of the servers that run, each member the key of what it says of itself.
const serversKey = "asynq:servers"

// maxServers bounds how many servers are read.
const maxServers = 5000

// serverOwn marks the asynq server inside a worker in what it writes of itself: asynq has no such field and ignores it.
const serverOwn = protowire.Number(1000)

// AsynqServers returns, by queue, how many servers of plain asynq serve it: programs in Go that take the tasks of the
// same queues without a worker of ours around them. It costs two round trips.
func AsynqServers(ctx context.Context, client redis.UniversalClient) (map[string]int, error) {
	keys, err := client.ZRange(ctx, serversKey, 0, maxServers-1).Result()
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", serversKey, err)
	}
	servers := make(map[string]int)
	if len(keys) == 0 {
		return servers, nil
	}
	infos := make([]*redis.StringCmd, len(keys))
	_, err = client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, key := range keys {
			infos[i] = p.Get(ctx, key) // gone within ten seconds of the server's end
		}
		return nil
	})
	var answer redis.Error
	if err != nil && !errors.As(err, &answer) {
		return nil, fmt.Errorf("read asynq's servers: %w", err)
	}
	for _, info := range infos {
		if info.Err() != nil {
			continue // it has ended, or the key is not asynq's
		}
		for _, q := range plainServer([]byte(info.Val())) {
			servers[q]++
		}
	}
	return servers, nil
}

// plainServer returns the queues of an encoded ServerInfo; none when the server belongs to a worker of ours, or takes no
// tasks any more.
func plainServer(info []byte) []string {
	var queues []string
	active := false
	for len(info) > 0 {
		num, typ, n := protowire.ConsumeTag(info)
		if n < 0 {
			return nil
		}
		size := protowire.ConsumeFieldValue(num, typ, info[n:])
		if size < 0 {
			return nil
		}
		switch {
		case num == serverOwn:
			return nil
		case num == serverStatus && typ == protowire.BytesType:
			status, _ := protowire.ConsumeBytes(info[n:])
			active = string(status) == "active"
		case num == serverQueues && typ == protowire.BytesType:
			entry, _ := protowire.ConsumeBytes(info[n:])
			if q, ok := mapKey(entry); ok {
				queues = append(queues, q)
			}
		}
		info = info[n+size:]
	}
	if !active {
		return nil
	}
	return queues
}

// mapKey returns the key of an encoded entry of a map whose keys are texts.
func mapKey(entry []byte) (string, bool) {
	for len(entry) > 0 {
		num, typ, n := protowire.ConsumeTag(entry)
		if n < 0 {
			return "", false
		}
		if num == 1 && typ == protowire.BytesType {
			key, n := protowire.ConsumeBytes(entry[n:])
			return string(key), n >= 0
		}
		size := protowire.ConsumeFieldValue(num, typ, entry[n:])
		if size < 0 {
			return "", false
		}
		entry = entry[n+size:]
	}
	return "", false
}
