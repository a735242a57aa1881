package consumer

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
)

func text(s string) *string { return &s }

// joined makes a group of stable members m0, m1 … of topic t0 with 6 partitions.
func joined(t *testing.T, n int) (*Group, *catalog, []*client) {
	t.Helper()
	g, topics := New(testConfig(), "g"), newCatalog()
	topics.set("t0", 1, 6)
	var clients []*client
	for i := range n {
		clients = append(clients, &client{id: "m" + string(rune('0'+i)), names: []string{"t0"}})
	}
	for range 4 {
		for _, c := range clients {
			if r := c.beat(t, g, now, topics); r.Err != nil {
				t.Fatal(r)
			}
		}
	}
	if g.State() != Stable {
		t.Fatalf("state %s", g.State())
	}
	return g, topics, clients
}

func TestCheck(t *testing.T) {
	settings := testConfig().Settings("g")
	for name, test := range map[string]struct {
		change func(*HeartbeatRequest)
		want   *kerr.Error
	}{
		"good":                  {func(*HeartbeatRequest) {}, nil},
		"no id in v1":           {func(r *HeartbeatRequest) { r.MemberID = "" }, kerr.InvalidRequest},
		"no id in v0":           {func(r *HeartbeatRequest) { r.MemberID, r.Version = "", 0 }, nil},
		"no id, not joining":    {func(r *HeartbeatRequest) { r.MemberID, r.Version, r.Epoch = "", 0, 3 }, kerr.InvalidRequest},
		"empty instance":        {func(r *HeartbeatRequest) { r.InstanceID = text("") }, kerr.InvalidRequest},
		"empty rack":            {func(r *HeartbeatRequest) { r.RackID = text("") }, kerr.InvalidRequest},
		"no rebalance timeout":  {func(r *HeartbeatRequest) { r.RebalanceTimeoutMillis = -1 }, kerr.InvalidRequest},
		"joins with partitions": {func(r *HeartbeatRequest) { r.Owned = Assignment{topicN(1): {0}} }, kerr.InvalidRequest},
		"joins, owned unknown":  {func(r *HeartbeatRequest) { r.OwnedKnown = false }, kerr.InvalidRequest},
		"no subscription":       {func(r *HeartbeatRequest) { r.Names = nil }, kerr.InvalidRequest},
		"only an expression":    {func(r *HeartbeatRequest) { r.Names, r.Regex = nil, text("a") }, nil},
		"goes away, dynamic":    {func(r *HeartbeatRequest) { r.Epoch = -2 }, kerr.InvalidRequest},
		"epoch −3":              {func(r *HeartbeatRequest) { r.Epoch = -3 }, kerr.InvalidRequest},
		"assignor":              {func(r *HeartbeatRequest) { r.Assignor = text("sticky") }, kerr.UnsupportedAssignor},
	} {
		r := (&client{id: "m", names: []string{"t0"}}).request()
		test.change(r)
		if got := r.Check(&settings); got.Err != test.want || got.Err != nil && got.Message == "" {
			t.Errorf("%s: %v %q, want %v", name, got.Err, got.Message, test.want)
		}
	}
}

