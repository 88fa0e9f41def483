package redisclient

import (
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/internal/redistest"
)

func TestDurabilityOfRealServers(t *testing.T) {
	for name, c := range map[string]struct {
		args  []string
		want  Durability
		loses bool
	}{
		"nothing is saved": {nil, Durability{EvictionPolicy: "noeviction", Persistence: NotPersists}, true},
		"append-only": {
			[]string{"--appendonly", "yes", "--maxmemory-policy", "allkeys-lru"}, // without a limit nothing is evicted
			Durability{EvictionPolicy: "allkeys-lru", Persistence: AppendOnly}, false,
		},
		"a full one refuses": {
			[]string{"--appendonly", "yes", "--maxmemory", "100mb"},
			Durability{EvictionPolicy: "noeviction", Limited: true, Persistence: AppendOnly}, false,
		},
		"a full one evicts": {
			[]string{"--appendonly", "yes", "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"},
			Durability{EvictionPolicy: "allkeys-lru", Limited: true, Persistence: AppendOnly}, true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ReadDurability(t.Context(), redistest.Start(t, c.args...).Client)
			if err != nil || got != c.want || got.LosesTasks() != c.loses {
				t.Errorf("durability %+v, %v; want %+v that loses tasks: %v", got, err, c.want, c.loses)
			}
		})
	}
}

func TestDurabilityAfterASnapshot(t *testing.T) {
	client := redistest.Start(t).Client
	if err := client.Save(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadDurability(t.Context(), client); err != nil || got.Persistence != Snapshots || got.LosesTasks() {
		t.Errorf("durability %+v, %v; want one that is saved", got, err)
	}
}

func TestDurabilityOfACluster(t *testing.T) {
	target, err := Parse(redistest.StartCluster(t).URL)
	if err != nil {
		t.Fatal(err)
	}
	client := target.Open()
	defer client.Close()
	if got, err := ReadDurability(t.Context(), client); err != nil || got.EvictionPolicy == "" {
		t.Errorf("durability %+v, %v; want a policy", got, err)
	}
}

// What a server does not tell is no reason to warn.
func TestDurabilityThatIsNotTold(t *testing.T) {
	client := redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr()})
	defer client.Close()
	if got, err := ReadDurability(t.Context(), client); err != nil || got.LosesTasks() {
		t.Errorf("durability %+v, %v; want nothing known", got, err)
	}
	for info, want := range map[string]Durability{
		"": {},
		"maxmemory:100\r\nmaxmemory_policy:volatile-lru\r\n":                                                    {EvictionPolicy: "volatile-lru", Limited: true},
		"aof_enabled:0\r\nrdb_last_save_time:1000\r\nserver_time_usec:5000000000\r\nuptime_in_seconds:4000\r\n": {Persistence: NotPersists},
		"aof_enabled:0\r\nrdb_last_save_time:4000\r\nserver_time_usec:5000000000\r\nuptime_in_seconds:4000\r\n": {Persistence: Snapshots},
		"aof_enabled:0\r\nrdb_last_save_time:1000\r\nserver_time_usec:5000000000\r\nuptime_in_seconds:4000\r\nrdb_last_load_keys_loaded:7\r\n": {
			Persistence: Snapshots,
		},
	} {
		if got := parseDurability(info); got != want {
			t.Errorf("%q is %+v, want %+v", info, got, want)
		}
	}
}
