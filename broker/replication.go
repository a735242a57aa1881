package broker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"path/filepath"
	"slices"
	"time"

	"github.com/tidemarkmq/tidemark/broker/handler"
	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/metadata/placement"
	"github.com/tidemarkmq/tidemark/tiering"
	"github.com/tidemarkmq/tidemark/wal"
	"github.com/tidemarkmq/tidemark/wal/quorum"
)

const (
	replicaFolder = "replicas" // in the data folder: other brokers' streams
	// sweepReplicasEvery is how often replicas of streams that are over are looked for.
	sweepReplicasEvery = 10 * time.Second
	reachWait          = time.Second
	tellAfter          = 5 * time.Second
)

// replication is a broker's part in keeping write-ahead logs of the class quorum on several disks: the replicas on its own, and the way to
// the others'.
type replication struct {
	broker   *Broker
	replicas *wal.Replicas
	network  replicaNetwork
}

// self is this broker as a member of ensembles.
func (b *Broker) self() quorum.Member {
	return quorum.Member{Broker: int32(b.nodeID), Disk: b.dir.token}
}

func members(of []metadata.Member) []quorum.Member {
	out := make([]quorum.Member, len(of))
	for i, m := range of {
		out[i] = quorum.Member{Broker: int32(m.Broker), Disk: m.Disk}
	}
	return out
}

func metadataMembers(of []quorum.Member) []metadata.Member {
	out := make([]metadata.Member, len(of))
	for i, m := range of {
		out[i] = metadata.Member{Broker: metadata.BrokerID(m.Broker), Disk: m.Disk}
	}
	return out
}

// openReplicas opens the replicas on this disk.
func (b *Broker) openReplicas() (*wal.Replicas, error) {
	rs, err := wal.OpenReplicas(wal.ReplicaOptions{
		FS: b.dir.files, Dir: filepath.Join(b.dir.path, replicaFolder), FreeDir: filepath.Join(b.dir.wal(), freeFolder), Sync: b.syncMode(),
		MaxBytes: int64(b.config.Replication.Members) * 2 * b.config.WAL.MaxBytes, Logger: b.logger.With("part", "replicas"), Meter: b.meter,
	})
	if err != nil {
		return nil, fmt.Errorf("open the replicas of other brokers' write-ahead logs: %w", err)
	}
	return rs, nil
}

// replicates tells whether this broker needs others' replicas, or they its: also after the class was changed, until the last stream of the class quorum is sealed.
func (b *Broker) replicates(ctx context.Context) (bool, error) {
	if classes[b.config.Durability] == metadata.ClassQuorum {
		return true, nil
	}
	streams, err := b.meta.Streams(ctx, metadata.NoBroker)
	if err != nil {
		return false, fmt.Errorf("list the WAL streams: %w", err)
	}
	return slices.ContainsFunc(streams, func(s metadata.StreamState) bool {
		return s.Class == metadata.ClassQuorum && s.State != metadata.StreamSealed
	}), nil
}

// startReplication serves the replicas on this disk to other brokers, and returns the address to tell them.
func (b *Broker) startReplication(life context.Context, opened *resources) (address string, err error) {
	replicas, err := b.openReplicas()
	if err != nil {
		return "", err
	}
	opened.add("the replicas of other brokers' write-ahead logs", replicas.Close)
	network, err := b.seams.replicate(replicas)
	if err != nil {
		return "", fmt.Errorf("replication: %w", err)
	}
	b.replication = &replication{broker: b, replicas: replicas, network: network}
	b.spawn(life, "replication", network.Run)
	b.spawn(life, "replicas", b.replication.sweep)
	return network.Address(), nil
}

// candidates are the live brokers that can be members of this broker's ensemble, best first.
func (r *replication) candidates(present []quorum.Member) []quorum.Member {
	b := r.broker
	im := b.meta.Image()
	brokers := slices.DeleteFunc(handler.Placeable(im), func(p placement.Broker) bool {
		o, ok := im.Broker(p.Broker)
		return !ok || o.Replica == "" || p.Draining && p.Broker != b.nodeID
	})
	var out []quorum.Member
	add := func(id metadata.BrokerID) {
		if o, ok := im.Broker(id); ok {
			out = append(out, quorum.Member{Broker: int32(id), Disk: o.Token})
		}
	}
	best := placement.Ensemble(b.nodeID, brokers, nil, b.config.Replication.Members)
	for _, id := range best {
		add(id)
	}
	for _, p := range brokers {
		if !slices.Contains(best, p.Broker) {
			add(p.Broker)
		}
	}
	return out
}

