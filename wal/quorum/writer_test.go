package quorum

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemarkmq/tidemark/wal"
)

// eventually waits, in virtual time, for what must come.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 600 {
		if ok() {
			return
		}
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
	}
	t.Fatalf("never: %s", what)
}

func TestStreamOutlivesItsOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, b, c, d)
		defer w.close()
		o := w.own(a, func() []Member { return []Member{a, b, c} })
		eventually(t, "an ensemble of three", func() bool { return len(o.writer.Ensemble()) == 3 })
		for i := range 300 {
			if err := o.append(i); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, "acks", func() bool { return o.acks() == 300 })
		o.stop() // with its disk
		members := w.recoverer()
		w.crash(b)
		if _, err := Recover(t.Context(), RecoverOptions{Stream: testStream, Epoch: 9, Members: members, Quorum: 2, Dial: w.dial}); !errors.Is(err, ErrNotEnough) {
			t.Fatalf("c alone cannot know what a and b acknowledged: %v", err)
		}
		w.up(b)
		r, err := Recover(t.Context(), RecoverOptions{Stream: testStream, Epoch: 10, Members: members, Quorum: 2, Dial: w.dial})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.check(r, 300); err != nil {
			t.Fatal(err)
		}
		if _, err := Recover(t.Context(), RecoverOptions{Stream: testStream, Epoch: 9, Members: members, Quorum: 2, Dial: w.dial}); !errors.Is(err, wal.ErrFenced) {
			t.Fatalf("an earlier recoverer goes on: %v", err)
		}
	})
}

func TestNothingIsAcknowledgedAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, b)
		defer w.close()
		w.cut(b, true)
		o := w.own(a, func() []Member { return []Member{a, b} })
		defer func() { o.stop() }()
		if err := o.append(0); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if synctest.Wait(); o.acks() != 0 {
			t.Fatal("acknowledged on one disk")
		}
		o.log.Replicated(o.log.Written()) // it was committed to the object store
		eventually(t, "the ack of what is committed", func() bool { return o.acks() == 1 })
		r, err := Recover(t.Context(), RecoverOptions{Stream: testStream, Epoch: 9, Members: w.recoverer(), Quorum: 2, Dial: w.dial, Committed: 4096})
		if err != nil || r.End() != 4096 {
			t.Fatalf("an ensemble of one ends where its commits end: %v", err)
		}
		w.cut(b, false)
		eventually(t, "the former owner is told", func() bool {
			err := o.append(1)
			return err != nil
		})
	})
}

func TestLostAndSlowMembersAreReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, b, c, d)
		defer w.close()
		o := w.own(a, func() []Member { return []Member{b, c, d, a} })
		defer func() { o.stop() }()
		i := 0
		fill := func(n int) {
			for range n {
				if err := o.append(i); err != nil {
					t.Fatal(err)
				}
				i++
			}
		}
		eventually(t, "b and c", func() bool { return slices.Equal(o.writer.Ensemble(), []Member{a, b, c}) })
		fill(100)
		eventually(t, "acks", func() bool { return o.acks() == i })
		w.cut(c, true)
		fill(100)
		eventually(t, "d instead of c", func() bool { return slices.Equal(o.writer.Ensemble(), []Member{a, b, d}) })
		eventually(t, "acks without c", func() bool { return o.acks() == i })
		// The disk of b comes back empty: what it held counts no more.
		w.crash(b)
		h := w.at[b]
		h.disk = newWorld(t, 2, b).at[b].disk.Fork()
		w.up(b)
		w.cut(c, false)
		fill(100)
		eventually(t, "c instead of b", func() bool { return slices.Equal(o.writer.Ensemble(), []Member{a, d, c}) })
		eventually(t, "acks", func() bool { return o.acks() == i })
		if err := o.log.Trim(o.log.Durable()); err != nil {
			t.Fatal(err)
		}
		oldest := o.log.Oldest().First
		if oldest == 0 {
			t.Fatal("nothing to trim")
		}
		eventually(t, "replicas are trimmed", func() bool {
			_, err := w.at[c].rs.Read(t.Context(), testStream, 0, 1, nil)
			return errors.Is(err, wal.ErrTrimmed)
		})
	})
}

// TestWeather: brokers crash, links break, requests and answers get lost, and in the end another broker recovers the stream while its owner
// goes on. Whatever was acknowledged, before or after, is there.
func TestWeather(t *testing.T) {
	for seed := range uint64(60) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, seed, b, c, d)
			defer w.close()
			w.loss = int(seed % 6)
			o := w.own(a, func() []Member { return []Member{b, c, d} })
			all, down := []Member{b, c, d}, map[Member]bool{}
			i := 0
			for range 60 {
				w.mu.Lock()
				what, m, n := w.rand.IntN(10), all[w.rand.IntN(3)], w.rand.IntN(20)
				w.mu.Unlock()
				switch {
				case what == 0 && !down[m]:
					w.crash(m)
					down[m] = true
				case what <= 2 && down[m]:
					w.up(m)
					down[m] = false
				case what == 3:
					w.cut(m, n%2 == 0)
				default:
					for ; n > 0 && o.append(i) == nil; n-- {
						i++
					}
				}
				time.Sleep(time.Duration(what*what*10) * time.Millisecond)
			}
			members := w.recoverer()
			epoch := uint64(10)
			for attempt := 0; ; attempt++ {
				if attempt == 5 { // long enough; now everybody comes back
					for _, m := range all {
						w.cut(m, false)
						if down[m] {
							w.up(m)
							down[m] = false
						}
					}
				}
				if attempt > 30 {
					t.Fatalf("seed %d: %v cannot be recovered", seed, members)
				}
				if o.append(i) == nil {
					i++
				}
				r, err := Recover(t.Context(), RecoverOptions{Stream: testStream, Epoch: epoch, Members: members, Quorum: 2, Dial: w.dial})
				epoch++
				if errors.Is(err, ErrNotEnough) {
					continue
				}
				if err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
				if len(members) < 2 {
					break
				}
				err = w.check(r, 0)
				if errors.Is(err, ErrUnreadable) {
					continue
				}
				if err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
				time.Sleep(10 * time.Second)
				synctest.Wait()
				if err := w.check(r, o.acks()); err != nil && !errors.Is(err, ErrUnreadable) {
					t.Fatalf("seed %d: %v", seed, err)
				}
				break
			}
			o.stop()
		})
	}
}
