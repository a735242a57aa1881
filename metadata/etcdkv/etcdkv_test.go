package etcdkv_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.uber.org/zap"

	"github.com/tidemarkmq/tidemark/metadata/etcdkv"
	"github.com/tidemarkmq/tidemark/metadata/kv"
	"github.com/tidemarkmq/tidemark/metadata/kv/kvtest"
)

// certificates makes a CA and a certificate for 127.0.0.1 that serves servers and clients.
func certificates(t *testing.T) (ca, cert, key string) {
	t.Helper()
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	var must error
	check := func(err error) {
		if err != nil && must == nil {
			must = err
		}
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	root := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	caDER, err := x509.CreateCertificate(rand.Reader, root, root, &caKey.PublicKey, caKey)
	check(err)
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "etcd"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"etcd.test"}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, root, &leafKey.PublicKey, caKey)
	check(err)
	keyDER, err := x509.MarshalECPrivateKey(leafKey)
	check(err)
	if must != nil {
		t.Fatal(must)
	}
	return write("ca.pem", "CERTIFICATE", caDER), write("cert.pem", "CERTIFICATE", leafDER), write("key.pem", "EC PRIVATE KEY", keyDER)
}

const user, password = "root", "secret"

// serve runs an etcd that asks for a client certificate and a password, on a free port of the loopback interface.
func serve(t *testing.T, ca, cert, key string) (stop func(), endpoint string) {
	t.Helper()
	c := embed.NewConfig()
	c.Dir, c.Name = t.TempDir(), "test"
	c.ListenPeerUrls = nil
	c.AdvertisePeerUrls = []url.URL{{Scheme: "http", Host: "127.0.0.1:2380"}}
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	c.ListenClientUrls = []url.URL{{Scheme: "https", Host: "127.0.0.1:0"}}
	c.AdvertiseClientUrls = c.ListenClientUrls
	c.ClientTLSInfo.CertFile, c.ClientTLSInfo.KeyFile, c.ClientTLSInfo.TrustedCAFile, c.ClientTLSInfo.ClientCertAuth = cert, key, ca, true
	c.EnableGRPCGateway = false
	c.TickMs, c.ElectionMs = 10, 50
	c.BcryptCost = 4
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	e, err := embed.StartEtcd(c)
	if err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(e.Close)
	t.Cleanup(stop)
	<-e.Server.ReadyNotify()
	admin := v3client.New(e.Server)
	if _, err := admin.UserAdd(t.Context(), user, password); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.UserGrantRole(t.Context(), user, "root"); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.AuthEnable(t.Context()); err != nil {
		t.Fatal(err)
	}
	_ = admin.Close()
	return stop, "https://" + e.Clients[0].Addr().String()
}

func TestOverTheNetwork(t *testing.T) {
	ca, cert, key := certificates(t)
	_, endpoint := serve(t, ca, cert, key)
	full := etcdkv.Options{Endpoints: []string{endpoint}, CAFile: ca, CertFile: cert, KeyFile: key, Username: user, Password: password, DialTimeout: 2 * time.Second}
	open := func(o etcdkv.Options) (*etcdkv.KV, error) { return etcdkv.New(t.Context(), o) }
	s, err := open(full)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Run("Refused", func(t *testing.T) {
		for name, change := range map[string]func(*etcdkv.Options){
			"no endpoint":         func(o *etcdkv.Options) { o.Endpoints = nil },
			"wrong password":      func(o *etcdkv.Options) { o.Password = "wrong" },
			"user alone":          func(o *etcdkv.Options) { o.Password = "" },
			"certificate alone":   func(o *etcdkv.Options) { o.KeyFile = "" },
			"no such CA file":     func(o *etcdkv.Options) { o.CAFile = "nowhere.pem" },
			"no CA in file":       func(o *etcdkv.Options) { o.CAFile = key },
			"no such certificate": func(o *etcdkv.Options) { o.CertFile = "nowhere.pem" },
			"another name":        func(o *etcdkv.Options) { o.ServerName, o.DialTimeout = "other.test", time.Second },
			"no client certificate": func(o *etcdkv.Options) {
				o.CertFile, o.KeyFile, o.DialTimeout = "", "", 300*time.Millisecond
			},
		} {
			o := full
			change(&o)
			if s, err := open(o); err == nil {
				t.Errorf("%s: accepted", name)
				_ = s.Close()
			}
		}
	})
	t.Run("ServerName", func(t *testing.T) {
		o := full
		o.ServerName = "etcd.test"
		s, err := open(o)
		if err != nil {
			t.Fatal(err)
		}
		_ = s.Close()
		o.CAFile = "" // the system's authorities, which do not know the test's
		o.DialTimeout = 300 * time.Millisecond
		if s, err := open(o); err == nil {
			t.Error("an unknown authority is accepted")
			_ = s.Close()
		}
	})
	t.Run("OneEndpointAway", func(t *testing.T) {
		o := full
		o.Endpoints = []string{"https://127.0.0.1:1", endpoint}
		o.DialTimeout = 2 * time.Second
		var log bytes.Buffer
		o.Logger = slog.New(slog.NewTextHandler(&log, nil))
		s, err := open(o)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Range(t.Context(), kv.Range{Start: "x"}); err != nil {
			t.Error(err)
		}
		_ = s.Close()
		if !strings.Contains(log.String(), "does not answer") {
			t.Errorf("log %q", log.String())
		}
	})
	kvtest.Run(t, func(*testing.T) kvtest.Harness { return kvtest.Harness{KV: s, Compact: s.Compact} })
}

