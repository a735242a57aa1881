package wal_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemarkmq/tidemark/wal"
	"github.com/tidemarkmq/tidemark/wal/crashfs"
)

// original is a stream as its writer wrote it, group by group.
type original struct {
	header wal.StreamHeader
	groups []wal.Chunk
}

func (o original) oldest() wal.SegmentRef { return o.groups[0].Segment }

func (o original) end() wal.Position { return o.groups[len(o.groups)-1].End() }

// from are the groups that end after pos.
func (o original) from(pos wal.Position) []wal.Chunk {
	i := slices.IndexFunc(o.groups, func(k wal.Chunk) bool { return k.End() > pos })
	if i < 0 {
		return nil
	}
	return o.groups[i:]
}

// writeOriginal writes entries and returns their groups.
func writeOriginal(t testing.TB, epoch uint64, entries int) original {
	t.Helper()
	disk := crashfs.New()
	o := small(disk, epoch)
	o.Owner = [16]byte{7}
	write(t, o, entries)
	r, err := wal.Recover(o)
	if err != nil {
		t.Fatal(err)
	}
	src := original{header: r.Header()}
	for pos := wal.Position(0); ; {
		k, err := r.ReadGroups(t.Context(), pos, 1, nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(k.Bytes) == 0 {
			break
		}
		src.groups = append(src.groups, k)
		pos = k.End()
	}
	if src.end() != r.End() || len(src.groups) != entries {
		t.Fatalf("%d groups up to %d, the stream ends at %d", len(src.groups), src.end(), r.End())
	}
	return src
}

// joined merges up to n groups that stand in one segment, in memory of their own.
func joined(groups []wal.Chunk, n int) wal.Chunk {
	k := wal.Chunk{Segment: groups[0].Segment, Position: groups[0].Position}
	for _, g := range groups[:min(n, len(groups))] {
		if g.Segment != k.Segment {
			break
		}
		k.Bytes = append(k.Bytes, g.Bytes...)
	}
	return k
}

const replicaDir, testStream = "/data/replicas", uint64(0xabc)

func openReplicas(t *testing.T, disk *crashfs.FS, mode wal.SyncMode) (*wal.Replicas, error) {
	t.Helper()
	return wal.OpenReplicas(wal.ReplicaOptions{FS: disk, Dir: replicaDir, FreeDir: testFree, Sync: mode})
}

// checkReplica compares what the replica shows from start with the original, byte by byte.
func (o original) checkReplica(t *testing.T, rs *wal.Replicas, from, to wal.Position) {
	t.Helper()
	chain := wal.NewChain(o.header)
	want := o.from(from)
	for pos := from; pos < to; {
		k, err := rs.Read(t.Context(), testStream, pos, 20<<10, nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(k.Bytes) == 0 {
			t.Fatalf("nothing at %d, the replica should end at %d", pos, to)
		}
		if err := chain.Take(k); err != nil {
			t.Fatal(err)
		}
		for b := k.Bytes; len(b) > 0; want = want[1:] {
			if len(b) < len(want[0].Bytes) || !bytes.Equal(b[:len(want[0].Bytes)], want[0].Bytes) || want[0].Segment != k.Segment {
				t.Fatalf("the group at %d in %v differs from the one at %d in %v: %d bytes, %d", want[0].Position, want[0].Segment, k.Position, k.Segment, len(want[0].Bytes), len(b))
			}
			b = b[len(want[0].Bytes):]
		}
		pos = k.End()
	}
	if k, err := rs.Read(t.Context(), testStream, to, 1, nil); err != nil || len(k.Bytes) > 0 {
		t.Fatalf("%d bytes behind the end, %v", len(k.Bytes), err)
	}
}

// outside is what a replica has said.
type outside struct {
	created bool
	acked   wal.Position
	promise uint64
	trimmed wal.Position
}

// feed sends the rest of the original in batches of random length, with trims and a fence at the end of a lower epoch than the writer's,
// until it is all there or the disk is gone.
func (o original) feed(t *testing.T, rs *wal.Replicas, out *outside, seed uint64) error {
	ctx := t.Context()
	rng := rand.New(rand.NewPCG(seed, 2))
	oldest := o.oldest()
	a, tail, err := rs.Open(ctx, testStream, o.header, oldest, !out.created)
	if err != nil {
		return err
	}
	out.created = true
	if tail.End < out.acked || tail.Promise < out.promise || tail.Start > out.trimmed {
		t.Fatalf("tail %+v, acknowledged %d, promised %d, trimmed %d", tail, out.acked, out.promise, out.trimmed)
	}
	for pos := tail.End; pos < o.end(); {
		k := joined(o.from(pos), 1+rng.IntN(6))
		if pos, err = a.Append(ctx, k); err != nil {
			return err
		}
		if pos != k.End() {
			t.Fatalf("durable up to %d after a batch that ends at %d", pos, k.End())
		}
		out.acked = pos
		switch rng.IntN(12) {
		case 0:
			out.trimmed = max(out.trimmed, pos-min(pos, 40<<10))
			if err := rs.Trim(ctx, testStream, out.trimmed); err != nil {
				return err
			}
		case 1:
			tail, err := rs.Fence(ctx, testStream, out.promise+1)
			if err != nil {
				return err
			}
			if out.promise++; tail.End != out.acked || tail.Promise != out.promise {
				t.Fatalf("fenced: %+v, acknowledged %d", tail, out.acked)
			}
		}
	}
	return nil
}

// TestReplicaCrashAtEveryOperation: whatever the moment, nothing that a replica answered is lost, nothing looks like rot, and it goes on from there.
func TestReplicaCrashAtEveryOperation(t *testing.T) {
	src := writeOriginal(t, 1000, 60)
	for _, m := range []struct {
		name    string
		mode    wal.SyncMode
		direct  bool
		latency time.Duration
	}{
		{"direct", wal.SyncAuto, true, 0},
		{"direct-slow", wal.SyncAuto, true, time.Millisecond},
		{"data", wal.SyncAuto, false, 0},
	} {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			attempt := func(crashAt int, twice bool) (ops int) {
				synctest.Test(t, func(t *testing.T) {
					disk := used(t)
					before := disk.Ops()
					disk.SetDirect(m.direct)
					disk.SetLatency(m.latency)
					if crashAt > 0 {
						disk.CrashAt(before + crashAt)
					}
					var out outside
					err := src.life(t, disk, m.mode, &out, 1)
					ops = disk.Ops() - before
					if crashAt > 0 && crashAt <= ops && err != nil && !errors.Is(err, crashfs.ErrCrashed) && !errors.Is(err, wal.ErrLimbo) || crashAt == 0 && err != nil {
						t.Fatalf("crash at %d: %v", crashAt, err)
					}
					disk.Crash()
					for i, loss := range []int{0, 30, 60, 100} {
						after, then := disk.After(loss, uint64(crashAt*10+i)), out
						if twice { // again, soon after the first
							after.CrashAt(3 + crashAt%17)
							_ = src.life(t, after, m.mode, &then, uint64(crashAt)) // it may be done before
							after.Crash()
							after = after.After(50, uint64(crashAt+i))
						}
						if err := src.life(t, after, m.mode, &then, 3); err != nil {
							t.Fatalf("crash at %d, %d %% lost: %v", crashAt, loss, err)
						}
					}
				})
				return ops
			}
			ops := attempt(0, false)
			step := 1
			if testing.Short() || thorough {
				step = 7
			}
			for k := 1; k <= ops; k += step {
				attempt(k, k%3 == 0)
			}
			t.Logf("%d crash points", ops)
		})
	}
}

