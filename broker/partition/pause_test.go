package partition

import (
	"context"
	"errors"
	"testing"
	"time"
)

// sending starts an append that is expected to wait, and returns where its outcome comes.
func (r *rig) sending(ctx context.Context, p *Partition, b []byte) <-chan error {
	out := make(chan error, 1)
	started := make(chan struct{})
	go func() {
		close(started)
		o, err := r.sendIn(ctx, p, b)
		if err == nil {
			err = (<-o.c).err
		}
		out <- err
	}()
	<-started
	return out
}

func TestPauseHoldsAppendsBack(t *testing.T) {
	r, held := newHeldRig(t)
	p := r.open(nil)
	inFlight, err := r.send(p, mk(t, 3, 10, 0, nil))
	if err != nil {
		t.Fatal(err)
	}
	p.Pause()
	p.Pause() // again does nothing
	settled := make(chan error, 1)
	go func() {
		end, err := p.Settled(t.Context())
		if err == nil && end != 3 {
			t.Errorf("settled at %d", end)
		}
		settled <- err
	}()
	waiting := r.sending(t.Context(), p, mk(t, 2, 10, 0, nil))
	select {
	case err := <-settled:
		t.Fatalf("settled before the batch in flight was durable: %v", err)
	default:
	}
	held.letGo(1, nil)
	if res := <-inFlight.c; res.err != nil || res.BaseOffset != 0 {
		t.Fatalf("%+v", res)
	}
	if err := <-settled; err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-waiting:
		t.Fatalf("an append went on though the partition is paused: %v", err)
	default:
	}
	p.Resume()
	p.Resume()
	held.letGo(1, nil)
	if err := <-waiting; err != nil || p.HighWatermark() != 5 {
		t.Fatalf("%v, high watermark %d", err, p.HighWatermark())
	}
}

func TestClosingAPausedPartitionRefusesWhoWaits(t *testing.T) {
	r := newRig(t, nil)
	p := r.open(nil)
	p.Pause()
	waiting := r.sending(t.Context(), p, mk(t, 2, 10, 0, nil))
	r.set.Close(testID)
	if err := <-waiting; !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
	if n := r.log.Stats().AdmittedBytes; n != 0 {
		t.Errorf("%d bytes stay admitted", n)
	}
}

func TestPausedAppendsKeepTheirDeadline(t *testing.T) {
	r := newRig(t, nil)
	p := r.open(nil)
	p.Pause()
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := <-r.sending(ctx, p, mk(t, 2, 10, 0, nil)); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	p.Resume()
	r.append(p, mk(t, 2, 10, 0, nil))
}

func TestSettledEndsWithTheLog(t *testing.T) {
	r, held := newHeldRig(t)
	p := r.open(nil)
	if _, err := r.send(p, mk(t, 3, 10, 0, nil)); err != nil {
		t.Fatal(err)
	}
	p.Pause()
	settled := make(chan error, 1)
	go func() {
		_, err := p.Settled(t.Context())
		settled <- err
	}()
	held.letGo(1, errors.New("disk"))
	if err := <-settled; !errors.Is(err, ErrFailed) {
		t.Fatal(err)
	}
}

// TestPartitionKeepsItsStream opens one partition on the set's stream and one on another.
func TestPartitionKeepsItsStream(t *testing.T) {
	r := newRig(t, nil)
	other := newRig(t, nil)
	p := r.open(nil)
	q := r.open(func(s *OpenState) {
		s.ID.Partition++
		s.Stream = &Stream{WAL: other.log, File: other.log}
	})
	for i := range 3 {
		r.append(p, mk(t, 2, 10, int64(i), nil))
		r.append(q, mk(t, 3, 10, int64(i), nil))
	}
	for _, s := range []struct {
		rig *rig
		p   *Partition
		end int64
	}{{r, p, 6}, {other, q, 9}} {
		if n := s.rig.log.Stats().Entries; n != 3 {
			t.Errorf("%d entries in the stream of %s, want 3", n, s.p.ID())
		}
		if hw := s.p.HighWatermark(); int64(hw) != s.end {
			t.Errorf("high watermark of %s is %d, want %d", s.p.ID(), hw, s.end)
		}
	}
	// Enough to push q's first batches out of the other stream's slabs: they come back from its files.
	for range 200 {
		r.append(q, mk(t, 1, 4000, 0, nil))
	}
	if slow := r.readAll(q, 0); slow == 0 {
		t.Error("everything was still in memory")
	}
}
