package etcdkv

import (
	"context"
	"errors"
	"log/slog"
	"slices"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// ZapLogger returns a zap logger for etcd's libraries that writes to l what is of warning level and above; etcd's info
// level tells of every listener, flag and snapshot. Fatal entries still end the process, as their callers rely on.
func ZapLogger(l *slog.Logger) *zap.Logger {
	return zap.New(&slogCore{handler: l.Handler(), enabled: zapcore.WarnLevel})
}

// firstStart are messages of an embedded server about a folder that nothing was written to yet: they are no news to anybody.
var firstStart = map[string]bool{"Failed to detect schema version": true, "failed to update storage version": true}

// canceled tells whether what failed was a call that its caller gave up.
func canceled(fields []zapcore.Field) bool {
	return slices.ContainsFunc(fields, func(f zapcore.Field) bool {
		err, ok := f.Interface.(error)
		return ok && (errors.Is(err, context.Canceled) || status.Code(err) == codes.Canceled)
	})
}

// slogCore is a zapcore.Core that forwards to a slog handler. Immutable, safe for concurrent use.
type slogCore struct {
	handler slog.Handler
	enabled zapcore.Level
}

// Enabled implements zapcore.Core.
func (c *slogCore) Enabled(l zapcore.Level) bool {
	return l >= c.enabled && c.handler.Enabled(context.Background(), slogLevel(l))
}

// With implements zapcore.Core.
func (c *slogCore) With(fields []zapcore.Field) zapcore.Core {
	return &slogCore{handler: c.handler.WithAttrs(attrs(fields)), enabled: c.enabled}
}

// Check implements zapcore.Core.
func (c *slogCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

// Write implements zapcore.Core.
func (c *slogCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	level := slogLevel(e.Level)
	if firstStart[e.Message] || e.Message == "retrying of unary invoker failed" && canceled(fields) {
		level = slog.LevelDebug
		if !c.handler.Enabled(context.Background(), level) {
			return nil
		}
	}
	r := slog.NewRecord(e.Time, level, "etcd: "+e.Message, 0)
	r.AddAttrs(attrs(fields)...)
	return c.handler.Handle(context.Background(), r)
}

// Sync implements zapcore.Core.
func (*slogCore) Sync() error { return nil }

func attrs(fields []zapcore.Field) []slog.Attr {
	enc := zapcore.NewMapObjectEncoder()
	out := make([]slog.Attr, 0, len(fields))
	for _, f := range fields {
		f.AddTo(enc)
		if v, ok := enc.Fields[f.Key]; ok {
			out = append(out, slog.Any(f.Key, v))
		}
	}
	return out
}

func slogLevel(l zapcore.Level) slog.Level {
	switch {
	case l >= zapcore.ErrorLevel:
		return slog.LevelError
	case l == zapcore.WarnLevel:
		return slog.LevelWarn
	case l == zapcore.InfoLevel:
		return slog.LevelInfo
	}
	return slog.LevelDebug
}
