//go:build !linux

package process

import (
	"errors"
	"syscall"
	"time"
)

func childAttributes() *syscall.SysProcAttr { return nil }

// Usage is what a process has used so far.
type Usage struct {
	CPU          time.Duration
	RSSBytes     int64
	PeakRSSBytes int64
}

// Usage is known on Linux only.
func (b *Broker) Usage() (Usage, error) { return UsageOf(b.PID()) }

// UsageOf is known on Linux only.
func UsageOf(int) (Usage, error) { return Usage{}, errors.ErrUnsupported }
