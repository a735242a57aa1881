// Package kv is the seam between Tidemark's metadata and etcd: what the metadata store needs of etcd's API and nothing
// more. Implementations: etcdkv (clientv3, also over an embedded server) and memkv (in-process twin with fault injection). All pass
// the suite in kvtest.
package kv

import (
	"context"
	"errors"
	"time"
)

// Limits that every implementation honours and every caller stays below. They are etcd's defaults (--max-txn-ops 128,
// --max-request-bytes 1.5 MiB) with room to spare.
const (
	MaxTxnOps   = 128     // of the comparisons, the Then list and the Else list each
	MaxTxnBytes = 1 << 20 // keys and values of a transaction together
)

var (
	// ErrUnavailable says that there was no answer. A read may be repeated. A Txn, Grant or Revoke may or may not have taken place, and a Txn may
	// even take place after the error was returned.
	ErrUnavailable = errors.New("kv: unavailable, outcome unknown")
	// ErrCompacted says that the revision asked for is older than the oldest that is kept.
	ErrCompacted = errors.New("kv: revision compacted")
	// ErrLeaseNotFound says that the lease expired or was revoked; keys attached to it are gone.
	ErrLeaseNotFound = errors.New("kv: lease not found")
	// ErrTooLarge says that the transaction is beyond the limits. Nothing was written.
	ErrTooLarge = errors.New("kv: transaction too large")
	// ErrNoSpace says that etcd's quota is used up; it refuses writes until it is compacted, defragmented and disarmed. Nothing was
	// written.
	ErrNoSpace = errors.New("kv: out of space")
)

// LeaseID names a lease; 0 is none.
type LeaseID int64

// Pair is a key as it was at some revision. Slices belong to the receiver.
type Pair struct {
	Key            string
	Value          []byte
	CreateRevision int64
	ModRevision    int64
	Lease          LeaseID
}

// Range asks for the keys in [Start, End) in ascending order; End == "" asks for the single key Start.
type Range struct {
	Start, End string
	Limit      int   // most pairs to return; 0: all
	Revision   int64 // read as of this revision; 0: newest, linearizable
}

// Page is the answer to a Range.
type Page struct {
	Pairs    []Pair
	More     bool  // there are further keys in the range, beyond Limit
	Revision int64 // the store's revision at which the range was read (for Revision == 0: the newest)
}

// Target says what a comparison looks at.
type Target uint8

// The targets of comparisons. A key that is absent has both revisions 0.
const (
	ModRevision    Target = iota // equality with the revision of the key's last change
	CreateRevision               // equality with the revision of the key's creation
	Present                      // the key exists; Compare.Revision is not used
)

// Compare is a condition on one key.
type Compare struct {
	Key      string
	Target   Target
	Revision int64
}

// Absent is the condition that a key does not exist.
func Absent(key string) Compare { return Compare{Key: key, Target: CreateRevision} }

// Exists is the condition that a key exists.
func Exists(key string) Compare { return Compare{Key: key, Target: Present} }

// Unchanged is the condition that a key's last change was at revision rev; 0 means absent.
func Unchanged(key string, rev int64) Compare {
	return Compare{Key: key, Target: ModRevision, Revision: rev}
}

// OpKind says what an Op does.
type OpKind uint8

// The kinds of operations of a transaction.
const (
	OpPut    OpKind = iota
	OpDelete        // of Key, or of [Key, End) when End is not empty
	OpGet           // of Key, or of [Key, End) when End is not empty
)

// Op is one operation of a transaction. A key may be written by at most one operation of a transaction.
type Op struct {
	Kind  OpKind
	Key   string
	End   string
	Value []byte
	Lease LeaseID
	Limit int // OpGet of a range: most pairs; 0: all
}

// Put writes a key.
func Put(key string, value []byte) Op { return Op{Kind: OpPut, Key: key, Value: value} }

// PutLeased writes a key that is deleted when the lease ends.
func PutLeased(key string, value []byte, lease LeaseID) Op {
	return Op{Kind: OpPut, Key: key, Value: value, Lease: lease}
}

// Delete removes a key, if it is there.
func Delete(key string) Op { return Op{Kind: OpDelete, Key: key} }

