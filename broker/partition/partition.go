// Package partition is a partition's log on its owner: offsets, epochs, idempotent producers and the tail index (a PURE
// core in log.go, tail.go and epochs.go), and the driver around it that appends to the WAL, follows its commits, wakes
// waiting fetches and reads from slabs, WAL files and the object store.
package partition

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/tiering"
	"github.com/tidemarkmq/tidemark/tiering/producers"
	"github.com/tidemarkmq/tidemark/wal"
)

// The sentinels of this package. Kafka's error for each is named.
var (
	// ErrClosed says that the partition is no longer served here: NOT_LEADER_OR_FOLLOWER.
	ErrClosed = errors.New("partition is closed")
	// ErrFailed says that the WAL stream failed: KAFKA_STORAGE_ERROR. It wraps the cause.
	ErrFailed = errors.New("log failed")
	// ErrFencedEpoch and ErrUnknownEpoch are about the client's leader epoch: FENCED_LEADER_EPOCH and UNKNOWN_LEADER_EPOCH.
	ErrFencedEpoch  = errors.New("leader epoch is older than the partition's")
	ErrUnknownEpoch = errors.New("leader epoch is newer than the partition's")
	// ErrOffsetOutOfRange says that the log does not have the offset: OFFSET_OUT_OF_RANGE.
	ErrOffsetOutOfRange = errors.New("offset out of range")
)

const (
	stateOpen int32 = iota
	stateClosed
	stateFailed
)

// OpenState is what a partition starts from: its manifest and pending objects. Nothing of it may be used afterwards.
type OpenState struct {
	ID             metadata.PartitionID
	Topic          string
	LeaderEpoch    metadata.LeaderEpoch
	LogStart       metadata.Offset
	End            metadata.Offset // one past the last record; everything before is in the object store
	Producers      *producers.State
	Epochs         []Epoch
	MaxTimestampMs int64 // upper bound over the log, -1 when it is empty
	SizeBytes      int64
	Config         *Config
	Stream         *Stream // that the partition appends to as long as it is open; nil: the set's
}

// Stream is a WAL stream that partitions append to and read their tails from. *wal.Log is both.
type Stream struct {
	WAL  WAL
	File TailFile
}

// From fills in what the object store and etcd know of the log.
func (s *OpenState) From(l tiering.LogState) {
	s.LogStart, s.End, s.Producers, s.Epochs = l.Start, l.End, l.Producers, l.Epochs
	s.MaxTimestampMs, s.SizeBytes = l.MaxTimestampMs, l.SizeBytes
}

// Partition is one open partition. All methods are safe for concurrent use.
//
// Locks: mu guards the core and covers the copy of a batch into the slab, so that the order of offsets is the order of WAL
// positions; waitMu guards the waiters and is what the committer takes. Neither is taken while the other is held.
type Partition struct {
	id    metadata.PartitionID
	topic string
	epoch metadata.LeaderEpoch
	set   *Set
	// stream is one for life: the tail's references and the order of what is uploaded belong to it. To change a partition's durability is to
	// hand it over to oneself.
	stream Stream

	state    atomic.Int32
	hw       atomic.Int64 // one past the last durable record
	logStart atomic.Int64
	uploaded atomic.Int64 // one past the last record in the object store
	config   atomic.Pointer[Config]
	gate     atomic.Pointer[gate] // set: appends wait

	mu  sync.Mutex
	log log[wal.Ref]

	watched atomic.Int32 // registrations and parked duplicates: 0 lets the committer skip waitMu
	waitMu  sync.Mutex
	waiters *registration
	parked  []*inflight // duplicates of batches that are not durable yet
}

func newPartition(set *Set, s OpenState) *Partition {
	p := &Partition{id: s.ID, topic: s.Topic, epoch: s.LeaderEpoch, set: set, stream: set.stream, log: newLog[wal.Ref](s)}
	if s.Stream != nil {
		p.stream = *s.Stream
	}
	p.hw.Store(int64(s.End))
	p.uploaded.Store(int64(s.End))
	p.logStart.Store(int64(s.LogStart))
	p.config.Store(s.Config)
	return p
}

// ID is the partition's identity.
func (p *Partition) ID() metadata.PartitionID { return p.id }

// Topic is the topic's name.
func (p *Partition) Topic() string { return p.topic }

// LeaderEpoch is the epoch under which this broker owns the partition.
func (p *Partition) LeaderEpoch() metadata.LeaderEpoch { return p.epoch }

// HighWatermark is one past the last durable record: what consumers see.
func (p *Partition) HighWatermark() metadata.Offset { return metadata.Offset(p.hw.Load()) }

// LastStable is what read_committed consumers see: the first offset of the oldest open transaction. There are no
// transactions yet, so it is the high watermark.
func (p *Partition) LastStable() metadata.Offset { return p.HighWatermark() }

// LogStart is the first offset that is not deleted.
func (p *Partition) LogStart() metadata.Offset { return metadata.Offset(p.logStart.Load()) }

// Uploaded is one past the last record that is in the object store.
func (p *Partition) Uploaded() metadata.Offset { return metadata.Offset(p.uploaded.Load()) }

// Config is the current config.
func (p *Partition) Config() *Config { return p.config.Load() }

// SetConfig replaces the config from the next batch on.
func (p *Partition) SetConfig(c *Config) { p.config.Store(c) }

