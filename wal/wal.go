// Package wal is a write-ahead log: a stream of opaque entries, made durable by group commit and kept in segment files
// until they are trimmed. The memory that a group is built in (a slab) is at once the write buffer and the cache of the
// stream's tail.
//
// One goroutine, the committer in [Log.Run], closes the open group whenever a write may start, waits until the group's
// bytes are copied, writes it with one aligned write and calls the completions in order. There are no timers: while one
// group is being written the next one fills.
//
// A stream has one writer for life. After a crash it is read with [Recover] and never appended to again. The format is
// in FORMAT.md. The package knows nothing about Kafka.
package wal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
)

// Position is a byte position in a stream. It counts framing and grows over segments; the unused end of a segment leaves
// a gap. Groups start at multiples of 4096. A position is never reused within a stream.
type Position uint64

// SyncMode says how writes become durable.
type SyncMode int

const (
	// SyncAuto is SyncDirect where the file system takes it, found out by a real write, and SyncData otherwise.
	SyncAuto SyncMode = iota
	// SyncDirect bypasses the page cache and returns from each write when it is durable (O_DIRECT|O_DSYNC).
	SyncDirect
	// SyncData writes to the page cache and then syncs the data (fdatasync); files are zeroed beforehand.
	SyncData
	// SyncNone acknowledges after the write to the page cache (class pagecache): a power loss loses acknowledged entries.
	SyncNone
)

// String returns the mode's name for logs.
func (m SyncMode) String() string {
	switch m {
	case SyncAuto:
		return "auto"
	case SyncDirect:
		return "direct"
	case SyncData:
		return "data"
	case SyncNone:
		return "none"
	}
	return fmt.Sprintf("SyncMode(%d)", int(m))
}

// Errors that callers tell apart; test with errors.Is.
var (
	// ErrTooLarge says that an entry can never be admitted: it does not fit a slab, a group or a segment.
	ErrTooLarge = errors.New("wal entry too large")
	// ErrClosed says that the log's Run was told to stop.
	ErrClosed = errors.New("wal closed")
	// ErrFailed says that a write or sync failed. It is final for the stream: what is not acknowledged may or may not be
	// durable, and nothing is acknowledged any more. The cause is wrapped beside it.
	ErrFailed = errors.New("wal stream failed")
	// ErrFull says that the disk has no room for the next segment. It passes when there is room again. File systems wrap it.
	ErrFull = errors.New("wal disk full")
	// ErrTrimmed says that the position lies below the first retained segment.
	ErrTrimmed = errors.New("wal position trimmed")
	// ErrForeign says that a stream's files belong to another owner.
	ErrForeign = errors.New("wal stream of another owner")
	// ErrNoDirect says that the file system takes no direct writes.
	ErrNoDirect = errors.New("wal direct writes not supported")
)

// CorruptionError says that bytes which were once durable cannot be read any more: rot, as opposed to a torn tail.
type CorruptionError struct {
	Path     string   // file, or folder where a file is missing
	Position Position // where reading broke
	Promised Position // everything before it was known to be synced, as a later group says; 0: not known
	Reason   string
}

// Error implements error.
func (e *CorruptionError) Error() string {
	if e.Promised == 0 {
		return fmt.Sprintf("wal corrupt: %s at position %d: %s", e.Path, e.Position, e.Reason)
	}
	return fmt.Sprintf("wal corrupt: %s at position %d, though synced up to %d: %s", e.Path, e.Position, e.Promised, e.Reason)
}

// Completion learns what became of an entry.
type Completion interface {
	// Committed is called exactly once per Append, with nil when the entry is durable under the log's SyncMode. Calls come
	// on the committer goroutine in the order of positions, so it must not block nor call Admit. After the first error all
	// later calls get an error too.
	Committed(err error)
}

// Entry is one entry as Scan shows it.
type Entry struct {
	Pos  Position // of Data
	Next Position // a scan from here goes on with the entry after this one
	Data []byte   // valid during the call, and while Ref's slab is held; must not be changed
	Ref  Ref      // of the entry, if it was read from memory; else it names nothing
}

