package wire

import (
	"sync"
	"testing"
)

func TestFrameClasses(t *testing.T) {
	for n := 1; n < 1<<27; n += 1 + n/7 {
		c := classOf(n)
		if c >= frameClasses {
			t.Fatalf("%d: class %d", n, c)
		}
		if got := classBytes(c); got < n || got > max(4096, n+n/4+1) {
			t.Errorf("%d bytes get a frame of %d", n, got)
		}
	}
	for c := range frameClasses {
		if classOf(classBytes(c)) != c || classOf(classBytes(c)+1) != c+1 {
			t.Errorf("class %d of %d bytes", c, classBytes(c))
		}
	}
}

func TestFramePool(t *testing.T) {
	p := FramePool{KeepBytes: 1 << 20}
	a := p.Get(500_000)
	if len(a.B) != 500_000 {
		t.Fatal(len(a.B))
	}
	p.Put(a)
	if b := p.Get(490_000); b != a || len(b.B) != 490_000 {
		t.Error("the frame of the same class was not reused")
	}
	p.Put(a)
	big := p.Get(2 << 20)
	p.Put(big)
	if kept := p.KeptBytes(); kept != int64(cap(a.B)) {
		t.Errorf("keeps %d bytes", kept)
	}
	huge := p.Get(200 << 20)
	p.Put(huge)
	if cap(huge.B) != 200<<20 || p.KeptBytes() != int64(cap(a.B)) {
		t.Error("a frame beyond the last class was pooled")
	}
}

// TestFramePoolLarge sends what one producer with many partitions does: requests of ever other sizes.
func TestFramePoolLarge(t *testing.T) {
	p := FramePool{KeepBytes: 256 << 20}
	for _, mib := range []int{3, 5, 12, 7, 9, 11, 6, 12, 8} {
		p.Put(p.Get(mib<<20 - 100))
	}
	if kept := p.KeptBytes(); kept > 20<<20 {
		t.Errorf("keeps %d MiB for one connection whose largest request has 12", kept>>20)
	}
	if f := p.Get(7 << 20); cap(f.B) != 12<<20 {
		t.Errorf("a request of 7 MiB got a frame of %d bytes, not the one of 12 MiB that is there", cap(f.B))
	}
	p.Put(p.Get(1 << 16))
	small := p.Get(1<<16 - 1<<14)
	if cap(small.B) >= 1<<16 {
		t.Error("a small request got a frame of a larger class")
	}
}

// TestSmallFramesAreReused is not about which frame comes back: the pool of each processor may be emptied at any time.
func TestSmallFramesAreReused(t *testing.T) {
	p := FramePool{KeepBytes: 1 << 20}
	for _, n := range []int{1, 4096, 5000, 1 << 16} {
		allocs := testing.AllocsPerRun(1000, func() {
			f := p.Get(n)
			if len(f.B) != n {
				t.Fatalf("%d bytes instead of %d", len(f.B), n)
			}
			p.Put(f)
		})
		if allocs > 0 && !raceEnabled {
			t.Errorf("%v allocations for a frame of %d bytes", allocs, n)
		}
	}
	if p.KeptBytes() != 0 {
		t.Errorf("small frames count as %d kept bytes", p.KeptBytes())
	}
}

func TestFramePoolTrim(t *testing.T) {
	p := FramePool{KeepBytes: 1 << 20}
	const n = 128 << 10
	frames := []*Frame{p.Get(n), p.Get(n), p.Get(n)}
	for _, f := range frames {
		p.Put(f)
	}
	p.Trim() // just came back: nothing was unused all the time
	if p.KeptBytes() != 3*n {
		t.Fatal(p.KeptBytes())
	}
	p.Put(p.Get(n)) // one is in use, two are not
	p.Trim()
	if p.KeptBytes() != n {
		t.Error(p.KeptBytes())
	}
	p.Trim()
	if p.KeptBytes() != 0 {
		t.Error(p.KeptBytes())
	}
}

func TestFramePoolConcurrently(t *testing.T) {
	p := FramePool{KeepBytes: 1 << 20}
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for k := range 500 {
				f := p.Get(1000 << (k % 9))
				for j := range f.B {
					f.B[j] = byte(i)
				}
				for _, c := range f.B {
					if c != byte(i) {
						t.Error("two have the same frame")
						return
					}
				}
				p.Put(f)
			}
		})
	}
	wg.Wait()
}
