package handler

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemarkmq/tidemark/broker/group/classic"
	"github.com/tidemarkmq/tidemark/broker/server"
	"github.com/tidemarkmq/tidemark/broker/wire"
)

// syncNamesProtocol is the SyncGroup version from which the protocol and its type must be given (KIP-559).
const syncNamesProtocol = 5

// syncGroup answers SyncGroup (14). It blocks until the leader's assignment is durable.
func (b *Broker) syncGroup(ctx context.Context, _ *server.Conn, h wire.Header, req *kmsg.SyncGroupRequest) (kmsg.Response, error) {
	resp := kmsg.NewPtrSyncGroupResponse()
	if h.Version >= syncNamesProtocol && (req.ProtocolType == nil || req.Protocol == nil) {
		resp.ErrorCode = kerr.InconsistentGroupProtocol.Code
		return resp, nil
	}
	r := classic.SyncRequest{
		Generation: req.Generation, MemberID: req.MemberID, InstanceID: req.InstanceID,
		ProtocolType: req.ProtocolType, Protocol: req.Protocol,
	}
	if len(req.GroupAssignment) > 0 {
		r.Assignments = make(map[string][]byte, len(req.GroupAssignment))
		for _, a := range req.GroupAssignment {
			r.Assignments[a.MemberID] = a.MemberAssignment
		}
	}
	reply := b.Groups.Sync(ctx, req.Group, r)
	resp.ErrorCode, resp.MemberAssignment = groupCode(reply.Err), reply.Assignment
	if reply.Err == nil {
		resp.ProtocolType, resp.Protocol = &reply.ProtocolType, &reply.Protocol
	}
	return resp, nil
}
