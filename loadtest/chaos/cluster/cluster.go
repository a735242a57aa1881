package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/tidemarkmq/tidemark/loadtest/process"
)

// Options are what to run.
type Options struct {
	Dir                   string // of data and logs; must be empty
	Tidemark, Etcd, MinIO string // binaries; without MinIO objects are in a folder
	Brokers, Etcds        int
	Spares                int // further brokers, which are not started
	Durability            string
	Lease                 time.Duration // of the brokers' registrations
	DiskBytes             int64         // of each broker, where mounting works
	Seed                  uint64
	Flags                 []string // more for each broker; {ip} is its address
}

// Cluster is everything that runs. Its methods may be called concurrently, but each server by one goroutine at a time.
type Cluster struct {
	Options
	Network *Network
	Etcds   []*Server
	Brokers []*Server
	Spares  []*Server
	Store   *Store // nil: the store is a folder
	Client  *Node  // this program
	StoreAt *Node
	minio   *process.Broker
	mounted []string
}

const (
	keyName, keySecret, bucket = "tidemark", "tidemark-local", "tidemark"
	clientPort, replicaPort    = "9092", "9094"
)

// Start starts everything and waits until it serves. What was started is stopped when it fails.
func Start(ctx context.Context, o Options) (c *Cluster, err error) {
	c = &Cluster{Options: o}
	defer func() {
		if err != nil {
			c.Close()
		}
	}()
	if c.Network, err = NewNetwork(ctx); err != nil {
		return c, err
	}
	c.Client = c.Network.Clients()
	if err := c.startEtcd(ctx); err != nil {
		return c, fmt.Errorf("etcd: %w", err)
	}
	if o.MinIO != "" {
		if err := c.startStore(ctx); err != nil {
			return c, fmt.Errorf("MinIO: %w", err)
		}
	}
	for i := range o.Brokers + o.Spares {
		b, err := c.newBroker(ctx, i+1)
		if err != nil {
			return c, fmt.Errorf("broker %d: %w", i+1, err)
		}
		if i < o.Brokers {
			c.Brokers = append(c.Brokers, b)
		} else {
			c.Spares = append(c.Spares, b)
		}
	}
	for _, b := range c.Brokers {
		if err := b.Start(ctx); err != nil {
			return c, err
		}
	}
	return c, nil
}

func (c *Cluster) startEtcd(ctx context.Context) error {
	var members []string
	for i := range c.Options.Etcds {
		node, err := c.Network.Add(ctx, fmt.Sprintf("etcd%d", i+1), 100+i)
		if err != nil {
			return err
		}
		members = append(members, fmt.Sprintf("%s=http://%s:2380", node.Name, node.IP))
		c.Etcds = append(c.Etcds, &Server{Node: node, Address: node.IP + ":2379", Data: filepath.Join(c.Dir, node.Name), log: filepath.Join(c.Dir, node.Name+".log")})
	}
	for _, s := range c.Etcds {
		s.probe = func(ctx context.Context) error { return healthy(ctx, "http://"+s.Address+"/health") }
		s.name, s.args = s.Node.Command(c.Etcd, "--name", s.Node.Name, "--data-dir", s.Data, "--unsafe-no-fsync", "--log-level", "warn",
			"--listen-client-urls", "http://"+s.Address, "--advertise-client-urls", "http://"+s.Address,
			"--listen-peer-urls", "http://"+s.Node.IP+":2380", "--initial-advertise-peer-urls", "http://"+s.Node.IP+":2380",
			"--initial-cluster", strings.Join(members, ","))
	}
	all := make(chan error, len(c.Etcds))
	for _, s := range c.Etcds { // they serve together only
		go func() { all <- s.Start(ctx) }()
	}
	var errs error
	for range c.Etcds {
		errs = errors.Join(errs, <-all)
	}
	return errs
}

