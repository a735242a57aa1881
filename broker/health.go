package broker

import (
	"context"
	"time"

	"github.com/tidemarkmq/tidemark/wal"
)

// healthEvery is how often the write-ahead log is looked at for what its readiness says.
const healthEvery = time.Second

// logCondition is the name of the write-ahead log's readiness condition.
const logCondition = "write-ahead log"

// watchLog keeps /readyz true about the write-ahead log: the broker is not ready while it has to refuse records or to keep their
// producers waiting. Consumers are served all the while.
func (s *serving) watchLog(ctx context.Context) error {
	tick := time.NewTicker(healthEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if why := logTrouble(s.log.Stats(), s.broker.config.WAL.MaxBytes); why != "" {
				s.broker.ready.Unmet(logCondition, why)
			} else {
				s.broker.ready.Met(logCondition)
			}
		}
	}
}

// logTrouble says in words for the operator why records are not taken; empty: they are. Producers that wait while the log is well
// below its cap wait for a moment only.
func logTrouble(l wal.Stats, maxBytes int64) string {
	switch {
	case l.Full:
		return "the disk has no room for the next segment: records are refused until it has"
	case l.AdmitWaiting > 0 && l.UntrimmedBytes+l.SurchargeBytes > maxBytes-maxBytes/8:
		return "wal.max-bytes is used up: producers wait until the object store has taken records"
	}
	return ""
}