func TestRefusals(t *testing.T) {
	for name, test := range map[string]struct {
		change func(g *Group, r *HeartbeatRequest)
		want   *kerr.Error
	}{
		"at its epoch":        {func(*Group, *HeartbeatRequest) {}, nil},
		"ahead":               {func(_ *Group, r *HeartbeatRequest) { r.Epoch++ }, kerr.FencedMemberEpoch},
		"behind":              {func(g *Group, r *HeartbeatRequest) { r.Epoch, g.members["m0"].previousEpoch = 1, 0 }, kerr.FencedMemberEpoch},
		"the answer was lost": {func(g *Group, r *HeartbeatRequest) { r.Epoch, g.members["m0"].previousEpoch = 1, 1 }, nil},
		"… and it owns too much": {func(g *Group, r *HeartbeatRequest) {
			r.Epoch, g.members["m0"].previousEpoch = 1, 1
			r.Owned = Assignment{topicN(9): {0}}
		}, kerr.FencedMemberEpoch},
		"… or does not say": {func(g *Group, r *HeartbeatRequest) {
			r.Epoch, g.members["m0"].previousEpoch, r.OwnedKnown = 1, 1, false
		}, kerr.FencedMemberEpoch},
		"rejoins":                 {func(_ *Group, r *HeartbeatRequest) { r.Epoch, r.Owned = 0, nil }, nil},
		"unknown":                 {func(_ *Group, r *HeartbeatRequest) { r.MemberID = "x" }, kerr.UnknownMemberID},
		"unknown instance":        {func(_ *Group, r *HeartbeatRequest) { r.InstanceID = text("i") }, kerr.UnknownMemberID},
		"instance of another":     {func(g *Group, r *HeartbeatRequest) { g.static["i"] = "m1"; r.InstanceID = text("i") }, kerr.FencedInstanceID},
		"instance not given up":   {func(g *Group, r *HeartbeatRequest) { g.static["i"] = "m1"; r.InstanceID, r.Epoch = text("i"), 0 }, kerr.UnreleasedInstanceID},
		"no expression":           {func(_ *Group, r *HeartbeatRequest) { r.Regex = text("a(") }, kerr.InvalidRegularExpression},
		"no expression by itself": {func(_ *Group, r *HeartbeatRequest) { r.Regex = text("a)|(b") }, kerr.InvalidRegularExpression},
		"leaves, unknown":         {func(_ *Group, r *HeartbeatRequest) { r.MemberID, r.Epoch = "x", -1 }, kerr.UnknownMemberID},
		"leaves as another":       {func(g *Group, r *HeartbeatRequest) { g.static["i"] = "m1"; r.InstanceID, r.Epoch = text("i"), -2 }, kerr.FencedInstanceID},
		"too many names":          {func(_ *Group, r *HeartbeatRequest) { r.Names = []string{string(make([]byte, 2<<20))} }, kerr.GroupMaxSizeReached},
	} {
		g, topics, clients := joined(t, 2)
		r := clients[0].request()
		test.change(g, r)
		before, epoch := g.Snapshot(), g.epoch
		reply, effects := g.Heartbeat(now, topics, r)
		if reply.Err != test.want || reply.Err != nil && reply.Message == "" {
			t.Errorf("%s: %v %q, want %v", name, reply.Err, reply.Message, test.want)
		}
		if reply.Err != nil && (effects.Changed || g.epoch != epoch || len(before.Members) != len(g.members)) {
			t.Errorf("%s: refused, and yet something changed", name)
		}
		if full := reply.Assignment != nil; name == "rejoins" != full {
			t.Errorf("%s: assignment %v", name, reply.Assignment)
		}
		checkOwners(t, g)
	}
}

func TestGroupIsFull(t *testing.T) {
	g, topics, _ := joined(t, 20)
	late := &client{id: "late", names: []string{"t0"}}
	if r := late.beat(t, g, now, topics); r.Err != kerr.GroupMaxSizeReached {
		t.Errorf("the 21st: %v", r.Err)
	}
}

// TestHandOver leads a partition from one member to another: given up first, acknowledged, then assigned.
func TestHandOver(t *testing.T) {
	g, topics, clients := joined(t, 1)
	first, second := clients[0], &client{id: "m9", names: []string{"t0"}}
	if r := second.beat(t, g, now, topics); r.Epoch != g.epoch || len(r.Assignment) != 0 {
		t.Errorf("the new member gets %v at once, epoch %d", r.Assignment, r.Epoch)
	}
	r := first.request()
	r.OwnedKnown = false
	reply, _ := g.Heartbeat(now, topics, r)
	if len(reply.Assignment[topicN(1)]) != 3 || reply.Epoch != first.epoch || g.members["m0"].state != Unrevoked {
		t.Errorf("asked back: %+v", reply)
	}
	if wake := g.WakeMillis(); wake > now+60_000 {
		t.Errorf("wakes %d ms from now", wake-now)
	}
	if r := second.beat(t, g, now, topics); r.Assignment != nil {
		t.Errorf("assigned before it was given up: %v", r.Assignment)
	}
	first.owned = reply.Assignment
	if r := first.beat(t, g, now, topics); r.Epoch != g.epoch {
		t.Errorf("after giving up: epoch %d, want %d", r.Epoch, g.epoch)
	}
	if r := second.beat(t, g, now, topics); len(r.Assignment[topicN(1)]) != 3 || g.State() != Stable {
		t.Errorf("given: %v, state %s", r.Assignment, g.State())
	}
}

