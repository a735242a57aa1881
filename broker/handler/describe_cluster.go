package handler

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemarkmq/tidemark/broker/server"
	"github.com/tidemarkmq/tidemark/broker/wire"
)

// Kinds of endpoints that a client may want to see (KIP-919).
const (
	endpointBrokers     = 1
	endpointControllers = 2
)

// describeCluster answers DescribeCluster (60). Brokers without a live registration are not known, so none is fenced.
func (b *Broker) describeCluster(ctx context.Context, _ *server.Conn, h wire.Header, req *kmsg.DescribeClusterRequest) (kmsg.Response, error) {
	resp := kmsg.NewPtrDescribeClusterResponse()
	resp.ControllerID = -1
	if h.Version >= 1 {
		if err := checkEndpointType(req.EndpointType); err != nil {
			resp.ErrorCode, resp.ErrorMessage = b.answer(ctx, "DescribeCluster", err)
			return resp, nil
		}
	}
	im := b.Meta.Image()
	resp.ClusterID, resp.ControllerID = im.ClusterID(), int32(im.Controller())
	for _, broker := range im.Brokers() {
		entry := kmsg.NewDescribeClusterResponseBroker()
		entry.NodeID, entry.Host, entry.Port = int32(broker.ID), broker.Host, broker.Port
		if broker.Rack != "" {
			entry.Rack = kmsg.StringPtr(broker.Rack)
		}
		resp.Brokers = append(resp.Brokers, entry)
	}
	if req.IncludeClusterAuthorizedOperations {
		resp.ClusterAuthorizedOperations = clusterOperations
	}
	return resp, nil
}

func checkEndpointType(kind int8) error {
	switch kind {
	case endpointBrokers:
		return nil
	case endpointControllers:
		return refuse(kerr.MismatchedEndpointType, "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER")
	}
	return refuse(kerr.UnsupportedEndpointType, "Unsupported endpoint type %d", kind)
}
