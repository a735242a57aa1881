package consumer

// Description is what ConsumerGroupDescribe tells of a group. Slices must not be changed.
type Description struct {
	State           State
	Epoch           int32
	AssignmentEpoch int32
	Assignor        string
	Members         []MemberDescription // by id
}

// MemberDescription is what ConsumerGroupDescribe tells of a member.
type MemberDescription struct {
	MemberID             string
	InstanceID, RackID   *string
	Epoch                int32
	ClientID, ClientHost string
	Names                []string
	Regex                string
	Classic              bool
	Assigned, Target     Assignment
}

// Describe tells of the group and its members.
func (g *Group) Describe() Description {
	s := g.cfg.Settings(g.id)
	d := Description{State: g.State(), Epoch: g.epoch, AssignmentEpoch: g.assignmentEpoch, Assignor: g.assignor(&s)}
	for _, m := range g.sorted() {
		d.Members = append(d.Members, MemberDescription{
			MemberID: m.id, InstanceID: m.instanceID, RackID: m.rackID, Epoch: m.epoch, ClientID: m.clientID, ClientHost: m.clientHost,
			Names: m.names, Regex: m.regex, Classic: m.classic != nil, Assigned: m.assigned.assignment(), Target: m.target,
		})
	}
	return d
}
