package main

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func adminSources() []source {
	return []source{
		{"IncrementalAlterConfigs", 5, drawIncrementalAlterConfigs},
		{"AlterConfigs", 2, drawAlterConfigs},
		{"DescribeConfigs", 5, drawDescribeConfigs},
		{"DescribeCluster", 1, drawDescribeCluster},
		{"ApiVersions", 2, drawApiVersions},
		{"ListPartitionReassignments", 1, drawListPartitionReassignments},
		{"DescribeLogDirs", 1, drawDescribeLogDirs},
	}
}

const topicResource = kmsg.ConfigResourceTypeTopic

func drawIncrementalAlterConfigs(p *plan) step {
	v, t, validate := p.version(44), p.topic(), p.chance(4)
	type change struct {
		name, value string
		null        bool
		op          kmsg.IncrementalAlterConfigOp
	}
	var all []change
	for range 1 + p.IntN(2) {
		c := configChoices[p.IntN(len(configChoices))]
		op := pick(p, kmsg.IncrementalAlterConfigOpSet, kmsg.IncrementalAlterConfigOpSet, kmsg.IncrementalAlterConfigOpDelete, kmsg.IncrementalAlterConfigOpAppend, kmsg.IncrementalAlterConfigOpSubtract, 9)
		if c[0] == "cleanup.policy" { // compacted topics want keys, which not all batches have
			op = pick(p, op, kmsg.IncrementalAlterConfigOpAppend, kmsg.IncrementalAlterConfigOpSubtract)
		}
		if len(all) > 0 && (op == 9 || all[0].op == 9) { // of two mistakes, each broker may say another
			op = all[0].op
		}
		all = append(all, change{c[0], c[1], p.chance(15), op})
	}
	return one("IncrementalAlterConfigs", func(s *side) kmsg.Request {
		req := kmsg.NewPtrIncrementalAlterConfigsRequest()
		req.Version, req.ValidateOnly = v, validate
		r := kmsg.NewIncrementalAlterConfigsRequestResource()
		r.ResourceType, r.ResourceName = topicResource, s.full(t.name)
		for _, c := range all {
			k := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
			k.Name, k.Op = c.name, c.op
			if !c.null {
				k.Value = kmsg.StringPtr(c.value)
			}
			r.Configs = append(r.Configs, k)
		}
		req.Resources = append(req.Resources, r)
		return req
	}, nil)
}

func drawAlterConfigs(p *plan) step {
	v, t, validate := p.version(33), p.topic(), p.chance(4)
	var all [][2]string
	for range p.IntN(3) {
		all = append(all, configChoices[p.IntN(len(configChoices))])
	}
	return one("AlterConfigs", func(s *side) kmsg.Request {
		req := kmsg.NewPtrAlterConfigsRequest()
		req.Version, req.ValidateOnly = v, validate
		r := kmsg.NewAlterConfigsRequestResource()
		r.ResourceType, r.ResourceName = topicResource, s.full(t.name)
		for _, c := range all {
			k := kmsg.NewAlterConfigsRequestResourceConfig()
			k.Name, k.Value = c[0], kmsg.StringPtr(c[1])
			r.Configs = append(r.Configs, k)
		}
		req.Resources = append(req.Resources, r)
		return req
	}, nil)
}

func drawDescribeConfigs(p *plan) step {
	v, t, synonyms, docs := p.version(32), p.topic(), p.chance(2), p.chance(4)
	kind, name, some := topicResource, t.name, []string(nil)
	switch p.IntN(8) {
	case 0:
		kind, name = pick(p, kmsg.ConfigResourceTypeBroker, kmsg.ConfigResourceType(99), kmsg.ConfigResourceTypeTopic), pick(p, "!7", "!", "!x")
	case 1, 2:
		some = []string{configChoices[p.IntN(len(configChoices))][0], configChoices[p.IntN(len(configChoices))][0]}
	}
	return one("DescribeConfigs", func(s *side) kmsg.Request {
		req := kmsg.NewPtrDescribeConfigsRequest()
		req.Version, req.IncludeSynonyms, req.IncludeDocumentation = v, synonyms, docs
		r := kmsg.NewDescribeConfigsRequestResource()
		r.ResourceType, r.ResourceName, r.ConfigNames = kind, s.full(name), some
		req.Resources = append(req.Resources, r)
		return req
	}, nil)
}

func drawDescribeCluster(p *plan) step {
	v, ops, kind := p.version(60), p.chance(2), pick(p, int8(1), 1, 1, 2, 3)
	return one("DescribeCluster", func(*side) kmsg.Request {
		req := kmsg.NewPtrDescribeClusterRequest()
		req.Version, req.IncludeClusterAuthorizedOperations, req.EndpointType = v, ops, kind
		return req
	}, nil)
}

// drawApiVersions asks for versions that are served, beyond what is, and with software names that must be refused.
func drawApiVersions(p *plan) step {
	v, name := pick(p, int16(0), 1, 2, 3, 4), pick(p, "wirediff", "wirediff", "", "no spaces allowed")
	return one(fmt.Sprintf("ApiVersions %d", v), func(*side) kmsg.Request {
		req := kmsg.NewPtrApiVersionsRequest()
		req.Version, req.ClientSoftwareName, req.ClientSoftwareVersion = v, name, "1"
		return req
	}, nil)
}

func drawListPartitionReassignments(p *plan) step {
	v, t := p.version(46), p.topic()
	return one("ListPartitionReassignments", func(s *side) kmsg.Request {
		req := kmsg.NewPtrListPartitionReassignmentsRequest()
		req.Version, req.TimeoutMillis = v, 5000
		one := kmsg.NewListPartitionReassignmentsRequestTopic()
		one.Topic, one.Partitions = s.full(t.name), []int32{0}
		req.Topics = append(req.Topics, one)
		return req
	}, nil)
}

func drawDescribeLogDirs(p *plan) step {
	v, t := p.version(35), p.topic()
	return one("DescribeLogDirs", func(s *side) kmsg.Request {
		req := kmsg.NewPtrDescribeLogDirsRequest()
		req.Version = v
		one := kmsg.NewDescribeLogDirsRequestTopic()
		one.Topic, one.Partitions = s.full(t.name), []int32{0}
		req.Topics = append(req.Topics, one)
		return req
	}, nil)
}
