package server

import (
	"net"
	"sync/atomic"
)

// arrivals counts the bytes that come from a client.
type arrivals struct {
	nc    net.Conn
	bytes atomic.Int64
}

// Read implements io.Reader.
func (a *arrivals) Read(p []byte) (int, error) {
	n, err := a.nc.Read(p)
	a.bytes.Add(int64(n))
	return n, err
}
