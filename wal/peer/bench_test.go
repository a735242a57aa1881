package peer

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/tidemarkmq/tidemark/wal"
)

// sender appends the groups to a stream in turn, over loopback, to a replica on the operating system's file system.
type sender struct {
	w   *world
	s   *Stream
	src original
	n   int
}

func newSender(tb testing.TB, groups, sizeBytes int) *sender {
	src := writeSegments(tb, 10, groups, sizeBytes, 64<<20)
	w := newWorld(tb, func(so *ServerOptions, co *ClientOptions) {
		loopback(tb, so, co)
		rs, err := wal.OpenReplicas(wal.ReplicaOptions{Dir: tb.TempDir(), Sync: wal.SyncNone})
		must(tb, err)
		so.Replicas = rs
	})
	x := &sender{w: w, src: src}
	x.again(tb)
	return x
}

// settle waits until everything is held.
func (x *sender) settle(tb testing.TB) {
	for x.s.Held() < x.src.end() {
		<-x.s.room
		must(tb, x.s.Err())
	}
}

// again begins the stream anew.
func (x *sender) again(tb testing.TB) {
	if x.s != nil {
		x.settle(tb)
		must(tb, x.s.Close())
	}
	must(tb, x.w.client.Remove(tb.Context(), testStream, 11))
	s, _, err := x.w.client.Open(tb.Context(), testStream, x.src.header, x.src.oldest(), true)
	must(tb, err)
	x.s, x.n = s, 0
}

func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{1000, 28000, 1020000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			x := newSender(b, min(1000, 60000000/size), size)
			defer x.w.stop(b)
			b.SetBytes(int64(len(x.src.groups[0].Bytes)))
			b.ReportAllocs()
			for b.Loop() {
				if x.n == len(x.src.groups) {
					x.settle(b) // else a window of them would cost nothing
					b.StopTimer()
					x.again(b)
					b.StartTimer()
				}
				must(b, x.s.Send(b.Context(), x.src.groups[x.n], false))
				x.n++
			}
		})
	}
}

// BenchmarkAppendWait is one group at a time, there and back.
func BenchmarkAppendWait(b *testing.B) {
	x := newSender(b, 1000, 1000)
	defer x.w.stop(b)
	b.ReportAllocs()
	for b.Loop() {
		if x.n == len(x.src.groups) {
			b.StopTimer()
			x.again(b)
			b.StartTimer()
		}
		_, err := x.s.Append(b.Context(), x.src.groups[x.n])
		must(b, err)
		x.n++
	}
}

// TestSendAllocatesNothing: neither side, network included, beyond what wal.Replicas does for new segments.
func TestSendAllocatesNothing(t *testing.T) {
	x := newSender(t, 300, 1000)
	defer x.w.stop(t)
	for _, g := range x.src.groups[:100] {
		_, err := x.s.Append(t.Context(), g)
		must(t, err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for _, g := range x.src.groups[100:] {
		_, err := x.s.Append(t.Context(), g)
		must(t, err)
	}
	runtime.ReadMemStats(&after)
	per := float64(after.Mallocs-before.Mallocs) / 200
	t.Logf("%.2f allocations for each append, there and back", per)
	if per > 0.5 {
		t.Fatalf("%.2f allocations for each append", per)
	}
}
