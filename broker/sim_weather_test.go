package broker

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/metadata/memkv"
	"github.com/tidemarkmq/tidemark/objectstore/faulty"
	"github.com/tidemarkmq/tidemark/wal"
	"github.com/tidemarkmq/tidemark/wal/crashfs"
)

// weather makes things go wrong at random, by a seed, until a time.
type weather struct {
	w   *world
	rng *rand.Rand // of the goroutine of run
}

var errSimDisk = errors.New("simulated disk error")

// run changes the weather again and again, and heals everything in the end.
func (x *weather) run(until time.Time) {
	for time.Now().Before(until) {
		switch x.rng.IntN(8) {
		case 0, 1:
			x.storm()
		case 2, 3:
			x.etcd()
		case 4:
			x.disk()
		case 5:
			x.w.kv.BreakWatches()
		case 6:
			x.w.kv.StallWatches(true)
		case 7:
			x.w.kv.ExpireAll()
		}
		time.Sleep(time.Duration(x.rng.IntN(4000)) * time.Millisecond)
		if x.rng.IntN(2) == 0 {
			x.clear()
		}
	}
	x.clear()
	x.w.store.Settle(context.Background())
}

func (x *weather) clear() {
	x.w.store.Script()
	x.w.kv.SetFaults(nil)
	x.w.kv.StallWatches(false)
	disk := x.w.currentDisk()
	disk.SetFault(nil)
	disk.SetCapacity(0)
	if x.rng.IntN(2) == 0 {
		x.w.store.Settle(context.Background())
	}
}

// storm is bad weather for the object store.
func (x *weather) storm() {
	var rules []faulty.Rule
	for range 1 + x.rng.IntN(4) {
		count := 1 + x.rng.IntN(6)
		if x.rng.IntN(6) == 0 {
			count = faulty.Forever
		}
		rules = append(rules, faulty.Rule{
			Op:  []faulty.Op{faulty.Put, faulty.Put, faulty.Get, faulty.Head, faulty.List, faulty.Delete, faulty.Any}[x.rng.IntN(7)],
			Nth: 1 + x.rng.IntN(8), Count: count, Delay: time.Duration(x.rng.IntN(8000)) * time.Millisecond,
			Fault: []faulty.Fault{faulty.Throttled, faulty.Failed, faulty.Slow, faulty.Hang, faulty.Lost, faulty.AppliedLost, faulty.Delayed, faulty.Torn}[x.rng.IntN(8)],
		})
	}
	x.w.store.Script(rules...)
}

// etcd is bad weather for etcd.
func (x *weather) etcd() {
	rate := []int{5, 20, 60, 100}[x.rng.IntN(4)]
	rng := rand.New(rand.NewPCG(x.rng.Uint64(), 0))
	var mu sync.Mutex
	x.w.kv.SetFaults(func(c memkv.Call) memkv.Fault {
		mu.Lock()
		defer mu.Unlock()
		if rng.IntN(100) >= rate {
			return memkv.Fault{}
		}
		delay := time.Duration(rng.IntN(3000)) * time.Millisecond
		switch rng.IntN(4) {
		case 0:
			return memkv.Fault{Lost: true}
		case 1:
			return memkv.Fault{Unknown: true}
		case 2:
			if c.Kind == memkv.OpTxn {
				return memkv.Fault{Late: delay}
			}
			return memkv.Fault{Lost: true}
		default:
			return memkv.Fault{Delay: delay}
		}
	})
}

// disk is a disk that fills up or fails.
func (x *weather) disk() {
	disk := x.w.currentDisk()
	if x.rng.IntN(2) == 0 {
		disk.SetCapacity(disk.Used() + int64(x.rng.IntN(100_000)))
		return
	}
	left := 1 + x.rng.IntN(20)
	kind := []crashfs.Kind{crashfs.Write, crashfs.Sync, crashfs.Create, crashfs.Rename, crashfs.Remove, crashfs.SyncDir}[x.rng.IntN(6)]
	disk.SetFault(func(op crashfs.Op) error { // called with the disk's lock held
		if op.Kind != kind {
			return nil
		}
		if left--; left != 0 {
			return nil
		}
		return errSimDisk
	})
}

func (w *world) currentDisk() *crashfs.FS { return w.current().disk }

// mayHappen are the errors by which a broker may end in bad weather.
func mayHappen(err error) bool {
	var rot *wal.CorruptionError
	if errors.As(err, &rot) {
		return false
	}
	for _, is := range []error{metadata.ErrUnavailable, metadata.ErrExists, errSimDisk, wal.ErrFull} {
		if errors.Is(err, is) {
			return true
		}
	}
	return false
}

