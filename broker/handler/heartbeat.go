package handler

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemarkmq/tidemark/broker/server"
	"github.com/tidemarkmq/tidemark/broker/wire"
)

// heartbeat answers Heartbeat (12).
func (b *Broker) heartbeat(_ context.Context, _ *server.Conn, _ wire.Header, req *kmsg.HeartbeatRequest) (kmsg.Response, error) {
	resp := kmsg.NewPtrHeartbeatResponse()
	resp.ErrorCode = groupCode(b.Groups.Heartbeat(req.Group, req.MemberID, req.InstanceID, req.Generation))
	return resp, nil
}
