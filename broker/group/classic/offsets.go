package classic

import "github.com/twmb/franz-go/pkg/kerr"

// consumerProtocol is the protocol type of Kafka's consumers; the broker reads the topics of their subscriptions.
const consumerProtocol = "consumer"

// CheckCommit decides whether a member, or with generation -1 a client that is no member, may commit offsets. A member's session
// is kept alive by it.
func (g *Group) CheckCommit(nowMillis int64, memberID string, instanceID *string, generation int32) *kerr.Error {
	switch {
	case g.state == Dead:
		return kerr.CoordinatorNotAvailable
	case generation < 0 && g.state == Empty:
		return nil
	case generation < 0 && memberID == "" && instanceID == nil:
		return kerr.UnknownMemberID
	}
	if err := g.validate(memberID, instanceID); err != nil {
		return err
	}
	switch {
	case generation != g.generation:
		return kerr.IllegalGeneration
	case g.state == CompletingRebalance:
		return kerr.RebalanceInProgress
	}
	g.touch(g.members[memberID], nowMillis)
	return nil
}

// CheckOffsetDelete decides whether offsets may be deleted; topics that are subscribed are checked one by one with Subscribes.
func (g *Group) CheckOffsetDelete() *kerr.Error {
	switch {
	case g.state == Dead:
		return kerr.GroupIDNotFound
	case g.state != Empty && g.protocolType != consumerProtocol:
		return kerr.NonEmptyGroup
	}
	return nil
}

// CheckDelete decides whether the group may be deleted.
func (g *Group) CheckDelete() *kerr.Error {
	switch g.state {
	case Dead:
		return kerr.GroupIDNotFound
	case Empty:
		return nil
	default:
		return kerr.NonEmptyGroup
	}
}

// Subscribes tells whether the members' subscriptions name the topic. A consumer group whose subscriptions cannot be read
// subscribes to everything.
func (g *Group) Subscribes(topic string) bool {
	if !g.knowsSubscribed {
		return g.protocolType == consumerProtocol
	}
	_, ok := g.subscribed[topic]
	return ok
}

// Expires tells whether a committed offset of a topic is past its retention: expireMillis if the commit named one (> 0), else
// retentionMillis after the group became empty, or, for a simple group or an unsubscribed topic, after the commit (KIP-211).
func (g *Group) Expires(nowMillis int64, topic string, commitMillis, expireMillis, retentionMillis int64) bool {
	var base int64
	switch {
	case g.protocolType == "":
		base = commitMillis
	case g.state == Empty:
		if base = g.sinceMillis; base < 0 {
			base = commitMillis
		}
	case g.state == Stable && g.protocolType == consumerProtocol && g.knowsSubscribed:
		base = commitMillis
	default:
		return false
	}
	if g.Subscribes(topic) {
		return false
	}
	if expireMillis > 0 {
		return nowMillis >= expireMillis
	}
	return nowMillis-base >= retentionMillis
}

// learnSubscription notes the topics that the members of the generation subscribe to.
func (g *Group) learnSubscription() {
	g.subscribed, g.knowsSubscribed = nil, false
	if g.protocolType != consumerProtocol {
		return
	}
	topics := map[string]struct{}{}
	for _, m := range g.order {
		if !subscribedTopics(m.metadata(g.protocol), topics) {
			return
		}
	}
	g.subscribed, g.knowsSubscribed = topics, true
}

// subscribedTopics adds the topics of a ConsumerProtocolSubscription to the set. All its versions begin with version (int16) and
// topics (array of strings); user data follows as nullable bytes.
func subscribedTopics(b []byte, into map[string]struct{}) bool {
	if len(b) < 6 {
		return false
	}
	n := int32(b[2])<<24 | int32(b[3])<<16 | int32(b[4])<<8 | int32(b[5])
	b = b[6:]
	if n < 0 || int(n) > len(b)/2 {
		return false
	}
	for range n {
		if len(b) < 2 {
			return false
		}
		size := int(int16(uint16(b[0])<<8 | uint16(b[1])))
		if b = b[2:]; size < 0 || size > len(b) {
			return false
		}
		into[string(b[:size])] = struct{}{}
		b = b[size:]
	}
	return len(b) >= 4 // the length of the user data
}
