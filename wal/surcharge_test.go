package wal_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemarkmq/tidemark/wal/crashfs"
)

// TestSmallEntriesCountMore appends entries of 100 bytes while nothing is trimmed: what the caller keeps for each is bounded too.
func TestSmallEntriesCountMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const least = 1024
		o := small(crashfs.New(), 1)
		o.MaxBytes, o.MinEntryBytes = 256<<10, least
		l := startOK(t, o)
		ctx := t.Context()
		fill := func() (n int) {
			data := make([]byte, 100)
			for {
				brief, cancel := context.WithTimeout(ctx, time.Second)
				a, err := l.Admit(brief, len(data))
				cancel()
				if errors.Is(err, context.DeadlineExceeded) {
					return n
				}
				if err != nil {
					t.Fatal(err)
				}
				r := l.Append(a, len(data), nil)
				r.Write(data)
				r.Done()
				n++
			}
		}
		if n := fill(); n > int(o.MaxBytes)/least || n < int(o.MaxBytes)/least/6 {
			t.Fatalf("%d entries in %d bytes: %+v", n, o.MaxBytes, l.Stats())
		}
		synctest.Wait()
		s := l.Stats()
		// The group that the last entry opened is padded to a block.
		if s.SurchargeBytes == 0 || s.UntrimmedBytes+s.SurchargeBytes > o.MaxBytes+4096 {
			t.Fatalf("%+v", s)
		}
		half := s.Durable / 2
		if err := l.Trim(half); err != nil {
			t.Fatal(err)
		}
		// How many entries lie in half of the positions depends on how they were grouped.
		if after := l.Stats().SurchargeBytes; after >= s.SurchargeBytes || after == 0 {
			t.Errorf("surcharge %d, and %d after half of the log was trimmed", s.SurchargeBytes, after)
		}
		for range 5 {
			if err := l.Trim(l.Durable()); err != nil {
				t.Fatal(err)
			}
			if s := l.Stats(); s.SurchargeBytes != 0 {
				t.Fatalf("nothing is left but %+v", s)
			}
			if fill() == 0 {
				t.Fatal("no room after everything was trimmed")
			}
			synctest.Wait()
		}
	})
}
