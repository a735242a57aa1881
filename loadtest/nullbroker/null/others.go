package null

import (
	"io"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Keys with code of their own.
const (
	keyProduce     = 0
	keyApiVersions = 18
)

// maxOtherBytes bounds requests that are read whole.
const maxOtherBytes = 1 << 20

// served is what is advertised. librdkafka wants to see Produce from v0 and Fetch from an old version on.
var served = []struct{ key, lo, hi int16 }{
	{keyProduce, 0, 13}, {1, 4, 17}, {2, 1, 10}, {3, 0, 13}, {10, 0, 6}, {keyApiVersions, 0, 4}, {19, 0, 7}, {20, 0, 6}, {22, 0, 5},
}

// other answers everything but Produce, with kmsg.
func (c *conn) other(key, version int16, correlation uint32) {
	if c.remaining > maxOtherBytes {
		c.err = errProtocol
		return
	}
	body := make([]byte, c.remaining)
	n := copy(body, c.in[c.from:c.to])
	c.from += n
	if _, err := io.ReadFull(c.nc, body[n:]); err != nil {
		c.err = err
		return
	}
	c.remaining = 0
	req := kmsg.RequestForKey(key)
	if req == nil {
		c.err = errProtocol
		return
	}
	req.SetVersion(version)
	if key == keyApiVersions && version > 4 { // in v0: come again with a version that is known
		req.SetVersion(0)
		resp := c.apiVersions(req.ResponseKind().(*kmsg.ApiVersionsResponse))
		resp.ErrorCode = 35
		c.append(resp, correlation)
		return
	}
	if len(body) < 2 {
		c.err = errProtocol
		return
	}
	at := 2
	if n := int(int16(be.Uint16(body))); n > 0 {
		at += n
	}
	if req.IsFlexible() {
		at++ // no client sends tagged fields in the header
	}
	if at > len(body) {
		c.err = errProtocol
		return
	}
	if c.err = req.ReadFrom(body[at:]); c.err != nil {
		return
	}
	if fetch, ok := req.(*kmsg.FetchRequest); ok {
		c.fetch(fetch, correlation)
		return
	}
	if resp := c.answer(req); resp != nil {
		c.append(resp, correlation)
	} else {
		c.err = errProtocol
	}
}

// append adds a kmsg answer to what is to be written.
func (c *conn) append(resp kmsg.Response, correlation uint32) {
	at := len(c.out)
	c.out = append(c.out, 0, 0, 0, 0)
	c.out = be.AppendUint32(c.out, correlation)
	if resp.IsFlexible() && resp.Key() != keyApiVersions {
		c.out = append(c.out, 0)
	}
	c.out = resp.AppendTo(c.out)
	be.PutUint32(c.out[at:], uint32(len(c.out)-at-4))
}

func (c *conn) answer(req kmsg.Request) kmsg.Response {
	resp := req.ResponseKind()
	switch req := req.(type) {
	case *kmsg.ApiVersionsRequest:
		return c.apiVersions(resp.(*kmsg.ApiVersionsResponse))
	case *kmsg.MetadataRequest:
		return c.metadata(req, resp.(*kmsg.MetadataResponse))
	case *kmsg.InitProducerIDRequest:
		r := resp.(*kmsg.InitProducerIDResponse)
		r.ProducerID, r.ProducerEpoch = c.b.producerID.Add(1), 0
		return r
	case *kmsg.ListOffsetsRequest:
		return c.listOffsets(req, resp.(*kmsg.ListOffsetsResponse))
	case *kmsg.FindCoordinatorRequest:
		r := resp.(*kmsg.FindCoordinatorResponse)
		r.Host, r.Port = hostPort(c.nc.LocalAddr())
		for _, key := range req.CoordinatorKeys {
			k := kmsg.NewFindCoordinatorResponseCoordinator()
			k.Key, k.Host, k.Port = key, r.Host, r.Port
			r.Coordinators = append(r.Coordinators, k)
		}
		return r
	case *kmsg.CreateTopicsRequest:
		return c.createTopics(req, resp.(*kmsg.CreateTopicsResponse))
	case *kmsg.DeleteTopicsRequest:
		return c.deleteTopics(req, resp.(*kmsg.DeleteTopicsResponse))
	}
	return nil
}

// createTopics gives topics the partitions that are asked for. One that exists already has those that it was met with.
func (c *conn) createTopics(req *kmsg.CreateTopicsRequest, resp *kmsg.CreateTopicsResponse) kmsg.Response {
	for _, rt := range req.Topics {
		r := kmsg.NewCreateTopicsResponseTopic()
		r.Topic, r.NumPartitions, r.ReplicationFactor = rt.Topic, rt.NumPartitions, 1
		if rt.NumPartitions > maxPartitions {
			r.ErrorCode = 37 // INVALID_PARTITIONS
		} else if t := c.b.create(rt.Topic, int(rt.NumPartitions)); t != nil {
			r.TopicID, r.NumPartitions = t.id, int32(len(t.next))
		} else {
			r.ErrorCode = 44 // POLICY_VIOLATION: too many topics
		}
		resp.Topics = append(resp.Topics, r)
	}
	return resp
}

func (c *conn) deleteTopics(req *kmsg.DeleteTopicsRequest, resp *kmsg.DeleteTopicsResponse) kmsg.Response {
	names := append([]string(nil), req.TopicNames...)
	for _, rt := range req.Topics {
		if rt.Topic != nil {
			names = append(names, *rt.Topic)
		} else if t := c.b.topicByID(rt.TopicID); t != nil {
			names = append(names, t.name)
		}
	}
	for _, name := range names {
		r := kmsg.NewDeleteTopicsResponseTopic()
		r.Topic = kmsg.StringPtr(name)
		c.b.forget(name)
		resp.Topics = append(resp.Topics, r)
	}
	return resp
}

func (c *conn) apiVersions(resp *kmsg.ApiVersionsResponse) *kmsg.ApiVersionsResponse {
	for _, s := range served {
		k := kmsg.NewApiVersionsResponseApiKey()
		k.ApiKey, k.MinVersion, k.MaxVersion = s.key, s.lo, s.hi
		resp.ApiKeys = append(resp.ApiKeys, k)
	}
	return resp
}

func (c *conn) metadata(req *kmsg.MetadataRequest, resp *kmsg.MetadataResponse) *kmsg.MetadataResponse {
	b := kmsg.NewMetadataResponseBroker()
	b.Host, b.Port = hostPort(c.nc.LocalAddr())
	resp.Brokers = append(resp.Brokers, b)
	resp.ClusterID = kmsg.StringPtr("nullbroker")
	resp.ControllerID = 0
	var topics []*topic
	if req.Topics == nil {
		c.b.mu.RLock()
		for _, t := range c.b.byName {
			topics = append(topics, t)
		}
		c.b.mu.RUnlock()
	}
	for _, rt := range req.Topics {
		if rt.Topic != nil {
			topics = append(topics, c.b.topic(*rt.Topic))
		} else {
			topics = append(topics, c.b.topicByID(rt.TopicID))
		}
	}
	for _, t := range topics {
		mt := kmsg.NewMetadataResponseTopic()
		if t == nil {
			mt.Topic, mt.ErrorCode = kmsg.StringPtr(""), 3
			resp.Topics = append(resp.Topics, mt)
			continue
		}
		mt.Topic, mt.TopicID = &t.name, t.id
		for i := range t.next {
			p := kmsg.NewMetadataResponseTopicPartition()
			p.Partition, p.LeaderEpoch, p.Replicas, p.ISR = int32(i), 0, []int32{0}, []int32{0}
			mt.Partitions = append(mt.Partitions, p)
		}
		resp.Topics = append(resp.Topics, mt)
	}
	return resp
}

func (c *conn) listOffsets(req *kmsg.ListOffsetsRequest, resp *kmsg.ListOffsetsResponse) *kmsg.ListOffsetsResponse {
	for _, t := range req.Topics {
		rt := kmsg.NewListOffsetsResponseTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			rp := kmsg.NewListOffsetsResponseTopicPartition()
			rp.Partition, rp.LeaderEpoch, rp.Offset = p.Partition, 0, 0
			if p.Timestamp == -1 {
				rp.Offset = c.b.opts.EndOffset
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}
