package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/metadata/kv"
	"github.com/tidemarkmq/tidemark/metadata/memkv"
	"github.com/tidemarkmq/tidemark/objectstore"
	"github.com/tidemarkmq/tidemark/objectstore/faulty"
	"github.com/tidemarkmq/tidemark/objectstore/memory"
	"github.com/tidemarkmq/tidemark/objectstore/retry"
	"github.com/tidemarkmq/tidemark/wal"
	"github.com/tidemarkmq/tidemark/wal/crashfs"
)

// world is what outlives a broker: its machine's disk, the bucket and etcd. Brokers run in it one after the other, inside a
// synctest bubble.
type world struct {
	t      *testing.T
	kv     *memkv.KV
	bucket *memory.Store
	store  *faulty.Store // before bucket
	disk   *crashfs.FS
	token  string // of the data folder on disk
	config func(*Config)
	failed atomic.Bool
	lost   chan struct{} // closed when there is no hope for the clients
	lose   func()

	mu    sync.Mutex
	run   *run            // the newest
	ports map[string]*run // the newest by address
	runs  int

	crashes         atomic.Int64
	stops, failures int
}

const simData = "/data"

func newWorld(t *testing.T) *world {
	w := &world{t: t, kv: memkv.New(), bucket: memory.New(), lost: make(chan struct{}), ports: map[string]*run{}}
	w.lose = sync.OnceFunc(func() { close(w.lost) })
	w.store = faulty.New(w.bucket)
	w.newDisk()
	t.Cleanup(func() { // after a test that gave up
		w.lose()
		if r := w.current(); r != nil {
			r.crash()
			<-r.done
		}
	})
	return w
}

// newDisk gives the machine an empty disk.
func (w *world) newDisk() {
	w.disk = crashfs.New()
	w.disk.SetLatency(time.Millisecond)
	w.token = fmt.Sprintf("disk-%p", w.disk)
}

// errorf reports a broken promise; it may be called on any goroutine of the bubble.
func (w *world) errorf(format string, args ...any) {
	w.t.Helper()
	w.failed.Store(true)
	w.t.Errorf(format, args...)
}

// crashPoint says when and how a run ends: in the middle of the nth operation of one of the kinds, or after a while; zero: not by
// itself.
type crashPoint struct {
	disk, store, kv int
	applied         bool // the operation of store or kv takes effect
	loss            int  // percent of what the disk had not synced
	seed            uint64
	after           time.Duration
	orderly         bool // after that time it is stopped, not crashed
	wipe            bool // and the disk replaced by an empty one
}

// run is one run of a broker.
type run struct {
	w        *world
	broker   *Broker
	point    crashPoint
	disk     *crashfs.FS
	token    string
	listener *pipeListener
	replicas *wal.Replicas // nil: none; guarded by world.mu
	cut      atomic.Bool   // no other broker reaches its replicas, nor it theirs
	stop     context.CancelFunc
	ready    chan struct{}
	done     chan struct{} // closed when Run returned err
	err      error

	dead            atomic.Bool
	partitioned     atomic.Bool // etcd cannot be reached
	storeless       atomic.Bool // the object store cannot be reached
	storeOps, kvOps atomic.Int64

	watched atomic.Bool
	wrote   []string // keys, while watched; guarded by world.mu
	// hold, if not nil, chooses transactions that come through only when the test calls what is in held; guarded by world.mu.
	hold func(kv.Txn) bool
	held []func() error
}

var errSimCrash = errors.New("simulated crash")

var errNoWay = errors.New("no way there")

// simConfig is a small broker: segments and slabs of 64 KiB, seals within a second, manifests within two.
func simConfig() Config {
	c := Default()
	c.NodeID, c.DataDir, c.Durability, c.AdminListener = 1, simData, "local", ""
	c.Listeners, c.ObjectStore.URL = []string{"127.0.0.1:9092"}, "memory://sim"
	c.WAL = WALConfig{SegmentBytes: 64 << 10, MaxBytes: 1 << 20, Sync: "auto"}
	c.TailCacheBytes, c.SealBytes, c.SealAge = 8*simSlabBytes, 32<<10, 300*time.Millisecond
	c.AbsorbEvery, c.DeleteGrace = 2*time.Second, 10*time.Second
	c.Kafka["group.initial.rebalance.delay.ms"] = "0"
	return c
}

const simSlabBytes = 64 << 10