func TestServerGone(t *testing.T) {
	ca, cert, key := certificates(t)
	stop, endpoint := serve(t, ca, cert, key)
	o := etcdkv.Options{Endpoints: []string{endpoint}, CAFile: ca, CertFile: cert, KeyFile: key, Username: user, Password: password,
		DialTimeout: 2 * time.Second, RequestTimeout: 300 * time.Millisecond}
	s, err := etcdkv.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	lease, _, err := s.Grant(t.Context(), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	stop()
	for name, call := range map[string]func(context.Context) error{
		"range":     func(ctx context.Context) error { _, err := s.Range(ctx, kv.Range{Start: "a"}); return err },
		"txn":       func(ctx context.Context) error { _, err := s.Txn(ctx, kv.Txn{Then: []kv.Op{kv.Get("a")}}); return err },
		"grant":     func(ctx context.Context) error { _, _, err := s.Grant(ctx, time.Minute); return err },
		"keepalive": func(ctx context.Context) error { _, err := s.KeepAlive(ctx, lease); return err },
		"revoke":    func(ctx context.Context) error { return s.Revoke(ctx, lease) },
	} {
		began := time.Now()
		if err := call(t.Context()); !errors.Is(err, kv.ErrUnavailable) || time.Since(began) > 5*time.Second {
			t.Errorf("%s: %v after %s", name, err, time.Since(began))
		}
	}
	if _, err := etcdkv.New(t.Context(), o); err == nil {
		t.Error("connected to nobody")
	}
}

func TestCheckVersion(t *testing.T) {
	for version, sound := range map[string]bool{
		"3.4.41": false, "3.4.42": true, "3.4.43": true,
		"3.5.27": false, "3.5.28": true, "3.6.8": false, "3.6.9": true, "3.6.9-rc.0": false, "v3.6.10": true,
		"3.7.0": true, "3.7.0-alpha.1": true, "3.7.3+git.1": true, "4.0.0": true,
		"3.3.99": false, "2.3.8": false,
	} {
		err := etcdkv.CheckVersion(version)
		if (err == nil) != sound || (err != nil && !errors.Is(err, etcdkv.ErrStaleReads)) {
			t.Errorf("%s: %v", version, err)
		}
	}
	for _, bad := range []string{"", "3", "3.7", "3.x.1", "3.7.-1", "3.7.1.2"} {
		if err := etcdkv.CheckVersion(bad); err == nil || errors.Is(err, etcdkv.ErrStaleReads) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestZapLogger(t *testing.T) {
	var b bytes.Buffer
	l := etcdkv.ZapLogger(slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: slog.LevelDebug})))
	l.Info("quiet")
	l.Warn("heard", zap.Int("n", 3), zap.Duration("d", time.Second))
	l.With(zap.String("who", "etcd")).Error("bad", zap.Error(errors.New("cause")))
	got := b.String()
	for _, want := range []string{`level=WARN msg="etcd: heard" n=3 d=1s`, `level=ERROR msg="etcd: bad" who=etcd error=cause`} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
	if strings.Contains(got, "quiet") {
		t.Error("info is logged")
	}
}
