// Package etcdembed runs an etcd server inside the process, for `tidemark dev`: one member, persisted in a folder, with
// every fsync of a real server, and without a listener of its own accord: the client calls the server's functions directly. Other processes
// of the same user reach it through a unix socket, where one is asked for.
package etcdembed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	etcdwal "go.etcd.io/etcd/server/v3/storage/wal"

	"github.com/tidemarkmq/tidemark/metadata/etcdkv"
	"github.com/tidemarkmq/tidemark/metadata/kv"
)

// Options of an embedded server.
type Options struct {
	Dir        string // created when absent; used by one process at a time
	QuotaBytes int64  // of the database; default 2 GiB
	// Socket is the path of a unix socket for other processes; "" for none. Who may use it is for the permissions of its folder to say.
	Socket string
	Logger *slog.Logger // gets etcd's warnings and errors; nil discards
}

// Server is a running embedded etcd. Safe for concurrent use.
type Server struct {
	etcd  *embed.Etcd
	kv    *etcdkv.KV
	lock  *os.File
	close sync.Once
}

const (
	memberName = "tidemark"
	// A single member elects itself; it only has to wait for its own ticks. Shorter ones start it sooner and cost more when
	// idle: 10 ms take 37 ms and 1.2 % of a core, 20 ms 63 ms and 0.8 %, 50 ms 150 ms and 0.5 %.
	tickMillis     = 20
	electionMillis = 100
	// etcd's default of 64 MB is preallocated twice, which is much for a folder on a laptop.
	segmentBytes = 16 << 20
	// Old revisions serve watches that fell behind and paged reads only; both start over when they are compacted.
	keptRevisions = "10000"
)

var setSegmentBytes sync.Once

// Start opens or creates the member in o.Dir and returns when it serves, normally in about 100 ms; ctx bounds the wait.
// It survives kill -9: a folder is opened again as it was at the last acknowledged write.
func Start(ctx context.Context, o Options) (*Server, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("embedded etcd: %w", err)
	}
	lock, err := lockDir(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("embedded etcd: %w", err)
	}
	setSegmentBytes.Do(func() { etcdwal.SegmentSizeBytes = segmentBytes })
	e, err := startEtcd(o)
	if err != nil {
		_ = lock.Close() // the start's error is the one to report
		return nil, fmt.Errorf("embedded etcd in %s: %w", o.Dir, err)
	}
	s := &Server{etcd: e, lock: lock}
	select {
	case <-e.Server.ReadyNotify():
	case <-e.Server.StopNotify():
		err = errors.New("stopped while starting")
	case <-ctx.Done():
		err = ctx.Err()
	}
	s.kv = etcdkv.Wrap(v3client.New(e.Server), 10*time.Second)
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("embedded etcd in %s: %w", o.Dir, err)
	}
	return s, nil
}

// startEtcd turns a panic of etcd's start into an error: that is how it says that it could not make its files, on a full disk for
// instance. What the failed start holds, the lock of its database too, ends with the process: only another one can open the folder.
func startEtcd(o Options) (e *embed.Etcd, err error) {
	last := &lastError{}
	o.Logger = slog.New(recorder{o.Logger.Handler(), last})
	defer func() {
		if r := recover(); r != nil {
			e, err = nil, fmt.Errorf("%v%s", r, last.reason())
		}
	}()
	return embed.StartEtcd(config(o))
}

func config(o Options) *embed.Config {
	c := embed.NewConfig()
	c.Name = memberName
	c.Dir = filepath.Join(o.Dir, "member-data")
	c.ListenPeerUrls, c.ListenClientUrls, c.AdvertiseClientUrls = nil, nil, nil
	if o.Socket != "" {
		at := url.URL{Scheme: "unix", Path: o.Socket}
		c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{at}, []url.URL{at}
	}
	// The membership record needs a peer URL; nobody listens there and a cluster of one never dials it.
	c.AdvertisePeerUrls = []url.URL{{Scheme: "http", Host: "127.0.0.1:2380"}}
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	c.EnableGRPCGateway = false
	c.TickMs, c.ElectionMs = tickMillis, electionMillis
	c.QuotaBackendBytes = o.QuotaBytes
	if c.QuotaBackendBytes <= 0 {
		c.QuotaBackendBytes = 2 << 30
	}
	c.AutoCompactionMode, c.AutoCompactionRetention = embed.CompactorModeRevision, keptRevisions
	c.BootstrapDefragThresholdMegabytes = 100
	// etcd warns of every request above 100 ms; on a laptop's disk that is no news.
	c.WarningApplyDuration, c.WarningUnaryRequestDuration = time.Second, time.Second
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(etcdkv.ZapLogger(slog.New(quiet{o.Logger.Handler()})))
	return c
}

