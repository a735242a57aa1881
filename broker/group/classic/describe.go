package classic

// Description is what DescribeGroups tells of a group. Byte slices are the group's and must not be changed.
type Description struct {
	State        State
	ProtocolType string
	// Protocol and the members' Metadata are filled for a Stable group only.
	Protocol string
	Members  []MemberDescription
}

// MemberDescription is what DescribeGroups tells of a member.
type MemberDescription struct {
	MemberID   string
	InstanceID *string
	ClientID   string
	ClientHost string
	Metadata   []byte
	Assignment []byte
}

// Describe tells of the group and its members, in the order in which they came.
func (g *Group) Describe() Description {
	d := Description{State: g.state, ProtocolType: g.protocolType}
	if g.state == Stable {
		d.Protocol = g.protocol
	}
	for _, m := range g.order {
		md := MemberDescription{
			MemberID: m.id, InstanceID: m.instanceID, ClientID: m.clientID, ClientHost: m.clientHost, Assignment: m.assignment,
		}
		if g.state == Stable {
			md.Metadata = m.metadata(g.protocol)
		}
		d.Members = append(d.Members, md)
	}
	return d
}
