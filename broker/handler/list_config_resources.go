package handler

import (
	"context"
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemarkmq/tidemark/broker/server"
	"github.com/tidemarkmq/tidemark/broker/wire"
)

// listConfigResources answers ListConfigResources (74, KIP-1142): the names that DescribeConfigs takes. Version 0 asks for
// client metrics subscriptions only. There are none of those here, and no groups with configs of their own.
func (b *Broker) listConfigResources(_ context.Context, _ *server.Conn, h wire.Header, req *kmsg.ListConfigResourcesRequest) (kmsg.Response, error) {
	resp := kmsg.NewPtrListConfigResourcesResponse()
	if h.Version == 0 {
		return resp, nil
	}
	const (
		topics  = int8(kmsg.ConfigResourceTypeTopic)
		brokers = int8(kmsg.ConfigResourceTypeBroker)
		loggers = int8(kmsg.ConfigResourceTypeBrokerLogger)
		metrics = int8(kmsg.ConfigResourceTypeClientMetrics)
		groups  = int8(kmsg.ConfigResourceTypeGroupConfig)
	)
	all := []int8{topics, brokers, loggers, metrics, groups}
	wanted := req.ResourceTypes
	if len(wanted) == 0 {
		wanted = all
	}
	for _, kind := range wanted {
		if !slices.Contains(all, kind) {
			resp.ErrorCode = kerr.UnsupportedVersion.Code
			return resp, nil
		}
	}
	im := b.Meta.Image()
	add := func(kind int8, name string) {
		entry := kmsg.NewListConfigResourcesResponseConfigResource()
		entry.Name, entry.Type = name, kind
		resp.ConfigResources = append(resp.ConfigResources, entry)
	}
	if slices.Contains(wanted, topics) {
		for t := range im.Topics() {
			add(topics, t.Name)
		}
	}
	for _, broker := range im.Brokers() {
		for _, kind := range []int8{brokers, loggers} {
			if slices.Contains(wanted, kind) {
				add(kind, strconv.Itoa(int(broker.ID)))
			}
		}
	}
	return resp, nil
}
