package main

import (
	"fmt"
	"strconv"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// configChoices are names of topic configs with values good and bad. compression.type=zstd is not among them: before Fetch v10 Tidemark
// refuses such topics, Kafka 4 does not.
var configChoices = [][2]string{
	{"retention.ms", "600000"}, {"retention.ms", "-1"}, {"retention.ms", "-2"}, {"retention.ms", "soon"}, {"retention.bytes", "1000000"}, {"retention.bytes", "-1"},
	{"cleanup.policy", "compact"}, {"cleanup.policy", "delete"}, {"cleanup.policy", "compact,delete"}, {"cleanup.policy", "shred"}, {"cleanup.policy", ""},
	{"compression.type", "gzip"}, {"compression.type", "producer"}, {"compression.type", "uncompressed"}, {"compression.type", "rar"},
	{"message.timestamp.type", "LogAppendTime"}, {"message.timestamp.type", "CreateTime"}, {"message.timestamp.type", "Sometimes"},
	{"message.timestamp.before.max.ms", "3600000"}, {"message.timestamp.after.max.ms", "3600000"}, {"max.message.bytes", "2000"}, {"max.message.bytes", "-5"},
	{"segment.bytes", "1048576"}, {"segment.bytes", "1"}, {"min.insync.replicas", "1"}, {"min.insync.replicas", "0"}, {"min.insync.replicas", "2"},
	{"flush.messages", "1"}, {"flush.ms", "5"}, {"delete.retention.ms", "1000"}, {"min.cleanable.dirty.ratio", "0.1"}, {"min.cleanable.dirty.ratio", "1.5"},
	{"min.compaction.lag.ms", "10"}, {"max.compaction.lag.ms", "0"}, {"max.compaction.lag.ms", "5"}, {"file.delete.delay.ms", "60000"}, {"index.interval.bytes", "4096"},
	{"preallocate", "true"}, {"preallocate", "perhaps"}, {"preallocate", "TRUE"}, {"segment.ms", "1000"}, {"segment.jitter.ms", "7"},
	{"unclean.leader.election.enable", "true"}, {"remote.storage.enable", "false"}, {"local.retention.ms", "-2"}, {"local.retention.ms", "5"},
	{"leader.replication.throttled.replicas", "0:1"}, {"leader.replication.throttled.replicas", "*"}, {"leader.replication.throttled.replicas", "x"},
	{"no.such.config", "1"}, {"", "1"}, {"num.partitions", "3"}, {"message.format.version", "3.0"}, {"retention.ms", " 600000 "}, {"retention.ms", "99999999999999999999"},
}

func topicSources() []source {
	return []source{
		{"CreateTopics", 8, drawCreateTopics},
		{"DeleteTopics", 2, drawDeleteTopics},
		{"CreatePartitions", 3, drawCreatePartitions},
		{"Metadata", 5, drawMetadata},
		{"DescribeTopicPartitions", 2, drawDescribeTopicPartitions},
	}
}

var badNames = []string{"!", "!.", "!..", "!a b", "!ä", "!x/y", "!__consumer_offsets", "!" + longName}

var longName = func() string {
	b := make([]byte, 250)
	for i := range b {
		b[i] = 'n'
	}
	return string(b)
}()

// wanted is a topic in a CreateTopics request.
type wanted struct {
	name       string
	partitions int32
	factor     int16
	assign     [][]int32
	configs    [][2]string
}

func drawCreateTopics(p *plan) step {
	v := p.version(19)
	validate := p.chance(6)
	var all []wanted
	for range 1 + p.IntN(2) {
		w := p.drawWanted()
		if len(p.deleted) > 0 && p.chance(3) {
			w.name = pick(p, p.deleted...)
		}
		all = append(all, w)
		if n := int(w.partitions); !validate && w.name[0] != '!' && w.factor == 1 {
			p.noteTopic(w.name, max(1, n))
		}
	}
	if p.chance(15) {
		all = append(all, all[0])
	}
	return one("CreateTopics", func(s *side) kmsg.Request {
		req := kmsg.NewPtrCreateTopicsRequest()
		req.Version, req.ValidateOnly, req.TimeoutMillis = v, validate, 10000
		for _, w := range all {
			t := kmsg.NewCreateTopicsRequestTopic()
			t.Topic, t.NumPartitions, t.ReplicationFactor = s.full(w.name), w.partitions, w.factor
			for i, replicas := range w.assign {
				a := kmsg.NewCreateTopicsRequestTopicReplicaAssignment()
				a.Partition, a.Replicas = int32(i), replicas
				t.ReplicaAssignment = append(t.ReplicaAssignment, a)
			}
			for _, c := range w.configs {
				k := kmsg.NewCreateTopicsRequestTopicConfig()
				k.Name, k.Value = c[0], kmsg.StringPtr(c[1])
				t.Configs = append(t.Configs, k)
			}
			req.Topics = append(req.Topics, t)
		}
		return req
	}, func(s *side, resp kmsg.Response) {
		for _, t := range resp.(*kmsg.CreateTopicsResponse).Topics {
			short := s.short(t.Topic)
			if t.ErrorCode == 0 && !validate {
				delete(s.topics, short)
				s.learnTopic(short, t.TopicID)
				for _, w := range all {
					for n := int32(0); w.name == short && n < max(1, w.partitions, int32(len(w.assign))); n++ {
						s.awaitPartition(short, n)
					}
				}
			}
		}
	})
}

// drawWanted is a topic that may be created, or one with a mistake.
func (p *plan) drawWanted() wanted {
	w := wanted{name: "t" + strconv.Itoa(p.IntN(12)), partitions: int32(1 + p.IntN(3)), factor: 1}
	switch p.IntN(12) {
	case 0:
		w.name = pick(p, badNames...)
	case 1:
		w.partitions = pick(p, int32(-1), 0, -2)
	case 2:
		w.factor = pick(p, int16(-1), 0, -2) // not 2, which one broker of Kafka refuses and Tidemark has no use for
	case 3:
		w.partitions, w.factor = -1, -1
	case 4:
		w.partitions, w.factor = pick(p, int32(-1), -1, 2), -1
		w.assign = pick(p, [][]int32{{1}, {1}}, [][]int32{{1}}, [][]int32{{2}}, [][]int32{{1, 1}}, [][]int32{{}}, [][]int32{{1}, {}})
	case 5, 6, 7:
		for range 1 + p.IntN(2) {
			w.configs = append(w.configs, configChoices[p.IntN(len(configChoices))])
		}
	}
	return w
}

func (p *plan) noteTopic(name string, partitions int) {
	for _, t := range p.topics {
		if t.name == name {
			return
		}
	}
	p.topics = append(p.topics, &topicPlan{name: name, partitions: partitions, records: make([]int64, partitions)})
}

func drawDeleteTopics(p *plan) step {
	v, t, byID := p.version(20), p.topic(), p.chance(2)
	twice := p.chance(12)
	for i, have := range p.topics {
		if have == t {
			p.topics = append(p.topics[:i:i], p.topics[i+1:]...)
			p.deleted = append(p.deleted, t.name)
			break
		}
	}
	return one("DeleteTopics", func(s *side) kmsg.Request {
		req := kmsg.NewPtrDeleteTopicsRequest()
		req.Version, req.TimeoutMillis = v, 10000
		id := s.topicID(t.name) // learned also where it is not said
		req.TopicNames = []string{s.full(t.name)}
		one := kmsg.NewDeleteTopicsRequestTopic()
		if byID {
			one.TopicID = id
		} else {
			one.Topic = kmsg.StringPtr(s.full(t.name))
		}
		req.Topics = append(req.Topics, one)
		if twice {
			req.TopicNames, req.Topics = append(req.TopicNames, req.TopicNames...), append(req.Topics, one)
		}
		return req
	}, func(s *side, resp kmsg.Response) {
		for _, d := range resp.(*kmsg.DeleteTopicsResponse).Topics {
			if d.ErrorCode == 0 {
				s.awaitGone(t.name)
			}
		}
	})
}

func drawCreatePartitions(p *plan) step {
	v, t, validate := p.version(37), p.topic(), p.chance(4)
	count := int32(t.partitions) + pick(p, int32(0), 1, 1, 1, 2, -1)
	var assign [][]int32
	if p.chance(4) {
		assign = pick(p, [][]int32{{1}}, [][]int32{{1}, {1}}, [][]int32{{7}}, [][]int32{{}})
	}
	if !validate && assign == nil && int(count) > t.partitions {
		t.partitions = int(count)
		for len(t.records) < t.partitions {
			t.records = append(t.records, 0)
		}
	}
	return one("CreatePartitions", func(s *side) kmsg.Request {
		req := kmsg.NewPtrCreatePartitionsRequest()
		req.Version, req.ValidateOnly, req.TimeoutMillis = v, validate, 10000
		one := kmsg.NewCreatePartitionsRequestTopic()
		one.Topic, one.Count = s.full(t.name), count
		for _, replicas := range assign {
			a := kmsg.NewCreatePartitionsRequestTopicAssignment()
			a.Replicas = replicas
			one.Assignment = append(one.Assignment, a)
		}
		req.Topics = append(req.Topics, one)
		return req
	}, func(s *side, resp kmsg.Response) {
		for _, c := range resp.(*kmsg.CreatePartitionsResponse).Topics {
			if c.ErrorCode == 0 && !validate {
				s.awaitPartition(t.name, count-1)
			}
		}
	})
}

func drawMetadata(p *plan) step {
	v, t, create, byID := p.version(3), p.topic(), p.chance(8), p.chance(3)
	if create {
		t = &topicPlan{name: pick(p, "auto"+fmt.Sprint(p.IntN(3)), "!a b", "!"), partitions: 1, records: make([]int64, 1)}
	}
	bits := p.IntN(4)
	if v < 4 && !create { // these create without being asked
		v = max(v, min(4, p.versions[3][1]))
	}
	return one("Metadata", func(s *side) kmsg.Request {
		req := kmsg.NewPtrMetadataRequest()
		req.Version, req.AllowAutoTopicCreation = v, create
		req.IncludeClusterAuthorizedOperations, req.IncludeTopicAuthorizedOperations = bits&1 > 0, bits&2 > 0
		one := kmsg.NewMetadataRequestTopic()
		if v >= 12 && byID && !create {
			one.TopicID = s.topicID(t.name)
		} else {
			one.Topic = kmsg.StringPtr(s.full(t.name))
		}
		req.Topics = append(req.Topics, one)
		return req
	}, func(s *side, resp kmsg.Response) {
		if create && t.name[0] != '!' {
			s.awaitPartition(t.name, 0)
			return
		}
		for _, t := range resp.(*kmsg.MetadataResponse).Topics {
			if t.Topic != nil && t.ErrorCode == 0 {
				s.learnTopic(s.short(*t.Topic), t.TopicID)
			}
		}
	})
}

func drawDescribeTopicPartitions(p *plan) step {
	v, t, limit := p.version(75), p.topic(), pick(p, int32(2000), 1, 2, 0)
	other := p.topic()
	cursor, at := p.chance(4), p.partition(t)
	return one("DescribeTopicPartitions", func(s *side) kmsg.Request {
		req := kmsg.NewPtrDescribeTopicPartitionsRequest()
		req.Version, req.ResponsePartitionLimit = v, limit
		for _, name := range []string{t.name, other.name} {
			one := kmsg.NewDescribeTopicPartitionsRequestTopic()
			one.Topic = s.full(name)
			req.Topics = append(req.Topics, one)
			s.topicID(name)
		}
		if cursor {
			req.Cursor = &kmsg.DescribeTopicPartitionsRequestCursor{Topic: s.full(t.name), Partition: at}
		}
		return req
	}, nil)
}
