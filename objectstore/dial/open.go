// Package dial opens an object store by its URL, with metrics and retries around it.
package dial

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/tidemarkmq/tidemark/objectstore"
	"github.com/tidemarkmq/tidemark/objectstore/directory"
	"github.com/tidemarkmq/tidemark/objectstore/memory"
	"github.com/tidemarkmq/tidemark/objectstore/metered"
	"github.com/tidemarkmq/tidemark/objectstore/prefixed"
	"github.com/tidemarkmq/tidemark/objectstore/retry"
	"github.com/tidemarkmq/tidemark/objectstore/s3"
)

// Config says which store to open.
type Config struct {
	// URL is one of
	//
	//	s3://BUCKET[/PREFIX][?OPTIONS]   a bucket of S3 or a server of its kind
	//	file:///FOLDER, dir:FOLDER       a local folder
	//	memory://[/PREFIX]               the process's memory, gone with it
	//
	// The options of s3 are endpoint (http[s]://HOST[:PORT]; without it Amazon's), region, path-style (true, false; without it
	// as the endpoint's owner likes it), checksum (crc32c, md5, none), max-connections, timeout (a Go duration: of one request,
	// beside what its bytes take) and create-bucket (true: make it if it does not exist). Any other is an error.
	URL string
	// AccessKeyFile and SecretKeyFile hold the keys of s3; without them they come from the environment, as s3.Credentials says.
	AccessKeyFile, SecretKeyFile string
	// CAFile names authorities to trust beside the system's.
	CAFile string
	// Retry tunes the retries; its Meter is set by Open.
	Retry retry.Options
	// Logger and Meter may be nil.
	Logger *slog.Logger
	Meter  metric.Meter
}

// Store is an open store.
type Store struct {
	objectstore.Store
	closer io.Closer
	name   string
}

// Close frees what the store holds; calls may be under way no more.
func (s *Store) Close() error {
	if s.closer == nil {
		return nil
	}
	return s.closer.Close()
}

// VerifySums passes on objectstore.Verifier.
func (s *Store) VerifySums(ctx context.Context, key string) error {
	return objectstore.VerifySums(ctx, s.Store, key)
}

// String says for logs which store it is, without secrets.
func (s *Store) String() string { return s.name }

// Open opens the store. It sends nothing, but for the creation of a bucket where the URL asks for it; objectstore.Probe finds
// out whether the store works. Each Open of an s3 URL has connections of its own: open it twice to keep readers and uploads
// apart.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	u, err := parse(cfg.URL)
	if err != nil {
		return nil, err
	}
	raw, prefix, err := open(ctx, u, cfg)
	if err != nil {
		return nil, fmt.Errorf("object store %s: %w", describe(u), err)
	}
	opened := &Store{name: describe(u)}
	opened.closer, _ = raw.(io.Closer)
	if opened.Store, err = decorate(raw, prefix, cfg); err != nil {
		return nil, errors.Join(fmt.Errorf("object store %s: %w", describe(u), err), opened.Close())
	}
	return opened, nil
}

func parse(raw string) (*url.URL, error) {
	if raw == "" {
		return nil, errors.New("object store: no URL given")
	}
	u, err := url.Parse(raw)
	if err != nil {
		var urlErr *url.Error
		if errors.As(err, &urlErr) {
			err = urlErr.Err // without the URL, which may hold what it should not
		}
		return nil, fmt.Errorf("object store URL: %w", err)
	}
	if u.User != nil || u.Fragment != "" {
		return nil, fmt.Errorf("object store URL %s: keys belong into files or the environment, and there is no #fragment", u.Redacted())
	}
	return u, nil
}

// describe says which store the URL names: without options, one of which might hold a password by mistake.
func describe(u *url.URL) string {
	bare := *u
	bare.RawQuery, bare.User = "", nil
	if endpoint, err := url.Parse(u.Query().Get("endpoint")); err == nil && endpoint.Host != "" {
		return bare.String() + " at " + endpoint.Host
	}
	return bare.String()
}

