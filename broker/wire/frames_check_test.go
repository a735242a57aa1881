//go:build framecheck

package wire

import "testing"

func TestFrameMisuseIsLoud(t *testing.T) {
	for name, misuse := range map[string]func(p *FramePool, f *Frame){
		"put twice": func(p *FramePool, f *Frame) { p.Put(f); p.Put(f) },
		"written after put": func(p *FramePool, f *Frame) {
			p.Put(f)
			f.B[10] = 1
			p.Get(100_000)
		},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			p := FramePool{KeepBytes: 1 << 20}
			misuse(&p, p.Get(100_000))
		})
	}
}
