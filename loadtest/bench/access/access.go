// Package access reads how a cluster is reached — TLS and SASL — from the properties file that Kafka's tools take as
// --command-config. Secrets are in files or the environment, never among the flags.
package access

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// PasswordVariable of the environment wins over the file's password.
const PasswordVariable = "BENCH_SASL_PASSWORD"

const maxFileBytes = 1 << 20

// Access is how connections are made. The zero value is plain TCP.
type Access struct {
	TLS  *tls.Config    // nil: none
	SASL sasl.Mechanism // nil: none
}

// known are the properties that mean something; others are errors, because a setting that is silently not followed misleads.
var known = []string{
	"security.protocol", "sasl.mechanism", "sasl.mechanisms", "sasl.username", "sasl.password", "sasl.jaas.config",
	"ssl.ca.location", "ssl.truststore.location", "ssl.truststore.type", "ssl.certificate.location", "ssl.keystore.location", "ssl.keystore.type",
	"ssl.key.location", "ssl.endpoint.identification.algorithm",
}

// Read reads a properties file; an empty name is plain TCP.
func Read(file string, env func(string) string) (Access, error) {
	if file == "" {
		return Access{}, nil
	}
	info, err := os.Stat(file)
	if err != nil {
		return Access{}, err
	}
	if info.Size() > maxFileBytes {
		return Access{}, fmt.Errorf("%s: larger than %d bytes", file, maxFileBytes)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return Access{}, err
	}
	a, err := parse(text, env)
	if err != nil {
		return Access{}, fmt.Errorf("%s: %w", file, err)
	}
	return a, nil
}

func parse(text []byte, env func(string) string) (Access, error) {
	p := map[string]string{}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' || line[0] == '!' {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		name = strings.TrimSpace(name)
		if !ok || !contains(known, name) {
			return Access{}, fmt.Errorf("property %q is not one of %s", name, strings.Join(known, ", "))
		}
		p[name] = strings.TrimSpace(value)
	}
	protocol := strings.ToUpper(p["security.protocol"])
	var a Access
	var err error
	switch protocol {
	case "", "PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL":
	default:
		return a, fmt.Errorf("security.protocol %q is unknown", protocol)
	}
	if strings.HasSuffix(protocol, "SSL") {
		if a.TLS, err = tlsConfig(p); err != nil {
			return a, err
		}
	}
	if strings.HasPrefix(protocol, "SASL") {
		a.SASL, err = mechanism(p, env)
	}
	return a, err
}

func contains(list []string, s string) bool {
	for _, e := range list {
		if e == s {
			return true
		}
	}
	return false
}

func first(p map[string]string, names ...string) string {
	for _, n := range names {
		if p[n] != "" {
			return p[n]
		}
	}
	return ""
}

func tlsConfig(p map[string]string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	for _, n := range []string{"ssl.truststore.type", "ssl.keystore.type"} {
		if t := p[n]; t != "" && !strings.EqualFold(t, "PEM") {
			return nil, fmt.Errorf("%s: only PEM is read, not %s", n, t)
		}
	}
	if ca := first(p, "ssl.ca.location", "ssl.truststore.location"); ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return nil, err
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s has no certificate in PEM", ca)
		}
	}
	if cert := first(p, "ssl.certificate.location", "ssl.keystore.location"); cert != "" {
		key := first(p, "ssl.key.location")
		if key == "" {
			key = cert // both in one file
		}
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, err
		}
		c.Certificates = []tls.Certificate{pair}
	}
	if how, stated := p["ssl.endpoint.identification.algorithm"]; stated && (how == "" || how == "none") {
		skipHostname(c)
	}
	return c, nil
}

// skipHostname checks the chain and not the name, as Kafka's clients do with an empty identification algorithm.
func skipHostname(c *tls.Config) {
	c.InsecureSkipVerify = true // the chain is verified here
	c.VerifyConnection = func(s tls.ConnectionState) error {
		o := x509.VerifyOptions{Roots: c.RootCAs, Intermediates: x509.NewCertPool()}
		for _, cert := range s.PeerCertificates[1:] {
			o.Intermediates.AddCert(cert)
		}
		_, err := s.PeerCertificates[0].Verify(o)
		return err
	}
}

func mechanism(p map[string]string, env func(string) string) (sasl.Mechanism, error) {
	user, password := p["sasl.username"], p["sasl.password"]
	if jaas := p["sasl.jaas.config"]; jaas != "" {
		user, password = jaasValue(jaas, "username"), jaasValue(jaas, "password")
	}
	if v := env(PasswordVariable); v != "" {
		password = v
	}
	if user == "" || password == "" {
		return nil, errors.New("SASL needs a user and a password: sasl.jaas.config, or sasl.username with sasl.password or " + PasswordVariable)
	}
	switch name := first(p, "sasl.mechanism", "sasl.mechanisms"); name {
	case "PLAIN":
		return plain.Auth{User: user, Pass: password}.AsMechanism(), nil
	case "SCRAM-SHA-256":
		return scram.Auth{User: user, Pass: password}.AsSha256Mechanism(), nil
	case "SCRAM-SHA-512":
		return scram.Auth{User: user, Pass: password}.AsSha512Mechanism(), nil
	default:
		return nil, fmt.Errorf("sasl.mechanism %q is none of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512", name)
	}
}

// jaasValue finds name="value" in a JAAS line.
func jaasValue(jaas, name string) string {
	_, rest, ok := strings.Cut(jaas, " "+name+"=")
	if !ok {
		return ""
	}
	if quoted, ok := strings.CutPrefix(rest, `"`); ok {
		value, _, _ := strings.Cut(quoted, `"`)
		return value
	}
	value, _, _ := strings.Cut(rest, " ")
	return strings.TrimSuffix(value, ";")
}

// Options are those of franz-go.
func (a Access) Options() []kgo.Opt {
	var o []kgo.Opt
	if a.TLS != nil {
		o = append(o, kgo.DialTLSConfig(a.TLS.Clone()))
	}
	if a.SASL != nil {
		o = append(o, kgo.SASL(a.SASL))
	}
	return o
}

// Dial connects, without SASL.
func (a Access) Dial(ctx context.Context, address string) (net.Conn, error) {
	if a.TLS != nil {
		return (&tls.Dialer{Config: a.TLS.Clone()}).DialContext(ctx, "tcp", address)
	}
	return (&net.Dialer{}).DialContext(ctx, "tcp", address)
}