// DeleteRange removes the keys in [start, end).
func DeleteRange(start, end string) Op { return Op{Kind: OpDelete, Key: start, End: end} }

// Get reads a key.
func Get(key string) Op { return Op{Kind: OpGet, Key: key} }

// Txn performs Then if every comparison holds, otherwise Else, atomically and linearizably.
type Txn struct {
	If   []Compare
	Then []Op
	Else []Op
}

// TxnResult is the outcome of a Txn.
type TxnResult struct {
	Succeeded bool
	// Revision of the store afterwards. When the transaction wrote anything it is the mod revision of all that it wrote.
	Revision int64
	Gets     [][]Pair // per OpGet of the branch taken, in order
	Deleted  int64    // keys deleted, in all
}

// Event is a change of a key.
type Event struct {
	Pair     // of a deletion: only Key and ModRevision
	IsDelete bool
}

// Batch is what a watch delivers at a time: all events of one or more revisions, in order; never a part of a revision.
// A batch without events only tells that the watch has seen everything up to Revision.
type Batch struct {
	Events   []Event
	Revision int64
}

// KV is a linearizable, watchable key-value store with leases: etcd's v3 API. Implementations are safe for concurrent use,
// bound every call by a timeout of their own besides ctx, and never retry a write whose outcome they do not know.
type KV interface {
	// Range reads a page.
	Range(ctx context.Context, r Range) (Page, error)
	// Txn performs a transaction.
	Txn(ctx context.Context, t Txn) (TxnResult, error)
	// Watch calls fn for the events of [start, end) from revision from on, until ctx is done (returns ctx's error), fn fails
	// (returns its error), the revision is compacted (ErrCompacted) or the watch breaks (ErrUnavailable: watch again from the
	// revision after the last batch). Interruptions that lose no event may be bridged inside. It calls fn from the caller's
	// goroutine.
	Watch(ctx context.Context, start, end string, from int64, fn func(Batch) error) error
	// Grant makes a lease; the TTL granted may be longer than asked for.
	Grant(ctx context.Context, ttl time.Duration) (LeaseID, time.Duration, error)
	// KeepAlive renews a lease once and returns its TTL from now.
	KeepAlive(ctx context.Context, id LeaseID) (time.Duration, error)
	// Revoke ends a lease and deletes its keys. A lease that is not there is no error.
	Revoke(ctx context.Context, id LeaseID) error
}

// PrefixEnd returns the end of the range of all keys that begin with prefix, which must hold a byte below 0xff.
func PrefixEnd(prefix string) string {
	b := []byte(prefix)
	for i := len(b) - 1; i >= 0; i-- {
		if b[i] < 0xff {
			b[i]++
			return string(b[:i+1])
		}
	}
	return "\x00"
}

// Scan reads all of [start, end) at one revision in pages of limit pairs and calls fn for each pair. It returns the
// revision. ErrCompacted when the pages took longer than the store keeps old revisions: scan again.
func Scan(ctx context.Context, s KV, start, end string, limit int, fn func(Pair) error) (int64, error) {
	r := Range{Start: start, End: end, Limit: limit}
	for {
		page, err := s.Range(ctx, r)
		if err != nil {
			return 0, err
		}
		for _, p := range page.Pairs {
			if err := fn(p); err != nil {
				return 0, err
			}
		}
		if r.Revision == 0 {
			r.Revision = page.Revision
		}
		if !page.More || len(page.Pairs) == 0 {
			return r.Revision, nil
		}
		r.Start = page.Pairs[len(page.Pairs)-1].Key + "\x00"
	}
}

// Size returns the bytes of a transaction that count for MaxTxnBytes.
func (t Txn) Size() int {
	n := 0
	for _, c := range t.If {
		n += len(c.Key) + 16
	}
	for _, ops := range [][]Op{t.Then, t.Else} {
		for _, o := range ops {
			n += len(o.Key) + len(o.End) + len(o.Value) + 16
		}
	}
	return n
}

// Check returns ErrTooLarge for a transaction beyond the limits.
func (t Txn) Check() error {
	if len(t.If) > MaxTxnOps || len(t.Then) > MaxTxnOps || len(t.Else) > MaxTxnOps || t.Size() > MaxTxnBytes {
		return ErrTooLarge
	}
	return nil
}
