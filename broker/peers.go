package broker

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/wal"
	"github.com/tidemarkmq/tidemark/wal/peer"
	"github.com/tidemarkmq/tidemark/wal/quorum"
)

const (
	// dropPeersEvery is how often connections to brokers that are not registered any more are given up.
	dropPeersEvery = time.Minute
	dialWait       = 2 * time.Second
)

// peers connects the replicas of brokers over TCP.
type peers struct {
	broker   *Broker
	self     peer.Identity
	listener net.Listener
	address  string
	server   *peer.Server
	client   *tls.Config // without ServerName; nil: no TLS

	life  context.Context // of the connections
	end   context.CancelFunc
	tasks sync.WaitGroup

	mu      sync.Mutex
	clients map[route]*peerClient
}

// route is a member at an address.
type route struct {
	member  quorum.Member
	address string
}

type peerClient struct {
	*peer.Client
	stop context.CancelFunc
}

// openPeers binds the listener for other brokers.
func (b *Broker) openPeers(replicas *wal.Replicas) (replicaNetwork, error) {
	c := b.config.Replication
	p := &peers{broker: b, clients: map[route]*peerClient{}}
	p.self = peer.Identity{Cluster: b.meta.Image().ClusterID(), Broker: int32(b.nodeID), Disk: b.dir.token}
	p.life, p.end = context.WithCancel(context.Background())
	var serverTLS *tls.Config
	var err error
	if c.CertFile != "" {
		if serverTLS, p.client, err = c.loadTLS(); err != nil {
			return nil, err
		}
	}
	if p.listener, err = b.seams.listen(c.Listener); err != nil {
		return nil, fmt.Errorf("replication.listener: %w", err)
	}
	p.address = c.Advertised
	if own, ok := p.listener.Addr().(*net.TCPAddr); p.address == "" && ok && own.IP.IsUnspecified() {
		return nil, errors.Join(fmt.Errorf("replication.advertised: must be stated, because other brokers cannot connect to %s", own), p.listener.Close())
	}
	if p.address == "" {
		p.address = p.listener.Addr().String()
	}
	p.server, err = peer.NewServer(peer.ServerOptions{
		Self: p.self, Replicas: replicas, TLS: serverTLS, Logger: b.logger.With("part", "replicas"), Meter: b.meter,
		Listen: func(context.Context) (net.Listener, error) { return p.listener, nil },
	})
	if err != nil {
		return nil, errors.Join(err, p.listener.Close())
	}
	return p, nil
}

// loadTLS reads the certificate with which brokers know each other, as server and as client.
func (r *Replication) loadTLS() (server, client *tls.Config, err error) {
	cert, err := tls.LoadX509KeyPair(r.CertFile, r.KeyFile)
	if err != nil {
		return nil, nil, fmt.Errorf("replication.cert-file, replication.key-file: %w", err)
	}
	authorities, err := os.ReadFile(r.CAFile)
	if err != nil {
		return nil, nil, fmt.Errorf("replication.ca-file: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(authorities) {
		return nil, nil, fmt.Errorf("replication.ca-file: %s holds no certificate", r.CAFile)
	}
	server = &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert}
	client = &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}, RootCAs: pool}
	return server, client, nil
}

// Address implements replicaNetwork.
func (p *peers) Address() string { return p.address }

// Register implements replicaNetwork.
func (p *peers) Register(stream uint64, log *wal.Log) { p.server.Register(stream, log) }

// Run implements replicaNetwork.
func (p *peers) Run(ctx context.Context) error {
	defer p.tasks.Wait()
	defer p.end()
	ended := make(chan error, 1)
	go func() { ended <- p.server.Run(ctx) }()
	tick := time.NewTicker(dropPeersEvery)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			return err
		case <-tick.C:
			p.dropUnregistered()
		}
	}
}

// dropUnregistered ends the connections to places where no member is any more.
func (p *peers) dropUnregistered() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for r, c := range p.clients {
		if at, ok := p.addressOf(r.member); !ok || at != r.address {
			c.stop()
			delete(p.clients, r)
		}
	}
}

// addressOf is where a member's replicas are reached, while its broker is registered with that disk.
func (p *peers) addressOf(m quorum.Member) (string, bool) {
	o, ok := p.broker.meta.Image().Broker(metadata.BrokerID(m.Broker))
	return o.Replica, ok && o.Token == m.Disk && o.Replica != ""
}

var errNotRegistered = errors.New("not registered with that disk at present")

// clientOf returns the connection to a member, made if need be.
func (p *peers) clientOf(m quorum.Member) (*peer.Client, error) {
	address, ok := p.addressOf(m)
	if !ok {
		return nil, fmt.Errorf("broker %d: %w", m.Broker, errNotRegistered)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	at := route{m, address}
	if c := p.clients[at]; c != nil {
		return c.Client, nil
	}
	o := peer.ClientOptions{
		Self: p.self, Broker: m.Broker, Disk: m.Disk, Logger: p.broker.logger.With("part", "replication"),
		Dial: func(ctx context.Context) (net.Conn, error) {
			return (&net.Dialer{Timeout: dialWait}).DialContext(ctx, "tcp", address)
		},
	}
	if p.client != nil {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, fmt.Errorf("broker %d: %w", m.Broker, err)
		}
		o.TLS = p.client.Clone()
		o.TLS.ServerName = host
	}
	made, err := peer.NewClient(o)
	if err != nil {
		return nil, err
	}
	life, stop := context.WithCancel(p.life)
	p.clients[at] = &peerClient{Client: made, stop: stop}
	p.tasks.Go(func() {
		defer stop()
		_ = made.Run(life) // it ends with life only, and says so to those who ask
	})
	return made, nil
}

// Dial implements replicaNetwork.
func (p *peers) Dial(m quorum.Member) quorum.Peer { return remote{p, m} }

// remote is a member, wherever it is at the time.
type remote struct {
	peers  *peers
	member quorum.Member
}

// Open implements quorum.Peer.
func (r remote) Open(ctx context.Context, stream uint64, h wal.StreamHeader, oldest wal.SegmentRef, create bool) (quorum.Appender, wal.Tail, error) {
	c, err := r.peers.clientOf(r.member)
	if err != nil {
		return nil, wal.Tail{}, err
	}
	s, tail, err := c.Open(ctx, stream, h, oldest, create)
	if err != nil {
		return nil, wal.Tail{}, err
	}
	return s, tail, nil
}

// Fence implements quorum.Peer.
func (r remote) Fence(ctx context.Context, stream, epoch uint64) (wal.Tail, error) {
	c, err := r.peers.clientOf(r.member)
	if err != nil {
		return wal.Tail{}, err
	}
	return c.Fence(ctx, stream, epoch)
}

// Read implements quorum.Peer.
func (r remote) Read(ctx context.Context, stream uint64, from wal.Position, maxBytes int, dst []byte) (wal.Chunk, error) {
	c, err := r.peers.clientOf(r.member)
	if err != nil {
		return wal.Chunk{}, err
	}
	return c.Read(ctx, stream, from, maxBytes, dst)
}

// Trim implements quorum.Peer.
func (r remote) Trim(ctx context.Context, stream uint64, to wal.Position) error {
	c, err := r.peers.clientOf(r.member)
	if err != nil {
		return err
	}
	return c.Trim(ctx, stream, to)
}

// Remove implements quorum.Peer.
func (r remote) Remove(ctx context.Context, stream, epoch uint64) error {
	c, err := r.peers.clientOf(r.member)
	if err != nil {
		return err
	}
	return c.Remove(ctx, stream, epoch)
}
