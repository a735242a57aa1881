package handler

import (
	"context"
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/tidemarkmq/tidemark/broker/configs"
	"github.com/tidemarkmq/tidemark/metadata"
)

func TestVerdict(t *testing.T) {
	for _, c := range []struct {
		err     error
		want    *kerr.Error
		message string
		unknown bool
	}{
		{refuse(kerr.InvalidPartitions, "n is %d", 3), kerr.InvalidPartitions, "n is 3", false},
		{fmt.Errorf("wrapped: %w", refuse(kerr.InvalidPartitions, "n")), kerr.InvalidPartitions, "n", false},
		{kerr.UnknownTopicID, kerr.UnknownTopicID, kerr.UnknownTopicID.Description, false},
		{&configs.Error{Message: "bad"}, kerr.InvalidConfig, "bad", false},
		{fmt.Errorf("create: %w", metadata.ErrExists), kerr.TopicAlreadyExists, kerr.TopicAlreadyExists.Description, false},
		{fmt.Errorf("topic: %w", metadata.ErrNotFound), kerr.UnknownTopicOrPartition, kerr.UnknownTopicOrPartition.Description, false},
		{fmt.Errorf("swap: %w", metadata.ErrFenced), kerr.NotController, "", false},
		{fmt.Errorf("swap: %w", metadata.ErrConflict), kerr.RequestTimedOut, "", false},
		{fmt.Errorf("etcd: %w", metadata.ErrUnavailable), kerr.RequestTimedOut, "", false},
		{fmt.Errorf("name: %w", metadata.ErrInvalid), kerr.InvalidRequest, "name: metadata: invalid", false},
		{fmt.Errorf("put: %w", context.DeadlineExceeded), kerr.RequestTimedOut, kerr.RequestTimedOut.Description, false},
		{context.Canceled, kerr.RequestTimedOut, "", false},
		{errBoom, kerr.UnknownServerError, "", true},
	} {
		code, message, known := verdict(c.err)
		if code != c.want.Code || known == c.unknown {
			t.Errorf("%v: code %d, known %v; want %s", c.err, code, known, c.want.Message)
		}
		if c.message != "" && message != c.message || message == "" {
			t.Errorf("%v: text %q, want %q", c.err, message, c.message)
		}
	}
	if code, message, known := verdict(nil); code != 0 || message != "" || !known {
		t.Errorf("nil: %d %q %v", code, message, known)
	}
}

// TestAnswerHidesWhatOnlyTheLogExplains keeps the insides of unexpected errors from clients.
func TestAnswerHidesWhatOnlyTheLogExplains(t *testing.T) {
	b := &Broker{}
	b.start()
	code, message := b.answer(t.Context(), "Test", fmt.Errorf("dial 10.0.0.1: %w", errBoom))
	if code != kerr.UnknownServerError.Code || message == nil || *message == "" {
		t.Fatalf("%d %v", code, message)
	}
	if got := *message; got == "dial 10.0.0.1: boom" {
		t.Errorf("the client is told %q", got)
	}
}
