package group

import (
	"context"
	"fmt"
	"iter"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/tidemarkmq/tidemark/broker/group/classic"
	"github.com/tidemarkmq/tidemark/broker/group/consumer"
	"github.com/tidemarkmq/tidemark/metadata"
)

// ConsumerType is the type of consumer groups in ListGroups (KIP-848).
const ConsumerType = "consumer"

// consumerGroup makes a core of a consumer group.
type consumerGroup struct{ *consumer.Group }

func (g consumerGroup) Type() string                                    { return ConsumerType }
func (g consumerGroup) State() string                                   { return g.Group.State().String() }
func (g consumerGroup) CheckOffsetDelete() *kerr.Error                  { return nil }
func (g consumerGroup) tick(nowMillis int64) effects                    { return g.effects(g.Tick(nowMillis)) }
func (g consumerGroup) saved(int64, uint64, *kerr.Error) (none effects) { return none }
func (g consumerGroup) unload(int64, *kerr.Error) (none effects)        { g.Unload(); return none }

// CheckCommit is the check of commits that name no partitions yet: those of transactions.
func (g consumerGroup) CheckCommit(_ int64, memberID string, instanceID *string, epoch int32) *kerr.Error {
	if epoch == -1 && memberID == "" && instanceID == nil {
		return nil
	}
	each, err := g.Group.CheckCommit(memberID, epoch, anyVersion)
	if err == nil && each != nil {
		return kerr.StaleMemberEpoch
	}
	return err
}

// checkCommit decides whether a commit is taken. Partitions that the member had not at the epoch that it names are refused by themselves,
// and taken out of the operation.
func (g consumerGroup) checkCommit(r *Commit, o *op) *kerr.Error {
	each, err := g.Group.CheckCommit(r.MemberID, r.Generation, r.Version)
	if err != nil || each == nil {
		return err
	}
	for t := range r.Topics {
		topic := &r.Topics[t]
		for p := range topic.Partitions {
			part := &topic.Partitions[p]
			if part.Err != nil {
				continue
			}
			if part.Err = each(consumer.TopicID(topic.Topic), part.Partition); part.Err != nil {
				o.drop(topic.Topic, part.Partition)
			}
		}
	}
	return nil
}

// drop takes a partition out of a commit.
func (o *op) drop(topic metadata.TopicID, partition int32) {
	for i := range o.commits {
		if o.commits[i].Topic == topic {
			delete(o.commits[i].Partitions, partition)
		}
	}
	o.commits = slices.DeleteFunc(o.commits, func(c metadata.GroupOffsets) bool { return len(c.Partitions) == 0 })
}

// anyVersion stands for a request version that members of consumer groups may use.
const anyVersion = 1<<15 - 1

func (g consumerGroup) effects(e consumer.Effects) effects {
	out := effects{notes: e.Notes, started: e.Started, completed: e.Completed}
	if e.Changed {
		out.save = g.save()
	}
	return out
}

// save is a write of the state as it is when the write begins.
func (g consumerGroup) save() *save {
	var snapshot consumer.Snapshot
	return &save{
		core: g, prepare: func() { snapshot = g.Snapshot() },
		encode: func(incarnation int64, sequence uint64) ([]byte, error) {
			snapshot.Incarnation, snapshot.Sequence = incarnation, sequence
			state := consumer.Encode(&snapshot)
			if len(state) > maxStateBytes {
				return nil, tooLarge(len(state))
			}
			return state, nil
		},
	}
}

