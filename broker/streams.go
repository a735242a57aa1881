package broker

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"time"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/tiering"
	"github.com/tidemarkmq/tidemark/wal"
)

// maxSealPause is the longest pause of a broker that lost the race for sealing a stream, before it tries again.
const maxSealPause = 200 * time.Millisecond

// streamID names the stream that this run writes.
func (b *Broker) streamID() metadata.StreamID {
	return metadata.NewStreamID(b.incarnation, classes[b.config.Durability])
}

// streamFolder is where a stream's segments are.
func (b *Broker) streamFolder(id metadata.StreamID) string {
	return filepath.Join(b.dir.wal(), strconv.FormatInt(int64(id.Epoch()), 10))
}

func (b *Broker) walOptions(id metadata.StreamID) wal.Options {
	mode := b.syncMode()
	if id.Class() == metadata.ClassObject {
		mode = wal.SyncNone // what counts is in the object store; the log is where it waits
	}
	return wal.Options{
		Replicated: id.Class() != metadata.ClassLocal,
		FS:         b.dir.files, Dir: b.streamFolder(id), FreeDir: filepath.Join(b.dir.wal(), freeFolder), Epoch: uint64(id.Epoch()), Owner: b.streamOwner(),
		SegmentBytes: b.config.WAL.SegmentBytes, SlabBytes: b.seams.slabBytes, SlabCount: int(b.config.TailCacheBytes / int64(b.seams.slabBytes)),
		MaxBytes: b.config.WAL.MaxBytes, MinEntryBytes: b.memory.chargeBytes, Sync: mode, Logger: b.logger.With("part", "wal"),
	}
}

// syncMode is how what must be durable gets to the disk.
func (b *Broker) syncMode() wal.SyncMode {
	return map[string]wal.SyncMode{"auto": wal.SyncAuto, "direct": wal.SyncDirect, "data": wal.SyncData}[b.config.WAL.Sync]
}

// streamOwner marks the WAL's segments as this cluster's: the epochs of two clusters may be the same.
func (b *Broker) streamOwner() [16]byte {
	sum := sha256.Sum256([]byte(b.meta.Image().ClusterID()))
	return [16]byte(sum[:])
}

// recoverStreams moves what this broker's former incarnations left in their WAL streams into the object store and seals the
// streams. Nothing is served before: a partition whose former stream is not drained would lose its tail.
func (b *Broker) recoverStreams(ctx context.Context) error {
	streams, err := b.meta.Streams(ctx, b.nodeID)
	if err != nil {
		return fmt.Errorf("list the WAL streams: %w", err)
	}
	for _, s := range streams {
		if s.State == metadata.StreamSealed {
			continue
		}
		if err := b.recoverStream(ctx, s); err != nil {
			return fmt.Errorf("recover WAL stream %s: %w", s.ID, err)
		}
	}
	return b.removeSealedFolders(ctx)
}

func (b *Broker) recoverStream(ctx context.Context, s metadata.StreamState) error {
	switch s.Class {
	case metadata.ClassObject:
		return b.endObjectStream(ctx, s.ID)
	case metadata.ClassQuorum:
		return b.endOwnQuorumStream(ctx, s.ID)
	}
	logger := b.logger.With("stream", s.ID.String())
	state, err := b.meta.RecoverStream(ctx, s.ID, b.incarnation)
	if err != nil {
		return err
	}
	dead, err := wal.Recover(b.walOptions(s.ID))
	if errors.Is(err, fs.ErrNotExist) {
		return b.missingStream(ctx, *state, logger)
	}
	if errors.Is(err, wal.ErrForeign) {
		return fmt.Errorf("the folder %s holds the log of another cluster than the one in etcd (%s): put the right folder back: %w",
			b.streamFolder(s.ID), b.meta.Image().ClusterID(), err)
	}
	if err != nil {
		return err // corruption says where and what
	}
	if dead.Start() > wal.Position(state.Committed) {
		if err := b.missingSegments(*state, dead.Start(), logger); err != nil {
			return errors.Join(err, dead.Close())
		}
		state.Committed = uint64(dead.Start())
	}
	end := max(dead.End(), wal.Position(state.Committed))
	logger.Info("draining the stream of a former run", "from", state.Committed, "to", end)
	err = tiering.DrainRecovered(ctx, dead, end, tiering.UploaderOptions{
		StreamID: s.ID, Revision: state.Revision, From: wal.Position(state.Committed), FirstSeq: b.catalog.LastSeq(s.ID) + 1,
		Catalog: b.catalog, Store: b.store, Meta: b.meta, SealBytes: b.config.SealBytes, Logger: logger,
	})
	if err = errors.Join(err, dead.Close()); err != nil {
		return err
	}
	if err := b.meta.SealStream(ctx, s.ID, state.Revision, uint64(end)); err != nil {
		return err
	}
	if err := dead.Remove(); err != nil {
		logger.Warn("remove the drained segments; the next start tries again", "error", err)
	}
	return nil
}

