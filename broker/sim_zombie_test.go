package broker

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemarkmq/tidemark/metadata/kv"
)

// noteWrite notes the keys of a run's transactions that took effect while it is watched.
func (k *mortalKV) noteWrite(t kv.Txn, res kv.TxnResult) {
	if !k.r.watched.Load() || !res.Succeeded {
		return
	}
	k.r.w.mu.Lock()
	defer k.r.w.mu.Unlock()
	for _, o := range t.Then {
		if o.Kind != kv.OpGet {
			k.r.wrote = append(k.r.wrote, o.Key)
		}
	}
}

// TestSimZombie: a second run takes over on a copy of the disk (a machine that was frozen, a volume attached elsewhere) while the first goes
// on, cut off from etcd for a while or not. From the takeover on nothing that the first does reaches etcd: no object, offset, group, log
// start, topic or manifest of it. It ends with an error, also when it is told to stop.
func TestSimZombie(t *testing.T) {
	for _, stopped := range []bool{false, true} {
		t.Run(fmt.Sprintf("stopped %v", stopped), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				o := newOutage(t, func(c *Config) { c.SealAge = 2 * time.Second })
				first := o.r
				o.must(20)
				time.Sleep(5 * time.Second) // sealed and absorbed
				o.must(5)                   // neither
				o.c.commit(o.h, "g", "", -1, o.part, 4)

				o.w.disk = first.disk.Fork()
				second := o.w.start(crashPoint{})
				if !second.await() {
					t.Fatalf("the second run: %v", second.err)
				}
				first.watched.Store(true)
				next := o.w.client("next")
				next.commit(o.h, "g", "", -1, o.part, 20)

				zombie := o.zombie(first)
				if stopped {
					first.stop()
				}
				select {
				case <-first.done:
				case <-time.After(time.Minute):
					t.Fatal("the first run goes on")
				}
				if first.err == nil {
					t.Error("the first run ended without an error")
				}
				zombie.close()
				next.close()
				o.c.close()
				for _, key := range first.wrote {
					if !strings.Contains(key, "producer") {
						t.Errorf("the first run wrote %s after the takeover", key)
					}
				}
				o.must(3)
				o.finish()
			})
		})
	}
}

// zombie does all that a client may, through the run that was replaced. Records that it acks are lost, which is why a data folder is locked;
// nothing else that it promises is.
func (o *outage) zombie(first *run) *client {
	t := o.w.t
	c := &client{w: o.w, name: "zombie", f: o.c.f, to: first}
	for _, of := range []int64{5, 6} {
		h := newHistory(o.w)
		c.commit(h, "g", "", -1, o.part, of)
		if h.committed["g"][o.part].acked != 0 {
			t.Errorf("the first run acked a commit of %d after the takeover", of)
		}
	}
	for range 5 {
		b := o.p.batch(tp{"nowhere", 0}, 0, -1, -1) // not part of the history
		req := kmsg.NewPtrProduceRequest()
		req.Acks, req.TimeoutMillis = -1, 5000
		pt := kmsg.NewProduceRequestTopic()
		pt.Topic = o.part.topic
		q := kmsg.NewProduceRequestTopicPartition()
		q.Records = b.bytes
		pt.Partitions = append(pt.Partitions, q)
		req.Topics = append(req.Topics, pt)
		_, _ = c.call(req)
	}
	delete(o.h.sent, tp{"nowhere", 0})
	create := kmsg.NewPtrCreateTopicsRequest()
	ct := kmsg.NewCreateTopicsRequestTopic()
	ct.Topic, ct.NumPartitions, ct.ReplicationFactor = "zombie", 1, 1
	create.Topics, create.TimeoutMillis = append(create.Topics, ct), 10_000
	if resp, err := c.call(create); err == nil && resp.(*kmsg.CreateTopicsResponse).Topics[0].ErrorCode == 0 {
		t.Error("the first run created a topic after the takeover")
	}
	del := kmsg.NewPtrDeleteRecordsRequest()
	dt := kmsg.NewDeleteRecordsRequestTopic()
	dt.Topic = o.part.topic
	dp := kmsg.NewDeleteRecordsRequestTopicPartition()
	dp.Offset = 3
	dt.Partitions = append(dt.Partitions, dp)
	del.Topics, del.TimeoutMillis = append(del.Topics, dt), 10_000
	if resp, err := c.call(del); err == nil && resp.(*kmsg.DeleteRecordsResponse).Topics[0].Partitions[0].ErrorCode == 0 {
		t.Error("the first run deleted records after the takeover")
	}
	return c
}

// TestSimZombieWithoutEtcd: the first run hears nothing of etcd while the second takes over, and can do nothing when it does again.
func TestSimZombieWithoutEtcd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOutage(t, nil)
		first := o.r
		o.must(10)
		first.partitioned.Store(true)
		o.must(5)
		o.w.disk = first.disk.Fork()
		second := o.w.start(crashPoint{})
		if !second.await() {
			t.Fatalf("the second run: %v", second.err)
		}
		o.c.close()
		for range 6 {
			o.must(2)
			time.Sleep(10 * time.Second)
		}
		select {
		case <-first.done:
			t.Errorf("the first run ended without having heard of its successor: %v", first.err)
		default:
		}
		first.watched.Store(true)
		first.partitioned.Store(false)
		select {
		case <-first.done:
		case <-time.After(time.Minute):
			t.Error("the first run goes on")
		}
		if first.err == nil || errors.Is(first.err, errSimCrash) {
			t.Errorf("the first run ended with %v", first.err)
		}
		if len(first.wrote) > 0 {
			t.Errorf("the first run wrote %q", first.wrote)
		}
		o.finish()
	})
}