// SizeBytes is the size of the log when it was opened and of all that was appended since; retention is not deducted.
func (p *Partition) SizeBytes() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.sizeBytes
}

// TailStart is the first offset that is still indexed in the tail, or the high watermark.
func (p *Partition) TailStart() metadata.Offset {
	p.mu.Lock()
	defer p.mu.Unlock()
	return metadata.Offset(min(p.log.tailStart(), p.hw.Load()))
}

// ProducerCount is how many idempotent producers are known.
func (p *Partition) ProducerCount() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.producers.Len()
}

// Watched tells whether a long poll or a parked duplicate waits for a commit.
func (p *Partition) Watched() bool { return p.watched.Load() > 0 }

// CheckEpoch compares the leader epoch that a client knows; -1 is not checked (KIP-320).
func (p *Partition) CheckEpoch(epoch int32) error {
	switch {
	case epoch < 0 || epoch == int32(p.epoch):
		return nil
	case epoch < int32(p.epoch):
		return fmt.Errorf("%w: %d, the partition's is %d", ErrFencedEpoch, epoch, p.epoch)
	default:
		return fmt.Errorf("%w: %d, the partition's is %d", ErrUnknownEpoch, epoch, p.epoch)
	}
}

// EpochEnd answers OffsetForLeaderEpoch (KIP-101): the largest epoch at or below the asked one and where it ends.
func (p *Partition) EpochEnd(epoch metadata.LeaderEpoch) EpochEnd {
	hw := p.HighWatermark()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.epochs.end(epoch, hw)
}

// EpochAt is the epoch of the record at offset, or -1 when it is not known.
func (p *Partition) EpochAt(offset metadata.Offset) metadata.LeaderEpoch {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.epochs.at(offset)
}

// AdvanceLogStart deletes the records before to (-1: all that are durable): first in the metadata, then here. It returns the
// new start, which stays as it is when it was higher already. ErrOffsetOutOfRange is wrapped when to is above the high
// watermark.
func (p *Partition) AdvanceLogStart(ctx context.Context, to metadata.Offset) (metadata.Offset, error) {
	hw := p.HighWatermark()
	if to == -1 {
		to = hw
	}
	if to < 0 || to > hw {
		return 0, fmt.Errorf("%w: delete before %d with high watermark %d", ErrOffsetOutOfRange, to, hw)
	}
	if err := p.usable(); err != nil {
		return 0, err
	}
	if to <= p.LogStart() {
		return p.LogStart(), nil
	}
	if err := p.set.meta.SetLogStart(ctx, p.id, p.epoch, to); err != nil {
		return 0, fmt.Errorf("advance log start of %s-%d: %w", p.topic, p.id.Partition, err)
	}
	return p.movedLogStart(to), nil
}

// movedLogStart takes over a log start that the metadata has, and returns the highest known.
func (p *Partition) movedLogStart(to metadata.Offset) metadata.Offset {
	for {
		old := p.logStart.Load()
		if int64(to) <= old {
			return metadata.Offset(old)
		}
		if p.logStart.CompareAndSwap(old, int64(to)) {
			break
		}
	}
	p.mu.Lock()
	p.log.epochs = p.log.epochs.truncateStart(to)
	p.mu.Unlock()
	p.wakeAll()
	return to
}

// usable says why nothing can be done with the partition any more.
func (p *Partition) usable() error {
	switch p.state.Load() {
	case stateClosed:
		return ErrClosed
	case stateFailed:
		return p.set.failure()
	}
	return nil
}

// commit advances the high watermark and wakes who waited for it. It runs on the committer goroutine.
func (p *Partition) commit(next, sizeBytes int64) {
	p.hw.Store(next)
	if p.watched.Load() == 0 {
		return
	}
	var due []*inflight
	p.waitMu.Lock()
	for r := p.waiters; r != nil; r = r.next {
		r.w.committed(sizeBytes)
	}
	due = p.takeParked(next)
	p.waitMu.Unlock()
	for _, f := range due {
		f.answer(nil)
	}
}

// takeParked removes the duplicates whose original is durable. The caller holds waitMu.
func (p *Partition) takeParked(hw int64) (due []*inflight) {
	kept := p.parked[:0]
	for _, f := range p.parked {
		if f.next <= hw {
			due = append(due, f)
			p.watched.Add(-1)
		} else {
			kept = append(kept, f)
		}
	}
	clear(p.parked[len(kept):])
	p.parked = kept
	if len(kept) == 0 {
		p.parked = nil
	}
	return due
}

// fail stops the partition for good; later and parked appends get the set's failure.
func (p *Partition) fail() {
	p.state.CompareAndSwap(stateOpen, stateFailed)
	p.waitMu.Lock()
	parked := p.parked
	p.parked = nil
	p.watched.Add(-int32(len(parked)))
	p.waitMu.Unlock()
	for _, f := range parked {
		f.answer(p.set.failure())
	}
	p.wakeAll()
}

// close refuses everything from now on. Appends in flight still get their answers.
func (p *Partition) close() {
	p.mu.Lock() // no append is between its check and its WAL append
	p.state.Store(stateClosed)
	p.mu.Unlock()
	p.Resume()
	p.wakeAll()
}

func (p *Partition) wakeAll() {
	p.waitMu.Lock()
	for r := p.waiters; r != nil; r = r.next {
		r.w.wake()
	}
	p.waitMu.Unlock()
}
