package server

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// peerLeft tells whether the client has closed or reset the connection, without blocking and also while unread requests are in the
// socket, which a peek would see first. While a handler blocks in a long poll nobody reads the socket, so that this is the only way to
// learn of it. A client that only shut down its sending side counts as gone, as in Kafka.
func peerLeft(nc net.Conn) bool {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	left := false
	err = raw.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		n, err := unix.Poll(p, 0)
		left = err == nil && n > 0 && p[0].Revents&(unix.POLLRDHUP|unix.POLLHUP|unix.POLLERR) != 0
	})
	return err == nil && left
}
