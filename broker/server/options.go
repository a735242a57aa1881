package server

import (
	"errors"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
)

// Options of a Server. Zero values mean the default given at the field.
type Options struct {
	Handler Handler
	Logger  *slog.Logger // nil = discard
	Meter   metric.Meter // nil = none

	MaxRequestBytes int // of one Produce frame: Kafka's socket.request.max.bytes; 100 MiB
	MaxControlBytes int // of any other frame; 16 MiB
	MaxDecodedBytes int // estimated heap cost of one decoded request; 64 MiB

	// What all connections together may hold: Produce frames being read or handled, other frames being read, and decoded requests being
	// handled. Whoever finds its budget used up waits in line and does not read meanwhile. Other frames of up to 16 KiB and decoded
	// requests of up to 64 KiB are not counted: heartbeats do not queue behind produce. 256, 64 and 128 MiB.
	// Of MemoryBytes, half is for Produce frames over 4 MiB and half for the others: clients that declare much and send little hold up
	// nobody who sends ordinary requests.
	MemoryBytes  int64
	ControlBytes int64
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

func orDefault[T int | int64 | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

// withDefaults checks and completes the options.
func (o Options) withDefaults() (Options, error) {
	if o.Handler == nil {
		return o, errors.New("server: no handler")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Meter == nil {
		o.Meter = noop.Meter{}
	}
	orDefault(&o.MaxRequestBytes, 100<<20)
	orDefault(&o.MaxControlBytes, 16<<20)
	orDefault(&o.MaxDecodedBytes, 64<<20)
	orDefault(&o.MemoryBytes, 256<<20)
	orDefault(&o.ControlBytes, 64<<20)
	orDefault(&o.DecodedBytes, 128<<20)
	orDefault(&o.MaxInFlight, 128)
	orDefault(&o.IdleTimeout, 10*time.Minute)
	orDefault(&o.FrameTimeout, 30*time.Second)
	orDefault(&o.WriteTimeout, 30*time.Second)
	orDefault(&o.ReadBufferBytes, 8<<10)
	return o, nil
}

// What is fixed, and why.
const (
	largeFrameBytes   = 4 << 20          // Produce frames beyond it have half of the budget to themselves
	stallAfter        = 10 * time.Second // a frame of which no byte comes for so long is given up
	smallFrameBytes   = 16 << 10         // uncounted control frames: a heartbeat must not wait for produce
	smallDecodedBytes = 64 << 10         // uncounted decoded requests: an ordinary long poll holds no budget
	maxQueuedBytes    = 1 << 20          // answers that wait to be written before the connection stops reading
	partBytes         = 160              // of a Produce partition in memory
	smallParts        = 256              // partitions of a Produce request that are not counted
	keepReplyBytes    = 64 << 10         // buffer that a pooled reply keeps
	keepFetchBytes    = 4 << 10          // of a Fetch request that the connection's next one is decoded over
	keepFetchTopics   = 16               // in it
	maxBatch          = 64               // replies in one gathered write
	slowWriteAfter    = time.Second      // then a write is continued in pieces, from a copy where records are pinned
	slowPieceBytes    = 256 << 10        // of such a continued write
	peerCheckAfter    = time.Second / 2  // a handler call that takes longer has the socket checked for the client's leaving
	extraPerMiB       = 4 * time.Second  // of FrameTimeout
	warnEvery         = 10 * time.Second
)
