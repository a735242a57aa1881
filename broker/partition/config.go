package partition

import (
	"fmt"

	"github.com/tidemarkmq/tidemark/broker/configs"
	"github.com/tidemarkmq/tidemark/tiering/batch"
)

// Config is what a partition needs of its topic's configs. It is immutable and shared by the topic's partitions.
type Config struct {
	MaxMessageBytes int
	Compact         bool
	Delete          bool
	LogAppendTime   bool
	BeforeMaxMs     int64
	AfterMaxMs      int64
	Codec           batch.Codec
	RetentionMs     int64
	RetentionBytes  int64
}

// ConfigOf derives it from the typed view.
func ConfigOf(t configs.Topic) (*Config, error) {
	codec, err := batch.ParseCodec(t.CompressionType)
	if err != nil {
		return nil, fmt.Errorf("topic config: %w", err)
	}
	return &Config{
		MaxMessageBytes: int(t.MaxMessageBytes), Compact: t.Compact, Delete: t.Delete, LogAppendTime: t.LogAppendTime,
		BeforeMaxMs: t.TimestampBeforeMaxMs, AfterMaxMs: t.TimestampAfterMaxMs, Codec: codec,
		RetentionMs: t.RetentionMs, RetentionBytes: t.RetentionBytes,
	}, nil
}

// Rules are the checks for a client's batch at nowMs.
func (c *Config) Rules(nowMs int64) batch.Rules {
	return batch.Rules{
		NowMs: nowMs, MaxBytes: c.MaxMessageBytes, KeyRequired: c.Compact, LogAppendTime: c.LogAppendTime,
		BeforeMaxMs: c.BeforeMaxMs, AfterMaxMs: c.AfterMaxMs, Target: c.Codec,
	}
}
