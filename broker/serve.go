package broker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/tidemarkmq/tidemark/broker/configs"
	"github.com/tidemarkmq/tidemark/broker/group"
	"github.com/tidemarkmq/tidemark/broker/handler"
	"github.com/tidemarkmq/tidemark/broker/partition"
	"github.com/tidemarkmq/tidemark/broker/server"
	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/tiering"
	"github.com/tidemarkmq/tidemark/wal"
	"github.com/tidemarkmq/tidemark/wal/quorum"
)

// reconcileEvery is how often open partitions are compared with the metadata without a sign of change.
const reconcileEvery = 5 * time.Second

// leavePause is between looks at whether every partition is handed over.
const leavePause = 200 * time.Millisecond

// sealPause is between attempts to seal the stream in an orderly stop.
const sealPause = time.Second

// serving is a broker that has its stream and its partitions.
type serving struct {
	broker     *Broker
	server     *server.Server
	handler    *handler.Broker
	log        *wal.Log
	stream     *metadata.StreamState
	partitions *partition.Set
	reader     *tiering.Reader
	uploader   *tiering.Uploader
	replicas   atomic.Pointer[quorum.Writer] // nil: none, or not yet

	// The parts that end before the others in an orderly stop, each with what ends it and what tells that it has ended.
	moves, groups, writer, replicate, upload, presence part
}

// part is a goroutine that is stopped by itself.
type part struct {
	stop context.CancelFunc
	done chan error
}

func startPart(life context.Context, run func(context.Context) error, failed func(error)) part {
	ctx, stop := context.WithCancel(life)
	p := part{stop: stop, done: make(chan error, 1)}
	go func() {
		err := run(ctx)
		if err != nil && ctx.Err() == nil {
			failed(err)
		}
		p.done <- err
		close(p.done)
	}()
	return p
}

// end stops the part and waits for it. It may be called on a part that was never started, and again.
func (p part) end() error {
	if p.stop == nil {
		return nil
	}
	p.stop()
	return <-p.done
}

// start opens a WAL stream, takes the partitions and groups, and accepts clients. After an error the caller calls stop or abort.
func (s *serving) start(ctx, life context.Context, listeners []net.Listener) error {
	b := s.broker
	if err := s.openLog(ctx, life); err != nil {
		return err
	}
	shards := newShards(b)
	groups, err := s.newGroups(shards)
	if err != nil {
		return err
	}
	shards.coordinator = groups
	o := &opener{catalog: b.catalog, pending: b.meta, partitions: s.partitions, deleted: func(topic metadata.TopicID) {
		b.tasks.Go(func() { groups.TopicDeleted(life, topic) })
	}}
	h := &handler.Broker{
		NodeID: b.nodeID, Incarnation: func() metadata.Incarnation { return b.incarnation }, Meta: b.meta, Partitions: s.partitions,
		Groups: groups, FollowShards: shards.follow, Confirm: s.ask, Configs: b.configs, Opener: o, TrustCompressed: !b.config.CheckCompressed, SlowReadBytes: b.config.slowReadBytes(), LogDir: b.config.DataDir, Logger: b.logger.With("part", "handler"), Meter: b.meter,
	}
	o.config = h.TopicConfig
	h.Start()
	s.handler = h
	if err := b.acquireAll(ctx, o); err != nil {
		return err
	}
	if err := shards.follow(ctx); err != nil {
		return err
	}
	s.groups = startPart(life, groups.Run, func(err error) { b.fail(fmt.Errorf("groups: %w", err)) })
	b.spawn(life, "partitions", s.partitions.Run)
	s.presence = startPart(life, s.keepRegistered, b.fail)
	b.spawn(life, "changes", func(ctx context.Context) error { return s.follow(ctx, h, o) })
	b.spawn(life, "shards of groups", shards.run)
	b.spawn(life, "health", s.watchLog)
	if b.seams.freeHeap != nil {
		b.spawn(life, "idle memory", s.freeIdleHeap)
	}
	s.startMaintainer(life)
	if err := s.startServer(life, h, listeners); err != nil {
		return err
	}
	use := &utilization{
		requests: s.server.Usage, log: s.log.Stats, cpuTime: processCPU, logBytes: b.config.WAL.MaxBytes, networkBytes: b.config.NetworkBytes,
	}
	if err := use.register(b.meter); err != nil {
		return err
	}
	b.spawn(life, "utilization", use.run)
	m := &mover{serving: s, shards: shards, movedAt: map[metadata.PartitionID]time.Time{}, sealed: map[metadata.Place]bool{}, gone: map[metadata.Place]*goneRun{},
		ends: map[metadata.StreamID]chan error{}, ended: make(chan struct{}, 1), busy: true}
	s.moves = startPart(life, m.run, b.fail)
	return nil
}

