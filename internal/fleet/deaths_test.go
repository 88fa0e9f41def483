package fleet

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/runqy/runqy-worker/heartbeat"
	"github.com/runqy/runqy-worker/internal/redistest"
)

func TestDeathsAreKeptForAnHour(t *testing.T) {
	server := redistest.Start(t)
	embedded := redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr()})
	defer embedded.Close()
	for name, client := range map[string]*redis.Client{"redis": server.Client, "embedded": embedded} {
		store, ctx := NewStore(client), t.Context()
		if deaths, err := store.Deaths(ctx); err != nil || len(deaths) > 0 {
			t.Fatalf("%s: nobody has died: %v, %v", name, deaths, err)
		}
		known := make(map[string]bool)
		record := func(id string, tasks int, age time.Duration) {
			t.Helper()
			first, err := store.RecordDeath(ctx, Death{ID: id, Nonce: "n", Cause: CauseRefused, Reason: "no"}, tasks, age)
			if err != nil || first == known[id] {
				t.Fatalf("%s: the first record of %s: %t, %v", name, id, first, err)
			}
			known[id] = true
		}
		record("early", 2, 10*time.Minute)
		record("late", 0, time.Minute)
		record("early", 3, time.Minute) // by another leader, that found some more
		client.HSet(ctx, deathsKey, "x|n", "garbage")
		deaths, err := store.Deaths(ctx)
		if err != nil || len(deaths) != 2 || deaths[0].ID != "late" || deaths[1].ID != "early" || deaths[1].Tasks != 5 {
			t.Fatalf("%s: deaths %+v, %v; want late, and early with five tasks", name, deaths, err)
		}
		if age := deaths[1].Age; age < 10*time.Minute || age > 11*time.Minute {
			t.Errorf("%s: early died %v ago, want ten minutes", name, age)
		}
		record("ancient", 1, DeathsKept+time.Second)
		if n := client.HExists(ctx, deathsKey, "ancient|n").Val(); n {
			t.Errorf("%s: what is older than an hour is kept", name)
		}
		if client.HExists(ctx, deathsKey, "x|n").Val() {
			t.Errorf("%s: garbage is kept", name)
		}
		if ttl := client.PTTL(ctx, deathsKey).Val(); ttl <= 0 || ttl > DeathsKept {
			t.Errorf("%s: the key lives for %v, want an hour at most", name, ttl)
		}
	}
}

// Who asks what is wrong may find a Redis that lets nobody run a script.
func TestDeathsAreReadWithoutAScript(t *testing.T) {
	client, ctx := redistest.Start(t).Client, t.Context()
	store := NewStore(client)
	if _, err := store.RecordDeath(ctx, Death{ID: "w1", Nonce: "n", Cause: CauseRefused, Reason: "no"}, 1, 0); err != nil {
		t.Fatal(err)
	}
	if err := client.Do(ctx, "ACL", "SETUSER", "default", "-@scripting").Err(); err != nil {
		t.Fatal(err)
	}
	if deaths, err := store.Deaths(ctx); err != nil || len(deaths) != 1 || deaths[0].ID != "w1" {
		t.Errorf("deaths %+v, %v; want that of w1", deaths, err)
	}
}

// A host that dies with thousands of workers does not fill Redis.
func TestDeathsAreBounded(t *testing.T) {
	client := redistest.Start(t).Client
	store := NewStore(client)
	for i := range maxDeaths {
		client.HSet(t.Context(), deathsKey, fmt.Sprintf("w%d|n", i), fmt.Sprintf("%d 1 {}", time.Now().Add(-time.Duration(i)*time.Second).UnixMilli()))
	}
	if _, err := store.RecordDeath(t.Context(), Death{ID: "new", Nonce: "n"}, 0, 0); err != nil {
		t.Fatal(err)
	}
	if n := client.HLen(t.Context(), deathsKey).Val(); n != maxDeaths || client.HExists(t.Context(), deathsKey, "w999|n").Val() {
		t.Errorf("%d deaths are kept, want %d without the oldest", n, maxDeaths)
	}
	w := Worker{Reason: strings.Repeat("é", maxReason) + "\nmore"}
	w.Worker = heartbeat.Worker{ID: "w"}
	if d := deathOf(w); len(d.Reason) > maxReason+3 || d.Cause != CauseHeartbeatExpired || strings.Contains(d.Reason, "\n") {
		t.Errorf("the reason has %d bytes and the cause is %s", len(d.Reason), d.Cause)
	}
}

func TestTallyIsBounded(t *testing.T) {
	var counted tally
	for i := range maxTallied + 10 {
		counted.add(fmt.Sprint(i), "n", 2)
	}
	counted.add("0", "n", 1)
	if len(counted.tasks) != maxTallied {
		t.Errorf("%d workers are counted, want %d at most", len(counted.tasks), maxTallied)
	}
	if first, again := counted.take("0", "n"), counted.take("0", "n"); first != 3 || again != 0 {
		t.Errorf("took %d and %d tasks, want 3 and then none", first, again)
	}
}

func TestAllQueues(t *testing.T) {
	client := redistest.Start(t).Client
	store := NewStore(client)
	if queues, more, err := store.AllQueues(t.Context()); len(queues) > 0 || more != 0 || err != nil {
		t.Errorf("an empty Redis has queues %v and %d more, %v", queues, more, err)
	}
	names := make([]any, MaxQueues+5)
	for i := range names {
		names[i] = fmt.Sprintf("q%05d", i)
	}
	client.SAdd(t.Context(), allQueuesKey, names[:3]...)
	if queues, more, err := store.AllQueues(t.Context()); fmt.Sprint(queues) != "[q00000 q00001 q00002]" || more != 0 || err != nil {
		t.Errorf("queues %v and %d more, %v, want all three", queues, more, err)
	}
	client.SAdd(t.Context(), allQueuesKey, names...)
	if queues, more, err := store.AllQueues(t.Context()); len(queues) != MaxQueues || more != 5 || err != nil {
		t.Errorf("%d queues and %d more, %v, want %d and 5", len(queues), more, err, MaxQueues)
	}
}
