//go:build !unix

package server

import "net"

// socket is not needed where connections have their own writer goroutines.
type socket struct{}

func (*socket) init(net.Conn) bool { return false }

func (*socket) try([]byte) (int, error) { return 0, nil }
