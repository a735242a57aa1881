package wire

// API is one row of the table of Kafka's API keys.
type API struct {
	Key  int16
	Name string // as kmsg and Kafka's documentation write it
	// Min and Max are what ApiVersions advertises. AcceptMin is the lowest version that is really answered: it differs from Min for
	// Produce only, because librdkafka turns compression off where v0 is missing (KAFKA-18659).
	Min, Max, AcceptMin int16
	// Flexible is the first version with tagged fields (KIP-482) in request and request header; -1 = none.
	Flexible int16
	// Served says that this broker answers the API; otherwise Reason says why it does not.
	Served bool
	Reason string
}

// Keys that the code treats in a special way.
const (
	KeyProduce     int16 = 0
	KeyFetch       int16 = 1
	KeyApiVersions int16 = 18
)

const (
	gone       = "removed in Kafka 4.0"
	controller = "controllers only (KRaft)"
	later      = "not built yet"
	noReceiver = "only with a telemetry receiver (KIP-714)"
	noQuorum   = "there is no KRaft quorum: metadata is in etcd"
	noDirs     = "there are no log directories to move data between"
	interShare = "between Kafka brokers only: share state is internal here"
)

func served(key int16, name string, lo, hi, flexible int16) API {
	return API{Key: key, Name: name, Min: lo, Max: hi, AcceptMin: lo, Flexible: flexible, Served: true}
}

func refused(key int16, name string, lo, hi, flexible int16, reason string) API {
	return API{Key: key, Name: name, Min: lo, Max: hi, AcceptMin: lo, Flexible: flexible, Reason: reason}
}