// open returns the bare store and the prefix that its keys are to get.
func open(ctx context.Context, u *url.URL, cfg Config) (objectstore.Store, string, error) {
	switch u.Scheme {
	case "memory":
		if err := noOptions(u, cfg); err != nil {
			return nil, "", err
		}
		return memory.New(), strings.Trim(u.Host+u.Path, "/"), nil
	case "file", "dir":
		if err := noOptions(u, cfg); err != nil {
			return nil, "", err
		}
		dir, err := folder(u)
		if err != nil {
			return nil, "", err
		}
		s, err := directory.New(directory.Options{Dir: dir, Logger: cfg.Logger})
		if err != nil {
			return nil, "", err
		}
		return s, "", nil
	case "s3":
		s, err := openS3(ctx, u, cfg)
		if err != nil {
			return nil, "", err
		}
		return s, strings.Trim(u.Path, "/"), nil
	}
	return nil, "", fmt.Errorf("the scheme %q is not known: s3, file, dir and memory are", u.Scheme)
}

// folder takes file:///abs, file://localhost/abs, dir:///abs, dir:rel and dir:/abs.
func folder(u *url.URL) (string, error) {
	dir := u.Path
	if u.Opaque != "" {
		unescaped, err := url.PathUnescape(u.Opaque)
		if err != nil {
			return "", err
		}
		dir = unescaped
	}
	if u.Host != "" && u.Host != "localhost" {
		return "", fmt.Errorf("the folder's URL names the host %q: write file:///FOLDER with three slashes, or dir:FOLDER", u.Host)
	}
	if dir == "" {
		return "", errors.New("the URL names no folder")
	}
	return filepath.FromSlash(dir), nil
}

// noOptions refuses what is for s3 only.
func noOptions(u *url.URL, cfg Config) error {
	for name := range u.Query() {
		return fmt.Errorf("the option %q is not known here", name)
	}
	if cfg.AccessKeyFile != "" || cfg.SecretKeyFile != "" || cfg.CAFile != "" {
		return fmt.Errorf("files of keys and of authorities are for s3; a store of the scheme %s uses none", u.Scheme)
	}
	return nil
}

func openS3(ctx context.Context, u *url.URL, cfg Config) (*s3.Store, error) {
	if u.Port() != "" {
		return nil, fmt.Errorf("%q stands where the bucket's name belongs: s3://BUCKET/PREFIX?endpoint=http://HOST:PORT", u.Host)
	}
	opts := s3.Options{
		Bucket:      u.Host,
		CAFile:      cfg.CAFile,
		Credentials: s3.Credentials{AccessKeyFile: cfg.AccessKeyFile, SecretKeyFile: cfg.SecretKeyFile},
	}
	createBucket, err := s3Options(u.Query(), &opts)
	if err != nil {
		return nil, err
	}
	if opts.Region == "" {
		opts.Region = os.Getenv("AWS_REGION")
	}
	s, err := s3.New(opts)
	if err != nil || !createBucket {
		return s, err
	}
	if err := s.EnsureBucket(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func s3Options(query url.Values, opts *s3.Options) (createBucket bool, err error) {
	for name, values := range query {
		value := values[0]
		if len(values) > 1 {
			return false, fmt.Errorf("the option %q is given %d times", name, len(values))
		}
		switch name {
		case "endpoint":
			opts.Endpoint = value
		case "region":
			opts.Region = value
		case "checksum":
			opts.Checksum = s3.Checksum(value)
		case "path-style":
			var path bool
			path, err = strconv.ParseBool(value)
			opts.Addressing = s3.AddressingHost
			if path {
				opts.Addressing = s3.AddressingPath
			}
		case "max-connections":
			if opts.MaxConnections, err = strconv.Atoi(value); err == nil && opts.MaxConnections < 0 {
				err = errors.New("negative")
			}
		case "timeout":
			if opts.RequestTimeout, err = time.ParseDuration(value); err == nil && opts.RequestTimeout <= 0 {
				err = errors.New("not positive")
			}
		case "create-bucket":
			createBucket, err = strconv.ParseBool(value)
		default:
			err = errors.New("not known here")
		}
		if err != nil {
			return false, fmt.Errorf("the option %q: %w", name, err)
		}
	}
	return createBucket, nil
}

// decorate puts metrics below the retries, so that every attempt counts.
func decorate(s objectstore.Store, prefix string, cfg Config) (objectstore.Store, error) {
	s, err := prefixed.New(s, prefix)
	if err != nil {
		return nil, err
	}
	if cfg.Meter != nil {
		if s, err = metered.New(s, cfg.Meter); err != nil {
			return nil, err
		}
	}
	opts := cfg.Retry
	opts.Meter = cfg.Meter
	return retry.New(s, opts)
}
