package broker

import (
	"context"
	"fmt"
	"io"
	"net"
	"runtime/debug"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/objectstore"
	"github.com/tidemarkmq/tidemark/wal"
	"github.com/tidemarkmq/tidemark/wal/quorum"
)

// seams are the places where a broker touches the machine and the network. Whole brokers are tested on others: a disk that
// crashes, a store and an etcd that fail on demand, connections inside the process.
type seams struct {
	openData  func(path string) (*dataDir, error)
	openKV    func(context.Context) (metadata.KV, func(), error)
	openStore func(context.Context) (store, error)
	listen    func(addr string) (net.Listener, error)
	replicate func(replicas *wal.Replicas) (replicaNetwork, error)
	freeHeap  func() // gives unused memory of the Go heap back to the system; nil: not here
	slabBytes int    // size of one piece of the tail cache, and so of the largest record batch
}

// replicaNetwork connects the replicas of the brokers' write-ahead logs.
type replicaNetwork interface {
	// Address is what other brokers are told.
	Address() string
	// Dial is the way to a member; see quorum.Dial.
	Dial(m quorum.Member) quorum.Peer
	// Register makes recoverers fence a log that this broker writes.
	Register(stream uint64, log *wal.Log)
	// Run serves other brokers until ctx is done.
	Run(ctx context.Context) error
}

// store is an open object store.
type store interface {
	objectstore.Store
	io.Closer
	fmt.Stringer
}

// production are the seams of a broker of its own process.
func (b *Broker) production() seams {
	return seams{
		openData:  openDataDir,
		openKV:    b.openEtcd,
		openStore: b.dialStore,
		listen:    func(addr string) (net.Listener, error) { return net.Listen("tcp", addr) },
		replicate: b.openPeers,
		freeHeap:  debug.FreeOSMemory,
		slabBytes: 8 << 20,
	}
}
