package handler

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemarkmq/tidemark/broker/group/classic"
	"github.com/tidemarkmq/tidemark/broker/server"
	"github.com/tidemarkmq/tidemark/broker/wire"
)

// describeGroupNotFound is the DescribeGroups version from which a group that is not there is an error (KIP-1043); before, it
// is one in the state Dead.
const describeGroupNotFound = 6

// groupOperations is what an unauthenticated client may do with a group, as bits of Kafka's AclOperation: read, delete,
// describe, describe configs, alter configs.
const groupOperations = 1<<3 | 1<<6 | 1<<8 | 1<<10 | 1<<11

// describeGroups answers DescribeGroups (15).
func (b *Broker) describeGroups(_ context.Context, _ *server.Conn, h wire.Header, req *kmsg.DescribeGroupsRequest) (kmsg.Response, error) {
	resp := kmsg.NewPtrDescribeGroupsResponse()
	for _, id := range req.Groups {
		out := b.describeGroup(h.Version, id)
		if req.IncludeAuthorizedOperations && out.ErrorCode == 0 {
			out.AuthorizedOperations = groupOperations
		}
		resp.Groups = append(resp.Groups, out)
	}
	return resp, nil
}

func (b *Broker) describeGroup(version int16, id string) kmsg.DescribeGroupsResponseGroup {
	out := kmsg.NewDescribeGroupsResponseGroup()
	out.Group = id
	d, err := b.Groups.Describe(id)
	switch {
	case err == kerr.GroupIDNotFound:
		out.State = classic.Dead.String()
		if version >= describeGroupNotFound {
			out.ErrorCode, out.ErrorMessage = err.Code, kmsg.StringPtr(fmt.Sprintf("Group %s not found.", id))
		}
		return out
	case err != nil:
		out.ErrorCode = err.Code
		return out
	}
	out.State, out.ProtocolType, out.Protocol = d.State.String(), d.ProtocolType, d.Protocol
	for _, m := range d.Members {
		member := kmsg.NewDescribeGroupsResponseGroupMember()
		member.MemberID, member.InstanceID, member.ClientID, member.ClientHost = m.MemberID, m.InstanceID, m.ClientID, m.ClientHost
		member.ProtocolMetadata, member.MemberAssignment = m.Metadata, m.Assignment
		out.Members = append(out.Members, member)
	}
	return out
}