// life opens the replicas, feeds them and compares what they hold in the end.
func (o original) life(t *testing.T, disk *crashfs.FS, mode wal.SyncMode, out *outside, seed uint64) error {
	rs, err := openReplicas(t, disk, mode)
	if err != nil {
		return err
	}
	defer rs.Close()
	if err := o.feed(t, rs, out, seed); err != nil {
		return err
	}
	out.promise += 7
	tail, err := rs.Fence(t.Context(), testStream, out.promise)
	if err != nil {
		out.promise -= 7
		return err
	}
	if tail.End != o.end() || tail.Promise != out.promise {
		return fmt.Errorf("fenced: %+v", tail)
	}
	o.checkReplica(t, rs, tail.Start, tail.End)
	return rs.Close()
}

func TestReplicaPromises(t *testing.T) {
	src := writeOriginal(t, 1000, 20)
	disk := crashfs.New()
	rs, err := openReplicas(t, disk, wal.SyncAuto)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	if _, err := rs.Fence(ctx, testStream, 5); !errors.Is(err, wal.ErrNoReplica) {
		t.Fatalf("fence of nothing: %v", err)
	}
	if _, _, err := rs.Open(ctx, testStream, src.header, src.oldest(), false); !errors.Is(err, wal.ErrNoReplica) {
		t.Fatalf("open of a lost member: %v", err)
	}
	a, _, err := rs.Open(ctx, testStream, src.header, src.oldest(), true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Append(ctx, src.groups[1]); !errors.Is(err, wal.ErrMalformed) {
		t.Fatalf("a gap at the start: %v", err)
	}
	for i := range 5 {
		if _, err := a.Append(ctx, src.groups[i]); err != nil {
			t.Fatal(err)
		}
	}
	for _, k := range []int{3, 4, 6} {
		if _, err := a.Append(ctx, src.groups[k]); !errors.Is(err, wal.ErrMalformed) {
			t.Fatalf("group %d after 4: %v", k, err)
		}
	}
	b, tail, err := rs.Open(ctx, testStream, src.header, src.oldest(), false)
	if err != nil || tail.End != src.groups[4].End() {
		t.Fatalf("%+v, %v", tail, err)
	}
	if _, err := a.Append(ctx, src.groups[5]); !errors.Is(err, wal.ErrSuperseded) {
		t.Fatalf("append of an earlier connection: %v", err)
	}
	if tail, err = rs.Fence(ctx, testStream, 1000); err != nil || tail.Promise != 1000 { // the writer's own epoch does not fence it
		t.Fatal(err)
	}
	if _, err := b.Append(ctx, src.groups[5]); err != nil {
		t.Fatal(err)
	}
	tail, err = rs.Fence(ctx, testStream, 1001)
	if err != nil || tail.End != src.groups[5].End() || tail.Header != src.header {
		t.Fatalf("%+v, %v", tail, err)
	}
	again := func(rs *wal.Replicas, b *wal.Appender) {
		t.Helper()
		if b != nil {
			if _, err := b.Append(ctx, src.groups[6]); !errors.Is(err, wal.ErrFenced) {
				t.Fatalf("append of a fenced writer: %v", err)
			}
		}
		if _, _, err := rs.Open(ctx, testStream, src.header, src.oldest(), true); !errors.Is(err, wal.ErrFenced) {
			t.Fatalf("open by a fenced writer: %v", err)
		}
		if _, err := rs.Fence(ctx, testStream, 1000); !errors.Is(err, wal.ErrFenced) {
			t.Fatalf("a lower fence: %v", err)
		}
		if err := rs.Remove(ctx, testStream, 1000); !errors.Is(err, wal.ErrFenced) {
			t.Fatalf("removed by a fenced writer: %v", err)
		}
		if _, err := rs.Fence(ctx, testStream, 1001); err != nil {
			t.Fatalf("the same fence: %v", err)
		}
	}
	again(rs, b)
	disk.Crash()
	after, err := openReplicas(t, disk.After(100, 1), wal.SyncAuto)
	if err != nil {
		t.Fatal(err)
	}
	again(after, nil)
	if err := after.Remove(ctx, testStream, 1001); err != nil || len(after.Streams()) > 0 {
		t.Fatal(err)
	}
	if _, err := after.Fence(ctx, testStream, 2000); !errors.Is(err, wal.ErrNoReplica) {
		t.Fatalf("fence after removal: %v", err)
	}
	if err := after.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestReplicaRotIsLimbo: after a clean end every damaged byte of what was durable is noticed, and one more lost file too.
func TestReplicaRotIsLimbo(t *testing.T) {
	src := writeOriginal(t, 1000, 40)
	disk := crashfs.New()
	var out outside
	if err := src.life(t, disk, wal.SyncAuto, &out, 1); err != nil {
		t.Fatal(err)
	}
	dir := fmt.Sprintf("%s/%016x", replicaDir, testStream)
	names, _ := disk.List(dir)
	if len(names) < 2 {
		t.Fatalf("only %v", names)
	}
	expect := func(what string, want error) {
		t.Helper()
		rs, err := openReplicas(t, disk.Fork(), wal.SyncAuto)
		if err != nil {
			t.Fatal(err)
		}
		defer rs.Close()
		if _, err := rs.Fence(t.Context(), testStream, 5000); !errors.Is(err, want) {
			t.Fatalf("%s: fence %v", what, err)
		}
		if want == nil {
			return
		}
		if _, _, err := rs.Open(t.Context(), testStream, src.header, src.oldest(), true); !errors.Is(err, want) {
			t.Fatalf("%s: open %v", what, err)
		}
		if err := rs.Remove(t.Context(), testStream, 5000); err != nil { // the only way out
			t.Fatalf("%s: remove %v", what, err)
		}
		if _, _, err := rs.Open(t.Context(), testStream, src.header, src.oldest(), true); err != nil {
			t.Fatalf("%s: open afresh %v", what, err)
		}
	}
	first := wal.Position(0)
	for i, n := range names {
		path := dir + "/" + n
		good := disk.ReadFile(path)
		for _, at := range []int{9, 4096 + 9, 4096 + 64 + 1, 4096 + 64 + 17} {
			flipByte(disk, path, at)
			expect(fmt.Sprintf("%s byte %d", n, at), wal.ErrLimbo)
			disk.WriteFile(path, good)
		}
		if i == len(names)-1 {
			last := src.groups[len(src.groups)-1]
			at := 4096 + int(last.Position-last.Segment.First) + 64 + 16
			flipByte(disk, path, at)
			expect("the last group", wal.ErrLimbo)
			disk.WriteFile(path, good)
		}
		disk.WriteFile(path, nil)
		expect("lost "+n, wal.ErrLimbo)
		disk.WriteFile(path, good)
		first += wal.Position(len(good) - 4096)
	}
	state := fmt.Sprintf("%s/%016x.state", replicaDir, testStream)
	good := disk.ReadFile(state)
	for slot := range 2 {
		flipByte(disk, state, slot*4096+40)
		expect("one slot", nil)
		disk.WriteFile(state, good)
	}
	flipByte(disk, state, 40)
	flipByte(disk, state, 4096+40)
	expect("both slots", wal.ErrLimbo)
	disk.WriteFile(state, good)
	expect("healed", nil)
}

// TestReplicaLosesNoPromiseToRot: a fence stands in both slots.
func TestReplicaLosesNoPromiseToRot(t *testing.T) {
	src := writeOriginal(t, 1000, 5)
	disk := crashfs.New()
	rs, err := openReplicas(t, disk, wal.SyncAuto)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := rs.Open(t.Context(), testStream, src.header, src.oldest(), true); err != nil {
		t.Fatal(err)
	}
	if _, err := rs.Fence(t.Context(), testStream, 1234); err != nil {
		t.Fatal(err)
	}
	for slot := range 2 {
		fork := disk.Fork()
		flipByte(fork, fmt.Sprintf("%s/%016x.state", replicaDir, testStream), slot*4096+40)
		rs, err := openReplicas(t, fork, wal.SyncAuto)
		if err != nil {
			t.Fatal(err)
		}
		if tail, err := rs.Fence(t.Context(), testStream, 1234); err != nil || tail.Promise != 1234 {
			t.Fatal(err)
		}
		if _, err := rs.Fence(t.Context(), testStream, 1233); !errors.Is(err, wal.ErrFenced) {
			t.Fatalf("slot %d: %v", slot, err)
		}
	}
}

func TestOpenLooksAgainForAReplicaRemovedMeanwhile(t *testing.T) {
	src := writeOriginal(t, 5, 4)
	rs, err := openReplicas(t, crashfs.New(), wal.SyncData)
	if err != nil {
		t.Fatal(err)
	}
	if app, again, err := wal.OpenWhileRemoved(t.Context(), rs, 5, src.header, src.oldest()); !again || app != nil || err != nil {
		t.Fatalf("a removed replica was opened, unknown to a fence: %v, again %v, error %v", app, again, err)
	}
	app, _, err := rs.Open(t.Context(), 5, src.header, src.oldest(), true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rs.Fence(t.Context(), 5, 9); err != nil {
		t.Fatal(err)
	}
	if _, err := app.Append(t.Context(), src.groups[0]); !errors.Is(err, wal.ErrFenced) {
		t.Fatalf("after the fence: %v", err)
	}
}

func TestFailedCreationsAreNotCounted(t *testing.T) {
	src := writeOriginal(t, 5, 4)
	disk := crashfs.New()
	rs, err := wal.OpenReplicas(wal.ReplicaOptions{FS: disk, Dir: "replicas", Sync: wal.SyncData, MaxStreams: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rs.Close() }()
	disk.SetCapacity(1)
	for stream := range uint64(3) {
		if _, _, err := rs.Open(t.Context(), stream, src.header, src.oldest(), true); err == nil || strings.Contains(err.Error(), "streams are kept") {
			t.Fatalf("stream %d on a full disk: %v", stream, err)
		}
	}
	disk.SetCapacity(0)
	if _, _, err := rs.Open(t.Context(), 9, src.header, src.oldest(), true); err != nil {
		t.Fatal(err)
	}
}
