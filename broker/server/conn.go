package server

import (
	"net"
	"sync/atomic"
)

// Conn is one client connection. The zero value serves handlers' tests.
type Conn struct {
	// Local belongs to the handler: per-connection state such as a fetch waiter. Only the reader goroutine (handler calls) may touch it.
	Local any

	id           uint64
	nc           net.Conn
	listenerName string
	software     atomic.Pointer[Software]
}

// Software is what a client says of itself in ApiVersions v3+ (KIP-511). Empty until then.
type Software struct{ Name, Version string }

// ID is unique within the process.
func (c *Conn) ID() uint64 { return c.id }

// ListenerName is the name of the listener that accepted the connection.
func (c *Conn) ListenerName() string { return c.listenerName }

// RemoteAddr is the client's address; nil for the zero Conn.
func (c *Conn) RemoteAddr() net.Addr {
	if c.nc == nil {
		return nil
	}
	return c.nc.RemoteAddr()
}

// LocalAddr is the address that the client connected to; nil for the zero Conn.
func (c *Conn) LocalAddr() net.Addr {
	if c.nc == nil {
		return nil
	}
	return c.nc.LocalAddr()
}

// Software returns the client's name and version; safe for concurrent use.
func (c *Conn) Software() Software {
	if s := c.software.Load(); s != nil {
		return *s
	}
	return Software{}
}
