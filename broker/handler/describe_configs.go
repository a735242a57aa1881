package handler

import (
	"context"
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemarkmq/tidemark/broker/configs"
	"github.com/tidemarkmq/tidemark/broker/server"
	"github.com/tidemarkmq/tidemark/broker/wire"
	"github.com/tidemarkmq/tidemark/metadata"
)

// describeConfigs answers DescribeConfigs (32).
func (b *Broker) describeConfigs(ctx context.Context, _ *server.Conn, h wire.Header, req *kmsg.DescribeConfigsRequest) (kmsg.Response, error) {
	resp := kmsg.NewPtrDescribeConfigsResponse()
	for _, r := range req.Resources {
		result := kmsg.NewDescribeConfigsResponseResource()
		result.ResourceType, result.ResourceName = r.ResourceType, r.ResourceName
		entries, err := b.describeResource(r.ResourceType, r.ResourceName)
		result.ErrorCode, result.ErrorMessage = b.answer(ctx, "DescribeConfigs", err)
		if err == nil {
			result.ErrorMessage = kmsg.StringPtr("") // as Kafka has it: empty, not null
		}
		for _, e := range entries {
			if len(r.ConfigNames) > 0 && !slices.Contains(r.ConfigNames, e.Key.Name) {
				continue
			}
			result.Configs = append(result.Configs, encodeConfig(e, h.Version, req))
		}
		resp.Resources = append(resp.Resources, result)
	}
	return resp, nil
}

// describeResource lists the configs of one resource. Resources that hold nothing here (a broker's loggers, client metrics
// subscriptions, groups) are answered with an empty list, so that tools which list everything go on.
func (b *Broker) describeResource(kind kmsg.ConfigResourceType, name string) ([]configs.Entry, error) {
	im := b.Meta.Image()
	layers := b.layers(im)
	switch kind {
	case kmsg.ConfigResourceTypeTopic:
		if err := checkTopicName(name); err != nil {
			return nil, err
		}
		topic, ok := im.Topic(name)
		if !ok {
			return nil, kerr.UnknownTopicOrPartition
		}
		return b.Configs.DescribeTopic(layers, topic.Configs), nil
	case kmsg.ConfigResourceTypeBroker:
		if name == "" {
			return b.Configs.DescribeCluster(layers.Cluster), nil
		}
		if err := b.checkNodeName(name, "Broker id", "expected %d or empty string, but received %s"); err != nil {
			return nil, err
		}
		return b.Configs.DescribeBroker(layers), nil
	case kmsg.ConfigResourceTypeBrokerLogger:
		if name == "" {
			return nil, invalidRequest("Broker id must not be empty")
		}
		return nil, b.checkNodeName(name, "Broker id", "expected %d but received %s")
	case kmsg.ConfigResourceTypeClientMetrics:
		if name == "" {
			return nil, invalidRequest("Client metrics subscription name must not be empty")
		}
		return nil, nil
	case kmsg.ConfigResourceTypeGroupConfig:
		if name == "" {
			return nil, invalidRequest("Group name must not be empty")
		}
		return nil, nil
	}
	return nil, invalidRequest("Unsupported resource type: %d", kind)
}

// checkNodeName refuses a broker resource that is not this broker: only it knows its own values.
func (b *Broker) checkNodeName(name, what, expected string) error {
	id, err := strconv.ParseInt(name, 10, 32)
	if err != nil {
		return invalidRequest("%s must be an integer, but it is: %s", what, name)
	}
	if metadata.BrokerID(id) != b.NodeID {
		return invalidRequest("Unexpected broker id, "+expected, b.NodeID, name)
	}
	return nil
}

func encodeConfig(e configs.Entry, version int16, req *kmsg.DescribeConfigsRequest) kmsg.DescribeConfigsResponseResourceConfig {
	c := kmsg.NewDescribeConfigsResponseResourceConfig()
	c.Name, c.Value, c.ReadOnly = e.Key.Name, nullable(e.Value), e.ReadOnly
	c.Source, c.IsDefault = kmsg.ConfigSource(e.Source), e.Source == configs.SourceDefault
	c.IsSensitive = e.Key.Sensitive()
	if req.IncludeSynonyms {
		for _, s := range e.Synonyms {
			synonym := kmsg.NewDescribeConfigsResponseResourceConfigConfigSynonym()
			synonym.Name, synonym.Value, synonym.Source = s.Name, nullable(s.Value), kmsg.ConfigSource(s.Source)
			c.ConfigSynonyms = append(c.ConfigSynonyms, synonym)
		}
	}
	if version >= 3 {
		c.ConfigType = kmsg.ConfigType(e.Key.Type)
		if req.IncludeDocumentation {
			c.Documentation = &e.Key.Doc
		}
	}
	return c
}
