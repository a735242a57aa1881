package configs

// Topic is the typed view of a topic's effective configs: its overrides over the dynamic broker configs over the
// broker's own file over the defaults. It is a plain value.
type Topic struct {
	MaxMessageBytes int32 // largest batch, in bytes

	Compact, Delete bool  // from cleanup.policy; both false keeps everything
	RetentionMs     int64 // -1 = for ever
	RetentionBytes  int64 // below 0 = no limit

	DeleteRetentionMs      int64
	MinCompactionLagMs     int64
	MaxCompactionLagMs     int64
	MinCleanableDirtyRatio float64

	CompressionType  string // producer, uncompressed, gzip, snappy, lz4 or zstd
	CompressionLevel int    // of CompressionType, in its own scale; 0 where the codec has none

	LogAppendTime        bool  // timestamps are the broker's
	TimestampBeforeMaxMs int64 // how far in the past a CreateTime may lie
	TimestampAfterMaxMs  int64 // how far in the future a CreateTime may lie

	MinInsyncReplicas int32
	SegmentBytes      int64
	SegmentMs         int64
	Durability        string // local
}

// Topic computes the view. Overrides that are not in the table or do not parse (left by another version) count as not
// set. Where a default that changed later contradicts an override, the lower bound wins.
func (r *Registry) Topic(l Layers, overrides map[string]string) Topic {
	v := r.topicValues(l, overrides)
	t := Topic{
		MaxMessageBytes:        int32(v[MaxMessageBytes].(int64)),
		RetentionMs:            max(v[RetentionMs].(int64), -1),
		RetentionBytes:         v[RetentionBytes].(int64),
		DeleteRetentionMs:      v["delete.retention.ms"].(int64),
		MinCompactionLagMs:     v["min.compaction.lag.ms"].(int64),
		MaxCompactionLagMs:     v["max.compaction.lag.ms"].(int64),
		MinCleanableDirtyRatio: v["min.cleanable.dirty.ratio"].(float64),
		CompressionType:        v[CompressionType].(string),
		LogAppendTime:          v[TimestampType].(string) == "LogAppendTime",
		TimestampBeforeMaxMs:   v["message.timestamp.before.max.ms"].(int64),
		TimestampAfterMaxMs:    v["message.timestamp.after.max.ms"].(int64),
		MinInsyncReplicas:      int32(v["min.insync.replicas"].(int64)),
		SegmentBytes:           v["segment.bytes"].(int64),
		SegmentMs:              v["segment.ms"].(int64),
		Durability:             v[Durability].(string),
	}
	for _, policy := range v[CleanupPolicy].([]string) {
		t.Compact = t.Compact || policy == "compact"
		t.Delete = t.Delete || policy == "delete"
	}
	if level, ok := v["compression."+t.CompressionType+".level"].(int64); ok {
		t.CompressionLevel = int(level)
	}
	t.MaxCompactionLagMs = max(t.MaxCompactionLagMs, t.MinCompactionLagMs)
	return t
}
