package etcdkv

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/tidemarkmq/tidemark/metadata/kv"
)

// Range implements kv.KV. Reads are linearizable: the client's default, never WithSerializable.
func (s *KV) Range(ctx context.Context, r kv.Range) (kv.Page, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	opts := []clientv3.OpOption{clientv3.WithLimit(int64(r.Limit)), clientv3.WithRev(r.Revision)}
	if r.End != "" {
		opts = append(opts, clientv3.WithRange(r.End))
	}
	res, err := s.client.Get(ctx, r.Start, opts...)
	if err != nil {
		return kv.Page{}, convert(ctx, "range", err)
	}
	return kv.Page{Pairs: pairs(res.Kvs), More: res.More, Revision: res.Header.GetRevision()}, nil
}

// Txn implements kv.KV. The client never repeats a transaction that may have reached a server.
func (s *KV) Txn(ctx context.Context, t kv.Txn) (kv.TxnResult, error) {
	if err := t.Check(); err != nil {
		return kv.TxnResult{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	res, err := s.client.Txn(ctx).If(compares(t.If)...).Then(operations(t.Then)...).Else(operations(t.Else)...).Commit()
	if err != nil {
		return kv.TxnResult{}, convert(ctx, "transaction", err)
	}
	out := kv.TxnResult{Succeeded: res.Succeeded, Revision: res.Header.GetRevision()}
	for _, r := range res.Responses {
		switch {
		case r.GetResponseRange() != nil:
			out.Gets = append(out.Gets, pairs(r.GetResponseRange().GetKvs()))
		case r.GetResponseDeleteRange() != nil:
			out.Deleted += r.GetResponseDeleteRange().GetDeleted()
		}
	}
	return out, nil
}

func compares(in []kv.Compare) []clientv3.Cmp {
	out := make([]clientv3.Cmp, 0, len(in))
	for _, c := range in {
		switch c.Target {
		case kv.ModRevision:
			out = append(out, clientv3.Compare(clientv3.ModRevision(c.Key), "=", c.Revision))
		case kv.CreateRevision:
			out = append(out, clientv3.Compare(clientv3.CreateRevision(c.Key), "=", c.Revision))
		case kv.Present:
			out = append(out, clientv3.Compare(clientv3.CreateRevision(c.Key), ">", 0))
		}
	}
	return out
}

func operations(in []kv.Op) []clientv3.Op {
	out := make([]clientv3.Op, 0, len(in))
	for _, o := range in {
		var opts []clientv3.OpOption
		if o.End != "" {
			opts = append(opts, clientv3.WithRange(o.End))
		}
		switch o.Kind {
		case kv.OpPut:
			if o.Lease != 0 {
				opts = append(opts, clientv3.WithLease(clientv3.LeaseID(o.Lease)))
			}
			out = append(out, clientv3.OpPut(o.Key, string(o.Value), opts...))
		case kv.OpDelete:
			out = append(out, clientv3.OpDelete(o.Key, opts...))
		case kv.OpGet:
			if o.Limit > 0 {
				opts = append(opts, clientv3.WithLimit(int64(o.Limit)))
			}
			out = append(out, clientv3.OpGet(o.Key, opts...))
		}
	}
	return out
}

func pairs(in []*mvccpb.KeyValue) []kv.Pair {
	out := make([]kv.Pair, len(in))
	for i, p := range in {
		out[i] = pair(p)
	}
	return out
}

func pair(p *mvccpb.KeyValue) kv.Pair {
	return kv.Pair{
		Key:            string(p.GetKey()),
		Value:          p.GetValue(),
		CreateRevision: p.GetCreateRevision(),
		ModRevision:    p.GetModRevision(),
		Lease:          kv.LeaseID(p.GetLease()),
	}
}

// Grant implements kv.KV.
func (s *KV) Grant(ctx context.Context, ttl time.Duration) (kv.LeaseID, time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	seconds := int64((ttl + time.Second - 1) / time.Second)
	res, err := s.client.Grant(ctx, max(seconds, 1))
	if err != nil {
		return 0, 0, convert(ctx, "grant a lease", err)
	}
	return kv.LeaseID(res.ID), time.Duration(res.TTL) * time.Second, nil
}

// KeepAlive implements kv.KV. It asks once and waits for the answer, rather than trusting the client's own keepalive loop,
// which tells late that a lease is lost.
func (s *KV) KeepAlive(ctx context.Context, id kv.LeaseID) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	res, err := s.client.KeepAliveOnce(ctx, clientv3.LeaseID(id))
	if err != nil {
		return 0, convert(ctx, "keep a lease alive", err)
	}
	return time.Duration(res.TTL) * time.Second, nil
}

// Revoke implements kv.KV.
func (s *KV) Revoke(ctx context.Context, id kv.LeaseID) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	_, err := s.client.Revoke(ctx, clientv3.LeaseID(id))
	if err = convert(ctx, "revoke a lease", err); errors.Is(err, kv.ErrLeaseNotFound) {
		return nil
	}
	return err
}