// writer makes what replicates the stream's log.
func (r *replication) writer(life context.Context, log *wal.Log, uploader *tiering.Uploader, stream *metadata.StreamState, ensemble *metadata.Ensemble) (*quorum.Writer, error) {
	b := r.broker
	r.network.Register(uint64(stream.ID), log)
	return quorum.NewWriter(quorum.Options{
		Log: log, Stream: uint64(stream.ID), Self: b.self(), Quorum: ensemble.Quorum, Size: b.config.Replication.Members, Dial: r.network.Dial,
		Candidates: r.candidates, Committed: uploader.Committed,
		Commit: func() {
			b.tasks.Go(func() {
				if err := uploader.Drain(life); err != nil && life.Err() == nil {
					b.logger.Warn("the write-ahead log is not emptied for its smaller ensemble", "error", err)
				}
			})
		},
		Reach: func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, reachWait)
			defer cancel()
			_, err := b.meta.Stream(ctx, stream.ID)
			return err
		},
		Change: func(ctx context.Context, next []quorum.Member) error {
			for {
				changed, err := b.meta.ChangeEnsemble(ctx, stream.ID, stream.Revision, ensemble, metadataMembers(next), ensemble.Quorum)
				switch {
				case err == nil:
					ensemble = changed
					return nil
				case errors.Is(err, metadata.ErrFenced):
					return fmt.Errorf("%w: %w", wal.ErrFenced, err)
				case !errors.Is(err, metadata.ErrUnavailable) || ctx.Err() != nil:
					return err
				}
			}
		},
		Logger: b.logger.With("part", "replication"), Meter: b.meter,
	})
}

// sweep drops replicas of streams that are sealed: all of those is in objects.
func (r *replication) sweep(ctx context.Context) error {
	tick := time.NewTicker(sweepReplicasEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			r.sweepOnce(ctx)
		}
	}
}

func (r *replication) sweepOnce(ctx context.Context) {
	for _, id := range r.replicas.Streams() {
		st, err := r.broker.meta.Stream(ctx, metadata.StreamID(id))
		if err == nil && st.State != metadata.StreamSealed || err != nil && !errors.Is(err, metadata.ErrNotFound) {
			continue
		}
		if err := r.replicas.Remove(ctx, id, math.MaxUint64); err != nil && ctx.Err() == nil {
			r.broker.logger.Warn("the replica of a write-ahead log that is over cannot be removed; trying again", "stream", metadata.StreamID(id).String(), "error", err)
		}
	}
}

// release waits until nobody counts on the replicas on this disk any more: live owners take others into their ensembles, or do without, and the streams of dead ones
// are recovered.
func (r *replication) release(ctx context.Context, fatal <-chan error) error {
	for began, told, announced := time.Now(), false, false; ; {
		holding, err := r.holding(ctx)
		if err == nil && len(holding) == 0 {
			r.sweepOnce(ctx)
			return nil
		}
		if err == nil && !announced { // a broker without partitions has not said so before
			err = r.broker.registration.SetDraining(ctx, true)
			announced = err == nil
		}
		if !told && time.Since(began) > tellAfter {
			told = true
			r.broker.logger.Warn("waiting for other brokers, which still need the replicas on this disk", "streams", holding, "error", err)
		}
		select {
		case <-time.After(leavePause):
		case <-ctx.Done():
			r.broker.logger.Warn("the replicas on this disk are still needed, and the time is up", "streams", holding)
			return nil
		case err := <-fatal:
			return err
		}
	}
}

