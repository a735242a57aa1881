package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/tidemarkmq/tidemark/broker/admin"
	"github.com/tidemarkmq/tidemark/broker/configs"
	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/tiering"
)

const (
	registerPause = 500 * time.Millisecond // between attempts to register
	leaseSlack    = 2 * time.Second        // what etcd may take beyond a lease to end it
	answerWait    = 20 * time.Second       // for requests in flight at shutdown
	cleanupWait   = 10 * time.Second
)

// Info is what a broker tells when it is ready.
type Info struct {
	Bootstrap string // HOST:PORT that clients connect to
	Admin     string // HOST:PORT of the admin listener; empty if there is none
	DataDir   string
	ClusterID string
}

// Broker is one run of a broker process.
type Broker struct {
	config  Config
	configs *configs.Registry
	memory  *MemoryPlan
	logger  *slog.Logger
	metrics *admin.Metrics
	meter   metric.Meter
	ready   admin.Readiness
	nodeID  metadata.BrokerID
	seams   seams

	// Set by start, in this order.
	dir          *dataDir
	meta         *metadata.Store
	store        store // for uploads and maintenance
	coldStore    store // for readers
	registration *metadata.Registration
	replication  *replication // nil: the durability class needs none
	incarnation  metadata.Incarnation
	catalog      *tiering.Catalog

	// Background parts run until life ends; the first that fails ends the broker.
	tasks sync.WaitGroup
	fatal chan error
}

// New checks the configuration and starts nothing. A nil logger discards.
func New(c Config, logger *slog.Logger) (*Broker, error) {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("configuration:\n%w", err)
	}
	b := &Broker{config: c, logger: logger, nodeID: metadata.BrokerID(c.NodeID), fatal: make(chan error, 1)}
	b.seams = b.production()
	if err := b.prepare(); err != nil {
		return nil, err
	}
	return b, nil
}

// Memory says what the broker holds in memory at most, for who sets the limits of the process.
func (b *Broker) Memory() MemoryPlan { return *b.memory }

// prepare makes what needs nothing but the configuration.
func (b *Broker) prepare() error {
	var err error
	if b.memory, err = b.config.fitMemory(int64(b.seams.slabBytes)); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	b.configs, err = configs.New(configs.Options{Static: staticConfigs(b.config), Durability: b.config.Durability, MaxBatchBytes: int64(b.seams.slabBytes - b.seams.slabBytes/128)})
	if err != nil {
		return fmt.Errorf("configuration: kafka: %w", err)
	}
	if b.metrics, err = admin.NewMetrics(); err != nil {
		return err
	}
	b.meter = b.metrics.Meter()
	b.ready.Unmet("start", "the broker is starting")
	return nil
}

// staticConfigs are the broker's settings under Kafka's names, as DescribeConfigs shows them.
func staticConfigs(c Config) map[string]string {
	static := map[string]string{"node.id": strconv.Itoa(c.NodeID), "broker.id": strconv.Itoa(c.NodeID), "log.dirs": c.DataDir}
	if c.Rack != "" {
		static["broker.rack"] = c.Rack
	}
	for name, value := range c.Kafka {
		static[name] = value
	}
	return static
}

// Run serves until ctx is done, then drains everything into the object store and returns nil: bucket and etcd suffice from then
// on. ready is called once, when clients are served. An error means that the broker could not start, was told to stop before it had
// drained what a former run left, or that a part of it failed beyond repair; what was acknowledged is then in the write-ahead log, and
// the next start recovers it.
func (b *Broker) Run(ctx context.Context, ready func(Info)) error {
	listeners, advertised, err := b.listen()
	if err != nil {
		return err
	}
	defer closeAll(listeners)
	// In the end first the background parts stop, then what they stand on is closed.
	var opened resources
	defer opened.close(b.logger)
	life, endLife := context.WithCancel(context.WithoutCancel(ctx))
	defer b.tasks.Wait()
	defer endLife()

	info := Info{Bootstrap: net.JoinHostPort(advertised.Host, strconv.Itoa(int(advertised.Port))), DataDir: b.config.DataDir}
	if b.config.AdminListener != "" {
		l, err := net.Listen("tcp", b.config.AdminListener)
		if err != nil {
			return fmt.Errorf("admin-listener: %w", err)
		}
		info.Admin = l.Addr().String()
		b.spawn(life, "admin", func(ctx context.Context) error {
			return admin.Serve(ctx, l, admin.Options{Metrics: b.metrics, Readiness: &b.ready, Logger: b.logger, Profiling: b.config.Profiling})
		})
	}
	if err := b.openParts(ctx, life, advertised, &opened); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("told to stop before the write-ahead log of a former run was drained, if there is one: %w", err)
		}
		return err
	}
	s := &serving{broker: b}
	if err := s.start(ctx, life, listeners); err != nil {
		if ctx.Err() != nil && s.uploader != nil {
			return s.stop(life, b.fatal)
		}
		s.abort(err)
		return err
	}
	info.ClusterID = b.meta.Image().ClusterID()
	b.ready.Met("start")
	b.logger.Info("ready", "bootstrap", info.Bootstrap, "admin", info.Admin, "cluster", info.ClusterID, "node", b.nodeID, "incarnation", b.incarnation)
	ready(info)

	select {
	case <-ctx.Done():
		b.ready.Unmet("stop", "the broker is draining")
		return s.stop(life, b.fatal)
	case err := <-b.fatal:
		b.ready.Unmet("failure", err.Error())
		s.abort(err)
		return err
	}
}

