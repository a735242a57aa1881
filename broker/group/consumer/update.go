package consumer

import (
	"regexp"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/tidemarkmq/tidemark/broker/group/classic"
)

// fits refuses a member whose regular expression is none, or who needs more room than the group has.
func (g *Group) fits(old, m *member) Refusal {
	if m.regex != "" && g.regexes[m.regex] == nil {
		if _, err := compile(m.regex); err != nil {
			return refuse(kerr.InvalidRegularExpression, "SubscribedTopicRegex `%s` is not a valid regular expression: %s.", m.regex, err)
		}
	}
	size := g.sizeBytes + m.sizeBytes()
	if g.members[old.id] != nil {
		size -= old.sizeBytes()
	}
	if size > g.cfg.MaxBytes {
		return refuse(kerr.GroupMaxSizeReached, "The members of the consumer group would take more than %d bytes.", g.cfg.MaxBytes)
	}
	return Refusal{}
}

// update puts a member in the place of what it was before, and returns the one that counts from now on; new subscriptions make a new
// target due.
func (g *Group) update(before, m *member, e *Effects) *member {
	was := g.members[before.id]
	if was != nil && m.id == was.id && same(was, m) {
		return was
	}
	expression := g.regexes[m.regex]
	if was != nil {
		g.take(was)
	} else {
		e.note("member %s joins", m.id)
	}
	if m.regex != "" {
		if expression == nil {
			pattern, err := compile(m.regex)
			if err != nil { // of another version of the library; it was good when it came
				pattern = nothing
			}
			expression = &regex{pattern: pattern}
		}
		g.regexes[m.regex] = expression
	}
	g.put(m)
	e.Changed = true
	if was == nil || !slices.Equal(before.names, m.names) || before.regex != m.regex {
		g.forgetUnsubscribed()
		g.bump(e)
	}
	return m
}

// nothing matches no topic.
var nothing = regexp.MustCompile(`\A\z`)

// same tells whether two states of a member are stored alike.
func same(a, b *member) bool {
	return equal(a.instanceID, b.instanceID) && equal(a.rackID, b.rackID) && a.clientID == b.clientID && a.clientHost == b.clientHost &&
		a.rebalanceTimeoutMillis == b.rebalanceTimeoutMillis && slices.Equal(a.names, b.names) && a.regex == b.regex &&
		a.assignor == b.assignor && a.classic.equal(b.classic)
}

func equal(a, b *string) bool { return a == b || a != nil && b != nil && *a == *b }

func (c *classicMember) equal(d *classicMember) bool {
	if c == nil || d == nil {
		return c == d
	}
	return c.sessionTimeoutMillis == d.sessionTimeoutMillis && slices.EqualFunc(c.protocols, d.protocols, func(a, b classic.Protocol) bool {
		return a.Name == b.Name && string(a.Metadata) == string(b.Metadata)
	})
}

// samePlaces tells whether two sets have the same partitions, whatever their epochs.
func samePlaces(a, b owned) bool {
	if len(a) != len(b) {
		return false
	}
	for topic, of := range a {
		if len(of) != len(b[topic]) {
			return false
		}
		for p := range of {
			if !b.has(topic, p) {
				return false
			}
		}
	}
	return true
}
