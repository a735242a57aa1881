// Package memkv is an in-process twin of etcd behind the kv seam, for tests: revisions, watches, compaction, leases that end
// by the clock (the bubble's under testing/synctest), and faults on demand. Nothing is persisted.
package memkv

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tidemarkmq/tidemark/metadata/kv"
)

// version is a key's state from revision mod on; a deletion has a nil value and create 0.
type version struct {
	value       []byte
	create, mod int64
	lease       kv.LeaseID
}

type lease struct {
	ttl   time.Duration
	timer *time.Timer
	keys  map[string]struct{}
}

// KV implements kv.KV. Safe for concurrent use.
type KV struct {
	mu        sync.Mutex
	revision  int64
	compacted int64
	keys      []string // sorted; all that have versions
	versions  map[string][]version
	log       []kv.Event // by revision, those above compacted
	leases    map[kv.LeaseID]*lease
	nextLease kv.LeaseID
	changed   chan struct{} // closed and replaced at every change and fault that watches must see
	broken    int           // generation of BreakWatches
	stalled   bool

	faults faults
}

var _ kv.KV = (*KV)(nil)

// New returns an empty store at revision 1, as etcd starts.
func New() *KV {
	return &KV{
		revision: 1,
		versions: map[string][]version{},
		leases:   map[kv.LeaseID]*lease{},
		changed:  make(chan struct{}),
	}
}

// Range implements kv.KV.
func (s *KV) Range(ctx context.Context, r kv.Range) (kv.Page, error) {
	var page kv.Page
	err := s.call(ctx, Call{Kind: OpRange, Key: r.Start}, func() error {
		if r.Revision != 0 && r.Revision < s.compacted {
			return kv.ErrCompacted
		}
		if r.Revision > s.revision {
			return fmt.Errorf("memkv: revision %d is in the future", r.Revision)
		}
		page = s.rangeLocked(r)
		return nil
	})
	if err != nil { // a late performance may still be writing to page
		return kv.Page{}, err
	}
	return page, nil
}

func (s *KV) rangeLocked(r kv.Range) kv.Page {
	at := r.Revision
	page := kv.Page{Revision: s.revision}
	if at == 0 {
		at = s.revision
	}
	first, _ := slices.BinarySearch(s.keys, r.Start)
	for _, key := range s.keys[first:] {
		if (r.End == "" && key != r.Start) || (r.End != "" && key >= r.End) {
			break
		}
		v, ok := s.versionAt(key, at)
		if !ok {
			continue
		}
		if r.Limit > 0 && len(page.Pairs) == r.Limit {
			page.More = true
			break
		}
		page.Pairs = append(page.Pairs, pairOf(key, v))
	}
	return page
}

func pairOf(key string, v version) kv.Pair {
	return kv.Pair{Key: key, Value: slices.Clone(v.value), CreateRevision: v.create, ModRevision: v.mod, Lease: v.lease}
}

func (s *KV) versionAt(key string, at int64) (version, bool) {
	vs := s.versions[key]
	for i := len(vs) - 1; i >= 0; i-- {
		if vs[i].mod <= at {
			return vs[i], vs[i].create != 0
		}
	}
	return version{}, false
}

// Txn implements kv.KV.
func (s *KV) Txn(ctx context.Context, t kv.Txn) (kv.TxnResult, error) {
	if err := t.Check(); err != nil {
		return kv.TxnResult{}, err
	}
	if err := checkWrites(t); err != nil {
		return kv.TxnResult{}, err
	}
	var res kv.TxnResult
	call := Call{Kind: OpTxn}
	if len(t.Then) > 0 {
		call.Key = t.Then[0].Key
	}
	err := s.call(ctx, call, func() (err error) {
		res, err = s.txnLocked(t)
		return err
	})
	if err != nil { // a late performance may still be writing to res
		return kv.TxnResult{}, err
	}
	return res, nil
}

// checkWrites refuses what etcd refuses: a key written twice in one branch.
func checkWrites(t kv.Txn) error {
	for _, ops := range [][]kv.Op{t.Then, t.Else} {
		puts := map[string]bool{}
		for _, o := range ops {
			if o.Kind != kv.OpPut {
				continue
			}
			if o.Key == "" || puts[o.Key] {
				return fmt.Errorf("memkv: key %q is empty or written twice in a transaction", o.Key)
			}
			puts[o.Key] = true
		}
		for _, o := range ops {
			if o.Kind != kv.OpDelete {
				continue
			}
			for key := range puts {
				if key == o.Key || (o.End != "" && key >= o.Key && key < o.End) {
					return fmt.Errorf("memkv: key %q is put and deleted in a transaction", key)
				}
			}
		}
	}
	return nil
}

