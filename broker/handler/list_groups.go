package handler

import (
	"context"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemarkmq/tidemark/broker/server"
	"github.com/tidemarkmq/tidemark/broker/wire"
)

// listGroups answers ListGroups (16). Filters take names in any case; a name that nothing has matches nothing.
func (b *Broker) listGroups(_ context.Context, _ *server.Conn, _ wire.Header, req *kmsg.ListGroupsRequest) (kmsg.Response, error) {
	resp := kmsg.NewPtrListGroupsResponse()
	groups, err := b.Groups.List(req.StatesFilter)
	resp.ErrorCode = groupCode(err)
	for _, g := range groups {
		if len(req.TypesFilter) > 0 && !slices.ContainsFunc(req.TypesFilter, func(t string) bool { return strings.EqualFold(strings.TrimSpace(t), g.Type) }) {
			continue
		}
		out := kmsg.NewListGroupsResponseGroup()
		out.Group, out.ProtocolType, out.GroupState, out.GroupType = g.Group, g.ProtocolType, g.State, g.Type
		resp.Groups = append(resp.Groups, out)
	}
	return resp, nil
}
