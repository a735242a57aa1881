package handler

import (
	"context"
	"net"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemarkmq/tidemark/broker/group/classic"
	"github.com/tidemarkmq/tidemark/broker/server"
	"github.com/tidemarkmq/tidemark/broker/wire"
)

// The JoinGroup versions from which a new dynamic member must come twice (KIP-394), an absent protocol is null, and a leader
// may be told to skip the assignment (KIP-814).
const (
	joinMemberIDRequired = 4
	joinNullableProtocol = 7
	joinSkipAssignment   = 9
)

// joinGroup answers JoinGroup (11). It blocks until the rebalance has gathered its members.
func (b *Broker) joinGroup(ctx context.Context, c *server.Conn, h wire.Header, req *kmsg.JoinGroupRequest) (kmsg.Response, error) {
	r := classic.JoinRequest{
		MemberID: req.MemberID, InstanceID: req.InstanceID, ClientID: h.ClientID, ClientHost: clientHost(c),
		SessionTimeoutMillis: req.SessionTimeoutMillis, RebalanceTimeoutMillis: req.RebalanceTimeoutMillis,
		ProtocolType: req.ProtocolType, Protocols: make([]classic.Protocol, len(req.Protocols)),
		RequireKnownMemberID: h.Version >= joinMemberIDRequired, CanSkipAssignment: h.Version >= joinSkipAssignment,
	}
	if h.Version == 0 { // it does not have the field; the session timeout stood for both
		r.RebalanceTimeoutMillis = req.SessionTimeoutMillis
	}
	if req.Reason != nil {
		r.Reason = *req.Reason
	}
	for i, p := range req.Protocols {
		r.Protocols[i] = classic.Protocol{Name: p.Name, Metadata: p.Metadata}
	}
	return joinResponse(h.Version, b.Groups.Join(ctx, req.Group, r)), nil
}

func joinResponse(version int16, r classic.JoinReply) *kmsg.JoinGroupResponse {
	resp := kmsg.NewPtrJoinGroupResponse()
	resp.ErrorCode = groupCode(r.Err)
	resp.Generation, resp.LeaderID, resp.MemberID, resp.SkipAssignment = r.Generation, r.Leader, r.MemberID, r.SkipAssignment
	if r.ProtocolType != "" {
		resp.ProtocolType = &r.ProtocolType
	}
	if r.Protocol != "" || version < joinNullableProtocol {
		resp.Protocol = &r.Protocol
	}
	for _, m := range r.Members {
		member := kmsg.NewJoinGroupResponseMember()
		member.MemberID, member.InstanceID, member.ProtocolMetadata = m.MemberID, m.InstanceID, m.Metadata
		resp.Members = append(resp.Members, member)
	}
	return resp
}

// clientHost is how Kafka writes an address that was not looked up: a slash before it.
func clientHost(c *server.Conn) string {
	addr := c.RemoteAddr()
	if addr == nil {
		return "/"
	}
	host, _, err := net.SplitHostPort(addr.String())
	if err != nil {
		return "/" + addr.String()
	}
	return "/" + host
}
