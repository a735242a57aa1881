package handler

// topicRoutes are the routes of topics, configs and the cluster.
func (b *Broker) topicRoutes() map[int16]route {
	return map[int16]route{
		3:  on(b.metadata),
		17: on(b.saslHandshake),
		18: on(b.apiVersions),
		19: on(b.createTopics),
		20: on(b.deleteTopics),
		32: on(b.describeConfigs),
		33: on(b.alterConfigs),
		35: on(b.describeLogDirs),
		37: on(b.createPartitions),
		44: on(b.incrementalAlterConfigs),
		46: on(b.listPartitionReassignments),
		60: on(b.describeCluster),
		74: on(b.listConfigResources),
		75: on(b.describeTopicPartitions),
	}
}
