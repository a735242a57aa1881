package handler

import (
	"context"
	"maps"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemarkmq/tidemark/broker/configs"
	"github.com/tidemarkmq/tidemark/broker/server"
	"github.com/tidemarkmq/tidemark/broker/wire"
	"github.com/tidemarkmq/tidemark/metadata"
)

// resource names what configs belong to.
type resource struct {
	kind kmsg.ConfigResourceType
	name string
}

// change computes a resource's new overrides from the old ones, which it must not change.
type change func(old map[string]string) (map[string]string, error)

// alterConfigs answers AlterConfigs (33): the given configs replace all that were set.
func (b *Broker) alterConfigs(ctx context.Context, _ *server.Conn, _ wire.Header, req *kmsg.AlterConfigsRequest) (kmsg.Response, error) {
	resp := kmsg.NewPtrAlterConfigsResponse()
	times := make(map[resource]int, len(req.Resources))
	for _, r := range req.Resources {
		times[resource{r.ResourceType, r.ResourceName}]++
	}
	for _, r := range req.Resources {
		id := resource{r.ResourceType, r.ResourceName}
		err := checkOnce(times[id])
		if err == nil {
			var replacement map[string]string
			if replacement, err = replacementOf(r.Configs); err == nil {
				err = b.alter(ctx, id, req.ValidateOnly, func(map[string]string) (map[string]string, error) { return replacement, nil })
			}
		}
		result := kmsg.NewAlterConfigsResponseResource()
		result.ResourceType, result.ResourceName = r.ResourceType, r.ResourceName
		result.ErrorCode, result.ErrorMessage = b.answer(ctx, "AlterConfigs", err)
		resp.Resources = append(resp.Resources, result)
	}
	return resp, nil
}

func checkOnce(times int) error {
	if times > 1 {
		return invalidRequest("Each resource must appear at most once.")
	}
	return nil
}

func replacementOf(given []kmsg.AlterConfigsRequestResourceConfig) (map[string]string, error) {
	all := make(map[string]string, len(given))
	seen := make(map[string]bool, len(given))
	var nulls []string
	for _, c := range given {
		if seen[c.Name] {
			return nil, invalidRequest("Error due to duplicate config keys")
		}
		seen[c.Name] = true
		if c.Value == nil {
			nulls = append(nulls, c.Name)
			continue
		}
		all[c.Name] = *c.Value
	}
	return all, checkNulls(nulls)
}

func checkNulls(names []string) error {
	if len(names) > 0 {
		return invalidRequest("Null value not supported for : %s", strings.Join(names, ", "))
	}
	return nil
}

// alter applies a change to one resource in Kafka's order of checks (ConfigAdminManager, then ConfigurationControlManager):
// the resource's name, the configs, that the resource exists. Open partitions have the new values on return.
func (b *Broker) alter(ctx context.Context, id resource, validateOnly bool, c change) error {
	ctx, cancel := adminTimeout(ctx, 0) // the requests carry none
	defer cancel()
	switch id.kind {
	case kmsg.ConfigResourceTypeTopic:
		return b.alterTopic(ctx, id.name, validateOnly, c)
	case kmsg.ConfigResourceTypeBroker:
		return b.alterBroker(ctx, id.name, validateOnly, c)
	case kmsg.ConfigResourceTypeBrokerLogger:
		return invalidRequest("Log levels of this broker cannot be changed while it runs.")
	case kmsg.ConfigResourceTypeClientMetrics:
		return invalidRequest("Client metrics subscriptions are not available on this broker.")
	case kmsg.ConfigResourceTypeGroupConfig:
		return invalidRequest("Group configs are not available on this broker.")
	}
	return invalidRequest("Unknown resource type %d", id.kind)
}

func (b *Broker) alterTopic(ctx context.Context, name string, validateOnly bool, c change) error {
	if name == "" {
		return invalidRequest("Default topic resources are not allowed.")
	}
	if err := checkTopicName(name); err != nil {
		return err
	}
	im := b.Meta.Image()
	checked := func(old map[string]string) (map[string]string, error) {
		next, err := c(old)
		if err != nil {
			return nil, err
		}
		return next, b.Configs.ValidateTopic(b.layers(im), next)
	}
	topic, ok := im.Topic(name)
	if !ok {
		if _, err := checked(nil); err != nil {
			return err
		}
		return kerr.UnknownTopicOrPartition
	}
	if validateOnly {
		_, err := checked(topic.Configs)
		return err
	}
	if err := b.Meta.SetTopicConfigs(ctx, topic.ID, checked); err != nil {
		return err
	}
	b.configureTopic(topic.ID)
	b.logger.InfoContext(ctx, "topic configs changed", "topic", name)
	return nil
}

func (b *Broker) alterBroker(ctx context.Context, name string, validateOnly bool, c change) error {
	id := metadata.ClusterDefault
	if name != "" {
		if err := b.checkNodeName(name, "Node id", "expected %d, but received %s"); err != nil {
			return err
		}
		id = b.NodeID
	}
	checked := func(old map[string]string) (map[string]string, error) {
		next, err := c(old)
		if err != nil {
			return nil, err
		}
		if err := b.Configs.ValidateBroker(next, id != metadata.ClusterDefault); err != nil {
			return nil, invalidRequest("%s", err) // Kafka's code here, where topics get INVALID_CONFIG (KAFKA-13609)
		}
		return next, nil
	}
	if validateOnly {
		_, err := checked(b.Meta.Image().BrokerConfigs(id))
		return err
	}
	if err := b.Meta.SetBrokerConfigs(ctx, id, checked); err != nil {
		return err
	}
	b.ConfigureAll()
	b.logger.InfoContext(ctx, "broker configs changed", "broker", name)
	return nil
}

// lookupKey finds a config of a resource in the table.
func (b *Broker) lookupKey(kind kmsg.ConfigResourceType, name string) (*configs.Key, bool) {
	if kind == kmsg.ConfigResourceTypeTopic {
		return b.Configs.TopicKey(name)
	}
	return b.Configs.BrokerKey(name)
}

// withChanges copies overrides so that the old ones stay as they are.
func withChanges(old map[string]string) map[string]string {
	next := make(map[string]string, len(old)+4)
	maps.Copy(next, old)
	return next
}
