package handler

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemarkmq/tidemark/broker/server"
	"github.com/tidemarkmq/tidemark/broker/wire"
	"github.com/tidemarkmq/tidemark/metadata"
)

// apiVersions answers ApiVersions (18). Versions that the table does not have are answered by the server, which also keeps
// the client's name and version with the connection (KIP-511).
//
// Only features of which this broker has what they stand for are announced; Kafka 4.4 has others (its metadata log, transactions, share
// and streams groups).
func (b *Broker) apiVersions(_ context.Context, _ *server.Conn, h wire.Header, req *kmsg.ApiVersionsRequest) (kmsg.Response, error) {
	resp := kmsg.NewPtrApiVersionsResponse()
	if h.Version >= 3 {
		if !wire.ValidSoftware(req.ClientSoftwareName) || !wire.ValidSoftware(req.ClientSoftwareVersion) {
			resp.ErrorCode = kerr.InvalidRequest.Code
			return resp, nil
		}
	}
	if h.Version >= 5 {
		if resp.ErrorCode = b.checkDestination(req.ClusterID, req.NodeID); resp.ErrorCode != 0 {
			return resp, nil
		}
	}
	for _, api := range wire.ServedAPIs() {
		k := kmsg.NewApiVersionsResponseApiKey()
		k.ApiKey, k.MinVersion, k.MaxVersion = api.Key, api.Min, api.Max
		resp.ApiKeys = append(resp.ApiKeys, k)
	}
	announceFeatures(resp, h.Version)
	return resp, nil
}

// checkDestination compares the cluster and node that the client meant to reach with this one (KIP-1242). A client that
// knows neither sends neither; one without the other says nothing.
func (b *Broker) checkDestination(clusterID *string, node int32) int16 {
	hasCluster, hasNode := clusterID != nil && *clusterID != "", node != -1
	switch {
	case !hasCluster && !hasNode:
		return 0
	case hasCluster != hasNode:
		return kerr.InvalidRequest.Code
	case *clusterID != b.Meta.Image().ClusterID() || metadata.BrokerID(node) != b.NodeID:
		return kerr.RebootstrapRequired.Code
	}
	return 0
}
