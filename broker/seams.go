package broker

import (
	"context"
	"fmt"
	"io"
	"net"
	"runtime/debug"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/objectstore"
)

// seams are the places where a broker touches the machine and the network. Whole brokers are tested on others: a disk that
// crashes, a store and an etcd that fail on demand, connections inside the process.
type seams struct {
	openData  func(path string) (*dataDir, error)
	openKV    func(context.Context) (metadata.KV, func(), error)
	openStore func(context.Context) (store, error)
	listen    func(addr string) (net.Listener, error)
	freeHeap  func() // gives unused memory of the Go heap back to the system; nil: not here
	slabBytes int    // size of one piece of the tail cache, and so of the largest record batch
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
		freeHeap:  debug.FreeOSMemory,
		slabBytes: 8 << 20,
	}
}
