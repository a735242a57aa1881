package s3

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/s3utils"
)

// Addressing is where the bucket's name goes.
type Addressing int

// The ways of addressing.
const (
	AddressingAuto Addressing = iota // in the host name at Amazon, in the path elsewhere
	AddressingPath                   // in the path
	AddressingHost                   // in the host name
)

// Options say where the bucket is and how to talk to it.
type Options struct {
	// Endpoint is the server's URL without a path; http:// is for servers nearby. Empty means Amazon S3 in Region.
	Endpoint string
	// Region is what requests are signed for: default us-east-1.
	Region     string
	Bucket     string
	Addressing Addressing
	// Credentials are where the keys come from.
	Credentials Credentials
	// CAFile names a PEM file of authorities to trust beside the system's.
	CAFile string
	// Checksum is how the server checks what arrives: default ChecksumCRC32C.
	Checksum Checksum
	// MaxConnections bounds the connections to the server, and so the requests under way; more calls wait for one. 0 means no
	// bound. A store for readers and another one for uploads keep each other from starving.
	MaxConnections int
	// ConnectTimeout bounds connecting and the TLS handshake, each: default 10 s.
	ConnectTimeout time.Duration
	// ResponseTimeout bounds the wait for the head of a response after the request was sent: default 30 s.
	ResponseTimeout time.Duration
	// StallTimeout bounds how long the server may refuse to take more bytes of a request: default 30 s.
	StallTimeout time.Duration
	// RequestTimeout bounds a whole request beside what its bytes take at SlowestBytesPerSecond: defaults 1 minute and
	// 128 KiB/s.
	RequestTimeout        time.Duration
	SlowestBytesPerSecond int64
}

// minio-go pauses for up to this long after a failure even if there is no attempt left, and has no option for it.
func init() { minio.DefaultRetryUnit = 0 }

func (o *Options) setDefaults() {
	if o.Region == "" {
		o.Region = "us-east-1" // asking the server for it would be a request that nobody sees
	}
	if o.Checksum == "" {
		o.Checksum = ChecksumCRC32C
	}
	for _, d := range []struct {
		v     *time.Duration
		value time.Duration
	}{{&o.ConnectTimeout, 10 * time.Second}, {&o.ResponseTimeout, 30 * time.Second}, {&o.StallTimeout, 30 * time.Second},
		{&o.RequestTimeout, time.Minute}} {
		if *d.v == 0 {
			*d.v = d.value
		}
	}
	if o.SlowestBytesPerSecond == 0 {
		o.SlowestBytesPerSecond = 128 << 10
	}
}

func (o *Options) client() (*minio.Core, *http.Transport, error) {
	if o.Bucket == "" {
		return nil, nil, errors.New("no bucket given")
	}
	switch o.Checksum {
	case ChecksumCRC32C, ChecksumMD5, ChecksumNone:
	default:
		return nil, nil, fmt.Errorf("checksum %q is not known: crc32c, md5 and none are", o.Checksum)
	}
	host, secure, err := o.host()
	if err != nil {
		return nil, nil, err
	}
	transport, err := o.transport()
	if err != nil {
		return nil, nil, err
	}
	if err := o.checkBucket(); err != nil {
		return nil, nil, err
	}
	if o.Checksum == ChecksumCRC32C && s3utils.IsGoogleEndpoint(url.URL{Host: host}) {
		return nil, nil, errors.New("the checksum crc32c is not for Google's store: use md5")
	}
	creds, err := o.Credentials.provider(transport)
	if err != nil {
		return nil, nil, err
	}
	client, err := minio.NewCore(host, &minio.Options{
		Creds:           creds,
		Secure:          secure,
		Transport:       straight{transport},
		Region:          o.Region,
		BucketLookup:    map[Addressing]minio.BucketLookupType{AddressingPath: minio.BucketLookupPath, AddressingHost: minio.BucketLookupDNS}[o.Addressing],
		TrailingHeaders: o.Checksum == ChecksumCRC32C,
		MaxRetries:      1, // that is none: package retry sees every failure
	})
	return client, transport, err
}

// checkBucket refuses a name that no bucket can have: every request would fail. Amazon's own rules are stricter than those of its kind.
func (o *Options) checkBucket() error {
	check := s3utils.CheckValidBucketName
	if o.Endpoint == "" {
		check = s3utils.CheckValidBucketNameStrict
	}
	if err := check(o.Bucket); err != nil {
		return fmt.Errorf("no bucket can have this name: %w", err)
	}
	return nil
}

func (o *Options) host() (host string, secure bool, err error) {
	if o.Endpoint == "" {
		return "s3." + o.Region + ".amazonaws.com", true, nil
	}
	u, err := url.Parse(o.Endpoint)
	if err != nil {
		return "", false, errors.New("the endpoint is not a URL")
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Path != "" && u.Path != "/" {
		return "", false, errors.New("the endpoint is not of the form http[s]://HOST[:PORT]")
	}
	return u.Host, u.Scheme == "https", nil
}

// transport waits for nothing without bound. It speaks HTTP/1.1 only: one connection a request is faster for large bodies
// than streams that share one.
func (o *Options) transport() (*http.Transport, error) {
	roots, err := o.roots()
	if err != nil {
		return nil, err
	}
	dialer := &net.Dialer{Timeout: o.ConnectTimeout, KeepAlive: 15 * time.Second}
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return &stallConn{Conn: conn, timeout: o.StallTimeout}, nil
		},
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		TLSHandshakeTimeout:   o.ConnectTimeout,
		ResponseHeaderTimeout: o.ResponseTimeout,
		ExpectContinueTimeout: o.ResponseTimeout,
		IdleConnTimeout:       time.Minute,
		MaxConnsPerHost:       o.MaxConnections,
		MaxIdleConnsPerHost:   256,
		ReadBufferSize:        64 << 10, // less than a large read's: that goes past the buffer
		WriteBufferSize:       64 << 10, // of a large body only what shares a write with the head goes through it
		DisableCompression:    true,     // ranges of objects must come as they are
	}, nil
}

func (o *Options) roots() (*x509.CertPool, error) {
	if o.CAFile == "" {
		return nil, nil // the system's
	}
	pem, err := os.ReadFile(o.CAFile)
	if err != nil {
		return nil, fmt.Errorf("CA file: %w", err)
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("CA file %s has no certificate in PEM", o.CAFile)
	}
	return roots, nil
}
