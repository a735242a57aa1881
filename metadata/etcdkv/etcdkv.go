// Package etcdkv is the kv seam on etcd's v3 client: over a network to an external cluster, or wrapped around a client that
// reaches an embedded server without one.
package etcdkv

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/tidemarkmq/tidemark/metadata/kv"
)

// Options of a connection to an external cluster.
type Options struct {
	Endpoints []string // URLs or host:port; at least one

	// CAFile verifies the servers, CertFile and KeyFile authenticate this client (both or neither); PEM. ServerName replaces the
	// endpoint's host in the verification. With none of them set and http:// endpoints the connection is in the clear.
	CAFile, CertFile, KeyFile, ServerName string

	Username, Password string // etcd's own authentication; both or neither

	RequestTimeout   time.Duration // of one call; default 5 s
	DialTimeout      time.Duration // of authentication and of the version check; default 5 s
	KeepAliveTime    time.Duration // without traffic until the connection is probed; default 10 s
	KeepAliveTimeout time.Duration // of the probe; default 5 s

	// AllowStaleReads lets New accept servers that can serve stale linearizable reads, with a warning. See CheckVersion.
	AllowStaleReads bool

	Logger *slog.Logger // nil discards
}

// KV implements kv.KV on an etcd client. Safe for concurrent use.
type KV struct {
	client  *clientv3.Client
	timeout time.Duration
}

var _ kv.KV = (*KV)(nil)

const defaultTimeout = 5 * time.Second

// New connects to an external cluster and checks the version of every endpoint that answers; at least one must. It returns
// within the dial timeout per endpoint. Close the result.
func New(ctx context.Context, o Options) (*KV, error) {
	if len(o.Endpoints) == 0 {
		return nil, errors.New("etcd: no endpoints")
	}
	if (o.Username == "") != (o.Password == "") {
		return nil, errors.New("etcd: user name and password go together")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	tlsConfig, err := o.tls()
	if err != nil {
		return nil, err
	}
	client, err := clientv3.New(clientv3.Config{
		Endpoints:            slices.Clone(o.Endpoints),
		DialTimeout:          orDefault(o.DialTimeout, defaultTimeout),
		DialKeepAliveTime:    orDefault(o.KeepAliveTime, 10*time.Second),
		DialKeepAliveTimeout: orDefault(o.KeepAliveTimeout, 5*time.Second),
		PermitWithoutStream:  true,
		TLS:                  tlsConfig,
		Username:             o.Username,
		Password:             o.Password,
		Logger:               ZapLogger(o.Logger),
	})
	if err != nil {
		return nil, fmt.Errorf("etcd: connect to %v: %w", o.Endpoints, err)
	}
	s := Wrap(client, o.RequestTimeout)
	if err := s.checkVersions(ctx, o); err != nil {
		_ = client.Close() // the check's error is the one to report
		return nil, err
	}
	return s, nil
}

// Wrap builds a KV on a client that the KV closes. A timeout of 0 means 5 s.
func Wrap(client *clientv3.Client, timeout time.Duration) *KV {
	return &KV{client: client, timeout: orDefault(timeout, defaultTimeout)}
}

// Close ends the connection; running watches return ErrUnavailable.
func (s *KV) Close() error {
	if err := s.client.Close(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("etcd: close: %w", err)
	}
	return nil
}

// Compact forgets the revisions below rev. For operators and tests: servers compact by themselves as configured.
func (s *KV) Compact(ctx context.Context, rev int64) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	_, err := s.client.Compact(ctx, rev)
	return convert(ctx, "compact", err)
}

func (o Options) tls() (*tls.Config, error) {
	if o.CAFile == "" && o.CertFile == "" && o.KeyFile == "" && o.ServerName == "" {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("etcd: CA file: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("etcd: CA file %s holds no certificate", o.CAFile)
		}
	}
	if (o.CertFile == "") != (o.KeyFile == "") {
		return nil, errors.New("etcd: certificate file and key file go together")
	}
	if o.CertFile != "" {
		// Read again at every handshake, so that rotated certificates are picked up without a restart.
		load := func() (*tls.Certificate, error) {
			cert, err := tls.LoadX509KeyPair(o.CertFile, o.KeyFile)
			if err != nil {
				return nil, fmt.Errorf("etcd: client certificate: %w", err)
			}
			return &cert, nil
		}
		if _, err := load(); err != nil {
			return nil, err
		}
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	}
	if o.ServerName != "" {
		// gRPC puts the endpoint's host in place of a ServerName, so the name is verified here instead.
		c.InsecureSkipVerify = true
		c.VerifyConnection = func(state tls.ConnectionState) error { return verify(state, c.RootCAs, o.ServerName) }
	}
	return c, nil
}

// verify does what crypto/tls does by itself, with a name of our choice.
func verify(state tls.ConnectionState, roots *x509.CertPool, name string) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("etcd: server without a certificate")
	}
	opts := x509.VerifyOptions{Roots: roots, DNSName: name, Intermediates: x509.NewCertPool()}
	for _, cert := range state.PeerCertificates[1:] {
		opts.Intermediates.AddCert(cert)
	}
	if _, err := state.PeerCertificates[0].Verify(opts); err != nil {
		return fmt.Errorf("etcd: server certificate: %w", err)
	}
	return nil
}

func orDefault(d, def time.Duration) time.Duration {
	if d <= 0 {
		return def
	}
	return d
}
