package main

import (
	"log/slog"
	"math"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/tidemarkmq/tidemark/broker"
)

func TestRuntimeLimitsFollowThePlanUnlessTheEnvironmentSaysOtherwise(t *testing.T) {
	oldLimit, oldPercent := debug.SetMemoryLimit(-1), debug.SetGCPercent(100)
	defer func() { debug.SetMemoryLimit(oldLimit); debug.SetGCPercent(oldPercent) }()
	const limit = 300 << 20
	for _, c := range []struct {
		env                     map[string]string
		planned, limit, percent int64
	}{
		{nil, limit, limit, gcPercent},
		{nil, 0, math.MaxInt64, gcPercent},
		{map[string]string{"GOMEMLIMIT": "1GiB"}, limit, math.MaxInt64, gcPercent},
		{map[string]string{"GOGC": "off"}, limit, limit, 100},
	} {
		debug.SetMemoryLimit(math.MaxInt64)
		debug.SetGCPercent(100)
		var out strings.Builder
		tuneRuntime(broker.MemoryPlan{LimitBytes: 512 << 20, GoLimitBytes: c.planned}, "a file", func(name string) string { return c.env[name] },
			slog.New(slog.NewTextHandler(&out, nil)))
		if got := debug.SetMemoryLimit(-1); got != c.limit {
			t.Errorf("%v: limit %d, want %d", c.env, got, c.limit)
		}
		if got := debug.SetGCPercent(100); int64(got) != c.percent {
			t.Errorf("%v: GOGC %d, want %d", c.env, got, c.percent)
		}
		if strings.Count(out.String(), "\n") != 1 || !strings.Contains(out.String(), `from="a file"`) {
			t.Errorf("log: %s", out.String())
		}
		if strings.Contains(out.String(), "scarce") {
			t.Errorf("a warning without a reason: %s", out.String())
		}
		for _, value := range c.env {
			if !strings.Contains(out.String(), "="+value+" ") {
				t.Errorf("log does not show %s: %s", value, out.String())
			}
		}
	}
	var out strings.Builder
	tuneRuntime(broker.MemoryPlan{LimitBytes: 256 << 20, LargestRequestBytes: 32 << 20}, "a file", func(string) string { return "off" }, slog.New(slog.NewTextHandler(&out, nil)))
	if !strings.Contains(out.String(), "level=WARN") || !strings.Contains(out.String(), "socket.request.max.bytes=32MiB") {
		t.Errorf("log: %s", out.String())
	}
}
