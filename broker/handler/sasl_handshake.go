package handler

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemarkmq/tidemark/broker/server"
	"github.com/tidemarkmq/tidemark/broker/wire"
)

// saslHandshake answers SaslHandshake (17) on a listener without SASL, as Kafka does: the state is wrong for it, and
// there is no mechanism to offer.
func (b *Broker) saslHandshake(context.Context, *server.Conn, wire.Header, *kmsg.SASLHandshakeRequest) (kmsg.Response, error) {
	resp := kmsg.NewPtrSASLHandshakeResponse()
	resp.ErrorCode = kerr.IllegalSaslState.Code
	return resp, nil
}