// KV returns the client; it ends with the server.
func (s *Server) KV() *etcdkv.KV { return s.kv }

// Stopped is closed when the server has stopped, by Close or by a failure of its own.
func (s *Server) Stopped() <-chan struct{} { return s.etcd.Server.StopNotify() }

// Close stops the server and waits for it. Watches return ErrUnavailable.
func (s *Server) Close() {
	s.close.Do(func() {
		_ = s.kv.Close() // in-process client: nothing to lose
		s.etcd.Close()
		_ = s.lock.Close() // releases the lock
	})
}

var _ kv.KV = (*etcdkv.KV)(nil)

// lastError keeps the reason that etcd named in its last error message: a panic of it has only the message.
type lastError struct{ text atomic.Pointer[string] }

func (l *lastError) reason() string {
	if text := l.text.Load(); text != nil {
		return ": " + *text
	}
	return ""
}

// recorder is a handler that also keeps the last error.
type recorder struct {
	slog.Handler
	last *lastError
}

// Enabled implements slog.Handler.
func (h recorder) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelError || h.Handler.Enabled(ctx, level)
}

// Handle implements slog.Handler.
func (h recorder) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelError {
		r.Attrs(func(a slog.Attr) bool {
			if text := a.Value.String(); a.Key == "error" {
				h.last.text.Store(&text)
			}
			return true
		})
	}
	if !h.Handler.Enabled(ctx, r.Level) {
		return nil
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h recorder) WithAttrs(a []slog.Attr) slog.Handler {
	return recorder{h.Handler.WithAttrs(a), h.last}
}

// WithGroup implements slog.Handler.
func (h recorder) WithGroup(name string) slog.Handler {
	return recorder{h.Handler.WithGroup(name), h.last}
}

// quiet turns into debug messages what etcd says at every start and stop of a single member that is as it should be.
type quiet struct{ slog.Handler }

var harmless = map[string]bool{
	// Choices made here on purpose.
	"etcd: Running http and grpc server on single port. This is not recommended for production.": true,
	"etcd: simple token is not cryptographically signed":                                         true,
	// Asked before a new folder's first commit; etcd asks again.
	"etcd: Failed to detect schema version":  true,
	"etcd: failed to update storage version": true,
	// Closed soon after it was started; etcd does it at the next start.
	"etcd: failed to update cluster version": true,
}

// closing are messages about a listener that ends, which are harmless if it was closed.
var closing = map[string]bool{
	"etcd: setting up serving from embedded etcd failed.": true,
	"etcd: stopping insecure grpc server due to error":    true,
	"etcd: stopped insecure grpc server due to error":     true,
}

// ofClosed tells whether a record's error says that something was closed.
func ofClosed(r slog.Record) (closed bool) {
	r.Attrs(func(a slog.Attr) bool {
		closed = closed || a.Key == "error" && strings.Contains(strings.ToLower(a.Value.String()), "closed")
		return true
	})
	return closed
}

// Handle implements slog.Handler.
func (h quiet) Handle(ctx context.Context, r slog.Record) error {
	if harmless[r.Message] || closing[r.Message] && ofClosed(r) {
		r.Level = slog.LevelDebug
		if !h.Enabled(ctx, r.Level) {
			return nil
		}
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h quiet) WithAttrs(a []slog.Attr) slog.Handler { return quiet{h.Handler.WithAttrs(a)} }

// WithGroup implements slog.Handler.
func (h quiet) WithGroup(name string) slog.Handler { return quiet{h.Handler.WithGroup(name)} }
