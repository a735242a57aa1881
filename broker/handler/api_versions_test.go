package handler

import (
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemarkmq/tidemark/broker/wire"
)

func TestApiVersions(t *testing.T) {
	f := newFixture(t, nil)
	versions(t, 18, func(t *testing.T, version int16) {
		req := kmsg.NewPtrApiVersionsRequest()
		req.ClientSoftwareName, req.ClientSoftwareVersion = "kgo", "1.2-rc.3"
		resp := call[*kmsg.ApiVersionsResponse](f, version, req)
		if resp.ErrorCode != 0 || len(resp.ApiKeys) != len(wire.ServedAPIs()) {
			t.Fatalf("code %d, %d keys", resp.ErrorCode, len(resp.ApiKeys))
		}
		for i, api := range wire.ServedAPIs() {
			if k := resp.ApiKeys[i]; k.ApiKey != api.Key || k.MinVersion != api.Min || k.MaxVersion != api.Max {
				t.Errorf("row %d: %+v, want %+v", i, k, api)
			}
		}
		if resp.ApiKeys[0].ApiKey != 0 || resp.ApiKeys[0].MinVersion != 0 {
			t.Error("Produce is not advertised from version 0 on (KAFKA-18659)")
		}
		// What is there in v3 begins above 0 (KAFKA-17492).
		supported, finalized := 0, 0
		if version >= 3 {
			finalized = 1
		}
		if version >= 4 {
			supported = 1
		}
		if len(resp.SupportedFeatures) != supported || len(resp.FinalizedFeatures) != finalized {
			t.Errorf("features: %+v, %+v", resp.SupportedFeatures, resp.FinalizedFeatures)
		}
		if finalized > 0 && (resp.FinalizedFeatures[0].Name != "group.version" || resp.FinalizedFeatures[0].MaxVersionLevel != 1) {
			t.Errorf("finalized: %+v", resp.FinalizedFeatures)
		}
	})
}

func TestApiVersionsSoftware(t *testing.T) {
	f := newFixture(t, nil)
	for _, word := range []string{"", "-a", "a-", ".", "a b", "ü", "a_b", "a\x00", strings.Repeat("a", 300) + "-"} {
		for version := int16(3); version <= 5; version++ {
			req := kmsg.NewPtrApiVersionsRequest()
			req.ClientSoftwareName, req.ClientSoftwareVersion = word, "1"
			if resp := call[*kmsg.ApiVersionsResponse](f, version, req); resp.ErrorCode != kerr.InvalidRequest.Code || len(resp.ApiKeys) != 0 {
				t.Errorf("name %q v%d: code %d", word, version, resp.ErrorCode)
			}
			req.ClientSoftwareName, req.ClientSoftwareVersion = "a", word
			if resp := call[*kmsg.ApiVersionsResponse](f, version, req); resp.ErrorCode != kerr.InvalidRequest.Code {
				t.Errorf("version %q v%d: code %d", word, version, resp.ErrorCode)
			}
		}
	}
}

func TestApiVersionsDestination(t *testing.T) {
	f := newFixture(t, nil)
	own := f.Meta.Image().ClusterID()
	for _, c := range []struct {
		cluster *string
		node    int32
		want    int16
	}{
		{nil, -1, 0},
		{&own, 7, 0},
		{&own, 8, kerr.RebootstrapRequired.Code},
		{ptr("other"), 7, kerr.RebootstrapRequired.Code},
		{&own, -1, kerr.InvalidRequest.Code},
		{nil, 7, kerr.InvalidRequest.Code},
	} {
		req := kmsg.NewPtrApiVersionsRequest()
		req.ClientSoftwareName, req.ClientSoftwareVersion = "a", "1"
		req.ClusterID, req.NodeID = c.cluster, c.node
		if resp := call[*kmsg.ApiVersionsResponse](f, 5, req); resp.ErrorCode != c.want {
			t.Errorf("cluster %q node %d: code %d, want %d", str(c.cluster), c.node, resp.ErrorCode, c.want)
		}
	}
}
