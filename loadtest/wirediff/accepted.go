package main

import "path"

// accepted is a difference that is meant to be.
type accepted struct {
	path            string // pattern of path.Match for the field
	kafka, tidemark string // patterns for the values, any if empty
	reason          string
}

var acceptances = []accepted{
	{path: "*.ErrorMessage", kafka: "null", tidemark: "a message", reason: "Tidemark explains more errors than Kafka does. The texts themselves are not compared."},
	{path: "Produce.Topics.Partitions.LogStartOffset", kafka: "-1", reason: "Kafka leaves out the start of the log for batches that it refuses early."},
	{path: "Produce.Topics.Partitions.ErrorCode", kafka: "-1", tidemark: "76", reason: "Of a codec that does not exist Kafka says that its server failed, Tidemark that it does not support it."},
	{path: "Produce.Topics.Partitions.ErrorCode", kafka: "87", tidemark: "2", reason: "A batch whose length is not that of the bytes sent is corrupt; Kafka calls it invalid. Clients try neither again, nor split it."},
	{path: "CreateTopics.Topics.TopicID", kafka: "some id", tidemark: "no id", reason: "For a topic that is only validated, Kafka answers an id that no topic will have."},
}

// reasonFor finds the reason for a difference; nil if it is not accepted.
func reasonFor(d difference) *accepted {
	for i, a := range acceptances {
		if match(a.path, d.path) && match(a.kafka, d.kafka) && match(a.tidemark, d.tidemark) {
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
