package group

import (
	"context"
	"crypto/rand"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/tidemarkmq/tidemark/broker/group/classic"
	"github.com/tidemarkmq/tidemark/metadata"
)

// Join handles JoinGroup. Ticket and NewMemberID of the request are the coordinator's to fill. It blocks until the group begins
// a generation, or ctx is done. Byte slices of the request are kept; those of the reply must not be changed.
func (c *Coordinator) Join(ctx context.Context, group string, r classic.JoinRequest) classic.JoinReply {
	refused := func(err *kerr.Error) classic.JoinReply {
		return classic.JoinReply{Err: err, Generation: -1, MemberID: r.MemberID}
	}
	if err := c.serving(group); err != nil {
		return refused(err)
	}
	if !validGroup(group) {
		return refused(kerr.InvalidGroupID)
	}
	if s := int64(r.SessionTimeoutMillis); s < c.opts.MinSessionTimeout.Milliseconds() || s > c.opts.MaxSessionTimeout.Milliseconds() {
		return refused(kerr.InvalidSessionTimeout)
	}
	e, err := c.acquire(group, r.MemberID == "")
	switch {
	case err != nil:
		return refused(err)
	case e == nil:
		return refused(kerr.UnknownMemberID)
	}
	r.NewMemberID = newMemberID(&r)
	if g, ok := e.core.(consumerGroup); ok {
		if g.Members() > 0 {
			return c.joinConsumers(ctx, e, g, &r)
		}
		if r.MemberID != "" {
			c.release(e)
			return refused(kerr.UnknownMemberID)
		}
		c.become(e, classicGroup{classic.New(&c.core, e.id, c.now())}, nil)
	}
	g, ok := e.core.(classicGroup)
	if !ok {
		c.release(e)
		return refused(kerr.CoordinatorNotAvailable)
	}
	e.ticket++
	r.Ticket = e.ticket
	reply := make(chan classic.JoinReply, 1)
	if e.joins == nil {
		e.joins = map[classic.Ticket]chan classic.JoinReply{}
	}
	e.joins[r.Ticket] = reply
	c.apply(e, g.effects(g.Join(c.now(), r)))
	c.release(e)
	return wait(ctx, reply, func() classic.JoinReply {
		e.mu.Lock()
		delete(e.joins, r.Ticket)
		e.mu.Unlock()
		return refused(kerr.CoordinatorNotAvailable)
	})
}

// newMemberID is unique and begins, as in Kafka, with what people know the member by.
func newMemberID(r *classic.JoinRequest) string {
	if r.MemberID != "" {
		return ""
	}
	name := r.ClientID
	if r.InstanceID != nil {
		name = *r.InstanceID
	}
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%s-%x-%x-%x-%x-%x", name, b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func validGroup(group string) bool { return group != "" && len(group) <= metadata.MaxGroupIDBytes }

// Sync handles SyncGroup. The request's Ticket is the coordinator's to fill. It blocks until the leader's assignment is durable,
// or ctx is done. Byte slices of the request are kept; those of the reply must not be changed.
func (c *Coordinator) Sync(ctx context.Context, group string, r classic.SyncRequest) classic.SyncReply {
	if err := c.serving(group); err != nil {
		return classic.SyncReply{Err: err}
	}
	if !validGroup(group) {
		return classic.SyncReply{Err: kerr.InvalidGroupID}
	}
	e, err := c.acquire(group, false)
	switch {
	case err != nil:
		return classic.SyncReply{Err: err}
	case e == nil:
		return classic.SyncReply{Err: kerr.UnknownMemberID}
	}
	if g, ok := e.core.(consumerGroup); ok {
		reply := g.Sync(c.now(), c.opts.Topics(), &r)
		if err := c.durable(ctx, e); err != nil {
			return classic.SyncReply{Err: err}
		}
		return reply
	}
	g, ok := e.core.(classicGroup)
	if !ok {
		c.release(e)
		return classic.SyncReply{Err: kerr.CoordinatorNotAvailable}
	}
	e.ticket++
	r.Ticket = e.ticket
	reply := make(chan classic.SyncReply, 1)
	if e.syncs == nil {
		e.syncs = map[classic.Ticket]chan classic.SyncReply{}
	}
	e.syncs[r.Ticket] = reply
	c.apply(e, g.effects(g.Sync(c.now(), r)))
	c.release(e)
	return wait(ctx, reply, func() classic.SyncReply {
		e.mu.Lock()
		delete(e.syncs, r.Ticket)
		e.mu.Unlock()
		return classic.SyncReply{Err: kerr.CoordinatorNotAvailable}
	})
}

// Heartbeat handles Heartbeat. While groups are being loaded every heartbeat is welcome: the sessions start anew afterwards.
func (c *Coordinator) Heartbeat(group, memberID string, instanceID *string, generation int32) *kerr.Error {
	switch err := c.serving(group); {
	case err == kerr.CoordinatorLoadInProgress:
		return nil
	case err != nil:
		return err
	}
	if !validGroup(group) {
		return kerr.InvalidGroupID
	}
	e, err := c.acquire(group, false)
	switch {
	case err != nil:
		return err
	case e == nil:
		return kerr.UnknownMemberID
	}
	defer c.release(e)
	switch g := e.core.(type) {
	case classicGroup:
		return g.Heartbeat(c.now(), memberID, instanceID, generation)
	case consumerGroup:
		return g.ClassicHeartbeat(c.now(), memberID, instanceID, generation)
	}
	return kerr.CoordinatorNotAvailable
}

// Leave handles LeaveGroup: one error (nil when it left) for each leaver, or one for the whole request. A group that becomes
// empty is stored first.
func (c *Coordinator) Leave(ctx context.Context, group string, leavers []classic.Leaver) ([]*kerr.Error, *kerr.Error) {
	if err := c.serving(group); err != nil {
		return nil, err
	}
	if !validGroup(group) {
		return nil, kerr.InvalidGroupID
	}
	e, err := c.acquire(group, false)
	switch {
	case err != nil:
		return nil, err
	case e == nil:
		errs := make([]*kerr.Error, len(leavers))
		for i := range errs {
			errs[i] = kerr.UnknownMemberID
		}
		return errs, nil
	}
	if g, ok := e.core.(consumerGroup); ok {
		errs, did := g.ClassicLeave(leavers)
		c.apply(e, g.effects(did))
		c.maybeDowngrade(e)
		return errs, c.durable(ctx, e)
	}
	g, ok := e.core.(classicGroup)
	if !ok {
		c.release(e)
		return nil, kerr.CoordinatorNotAvailable
	}
	errs, err, left := g.Leave(c.now(), leavers)
	did := g.effects(left)
	c.apply(e, did)
	var durable chan *kerr.Error
	if did.save != nil {
		durable = make(chan *kerr.Error, 1)
		e.saved = append(e.saved, saveWaiter{number: did.save.number, done: durable})
	}
	c.release(e)
	if err == nil && durable != nil {
		err = wait(ctx, durable, func() *kerr.Error { return kerr.CoordinatorNotAvailable })
	}
	if err != nil {
		return nil, err
	}
	return errs, nil
}
