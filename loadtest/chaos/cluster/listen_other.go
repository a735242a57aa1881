//go:build !linux

package cluster

import "net"

// Listen listens on the node, which is on the loopback interface.
func (node *Node) Listen() (net.Listener, error) {
	return net.Listen("tcp", net.JoinHostPort(node.IP, "0"))
}
