package classic

import "github.com/twmb/franz-go/pkg/kerr"

// Leaver names a member that leaves: by its member id, or, for removal by an administrator, by its instance id with an empty
// member id.
type Leaver struct {
	MemberID   string
	InstanceID *string
	Reason     string
}

// Leave removes members (KIP-345 batches them). The errors stand in the order of the leavers, nil where one left; err is for the
// whole request.
func (g *Group) Leave(nowMillis int64, leavers []Leaver) (errs []*kerr.Error, err *kerr.Error, e Effects) {
	if g.state == Dead {
		return nil, kerr.CoordinatorNotAvailable, e
	}
	left := false
	for i := range leavers {
		err := g.leave(&leavers[i], &e)
		left = left || err == nil
		errs = append(errs, err)
	}
	if left {
		g.afterRemoval(nowMillis, "members left", &e)
	}
	return errs, nil, e
}

func (g *Group) leave(l *Leaver, e *Effects) *kerr.Error {
	id := l.MemberID
	if id == "" {
		current, ok := "", false
		if l.InstanceID != nil {
			current, ok = g.static[*l.InstanceID]
		}
		if !ok {
			return kerr.UnknownMemberID
		}
		id = current
	} else if _, ok := g.pendingJoin[id]; ok {
		g.remove(id)
		return nil
	} else if err := g.validate(id, l.InstanceID); err != nil {
		return err
	}
	why := l.Reason
	if why == "" {
		why = "no reason given"
	}
	e.note("member %s leaves: %s", id, why)
	g.dismiss(g.members[id], e)
	return nil
}