// openLog makes the stream of this incarnation and what stands directly on it.
func (s *serving) openLog(ctx, life context.Context) error {
	b := s.broker
	// The folder comes first: a recorded stream without a folder is a lost disk, and the next start would refuse it.
	id := b.streamID()
	class := id.Class()
	err := b.dir.files.MkdirAll(b.streamFolder(id))
	if err != nil {
		return fmt.Errorf("make the folder of the write-ahead log: %w", err)
	}
	var ensemble *metadata.Ensemble
	if class == metadata.ClassQuorum {
		s.stream, ensemble, err = b.meta.CreateReplicatedStream(ctx, b.nodeID, b.incarnation, metadataMembers([]quorum.Member{b.self()}), b.config.Replication.quorum())
	} else {
		s.stream, err = b.meta.CreateStream(ctx, b.nodeID, b.incarnation, class)
	}
	if err != nil {
		return err
	}
	o := b.walOptions(id)
	o.Meter = b.meter
	if s.log, err = wal.New(o); errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("the folder %s holds a log that etcd knows nothing of: etcd's data is gone or is another cluster's. Put it back; without it "+
			"the records in that log cannot be told from others'. To begin anew, move the data folder away: %w", o.Dir, err)
	}
	if err != nil {
		return fmt.Errorf("open the write-ahead log: %w", err)
	}
	s.reader = tiering.NewReader(b.catalog, tiering.ReaderOptions{CacheBytes: b.config.BlockCacheBytes})
	s.partitions, err = partition.NewSet(partition.Options{
		WAL: s.log, File: s.log, Cold: partition.FromReader(s.reader), Meta: b.meta,
		ProducerExpiration: s.producerExpiration(), Logger: b.logger.With("part", "partitions"), Meter: b.meter,
	})
	if err != nil {
		return err
	}
	var stream tiering.Stream = s.log
	if class != metadata.ClassLocal {
		stream = acknowledging{s.log}
	}
	s.uploader = tiering.NewUploader(tiering.UploaderOptions{
		Stream: stream, StreamID: s.stream.ID, Revision: s.stream.Revision, FirstSeq: 1, Catalog: b.catalog, Store: b.store, Meta: b.meta,
		InFlight: sealsInMemory, SealBytes: b.config.SealBytes, SealAge: b.config.sealAge(), Awaited: s.awaited, OnCommitted: s.partitions.Committed, Logger: b.logger.With("part", "tiering"),
	})
	s.writer = startPart(life, s.log.Run, func(err error) {
		s.partitions.Fail(err)
		b.fail(fmt.Errorf("write-ahead log: %w", err))
	})
	s.upload = startPart(life, s.uploader.Run, func(err error) { b.fail(fmt.Errorf("uploads: %w", err)) })
	if class != metadata.ClassQuorum {
		return nil
	}
	replicas, err := b.replication.writer(life, s.log, s.uploader, s.stream, ensemble)
	if err != nil {
		return err
	}
	s.replicas.Store(replicas)
	s.replicate = startPart(life, replicas.Run, func(err error) { b.fail(fmt.Errorf("replication: %w", err)) })
	return nil
}

// awaited tells that records are acknowledged by their commit to the object store because the replicas do not.
func (s *serving) awaited() bool {
	w := s.replicas.Load()
	return w != nil && w.Stalled()
}

// acknowledging is the log of a stream of the classes object and quorum as its uploader sees it: what is written is uploaded, and what is committed is
// acknowledged, if enough replicas did not do that before.
type acknowledging struct{ *wal.Log }

// Durable implements tiering.Stream.
func (a acknowledging) Durable() wal.Position { return a.Written() }

// Trim implements tiering.Stream. The uploader calls it when everything before to is in committed objects.
func (a acknowledging) Trim(to wal.Position) error {
	a.Replicated(to)
	return a.Log.Trim(min(to, a.Log.Durable())) // the acknowledgements are a moment behind; the next trim takes the rest
}

