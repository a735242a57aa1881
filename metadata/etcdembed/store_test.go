package etcdembed_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/metadata/etcdembed"
	"github.com/tidemarkmq/tidemark/metadata/kv"
)

func openStore(t testing.TB, s *etcdembed.Server) *metadata.Store {
	t.Helper()
	store, err := metadata.Open(t.Context(), s.KV(), metadata.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- store.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	return store
}

func register(t testing.TB, store *metadata.Store) *metadata.Registration {
	t.Helper()
	r, err := store.Register(t.Context(), metadata.Broker{ID: 1, Host: "127.0.0.1", Token: "data"}, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// A broker with 10,000 partitions: made, restarted, acquired again. The log has what each step took.
func TestTenThousandPartitions(t *testing.T) {
	const partitions = 10_000
	dir := t.TempDir()
	lap := func(what string, began time.Time) {
		t.Logf("%-34s %s", what, time.Since(began).Round(time.Microsecond))
	}
	began := time.Now()
	server := start(t, dir)
	lap("embedded etcd ready, new folder", began)
	began = time.Now()
	store := openStore(t, server)
	lap("store open, empty", began)
	began = time.Now()
	reg := register(t, store)
	lap("register", began)
	began = time.Now()
	topic, err := store.CreateTopic(t.Context(), metadata.TopicSpec{Name: "orders", Partitions: partitions, Owner: 1, Incarnation: reg.Incarnation})
	if err != nil {
		t.Fatal(err)
	}
	lap("create a topic of 10,000 partitions", began)
	swaps := make([]metadata.ManifestSwap, partitions)
	for i := range swaps {
		swaps[i] = metadata.ManifestSwap{Partition: metadata.PartitionID{Topic: topic.ID, Partition: int32(i)},
			New: metadata.ManifestRef{Key: fmt.Sprintf("ab/cluster/manifests/%s/%08x/1-0123456789abcdef", topic.ID.Hex(), i), Generation: 1, End: 100}}
	}
	began = time.Now()
	if err := store.SwapManifests(t.Context(), swaps); err != nil {
		t.Fatal(err)
	}
	lap("swap 10,000 manifests", began)
	if err := reg.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	server.Close()

	began = time.Now()
	server = start(t, dir)
	lap("embedded etcd ready, again", began)
	before := heap()
	began = time.Now()
	store = openStore(t, server)
	lap("store open, 10,000 partitions", began)
	t.Logf("%-34s %d bytes a partition", "memory of store and image", (heap()-before)/partitions)
	reg = register(t, store)
	ids := make([]metadata.PartitionID, 0, partitions)
	for _, p := range store.Image().PartitionsOf(topic.ID) {
		ids = append(ids, p.ID)
	}
	began = time.Now()
	if err := store.AcquirePartitions(t.Context(), 1, reg.Incarnation, ids); err != nil {
		t.Fatal(err)
	}
	lap("acquire 10,000 partitions", began)
	for _, p := range store.Image().PartitionsOf(topic.ID) {
		if p.OwnerIncarnation != reg.Incarnation || p.LeaderEpoch != 1 || p.Manifest.Generation != 1 {
			t.Fatalf("%+v", *p)
		}
	}
	began = time.Now()
	if err := store.DeleteTopic(t.Context(), topic.ID); err != nil {
		t.Fatal(err)
	}
	lap("delete the topic", began)
	began = time.Now()
	if err := store.PurgeTopic(t.Context(), topic.ID); err != nil {
		t.Fatal(err)
	}
	lap("purge the topic", began)
	if err := reg.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func BenchmarkCommitOffsets(b *testing.B) {
	for _, groups := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("groups=%d", groups), func(b *testing.B) {
			store := openStore(b, start(b, b.TempDir()))
			topic := metadata.TopicID{1}
			const each = 12
			list := make([]metadata.GroupOffsets, groups)
			for i := 0; b.Loop(); i++ {
				for g := range list {
					parts := make(map[int32]metadata.CommittedOffset, each)
					for p := range int32(each) {
						parts[p] = metadata.CommittedOffset{Offset: metadata.Offset(i), LeaderEpoch: 1, CommitMillis: 1_700_000_000_000 + int64(i)}
					}
					list[g] = metadata.GroupOffsets{Group: fmt.Sprint("group-", g), Topic: topic, Partitions: parts}
				}
				if err := store.CommitOffsets(b.Context(), list); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*groups*each)/b.Elapsed().Seconds(), "offsets/s")
		})
	}
}

func BenchmarkCommitObject(b *testing.B) {
	store := openStore(b, start(b, b.TempDir()))
	reg := register(b, store)
	st, err := store.CreateStream(b.Context(), 1, reg.Incarnation, metadata.ClassLocal)
	if err != nil {
		b.Fatal(err)
	}
	for i := uint64(0); b.Loop(); i++ {
		o := metadata.PendingObject{Stream: st.ID, Seq: i, Key: fmt.Sprintf("ab/cluster/objects/%d", i), SizeBytes: 8 << 20, From: i, To: i + 1}
		if err := store.CommitObjects(b.Context(), st.ID, st.Revision, []metadata.PendingObject{o}); err != nil {
			b.Fatal(err)
		}
	}
	if err := reg.Close(context.Background()); err != nil {
		b.Fatal(err)
	}
}

func BenchmarkReady(b *testing.B) {
	dir := b.TempDir()
	for b.Loop() {
		s, err := etcdembed.Start(b.Context(), etcdembed.Options{Dir: dir})
		if err != nil {
			b.Fatal(err)
		}
		s.Close()
	}
}

const victimDir = "TIDEMARK_TEST_VICTIM_DIR"

// TestMain lets the test binary be the process that TestKillNine kills.
func TestMain(m *testing.M) {
	if dir := os.Getenv(victimDir); dir != "" {
		victim(dir)
		return
	}
	os.Exit(m.Run())
}

// victim writes keys and says which are acknowledged, until it is killed.
func victim(dir string) {
	s, err := etcdembed.Start(context.Background(), etcdembed.Options{Dir: dir})
	if err != nil {
		fmt.Println("failed", err)
		return
	}
	for i := 0; ; i++ {
		key := fmt.Sprintf("k/%d-%06d", os.Getpid(), i)
		if _, err := s.KV().Txn(context.Background(), kv.Txn{Then: []kv.Op{kv.Put(key, nil)}}); err != nil {
			fmt.Println("failed", err)
			return
		}
		fmt.Println(key)
	}
}

// What was acknowledged before kill -9 is there after a restart in the same folder.
func TestKillNine(t *testing.T) {
	dir := t.TempDir()
	var acked []string
	for round := range 3 {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), victimDir+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			if !strings.HasPrefix(lines.Text(), "k/") {
				t.Fatalf("round %d: %s", round, lines.Text())
			}
			acked = append(acked, lines.Text())
			if n == 50+round*37 {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := cmd.Wait(); err == nil {
			t.Fatal("the victim ended by itself")
		}
	}
	s := start(t, dir)
	there := map[string]bool{}
	if _, err := kv.Scan(t.Context(), s.KV(), "k/", "k0", 1000, func(p kv.Pair) error { there[p.Key] = true; return nil }); err != nil {
		t.Fatal(err)
	}
	for _, key := range acked {
		if !there[key] {
			t.Errorf("%s was acknowledged and is lost", key)
		}
	}
	if len(acked) < 150 {
		t.Errorf("only %d keys were acknowledged", len(acked))
	}
}
