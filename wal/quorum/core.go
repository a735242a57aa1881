// Package quorum replicates a WAL stream: its owner's log sends what it writes to replicas on other disks and acknowledges what enough of them
// hold; when the owner is gone any broker can find the end of what was acknowledged and read it. The rules are those of ../models.
//
// The owner's own log is always a member of the ensemble and always one of the quorum. An ensemble starts with the owner alone and a member is named in
// it only when its replica is there, durably. So a member that has nothing has lost something, and does not count. While an ensemble is smaller than its
// quorum, replication acknowledges nothing; entries are then acknowledged when they are committed to the object store, as in the class object.
package quorum

import (
	"slices"

	"github.com/tidemarkmq/tidemark/wal"
)

// Member is a replica's place: a broker, and the disk it had when it became a member. With another disk it is another member.
type Member struct {
	Broker int32
	Disk   string
}

// place is what is known of one remote replica.
type place struct {
	member Member
	opened bool         // its replica is there
	held   wal.Position // it has everything before durably
}

// core decides what is acknowledged and when an ensemble may change. It is PURE and not safe for concurrent use.
type core struct {
	self     Member
	quorum   int      // members, the owner included, that must hold what is acknowledged
	ensemble []Member // as etcd has it
	places   []place  // members other than self, and newcomers
	acked    wal.Position
	next     []Member // while frozen: what the ensemble is to become
}

func newCore(self Member, quorum int) *core {
	return &core{self: self, quorum: quorum, ensemble: []Member{self}}
}

func (c *core) find(m Member) *place {
	k := slices.IndexFunc(c.places, func(p place) bool { return p.member == m })
	if k < 0 {
		return nil
	}
	return &c.places[k]
}

// join begins to follow a newcomer, which does not count yet.
func (c *core) join(m Member) {
	if c.find(m) == nil {
		c.places = append(c.places, place{member: m})
	}
}

// leave forgets somebody who is not a member.
func (c *core) leave(m Member) {
	if !slices.Contains(c.ensemble, m) && !slices.Contains(c.next, m) {
		c.places = slices.DeleteFunc(c.places, func(p place) bool { return p.member == m })
	}
}

// hold notes that m has everything before to, durably, and returns what is acknowledged by now.
func (c *core) hold(m Member, to wal.Position) wal.Position {
	if p := c.find(m); p != nil {
		p.opened, p.held = true, max(p.held, to)
	}
	return c.acknowledged()
}

// acknowledged is the position before which a quorum of the ensemble holds everything, as far as the owner's log has it too. It stands still while
// the ensemble changes.
func (c *core) acknowledged() wal.Position {
	if c.next == nil {
		c.acked = max(c.acked, c.common(c.ensemble))
	}
	return c.acked
}

// common is what quorum-1 of the members other than the owner hold, all of the same.
func (c *core) common(members []Member) wal.Position {
	var held []wal.Position
	for _, m := range members {
		if p := c.find(m); p != nil && m != c.self {
			held = append(held, p.held)
		}
	}
	if len(held) < c.quorum-1 || c.quorum < 2 {
		return 0
	}
	slices.Sort(held)
	return held[len(held)-(c.quorum-1)]
}

// freeze stops acknowledgements because the ensemble is to become next, which has the owner in it. It tells whether that is allowed at all: each member must
// have a replica.
func (c *core) freeze(next []Member) bool {
	if !slices.Contains(next, c.self) {
		return false
	}
	for _, m := range next {
		if p := c.find(m); m != c.self && (p == nil || !p.opened) {
			return false
		}
	}
	c.acknowledged()
	c.next = slices.Clone(next)
	return true
}

// ready tells whether a quorum of the next ensemble holds everything that was acknowledged. An ensemble that is smaller than the quorum is asked for nothing
// when the stream is recovered; so all that was acknowledged must be committed, which needs no ensemble at all.
func (c *core) ready(committed wal.Position) bool {
	return c.next != nil && (c.acked <= committed || c.common(c.next) >= c.acked)
}

// thaw ends the freeze without a change. It must not be called once a transaction may have been sent.
func (c *core) thaw() { c.next = nil }

// changed ends the freeze: etcd has the next ensemble. It returns who is no member any more.
func (c *core) changed() (gone []Member) {
	for _, m := range c.ensemble {
		if !slices.Contains(c.next, m) {
			gone = append(gone, m)
		}
	}
	c.ensemble, c.next = c.next, nil
	for _, m := range gone {
		c.leave(m)
	}
	return gone
}

// Desired is the ensemble that the owner should strive for: of size members, those of the present one first, then candidates, best first. Who is lost or is no
// candidate, because it is dead or leaves, goes: a recovery would have to wait for it. Who is only slow stays until somebody else is there.
func Desired(self Member, present, lost, slow, candidates []Member, size int) []Member {
	out := []Member{self}
	add := func(m Member) {
		taken := slices.ContainsFunc(out, func(o Member) bool { return o.Broker == m.Broker })
		if len(out) < size && !taken {
			out = append(out, m)
		}
	}
	good := func(m Member) bool { return slices.Contains(candidates, m) && !slices.Contains(lost, m) }
	for _, m := range present {
		if good(m) && !slices.Contains(slow, m) {
			add(m)
		}
	}
	for _, m := range candidates {
		if good(m) && !slices.Contains(slow, m) {
			add(m)
		}
	}
	for _, m := range present {
		if good(m) {
			add(m)
		}
	}
	return out
}
