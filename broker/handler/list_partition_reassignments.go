package handler

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemarkmq/tidemark/broker/server"
	"github.com/tidemarkmq/tidemark/broker/wire"
)

// listPartitionReassignments answers ListPartitionReassignments (46). Partitions move by a change of owner in one
// transaction, so there is never one under way.
func (b *Broker) listPartitionReassignments(context.Context, *server.Conn, wire.Header, *kmsg.ListPartitionReassignmentsRequest) (kmsg.Response, error) {
	return kmsg.NewPtrListPartitionReassignmentsResponse(), nil
}