// brokerInt is a numeric broker config as it stands now.
func (s *serving) brokerInt(name string) int64 {
	im := s.broker.meta.Image()
	layers := configs.Layers{Broker: im.BrokerConfigs(s.broker.nodeID), Cluster: im.BrokerConfigs(metadata.ClusterDefault)}
	return s.broker.configs.BrokerInt(layers, name)
}

func (s *serving) producerExpiration() time.Duration {
	return time.Duration(s.brokerInt("producer.id.expiration.ms")) * time.Millisecond
}

func (s *serving) newGroups(shards *shards) (*group.Coordinator, error) {
	b := s.broker
	millis := func(name string) time.Duration { return time.Duration(s.brokerInt(name)) * time.Millisecond }
	delay := millis("group.initial.rebalance.delay.ms")
	meta := b.meta.Coordinator(shards.fenceOf)
	return group.New(group.Options{
		States: meta, Offsets: meta, Incarnation: b.incarnation,
		TopicName: func(id metadata.TopicID) (string, bool) {
			t, ok := b.meta.Image().TopicByID(id)
			if !ok {
				return "", false
			}
			return t.Name, true
		},
		Topics: b.topicsForGroups(), Consumers: s.consumerSettings, Migration: s.brokerString("group.consumer.migration.policy"),
		MinSessionTimeout: millis("group.min.session.timeout.ms"), MaxSessionTimeout: millis("group.max.session.timeout.ms"),
		InitialRebalanceDelay: &delay, MaxGroupSize: int(s.brokerInt("group.max.size")),
		MetadataMaxChars: int(s.brokerInt("offset.metadata.max.bytes")),
		OffsetsRetention: time.Duration(s.brokerInt("offsets.retention.minutes")) * time.Minute,
		RetentionCheck:   millis("offsets.retention.check.interval.ms"),
		Logger:           b.logger.With("part", "groups"), Meter: b.meter,
	})
}

func (s *serving) startServer(life context.Context, h *handler.Broker, listeners []net.Listener) error {
	b := s.broker
	var err error
	s.server, err = server.New(server.Options{
		Handler: h, Logger: b.logger.With("part", "server"), Meter: b.meter,
		MaxRequestBytes: int(s.brokerInt("socket.request.max.bytes")),
		MemoryBytes:     b.config.RequestMemoryBytes, ControlBytes: b.config.controlBytes(), DecodedBytes: b.config.decodedBytes(),
		MaxConnections: b.config.MaxConnections, IdleTimeout: time.Duration(s.brokerInt("connections.max.idle.ms")) * time.Millisecond,
	})
	if err != nil {
		return err
	}
	for _, l := range listeners {
		b.tasks.Go(func() {
			if err := s.server.Serve(life, l); err != nil && life.Err() == nil {
				b.fail(fmt.Errorf("listener %s: %w", l.Addr(), err))
			}
		})
	}
	return nil
}

// keepRegistered ends with an error when another run has taken this broker's place.
func (s *serving) keepRegistered(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-s.broker.registration.Done():
		return errors.New("another run of this broker has registered; this one steps down")
	}
}

// follow brings what other parts of the cluster change in the metadata to the open partitions.
func (s *serving) follow(ctx context.Context, h *handler.Broker, o *opener) error {
	changes := s.broker.meta.Changes(ctx)
	again := time.NewTicker(reconcileEvery)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changes:
			h.ConfigureAll()
		case <-again.C:
		}
		if err := o.reconcile(ctx, s.broker.meta.Image, s.broker.incarnation); err != nil && ctx.Err() == nil {
			s.broker.logger.Warn("partitions cannot be opened; trying again", "error", err)
		}
	}
}