func TestTimeouts(t *testing.T) {
	g, topics, clients := joined(t, 2)
	clients[0].beat(t, g, now+40_000, topics)
	if e := g.Tick(now + 45_000); !e.Changed || len(g.members) != 1 || g.members["m1"] != nil {
		t.Errorf("after the session: %+v, %d members", e, len(g.members))
	}
	if r := clients[1].beat(t, g, now+46_000, topics); r.Err != kerr.UnknownMemberID {
		t.Errorf("its heartbeat: %v", r.Err)
	}
	// A member that does not give up partitions is fenced though its heartbeats come.
	g, topics, clients = joined(t, 1)
	(&client{id: "new", names: []string{"t0"}}).beat(t, g, now, topics)
	for at := now; at <= now+60_000; at += 5_000 {
		r := clients[0].request()
		g.Heartbeat(at, topics, r)
		g.Tick(at)
	}
	if g.members["m0"] != nil {
		t.Error("a member that keeps what it has to give up is not fenced")
	}
}

func TestCommitEpochs(t *testing.T) {
	g, _, _ := joined(t, 2)
	m := g.members["m0"]
	p := m.assigned.assignment()[topicN(1)][0]
	m.assigned[topicN(1)][p], m.epoch = 2, 4
	for name, test := range map[string]struct {
		member  string
		epoch   int32
		version int16
		want    *kerr.Error
		each    *kerr.Error
	}{
		"at its epoch":               {"m0", 4, 9, nil, nil},
		"ahead":                      {"m0", 5, 9, kerr.StaleMemberEpoch, nil},
		"since it has it":            {"m0", 2, 9, nil, nil},
		"before it had it":           {"m0", 1, 9, nil, kerr.StaleMemberEpoch},
		"unknown":                    {"x", 4, 9, kerr.UnknownMemberID, nil},
		"no member":                  {"", -1, 9, kerr.UnknownMemberID, nil},
		"old version of the request": {"m0", 4, 8, kerr.UnsupportedVersion, nil},
	} {
		each, err := g.CheckCommit(test.member, test.epoch, test.version)
		if err != test.want {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
		if each != nil {
			if got := each(topicN(1), p); got != test.each {
				t.Errorf("%s: partition: %v, want %v", name, got, test.each)
			}
			if got := each(topicN(5), 0); got != kerr.StaleMemberEpoch {
				t.Errorf("%s: a partition that it has not: %v", name, got)
			}
		}
	}
}

func TestRegularExpressions(t *testing.T) {
	g, topics := New(testConfig(), "g"), newCatalog()
	topics.set("orders-eu", 1, 2)
	topics.set("my-orders-eu", 2, 2)
	c := &client{id: "m", regex: "orders-(eu|us)"}
	if r := c.beat(t, g, now, topics); len(r.Assignment) != 1 || len(r.Assignment[topicN(1)]) != 2 {
		t.Errorf("assigned: %v", r.Assignment)
	}
	topics.set("orders-us", 3, 1)
	if r := c.beat(t, g, now, topics); len(r.Assignment) != 2 || !g.Subscribes("orders-us") || g.Subscribes("my-orders-eu") {
		t.Errorf("after a new topic: %v", r.Assignment)
	}
	topics.set("orders-eu", 1, 0)
	if r := c.beat(t, g, now, topics); len(r.Assignment) != 1 {
		t.Errorf("after a topic went: %v", r.Assignment)
	}
}