// nextEnd chooses how a run ends.
func nextEnd(rng *rand.Rand) crashPoint {
	p := crashPoint{loss: []int{0, 50, 100}[rng.IntN(3)], seed: rng.Uint64(), applied: rng.IntN(2) == 0}
	switch rng.IntN(6) {
	case 0:
		p.disk = 1 + rng.IntN(150)
	case 1:
		p.store = 1 + rng.IntN(80)
	case 2:
		p.kv = 1 + rng.IntN(80)
	case 3:
		p.after = time.Duration(rng.IntN(10_000)) * time.Millisecond
	case 4:
		p.after, p.orderly = time.Duration(1+rng.IntN(10_000))*time.Millisecond, true
	case 5:
		p.after, p.orderly, p.wipe = time.Duration(1+rng.IntN(10_000))*time.Millisecond, true, true
	}
	return p
}

// life is a random life of a broker with many ends, in bad weather.
func (w *world) life(seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 7))
	between := func(low, high int) int { return low + rng.IntN(high-low+1) }
	segments, sealAge, sealBytes := int64(16<<10<<rng.IntN(4)), time.Duration(between(50, 3000))*time.Millisecond, int64(between(4, 200))<<10
	absorb, grace, walBytes := time.Duration(between(300, 8000))*time.Millisecond, time.Duration(between(1, 30))*time.Second, int64(between(100, 1500))<<10
	mode := []string{"auto", "direct", "data"}[rng.IntN(3)]
	w.config = func(c *Config) {
		c.WAL = WALConfig{SegmentBytes: segments, MaxBytes: walBytes, Sync: mode}
		c.SealAge, c.SealBytes, c.AbsorbEvery, c.DeleteGrace = sealAge, sealBytes, absorb, grace
	}
	until := time.Now().Add(time.Duration(between(10, 60)) * time.Second)
	ends := rand.New(rand.NewPCG(seed, 8))
	stop := w.keepRunning(func(int) crashPoint {
		if time.Now().After(until) || ends.IntN(8) == 0 {
			return crashPoint{}
		}
		return nextEnd(ends)
	}, mayHappen)

	h := newHistory(w)
	var parts []tp
	topics := []string{"a", "b", "c"}[:between(1, 3)]
	for _, topic := range topics {
		n := int32(between(1, 4))
		w.createTopic(topic, n)
		for i := range n {
			parts = append(parts, tp{topic, i})
		}
	}
	var weatherMan, producers, consumers sync.WaitGroup
	weatherMan.Go(func() { (&weather{w: w, rng: rand.New(rand.NewPCG(seed, 9))}).run(until) })
	quit := make(chan struct{})
	some := func() []tp {
		var out []tp
		for _, p := range parts {
			if rng.IntN(2) == 0 || len(out) == 0 && p == parts[len(parts)-1] {
				out = append(out, p)
			}
		}
		return out
	}
	for i := range between(2, 5) {
		p := &producer{h: h, name: "p" + strconv.Itoa(i), parts: some(), idempotent: rng.IntN(3) > 0, batches: between(3, 60), records: between(1, 5),
			valueBytes: between(10, 2000), pause: time.Duration(between(1, 700)) * time.Millisecond}
		producers.Go(p.run)
	}
	l := &library{h: h, name: "kgo", parts: some(), records: between(5, 100), pause: time.Duration(between(1, 300)) * time.Millisecond}
	producers.Go(l.run)
	for i, p := range some() {
		c := &simConsumer{h: h, p: p, group: []string{"", "g", "g" + strconv.Itoa(i)}[rng.IntN(3)], quit: quit}
		consumers.Go(c.run)
	}
	weatherMan.Wait()
	late := time.AfterFunc(20*time.Minute, func() {
		w.errorf("the producers do not get through")
		w.lose()
	})
	producers.Wait()
	late.Stop()
	close(quit)
	consumers.Wait()
	r := stop()
	time.Sleep(5 * time.Second) // late transactions
	h.checkAll(r)
	n := h.counts()
	w.t.Logf("seed %d: %d records acked, %d unknown, %d refused; %d runs: %d crashes, %d stops, %d failures", seed, n[acked], n[unknown], n[refused], w.runs, w.crashes.Load(), w.stops, w.failures)
}

// TestSimSeeds lives random lives. TIDEMARK_TEST_SIM_SEEDS says how many, from TIDEMARK_TEST_SIM_FIRST on.
func TestSimSeeds(t *testing.T) {
	seeds, first := 12, uint64(1)
	if n, err := strconv.Atoi(os.Getenv("TIDEMARK_TEST_SIM_SEEDS")); err == nil {
		seeds = n
	}
	if n, err := strconv.ParseUint(os.Getenv("TIDEMARK_TEST_SIM_FIRST"), 10, 64); err == nil {
		first = n
	}
	for seed := first; seed < first+uint64(seeds); seed++ {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			bubble(t, func(t *testing.T) { newWorld(t).life(seed) })
		})
	}
}
