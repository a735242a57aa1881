package group

import (
	"context"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/tidemarkmq/tidemark/broker/group/classic"
)

// Listed is a group in ListGroups.
type Listed struct {
	Group        string
	ProtocolType string
	Type         string
	State        string
}

// List handles ListGroups: the groups in one of the states (any case; empty = all), in the order of their ids.
func (c *Coordinator) List(states []string) ([]Listed, *kerr.Error) {
	if err := c.servingAll(); err != nil {
		return nil, err
	}
	var out []Listed
	c.each(func(e *entry) {
		state := e.core.State()
		if len(states) > 0 && !slices.ContainsFunc(states, func(s string) bool { return strings.EqualFold(strings.TrimSpace(s), state) }) {
			return
		}
		out = append(out, Listed{Group: e.id, ProtocolType: e.core.ProtocolType(), Type: e.core.Type(), State: state})
	})
	slices.SortFunc(out, func(a, b Listed) int { return strings.Compare(a.Group, b.Group) })
	return out, nil
}

// Describe handles DescribeGroups for one group; GROUP_ID_NOT_FOUND when there is none of the classic kind.
func (c *Coordinator) Describe(group string) (classic.Description, *kerr.Error) {
	if err := c.serving(group); err != nil {
		return classic.Description{}, err
	}
	e, err := c.acquire(group, false)
	switch {
	case err != nil:
		return classic.Description{}, err
	case e == nil:
		return classic.Description{}, kerr.GroupIDNotFound
	}
	defer c.release(e)
	switch g := e.core.(type) {
	case classicGroup:
		return g.Group.Describe(), nil
	case consumerGroup: // ConsumerGroupDescribe is for these; this API has them as groups that are not there
		return classic.Description{}, kerr.GroupIDNotFound
	}
	return classic.Description{}, kerr.CoordinatorNotAvailable
}

// Delete handles DeleteGroups for one group: its state and offsets are gone when it returns nil.
func (c *Coordinator) Delete(ctx context.Context, group string) *kerr.Error {
	if err := c.serving(group); err != nil {
		return err
	}
	e, err := c.acquire(group, false)
	switch {
	case err != nil:
		return err
	case e == nil:
		return kerr.GroupIDNotFound
	}
	return c.deleteGroup(ctx, e)
}

// deleteGroup deletes a locked group if its core allows it, and unlocks it. A state write under way is waited for.
func (c *Coordinator) deleteGroup(ctx context.Context, e *entry) *kerr.Error {
	for e.saving != nil {
		written := e.saving
		c.release(e)
		select {
		case <-written:
		case <-ctx.Done():
			return kerr.CoordinatorNotAvailable
		}
		next, err := c.acquire(e.id, false)
		switch {
		case err != nil:
			return err
		case next == nil:
			return kerr.GroupIDNotFound
		}
		e = next
	}
	if err := e.core.CheckDelete(); err != nil {
		c.release(e)
		return err
	}
	// From here on every request for the group is put off, so that nothing is written behind the deletion. The queue keeps it
	// behind the commits that were accepted before.
	o := &op{kind: dropOp, bytes: offsetBytes}
	if err := c.enqueue(e, o); err != nil {
		c.release(e)
		return err
	}
	e.doomed = true
	c.release(e)
	if err := c.await(ctx, o); err != nil {
		return err
	}
	return writeError(o.err())
}
