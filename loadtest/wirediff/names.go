package main

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// noTopic is the id of topics that do not exist.
var noTopic = [16]byte{0xde, 0xad, 0xbe, 0xef, 15: 1}

// topicID is the id of a topic by its short name, noTopic if it never existed. A deleted topic keeps its id until its name is
// used again.
func (s *side) topicID(short string) [16]byte {
	if id, ok := s.topics[short]; ok {
		return id
	}
	req := kmsg.NewPtrMetadataRequest()
	req.Version, req.AllowAutoTopicCreation = 10, false
	t := kmsg.NewMetadataRequestTopic()
	t.Topic = kmsg.StringPtr(s.full(short))
	req.Topics = append(req.Topics, t)
	resp, err := s.ask(req)
	if err != nil {
		return noTopic
	}
	for _, t := range resp.(*kmsg.MetadataResponse).Topics {
		if t.ErrorCode == 0 || t.TopicID != [16]byte{} {
			s.learnTopic(short, t.TopicID)
			return t.TopicID
		}
	}
	return noTopic
}

// learnTopic keeps the id of a topic that has the name now.
func (s *side) learnTopic(short string, id [16]byte) {
	if id == ([16]byte{}) || s.topics[short] == id {
		return
	}
	s.topics[short] = id
	if _, ok := s.ids[id]; ok {
		return
	}
	generation := 1
	for _, n := range s.ids {
		if n == fmt.Sprintf("id of %s, %d", short, generation) {
			generation++
		}
	}
	s.ids[id] = fmt.Sprintf("id of %s, %d", short, generation)
}

// idName is what an id stands for.
func (s *side) idName(id [16]byte) string {
	switch n, ok := s.ids[id]; {
	case ok:
		return n
	case id == [16]byte{}:
		return "no id"
	case id == noTopic:
		return "id of no topic"
	}
	return "some id"
}

// producer is what a producer's short name stands for: an id that nobody got if it was never initialised.
func (s *side) producer(short string) producer {
	if p, ok := s.producers[short]; ok {
		return p
	}
	return producer{id: 1 << 40}
}

// producerName is the short name of a producer's id.
func (s *side) producerName(id int64) string {
	if id < 0 {
		return fmt.Sprint(id)
	}
	for n, p := range s.producers {
		if p.id == id {
			return n
		}
	}
	return "some producer"
}