// start starts a broker on the world's disk. It returns at once; the run dies at the crash point.
func (w *world) start(point crashPoint) *run {
	c := simConfig()
	if w.config != nil {
		w.config(&c)
	}
	r := &run{w: w, point: point, disk: w.disk, token: w.token, ready: make(chan struct{}), done: make(chan struct{})}
	r.listener = newPipeListener(c.Listeners[0])
	logger := slog.New(slog.DiscardHandler)
	if os.Getenv("TIDEMARK_TEST_SIM_LOG") != "" {
		logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	b := &Broker{config: c, logger: logger, nodeID: metadata.BrokerID(c.NodeID), fatal: make(chan error, 1)}
	b.seams = seams{openData: r.openData, openKV: r.openKV, openStore: r.openStore, listen: r.listen, replicate: r.replicate, slabBytes: simSlabBytes}
	if err := b.prepare(); err != nil {
		w.t.Fatal(err)
	}
	r.broker = b
	if point.disk > 0 {
		r.disk.CrashAt(r.disk.Ops() + point.disk)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.stop = cancel
	w.mu.Lock()
	w.run, w.ports[c.Listeners[0]] = r, r
	w.runs++
	w.mu.Unlock()
	go r.end(point)
	go func() {
		defer close(r.done)
		defer cancel()
		r.err = b.Run(ctx, func(Info) { close(r.ready) })
		select {
		case <-r.disk.Crashed():
			r.crash()
		default:
			r.listener.kill()
		}
	}()
	return r
}

// end brings about what the crash point says.
func (r *run) end(point crashPoint) {
	var due <-chan time.Time
	if point.after > 0 {
		due = time.After(point.after)
	}
	select {
	case <-r.disk.Crashed():
		r.crash()
	case <-r.done:
	case <-due:
		if point.orderly {
			r.stop()
		} else {
			r.crash()
		}
	}
}

// crash ends the machine: nothing that the broker does from now on has an effect on what outlives it.
func (r *run) crash() {
	if r.dead.Swap(true) {
		return
	}
	r.w.crashes.Add(1)
	r.kill()
}

func (r *run) kill() {
	r.disk.Crash()
	r.listener.kill()
	r.broker.fail(errSimCrash)
	r.stop()
}

// await waits until the run serves clients; false: it ended before.
func (r *run) await() bool {
	select {
	case <-r.ready:
		return true
	case <-r.done:
		return false
	}
}

// drain stops the run in order, and wants everything to be in bucket and etcd then. A run that dies meanwhile is followed by another.
func (r *run) drain() {
	r.w.t.Helper()
	r.stop()
	<-r.done
	if r.dead.Load() {
		again := r.w.restart(r, crashPoint{})
		if !again.await() {
			r.w.errorf("restart after a crash in an orderly stop: %v", again.err)
			return
		}
		again.drain()
		return
	}
	if r.err != nil {
		r.w.errorf("orderly stop: %v", r.err)
	}
}

// restart starts a broker on what a dead run's disk kept.
func (w *world) restart(r *run, point crashPoint) *run {
	w.disk, w.token = r.disk.After(r.point.loss, r.point.seed), r.token
	w.disk.SetLatency(time.Millisecond)
	return w.start(point)
}

// current is the newest run.
func (w *world) current() *run {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.run
}

// dialTo connects to the newest run at an address.
func (w *world) dialTo(addr string) (net.Conn, error) {
	w.mu.Lock()
	r := w.ports[addr]
	w.mu.Unlock()
	if r == nil {
		return nil, errRefused
	}
	return r.listener.dial()
}

// keepRunning runs brokers one after the other until stop is called, which then waits for one that serves. Each ends as next says and
// is followed by another on what the disk kept. One that ends otherwise has failed, unless its error may happen in this weather; it is then
// started again, as an operator's supervisor does.
func (w *world) keepRunning(next func(run int) crashPoint, mayHappen func(error) bool) (stop func() *run) {
	quit, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		r := w.start(next(0))
		for n := 1; ; n++ {
			point := next(n)
			select {
			case <-r.done:
			case <-quit:
				point = crashPoint{}
				if r.point == point {
					if r.await() {
						return
					}
				} else if !r.dead.Swap(true) {
					r.kill() // it has not come to its point
				}
				<-r.done
			}
			if r = w.follow(r, point, mayHappen); r == nil {
				return
			}
		}
	}()
	return func() *run {
		close(quit)
		<-ended
		return w.current()
	}
}

// follow starts the run after r, which has ended; nil: it has failed.
func (w *world) follow(r *run, point crashPoint, mayHappen func(error) bool) *run {
	switch {
	case r.dead.Load():
		return w.restart(r, point)
	case r.err == nil && r.point.orderly:
		if w.stops++; r.point.wipe {
			w.newDisk()
		}
		return w.start(point)
	case r.point.orderly && errors.Is(r.err, context.Canceled): // too early to be an orderly stop
		return w.start(point)
	case r.err != nil && mayHappen != nil && mayHappen(r.err) && w.runs < 200:
		w.failures++
		time.Sleep(time.Second)
		return w.start(point)
	}
	w.errorf("run %d ended by itself: %v", w.runs, r.err)
	w.lose()
	return nil
}

func (r *run) openData(path string) (*dataDir, error) {
	d := &dataDir{path: path, token: r.token, lock: noLock{}, files: r.disk}
	d.walFolders = func() ([]string, error) { return r.disk.Folders(d.wal()) }
	if err := r.disk.MkdirAll(filepath.Join(path, walFolder)); err != nil {
		return nil, err
	}
	return d, nil
}

type noLock struct{}

func (noLock) Close() error { return nil }

func (r *run) openKV(context.Context) (metadata.KV, func(), error) {
	return &mortalKV{r: r}, func() {}, nil
}

func (r *run) openStore(context.Context) (store, error) {
	s, err := retry.New(&mortalStore{r: r}, retry.Options{AttemptTimeout: 5 * time.Second})
	return openedStore{s}, err
}

type openedStore struct{ objectstore.Store }

func (openedStore) Close() error   { return nil }
func (openedStore) String() string { return "sim" }

func (r *run) listen(string) (net.Listener, error) { return r.listener, nil }

// mortalKV is etcd as a broker reaches it until it dies.
type mortalKV struct{ r *run }

func (k *mortalKV) gone() error {
	if k.r.dead.Load() {
		return fmt.Errorf("%w: %w", kv.ErrUnavailable, errSimCrash)
	}
	if k.r.partitioned.Load() {
		return fmt.Errorf("%w: no way there", kv.ErrUnavailable)
	}
	return nil
}

// write passes one operation to etcd, unless the broker dies before or in it.
func (k *mortalKV) write(do func() error) error {
	if err := k.gone(); err != nil {
		return err
	}
	if int(k.r.kvOps.Add(1)) == k.r.point.kv {
		if k.r.point.applied {
			_ = do() // nobody hears of it
		}
		k.r.crash()
	} else if err := do(); err != nil {
		return err
	}
	return k.gone()
}

func (k *mortalKV) Txn(ctx context.Context, t kv.Txn) (res kv.TxnResult, err error) {
	if k.holds(t) {
		return res, fmt.Errorf("%w: on its way", kv.ErrUnavailable)
	}
	err = k.write(func() (err error) { res, err = k.r.w.kv.Txn(ctx, t); return err })
	k.noteWrite(t, res)
	return res, err
}

func (k *mortalKV) holds(t kv.Txn) bool {
	k.r.w.mu.Lock()
	defer k.r.w.mu.Unlock()
	if k.r.hold == nil || !k.r.hold(t) {
		return false
	}
	k.r.held = append(k.r.held, func() error {
		_, err := k.r.w.kv.Txn(context.Background(), t)
		return err
	})
	return true
}

func (k *mortalKV) Grant(ctx context.Context, ttl time.Duration) (id kv.LeaseID, d time.Duration, err error) {
	err = k.write(func() (err error) { id, d, err = k.r.w.kv.Grant(ctx, ttl); return err })
	return id, d, err
}

func (k *mortalKV) Revoke(ctx context.Context, id kv.LeaseID) error {
	return k.write(func() error { return k.r.w.kv.Revoke(ctx, id) })
}

func (k *mortalKV) Range(ctx context.Context, q kv.Range) (kv.Page, error) {
	if err := k.gone(); err != nil {
		return kv.Page{}, err
	}
	return k.r.w.kv.Range(ctx, q)
}

func (k *mortalKV) KeepAlive(ctx context.Context, id kv.LeaseID) (time.Duration, error) {
	if err := k.gone(); err != nil {
		return 0, err
	}
	return k.r.w.kv.KeepAlive(ctx, id)
}

func (k *mortalKV) Watch(ctx context.Context, start, end string, from int64, fn func(kv.Batch) error) error {
	if err := k.gone(); err != nil {
		return err
	}
	return k.r.w.kv.Watch(ctx, start, end, from, func(b kv.Batch) error {
		if err := k.gone(); err != nil {
			return err
		}
		return fn(b)
	})
}

// mortalStore is the bucket as a broker reaches it until it dies.
type mortalStore struct{ r *run }

func (s *mortalStore) do(do func() error) error {
	if s.r.dead.Load() {
		return errSimCrash
	}
	if s.r.storeless.Load() {
		return errNoWay
	}
	if int(s.r.storeOps.Add(1)) == s.r.point.store {
		if s.r.point.applied {
			_ = do() // nobody hears of it
		}
		s.r.crash()
	} else if err := do(); err != nil {
		return err
	}
	if s.r.dead.Load() {
		return errSimCrash
	}
	return nil
}

func (s *mortalStore) Put(ctx context.Context, key string, body objectstore.Body, o objectstore.PutOptions) error {
	return s.do(func() error { return s.r.w.store.Put(ctx, key, body, o) })
}

func (s *mortalStore) Delete(ctx context.Context, keys ...string) error {
	return s.do(func() error { return s.r.w.store.Delete(ctx, keys...) })
}

func (s *mortalStore) GetRange(ctx context.Context, key string, p []byte, offset int64) (n int, err error) {
	err = s.do(func() (err error) { n, err = s.r.w.store.GetRange(ctx, key, p, offset); return err })
	return n, err
}

func (s *mortalStore) Head(ctx context.Context, key string) (info objectstore.Info, err error) {
	err = s.do(func() (err error) { info, err = s.r.w.store.Head(ctx, key); return err })
	return info, err
}

func (s *mortalStore) List(ctx context.Context, prefix, after string, fn func(objectstore.Info) error) error {
	return s.do(func() error { return s.r.w.store.List(ctx, prefix, after, fn) })
}

// bubble runs a test with a clock of its own, whose time passes when everybody waits.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}