// apis has every key of Kafka 4.4 at its index, with the ranges of a 4.4 broker (of a controller for controllers' keys).
var apis = [...]API{
	{Key: 0, Name: "Produce", Min: 0, Max: 13, AcceptMin: 3, Flexible: 9, Served: true},
	served(1, "Fetch", 4, 18, 12),
	served(2, "ListOffsets", 1, 11, 6),
	served(3, "Metadata", 0, 13, 9),
	refused(4, "LeaderAndISR", 0, 7, 4, gone),
	refused(5, "StopReplica", 0, 4, 2, gone),
	refused(6, "UpdateMetadata", 0, 8, 6, gone),
	refused(7, "ControlledShutdown", 0, 3, 3, gone),
	served(8, "OffsetCommit", 2, 10, 8),
	served(9, "OffsetFetch", 1, 10, 6),
	served(10, "FindCoordinator", 0, 6, 3),
	served(11, "JoinGroup", 0, 9, 6),
	served(12, "Heartbeat", 0, 4, 4),
	served(13, "LeaveGroup", 0, 5, 4),
	served(14, "SyncGroup", 0, 5, 4),
	served(15, "DescribeGroups", 0, 6, 5),
	served(16, "ListGroups", 0, 5, 3),
	served(17, "SASLHandshake", 0, 1, -1),
	served(18, "ApiVersions", 0, 5, 3),
	served(19, "CreateTopics", 2, 7, 5),
	served(20, "DeleteTopics", 1, 6, 4),
	served(21, "DeleteRecords", 0, 2, 2),
	served(22, "InitProducerID", 0, 5, 2),
	served(23, "OffsetForLeaderEpoch", 2, 4, 4),
	refused(24, "AddPartitionsToTxn", 0, 5, 3, later),
	refused(25, "AddOffsetsToTxn", 0, 4, 3, later),
	refused(26, "EndTxn", 0, 5, 3, later),
	refused(27, "WriteTxnMarkers", 1, 2, 1, later),
	refused(28, "TxnOffsetCommit", 0, 6, 3, later),
	refused(29, "DescribeACLs", 1, 3, 2, later),
	refused(30, "CreateACLs", 1, 3, 2, later),
	refused(31, "DeleteACLs", 1, 3, 2, later),
	served(32, "DescribeConfigs", 1, 4, 4),
	served(33, "AlterConfigs", 0, 2, 2),
	refused(34, "AlterReplicaLogDirs", 1, 2, 2, noDirs),
	served(35, "DescribeLogDirs", 1, 5, 2),
	refused(36, "SASLAuthenticate", 0, 2, 2, later),
	served(37, "CreatePartitions", 0, 3, 2),
	refused(38, "CreateDelegationToken", 1, 3, 2, later),
	refused(39, "RenewDelegationToken", 1, 2, 2, later),
	refused(40, "ExpireDelegationToken", 1, 2, 2, later),
	refused(41, "DescribeDelegationToken", 1, 3, 2, later),
	served(42, "DeleteGroups", 0, 3, 2),
	refused(43, "ElectLeaders", 0, 2, 2, later),
	served(44, "IncrementalAlterConfigs", 0, 1, 1),
	refused(45, "AlterPartitionAssignments", 0, 1, 0, later),
	served(46, "ListPartitionReassignments", 0, 0, 0),
	served(47, "OffsetDelete", 0, 0, -1),
	refused(48, "DescribeClientQuotas", 0, 1, 1, later),
	refused(49, "AlterClientQuotas", 0, 1, 1, later),
	refused(50, "DescribeUserSCRAMCredentials", 0, 0, 0, later),
	refused(51, "AlterUserSCRAMCredentials", 0, 0, 0, later),
	refused(52, "Vote", 0, 2, 0, controller),
	refused(53, "BeginQuorumEpoch", 0, 1, 1, controller),
	refused(54, "EndQuorumEpoch", 0, 1, 1, controller),
	refused(55, "DescribeQuorum", 0, 2, 0, noQuorum),
	refused(56, "AlterPartition", 2, 3, 0, controller),
	refused(57, "UpdateFeatures", 0, 2, 0, later),
	refused(58, "Envelope", 0, 0, 0, controller),
	refused(59, "FetchSnapshot", 0, 1, 0, controller),
	served(60, "DescribeCluster", 0, 2, 0),
	refused(61, "DescribeProducers", 0, 0, 0, later),
	refused(62, "BrokerRegistration", 0, 4, 0, controller),
	refused(63, "BrokerHeartbeat", 0, 2, 0, controller),
	refused(64, "UnregisterBroker", 0, 0, 0, later),
	refused(65, "DescribeTransactions", 0, 0, 0, later),
	refused(66, "ListTransactions", 0, 2, 0, later),
	refused(67, "AllocateProducerIDs", 0, 0, 0, controller),
	served(68, "ConsumerGroupHeartbeat", 0, 1, 0),
	served(69, "ConsumerGroupDescribe", 0, 1, 0),
	refused(70, "ControllerRegistration", 0, 0, 0, controller),
	refused(71, "GetTelemetrySubscriptions", 0, 0, 0, noReceiver),
	refused(72, "PushTelemetry", 0, 0, 0, noReceiver),
	refused(73, "AssignReplicasToDirs", 0, 0, 0, controller),
	served(74, "ListConfigResources", 0, 1, 0),
	served(75, "DescribeTopicPartitions", 0, 0, 0),
	refused(76, "ShareGroupHeartbeat", 1, 1, 0, later),
	refused(77, "ShareGroupDescribe", 1, 1, 0, later),
	refused(78, "ShareFetch", 1, 2, 0, later),
	refused(79, "ShareAcknowledge", 1, 2, 0, later),
	refused(80, "AddRaftVoter", 0, 1, 0, noQuorum),
	refused(81, "RemoveRaftVoter", 0, 0, 0, noQuorum),
	refused(82, "UpdateRaftVoter", 0, 0, 0, controller),
	refused(83, "InitializeShareGroupState", 0, 0, 0, interShare),
	refused(84, "ReadShareGroupState", 0, 0, 0, interShare),
	refused(85, "WriteShareGroupState", 0, 1, 0, interShare),
	refused(86, "DeleteShareGroupState", 0, 0, 0, interShare),
	refused(87, "ReadShareGroupStateSummary", 0, 1, 0, interShare),
	refused(88, "StreamsGroupHeartbeat", 0, 1, 0, later),
	refused(89, "StreamsGroupDescribe", 0, 1, 0, later),
	refused(90, "DescribeShareGroupOffsets", 0, 1, 0, later),
	refused(91, "AlterShareGroupOffsets", 0, 0, 0, later),
	refused(92, "DeleteShareGroupOffsets", 0, 0, 0, later),
	refused(93, "StreamsGroupTopologyDescriptionUpdate", 0, 0, 0, later),
	refused(94, "UnregisterController", 0, 0, 0, controller),
}

// MaxKey is the highest API key that Kafka 4.4 knows.
const MaxKey = int16(len(apis) - 1)

// LookupAPI returns the row of an API key; false for a key that Kafka 4.4 does not know.
func LookupAPI(key int16) (API, bool) {
	if key < 0 || key > MaxKey {
		return API{}, false
	}
	return apis[key], true
}

// ServedAPIs returns the rows to advertise, by key. The caller owns the slice.
func ServedAPIs() []API {
	out := make([]API, 0, len(apis))
	for _, a := range apis {
		if a.Served {
			out = append(out, a)
		}
	}
	return out
}

// Accepts tells whether a request of this key and version is answered.
func Accepts(key, version int16) bool {
	if key < 0 || key > MaxKey {
		return false
	}
	a := &apis[key]
	return a.Served && version >= a.AcceptMin && version <= a.Max
}

// flexible tells whether a request has tagged fields, also for versions beyond the known ones.
func flexible(key, version int16) bool {
	f := apis[key].Flexible
	return f >= 0 && version >= f
}
