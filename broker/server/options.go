package server

import (
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/metric"
)

// Options of a Server. Zero values mean the default.
type Options struct {
	Handler Handler
	Logger  *slog.Logger // nil = discard
	Meter   metric.Meter // nil = none

	MaxRequestBytes int // of one Produce frame: Kafka's socket.request.max.bytes; 100 MiB
	MaxControlBytes int // of any other frame; 16 MiB
	MaxDecodedBytes int // estimated heap cost of one decoded request; 64 MiB

	// MemoryBytes bounds the frames that are being read or handled on all connections together, DecodedBytes the decoded requests.
	// Whoever finds it used up waits in line and does not read meanwhile. 256 MiB and 128 MiB.
	MemoryBytes  int64
	DecodedBytes int64

	MaxConnections      int // open at once; 0 = no limit
	MaxConnectionsPerIP int // 0 = no limit
	MaxInFlight         int // unanswered requests of one connection; 128

	IdleTimeout  time.Duration // without any request: Kafka's connections.max.idle.ms; 10 min
	FrameTimeout time.Duration // for a frame to arrive, plus 4 s per MiB; 30 s
	WriteTimeout time.Duration // without a byte taken by the client; 30 s

	ReadBufferBytes    int // of one connection; 8 KiB
	SendBufferBytes    int // socket; 0 = the system's choice
	ReceiveBufferBytes int // socket; 0 = the system's choice
}
