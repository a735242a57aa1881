package main

import (
	"path"
	"strings"
)

// accepted is a difference that is meant to be.
type accepted struct {
	path            string // pattern of path.Match for the field
	kafka, tidemark string // patterns for the values, any if empty
	begins          bool   // Tidemark's value begins with Kafka's
	reason          string
}

var acceptances = []accepted{
	{path: "*.ErrorMessage", kafka: "null", tidemark: "a message", reason: "Tidemark explains more errors than Kafka does. The texts themselves are not compared."},
	{path: "Produce.Topics.Partitions.LogStartOffset", kafka: "-1", reason: "Kafka leaves out the start of the log for batches that it refuses early."},
	{path: "Produce.Topics.Partitions.ErrorCode", kafka: "-1", tidemark: "76", reason: "Of a codec that does not exist Kafka says that its server failed, Tidemark that it does not support it."},
	{path: "Produce.Topics.Partitions.ErrorCode", kafka: "87", tidemark: "2", reason: "A batch whose length is not that of the bytes sent is corrupt; Kafka calls it invalid. Clients try neither again, nor split it."},
	{path: "Produce.Topics.Partitions.ErrorCode", kafka: "2", tidemark: "87", reason: "A magic that does not exist is invalid, for Kafka corrupt."},
	{path: "Produce.Topics.Partitions.ErrorCode", kafka: "-1", tidemark: "87", reason: "Of records that cannot be read Kafka says that its server failed, Tidemark that they are invalid."},
	{path: "Produce.Topics.Partitions.LogAppendTime", tidemark: "-1", reason: "Of a batch that it has already, Kafka answers the batch's greatest timestamp, also where timestamps are the producers'."},
	{path: "Fetch.Topics", reason: "Incremental answers name a topic twice where its partitions were added to the session apart; clients read both."},
	{path: "Fetch.Topics.Partitions", reason: "The same: partitions of one topic, in two elements."},
	{path: "Fetch.Topics.Partitions.RecordBatches", begins: true, reason: "Kafka reads from one segment at a time and rolls segments by records' times; Tidemark answers more batches, within what was asked for."},
	{path: "ListOffsets.Topics.Partitions.*", kafka: "-1", tidemark: "[0-9]*", reason: "Offsets of tiered storage (-5, -6) mean nothing to a Kafka without it; Tidemark's storage is tiered."},
	{path: "Metadata.Topics.*", kafka: "[30n]*", reason: "Kafka creates topics after it has answered, Tidemark before."},
	{path: "ApiVersions.*", reason: "Tidemark's table of versions is that of Kafka 4.4, without what it does not serve; the table in broker/wire says why."},
	{path: "ApiVersions.ApiKeys.*", reason: "The same, for the version ranges of a key."},
	{path: "CreateTopics.Topics.Configs.Value", kafka: "TRUE", tidemark: "true", reason: "CreateTopics tells a value as DescribeConfigs does; Kafka tells it as it was sent."},
	{path: "CreateTopics.Topics.Configs.Value", kafka: " *", reason: "The same, with spaces around it."},
	{path: "DescribeConfigs.Resources.Configs", reason: "Tidemark has configs of its own."},
	{path: "CreateTopics.Topics.Configs", reason: "Tidemark has configs of its own."},
	{path: "*.Configs.Documentation", reason: "Tidemark describes what a config does here, in its own words."},
	{path: "DescribeConfigs.Resources.Configs.*Source", reason: "A new Kafka cluster writes down min.insync.replicas as a dynamic default when it enables eligible leader replicas."},
	{path: "CreateTopics.Topics.Configs.Source", kafka: "3", tidemark: "5", reason: "The same, where a topic is made."},
	{path: "DescribeConfigs.Resources.Configs.ConfigSynonyms*", kafka: "2 *", tidemark: "1 *", reason: "The same: one synonym more."},
	{path: "DescribeLogDirs.Dirs.*", reason: "Folders and disks differ; records that have moved to the object store take no room in them."},
	{path: "DescribeLogDirs.Dirs*", reason: "The same, for the folders themselves."},
	{path: "IncrementalAlterConfigs.Resources.ErrorCode", kafka: "-1", tidemark: "42", reason: "Of an operation that does not exist Kafka says that its server failed, Tidemark that the request is invalid."},
	{path: "CreateTopics.Topics.TopicID", kafka: "some id", tidemark: "no id", reason: "For a topic that is only validated, Kafka answers an id that no topic will have."},
}

// reasonFor finds the reason for a difference; nil if it is not accepted.
func reasonFor(d difference) *accepted {
	for i, a := range acceptances {
		if match(a.path, d.path) && match(a.kafka, d.kafka) && match(a.tidemark, d.tidemark) && (!a.begins || d.kafka != "" && strings.HasPrefix(d.tidemark, d.kafka)) {
			return &acceptances[i]
		}
	}
	return nil
}

func match(pattern, text string) bool {
	if pattern == "" {
		return true
	}
	ok, err := path.Match(pattern, text)
	return err == nil && ok
}
