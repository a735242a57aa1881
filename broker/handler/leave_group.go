package handler

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemarkmq/tidemark/broker/group/classic"
	"github.com/tidemarkmq/tidemark/broker/server"
	"github.com/tidemarkmq/tidemark/broker/wire"
)

// leaveBatched is the LeaveGroup version from which several members may leave with one request (KIP-345).
const leaveBatched = 3

// leaveGroup answers LeaveGroup (13).
func (b *Broker) leaveGroup(ctx context.Context, _ *server.Conn, h wire.Header, req *kmsg.LeaveGroupRequest) (kmsg.Response, error) {
	var leavers []classic.Leaver
	if h.Version < leaveBatched {
		leavers = []classic.Leaver{{MemberID: req.MemberID}}
	}
	for _, m := range req.Members {
		l := classic.Leaver{MemberID: m.MemberID, InstanceID: m.InstanceID}
		if m.Reason != nil {
			l.Reason = *m.Reason
		}
		leavers = append(leavers, l)
	}
	errs, err := b.Groups.Leave(ctx, req.Group, leavers)
	resp := kmsg.NewPtrLeaveGroupResponse()
	resp.ErrorCode = groupCode(err)
	if err != nil {
		return resp, nil
	}
	if h.Version < leaveBatched {
		resp.ErrorCode = groupCode(errs[0])
		return resp, nil
	}
	for i, err := range errs {
		member := kmsg.NewLeaveGroupResponseMember()
		member.MemberID, member.InstanceID, member.ErrorCode = leavers[i].MemberID, leavers[i].InstanceID, groupCode(err)
		resp.Members = append(resp.Members, member)
	}
	return resp, nil
}
