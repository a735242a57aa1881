package consumer

import (
	"bytes"
	"cmp"
	"slices"
)

// The assignors that there are.
const (
	Uniform = "uniform"
	Range   = "range"
)

// subject is a member as an assignor sees it.
type subject struct {
	id         string
	instanceID *string
	topics     []TopicID  // subscribed to and there; ascending
	has        Assignment // by the target before
	gets       Assignment
	load       int
}

func (s *subject) subscribes(topic TopicID) bool {
	_, ok := slices.BinarySearchFunc(s.topics, topic, compareTopics)
	return ok
}

func compareTopics(a, b TopicID) int { return bytes.Compare(a[:], b[:]) }

// assign fills in what the subjects get: every partition of a topic that somebody subscribes to goes to one of its subscribers.
func assign(assignor string, subjects []*subject, partitions map[TopicID]int32) {
	for _, s := range subjects {
		s.gets, s.load = Assignment{}, 0
	}
	if assignor == Range {
		assignRange(subjects, partitions)
		return
	}
	assignUniform(subjects, partitions)
}

// assignRange gives each subscriber of a topic a stretch of its partitions, the longer ones first. Subjects stand in one order for all
// topics, static ones by their instance ids first: so topics with equally many partitions and the same subscribers are divided alike.
func assignRange(subjects []*subject, partitions map[TopicID]int32) {
	order := slices.Clone(subjects)
	slices.SortFunc(order, func(a, b *subject) int {
		switch {
		case a.instanceID != nil && b.instanceID != nil:
			return cmp.Compare(*a.instanceID, *b.instanceID)
		case a.instanceID != nil:
			return -1
		case b.instanceID != nil:
			return 1
		}
		return cmp.Compare(a.id, b.id)
	})
	subscribers := map[TopicID]int32{}
	for _, s := range order {
		for _, t := range s.topics {
			subscribers[t]++
		}
	}
	turns := map[TopicID]int32{}
	for _, s := range order {
		for _, t := range s.topics {
			n, of := partitions[t], subscribers[t]
			turn := turns[t]
			turns[t]++
			share, extra := n/of, n%of
			first := turn*share + min(turn, extra)
			if turn < extra {
				share++
			}
			if share == 0 {
				continue
			}
			stretch := make([]int32, share)
			for i := range stretch {
				stretch[i] = first + int32(i)
			}
			s.gets[t] = stretch
		}
	}
}

// place is one partition.
type place struct {
	topic     TopicID
	partition int32
}

// assignUniform keeps what members have as far as it can, and gives all of them equally many partitions, to one: exactly so if all
// subscribe to the same topics, else as nearly as moves of single partitions get there.
func assignUniform(subjects []*subject, partitions map[TopicID]int32) {
	keep := newKeeper(partitions)
	for _, s := range subjects {
		keep.take(s)
	}
	if sameTopics(subjects) {
		evenOut(subjects, keep)
	} else {
		balance(subjects, keep)
	}
	for _, s := range subjects {
		for _, list := range s.gets {
			slices.Sort(list)
		}
	}
}

func sameTopics(subjects []*subject) bool {
	for _, s := range subjects[min(1, len(subjects)):] {
		if !slices.Equal(s.topics, subjects[0].topics) {
			return false
		}
	}
	return true
}

// keeper knows which partitions are taken.
type keeper struct {
	partitions map[TopicID]int32
	taken      map[place]bool
	wanted     []TopicID // topics with a subscriber, in order of appearance
	seen       map[TopicID]bool
}

func newKeeper(partitions map[TopicID]int32) *keeper {
	return &keeper{partitions: partitions, taken: map[place]bool{}, seen: map[TopicID]bool{}}
}

// take lets a subject keep what it has and still subscribes to.
func (k *keeper) take(s *subject) {
	for _, t := range s.topics {
		if !k.seen[t] {
			k.seen[t] = true
			k.wanted = append(k.wanted, t)
		}
		for _, p := range s.has[t] {
			if at := (place{t, p}); p < k.partitions[t] && !k.taken[at] {
				k.taken[at] = true
				s.gets[t] = append(s.gets[t], p)
				s.load++
			}
		}
	}
}

// free are the partitions that nobody has, in the order of topics.
func (k *keeper) free() (free []place) {
	slices.SortFunc(k.wanted, compareTopics)
	for _, t := range k.wanted {
		for p := range k.partitions[t] {
			if at := (place{t, p}); !k.taken[at] {
				free = append(free, at)
			}
		}
	}
	return free
}

// evenOut gives equal quotas to subjects that all subscribe to the same topics. Those that have most keep the odd partitions.
func evenOut(subjects []*subject, k *keeper) {
	if len(subjects) == 0 {
		return
	}
	free := k.free()
	total := len(free)
	for _, s := range subjects {
		total += s.load
	}
	order := slices.Clone(subjects)
	slices.SortStableFunc(order, func(a, b *subject) int { return cmp.Compare(b.load, a.load) })
	quota, extra := total/len(order), total%len(order)
	quotas := make([]int, len(order))
	for i, s := range order {
		quotas[i] = quota
		if i < extra {
			quotas[i]++
		}
		for _, t := range s.topics {
			list := s.gets[t]
			for s.load > quotas[i] && len(list) > 0 {
				free = append(free, place{t, list[len(list)-1]})
				list = list[:len(list)-1]
				s.load--
			}
			s.put(t, list)
		}
	}
	for i, s := range order {
		for s.load < quotas[i] {
			s.give(free[0])
			free = free[1:]
		}
	}
}

func (s *subject) put(t TopicID, list []int32) {
	if len(list) == 0 {
		delete(s.gets, t)
		return
	}
	s.gets[t] = list
}

func (s *subject) give(at place) {
	s.gets[at.topic] = append(s.gets[at.topic], at.partition)
	s.load++
}
