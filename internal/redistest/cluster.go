package redistest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// Cluster is a Redis Cluster of several nodes: masters, and one replica for each.
type Cluster struct {
	// Nodes are the masters and then, in the same order, their replicas, as they were at the start.
	Nodes []*Server
	// URL is a redis-cluster:// one that names every node.
	URL string
	// Client is a plain client of the whole cluster, closed by the test's cleanup. It may take a minute to notice a
	// failover; ReloadState hurries it.
	Client *redis.ClusterClient

	t testing.TB
}

const (
	slots = 16384
	// nodeTimeout is how long a node may be silent before the others have it fail over: short, for tests, but not so
	// short that a loaded machine is taken for a dead node.
	nodeTimeout = "2000"
)

// StartShards runs a real Redis Cluster of so many masters (at least three, or there is no majority to fail one over)
// with a replica each, and waits until it is up and every replica is in step.
func StartShards(t testing.TB, masters int) *Cluster {
	t.Helper()
	c := &Cluster{t: t}
	addrs := make([]string, 0, 2*masters)
	for range 2 * masters {
		node := startClusterNode(t, "--cluster-node-timeout", nodeTimeout, "--repl-diskless-sync-delay", "0")
		c.Nodes = append(c.Nodes, node)
		addrs = append(addrs, node.Addr)
	}
	c.URL = "redis-cluster://" + strings.Join(addrs, ",")
	ctx, cancel := context.WithTimeout(context.Background(), 2*startTimeout)
	defer cancel()
	must := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("redistest: %s: %v", what, err)
		}
	}
	host, port, err := net.SplitHostPort(addrs[0])
	must("cluster", err)
	for i, node := range c.Nodes {
		// Epochs of their own spare the nodes a vote about who changes his.
		must("set the epoch", node.Client.Do(ctx, "CLUSTER", "SET-CONFIG-EPOCH", i+1).Err())
		if i > 0 {
			must("meet", node.Client.ClusterMeet(ctx, host, port).Err())
		}
		if i < masters {
			must("assign slots", node.Client.ClusterAddSlotsRange(ctx, i*slots/masters, (i+1)*slots/masters-1).Err())
		}
	}
	for i, node := range c.Nodes[masters:] {
		id := nodeID(ctx, t, c.Nodes[i])
		poll(t, ctx, "the replica does not come to know its master", func() (bool, error) {
			err := node.Client.ClusterReplicate(ctx, id).Err()
			return err == nil, err
		})
	}
	for i, node := range c.Nodes {
		poll(t, ctx, "the cluster is not up", func() (bool, error) {
			info, err := node.Client.ClusterInfo(ctx).Result()
			if err != nil || !strings.Contains(info, "cluster_state:ok") ||
				!strings.Contains(info, fmt.Sprintf("cluster_known_nodes:%d\r\n", 2*masters)) {
				return false, err
			}
			replication, err := node.Client.Info(ctx, "replication").Result()
			if i < masters {
				return strings.Contains(replication, "state=online"), err
			}
			return strings.Contains(replication, "master_link_status:up"), err
		})
	}
	c.Client = redis.NewClusterClient(&redis.ClusterOptions{Addrs: addrs, MaxRedirects: 8})
	t.Cleanup(func() { c.Client.Close() })
	return c
}

// MasterOf returns the node that owns the key's slot by its own word.
func (c *Cluster) MasterOf(key string) *Server {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	var owner *Server
	poll(c.t, ctx, "nobody owns the slot of "+key, func() (bool, error) {
		var failure error
		for _, node := range c.Nodes {
			if node.PID() == 0 {
				continue
			}
			err := node.Client.Get(ctx, key).Err() // a master that does not own the slot answers MOVED, and so does a replica
			if err == nil || errors.Is(err, redis.Nil) || redis.HasErrorPrefix(err, "WRONGTYPE") || redis.HasErrorPrefix(err, "ASK") {
				owner = node
				return true, nil
			}
			failure = err
		}
		return false, failure
	})
	return owner
}

// OtherMaster returns a master that does not own the key's slot.
func (c *Cluster) OtherMaster(key string) *Server {
	c.t.Helper()
	owner := c.MasterOf(key)
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for _, node := range c.Nodes {
		if node != owner && node.PID() != 0 {
			if role, err := node.Client.Info(ctx, "replication").Result(); err == nil && strings.Contains(role, "role:master") {
				return node
			}
		}
	}
	c.t.Fatal("redistest: there is no other master")
	return nil
}