// ConsumerHeartbeat handles ConsumerGroupHeartbeat. NewMemberID of the request is the coordinator's to fill. It blocks until what it
// answers is durable, or ctx is done. Slices of the request are kept; those of the reply must not be changed.
func (c *Coordinator) ConsumerHeartbeat(ctx context.Context, group string, r consumer.HeartbeatRequest) consumer.HeartbeatReply {
	refused := func(err *kerr.Error, message string) consumer.HeartbeatReply {
		return consumer.HeartbeatReply{Refusal: consumer.Refusal{Err: err, Message: message}, MemberID: r.MemberID, Epoch: r.Epoch}
	}
	if err := c.serving(group); err != nil {
		return refused(err, "")
	}
	switch {
	case group == "":
		return refused(kerr.InvalidRequest, "GroupId can't be empty.")
	case !validGroup(group):
		return refused(kerr.InvalidGroupID, "")
	}
	settings := c.opts.Consumers(group)
	if why := r.Check(&settings); why.Err != nil {
		return refused(why.Err, why.Message)
	}
	joining := r.Epoch == consumer.JoinEpoch
	e, err := c.acquire(group, joining)
	switch {
	case err != nil:
		return refused(err, "")
	case e == nil:
		return refused(kerr.GroupIDNotFound, fmt.Sprintf("Consumer group %s not found.", group))
	}
	g, err := c.consumerGroupOf(e, joining)
	if err != nil {
		c.release(e)
		return refused(err, fmt.Sprintf("Group %s is not a consumer group.", group))
	}
	if r.MemberID == "" {
		r.NewMemberID = newMemberID(&classic.JoinRequest{ClientID: r.ClientID, InstanceID: r.InstanceID})
	}
	reply, did := g.Heartbeat(c.now(), c.opts.Topics(), &r)
	if reply.Err != nil { // nothing changed
		c.release(e)
		return reply
	}
	c.become(e, g, kerr.RebalanceInProgress)
	c.apply(e, g.effects(did))
	c.maybeDowngrade(e)
	if err := c.durable(ctx, e); err != nil {
		return refused(err, "")
	}
	return reply
}

// joinConsumers lets a member of the classic protocol join a locked consumer group, and unlocks it. The last member of the consumer
// protocol may be the static one whose place it takes; then the group is a classic one from now on.
func (c *Coordinator) joinConsumers(ctx context.Context, e *entry, g consumerGroup, r *classic.JoinRequest) classic.JoinReply {
	reply, did := g.Join(c.now(), c.opts.Topics(), r)
	if reply.Err != nil {
		c.release(e)
		return reply
	}
	c.apply(e, g.effects(did))
	c.maybeDowngrade(e)
	if err := c.durable(ctx, e); err != nil {
		return classic.JoinReply{Err: err, Generation: -1, MemberID: r.MemberID}
	}
	return reply
}

// DescribeConsumers handles ConsumerGroupDescribe for one group; GROUP_ID_NOT_FOUND with a text when there is none, or none of its kind.
func (c *Coordinator) DescribeConsumers(group string) (consumer.Description, consumer.Refusal) {
	refused := func(err *kerr.Error, message string) (consumer.Description, consumer.Refusal) {
		return consumer.Description{}, consumer.Refusal{Err: err, Message: message}
	}
	if err := c.serving(group); err != nil {
		return refused(err, "")
	}
	e, err := c.acquire(group, false)
	switch {
	case err != nil:
		return refused(err, "")
	case e == nil:
		return refused(kerr.GroupIDNotFound, fmt.Sprintf("Group %s not found.", group))
	}
	defer c.release(e)
	g, ok := e.core.(consumerGroup)
	if !ok {
		return refused(kerr.GroupIDNotFound, fmt.Sprintf("Group %s is not a consumer group.", group))
	}
	return g.Group.Describe(), consumer.Refusal{}
}

// CheckFetch decides whether offsets of a group may be told to a member at its epoch (OffsetFetch from v9); nobody who names none is
// refused.
func (c *Coordinator) CheckFetch(group string, memberID *string, epoch int32) *kerr.Error {
	if memberID == nil && epoch < 0 || c.serving(group) != nil {
		return nil // FetchOffsets tells
	}
	e, err := c.acquire(group, false)
	if err != nil || e == nil {
		return nil
	}
	defer c.release(e)
	if g, ok := e.core.(consumerGroup); ok {
		return g.CheckFetch(memberID, epoch)
	}
	return nil
}

