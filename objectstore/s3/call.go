package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/tidemarkmq/tidemark/objectstore"
)

// call is one call of the store. It knows whether the server may have seen the request, which decides what an error means.
type call struct {
	caller  context.Context
	ctx     context.Context // with the call's own timeout
	end     context.CancelFunc
	verb    string
	key     string
	timeout time.Duration
	mutates bool        // a delete
	body    *sentBody   // of a put
	sent    atomic.Bool // the head of a request has been written
}

func newCall(ctx context.Context, verb, key string, timeout time.Duration) *call {
	c := &call{caller: ctx, verb: verb, key: key, timeout: timeout}
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { c.sent.Store(true) }})
	c.ctx, c.end = context.WithTimeout(traced, timeout)
	return c
}

// mayHaveTakenEffect says whether the server can have got the whole request. A put of which it lacks a byte it discards,
// because the length was announced.
func (c *call) mayHaveTakenEffect() bool {
	if c.body != nil {
		return c.sent.Load() && c.body.sentAll()
	}
	return c.mutates && c.sent.Load()
}

// explain maps an error to the contract's.
func (c *call) explain(err error) error {
	if err == nil {
		return nil
	}
	var answer minio.ErrorResponse
	switch {
	case c.caller.Err() != nil:
		err = c.unlessKnown(c.caller.Err())
	case c.body != nil && c.body.failure() != nil:
		err = fmt.Errorf("reading the body: %w", c.body.failure())
	case errors.As(err, &answer):
		err = c.explainAnswer(answer)
	case c.ctx.Err() != nil:
		// Not %w: for the caller's ctx time is not up.
		err = c.unlessKnown(fmt.Errorf("no answer within %v", c.timeout))
	default:
		err = c.unlessKnown(err)
	}
	return fmt.Errorf("%s %s: %w", c.verb, c.key, err)
}

// unlessKnown marks the error of a request that was not answered.
func (c *call) unlessKnown(err error) error {
	if c.mayHaveTakenEffect() {
		return fmt.Errorf("%w: %w", objectstore.ErrOutcomeUnknown, err)
	}
	return err
}

// throttling and transient are error codes of S3 and MinIO that say more than their HTTP status. (Amazon S3 API reference,
// "Error responses".)
var (
	throttling = map[string]bool{
		"SlowDown": true, "SlowDownRead": true, "SlowDownWrite": true, "Throttling": true, "ThrottlingException": true,
		"RequestLimitExceeded": true, "RequestThrottled": true, "TooManyRequests": true, "Busy": true,
	}
	// transient errors had no effect, and the next attempt may succeed.
	transient = map[string]bool{
		"ConditionalRequestConflict": true, "OperationAborted": true, // 409: another request for the key was under way
		"RequestTimeout": true, "IncompleteBody": true, // 400: the body did not arrive
		"ExpiredToken": true, "ExpiredTokenException": true, // the credentials are fetched anew
	}
)

// mismatch are transient too: the body did not arrive as it was sent.
var mismatch = map[string]bool{
	"BadDigest": true, "InvalidDigest": true, "XAmzContentChecksumMismatch": true, "XAmzContentSHA256Mismatch": true,
}

func (c *call) explainAnswer(answer minio.ErrorResponse) error {
	said := fmt.Errorf("%s (HTTP %d, %s)", strings.TrimSpace(answer.Message), answer.StatusCode, answer.Code)
	mark := func(kind error) error { return fmt.Errorf("%w: %w", kind, said) }
	switch {
	case throttling[answer.Code] || answer.StatusCode == http.StatusTooManyRequests:
		return mark(objectstore.ErrThrottled)
	case mismatch[answer.Code]:
		return mark(errMismatch)
	case transient[answer.Code]:
		return said
	case answer.Code == minio.NoSuchBucket:
		return mark(objectstore.ErrRejected)
	case answer.StatusCode == http.StatusNotFound || answer.Code == minio.NoSuchKey:
		return mark(objectstore.ErrNotFound)
	case answer.StatusCode == http.StatusPreconditionFailed || answer.Code == minio.PreconditionFailed:
		return mark(objectstore.ErrPreconditionFailed)
	case answer.StatusCode == http.StatusConflict && c.verb == "put" && answer.Code == minio.Conflict:
		return said // a server that names no reason
	case answer.StatusCode == http.StatusServiceUnavailable && !c.mayHaveTakenEffect():
		return mark(objectstore.ErrThrottled)
	case answer.StatusCode == http.StatusRequestTimeout:
		return said
	case answer.StatusCode >= 500 || answer.StatusCode == 0 && answer.Code == "InternalError":
		// Possibly from a proxy that knows no more than we do.
		return c.unlessKnown(said)
	case answer.StatusCode >= 300 || answer.StatusCode == 0:
		return mark(objectstore.ErrRejected)
	}
	return c.unlessKnown(said)
}
