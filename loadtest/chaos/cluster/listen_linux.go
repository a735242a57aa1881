package cluster

import (
	"net"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Listen listens on the node from within this program: a socket stays in the namespace in which it was made.
func (node *Node) Listen() (net.Listener, error) {
	address := net.JoinHostPort(node.IP, "0")
	if node.space == "" {
		return net.Listen("tcp", address)
	}
	runtime.LockOSThread() // not unlocked on failure: a thread in the wrong namespace ends with its goroutine
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	defer own.Close()
	space, err := os.Open("/run/netns/" + node.space)
	if err != nil {
		return nil, err
	}
	defer space.Close()
	if err := unix.Setns(int(space.Fd()), unix.CLONE_NEWNET); err != nil {
		return nil, os.NewSyscallError("setns", err)
	}
	ln, err := net.Listen("tcp", address)
	if back := unix.Setns(int(own.Fd()), unix.CLONE_NEWNET); back != nil {
		panic("cannot return to the network namespace: " + back.Error()) // every later connection would go astray
	}
	runtime.UnlockOSThread()
	return ln, err
}
