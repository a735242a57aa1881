package consumer

import (
	"maps"
	"regexp"
	"slices"
)

// compile makes a regular expression that matches whole names only. The syntax is RE2's, as in Kafka.
func compile(expression string) (*regexp.Regexp, error) {
	if _, err := regexp.Compile(expression); err != nil { // what the brackets below could make good
		return nil, err
	}
	return regexp.Compile(`\A(?:` + expression + `)\z`)
}

// observe looks at the topics, and tells whether those that are subscribed to are others than at the last look.
func (g *Group) observe(nowMillis int64, topics Topics) (changed bool) {
	refresh := g.cfg.Settings(g.id).RegexRefreshMillis
	for _, r := range g.regexes {
		if r.atMillis == 0 || r.generation != topics.Generation() || refresh > 0 && nowMillis-r.atMillis >= refresh {
			r.match(nowMillis, topics)
			g.look = true
		}
	}
	if !g.look && topics.Revision() == g.revision {
		return false
	}
	g.look, g.revision = false, topics.Revision()
	known := make(map[string]Topic, len(g.known))
	note := func(name string) {
		if topic, ok := topics.Topic(name); ok {
			known[name] = topic
		}
	}
	for name := range g.subscribers {
		note(name)
	}
	for _, r := range g.regexes {
		for _, name := range r.names {
			note(name)
		}
	}
	if maps.Equal(known, g.known) {
		return false
	}
	g.known = known
	return true
}

func (r *regex) match(nowMillis int64, topics Topics) {
	r.names = nil
	for name := range topics.Names() {
		if r.pattern.MatchString(name) {
			r.names = append(r.names, name)
		}
	}
	slices.Sort(r.names)
	r.generation, r.atMillis = topics.Generation(), max(nowMillis, 1)
}

// topicsOf are the ids of the topics that a member subscribes to and that are there; ascending.
func (g *Group) topicsOf(m *member) []TopicID {
	var ids []TopicID
	for _, name := range m.names {
		if topic, ok := g.known[name]; ok {
			ids = append(ids, topic.ID)
		}
	}
	if r := g.regexes[m.regex]; r != nil {
		for _, name := range r.names {
			if topic, ok := g.known[name]; ok {
				ids = append(ids, topic.ID)
			}
		}
	}
	slices.SortFunc(ids, compareTopics)
	return slices.Compact(ids)
}

// assignor is the one that most members prefer, else the coordinator's default.
func (g *Group) assignor(s *Settings) string {
	best, votes := "", 0
	for _, name := range slices.Sorted(maps.Keys(g.assignors)) {
		if n := g.assignors[name]; n > votes && slices.Contains(s.Assignors, name) {
			best, votes = name, n
		}
	}
	if best != "" {
		return best
	}
	if len(s.Assignors) > 0 {
		return s.Assignors[0]
	}
	return Uniform
}

// retarget computes the target of the group's epoch.
func (g *Group) retarget(s *Settings) {
	partitions := make(map[TopicID]int32, len(g.known))
	for _, topic := range g.known {
		partitions[topic.ID] = topic.Partitions
	}
	members := g.sorted()
	subjects := make([]*subject, len(members))
	for i, m := range members {
		subjects[i] = &subject{id: m.id, instanceID: m.instanceID, topics: g.topicsOf(m), has: m.target}
	}
	assign(g.assignor(s), subjects, partitions)
	for i, m := range members {
		m.target = subjects[i].gets
	}
	g.assignmentEpoch = g.epoch
}

// Subscribes tells whether a member subscribes to the topic.
func (g *Group) Subscribes(topic string) bool { return g.subscribesTo(topic) }

// completed notes that every member has reached the target, once.
func (g *Group) completed(e *Effects) {
	if g.stable || g.State() != Stable {
		return
	}
	g.stable = true
	e.Completed++
}
