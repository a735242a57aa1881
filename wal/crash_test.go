package wal_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemarkmq/tidemark/wal"
	"github.com/tidemarkmq/tidemark/wal/crashfs"
)

// workload runs producers and a trimmer against a stream until they are done or the disk is gone.
type workload struct {
	producers, entries int
	options            wal.Options
	stats              *wal.Stats // as they were at the end, if wanted
}

func (w workload) run(t *testing.T) *ledger {
	book := newLedger()
	l, err := wal.New(w.options)
	if err != nil {
		if !errors.Is(err, crashfs.ErrCrashed) {
			t.Fatal(err)
		}
		return book
	}
	ctx, cancel := context.WithCancel(t.Context())
	runErr := make(chan error, 1)
	go func() { runErr <- l.Run(ctx) }()
	var wg sync.WaitGroup
	for p := range w.producers {
		wg.Go(func() { w.produce(ctx, l, book, p) })
	}
	trimming, stopTrimming := context.WithCancel(ctx)
	var trimmer sync.WaitGroup
	trimmer.Go(func() { trimBehind(t, trimming, l, book) })
	wg.Wait()
	stopTrimming()
	trimmer.Wait()
	cancel()
	if err := <-runErr; err != nil && !errors.Is(err, wal.ErrFailed) {
		t.Fatalf("Run: %v", err)
	}
	if w.stats != nil {
		*w.stats = l.Stats()
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return book
}

// produce keeps up to three entries in flight.
func (w workload) produce(ctx context.Context, l *wal.Log, book *ledger, p int) {
	var open []*entry
	for i := range w.entries {
		e, err := book.append(ctx, l, content(p, i))
		if err != nil {
			break
		}
		if open = append(open, e); len(open) == 3 {
			if err := <-open[0].done; err != nil {
				open = open[1:]
				break
			}
			open = open[1:]
		}
	}
	for _, e := range open {
		<-e.done
	}
}

// trimBehind trims what is 50 KiB old.
func trimBehind(t *testing.T, ctx context.Context, l *wal.Log, book *ledger) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.Advanced():
		}
		const behind = 50 << 10
		to := l.Durable()
		if to < behind {
			continue
		}
		book.mu.Lock()
		book.trimmed = to - behind
		book.mu.Unlock()
		if err := l.Trim(to - behind); err != nil && !errors.Is(err, crashfs.ErrCrashed) {
			t.Errorf("Trim: %v", err)
		}
	}
}

// used returns a file system whose pool holds files full of frames of an earlier stream of the same epoch.
func used(t *testing.T) *crashfs.FS {
	disk := crashfs.New()
	o := small(disk, 7).WithTestSizes(0, 64<<10)
	o.Dir = "/data/wal/0"
	book := workload{producers: 2, entries: 60, options: o}.run(t)
	if len(book.acked) != 120 {
		t.Fatalf("%d acknowledged", len(book.acked))
	}
	r, err := wal.Recover(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Remove(); err != nil {
		t.Fatal(err)
	}
	return disk
}

func TestCrashAtEveryOperation(t *testing.T) {
	modes := []struct {
		name    string
		mode    wal.SyncMode
		direct  bool
		latency time.Duration
	}{
		{"direct", wal.SyncAuto, true, 0},
		{"direct-slow-pipelined", wal.SyncDirect, true, 2600 * time.Microsecond},
		{"data", wal.SyncAuto, false, 0},
		{"data-slow", wal.SyncData, true, time.Millisecond},
		{"none", wal.SyncNone, true, 0},
	}
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			var stats wal.Stats
			attempt := func(crashAt int) (ops int, book *ledger) {
				synctest.Test(t, func(t *testing.T) {
					disk := used(t)
					before := disk.Ops()
					disk.SetDirect(m.direct)
					disk.SetLatency(m.latency)
					if crashAt > 0 {
						disk.CrashAt(before + crashAt)
					}
					o := small(disk, 7)
					o.Sync = m.mode
					book = workload{producers: 5, entries: 50, options: o, stats: &stats}.run(t)
					ops = disk.Ops() - before
					disk.Crash()
					for i, loss := range []int{0, 50, 50, 100} {
						after := disk.After(loss, uint64(crashAt*10+i))
						o.FS = after
						checkRecovery(t, o, book, m.mode == wal.SyncNone && loss > 0)
					}
				})
				return ops, book
			}
			ops, book := attempt(0)
			if len(book.acked) != 250 {
				t.Fatalf("%d of 250 acknowledged without a crash", len(book.acked))
			}
			if stats.Start == 0 || stats.Segments > 4 {
				t.Fatalf("nothing was trimmed: %+v", stats)
			}
			if pipelined := stats.InFlightLimit > 1; pipelined != (m.name == "direct-slow-pipelined") {
				t.Fatalf("%d groups in flight", stats.InFlightLimit)
			}
			step := 1
			if testing.Short() || thorough {
				step = 7 // the build tag costs time; without it every point is tried
			}
			for k := 1; k <= ops; k += step {
				attempt(k)
			}
			t.Logf("%d crash points", ops)
		})
	}
}

