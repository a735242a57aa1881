package handler

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/tidemarkmq/tidemark/broker/configs"
	"github.com/tidemarkmq/tidemark/metadata"
)

// fault is a refusal with Kafka's code and a text for the user.
type fault struct {
	kind    *kerr.Error
	message string
}

func (f *fault) Error() string { return f.message }
func (f *fault) Unwrap() error { return f.kind }

// refuse makes the error that is answered with kind's code and the text.
func refuse(kind *kerr.Error, format string, args ...any) error {
	return &fault{kind: kind, message: fmt.Sprintf(format, args...)}
}

// ours maps the errors of our own packages, the first match wins. Texts are for users who do not know our insides.
var ours = []struct {
	is      error
	kind    *kerr.Error
	message string // "" = Kafka's own
}{
	{metadata.ErrExists, kerr.TopicAlreadyExists, ""},
	{metadata.ErrNotFound, kerr.UnknownTopicOrPartition, ""},
	{metadata.ErrFenced, kerr.NotController, "This broker was replaced by a newer run of itself or lost its registration; ask another broker."},
	{metadata.ErrConflict, kerr.RequestTimedOut, "The same thing was changed by somebody else at the same time, repeatedly; try again."},
	{metadata.ErrUnavailable, kerr.RequestTimedOut, "The metadata store (etcd) did not answer in time. The change may still have been made; look before trying again."},
	{metadata.ErrInvalid, kerr.InvalidRequest, ""},
	{context.DeadlineExceeded, kerr.RequestTimedOut, ""},
	{context.Canceled, kerr.RequestTimedOut, "The broker is shutting down or the connection ended."},
}

// verdict is the one mapping from errors to Kafka's codes. The text is empty for no error. known is false for an error
// that only the log can explain: the caller logs it and the client gets UNKNOWN_SERVER_ERROR.
func verdict(err error) (code int16, message string, known bool) {
	var (
		f       *fault
		k       *kerr.Error
		refused *configs.Error
	)
	switch {
	case err == nil:
		return 0, "", true
	case errors.As(err, &f):
		return f.kind.Code, f.message, true
	case errors.As(err, &refused):
		return kerr.InvalidConfig.Code, refused.Message, true
	case errors.As(err, &k):
		return k.Code, k.Description, true
	}
	for _, o := range ours {
		if !errors.Is(err, o.is) {
			continue
		}
		switch {
		case o.message != "":
			return o.kind.Code, o.message, true
		case errors.Is(o.is, metadata.ErrInvalid):
			return o.kind.Code, err.Error(), true
		}
		return o.kind.Code, o.kind.Description, true
	}
	return kerr.UnknownServerError.Code, "The broker could not do this because of an unexpected error; its log says more.", false
}

// answer is verdict in the shape of most responses: a code and a nullable text. It logs what only the log can explain.
func (b *Broker) answer(ctx context.Context, api string, err error) (int16, *string) {
	if err == nil {
		return 0, nil
	}
	code, message, known := verdict(err)
	if !known {
		b.logger.ErrorContext(ctx, "request failed", "api", api, "error", err)
	}
	return code, &message
}

func invalidRequest(format string, args ...any) error {
	return refuse(kerr.InvalidRequest, format, args...)
}
