package queue

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/runqy/runqy-worker/internal/redistest"
)

// Redis makes the same hash of our dump as of HSET, and dumps the same bytes.
func TestDumpHash(t *testing.T) {
	client := redistest.Start(t).Client
	ctx := t.Context()
	// Each length at which a form of a listpack, or of the string around it, begins.
	for _, n := range []int{0, 1, 40, 62, 63, 64, 124, 125, 126, 127, 128, 4095, 4096, 16377, 16378, 16379, 16384, 70_000, 2_097_145, 2_097_152} {
		fields := []string{"id", "t1", "payload", strings.Repeat("x", n), "ünïcode", "a\x00b\xff", "empty", ""}
		dump := newDumpChecksums().appendHash([]byte("before"), fields)[len("before"):]
		if err := client.Restore(ctx, "ours", 0, string(dump)).Err(); err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		client.ConfigSet(ctx, "hash-max-listpack-value", "100000000")
		client.HSet(ctx, "theirs", fields)
		ours, theirs := client.HGetAll(ctx, "ours").Val(), client.HGetAll(ctx, "theirs").Val()
		if !maps.Equal(ours, theirs) || len(ours) != 4 {
			t.Errorf("%d bytes: other fields", n)
		}
		// Redis compresses long strings, and ends with the version of its own format.
		if got := []byte(client.Dump(ctx, "theirs").Val()); n < 20 && !bytes.Equal(got[:len(got)-10], dump[:len(dump)-10]) {
			t.Errorf("%d bytes:\n%q\n%q", n, dump, got)
		}
		client.HSet(ctx, "ours", "payload", "7", "more", "8") // the lengths behind the elements are right
		if got := client.HIncrBy(ctx, "ours", "payload", 1).Val(); got != 8 || client.HLen(ctx, "ours").Val() != 5 {
			t.Errorf("%d bytes: cannot be changed", n)
		}
		client.Del(ctx, "ours", "theirs")
	}
}

// Where RESTORE is refused, or is another command, the script writes the same view with HSET.
func TestViewWithoutRestore(t *testing.T) {
	onBoth(t, func(t *testing.T, b *cycleBench) {
		b.enqueue(2)
		if b.redis.Do(t.Context(), "ACL", "SETUSER", "default", "-restore").Err() != nil {
			t.Log("no ACL here: miniredis has a RESTORE that makes strings")
		}
		want := make(map[string]map[string]string)
		var items []item
		for i, task := range b.cycle(cycleRequest{take: 2}).taken {
			it := b.item(task, endDone)
			it.view = []string{
				"id", task.id, "payload", strings.Repeat("é", []int{100, 4000}[i]), "short", "1", "empty", "", "state", "completed",
			}
			it.viewAnew = true
			items = append(items, it)
			want[task.id] = make(map[string]string)
			for pair := range slices.Chunk(it.view, 2) {
				want[task.id][pair[0]] = pair[1]
			}
		}
		b.do("HSET", ViewKey("t1"), "of", "an earlier task")
		wantEqual(t, "views dropped", b.cycle(cycleRequest{items: items}).viewsDropped, 0)
		for id, fields := range want {
			wantEqual(t, id, b.redis.HGetAll(t.Context(), ViewKey(id)).Val(), fields)
			if ttl := b.redis.TTL(t.Context(), ViewKey(id)).Val(); ttl <= 0 || ttl > time.Hour {
				t.Errorf("%s lives %v", id, ttl)
			}
		}
	})
}

// FuzzDumpHash has Redis read whatever texts a view has.
func FuzzDumpHash(f *testing.F) {
	client := redistest.Start(f).Client
	f.Add("t1", "{}", "", 1)
	f.Add("12", "\xff\x00", "-7", 4096)
	f.Fuzz(func(t *testing.T, a, b, c string, repeat int) {
		b = strings.Repeat(b, min(max(1, repeat), 5000))
		dump := newDumpChecksums().appendHash(nil, []string{"a", a, "b", b, "c", c})
		if err := client.RestoreReplace(t.Context(), "k", time.Minute, string(dump)).Err(); err != nil {
			t.Fatal(err)
		}
		if got := client.HGetAll(t.Context(), "k").Val(); !maps.Equal(got, map[string]string{"a": a, "b": b, "c": c}) {
			t.Errorf("%q", got)
		}
	})
}
