package consumer

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

func topicN(n int) TopicID { return TopicID{byte(n), byte(n >> 8)} }

func subjectsOf(n int, topics ...int) []*subject {
	var out []*subject
	for i := range n {
		s := &subject{id: fmt.Sprintf("m%02d", i)}
		for _, t := range topics {
			s.topics = append(s.topics, topicN(t))
		}
		slices.SortFunc(s.topics, compareTopics)
		out = append(out, s)
	}
	return out
}

// check tells whether each wanted partition is given once, to a subscriber, and returns the loads.
func check(t *testing.T, subjects []*subject, partitions map[TopicID]int32) []int {
	t.Helper()
	given, wanted := map[place]bool{}, map[place]bool{}
	var loads []int
	for _, s := range subjects {
		n := 0
		for _, topic := range s.topics {
			for p := range partitions[topic] {
				wanted[place{topic, p}] = true
			}
		}
		for topic, list := range s.gets {
			if !s.subscribes(topic) || !slices.IsSorted(list) || len(list) == 0 {
				t.Errorf("%s gets %v of %v", s.id, list, topic)
			}
			for _, p := range list {
				if at := (place{topic, p}); given[at] || !wanted[at] {
					t.Errorf("%v is given twice, or is not there", at)
				} else {
					given[at] = true
				}
			}
			n += len(list)
		}
		loads = append(loads, n)
	}
	if len(given) != len(wanted) {
		t.Errorf("%d partitions of %d are given", len(given), len(wanted))
	}
	return loads
}

func TestRange(t *testing.T) {
	partitions := map[TopicID]int32{topicN(1): 5, topicN(2): 5, topicN(3): 1}
	subjects := subjectsOf(3, 1, 2, 3)
	instance := "a"
	subjects[2].instanceID = &instance // static members come first
	assign(Range, subjects, partitions)
	check(t, subjects, partitions)
	want := []Assignment{
		{topicN(1): {2, 3}, topicN(2): {2, 3}}, {topicN(1): {4}, topicN(2): {4}},
		{topicN(1): {0, 1}, topicN(2): {0, 1}, topicN(3): {0}},
	}
	for i, s := range subjects {
		if !s.gets.equal(want[i]) {
			t.Errorf("%s gets %v, want %v", s.id, s.gets, want[i])
		}
	}
}

func TestUniformIsEvenAndSticky(t *testing.T) {
	partitions := map[TopicID]int32{topicN(1): 7, topicN(2): 4}
	subjects := subjectsOf(3, 1, 2)
	assign(Uniform, subjects, partitions)
	if loads := check(t, subjects, partitions); slices.Max(loads)-slices.Min(loads) > 1 {
		t.Errorf("loads %v", loads)
	}
	before := map[string]Assignment{}
	four := subjectsOf(4, 1, 2)
	for i, s := range subjects {
		before[s.id], four[i].has = s.gets, s.gets
	}
	assign(Uniform, four, partitions)
	if loads := check(t, four, partitions); slices.Max(loads)-slices.Min(loads) > 1 {
		t.Errorf("loads of four %v", loads)
	}
	moved := 0
	for _, s := range four[:3] {
		for topic, list := range s.gets {
			for _, p := range list {
				if !contains(before[s.id][topic], p) {
					moved++
				}
			}
		}
	}
	if moved > 0 {
		t.Errorf("%d partitions moved between members that stay", moved)
	}
}

func TestUniformWithDifferentSubscriptions(t *testing.T) {
	partitions := map[TopicID]int32{topicN(1): 6, topicN(2): 2}
	subjects := append(subjectsOf(1, 1), subjectsOf(2, 1, 2)...)
	subjects[1].id, subjects[2].id = "n1", "n2"
	subjects[1].has = Assignment{topicN(1): {0, 1, 2, 3, 4, 5}, topicN(9): {1}} // a topic that is gone, too
	assign(Uniform, subjects, partitions)
	if loads := check(t, subjects, partitions); slices.Max(loads)-slices.Min(loads) > 1 {
		t.Errorf("loads %v", loads)
	}
}

func FuzzAssign(f *testing.F) {
	f.Add(uint64(1), uint8(3), uint8(2), true)
	f.Add(uint64(7), uint8(9), uint8(5), false)
	f.Fuzz(func(t *testing.T, seed uint64, members, topics uint8, uniform bool) {
		rng := rand.New(rand.NewPCG(seed, 1))
		partitions := map[TopicID]int32{}
		for i := range topics % 12 {
			partitions[topicN(int(i))] = rng.Int32N(20)
		}
		subjects := subjectsOf(int(members % 16))
		same := rng.IntN(2) == 0
		for _, s := range subjects {
			for topic := range partitions {
				if same || rng.IntN(2) == 0 {
					s.topics = append(s.topics, topic)
				}
				s.has = Assignment{topic: {rng.Int32N(20)}} // members may have had the same
			}
			slices.SortFunc(s.topics, compareTopics)
		}
		assignor := Range
		if uniform {
			assignor = Uniform
		}
		assign(assignor, subjects, partitions)
		loads := check(t, subjects, partitions)
		if uniform && same && len(loads) > 0 && slices.Max(loads)-slices.Min(loads) > 1 {
			t.Errorf("loads %v", loads)
		}
	})
}