// spawn runs a part of the broker until life ends. A part that ends before is fatal.
func (b *Broker) spawn(life context.Context, name string, run func(context.Context) error) {
	b.tasks.Go(func() {
		err := run(life)
		if life.Err() != nil {
			if err != nil && !errors.Is(err, context.Canceled) {
				b.logger.Warn("a part of the broker ended with an error", "part", name, "error", err)
			}
			return
		}
		if err == nil {
			err = errors.New("ended unasked")
		}
		b.fail(fmt.Errorf("%s: %w", name, err))
	})
}

func (b *Broker) fail(err error) {
	b.logger.Error("a part of the broker failed", "error", err)
	select {
	case b.fatal <- err:
	default: // an earlier failure ends the broker already
	}
}

// listen binds the Kafka listeners, so that the port is known and a second broker fails at once; nothing is accepted yet.
func (b *Broker) listen() ([]net.Listener, metadata.Broker, error) {
	var listeners []net.Listener
	self := metadata.Broker{ID: b.nodeID, Rack: b.config.Rack}
	for _, addr := range b.config.Listeners {
		l, err := b.seams.listen(addr)
		if err != nil {
			closeAll(listeners)
			return nil, self, fmt.Errorf("listeners: %w", err)
		}
		listeners = append(listeners, l)
	}
	advertised := b.config.AdvertisedListener
	if advertised == "" {
		own := listeners[0].Addr().(*net.TCPAddr)
		if own.IP.IsUnspecified() {
			closeAll(listeners)
			return nil, self, fmt.Errorf("advertised-listener: must be stated, because clients cannot connect to %s", own)
		}
		advertised = own.String()
	}
	host, text, err := net.SplitHostPort(advertised)
	port, portErr := strconv.ParseUint(text, 10, 16)
	if err = errors.Join(err, portErr); err != nil {
		closeAll(listeners)
		return nil, self, fmt.Errorf("advertised-listener: %w", err)
	}
	self.Host, self.Port = host, int32(port)
	return listeners, self, nil
}

func closeAll(listeners []net.Listener) {
	for _, l := range listeners {
		_ = l.Close() // closed already in an orderly stop
	}
}

// resources are what is to be closed in the end, in the reverse order of opening.
type resources []struct {
	what  string
	close func() error
}

func (r *resources) add(what string, fn func() error) {
	*r = append(*r, struct {
		what  string
		close func() error
	}{what, fn})
}

func (r *resources) close(logger *slog.Logger) {
	for i := len(*r) - 1; i >= 0; i-- {
		if err := (*r)[i].close(); err != nil {
			logger.Warn("close "+(*r)[i].what, "error", err)
		}
	}
}

// openParts opens what needs no incarnation, registers the broker, and drains what former runs left. What it opened is in opened,
// whatever the error.
func (b *Broker) openParts(ctx, life context.Context, self metadata.Broker, opened *resources) (err error) {
	if b.dir, err = b.seams.openData(b.config.DataDir); err != nil {
		return err
	}
	opened.add("the data folder", b.dir.close)
	var closeMeta func()
	if b.meta, closeMeta, err = b.openMetadata(ctx); err != nil {
		return err
	}
	opened.add("the metadata", func() error { closeMeta(); return nil })
	b.spawn(life, "metadata", b.meta.Run)
	if b.store, err = b.seams.openStore(ctx); err != nil {
		return err
	}
	opened.add("the object store", b.store.Close)
	if b.coldStore, err = b.seams.openStore(ctx); err != nil {
		return err
	}
	opened.add("the object store", b.coldStore.Close)
	if err = b.awaitStore(ctx, b.store); err != nil {
		return err
	}
	replicates, err := b.replicates(ctx)
	if err != nil {
		return err
	}
	if replicates {
		if self.Replica, err = b.startReplication(life, opened); err != nil {
			return err
		}
	}
	if err = b.register(ctx, self); err != nil {
		return err
	}
	opened.add("the registration", func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupWait)
		defer cancel()
		return b.registration.Close(ctx)
	})
	b.catalog = tiering.NewCatalog(tiering.CatalogOptions{
		Store: b.coldStore, Partitions: b.meta, Cluster: b.meta.Image().ClusterID(),
		CacheBytes: b.config.indexBytes(), Logger: b.logger.With("part", "tiering"), Meter: b.meter,
	})
	opened.add("the catalog", func() error { b.catalog.Close(); return nil })
	if err = b.catalog.Load(ctx, b.meta); err != nil {
		return fmt.Errorf("load the catalog of objects: %w", err)
	}
	if err := b.recoverStreams(ctx); err != nil {
		return err
	}
	b.ready.Met("write-ahead log")
	return nil
}

// register makes the broker known. Where its id is registered with another disk, that run may be dead: it waits for as long as a lease of its own
// would last, and is refused if the other is live still.
func (b *Broker) register(ctx context.Context, self metadata.Broker) error {
	self.Token = b.dir.token
	var err error
	for limit := time.Now().Add(b.config.Lease + leaseSlack); ; {
		b.registration, err = b.meta.Register(ctx, self, b.config.Lease)
		if !errors.Is(err, metadata.ErrExists) || time.Now().After(limit) {
			break
		}
		b.ready.Unmet("registration", err.Error())
		b.logger.Info("waiting for the lease of another run with this broker's id to end", "error", err)
		select {
		case <-time.After(registerPause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err != nil {
		return fmt.Errorf("register: %w", err)
	}
	b.ready.Met("registration")
	b.incarnation = b.registration.Incarnation
	return nil
}