// holding lists the unsealed streams of other brokers whose ensembles name this disk.
func (r *replication) holding(ctx context.Context) (out []string, err error) {
	b := r.broker
	streams, err := b.meta.Streams(ctx, metadata.NoBroker)
	if err != nil {
		return nil, err
	}
	self := metadata.Member{Broker: b.nodeID, Disk: b.dir.token}
	for _, s := range streams {
		if s.Class != metadata.ClassQuorum || s.State == metadata.StreamSealed || s.Epoch == b.incarnation {
			continue
		}
		e, err := b.meta.Ensemble(ctx, s.ID)
		if errors.Is(err, metadata.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if e.Has(self) {
			out = append(out, s.ID.String())
		}
	}
	return out, nil
}

// endQuorumStream fences a stream of the class quorum, moves what its members hold into the object store and seals it. Any broker may do that, and several
// may at the same time: one of them gets to the end. own, unless nil, is this broker's own copy of it, from a former run.
func (b *Broker) endQuorumStream(ctx context.Context, id metadata.StreamID, own *ownLog) error {
	dial := func(m quorum.Member) quorum.Peer {
		if own != nil && m == b.self() {
			return own
		}
		return b.replication.network.Dial(m)
	}
	for {
		again, err := b.endQuorumStreamOnce(ctx, id, dial)
		if !again {
			return err
		}
		if err := yieldStream(ctx); err != nil {
			return err
		}
	}
}

// endOwnQuorumStream does so for a former run of this broker, whose log may be here still. It waits until enough other members answer: brokers that
// start together need each other.
func (b *Broker) endOwnQuorumStream(ctx context.Context, id metadata.StreamID) error {
	own := b.ownLog(id)
	for {
		err := b.endQuorumStream(ctx, id, own)
		if !errors.Is(err, quorum.ErrNotEnough) || ctx.Err() != nil {
			return errors.Join(err, own.close())
		}
		b.ready.Unmet("write-ahead log", err.Error())
		b.logger.Warn("the write-ahead log of a former run cannot be recovered yet; trying again", "stream", id.String(), "error", err)
		if err := yieldStream(ctx); err != nil {
			return errors.Join(err, own.close())
		}
	}
}

// endQuorumStreamOnce tells whether to try again because somebody else was at it as well.
func (b *Broker) endQuorumStreamOnce(ctx context.Context, id metadata.StreamID, dial quorum.Dial) (again bool, err error) {
	logger := b.logger.With("stream", id.String())
	fenced, err := b.meta.RecoverStream(ctx, id, b.incarnation)
	if errors.Is(err, metadata.ErrExists) || errors.Is(err, metadata.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	ensemble, err := b.meta.Ensemble(ctx, id)
	if err != nil {
		return false, err
	}
	began := time.Now()
	dead, err := quorum.Recover(ctx, quorum.RecoverOptions{
		Stream: uint64(id), Epoch: uint64(fenced.Revision), Members: members(ensemble.Members), Quorum: ensemble.Quorum,
		Committed: wal.Position(fenced.Committed), Dial: dial, Logger: logger,
	})
	if err != nil {
		return errors.Is(err, wal.ErrFenced), err
	}
	if err := b.catalog.Sync(ctx, b.meta); err != nil {
		return false, err
	}
	err = tiering.DrainRecovered(ctx, dead, dead.End(), tiering.UploaderOptions{
		StreamID: id, Revision: fenced.Revision, From: wal.Position(fenced.Committed), FirstSeq: b.catalog.LastSeq(id) + 1,
		Catalog: b.catalog, Store: b.store, Meta: b.meta, SealBytes: b.config.SealBytes, Logger: logger,
	})
	if err == nil {
		err = b.meta.SealStream(ctx, id, fenced.Revision, uint64(dead.End()))
	}
	if err != nil {
		return errors.Is(err, metadata.ErrFenced) || errors.Is(err, quorum.ErrUnreadable), err
	}
	logger.Info("recovered the write-ahead log of a run that is over", "from", fenced.Committed, "to", dead.End(), "took", time.Since(began))
	if err := dead.Remove(ctx); err != nil {
		logger.Debug("replicas of a recovered stream are left to their brokers", "error", err)
	}
	return false, nil
}

// ownLog is the log of a former run of this broker, of the class quorum, as a member of its ensemble. Nobody writes it: the lock of the data folder says so.
type ownLog struct {
	options wal.Options
	logger  *slog.Logger
	dead    *wal.Recovered
}

func (b *Broker) ownLog(id metadata.StreamID) *ownLog {
	return &ownLog{options: b.walOptions(id), logger: b.logger}
}

// Fence implements quorum.Peer.
func (o *ownLog) Fence(_ context.Context, _, epoch uint64) (wal.Tail, error) {
	if o.dead == nil {
		dead, err := wal.Recover(o.options)
		if errors.Is(err, fs.ErrNotExist) {
			return wal.Tail{}, fmt.Errorf("%w: %w", wal.ErrNoReplica, err)
		}
		if err != nil {
			o.logger.Error("the write-ahead log of a former run cannot be read; its replicas must do", "folder", o.options.Dir, "error", err)
			return wal.Tail{}, fmt.Errorf("%w: %w", wal.ErrLimbo, err)
		}
		o.dead = dead
	}
	return wal.Tail{Header: o.dead.Header(), Start: o.dead.Start(), End: o.dead.End(), Promise: epoch}, nil
}

// Read implements quorum.Peer.
func (o *ownLog) Read(ctx context.Context, _ uint64, from wal.Position, maxBytes int, dst []byte) (wal.Chunk, error) {
	return o.dead.ReadGroups(ctx, from, maxBytes, dst)
}

// Open implements quorum.Peer: nobody writes the log any more.
func (o *ownLog) Open(context.Context, uint64, wal.StreamHeader, wal.SegmentRef, bool) (quorum.Appender, wal.Tail, error) {
	return nil, wal.Tail{}, wal.ErrFenced
}

// Trim implements quorum.Peer.
func (o *ownLog) Trim(context.Context, uint64, wal.Position) error { return nil }

// Remove implements quorum.Peer: the folder of a sealed stream is removed after all recoveries.
func (o *ownLog) Remove(context.Context, uint64, uint64) error { return nil }

func (o *ownLog) close() error {
	if o.dead == nil {
		return nil
	}
	return o.dead.Close()
}
