package main

import (
	"math/rand/v2"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// step is one request of a sequence, or several that are under way together.
type step struct {
	label string
	calls []call
	// oneByOne sends each call once the one before it is answered, for what belongs together however short a sequence is cut.
	oneByOne bool
}

// call is one request: make builds it for a side (it must give the same request each time but for what that side has named);
// learn, if there is one, keeps what the answer names.
type call struct {
	conn  int // 0 unless others are waiting at the same time
	make  func(s *side) kmsg.Request
	learn func(s *side, resp kmsg.Response)
}

// source draws the requests of one API. Each has a name, a weight and a function that draws one step; it may look at the plan and
// note there what the step should change.
type source struct {
	name   string
	weight int
	draw   func(p *plan) step
}

// plan is what a sequence would have made of the brokers so far, if everything went well.
type plan struct {
	*rand.Rand
	versions map[int16][2]int16 // that both brokers serve
	now      int64              // in milliseconds: records' timestamps are around it

	topics    []*topicPlan
	deleted   []string
	producers []*producerPlan
	sessions  int
}

type topicPlan struct {
	name       string
	partitions int
	records    []int64 // per partition, about how many were written
}

type producerPlan struct {
	name string
	next map[string]int32 // sequence by topic and partition
}

// one makes a step of a single request.
func one(label string, build func(s *side) kmsg.Request, learn func(s *side, resp kmsg.Response)) step {
	return step{label: label, calls: []call{{make: build, learn: learn}}}
}

// version draws one that both serve: mostly any, often the newest.
func (p *plan) version(key int16) int16 {
	r := p.versions[key]
	if p.IntN(3) == 0 {
		return r[1]
	}
	return r[0] + int16(p.IntN(int(r[1]-r[0])+1))
}

// since is version, though none below the one given.
func (p *plan) since(key, lowest int16) int16 {
	return max(p.version(key), min(lowest, p.versions[key][1]))
}

// chance is true once in n.
func (p *plan) chance(n int) bool { return p.IntN(n) == 0 }

func pick[T any](p *plan, from ...T) T { return from[p.IntN(len(from))] }

// topic draws the name of one: usually one that is there.
func (p *plan) topic() *topicPlan {
	if len(p.topics) == 0 || p.chance(25) {
		if len(p.deleted) > 0 && p.chance(2) {
			return &topicPlan{name: pick(p, p.deleted...), partitions: 1, records: make([]int64, 1)}
		}
		return &topicPlan{name: "never", partitions: 1, records: make([]int64, 1)}
	}
	return p.topics[p.IntN(len(p.topics))]
}

// partition draws one of a topic, sometimes one that is not there.
func (p *plan) partition(t *topicPlan) int32 {
	if p.chance(25) {
		return pick(p, int32(t.partitions), 1000, -1)
	}
	return int32(p.IntN(t.partitions))
}

// offset draws one near what was written.
func (p *plan) offset(t *topicPlan, partition int32) int64 {
	n := int64(0)
	if partition >= 0 && int(partition) < len(t.records) {
		n = t.records[partition]
	}
	switch p.IntN(8) {
	case 0:
		return n
	case 1:
		return n + 1 + p.Int64N(5)
	case 2:
		return pick(p, int64(-1), -2, 1<<40)
	}
	return p.Int64N(n + 1)
}
