// Package metered is a decorator that counts and times a store's requests with OpenTelemetry. Below package retry it sees
// every attempt, above it every call.
package metered

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/tidemarkmq/tidemark/objectstore"
)

type op int

const (
	opPut op = iota
	opGet
	opHead
	opList
	opDelete
	ops
)

var opNames = [ops]string{"put", "get", "head", "list", "delete"}

type result int

const (
	ok result = iota
	notFound
	precondition
	throttled
	rejected
	unknown
	canceled
	failed
	results
)

var resultNames = [results]string{"ok", "not_found", "precondition_failed", "throttled", "rejected", "unknown", "canceled", "error"}

func resultOf(err error) result {
	switch {
	case err == nil || errors.Is(err, io.EOF):
		return ok
	case errors.Is(err, objectstore.ErrOutcomeUnknown):
		return unknown
	case errors.Is(err, objectstore.ErrNotFound):
		return notFound
	case errors.Is(err, objectstore.ErrPreconditionFailed):
		return precondition
	case errors.Is(err, objectstore.ErrThrottled):
		return throttled
	case errors.Is(err, objectstore.ErrRejected):
		return rejected
	case errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
		return canceled
	}
	return failed
}

type store struct {
	inner    objectstore.Store
	duration metric.Float64Histogram
	sent     metric.Int64Counter
	received metric.Int64Counter
	objects  metric.Int64Counter
	active   metric.Int64UpDownCounter
	// The sets of attributes are made once: a request allocates none.
	byResult [ops][results]metric.MeasurementOption
	byOp     [ops]metric.MeasurementOption
}

// New decorates inner. Its instruments, with the attributes kind (put, get, head, list, delete) and result (ok, not_found,
// precondition_failed, throttled, rejected, unknown, canceled, error):
//
//	tidemark.objectstore.request.duration  s          histogram by kind and result; its count is the number of requests
//	tidemark.objectstore.requests.active   {request}  under way, by kind
//	tidemark.objectstore.bytes.sent        By         bodies of puts that succeeded
//	tidemark.objectstore.bytes.received    By         bytes that gets returned
//	tidemark.objectstore.objects           {object}   objects that were listed or deleted, by kind
//
// A list's duration does not include its callback's.
func New(inner objectstore.Store, meter metric.Meter) (objectstore.Store, error) {
	s := &store{inner: inner}
	var errs [5]error
	s.duration, errs[0] = meter.Float64Histogram("tidemark.objectstore.request.duration", metric.WithUnit("s"),
		metric.WithDescription("Duration of requests to the object store, by kind and result."),
		metric.WithExplicitBucketBoundaries(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60))
	s.active, errs[1] = meter.Int64UpDownCounter("tidemark.objectstore.requests.active", metric.WithUnit("{request}"),
		metric.WithDescription("Requests to the object store that are under way, by kind."))
	s.sent, errs[2] = meter.Int64Counter("tidemark.objectstore.bytes.sent", metric.WithUnit("By"),
		metric.WithDescription("Bytes of the objects that were put."))
	s.received, errs[3] = meter.Int64Counter("tidemark.objectstore.bytes.received", metric.WithUnit("By"),
		metric.WithDescription("Bytes that were read from objects."))
	s.objects, errs[4] = meter.Int64Counter("tidemark.objectstore.objects", metric.WithUnit("{object}"),
		metric.WithDescription("Objects that were listed or deleted, by kind of request."))
	if err := errors.Join(errs[:]...); err != nil {
		return nil, fmt.Errorf("object store metrics: %w", err)
	}
	for o := range ops {
		kind := attribute.String("kind", opNames[o])
		s.byOp[o] = metric.WithAttributeSet(attribute.NewSet(kind))
		for r := range results {
			s.byResult[o][r] = metric.WithAttributeSet(attribute.NewSet(kind, attribute.String("result", resultNames[r])))
		}
	}
	return s, nil
}

// begin counts a request as under way; the function that it returns is to be called with the request's error when it is over.
func (s *store) begin(ctx context.Context, o op) (end func(error, time.Duration)) {
	start := time.Now()
	s.active.Add(ctx, 1, s.byOp[o])
	return func(err error, notCounted time.Duration) {
		ctx := context.WithoutCancel(ctx)
		s.active.Add(ctx, -1, s.byOp[o])
		s.duration.Record(ctx, (time.Since(start) - notCounted).Seconds(), s.byResult[o][resultOf(err)])
	}
}

func (s *store) Put(ctx context.Context, key string, body objectstore.Body, opts objectstore.PutOptions) error {
	end := s.begin(ctx, opPut)
	err := s.inner.Put(ctx, key, body, opts)
	end(err, 0)
	if err == nil {
		s.sent.Add(ctx, body.Size())
	}
	return err
}

func (s *store) GetRange(ctx context.Context, key string, p []byte, offset int64) (int, error) {
	end := s.begin(ctx, opGet)
	n, err := s.inner.GetRange(ctx, key, p, offset)
	end(err, 0)
	s.received.Add(ctx, int64(n))
	return n, err
}

func (s *store) Head(ctx context.Context, key string) (objectstore.Info, error) {
	end := s.begin(ctx, opHead)
	info, err := s.inner.Head(ctx, key)
	end(err, 0)
	return info, err
}

func (s *store) List(ctx context.Context, prefix, after string, fn func(objectstore.Info) error) error {
	end := s.begin(ctx, opList)
	var callback time.Duration
	var objects int64
	var stopped error
	err := s.inner.List(ctx, prefix, after, func(info objectstore.Info) error {
		start := time.Now()
		objects++
		stopped = fn(info)
		callback += time.Since(start)
		return stopped
	})
	storeErr := err
	if stopped != nil {
		storeErr = nil
	}
	end(storeErr, callback)
	s.objects.Add(ctx, objects, s.byOp[opList])
	return err
}

func (s *store) Delete(ctx context.Context, keys ...string) error {
	end := s.begin(ctx, opDelete)
	err := s.inner.Delete(ctx, keys...)
	end(err, 0)
	if err == nil {
		s.objects.Add(ctx, int64(len(keys)), s.byOp[opDelete])
	}
	return err
}

// VerifySums passes on objectstore.Verifier. Its few requests are not counted.
func (s *store) VerifySums(ctx context.Context, key string) error {
	return objectstore.VerifySums(ctx, s.inner, key)
}
