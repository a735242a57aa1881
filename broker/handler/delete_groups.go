package handler

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemarkmq/tidemark/broker/server"
	"github.com/tidemarkmq/tidemark/broker/wire"
)

// deleteGroups answers DeleteGroups (42). A group that is named twice is deleted and answered once.
func (b *Broker) deleteGroups(ctx context.Context, _ *server.Conn, _ wire.Header, req *kmsg.DeleteGroupsRequest) (kmsg.Response, error) {
	resp := kmsg.NewPtrDeleteGroupsResponse()
	seen := make(map[string]bool, len(req.Groups))
	for _, id := range req.Groups {
		if seen[id] {
			continue
		}
		seen[id] = true
		out := kmsg.NewDeleteGroupsResponseGroup()
		out.Group = id
		if err := b.Groups.Delete(ctx, id); err != nil {
			out.ErrorCode, out.ErrorMessage = err.Code, &err.Description
		}
		resp.Groups = append(resp.Groups, out)
	}
	return resp, nil
}