// consumerGroupOf is the consumer group of a locked entry. A member that joins makes one of an empty classic group, and of one whose
// members are consumers, if the policy allows; it counts once the entry becomes it.
func (c *Coordinator) consumerGroupOf(e *entry, joining bool) (consumerGroup, *kerr.Error) {
	switch g := e.core.(type) {
	case consumerGroup:
		return g, nil
	case classicGroup:
		switch {
		case !joining:
		case g.Group.State() == classic.Empty:
			return consumerGroup{consumer.New(&c.modern, e.id)}, nil
		case slices.Contains([]string{"upgrade", "bidirectional"}, c.opts.Migration):
			snapshot := g.Snapshot()
			upgraded, err := consumer.FromClassic(&c.modern, e.id, c.now(), c.opts.Topics(), &snapshot)
			if err == nil {
				return consumerGroup{upgraded}, nil
			}
			e.notes = append(e.notes, fmt.Sprintf("a classic group cannot become a consumer group: %v", err))
		}
		return consumerGroup{}, kerr.GroupIDNotFound
	default:
		return consumerGroup{}, kerr.CoordinatorNotAvailable
	}
}

// become gives a locked entry another core; requests parked with the one before are answered with the error.
func (c *Coordinator) become(e *entry, g core, err *kerr.Error) {
	if e.core == g {
		return
	}
	before := e.core
	c.apply(e, before.unload(c.now(), err))
	e.core = g
	if before.Members() > 0 {
		e.notes = append(e.notes, fmt.Sprintf("the %s group becomes a %s group", before.Type(), g.Type()))
	}
}

// maybeDowngrade makes a classic group of a consumer group whose last member of the consumer protocol is gone.
func (c *Coordinator) maybeDowngrade(e *entry) {
	g, ok := e.core.(consumerGroup)
	if !ok || !slices.Contains([]string{"downgrade", "bidirectional"}, c.opts.Migration) || !g.OnlyClassic() || g.Members() > c.opts.MaxGroupSize {
		return
	}
	restored, did := classic.Restore(&c.core, e.id, c.now(), g.ToClassic(c.now(), c.opts.Topics()))
	next := classicGroup{restored}
	c.become(e, next, kerr.RebalanceInProgress)
	c.apply(e, next.effects(did))
	c.apply(e, next.effects(restored.Store()))
	c.apply(e, next.effects(restored.Rebalance(c.now(), "the group was a consumer group")))
}

// durable unlocks a group and waits until all that its core has said is durable.
func (c *Coordinator) durable(ctx context.Context, e *entry) *kerr.Error {
	if g, ok := e.core.(consumerGroup); ok && e.unsaved {
		c.save(e, g.save()) // the last write failed
	}
	if e.saving == nil {
		c.release(e)
		return nil
	}
	done := make(chan *kerr.Error, 1)
	e.saved = append(e.saved, saveWaiter{number: e.saves, done: done})
	c.release(e)
	return wait(ctx, done, func() *kerr.Error { return kerr.CoordinatorNotAvailable })
}

// defaultConsumers are Kafka's defaults.
var defaultConsumers = consumer.Settings{
	SessionTimeoutMillis: 45_000, HeartbeatIntervalMillis: 5_000, MaxMembers: 1<<31 - 1,
	Assignors: []string{consumer.Uniform, consumer.Range}, RegexRefreshMillis: 600_000,
}

// noTopics is a cluster without topics.
type noTopics struct{}

func (noTopics) Topic(string) (consumer.Topic, bool)  { return consumer.Topic{}, false }
func (noTopics) Name(consumer.TopicID) (string, bool) { return "", false }
func (noTopics) Names() iter.Seq[string]              { return func(func(string) bool) {} }
func (noTopics) Revision() int64                      { return 0 }
func (noTopics) Generation() int64                    { return 0 }