// checkRecovery recovers twice, then removes the stream and starts another with its files.
func checkRecovery(t *testing.T, o wal.Options, book *ledger, ackedMayBeLost bool) {
	t.Helper()
	r, err := wal.Recover(o)
	if errors.Is(err, fs.ErrNotExist) && len(book.appended) == 0 {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	book.check(t, r, ackedMayBeLost)
	again, err := wal.Recover(o)
	if err != nil {
		t.Fatal(err)
	}
	if r.Start() != again.Start() || r.End() != again.End() || again.Close() != nil {
		t.Fatalf("recovered [%d, %d), then [%d, %d)", r.Start(), r.End(), again.Start(), again.End())
	}
	if err := r.Remove(); err != nil {
		t.Fatal(err)
	}
	if _, err := wal.Recover(o); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("Recover after Remove: %v", err)
	}
	l, err := wal.New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	r, err = wal.Recover(o)
	if err != nil || r.Start() != 0 || r.End() != 0 {
		t.Fatalf("a new stream in used files: %v, %v", r, err)
	}
}

// write makes a stream of n entries, one group each, and returns its disk and the groups' entries.
func write(t testing.TB, o wal.Options, n int) []wal.Ref {
	t.Helper()
	l, err := wal.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	runErr := make(chan error, 1)
	go func() { runErr <- l.Run(ctx) }()
	var refs []wal.Ref
	for i := range n {
		ref, err := appendWait(ctx, l, content(1, i))
		if err != nil {
			t.Fatal(err)
		}
		refs = append(refs, ref)
	}
	cancel()
	if err := <-runErr; err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return refs
}