// MoveSlot moves the slot of a key to another master the way redis-cli --cluster reshard does, a few keys at a time,
// and calls between after each of them: that is how long the slot is divided between two nodes. between may be nil. It
// returns how many keys were moved.
func (c *Cluster) MoveSlot(ctx context.Context, key string, to *Server, between func(moved int)) (moved int) {
	c.t.Helper()
	from := c.MasterOf(key)
	slot := int(from.Client.ClusterKeySlot(ctx, key).Val())
	fromID, toID := nodeID(ctx, c.t, from), nodeID(ctx, c.t, to)
	host, port, err := net.SplitHostPort(to.Addr)
	if err != nil {
		c.t.Fatalf("redistest: move slot: %v", err)
	}
	must := func(err error) {
		c.t.Helper()
		if err != nil {
			c.t.Fatalf("redistest: move slot %d: %v", slot, err)
		}
	}
	must(to.Client.Do(ctx, "CLUSTER", "SETSLOT", slot, "IMPORTING", fromID).Err())
	must(from.Client.Do(ctx, "CLUSTER", "SETSLOT", slot, "MIGRATING", toID).Err())
	for {
		keys, err := from.Client.ClusterGetKeysInSlot(ctx, slot, 10).Result()
		must(err)
		if len(keys) == 0 {
			break
		}
		args := []any{"MIGRATE", host, port, "", 0, 10_000, "KEYS"}
		for _, k := range keys {
			args = append(args, k)
		}
		must(from.Client.Do(ctx, args...).Err())
		moved += len(keys)
		if between != nil {
			between(moved)
		}
	}
	// The new owner first, or the slot would belong to nobody for a moment.
	must(to.Client.Do(ctx, "CLUSTER", "SETSLOT", slot, "NODE", toID).Err())
	must(from.Client.Do(ctx, "CLUSTER", "SETSLOT", slot, "NODE", toID).Err())
	return moved
}

func nodeID(ctx context.Context, t testing.TB, s *Server) string {
	t.Helper()
	id, err := s.Client.Do(ctx, "CLUSTER", "MYID").Text()
	if err != nil {
		t.Fatalf("redistest: node id of %s: %v", s.Addr, err)
	}
	return id
}

// Sentinels are a master, its replicas and the sentinels that watch them under the name "mymaster".
type Sentinels struct {
	Servers   []*Server // the first is the master at the start
	Sentinels []*Server
	// URL is a redis-sentinel:// one that names every sentinel.
	URL string
	// Client follows the master, and is closed by the test's cleanup.
	Client *redis.Client

	t testing.TB
}

// StartSentinels runs a master with so many replicas and three sentinels with a quorum of two, which fail over when the
// master has been silent for two seconds, and waits until all know each other and every replica is in step.
func StartSentinels(t testing.TB, replicas int) *Sentinels {
	t.Helper()
	s := &Sentinels{t: t}
	master := Start(t, "--repl-diskless-sync-delay", "0")
	host, port, err := net.SplitHostPort(master.Addr)
	if err != nil {
		t.Fatalf("redistest: sentinels: %v", err)
	}
	s.Servers = []*Server{master}
	ctx, cancel := context.WithTimeout(context.Background(), 2*startTimeout)
	defer cancel()
	for range replicas {
		replica := Start(t, "--replicaof", host, port, "--repl-diskless-sync-delay", "0")
		poll(t, ctx, "the replica is not in step", func() (bool, error) {
			info, err := replica.Client.Info(ctx, "replication").Result()
			return strings.Contains(info, "master_link_status:up"), err
		})
		s.Servers = append(s.Servers, replica)
	}
	var addrs []string
	for range 3 {
		sentinel := startSentinel(t, master, 2, 2*time.Second)
		s.Sentinels = append(s.Sentinels, sentinel)
		addrs = append(addrs, sentinel.Addr)
	}
	for _, sentinel := range s.Sentinels {
		poll(t, ctx, "the sentinels do not find each other", func() (bool, error) {
			info, err := sentinel.Client.Info(ctx, "sentinel").Result()
			return strings.Contains(info, fmt.Sprintf("status=ok,address=%s,slaves=%d,sentinels=3", master.Addr, replicas)), err
		})
	}
	s.URL = "redis-sentinel://" + strings.Join(addrs, ",") + "/0?master=mymaster"
	s.Client = redis.NewFailoverClient(&redis.FailoverOptions{MasterName: "mymaster", SentinelAddrs: slices.Clone(addrs)})
	t.Cleanup(func() { s.Client.Close() })
	return s
}

// Master returns the server that the sentinels hold for the master now.
func (s *Sentinels) Master() *Server {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	var master *Server
	poll(s.t, ctx, "the sentinels know no master", func() (bool, error) {
		info, err := s.Sentinels[0].Client.Info(ctx, "sentinel").Result()
		for _, server := range s.Servers {
			if strings.Contains(info, "address="+server.Addr+",") {
				master = server
				return true, nil
			}
		}
		return false, err
	})
	return master
}
