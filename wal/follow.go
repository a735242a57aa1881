package wal

import (
	"context"
	"fmt"
	"slices"
)

// Written is the position before which everything is durable here; with Options.Replicated it may be ahead of Durable.
func (l *Log) Written() Position {
	if !l.o.Replicated {
		return l.Durable()
	}
	return Position(l.written.Load())
}

// signal tells the receiver of Advanced.
func (l *Log) signal() {
	select {
	case l.advanced <- struct{}{}:
	default:
	}
}

// Replicated says that enough others hold everything before to, durably and for good. Entries before it complete once they are durable
// here too. Only with Options.Replicated; a lower position than before changes nothing. Safe for concurrent use.
func (l *Log) Replicated(to Position) {
	for {
		old := l.replicated.Load()
		if uint64(to) <= old {
			return
		}
		if l.replicated.CompareAndSwap(old, uint64(to)) {
			break
		}
	}
	l.notify()
}

// Fail ends the stream from outside: Durable grows no more. All completions from there on, and Run, get an error that wraps ErrFailed
// and cause. It does nothing in a stream that has failed.
func (l *Log) Fail(cause error) {
	l.fail(cause)
	l.mu.Lock()
	l.wakeFollowersLocked()
	l.mu.Unlock()
}

// Fence fails the log with ErrFenced for the sake of a recoverer with the given epoch, which must be above the log's own, and says
// what is durable here. Whatever is acknowledged, before or after it returns, lies before Tail.End.
func (l *Log) Fence(epoch uint64) (Tail, error) {
	if epoch <= l.o.Epoch {
		return Tail{}, fmt.Errorf("%w: epoch %d, the writer has %d", ErrFenced, epoch, l.o.Epoch)
	}
	l.Fail(ErrFenced)
	return Tail{Header: l.Header(), Start: l.Oldest().First, End: l.Written(), Promise: epoch}, nil
}

// publish shows the sealed group to followers, before it is durable.
func (l *Log) publish(g *group) {
	l.mu.Lock()
	l.extents.add(g)
	l.sealed = g.end()
	l.wakeFollowersLocked()
	l.mu.Unlock()
}

// landed notes that the group is durable here, or why not.
func (l *Log) landed(g *group) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if g.err != nil {
		l.failLocked(g.err)
	}
	if l.err == nil {
		g.segment.committed(g.pos, g.end())
		l.written.Store(uint64(g.end()))
		l.signal()
	}
	l.wakeFollowersLocked()
}

func (l *Log) wakeFollowersLocked() {
	for _, f := range l.followers {
		select {
		case f.wake <- struct{}{}:
		default:
		}
	}
}

// acknowledge completes the groups that are replicated, or all if the stream has failed.
func (c *committer) acknowledge() {
	told := 0
	for _, g := range c.awaiting {
		if g.end() > Position(c.l.replicated.Load()) && c.l.failure() == nil {
			break
		}
		c.tell(g)
		told++
	}
	if told > 0 { // at once: many wait while the object store is slow
		c.awaiting = slices.Delete(c.awaiting, 0, told)
	}
}

// Group is one group of a stream, as it is, or will be, on the disk.
type Group struct {
	Segment       SegmentRef
	Position, End Position
	Bytes         []byte // valid until the follower's next call; must not be changed
}

// Follower shows a log's groups in order to somebody who copies them. It takes them from memory while they are there, holding at most
// one slab, and from the files later. Not safe for concurrent use.
type Follower struct {
	l      *Log
	pos    Position
	wake   chan struct{}
	pinned *slab
	files  fileReader
}

// Follow begins at the first group that ends after from, which should be the end of one, or the first position of a retained segment.
// The log must have Options.Replicated. The follower needs Close, before the log's Close.
func (l *Log) Follow(from Position) *Follower {
	if !l.o.Replicated {
		panic("wal: Follow without Options.Replicated")
	}
	f := &Follower{l: l, pos: from, wake: make(chan struct{}, 1), files: fileReader{segs: l.segs}}
	l.mu.Lock()
	l.followers = append(l.followers, f)
	l.mu.Unlock()
	return f
}

// Next waits for the next group, which need not be durable here yet. Errors: ErrTrimmed (the follower is so far behind that the
// group's file is gone), ErrFailed, *CorruptionError, those of the file system, or the cause of ctx.
func (f *Follower) Next(ctx context.Context) (Group, error) {
	f.unpin()
	for {
		if err := stopIfDone(ctx); err != nil {
			return Group{}, err
		}
		g, ok, err := f.try()
		if ok || err != nil {
			return g, err
		}
		select {
		case <-f.wake:
		case <-ctx.Done():
		}
	}
}

// More says whether Next would return at once: whether there is a reason not to send what is buffered.
func (f *Follower) More() bool {
	f.l.mu.Lock()
	defer f.l.mu.Unlock()
	return f.pos < f.l.sealed || f.l.err != nil
}

func (f *Follower) try() (g Group, ok bool, err error) {
	l := f.l
	l.mu.Lock()
	sealed, err := l.sealed, l.err
	x, found := l.extents.find(f.pos)
	found = found && x.slab.pin(x.gen)
	l.mu.Unlock()
	if found {
		f.pinned = x.slab
	}
	switch {
	case err != nil:
		return g, false, err
	case f.pos >= sealed:
		return g, false, nil
	case found:
		if err := f.leaveFiles(); err != nil {
			return g, false, err
		}
		g.Segment, err = l.segs.refAt(x.pos)
		g.Position, g.End, g.Bytes = x.pos, x.end(), x.slab.buf[x.off:x.off+x.length:x.off+x.length]
	default:
		h, b, rerr := f.files.groupAfter(f.pos)
		if rerr != nil || b == nil { // not written yet, and readers hold all the slabs that they may
			return g, false, rerr
		}
		clear(b[h.Content:])
		g = Group{Segment: f.files.seg.ref(), Position: h.Position, End: h.end(), Bytes: b}
	}
	if err != nil {
		return Group{}, false, err
	}
	f.pos = g.End
	return g, true, nil
}

// leaveFiles lets go of the file and of the memory for reading it, once the follower has caught up.
func (f *Follower) leaveFiles() error {
	if f.files.buf == nil {
		return nil
	}
	err := f.files.close()
	f.files = fileReader{segs: f.l.segs}
	return err
}

func (f *Follower) unpin() {
	if f.pinned != nil {
		f.pinned.unpin()
		f.pinned = nil
	}
}

// Close ends the follower.
func (f *Follower) Close() error {
	f.unpin()
	l := f.l
	l.mu.Lock()
	for i, o := range l.followers {
		if o == f {
			l.followers = append(l.followers[:i], l.followers[i+1:]...)
			break
		}
	}
	l.mu.Unlock()
	return f.leaveFiles()
}