func countEntries(t *testing.T, r *wal.Recovered) (n int) {
	t.Helper()
	err := r.Scan(t.Context(), r.Start(), r.End(), func(wal.Entry) error { n++; return nil })
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestRotIsNotATornTail flips each of many bytes of a stream: where a later group says that it was synced, recovery must
// refuse; in the last group it must leave that group out and nothing else.
func TestRotIsNotATornTail(t *testing.T) {
	disk := crashfs.New()
	o := small(disk, 3)
	const n = 30
	refs := write(t, o, n)
	names, _ := disk.List(testDir)
	if len(names) < 3 {
		t.Fatalf("only %v", names)
	}
	firsts := map[string]wal.Position{}
	first := wal.Position(0)
	for _, name := range names {
		firsts[name] = first
		first += wal.Position(len(disk.ReadFile(testDir+"/"+name)) - 4096)
	}
	flip := func(pos wal.Position, mask byte) (name string, undo func()) {
		for _, candidate := range names {
			if firsts[candidate] <= pos {
				name = candidate
			}
		}
		path := testDir + "/" + name
		good := disk.ReadFile(path)
		bad := bytes.Clone(good)
		bad[4096+pos-firsts[name]] ^= mask
		disk.WriteFile(path, bad)
		return name, func() { disk.WriteFile(path, good) }
	}
	for i, ref := range refs {
		group := ref.Pos - 80
		for _, at := range []wal.Position{group, group + 9, group + 20, group + 33, group + 57, ref.Pos - 16, ref.Pos - 9, ref.Pos, ref.Pos + wal.Position(ref.Len) - 1} {
			_, undo := flip(at, 0x40)
			r, err := wal.Recover(o)
			var corrupt *wal.CorruptionError
			switch {
			case i < n-1 && !errors.As(err, &corrupt):
				t.Fatalf("entry %d, byte %d: %v", i, at, err)
			case i < n-1 && (corrupt.Promised <= corrupt.Position || corrupt.Position > group):
				t.Fatalf("entry %d, byte %d: %+v", i, at, corrupt)
			case i == n-1 && err != nil:
				t.Fatalf("last entry, byte %d: %v", at, err)
			case i == n-1 && countEntries(t, r) != n-1:
				t.Fatalf("last entry, byte %d: %d entries", at, countEntries(t, r))
			}
			undo()
		}
	}
	r, err := wal.Recover(o)
	if err != nil || countEntries(t, r) != n {
		t.Fatal(err)
	}
}

func TestRecoverRefusesDamagedFiles(t *testing.T) {
	cases := []struct {
		name   string
		damage func(disk *crashfs.FS, paths []string)
	}{
		{"missing middle segment", func(d *crashfs.FS, p []string) { d.WriteFile(p[1], nil) }},
		{"truncated", func(d *crashfs.FS, p []string) { d.WriteFile(p[1], d.ReadFile(p[1])[:8192]) }},
		{"empty", func(d *crashfs.FS, p []string) { d.WriteFile(p[1], []byte{}) }},
		{"header rotten", func(d *crashfs.FS, p []string) { flipByte(d, p[1], 20) }},
		{"header of the last rotten", func(d *crashfs.FS, p []string) { flipByte(d, p[len(p)-1], 20) }},
		{"first header rotten", func(d *crashfs.FS, p []string) { flipByte(d, p[0], 4000) }},
		{"swapped", func(d *crashfs.FS, p []string) {
			a, b := d.ReadFile(p[1]), d.ReadFile(p[2])
			d.WriteFile(p[1], b)
			d.WriteFile(p[2], a)
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			disk := crashfs.New()
			o := small(disk, 3)
			write(t, o, 50)
			names, _ := disk.List(testDir)
			var paths []string
			for _, n := range names {
				paths = append(paths, testDir+"/"+n)
			}
			if len(paths) < 4 {
				t.Fatalf("only %v", names)
			}
			c.damage(disk, paths)
			_, err := wal.Recover(o)
			var corrupt *wal.CorruptionError
			if !errors.As(err, &corrupt) {
				t.Fatalf("got %v", err)
			}
		})
	}
	t.Run("other epoch", func(t *testing.T) {
		disk := crashfs.New()
		write(t, small(disk, 3), 5)
		if _, err := wal.Recover(small(disk, 4)); err == nil {
			t.Fatal("recovered a stream of another epoch")
		}
		if r, err := wal.Recover(small(disk, 0)); err != nil || r.Epoch() != 3 {
			t.Fatalf("any epoch: %v, %v", r, err)
		}
	})
}

func flipByte(d *crashfs.FS, path string, at int) {
	b := d.ReadFile(path)
	b[at] ^= 1
	d.WriteFile(path, b)
}

// TestStaleFramesOfTheSameEpoch: a used file of a stream with the same epoch, whose frames lie at the same positions, adds
// nothing to a new stream.
func TestStaleFramesOfTheSameEpoch(t *testing.T) {
	disk := crashfs.New()
	o := small(disk, 7).WithTestSizes(0, 64<<10)
	write(t, o, 40)
	r, err := wal.Recover(o)
	if err != nil || countEntries(t, r) != 40 {
		t.Fatal(err)
	}
	if err := r.Remove(); err != nil {
		t.Fatal(err)
	}
	pool, _ := disk.List(testFree)
	if len(pool) == 0 {
		t.Fatal("no files were kept")
	}
	write(t, o, 3)
	if r, err = wal.Recover(o); err != nil || countEntries(t, r) != 3 {
		t.Fatalf("%d entries, %v", countEntries(t, r), err)
	}
	names, _ := disk.List(testDir)
	var dump bytes.Buffer
	for _, n := range names {
		b := disk.ReadFile(testDir + "/" + n)
		if err := wal.DumpSegment(&dump, n, bytes.NewReader(b), int64(len(b))); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Contains(dump.Bytes(), []byte("stale-groups=1")) && !bytes.Contains(dump.Bytes(), []byte("stale-groups=2")) {
		t.Fatalf("the files held no stale frames:\n%s", dump.String())
	}
}

// TestForeignStream: the same epoch in the hands of another owner is another stream.
func TestForeignStream(t *testing.T) {
	disk := crashfs.New()
	o := small(disk, 7).WithTestSizes(0, 64<<10)
	o.Owner = [16]byte{1, 2, 3}
	book := workload{producers: 2, entries: 60, options: o}.run(t)
	for _, owner := range [][16]byte{{}, {1, 2, 3}} {
		o.Owner = owner
		r, err := wal.Recover(o)
		if err != nil {
			t.Fatalf("owner %x: %v", owner, err)
		}
		if r.End() == 0 || len(book.acked) != 120 {
			t.Errorf("recovered up to %d, %d acknowledged", r.End(), len(book.acked))
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	o.Owner = [16]byte{9}
	if _, err := wal.Recover(o); !errors.Is(err, wal.ErrForeign) {
		t.Errorf("recovered another owner's stream: %v", err)
	}
}
