package broker

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tidemarkmq/tidemark/metadata/etcdembed"
)

// certificates makes an authority and a certificate of it for the loopback interface, and returns their files.
func certificates(t *testing.T, dir string) (ca, cert, key string) {
	t.Helper()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	issue := func(of *x509.Certificate, by *x509.Certificate, byKey *ecdsa.PrivateKey) ([]byte, *ecdsa.PrivateKey) {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if by == nil {
			by, byKey = of, k
		}
		der, err := x509.CreateCertificate(rand.Reader, of, by, &k.PublicKey, byKey)
		if err != nil {
			t.Fatal(err)
		}
		return der, k
	}
	now := time.Now()
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, authorityKey := issue(authority, nil, nil)
	ca = write("ca.pem", "CERTIFICATE", der)
	der, k := issue(&x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "broker"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, authority, authorityKey)
	cert = write("cert.pem", "CERTIFICATE", der)
	raw, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return ca, cert, write("key.pem", "EC PRIVATE KEY", raw)
}

// TestReplicationWithTLS: real brokers replicate to each other over TCP with mutual TLS, and a stranger without a certificate is refused.
func TestReplicationWithTLS(t *testing.T) {
	dir := t.TempDir()
	ca, cert, key := certificates(t, dir)
	short, err := os.MkdirTemp("", "tm") // the path of a socket is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(short) })
	socket := filepath.Join(short, "etcd")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	etcd, err := etcdembed.Start(ctx, etcdembed.Options{Dir: filepath.Join(dir, "etcd"), Socket: socket, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer etcd.Close()
	running, stop := context.WithCancel(ctx)
	var brokers []*Broker
	ended := make(chan error, 2)
	for id := range 2 {
		c := devConfig(filepath.Join(dir, string(rune('a'+id))))
		c.NodeID, c.Durability, c.Etcd.Embedded, c.Etcd.Endpoints = id+1, "quorum", false, []string{"unix://" + socket}
		c.ObjectStore.URL = "file://" + filepath.ToSlash(filepath.Join(dir, "objects"))
		c.Replication.CAFile, c.Replication.CertFile, c.Replication.KeyFile = ca, cert, key
		b, err := New(c, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		ready := make(chan struct{})
		go func() { ended <- b.Run(running, func(Info) { close(ready) }) }()
		select {
		case <-ready:
		case err := <-ended:
			t.Fatal(err)
		}
		brokers = append(brokers, b)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for _, b := range brokers {
		for {
			e, err := b.meta.Ensemble(ctx, b.streamID())
			if err != nil {
				t.Fatal(err)
			}
			if len(e.Members) == 2 {
				break
			}
			<-tick.C
		}
	}
	// TLS 1.3 refuses a client after its part of the handshake: the first read tells.
	address := brokers[0].replication.network.Address()
	conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // a stranger does not care who answers
	if err == nil {
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		_, err = conn.Read(make([]byte, 1))
		_ = conn.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a client without a certificate: %v", err)
	}
	stop()
	for range brokers {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}
