// Package tiering moves partitions' data from WAL streams to the object store, keeps it tidy there, and reads it back.
//
// Data goes one way. The Uploader seals ranges of a WAL stream into objects, puts them, and commits them in etcd as pending. The
// Maintainer absorbs pending objects into the manifests of their partitions, merges small objects, applies retention and
// deletes what nothing names any more. The Catalog knows where a partition's committed offsets are (manifest ++ pending), and
// the Reader (the cold lane) serves them.
//
// An object exists only once etcd says so. Whatever order of crashes, each committed record is named exactly once: a pending
// object counts for a partition only from the end of the partition's manifest on.
package tiering

import (
	"context"
	"errors"
	"iter"
	"log/slog"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/tiering/manifest"
	"github.com/tidemarkmq/tidemark/tiering/producers"
)

// The errors that callers tell apart; test with errors.Is.
var (
	// ErrOffsetOutOfRange says that the offset is below the partition's log start or not below the end of what is committed.
	ErrOffsetOutOfRange = errors.New("tiering: offset out of range")
	// ErrUnknownPartition says that the partition does not exist (any more).
	ErrUnknownPartition = errors.New("tiering: unknown partition")
	// ErrCorrupt says that committed bytes do not fit their checksums or formats.
	ErrCorrupt = errors.New("tiering: corrupt data")
	// ErrBusy says that the cold lane's memory is taken by other readers for the moment. Nothing is lost: ask again.
	ErrBusy = errors.New("tiering: cold lane busy")
)

// Partitions is what reading needs of the cluster's metadata. Partition answers from memory, must be safe for concurrent use, and
// must show a swap as soon as SwapManifests returned.
type Partitions interface {
	Partition(metadata.PartitionID) (*metadata.Partition, bool)
}

// Committer makes objects known. Its errors are those of metadata.
type Committer interface {
	// CommitObjects adds the objects of one seal in one transaction, if the stream's revision is still the given one.
	CommitObjects(ctx context.Context, stream metadata.StreamID, revision metadata.Revision, objects []metadata.PendingObject) error
	// SkipTo raises the stream's committed position over what nobody wants any more, if the revision is still the given one.
	SkipTo(ctx context.Context, stream metadata.StreamID, revision metadata.Revision, to uint64) error
	PendingObjects(ctx context.Context) ([]metadata.PendingObject, error)
}

// Keeper is what maintenance needs of the cluster's metadata beyond Partitions. Its errors are those of metadata.
type Keeper interface {
	Partitions
	// All yields all partitions that exist.
	All() iter.Seq[*metadata.Partition]
	// SwapManifests swaps each pointer whose leader epoch and generation still fit; *metadata.PartialError names the others.
	SwapManifests(ctx context.Context, swaps []metadata.ManifestSwap) error
	PendingObjects(ctx context.Context) ([]metadata.PendingObject, error)
	DeletePending(ctx context.Context, by metadata.BrokerID, incarnation metadata.Incarnation, objects []metadata.PendingObject) error
	DeletedTopics(ctx context.Context) ([]metadata.DeletedTopic, error)
	PurgeTopic(ctx context.Context, id metadata.TopicID) error
	// LiveWriters returns the ids of the streams that are not sealed and the incarnations of the registered brokers: whoever may
	// still commit or swap.
	LiveWriters(ctx context.Context) (map[uint64]bool, error)
}

// Range is a part of a partition that became committed.
type Range struct {
	Partition      metadata.PartitionID
	Start, End     metadata.Offset // half open
	SizeBytes      int64
	MaxTimestampMs int64 // -1 if no record has one
}

// EpochStart says at which offset a leader epoch began.
type EpochStart = manifest.EpochStart

// LogState is a partition as the object store and etcd have it: manifest ++ pending.
type LogState struct {
	Start          metadata.Offset // log start
	End            metadata.Offset // one past the last committed offset
	Producers      *producers.State
	Epochs         []EpochStart
	MaxTimestampMs int64 // -1 if no record has one
	SizeBytes      int64
}

// EpochEnd answers OffsetForLeaderEpoch from a list of epochs whose last ends at end; found is false when all are above asked.
func EpochEnd(epochs []EpochStart, end metadata.Offset, asked metadata.LeaderEpoch) (epoch metadata.LeaderEpoch, endOffset metadata.Offset, found bool) {
	return manifest.EpochEnd(epochs, end, asked)
}

func loggerOr(l *slog.Logger) *slog.Logger {
	if l == nil {
		return slog.New(slog.DiscardHandler)
	}
	return l
}

func meterOr(m metric.Meter) metric.Meter {
	if m == nil {
		return noop.NewMeterProvider().Meter("")
	}
	return m
}

func orDefault[T int | int64 | uint64](v *T, def T) {
	if *v == 0 {
		*v = def
	}
}
