package handler

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemarkmq/tidemark/broker/configs"
	"github.com/tidemarkmq/tidemark/broker/partition"
	"github.com/tidemarkmq/tidemark/broker/server"
	"github.com/tidemarkmq/tidemark/broker/wire"
	"github.com/tidemarkmq/tidemark/metadata"
)

// opener opens partitions without a log behind them, and remembers.
type opener struct {
	b *Broker

	mu     sync.Mutex
	opened []metadata.PartitionID
	fail   error
	before func() // called before a partition is opened, after its config was computed
}

func (o *opener) OpenPartition(_ context.Context, topic *metadata.Topic, p *metadata.Partition) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.fail != nil {
		return o.fail
	}
	c, err := partition.ConfigOf(o.b.TopicConfig(topic))
	if err != nil {
		return err
	}
	if o.before != nil {
		o.before()
	}
	o.opened = append(o.opened, p.ID)
	_, err = o.b.Partitions.Open(partition.OpenState{ID: p.ID, Topic: topic.Name, LeaderEpoch: p.LeaderEpoch, Config: c})
	return err
}

func (o *opener) ClosePartitions(topic metadata.TopicID) {
	for _, p := range o.b.Partitions.All() {
		if p.ID().Topic == topic {
			o.b.Partitions.Close(p.ID())
		}
	}
}

// fixture is a broker over a metadata store in memory.
type fixture struct {
	*Broker
	t      *testing.T
	opener *opener
}

// newFixture starts broker 7 with static configs over the ones a Kafka broker has.
func newFixture(t *testing.T, static map[string]string) *fixture {
	t.Helper()
	store, incarnation := newStore(t)
	registry, err := configs.New(configs.Options{Static: static})
	if err != nil {
		t.Fatal(err)
	}
	set, err := partition.NewSet(partition.Options{})
	if err != nil {
		t.Fatal(err)
	}
	b := &Broker{NodeID: 7, Incarnation: func() metadata.Incarnation { return incarnation }, Meta: store, Partitions: set, Configs: registry, LogDir: "/data/wal"}
	o := &opener{b: b}
	b.Opener = o
	return &fixture{Broker: b, t: t, opener: o}
}

// call sends a request through its bytes at a version, and its answer likewise.
func call[R kmsg.Response](f *fixture, version int16, req kmsg.Request) R {
	f.t.Helper()
	req.SetVersion(version)
	got := kmsg.RequestForKey(req.Key())
	got.SetVersion(version)
	if err := got.ReadFrom(req.AppendTo(nil)); err != nil {
		f.t.Fatalf("request %T v%d does not decode: %v", req, version, err)
	}
	h := wire.Header{Key: req.Key(), Version: version, CorrelationID: 1, ClientID: "test"}
	if !wire.Accepts(h.Key, h.Version) {
		f.t.Fatalf("%T v%d is not served", req, version)
	}
	resp, err := f.Handle(f.t.Context(), new(server.Conn), h, got)
	if err != nil {
		f.t.Fatalf("%T v%d: %v", req, version, err)
	}
	resp.SetVersion(version)
	back := kmsg.ResponseForKey(req.Key())
	back.SetVersion(version)
	if err := back.ReadFrom(resp.AppendTo(nil)); err != nil {
		f.t.Fatalf("response %T v%d does not decode: %v", resp, version, err)
	}
	return back.(R)
}

// versions runs a test at every served version of a key.
func versions(t *testing.T, key int16, run func(t *testing.T, version int16)) {
	t.Helper()
	api, ok := wire.LookupAPI(key)
	if !ok {
		t.Fatalf("key %d is not in the table", key)
	}
	for v := api.AcceptMin; v <= api.Max; v++ {
		t.Run(api.Name+"-v"+string(rune('0'+v/10))+string(rune('0'+v%10)), func(t *testing.T) { run(t, v) })
	}
}

// create makes a topic at the newest version and fails the test if it is refused.
func (f *fixture) create(name string, partitions int32, with ...string) *metadata.Topic {
	f.t.Helper()
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = name, partitions, 1
	for i := 0; i+1 < len(with); i += 2 {
		c := kmsg.NewCreateTopicsRequestTopicConfig()
		c.Name, c.Value = with[i], &with[i+1]
		topic.Configs = append(topic.Configs, c)
	}
	req := kmsg.NewPtrCreateTopicsRequest()
	req.Topics = append(req.Topics, topic)
	resp := call[*kmsg.CreateTopicsResponse](f, 7, req)
	if code := resp.Topics[0].ErrorCode; code != 0 {
		f.t.Fatalf("create %s: code %d: %s", name, code, str(resp.Topics[0].ErrorMessage))
	}
	made, ok := f.Meta.Image().Topic(name)
	if !ok {
		f.t.Fatalf("%s was created and is not in the image", name)
	}
	return made
}

func str(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func ptr(s string) *string { return &s }

var errBoom = errors.New("boom")
