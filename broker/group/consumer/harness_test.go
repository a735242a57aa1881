package consumer

import (
	"iter"
	"maps"
	"testing"
)

const now = int64(1_700_000_000_000)

// catalog are the topics of tests.
type catalog struct {
	topics   map[string]Topic
	revision int64
}

func newCatalog() *catalog { return &catalog{topics: map[string]Topic{}} }

func (c *catalog) set(name string, id int, partitions int32) {
	c.revision++
	if partitions == 0 {
		delete(c.topics, name)
		return
	}
	c.topics[name] = Topic{topicN(id), partitions}
}

func (c *catalog) Topic(name string) (Topic, bool) { t, ok := c.topics[name]; return t, ok }

func (c *catalog) Name(id TopicID) (string, bool) {
	for name, t := range c.topics {
		if t.ID == id {
			return name, true
		}
	}
	return "", false
}

func (c *catalog) Names() iter.Seq[string] { return maps.Keys(c.topics) }
func (c *catalog) Revision() int64         { return c.revision }
func (c *catalog) Generation() int64       { return c.revision }

func testConfig() *Config {
	return &Config{MaxBytes: 1 << 20, Settings: func(string) Settings {
		return Settings{
			SessionTimeoutMillis: 45_000, HeartbeatIntervalMillis: 5_000, MaxMembers: 20, Assignors: []string{Uniform, Range},
			RegexRefreshMillis: 600_000,
		}
	}}
}

// checkOwners asserts that no partition is in two members' assignments, and that the group knows who has which.
func checkOwners(t *testing.T, g *Group) {
	t.Helper()
	seen := map[place]string{}
	for _, m := range g.sorted() {
		for _, o := range []owned{m.assigned, m.revoking} {
			for topic, of := range o {
				for p := range of {
					if other, twice := seen[place{topic, p}]; twice {
						t.Fatalf("%v-%d is in the assignments of %s and %s", topic, p, other, m.id)
					}
					seen[place{topic, p}] = m.id
					if g.owners[topic][p] != m {
						t.Fatalf("%v-%d of %s: the group does not know", topic, p, m.id)
					}
				}
			}
		}
	}
	n := 0
	for _, of := range g.owners {
		n += len(of)
	}
	if n != len(seen) {
		t.Fatalf("%d partitions have owners, %d are assigned", n, len(seen))
	}
}

// client is a consumer that behaves.
type client struct {
	id, instance string
	epoch        int32
	names        []string
	regex        string
	owned        Assignment
	rejoins      bool // says everything with the next heartbeat
}

func (c *client) request() *HeartbeatRequest {
	r := &HeartbeatRequest{
		Version: 1, MemberID: c.id, Epoch: c.epoch, ClientID: "app", ClientHost: "/127.0.0.1", RebalanceTimeoutMillis: -1,
		Owned: maps.Clone(c.owned), OwnedKnown: true,
	}
	if c.instance != "" {
		r.InstanceID = &c.instance
	}
	if c.epoch == JoinEpoch || c.rejoins {
		r.RebalanceTimeoutMillis = 60_000
		r.Names = append([]string{}, c.names...)
		if c.regex != "" {
			r.Regex = &c.regex
		}
	}
	if c.epoch == JoinEpoch {
		r.Owned = nil
	}
	return r
}

// beat sends a heartbeat and takes over what it is told. What it has to give up it gives up at once.
func (c *client) beat(t *testing.T, g *Group, at int64, topics Topics) HeartbeatReply {
	t.Helper()
	r := c.request()
	s := g.cfg.Settings("g")
	if why := r.Check(&s); why.refused() {
		t.Fatalf("%s: %v %s", c.id, why.Err, why.Message)
	}
	reply, _ := g.Heartbeat(at, topics, r)
	c.hear(reply)
	return reply
}

func (c *client) hear(reply HeartbeatReply) {
	if reply.Err != nil {
		c.epoch, c.owned = JoinEpoch, nil // abandons all and rejoins
		return
	}
	c.epoch, c.rejoins = reply.Epoch, false
	if reply.Assignment != nil {
		c.owned = reply.Assignment
	}
}
