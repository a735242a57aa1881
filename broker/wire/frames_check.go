//go:build framecheck

package wire

import "sync/atomic"

// poison is what released frames are full of.
const poison = 0xdb

type frameState struct{ released atomic.Bool }

func (f *Frame) checkIn() {
	if !f.state.released.CompareAndSwap(false, true) {
		panic("wire: frame put back twice")
	}
	b := f.B[:cap(f.B)]
	for i := range b {
		b[i] = poison
	}
}

func (f *Frame) checkOut() {
	if !f.state.released.CompareAndSwap(true, false) {
		panic("wire: frame handed out twice")
	}
	for _, c := range f.B[:cap(f.B)] {
		if c != poison {
			panic("wire: frame was written after it was put back")
		}
	}
}
