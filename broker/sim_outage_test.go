package broker

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemarkmq/tidemark/metadata/memkv"
	"github.com/tidemarkmq/tidemark/objectstore/faulty"
	"github.com/tidemarkmq/tidemark/wal"
	"github.com/tidemarkmq/tidemark/wal/crashfs"
)

// outage is a world with one broker that serves topic t of one partition, and a producer that sends one batch at a time.
type outage struct {
	w    *world
	h    *history
	r    *run
	c    *client
	p    producer
	part tp
	next int
}

func newOutage(t *testing.T, config func(*Config)) *outage {
	w := newWorld(t)
	w.config = config
	r := w.start(crashPoint{})
	if !r.await() {
		t.Fatal(r.err)
	}
	w.createTopic("t", 1)
	h := newHistory(w)
	o := &outage{w: w, h: h, r: r, c: w.client("producer"), part: tp{"t", 0}}
	o.p = producer{h: h, name: "p", parts: []tp{o.part}, records: 1, valueBytes: 8000}
	return o
}

// produce sends one batch and returns the code of the answer, -100 for none, and how long it took.
func (o *outage) produce() (code int16, took time.Duration) {
	f := o.p.batch(o.part, o.next, -1, -1)
	o.next++
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = -1, 5000
	t := kmsg.NewProduceRequestTopic()
	t.Topic = o.part.topic
	q := kmsg.NewProduceRequestTopicPartition()
	q.Records = f.bytes
	t.Partitions = append(t.Partitions, q)
	req.Topics = append(req.Topics, t)
	began := time.Now()
	resp, err := o.c.call(req)
	took = time.Since(began)
	if err != nil {
		return -100, took
	}
	a := resp.(*kmsg.ProduceResponse).Topics[0].Partitions[0]
	o.h.settle(f.sent[0], map[bool]outcome{true: acked}[a.ErrorCode == 0], a.BaseOffset)
	return a.ErrorCode, took
}

// must produces n batches that are acked soon.
func (o *outage) must(n int) {
	o.w.t.Helper()
	for range n {
		if code, took := o.produce(); code != 0 || took > time.Second {
			o.w.t.Fatalf("batch %d: code %d (%v) after %v", o.next-1, code, kerr.ErrorForCode(code), took)
		}
	}
}

func (o *outage) unready(condition string) bool {
	return slices.ContainsFunc(o.r.broker.ready.Reasons(), func(r string) bool { return strings.HasPrefix(r, condition+": ") })
}

func (o *outage) finish() {
	o.w.t.Helper()
	o.h.checkAll(o.w.current())
	o.c.close()
}

// TestSimDiskFull: acks stop with KAFKA_STORAGE_ERROR, readiness says why, what is there is served, and acks go on when there is room.
func TestSimDiskFull(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOutage(t, nil)
		o.must(3)
		o.w.store.Script(faulty.Rule{Count: faulty.Forever, Fault: faulty.Throttled}) // else uploads make room
		o.r.disk.SetCapacity(o.r.disk.Used())
		refused := 0
		for range 200 {
			if code, _ := o.produce(); code == kerr.KafkaStorageError.Code {
				refused++
			} else if code != 0 {
				t.Fatalf("batch %d: %v", o.next-1, kerr.ErrorForCode(code))
			} else if refused > 0 {
				t.Fatal("acked after a refusal, without room")
			}
		}
		time.Sleep(2 * healthEvery)
		if refused < 100 || !o.unready(logCondition) {
			t.Errorf("%d of 200 were refused; not ready: %q", refused, o.r.broker.ready.Reasons())
		}
		if records, _, err := o.c.fetch(o.part, 0, 0, 1<<20); err != nil || len(records) == 0 {
			t.Errorf("fetch with a full disk: %d records, %v", len(records), err)
		}
		o.r.disk.SetCapacity(0)
		time.Sleep(5 * time.Second)
		o.must(20)
		time.Sleep(2 * healthEvery)
		if o.unready(logCondition) {
			t.Errorf("not ready though there is room: %q", o.r.broker.ready.Reasons())
		}
		o.w.store.Script()
		o.finish()
	})
}

// TestSimDiskFullAtStart: a broker that finds no room starts all the same where a former log left its files, and ends with an error
// elsewhere; nothing is lost.
func TestSimDiskFullAtStart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOutage(t, nil)
		o.must(10)
		o.r.crash()
		<-o.r.done
		full := o.w.restart(o.r, crashPoint{})
		full.disk.SetCapacity(1)
		if !full.await() {
			t.Fatalf("a start without room but with files to use: %v", full.err)
		}
		o.c.close()
		o.must(3)
		full.drain()
		o.w.newDisk()
		o.w.disk.SetCapacity(1)
		full = o.w.start(crashPoint{})
		if full.await() || !errors.Is(full.err, wal.ErrFull) {
			t.Fatalf("a start without room: %v", full.err)
		}
		full.disk.SetCapacity(0)
		if again := o.w.start(crashPoint{}); !again.await() {
			t.Fatalf("a start with room: %v", again.err)
		}
		o.c.close()
		o.must(3)
		o.finish()
	})
}

