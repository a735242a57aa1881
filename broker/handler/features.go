package handler

import "github.com/twmb/franz-go/pkg/kmsg"

// featureVersions is the first ApiVersions version that carries features; below featureZeroVersion a supported range must not begin at 0,
// which older clients take for a mistake (KAFKA-17492).
const (
	featureVersions    = 3
	featureZeroVersion = 4
)

// feature is one of Kafka's features that this broker has.
type feature struct {
	name      string
	min, max  int16 // supported
	finalized int16
}

// features are those announced: group.version 1 stands for consumer groups of KIP-848. They are the same on every broker of a cluster, and
// never finalized at run time, so their epoch stands still.
var features = []feature{
	{name: "group.version", min: 0, max: 1, finalized: 1},
}

// announceFeatures fills in the features of an answer of ApiVersions.
func announceFeatures(resp *kmsg.ApiVersionsResponse, version int16) {
	if version < featureVersions {
		return
	}
	for _, f := range features {
		if version >= featureZeroVersion || f.min > 0 {
			s := kmsg.NewApiVersionsResponseSupportedFeature()
			s.Name, s.MinVersion, s.MaxVersion = f.name, f.min, f.max
			resp.SupportedFeatures = append(resp.SupportedFeatures, s)
		}
		finalized := kmsg.NewApiVersionsResponseFinalizedFeature()
		finalized.Name, finalized.MinVersionLevel, finalized.MaxVersionLevel = f.name, f.finalized, f.finalized
		resp.FinalizedFeatures = append(resp.FinalizedFeatures, finalized)
	}
	resp.FinalizedFeaturesEpoch = 0
}
