package classic

import (
	"bytes"
	"slices"
)

// member is one member of a group. Byte slices are shared with the requests they came from and never written to.
type member struct {
	id                     string
	instanceID             *string
	clientID               string
	clientHost             string
	rebalanceTimeoutMillis int32
	sessionTimeoutMillis   int32
	protocols              []Protocol
	assignment             []byte

	join Ticket // parked JoinGroup
	sync Ticket // parked SyncGroup
	// isNew: has not finished a join yet, so that it cannot send heartbeats and times out even while it waits.
	isNew bool
	// deadlineMillis ends the session; 0 is none.
	deadlineMillis int64
}

func (m *member) awaitingJoin() bool { return m.join != 0 }

// heartbeatSatisfied tells whether a session that ran out may be ignored: a member whose request is parked here cannot send
// heartbeats.
func (m *member) heartbeatSatisfied() bool { return !m.isNew && (m.join != 0 || m.sync != 0) }

func (m *member) metadata(protocol string) []byte {
	for i := range m.protocols {
		if m.protocols[i].Name == protocol {
			return m.protocols[i].Metadata
		}
	}
	return nil
}

// vote is the first protocol in the member's own order that every member supports.
func (m *member) vote(candidates map[string]bool) string {
	for i := range m.protocols {
		if candidates[m.protocols[i].Name] {
			return m.protocols[i].Name
		}
	}
	return ""
}

func (m *member) matches(protocols []Protocol) bool {
	return slices.EqualFunc(m.protocols, protocols, func(a, b Protocol) bool {
		return a.Name == b.Name && bytes.Equal(a.Metadata, b.Metadata)
	})
}

// memberOverheadBytes stands for the fixed part of a member in memory.
const memberOverheadBytes = 256

func (m *member) sizeBytes() int64 {
	return memberOverheadBytes + int64(len(m.id)+len(m.clientID)+len(m.clientHost)+len(m.assignment)) + protocolBytes(m.protocols)
}

func protocolBytes(protocols []Protocol) (n int64) {
	for i := range protocols {
		n += int64(len(protocols[i].Name) + len(protocols[i].Metadata))
	}
	return n
}

// distinct drops protocols whose name came before: only the first of a name can ever be chosen.
func distinct(protocols []Protocol) []Protocol {
	for i := range protocols {
		if slices.ContainsFunc(protocols[:i], func(p Protocol) bool { return p.Name == protocols[i].Name }) {
			kept := slices.Clone(protocols[:i])
			for _, p := range protocols[i+1:] {
				if !slices.ContainsFunc(kept, func(k Protocol) bool { return k.Name == p.Name }) {
					kept = append(kept, p)
				}
			}
			return kept
		}
	}
	return protocols
}