// endObjectStream fences a stream of the object class and seals it where its objects end: nothing beyond was acknowledged, whatever a disk has.
// Another broker may do the same at the same time, the stream's own one after a restart, or the controller.
func (b *Broker) endObjectStream(ctx context.Context, id metadata.StreamID) error {
	for {
		fenced, err := b.meta.RecoverStream(ctx, id, b.incarnation)
		if errors.Is(err, metadata.ErrExists) || errors.Is(err, metadata.ErrNotFound) {
			return nil // the other was quicker
		}
		if err != nil {
			return err
		}
		b.logger.Info("sealing the stream of a run that is over", "stream", id.String(), "at", fenced.Committed)
		if err = b.meta.SealStream(ctx, id, fenced.Revision, fenced.Committed); !errors.Is(err, metadata.ErrFenced) {
			return err
		}
		if err := yieldStream(ctx); err != nil {
			return err
		}
	}
}

// yieldStream waits after somebody else has fenced the same stream: two that fence each other in step would go on for ever.
func yieldStream(ctx context.Context) error {
	select {
	case <-time.After(rand.N(maxSealPause)):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// missingSegments decides about a stream whose oldest segments are gone although their records were not in the object store yet.
// The log is trimmed only below what is committed, so somebody or something else has removed them.
func (b *Broker) missingSegments(s metadata.StreamState, start wal.Position, logger *slog.Logger) error {
	if !b.config.WAL.AcceptLoss {
		return fmt.Errorf("the folder %s begins at position %d, but only what is before %d is in the object store: segments are missing and "+
			"acknowledged records may be lost. Put them back, or accept the loss for good by starting once with --wal.accept-loss=true",
			b.streamFolder(s.ID), start, s.Committed)
	}
	logger.Error("accepting the loss of segments of a write-ahead log: acknowledged records in them are gone", "from", s.Committed, "to", start)
	return nil
}

// missingStream decides about an unsealed stream whose folder is gone: the disk was lost or exchanged.
func (b *Broker) missingStream(ctx context.Context, s metadata.StreamState, logger *slog.Logger) error {
	if !b.config.WAL.AcceptLoss {
		return fmt.Errorf("the folder %s is missing: acknowledged records that were not in the object store yet may be lost. "+
			"Put the disk back, or accept the loss for good by starting once with --wal.accept-loss=true", b.streamFolder(s.ID))
	}
	logger.Error("accepting the loss of a write-ahead log: acknowledged records beyond the object store are gone", "from", s.Committed)
	return b.meta.SealStream(ctx, s.ID, s.Revision, s.Committed)
}

// removeSealedFolders removes what a crash between sealing and removing, or between making a folder and its stream, left behind. A
// folder with content that etcd knows nothing of is left alone and named: it may belong to another cluster.
func (b *Broker) removeSealedFolders(ctx context.Context) error {
	streams, err := b.meta.Streams(ctx, b.nodeID)
	if err != nil {
		return fmt.Errorf("list the WAL streams: %w", err)
	}
	sealed := map[string]bool{}
	for _, s := range streams {
		if s.State == metadata.StreamSealed {
			sealed[filepath.Base(b.streamFolder(s.ID))] = true
		}
	}
	kept := map[string]bool{}
	folders, err := b.dir.walFolders()
	if err != nil {
		return fmt.Errorf("list the WAL folders: %w", err)
	}
	for _, name := range folders {
		switch {
		case name == freeFolder:
		case sealed[name]:
			if err := b.dir.removeWAL(name); err != nil {
				b.logger.Warn("remove a sealed WAL folder; the next start tries again", "folder", name, "error", err)
				kept[name] = true
			}
		case b.dir.files.Remove(filepath.Join(b.dir.wal(), name)) == nil: // it was empty: no stream ever was in it
		default:
			b.logger.Warn("a WAL folder belongs to no stream of this broker in etcd; it is left alone", "folder", filepath.Join(b.dir.wal(), name))
		}
	}
	// A sealed stream without a folder is history: all of it is in objects, and no incarnation can write it any more.
	for _, s := range streams {
		if name := filepath.Base(b.streamFolder(s.ID)); sealed[name] && !kept[name] {
			if err := b.meta.DeleteStream(ctx, s.ID); err != nil {
				return fmt.Errorf("forget stream %s: %w", s.ID, err)
			}
		}
	}
	return nil
}
