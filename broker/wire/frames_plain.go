//go:build !framecheck

package wire

type frameState struct{}

func (f *Frame) checkIn()  {}
func (f *Frame) checkOut() {}