// Options configure a stream. Sizes are bytes.
type Options struct {
	FS      FS     // nil: the operating system's
	Dir     string // folder of this stream alone
	FreeDir string // pool of used segment files shared by successive streams, on the same file system; empty: no pool
	Epoch   uint64 // of the stream; for Recover, 0 accepts any
	// Owner says whose stream this is, for example which cluster's, since epochs may repeat among owners. Recover refuses a stream of
	// another owner with ErrForeign; zero accepts any.
	Owner [16]byte

	SegmentBytes int64 // file size; default 64 MiB; multiple of 4096
	SlabBytes    int   // default 8 MiB; multiple of 4096
	SlabCount    int   // default 16, at least 4. Readers can never hold all of them: at least a quarter, and 3, stays with writers
	MaxBytes     int64 // cap of appended bytes not trimmed yet, beyond which Admit waits; default 16 GiB. Files add up to two segments
	// MinEntryBytes is what an entry counts at least towards MaxBytes: callers that keep memory for each entry until it is trimmed
	// bound it so. Default 0: entries count by their bytes.
	MinEntryBytes int
	MaxInFlight   int // groups in flight where a sync is slow (over 1 ms) and SyncMode is direct; default and maximum 8
	Sync          SyncMode
	// Replicated makes entries wait, after they are durable here, until Log.Replicated says that enough others have them too.
	Replicated bool

	Logger *slog.Logger // nil: discard
	Meter  metric.Meter // nil: none

	nonce             uint64 // tests: 0 takes a random one
	firstSegmentBytes int64  // tests
}

const (
	defaultSegmentBytes = 64 << 20
	defaultSlabBytes    = 8 << 20
	defaultSlabCount    = 16
	defaultMaxBytes     = 16 << 30
	maxInFlight         = 8
	// A new stream without used files at hand starts with a small segment, so that it is ready within milliseconds.
	defaultFirstSegmentBytes = 16 << 20
)

func (o *Options) setDefaults() error {
	if o.FS == nil {
		o.FS = OSFS()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Meter == nil {
		o.Meter = noop.Meter{}
	}
	setDefault(&o.SegmentBytes, defaultSegmentBytes)
	setDefault(&o.SlabBytes, defaultSlabBytes)
	setDefault(&o.SlabCount, defaultSlabCount)
	setDefault(&o.MaxBytes, defaultMaxBytes)
	setDefault(&o.MaxInFlight, maxInFlight)
	setDefault(&o.firstSegmentBytes, min(o.SegmentBytes, defaultFirstSegmentBytes))
	switch {
	case o.Dir == "":
		return errors.New("wal options: Dir is empty")
	case o.SegmentBytes%blockBytes != 0 || o.SegmentBytes < 4*blockBytes || o.SegmentBytes > 1<<31:
		return fmt.Errorf("wal options: SegmentBytes %d: want a multiple of %d from %d to 2 GiB", o.SegmentBytes, blockBytes, 4*blockBytes)
	case o.SlabBytes%blockBytes != 0 || o.SlabBytes < 2*blockBytes || o.SlabBytes > 1<<30:
		return fmt.Errorf("wal options: SlabBytes %d: want a multiple of %d from %d to 1 GiB", o.SlabBytes, blockBytes, 2*blockBytes)
	case o.SlabCount < 4 || o.SlabCount > 1<<16:
		return fmt.Errorf("wal options: SlabCount %d: want 4 to 65536", o.SlabCount)
	case o.MaxBytes < int64(o.SlabBytes):
		return fmt.Errorf("wal options: MaxBytes %d: want at least SlabBytes %d", o.MaxBytes, o.SlabBytes)
	case o.MinEntryBytes < 0 || o.MinEntryBytes > blockBytes:
		return fmt.Errorf("wal options: MinEntryBytes %d: want 0 to %d", o.MinEntryBytes, blockBytes)
	case o.MaxInFlight < 1 || o.MaxInFlight > maxInFlight:
		return fmt.Errorf("wal options: MaxInFlight %d: want 1 to %d", o.MaxInFlight, maxInFlight)
	case o.Sync < SyncAuto || o.Sync > SyncNone:
		return fmt.Errorf("wal options: %v is not known", o.Sync)
	}
	return nil
}

func setDefault[T int | int64](v *T, def T) {
	if *v == 0 {
		*v = def
	}
}

// Stats is a snapshot of a log's counters.
type Stats struct {
	Start          Position // everything before it is trimmed
	Durable        Position
	Appended       Position // where the next group will start at the earliest
	Segments       int      // retained files, the prepared next one included
	UntrimmedBytes int64    // Appended − Start
	SurchargeBytes int64    // what untrimmed entries below Options.MinEntryBytes count towards MaxBytes beyond UntrimmedBytes
	Groups         uint64   // made durable, as are Entries and Bytes
	Entries        uint64
	Bytes          uint64 // with framing and padding
	SlabsInUse     int    // holding entries, durable or not
	SlabsPinned    int    // held by readers
	AdmittedBytes  int64  // admitted and not appended yet, with overhead
	AdmitWaiting   int    // callers waiting in Admit
	InFlightLimit  int    // groups that may be in flight at present
	Full           bool   // the next segment cannot be made for want of room
	Mode           SyncMode
}

type scanFunc = func(Entry) error

// stopIfDone is the cheap check between groups of a scan.
func stopIfDone(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("wal read: %w", context.Cause(ctx))
	}
	return nil
}
