package handler

import "github.com/twmb/franz-go/pkg/kerr"

// groupRoutes are the routes of groups and their offsets.
func (b *Broker) groupRoutes() map[int16]route {
	return map[int16]route{
		8:  on(b.offsetCommit),
		9:  on(b.offsetFetch),
		10: on(b.findCoordinator),
		11: on(b.joinGroup),
		12: on(b.heartbeat),
		13: on(b.leaveGroup),
		14: on(b.syncGroup),
		15: on(b.describeGroups),
		16: on(b.listGroups),
		42: on(b.deleteGroups),
		47: on(b.offsetDelete),
		68: on(b.consumerGroupHeartbeat),
		69: on(b.consumerGroupDescribe),
	}
}

// groupCode is the code of the coordinator's errors, which are Kafka's own.
func groupCode(err *kerr.Error) int16 {
	if err == nil {
		return 0
	}
	return err.Code
}
