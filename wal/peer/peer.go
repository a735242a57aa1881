// Package peer lets brokers keep replicas of each other's WAL streams: a framed protocol over one connection per direction, by which a stream's
// owner sends groups to the wal.Replicas of another broker, and a recoverer fences and reads them. FORMAT.md is the protocol's page.
//
// A Client is access to one other broker; it keeps a connection and makes a new one, with backoff, when it is lost. It repeats no request: whoever
// asks decides whether to ask again. A Server answers many clients. Both notice within seconds that the other side is gone, by heartbeats.
//
// Nothing that the other side sends is trusted beyond its certificate: lengths are bounded before anything is allocated, groups are checked by
// wal.Replicas, and a side that breaks the protocol is disconnected.
package peer

import (
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/tidemarkmq/tidemark/wal"
)

const (
	// MaxPayloadBytes bounds what a Call carries in either direction.
	MaxPayloadBytes = 1 << 20
	// MaxNameBytes bounds a cluster's and a disk's name.
	MaxNameBytes = 128

	maxReadBytes     = wal.MaxChunkBytes / 2 // of one Read; a group is never longer
	maxMessageBytes  = 512                   // of an error's text
	maxListBytes     = 8 << 16               // of Streams
	blockBytes       = 4096                  // groups are multiples of it
	defaultHeartbeat = time.Second
	defaultTimeout   = 4 * time.Second
)

// Identity says who a side is. Another disk under the same broker is another place, where nothing of the first one is.
type Identity struct {
	Cluster string // not empty; at most MaxNameBytes
	Broker  int32
	Disk    string // id of the data folder; not empty; at most MaxNameBytes
}

func (id Identity) check() error {
	for _, name := range []string{id.Cluster, id.Disk} {
		if name == "" || len(name) > MaxNameBytes || !utf8.ValidString(name) {
			return fmt.Errorf("peer: cluster %.200q, disk %.200q: want 1 to %d bytes of UTF-8", id.Cluster, id.Disk, MaxNameBytes)
		}
	}
	if id.Broker < 0 {
		return fmt.Errorf("peer: broker %d", id.Broker)
	}
	return nil
}

// Timing says how fast a dead peer is noticed. The zero value is a heartbeat of 1 s and a timeout of 4 s.
type Timing struct {
	// Heartbeat is how long a side is silent at most.
	Heartbeat time.Duration
	// Timeout is how long the other side may be silent, or take nothing, or let a handshake wait. It should be some heartbeats.
	Timeout time.Duration
}

func (t *Timing) setDefaults() error {
	if t.Heartbeat == 0 {
		t.Heartbeat = defaultHeartbeat
	}
	if t.Timeout == 0 {
		t.Timeout = max(defaultTimeout, 4*t.Heartbeat)
	}
	if t.Heartbeat < 0 || t.Timeout < 2*t.Heartbeat {
		return errors.New("peer: Timeout must be at least twice Heartbeat")
	}
	return nil
}
