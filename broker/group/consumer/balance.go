package consumer

import "slices"

// maxRounds bounds the search for moves that make the loads more equal.
const maxRounds = 16

// balance assigns to subjects that subscribe to different topics: what is free goes to the subscriber with least, topics with few
// subscribers first, then single partitions move from subscribers with more to those with less while that makes them more equal.
func balance(subjects []*subject, k *keeper) {
	subscribers := map[TopicID][]*subject{}
	for _, s := range subjects {
		for _, t := range s.topics {
			subscribers[t] = append(subscribers[t], s)
		}
	}
	free := k.free()
	slices.SortStableFunc(free, func(a, b place) int { return len(subscribers[a.topic]) - len(subscribers[b.topic]) })
	for _, at := range free {
		least(subscribers[at.topic]).give(at)
	}
	for range maxRounds {
		moved := false
		for _, t := range k.wanted {
			moved = even(t, subscribers[t]) || moved
		}
		if !moved {
			return
		}
	}
}

func least(subjects []*subject) *subject {
	best := subjects[0]
	for _, s := range subjects[1:] {
		if s.load < best.load {
			best = s
		}
	}
	return best
}

// even moves partitions of one topic as long as that makes the loads of its subscribers more equal.
func even(t TopicID, subjects []*subject) (moved bool) {
	for {
		var most *subject
		for _, s := range subjects {
			if len(s.gets[t]) > 0 && (most == nil || s.load > most.load) {
				most = s
			}
		}
		if most == nil {
			return moved
		}
		to := least(subjects)
		if most.load-to.load < 2 {
			return moved
		}
		list := most.gets[t]
		to.give(place{t, list[len(list)-1]})
		most.put(t, list[:len(list)-1])
		most.load--
		moved = true
	}
}
