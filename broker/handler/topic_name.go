package handler

import (
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/tidemarkmq/tidemark/metadata"
)

// Names that Kafka keeps for itself. Tidemark keeps what they would hold in etcd; they are ordinary topics if created.
const (
	offsetsTopic         = "__consumer_offsets"
	transactionTopic     = "__transaction_state"
	shareStateTopic      = "__share_group_state"
	clusterMetadataTopic = "__cluster_metadata"
)

func isInternal(name string) bool {
	return name == offsetsTopic || name == transactionTopic || name == shareStateTopic
}

// checkTopicName applies Kafka's rules of topic names (Topic.validate).
func checkTopicName(name string) error {
	reason := ""
	switch {
	case name == "":
		reason = "the empty string is not allowed"
	case name == "." || name == "..":
		reason = "'" + name + "' is not allowed"
	case len(name) > metadata.MaxTopicNameBytes:
		return refuse(kerr.InvalidTopicException, "Topic name is invalid: the length of '%s' is longer than the max allowed length %d", name, metadata.MaxTopicNameBytes)
	case strings.IndexFunc(name, func(r rune) bool { return !topicRune(r) }) >= 0:
		reason = "'" + name + "' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
	default:
		return nil
	}
	return refuse(kerr.InvalidTopicException, "Topic name is invalid: %s", reason)
}

func topicRune(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '_' || r == '-'
}

// checkCollision refuses a name that differs from an existing topic's only by '.' and '_': metrics name both alike.
func checkCollision(im *metadata.Image, name string) error {
	if !strings.ContainsAny(name, "._") {
		return nil
	}
	for t := range im.Topics() {
		if t.Name != name && collide(t.Name, name) {
			return refuse(kerr.InvalidTopicException, "Topic '%s' collides with existing topic: %s", name, t.Name)
		}
	}
	return nil
}

func collide(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		x, y := a[i], b[i]
		if x != y && !(x == '.' && y == '_' || x == '_' && y == '.') {
			return false
		}
	}
	return true
}

// unknownTopic is the answer about a topic that does not exist: a name that could not exist gets its own code.
func unknownTopic(name string) error {
	if err := checkTopicName(name); err != nil {
		return err
	}
	return kerr.UnknownTopicOrPartition
}
