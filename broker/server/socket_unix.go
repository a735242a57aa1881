//go:build unix

package server

import (
	"errors"
	"fmt"
	"net"
	"syscall"
)

// socket writes to a TCP connection without waiting for room. It is for one goroutine at a time.
type socket struct {
	raw   syscall.RawConn
	write func(fd uintptr) bool // bound once: a closure is an allocation
	p     []byte
	n     int
	err   error
}

// init reports whether nc can be written to in this way.
func (s *socket) init(nc net.Conn) bool {
	tc, ok := nc.(*net.TCPConn)
	if !ok {
		return false
	}
	raw, err := tc.SyscallConn()
	if err != nil {
		return false
	}
	s.raw, s.write = raw, s.once
	return true
}

// once is one write; it is never to be repeated when there is room.
func (s *socket) once(fd uintptr) bool {
	for {
		s.n, s.err = syscall.Write(int(fd), s.p)
		if !errors.Is(s.err, syscall.EINTR) {
			return true
		}
	}
}

// try writes what of p there is room for and returns how much that was.
func (s *socket) try(p []byte) (int, error) {
	s.p = p
	err := s.raw.Write(s.write)
	s.p = nil
	switch {
	case isTimeout(err): // the janitor meant an earlier write
		return 0, nil
	case err != nil: // closed
		return 0, err
	case s.err == nil:
		return s.n, nil
	case errors.Is(s.err, syscall.EAGAIN):
		return 0, nil
	}
	return 0, fmt.Errorf("write: %w", s.err)
}
