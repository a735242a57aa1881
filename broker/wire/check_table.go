package wire

// layouts says how the body of every request that kmsg decodes is laid out, in Kafka's order of fields:
//
//	Name:kind            i8 i16 i32 i64 uuid, str and bytes (compact in flexible versions, null allowed)
//	Name:[kind]          array of a primitive, null allowed
//	Name:[A:kind B:kind] array of structures
//	Name:(A:kind)        structure, Name:?(A:kind) one that may be null
//	<0=A:kind>           the known tagged fields of a structure; unknown ones may always follow
//	…@4+ …@2-7           only in these versions
//
// Every structure of a flexible version ends with tagged fields.
var layouts = map[int16]string{
	1: "ReplicaID:i32@0-14 MaxWaitMillis:i32 MinBytes:i32 MaxBytes:i32@3+ IsolationLevel:i8@4+ SessionID:i32@7+ " +
		"SessionEpoch:i32@7+ Topics:[Topic:str@0-12 TopicID:uuid@13+ Partitions:[Partition:i32 " +
		"CurrentLeaderEpoch:i32@9+ FetchOffset:i64 LastFetchedEpoch:i32@12+ LogStartOffset:i64@5+ " +
		"PartitionMaxBytes:i32 <0=ReplicaDirectoryID:uuid 1=HighWatermark:i64>]] ForgottenTopics:[Topic:str@7-12 " +
		"TopicID:uuid@13+ Partitions:[i32]]@7+ Rack:str@11+ <0=ClusterID:str 1=ReplicaState:(ID:i32 Epoch:i64)>", // Fetch
	2: "ReplicaID:i32 IsolationLevel:i8@2+ Topics:[Topic:str Partitions:[Partition:i32 CurrentLeaderEpoch:i32@4+ " +
		"Timestamp:i64 MaxNumOffsets:i32@0-0]] TimeoutMillis:i32@10+", // ListOffsets
	3: "Topics:[TopicID:uuid@10+ Topic:str] AllowAutoTopicCreation:i8@4+ " +
		"IncludeClusterAuthorizedOperations:i8@8-10 IncludeTopicAuthorizedOperations:i8@8+", // Metadata
	8: "Group:str Generation:i32@1+ MemberID:str@1+ InstanceID:str@7+ RetentionTimeMillis:i64@2-4 " +
		"Topics:[Topic:str@0-9 TopicID:uuid@10+ Partitions:[Partition:i32 Offset:i64 Timestamp:i64@1-1 " +
		"LeaderEpoch:i32@6+ Metadata:str]]", // OffsetCommit
	9: "Group:str@0-7 Topics:[Topic:str Partitions:[i32]]@0-7 Groups:[Group:str MemberID:str@9+ " +
		"MemberEpoch:i32@9+ Topics:[Topic:str@8-9 TopicID:uuid@10+ Partitions:[i32]]]@8+ RequireStable:i8@7+", // OffsetFetch
	10: "CoordinatorKey:str@0-3 CoordinatorType:i8@1+ CoordinatorKeys:[str]@4+", // FindCoordinator
	11: "Group:str SessionTimeoutMillis:i32 RebalanceTimeoutMillis:i32@1+ MemberID:str InstanceID:str@5+ " +
		"ProtocolType:str Protocols:[Name:str Metadata:bytes] Reason:str@8+", // JoinGroup
	12: "Group:str Generation:i32 MemberID:str InstanceID:str@3+",                           // Heartbeat
	13: "Group:str MemberID:str@0-2 Members:[MemberID:str InstanceID:str Reason:str@5+]@3+", // LeaveGroup
	14: "Group:str Generation:i32 MemberID:str InstanceID:str@3+ ProtocolType:str@5+ Protocol:str@5+ " +
		"GroupAssignment:[MemberID:str MemberAssignment:bytes]", // SyncGroup
	15: "Groups:[str] IncludeAuthorizedOperations:i8@3+",                                        // DescribeGroups
	16: "StatesFilter:[str]@4+ TypesFilter:[str]@5+",                                            // ListGroups
	17: "Mechanism:str",                                                                         // SASLHandshake
	18: "ClientSoftwareName:str@3+ ClientSoftwareVersion:str@3+ ClusterID:str@5+ NodeID:i32@5+", // ApiVersions
	19: "Topics:[Topic:str NumPartitions:i32 ReplicationFactor:i16 ReplicaAssignment:[Partition:i32 " +
		"Replicas:[i32]] Configs:[Name:str Value:str]] TimeoutMillis:i32 ValidateOnly:i8@1+", // CreateTopics
	20: "TopicNames:[str]@0-5 Topics:[Topic:str TopicID:uuid]@6+ TimeoutMillis:i32",                                // DeleteTopics
	21: "Topics:[Topic:str Partitions:[Partition:i32 Offset:i64]] TimeoutMillis:i32",                               // DeleteRecords
	22: "TransactionalID:str TransactionTimeoutMillis:i32 ProducerID:i64@3+ ProducerEpoch:i16@3+",                  // InitProducerID
	23: "ReplicaID:i32@3+ Topics:[Topic:str Partitions:[Partition:i32 CurrentLeaderEpoch:i32@2+ LeaderEpoch:i32]]", // OffsetForLeaderEpoch
	32: "Resources:[ResourceType:i8 ResourceName:str ConfigNames:[str]] IncludeSynonyms:i8@1+ " +
		"IncludeDocumentation:i8@3+", // DescribeConfigs
	33: "Resources:[ResourceType:i8 ResourceName:str Configs:[Name:str Value:str]] ValidateOnly:i8",       // AlterConfigs
	35: "Topics:[Topic:str Partitions:[i32]]",                                                             // DescribeLogDirs
	37: "Topics:[Topic:str Count:i32 Assignment:[Replicas:[i32]]] TimeoutMillis:i32 ValidateOnly:i8",      // CreatePartitions
	42: "Groups:[str]",                                                                                    // DeleteGroups
	44: "Resources:[ResourceType:i8 ResourceName:str Configs:[Name:str Op:i8 Value:str]] ValidateOnly:i8", // IncrementalAlterConfigs
	46: "TimeoutMillis:i32 Topics:[Topic:str Partitions:[i32]]",                                           // ListPartitionReassignments
	47: "Group:str Topics:[Topic:str Partitions:[Partition:i32]]",                                         // OffsetDelete
	60: "IncludeClusterAuthorizedOperations:i8 EndpointType:i8@1+ IncludeFencedBrokers:i8@2+",             // DescribeCluster
	68: "Group:str MemberID:str MemberEpoch:i32 InstanceID:str RackID:str RebalanceTimeoutMillis:i32 SubscribedTopicNames:[str] " +
		"SubscribedTopicRegex:str@1+ ServerAssignor:str Topics:[TopicID:uuid Partitions:[i32]]", // ConsumerGroupHeartbeat
	69: "Groups:[str] IncludeAuthorizedOperations:i8",                                     // ConsumerGroupDescribe
	74: "ResourceTypes:[i8]@1+",                                                           // ListConfigResources
	75: "Topics:[Topic:str] ResponsePartitionLimit:i32 Cursor:?(Topic:str Partition:i32)", // DescribeTopicPartitions
}