func (s *KV) txnLocked(t kv.Txn) (kv.TxnResult, error) {
	res := kv.TxnResult{Succeeded: true}
	for _, c := range t.If {
		v, _ := s.versionAt(c.Key, s.revision)
		var ok bool
		switch c.Target {
		case kv.ModRevision:
			ok = (v.create != 0 && v.mod == c.Revision) || (v.create == 0 && c.Revision == 0)
		case kv.CreateRevision:
			ok = v.create == c.Revision
		case kv.Present:
			ok = v.create != 0
		}
		if !ok {
			res.Succeeded = false
			break
		}
	}
	ops := t.Then
	if !res.Succeeded {
		ops = t.Else
	}
	for _, o := range ops {
		if o.Kind == kv.OpPut && o.Lease != 0 && s.leases[o.Lease] == nil {
			return kv.TxnResult{}, kv.ErrLeaseNotFound
		}
	}
	events := len(s.log)
	for _, o := range ops {
		switch o.Kind {
		case kv.OpPut:
			s.putLocked(o)
		case kv.OpDelete:
			res.Deleted += s.deleteLocked(o.Key, o.End)
		case kv.OpGet:
			res.Gets = append(res.Gets, s.rangeLocked(kv.Range{Start: o.Key, End: o.End, Limit: o.Limit, Revision: s.revision + 1}).Pairs)
		}
	}
	s.commitLocked(events)
	res.Revision = s.revision
	return res, nil
}

// commitLocked makes the events logged since there were n of them one revision, and wakes watches.
func (s *KV) commitLocked(n int) {
	if len(s.log) == n {
		return
	}
	s.revision++
	s.wakeLocked()
}

func (s *KV) wakeLocked() {
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *KV) putLocked(o kv.Op) {
	rev := s.revision + 1
	old, exists := s.versionAt(o.Key, rev)
	v := version{value: slices.Clone(o.Value), create: rev, mod: rev, lease: o.Lease}
	if v.value == nil {
		v.value = []byte{}
	}
	if exists {
		v.create = old.create
		s.detachLocked(o.Key, old.lease)
	}
	if l := s.leases[o.Lease]; l != nil {
		l.keys[o.Key] = struct{}{}
	}
	s.addVersionLocked(o.Key, v)
	s.log = append(s.log, kv.Event{Pair: pairOf(o.Key, v)})
}

func (s *KV) addVersionLocked(key string, v version) {
	if _, ok := s.versions[key]; !ok {
		i, _ := slices.BinarySearch(s.keys, key)
		s.keys = slices.Insert(s.keys, i, strings.Clone(key))
	}
	s.versions[key] = append(s.versions[key], v)
}

func (s *KV) detachLocked(key string, id kv.LeaseID) {
	if l := s.leases[id]; l != nil {
		delete(l.keys, key)
	}
}

func (s *KV) deleteLocked(start, end string) int64 {
	rev := s.revision + 1
	var n int64
	for _, p := range s.rangeLocked(kv.Range{Start: start, End: end, Revision: rev}).Pairs {
		s.detachLocked(p.Key, p.Lease)
		s.addVersionLocked(p.Key, version{mod: rev})
		s.log = append(s.log, kv.Event{Pair: kv.Pair{Key: p.Key, ModRevision: rev}, IsDelete: true})
		n++
	}
	return n
}

// Compact forgets revisions below rev, as etcd's compaction does.
func (s *KV) Compact(_ context.Context, rev int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if rev <= s.compacted || rev > s.revision {
		return fmt.Errorf("memkv: cannot compact at %d: compacted %d, revision %d", rev, s.compacted, s.revision)
	}
	s.compacted = rev
	s.log = slices.DeleteFunc(slices.Clone(s.log), func(e kv.Event) bool { return e.ModRevision < rev })
	for key, vs := range s.versions {
		keep := 0
		for i, v := range vs {
			if v.mod <= rev {
				keep = i
			}
		}
		s.versions[key] = slices.Clone(vs[keep:])
	}
	s.wakeLocked()
	return nil
}

// Revision returns the newest revision.
func (s *KV) Revision() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.revision
}