func (c *Cluster) startStore(ctx context.Context) error {
	data := filepath.Join(c.Dir, "minio")
	if err := os.MkdirAll(filepath.Join(data, bucket), 0o700); err != nil {
		return err
	}
	for name, key := range map[string]string{"access-key": keyName, "secret-key": keySecret} {
		if err := os.WriteFile(filepath.Join(c.Dir, name), []byte(key), 0o600); err != nil {
			return err
		}
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	address := ln.Addr().String()
	if err := ln.Close(); err != nil {
		return err
	}
	c.minio, err = process.StartAt(ctx, nil, address, func(ctx context.Context) error { return healthy(ctx, "http://"+address+"/minio/health/ready") },
		"env", "MINIO_ROOT_USER="+keyName, "MINIO_ROOT_PASSWORD="+keySecret, "MINIO_BROWSER=off", "MINIO_UPDATE=off", "MINIO_CALLHOME_ENABLE=off",
		c.MinIO, "server", "--quiet", "--address", address, data)
	if err != nil {
		return err
	}
	if c.StoreAt, err = c.Network.Add(ctx, "store", 200); err != nil {
		return err
	}
	front, err := c.StoreAt.Listen()
	if err != nil {
		return err
	}
	c.Store = NewStore(front, address, c.Seed)
	c.Store.address = front.Addr().String()
	return nil
}

func (c *Cluster) newBroker(ctx context.Context, id int) (*Server, error) {
	node, err := c.Network.Add(ctx, fmt.Sprintf("broker%d", id), 9+id)
	if err != nil {
		return nil, err
	}
	s := &Server{Node: node, ID: int32(id), Address: node.IP + ":" + clientPort, Data: filepath.Join(c.Dir, node.Name), log: filepath.Join(c.Dir, node.Name+".log")}
	if err := c.disk(ctx, s); err != nil {
		return nil, err
	}
	var endpoints []string
	for _, e := range c.Etcds {
		endpoints = append(endpoints, "http://"+e.Address)
	}
	args := []string{"broker", "--node-id", fmt.Sprint(id), "--listeners", s.Address, "--admin-listener", node.IP + ":9644", "--data-dir", s.wal(),
		"--durability", c.Durability, "--lease", c.Lease.String(), "--etcd.endpoints", strings.Join(endpoints, ","),
		"--replication.listener", node.IP + ":" + replicaPort, "--replication.insecure", "true"}
	if s.Mounted { // the disk is small, and other brokers' logs are on it too
		args = append(args, "--wal.segment-bytes", "16MiB", "--wal.max-bytes", "64MiB")
	}
	if c.Store != nil {
		args = append(args, "--object-store.url", "s3://"+bucket+"/chaos?endpoint=http://"+c.Store.address+"&region=us-east-1&path-style=true",
			"--object-store.access-key-file", filepath.Join(c.Dir, "access-key"), "--object-store.secret-key-file", filepath.Join(c.Dir, "secret-key"))
	} else {
		args = append(args, "--object-store.url", "file://"+filepath.ToSlash(filepath.Join(c.Dir, "objects")))
	}
	for _, f := range c.Flags {
		args = append(args, strings.ReplaceAll(f, "{ip}", node.IP))
	}
	s.name, s.args = node.Command(c.Tidemark, args...)
	return s, nil
}

// Bootstrap are the addresses of all brokers, whether they run or not.
func (c *Cluster) Bootstrap() []string {
	var all []string
	for _, b := range c.Brokers {
		all = append(all, b.Address)
	}
	return all
}

// EtcdLeader is the etcd server that leads, or nil if none says so.
func (c *Cluster) EtcdLeader(ctx context.Context) *Server {
	for _, s := range c.Etcds {
		if leads(ctx, s.Address) {
			return s
		}
	}
	return nil
}

// Close kills everything and undoes mounts and namespaces. Data and logs stay.
func (c *Cluster) Close() {
	for _, s := range slices.Concat(c.Brokers, c.Spares, c.Etcds) {
		s.Kill()
	}
	if c.Store != nil {
		_ = c.Store.Close() // nobody uses it any more
	}
	if c.minio != nil {
		c.minio.Kill()
	}
	for _, at := range c.mounted {
		unmount(at)
	}
	if c.Network != nil {
		c.Network.Close()
	}
}

// logTo opens a server's log for appending; its output is cut up by lines that say when it was started.
func logTo(path, what string) (io.WriteCloser, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err == nil {
		_, err = fmt.Fprintf(f, "--- %s %s\n", time.Now().UTC().Format(time.RFC3339Nano), what)
	}
	return f, err
}
