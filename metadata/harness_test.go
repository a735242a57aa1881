package metadata

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemarkmq/tidemark/metadata/kv"
	"github.com/tidemarkmq/tidemark/metadata/memkv"
)

// harness is a store over an in-process etcd, in a synctest bubble, with broker 1 registered.
type harness struct {
	*testing.T
	kv  *memkv.KV
	s   *Store
	inc Incarnation
	reg *Registration
}

func inBubble(t *testing.T, fn func(h *harness)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := &harness{T: t, kv: memkv.New()}
		h.s = h.open()
		h.reg = h.register(h.s, Broker{ID: 1, Host: "one.test", Port: 9092, Token: "data-1"})
		h.inc = h.reg.Incarnation
		fn(h)
		h.kv.SetFaults(nil)
		h.kv.StallWatches(false)
		time.Sleep(time.Minute) // watches come back
		h.checkImages()
	})
}

// open opens another store on the same etcd and runs it until the test ends.
func (h *harness) open() *Store {
	h.Helper()
	s, err := Open(h.Context(), h.kv, Options{Logger: slog.New(slog.NewTextHandler(h.Output(), nil))})
	if err != nil {
		h.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	h.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			h.Errorf("run: %v", err)
		}
	})
	return s
}

func (h *harness) register(s *Store, b Broker) *Registration {
	h.Helper()
	r, err := s.Register(h.Context(), b, 9*time.Second)
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() { r.cancel(); <-r.stopped })
	return r
}

func (h *harness) create(name string, partitions int32) *Topic {
	h.Helper()
	t, err := h.s.CreateTopic(h.Context(), TopicSpec{Name: name, Partitions: partitions, ReplicationFactor: 1, Owner: 1, Incarnation: h.inc})
	if err != nil {
		h.Fatal(err)
	}
	return t
}

func (h *harness) must(err error) {
	h.Helper()
	if err != nil {
		h.Fatal(err)
	}
}

func (h *harness) dump() string {
	h.Helper()
	var b bytes.Buffer
	h.must(Dump(h.Context(), &b, h.kv, ""))
	return b.String()
}

// checkImages checks that what the store made of its own writes and of the watch is what a newcomer reads.
func (h *harness) checkImages() {
	h.Helper()
	synctest.Wait()
	fresh, err := Open(h.Context(), h.kv, Options{})
	h.must(err)
	if d := difference(describeImage(h.s), describeImage(fresh)); d != "" {
		h.Errorf("the image (-) is not what etcd has (+)\n%s", d)
	}
	h.s.mu.Lock()
	defer h.s.mu.Unlock()
	if n := len(h.s.recent); n != 0 {
		h.Errorf("%d changes are kept although the watch has seen them", n)
	}
	if n := len(h.s.creating); n != 0 {
		h.Errorf("%d creations are noted as going on", n)
	}
}

// difference returns the lines that only one of two texts has; "" when there is none.
func difference(a, b string) string {
	var out strings.Builder
	la, lb := strings.Split(a, "\n"), strings.Split(b, "\n")
	for _, l := range la {
		if !slices.Contains(lb, l) {
			fmt.Fprintf(&out, "- %s\n", l)
		}
	}
	for _, l := range lb {
		if !slices.Contains(la, l) {
			fmt.Fprintf(&out, "+ %s\n", l)
		}
	}
	return out.String()
}

func describeImage(s *Store) string {
	var b bytes.Buffer
	im := s.Image()
	fmt.Fprintf(&b, "cluster %s, topics %d, partitions %d, pending %d, brokers %v\n", im.ClusterID(), im.NumTopics(), im.NumPartitions(), s.PendingCount(), im.Brokers())
	for t := range im.Topics() {
		describeTopic(&b, im, t)
	}
	hidden := 0
	for _, shard := range im.ids {
		for _, st := range shard.m {
			if st.topic == nil {
				hidden += st.count
			}
		}
	}
	fmt.Fprintf(&b, "hidden partitions %d\n", hidden)
	for _, d := range im.DeletedTopics() {
		fmt.Fprintf(&b, "deleted %s %s at %d\n", d.ID, d.Name, d.DeletedMillis)
		for _, p := range d.Partitions {
			fmt.Fprintf(&b, " %+v\n", p)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(im.configs)) {
		fmt.Fprintf(&b, "configs of %d: %v\n", id, im.configs[id])
	}
	return b.String()
}

func describeTopic(w io.Writer, im *Image, t *Topic) {
	fmt.Fprintf(w, "topic %+v\n", *t)
	if byID, ok := im.TopicByID(t.ID); !ok || byID != t {
		fmt.Fprintf(w, "by id: %v\n", byID)
	}
	if byName, ok := im.TopicBytes([]byte(t.Name)); !ok || byName != t {
		fmt.Fprintf(w, "by name: %v\n", byName)
	}
	for _, p := range im.PartitionsOf(t.ID) {
		fmt.Fprintf(w, " %+v\n", *p)
	}
}

// failing makes the nth transaction from now on end as f says.
func (h *harness) failing(nth int, f memkv.Fault) {
	first := h.kv.Calls(memkv.OpTxn)
	h.kv.SetFaults(func(c memkv.Call) memkv.Fault {
		if c.Kind == memkv.OpTxn && c.N == first+nth {
			return f
		}
		return memkv.Fault{}
	})
}

// down makes every call fail without being performed.
func (h *harness) down() {
	h.kv.SetFaults(func(memkv.Call) memkv.Fault { return memkv.Fault{Lost: true} })
}

func (h *harness) ids(t *Topic) []PartitionID {
	ids := make([]PartitionID, t.Partitions)
	for i := range ids {
		ids[i] = PartitionID{t.ID, int32(i)}
	}
	return ids
}

func (h *harness) partition(id PartitionID) Partition {
	h.Helper()
	p, ok := h.s.Image().Partition(id)
	if !ok {
		h.Fatalf("partition %s is not there", id)
	}
	return *p
}

// put writes a raw key.
func (h *harness) put(key, value string) {
	h.Helper()
	_, err := h.kv.Txn(h.Context(), kv.Txn{Then: []kv.Op{kv.Put(key, []byte(value))}})
	h.must(err)
}
