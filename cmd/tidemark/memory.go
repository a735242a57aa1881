package main

import (
	"log/slog"
	"os"
	"runtime/debug"

	"github.com/tidemarkmq/tidemark/broker"
)

// gcPercent is how much garbage the collector lets pile up, relative to what is in use. Request and record bytes are in pooled or
// mapped memory, so there is little garbage and a collection is rare even so; with the runtime's 100 the heap would merely be larger.
const gcPercent = 25

// findMemory states the container's limit in c, unless memory-bytes is stated, and returns where the limit is from.
func findMemory(c *broker.Config) (source string) {
	if c.MemoryBytes != 0 {
		return "memory-bytes"
	}
	c.MemoryBytes, source = containerMemory(os.DirFS("/"))
	return source
}

// tuneRuntime sets the limits of the Go runtime as the plan says. GOMEMLIMIT and GOGC in the environment win.
func tuneRuntime(p broker.MemoryPlan, source string, getenv func(string) string, logger *slog.Logger) {
	gogc, limit := any(getenv("GOGC")), any(getenv("GOMEMLIMIT"))
	if gogc == "" {
		debug.SetGCPercent(gcPercent)
		gogc = gcPercent
	}
	if limit == "" {
		limit = "none"
		if p.GoLimitBytes > 0 {
			debug.SetMemoryLimit(p.GoLimitBytes)
			limit = formatBytes(p.GoLimitBytes)
		}
	}
	if source == "" {
		source = "no limit known"
	}
	logger.Info("memory", "limit", formatBytes(p.LimitBytes), "from", source, "slabs", formatBytes(p.OutsideBytes), "spare", formatBytes(p.SpareBytes),
		"gomemlimit", limit, "gogc", gogc, "budgets", p.String())
	if p.LargestRequestBytes > 0 {
		logger.Warn("memory is scarce: larger requests than socket.request.max.bytes are refused. Clients that send all partitions' batches at once may have to be "+
			"limited (franz-go: BrokerMaxWriteBytes), or the broker needs more memory", "socket.request.max.bytes", formatBytes(p.LargestRequestBytes))
	}
}
