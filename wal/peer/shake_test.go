package peer

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemarkmq/tidemark/wal"
)

func TestRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*ServerOptions, *ClientOptions)
		want   error
		text   string
	}{
		"cluster": {func(_ *ServerOptions, o *ClientOptions) { o.Self.Cluster = "c2" }, ErrWrongCluster, `the client is of cluster "c2", the server of "c1"`},
		"broker":  {func(_ *ServerOptions, o *ClientOptions) { o.Broker = 3 }, ErrWrongBroker, "broker 3 is wanted, this is 2"},
		"disk":    {func(_ *ServerOptions, o *ClientOptions) { o.Disk = "old" }, ErrWrongDisk, `disk "old" of broker 2 is wanted, it has "disk-b"`},
		"verify": {func(o *ServerOptions, _ *ClientOptions) {
			o.Verify = func(from Identity, state *tls.ConnectionState) error {
				if from != alice || state != nil {
					return errors.New("who?")
				}
				return errors.New("not today")
			}
		}, ErrRefused, "not today"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, c.change)
				defer w.stop(t)
				_, err := w.client.Fence(t.Context(), testStream, 1)
				wants(t, err, c.want)
				wants(t, err, ErrRefused)
				if limbo := errors.Is(err, wal.ErrLimbo); limbo != (name == "disk") {
					t.Fatalf("limbo %v: %v", limbo, err)
				}
				if !strings.Contains(err.Error(), c.text) {
					t.Fatal(err)
				}
			})
		})
	}
}

// TestVersions: a side of another version is told so, in both directions.
func TestVersions(t *testing.T) {
	h := hello{Lowest: 2, Highest: 9, From: alice, Broker: bob.Broker, Disk: bob.Disk}
	h2, err := parseHello(h.put())
	must(t, err)
	_, err = h2.judge(bob)
	wants(t, err, ErrWrongVersion)
	w, err := parseWelcome(welcome{From: bob, Refusal: remote(err), Limits: limits{1, 2, 3}}.put())
	must(t, err)
	err = w.judge(h)
	wants(t, err, ErrWrongVersion)
	wants(t, err, ErrRefused)
	h.Lowest = 1
	version, err := h.judge(bob)
	if err != nil || version != 1 {
		t.Fatal(version, err)
	}
	wants(t, welcome{Version: 10, From: bob}.judge(h), ErrWrongVersion)
	for _, who := range []Identity{{"c2", 2, "disk-b"}, {"c1", 3, "disk-b"}, {"c1", 2, "disk-c"}} {
		wants(t, welcome{Version: 1, From: who}.judge(h), ErrRefused)
	}
	later := h.put()
	later = sealHello(append(later[:len(later)-4], "what a later version adds"...))
	if h2, err := parseHello(later); err != nil || h2 != h {
		t.Fatal(h2, err)
	}
}

// TestStrangers: who does not speak the protocol is let go within the timeout, and a full server says so.
func TestStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(o *ServerOptions, _ *ClientOptions) { o.MaxConns = 1 })
		defer w.stop(t)
		must(t, w.client.Remove(t.Context(), 1, 1))
		for _, first := range []string{"", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", helloMagic + "\x01\x00\x01\x00\xff\xff\xff\xff"} {
			c, err := w.dial(t.Context())
			must(t, err)
			go c.Write([]byte(first))
			began := time.Now()
			if n, err := c.Read(make([]byte, 1)); err == nil {
				t.Fatalf("%d bytes", n)
			}
			if took := time.Since(began); took > 4*time.Second {
				t.Fatalf("let go after %v", took)
			}
			c.Close()
		}
		o := w.client.o
		other, err := NewClient(o)
		must(t, err)
		stop := running(t, other.Run)
		defer stop()
		_, err = other.Streams(t.Context())
		wants(t, err, ErrRefused)
	})
}

// authority makes certificates.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t testing.TB) *authority {
	a := &authority{t: t, pool: x509.NewCertPool()}
	c := a.make("ca")
	a.cert, a.key = c.Leaf, c.PrivateKey.(*ecdsa.PrivateKey)
	a.pool.AddCert(a.cert)
	return a
}

func (a *authority) make(name string) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(a.t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotAfter: time.Now().Add(time.Hour),
		IsCA: a.cert == nil, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	must(a.t, err)
	leaf, err := x509.ParseCertificate(der)
	must(a.t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func loopback(t testing.TB, o *ServerOptions, c *ClientOptions) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	o.Listen = func(context.Context) (net.Listener, error) { return ln, nil }
	c.Dial = func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", ln.Addr().String())
	}
}

// TestMutualTLS: both sides must show a certificate of the authority.
func TestMutualTLS(t *testing.T) {
	good, evil := newAuthority(t), newAuthority(t)
	src := writeOriginal(t, 10, 5, 60000/2)
	serverTLS := &tls.Config{Certificates: []tls.Certificate{good.make("bob")}, ClientCAs: good.pool, ClientAuth: tls.RequireAndVerifyClientCert}
	_, err := NewServer(ServerOptions{Self: bob, Replicas: openReplicas(t, newWorldFS(), "/r"), Listen: newWires().listen, TLS: &tls.Config{ClientAuth: tls.RequireAnyClientCert}})
	if err == nil {
		t.Fatal("TLS that verifies nobody was taken")
	}
	for name, c := range map[string]struct {
		config *tls.Config
		ok     bool
	}{
		"good":           {&tls.Config{RootCAs: good.pool, ServerName: "bob", Certificates: []tls.Certificate{good.make("alice")}}, true},
		"no certificate": {&tls.Config{RootCAs: good.pool, ServerName: "bob"}, false},
		"another's":      {&tls.Config{RootCAs: good.pool, ServerName: "bob", Certificates: []tls.Certificate{evil.make("alice")}}, false},
		"wrong server":   {&tls.Config{RootCAs: evil.pool, ServerName: "bob", Certificates: []tls.Certificate{good.make("alice")}}, false},
		"plain":          {nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(so *ServerOptions, co *ClientOptions) {
				loopback(t, so, co)
				so.TLS, co.TLS = serverTLS, c.config
				so.Verify = func(from Identity, state *tls.ConnectionState) error {
					if len(state.PeerCertificates) == 0 || state.PeerCertificates[0].Subject.CommonName != "alice" || from.Broker != alice.Broker {
						return errors.New("not its certificate")
					}
					return nil
				}
			})
			defer w.stop(t)
			s, _, err := w.client.Open(t.Context(), testStream, src.header, src.oldest(), true)
			if !c.ok {
				wants(t, err, ErrDisconnected)
				if len(w.replicas.Streams()) > 0 {
					t.Fatal("something was opened")
				}
				return
			}
			must(t, err)
			for _, g := range src.groups {
				must(t, s.Send(t.Context(), g, true))
			}
			s.c.link.flushNow()
			src2 := src
			for s.Held() < src.end() {
				<-s.room
			}
			src2.check(t, w.client, src.end())
		})
	}
}