// Watch implements kv.KV. The client reconnects by itself; a member without a leader breaks the watch.
func (s *KV) Watch(ctx context.Context, start, end string, from int64, fn func(kv.Batch) error) error {
	wctx, cancel := context.WithCancel(ctx)
	defer cancel()
	opts := []clientv3.OpOption{clientv3.WithRev(from), clientv3.WithProgressNotify(), clientv3.WithFragment()}
	if end != "" {
		opts = append(opts, clientv3.WithRange(end))
	}
	for res := range s.client.Watch(clientv3.WithRequireLeader(wctx), start, opts...) {
		if err := res.Err(); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if errors.Is(err, rpctypes.ErrCompacted) {
				return kv.ErrCompacted
			}
			return fmt.Errorf("%w: watch: %w", kv.ErrUnavailable, err)
		}
		if len(res.Events) == 0 && !res.IsProgressNotify() {
			continue
		}
		if err := fn(batch(res)); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("%w: watch ended", kv.ErrUnavailable)
}

func batch(res clientv3.WatchResponse) kv.Batch {
	b := kv.Batch{Revision: res.Header.GetRevision(), Events: make([]kv.Event, len(res.Events))}
	for i, e := range res.Events {
		b.Events[i] = kv.Event{Pair: pair(e.Kv), IsDelete: e.Type == mvccpb.Event_DELETE}
	}
	if n := len(res.Events); n > 0 {
		// A watcher that catches up gets old events under a header with the newest revision.
		b.Revision = res.Events[n-1].Kv.GetModRevision()
	}
	return b
}

// convert turns a client error into one of the seam's. ctx is the call's own, with its timeout.
func convert(ctx context.Context, what string, err error) error {
	if err == nil {
		return nil
	}
	switch {
	case errors.Is(err, rpctypes.ErrCompacted):
		return kv.ErrCompacted
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		return kv.ErrLeaseNotFound
	case errors.Is(err, rpctypes.ErrTooManyOps), errors.Is(err, rpctypes.ErrRequestTooLarge):
		return fmt.Errorf("%w: %w", kv.ErrTooLarge, err)
	case errors.Is(err, rpctypes.ErrNoSpace):
		return fmt.Errorf("%w: %w", kv.ErrNoSpace, err)
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %s: %w", kv.ErrUnavailable, what, err)
	}
	switch code(err) {
	case codes.InvalidArgument, codes.PermissionDenied, codes.Unauthenticated, codes.Unimplemented, codes.OutOfRange, codes.DataLoss:
		return fmt.Errorf("etcd: %s: %w", what, err)
	}
	return fmt.Errorf("%w: %s: %w", kv.ErrUnavailable, what, err)
}

func code(err error) codes.Code {
	var e rpctypes.EtcdError
	if errors.As(err, &e) {
		return e.Code()
	}
	if s, ok := status.FromError(err); ok {
		return s.Code()
	}
	return codes.Unknown
}

// status of one endpoint, for the version check.
func (s *KV) serverStatus(ctx context.Context, endpoint string, timeout time.Duration) (*pb.StatusResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	res, err := s.client.Status(ctx, endpoint)
	if err != nil {
		return nil, err
	}
	return (*pb.StatusResponse)(res), nil
}
