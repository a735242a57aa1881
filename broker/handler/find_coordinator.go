package handler

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemarkmq/tidemark/broker/server"
	"github.com/tidemarkmq/tidemark/broker/wire"
	"github.com/tidemarkmq/tidemark/metadata"
)

// What a coordinator is sought for.
const (
	coordinatorOfGroup       = 0
	coordinatorOfTransaction = 1
)

// findBatched is the FindCoordinator version from which several keys may be asked for.
const findBatched = 4

// findCoordinator answers FindCoordinator (10).
func (b *Broker) findCoordinator(ctx context.Context, _ *server.Conn, h wire.Header, req *kmsg.FindCoordinatorRequest) (kmsg.Response, error) {
	resp := kmsg.NewPtrFindCoordinatorResponse()
	kind := req.CoordinatorType
	if h.Version == 0 {
		kind = coordinatorOfGroup
	}
	if h.Version < findBatched {
		node, err := b.coordinator(ctx, kind, req.CoordinatorKey)
		resp.NodeID, resp.Host, resp.Port = int32(node.ID), node.Host, node.Port
		resp.ErrorCode, resp.ErrorMessage = groupCode(err), kmsg.StringPtr("NONE")
		if err != nil {
			resp.ErrorMessage = &err.Description
		}
		return resp, nil
	}
	for _, key := range req.CoordinatorKeys {
		node, err := b.coordinator(ctx, kind, key)
		out := kmsg.NewFindCoordinatorResponseCoordinator()
		out.Key, out.NodeID, out.Host, out.Port = key, int32(node.ID), node.Host, node.Port
		if err != nil {
			out.ErrorCode, out.ErrorMessage = err.Code, &err.Description
		}
		resp.Coordinators = append(resp.Coordinators, out)
	}
	return resp, nil
}

// coordinator is the owner of the group's shard. Transactions have no coordinator yet, and share groups none that a client may
// ask for: Kafka refuses their key type too where share groups are off.
func (b *Broker) coordinator(ctx context.Context, kind int8, key string) (metadata.Broker, *kerr.Error) {
	nobody := metadata.Broker{ID: metadata.NoBroker, Port: -1}
	switch kind {
	case coordinatorOfGroup:
		return b.groupCoordinator(ctx, key)
	case coordinatorOfTransaction:
		return nobody, kerr.CoordinatorNotAvailable
	default:
		return nobody, kerr.InvalidRequest
	}
}