// TestSimFailedSync: nobody is acked after a write failed, the broker ends with an error, and the next start has all that was acked, with
// and without a loss of power in between.
func TestSimFailedSync(t *testing.T) {
	for _, mode := range []string{"direct", "data"} {
		for _, power := range []int{-1, 0, 50, 100} {
			t.Run(fmt.Sprintf("%s, loss %d", mode, power), func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					o := newOutage(t, func(c *Config) { c.WAL.Sync = mode })
					o.must(7)
					kind := map[string]crashfs.Kind{"direct": crashfs.Write, "data": crashfs.Sync}[mode]
					o.r.disk.SetFault(func(op crashfs.Op) error {
						if op.Kind == kind {
							return errSimDisk
						}
						return nil
					})
					if code, _ := o.produce(); code != kerr.KafkaStorageError.Code && code != -100 {
						t.Errorf("with a broken disk: %v", kerr.ErrorForCode(code))
					}
					o.r.disk.SetFault(nil) // it works again, but nobody knows what it lost
					for range 5 {
						if code, _ := o.produce(); code == 0 {
							t.Error("acked after a failed sync")
						}
					}
					<-o.r.done
					if !errors.Is(o.r.err, errSimDisk) || !errors.Is(o.r.err, wal.ErrFailed) {
						t.Errorf("the broker ended with %v", o.r.err)
					}
					if power >= 0 {
						o.r.disk.Crash()
						o.r.point = crashPoint{loss: power, seed: 5}
						o.w.restart(o.r, crashPoint{})
					} else {
						o.w.start(crashPoint{})
					}
					if r := o.w.current(); !r.await() {
						t.Fatalf("restart: %v", r.err)
					}
					o.c.close() // whether the old broker's end has been seen is up to the scheduler
					o.must(3)
					o.finish()
				})
			})
		}
	}
}

// TestSimStoreAway: without the object store acks go on for minutes, a tail that has outgrown its memory is read back from the log's files,
// and at the log's cap producers wait, with a reason in readiness, until the store is back.
func TestSimStoreAway(t *testing.T) {
	for _, fault := range []faulty.Fault{faulty.Throttled, faulty.Hang, faulty.AppliedLost} {
		t.Run(fmt.Sprint(fault), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				o := newOutage(t, func(c *Config) { c.WAL.MaxBytes = 4 << 20 })
				o.w.store.Script(faulty.Rule{Count: faulty.Forever, Fault: fault})
				uploads := o.w.store.Count(faulty.Put)
				for range 18 {
					o.must(12) // 100 kB each ten seconds, in all four times the memory of the tail
					time.Sleep(10 * time.Second)
				}
				if o.w.store.Count(faulty.Put) == uploads {
					t.Error("no upload was tried")
				}
				served := o.h.throughBroker()
				if n := len(served[o.part]); n != o.next {
					t.Errorf("%d of %d records are served from memory and log", n, o.next)
				}
				o.h.check("without a store", served)
				// On to the cap.
				code := int16(0)
				for i := 0; i < 1000 && code == 0; i++ {
					code, _ = o.produce()
				}
				if code != kerr.RequestTimedOut.Code {
					t.Errorf("at the cap: %v", kerr.ErrorForCode(code))
				}
				if used := o.r.disk.Used(); used > 4<<20+8*64<<10 {
					t.Errorf("the log uses %d bytes on disk", used)
				}
				var waiting sync.WaitGroup
				waiting.Go(func() { o.produce() })
				time.Sleep(2 * healthEvery)
				if !o.unready(logCondition) {
					t.Errorf("ready at the cap: %q", o.r.broker.ready.Reasons())
				}
				waiting.Wait()
				o.w.store.Script()
				time.Sleep(time.Minute)
				o.must(20)
				time.Sleep(2 * healthEvery)
				if reasons := o.r.broker.ready.Reasons(); len(reasons) > 0 {
					t.Errorf("not ready: %q", reasons)
				}
				o.finish()
			})
		})
	}
}

// TestSimEtcdAway: without etcd for two minutes acks go on at once; commits and creations fail cleanly and soon; all works again after, under
// the same incarnation though the lease ran out.
func TestSimEtcdAway(t *testing.T) {
	for _, fault := range []memkv.Fault{{Lost: true}, {Delay: time.Hour}, {Unknown: true}} {
		t.Run(fmt.Sprintf("%+v", fault), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				o := newOutage(t, nil)
				o.must(3)
				o.c.commit(o.h, "g", "", -1, o.part, 1)
				before := o.r.broker.incarnation
				o.w.kv.SetFaults(func(memkv.Call) memkv.Fault { return fault })
				o.w.kv.BreakWatches()
				for range 12 {
					o.must(5)
					time.Sleep(10 * time.Second)
				}
				began := time.Now()
				o.c.commit(o.h, "g", "", -1, o.part, 2)
				if o.h.committed["g"][o.part].acked != 1 {
					t.Error("a commit was acked without etcd")
				}
				if code := o.create("u"); code != kerr.RequestTimedOut.Code {
					t.Errorf("create without etcd: %v", kerr.ErrorForCode(code))
				}
				if took := time.Since(began); took > 45*time.Second {
					t.Errorf("a commit and a creation failed after %v", took)
				}
				o.w.kv.SetFaults(nil)
				time.Sleep(20 * time.Second)
				o.must(3)
				o.c.commit(o.h, "g", "", -1, o.part, 3)
				if o.h.committed["g"][o.part].acked != 3 {
					t.Error("no commit after etcd came back")
				}
				if code := o.create("u"); code != 0 && code != kerr.TopicAlreadyExists.Code {
					t.Errorf("create after etcd came back: %v", kerr.ErrorForCode(code))
				}
				if b := o.r.broker.meta.Image().Brokers(); len(b) != 1 || b[0].Incarnation != before {
					t.Errorf("registered: %+v, incarnation was %d", b, before)
				}
				o.finish()
			})
		})
	}
}

func (o *outage) create(topic string) int16 {
	req := kmsg.NewPtrCreateTopicsRequest()
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = topic, 1, 1
	req.Topics, req.TimeoutMillis = append(req.Topics, t), 15_000
	resp, err := o.c.call(req)
	if err != nil {
		return -100
	}
	return resp.(*kmsg.CreateTopicsResponse).Topics[0].ErrorCode
}