// leave gives every partition to other brokers, as far as there are any that take them, while clients are served.
func (s *serving) leave(ctx context.Context, fatal <-chan error) error {
	b := s.broker
	changes := b.meta.Changes(ctx)
	began := time.Now()
	for announced := false; ; {
		im := b.meta.Image()
		takers := slices.ContainsFunc(im.Brokers(), func(o metadata.Broker) bool { return o.ID != b.nodeID && !o.Draining })
		if left := len(s.partitions.All()); left == 0 || !takers {
			b.logger.Info("left the cluster", "partitions kept", left, "took", time.Since(began))
			return nil
		}
		if !announced {
			if err := b.registration.SetDraining(ctx, true); err != nil {
				b.logger.Warn("the other brokers cannot be told that this one leaves; trying again", "error", err)
			} else {
				announced = true
			}
		}
		select {
		case <-changes:
		case <-time.After(leavePause):
		case <-ctx.Done():
			b.logger.Warn("not every partition was handed over before the time was up", "partitions", len(s.partitions.All()))
			return nil
		case err := <-fatal:
			return err
		}
	}
}

// stop ends in order: every partition to other brokers, no more requests, no more appends, everything into the object store, the stream sealed. It waits for the
// object store as long as it takes; a second signal ends the process instead.
func (s *serving) stop(life context.Context, fatal <-chan error) error {
	b := s.broker
	began := time.Now()
	limit := b.config.DrainTimeout
	if limit == 0 {
		limit = math.MaxInt64
	}
	draining, cancel := context.WithTimeout(life, limit)
	defer cancel()
	if s.moves.stop != nil {
		if err := s.leave(draining, fatal); err != nil {
			s.abort(err)
			return err
		}
		if b.replication != nil {
			if err := b.replication.release(draining, fatal); err != nil {
				s.abort(err)
				return err
			}
		}
		if err := s.moves.end(); err != nil {
			b.logger.Warn("the moving of partitions ended with an error", "error", err)
		}
	}
	if s.server != nil {
		answering, cancel := context.WithTimeout(life, answerWait)
		if err := s.server.Shutdown(answering); err != nil {
			b.logger.Warn("not every request was answered before the stop", "error", err)
		}
		cancel()
	}
	err := errors.Join(s.groups.end(), s.writer.end())
	if err != nil {
		s.abort(err)
		return err
	}
	drained := make(chan error, 1)
	go func() { drained <- s.uploader.Drain(draining) }()
	select {
	case err = <-drained:
	case err = <-fatal:
	}
	if err == nil {
		err = s.replicate.end()
	}
	if err == nil {
		err = s.seal(draining, fatal)
	}
	if err != nil {
		s.abort(err)
		return fmt.Errorf("drain: %w", err)
	}
	err = errors.Join(s.upload.end(), s.presence.end(), s.closeLog(), s.log.Remove())
	s.reader.Close()
	b.logger.Info("drained", "took", time.Since(began))
	return err
}

// seal seals the drained stream. It waits for etcd until ctx is done: an unsealed stream without its disk would look like lost data.
func (s *serving) seal(ctx context.Context, fatal <-chan error) error {
	for {
		err := s.broker.meta.SealStream(ctx, s.stream.ID, s.stream.Revision, uint64(s.log.Durable()))
		if !errors.Is(err, metadata.ErrUnavailable) || ctx.Err() != nil {
			return err
		}
		s.broker.logger.Warn("etcd does not take the end of the write-ahead log, trying again", "error", err)
		select {
		case <-time.After(sealPause):
		case <-ctx.Done():
			return err
		case err := <-fatal:
			return err
		}
	}
}

// closeLog closes the log, after the reads of it that outlive their requests.
func (s *serving) closeLog() error {
	if s.handler != nil {
		s.handler.Stop()
	}
	return s.log.Close()
}

// abort ends at once what is running. What was acknowledged stays in the write-ahead log.
func (s *serving) abort(cause error) {
	now, cancel := context.WithCancelCause(context.Background())
	cancel(cause)
	if s.server != nil {
		_ = s.server.Shutdown(now) // it says that it was cut short, which is what was asked for
	}
	if s.log != nil {
		s.log.Fail(cause) // nothing that waits for the object store will be acknowledged any more
	}
	for _, p := range []part{s.moves, s.presence, s.groups, s.upload, s.replicate, s.writer} {
		if err := p.end(); err != nil && !errors.Is(err, context.Canceled) && !errors.Is(cause, err) {
			s.broker.logger.Warn("a part of the broker ended with an error", "error", err)
		}
	}
	if s.log != nil {
		if err := s.closeLog(); err != nil {
			s.broker.logger.Warn("close the write-ahead log", "error", err)
		}
	}
	if s.reader != nil {
		s.reader.Close()
	}
}
