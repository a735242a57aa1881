package group

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/tidemarkmq/tidemark/metadata"
)

// fate is what becomes of one call to the memory store.
type fate int

const (
	fine    fate = iota
	lost         // applied, and the answer lost
	failed       // not applied, and the answer lost
	late         // not applied yet: it takes effect at the next call that is not late, before it
	fencing      // refused with ErrFenced
)

// memStore keeps groups and offsets in memory, by the rules of package metadata. hook decides the fate of each call by its name
// and may block.
type memStore struct {
	mu      sync.Mutex
	rev     metadata.Revision
	states  map[string]stored
	offsets map[offsetKey]metadata.CommittedOffset
	hook    func(call, group string) fate
	delayed []func()
	calls   map[string]int
	batches []int // groups × topics per CommitOffsets
	partial func(metadata.GroupOffsets) error
}

type stored struct {
	state []byte
	rev   metadata.Revision
}

type offsetKey struct {
	group     string
	topic     metadata.TopicID
	partition int32
}

func newMemStore() *memStore {
	return &memStore{states: map[string]stored{}, offsets: map[offsetKey]metadata.CommittedOffset{}, calls: map[string]int{}}
}

// do runs one call under its fate.
func (s *memStore) do(call, group string, apply func() error) error {
	s.mu.Lock()
	hook := s.hook
	s.calls[call]++
	s.mu.Unlock()
	what := fine
	if hook != nil {
		what = hook(call, group)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	unknown := fmt.Errorf("%s %q: %w", call, group, metadata.ErrUnavailable)
	switch what {
	case failed:
		return unknown
	case late:
		s.delayed = append(s.delayed, func() { _ = apply() })
		return unknown
	case fencing:
		return fmt.Errorf("%s %q: %w", call, group, metadata.ErrFenced)
	}
	if call != "LoadGroup" { // reads overtake what is late, so that a swap finds it in its way
		for _, fn := range s.delayed {
			fn()
		}
		s.delayed = nil
	}
	if err := apply(); err != nil {
		return err
	}
	if what == lost {
		return unknown
	}
	return nil
}

func (s *memStore) setHook(hook func(call, group string) fate) {
	s.mu.Lock()
	s.hook = hook
	s.mu.Unlock()
}

func (s *memStore) LoadGroups(_ context.Context, fn func(string, []byte, metadata.Revision) error) error {
	return s.do("LoadGroups", "", func() error {
		for _, group := range slices.Sorted(maps.Keys(s.states)) {
			if err := fn(group, bytes.Clone(s.states[group].state), s.states[group].rev); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *memStore) LoadGroup(_ context.Context, group string) (state []byte, rev metadata.Revision, err error) {
	err = s.do("LoadGroup", group, func() error {
		v, ok := s.states[group]
		if !ok {
			return metadata.ErrNotFound
		}
		state, rev = bytes.Clone(v.state), v.rev
		return nil
	})
	return state, rev, err
}

func (s *memStore) SaveGroup(_ context.Context, group string, state []byte, expect metadata.Revision) (rev metadata.Revision, err error) {
	err = s.do("SaveGroup", group, func() error {
		if s.states[group].rev != expect {
			return fmt.Errorf("revision %d, expected %d: %w", s.states[group].rev, expect, metadata.ErrConflict)
		}
		s.rev++
		s.states[group] = stored{bytes.Clone(state), s.rev}
		rev = s.rev
		return nil
	})
	return rev, err
}

func (s *memStore) DeleteGroup(_ context.Context, group string, expect metadata.Revision) error {
	return s.do("DeleteGroup", group, func() error {
		if s.states[group].rev != expect {
			return metadata.ErrConflict
		}
		delete(s.states, group)
		maps.DeleteFunc(s.offsets, func(k offsetKey, _ metadata.CommittedOffset) bool { return k.group == group })
		return nil
	})
}

func (s *memStore) load(group string) []metadata.GroupOffsets {
	byTopic := map[metadata.TopicID]metadata.GroupOffsets{}
	for k, v := range s.offsets {
		if k.group != group {
			continue
		}
		if _, ok := byTopic[k.topic]; !ok {
			byTopic[k.topic] = metadata.GroupOffsets{Group: group, Topic: k.topic, Partitions: map[int32]metadata.CommittedOffset{}}
		}
		byTopic[k.topic].Partitions[k.partition] = v
	}
	return slices.Collect(maps.Values(byTopic))
}

func (s *memStore) LoadAllOffsets(_ context.Context, fn func(metadata.GroupOffsets) error) error {
	return s.do("LoadAllOffsets", "", func() error {
		groups := map[string]bool{}
		for k := range s.offsets {
			groups[k.group] = true
		}
		for group := range groups {
			for _, o := range s.load(group) {
				if err := fn(o); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

func (s *memStore) LoadOffsets(_ context.Context, group string) (out []metadata.GroupOffsets, err error) {
	err = s.do("LoadOffsets", group, func() error { out = s.load(group); return nil })
	return out, err
}

func (s *memStore) CommitOffsets(_ context.Context, offsets []metadata.GroupOffsets) error {
	return s.do("CommitOffsets", "", func() error {
		s.batches = append(s.batches, len(offsets))
		errs := map[int]error{}
		for i, o := range offsets {
			if s.partial != nil {
				if err := s.partial(o); err != nil {
					errs[i] = err
					continue
				}
			}
			for p, v := range o.Partitions {
				s.offsets[offsetKey{o.Group, o.Topic, p}] = v
			}
		}
		if len(errs) > 0 {
			return &metadata.PartialError{Errors: errs}
		}
		return nil
	})
}

func (s *memStore) DeleteOffsets(_ context.Context, offsets []metadata.GroupPartitions) error {
	return s.do("DeleteOffsets", "", func() error {
		for _, o := range offsets {
			for _, p := range o.Partitions {
				delete(s.offsets, offsetKey{o.Group, o.Topic, p})
			}
		}
		return nil
	})
}
