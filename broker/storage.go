package broker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/metadata/etcdembed"
	"github.com/tidemarkmq/tidemark/metadata/etcdkv"
	"github.com/tidemarkmq/tidemark/objectstore"
	"github.com/tidemarkmq/tidemark/objectstore/dial"
)

const (
	maxSecretBytes = 4 << 10
	probePause     = 2 * time.Second
)

// openMetadata starts or connects etcd and reads the cluster's image. The returned function ends both.
func (b *Broker) openMetadata(ctx context.Context) (*metadata.Store, func(), error) {
	kv, closeKV, err := b.seams.openKV(ctx)
	if err != nil {
		return nil, nil, err
	}
	meta, err := metadata.Open(ctx, kv, metadata.Options{
		Prefix: b.config.Etcd.Prefix, ClusterID: b.config.ClusterID, OffsetCacheBytes: b.config.offsetBytes(),
		Logger: b.logger.With("part", "metadata"), Meter: b.meter,
	})
	if err != nil {
		closeKV()
		return nil, nil, err
	}
	return meta, closeKV, nil
}

func (b *Broker) openEtcd(ctx context.Context) (metadata.KV, func(), error) {
	logger := b.logger.With("part", "etcd")
	if b.config.Etcd.Embedded {
		server, err := etcdembed.Start(ctx, etcdembed.Options{Dir: filepath.Join(b.config.DataDir, etcdFolder), Logger: logger})
		if err != nil {
			return nil, nil, err
		}
		return server.KV(), server.Close, nil
	}
	c := b.config.Etcd
	password, err := readSecret(c.PasswordFile)
	if err != nil {
		return nil, nil, fmt.Errorf("etcd.password-file: %w", err)
	}
	kv, err := etcdkv.New(ctx, etcdkv.Options{
		Endpoints: c.Endpoints, CAFile: c.CAFile, CertFile: c.CertFile, KeyFile: c.KeyFile, Username: c.Username, Password: password, Logger: logger,
	})
	if err != nil {
		return nil, nil, err
	}
	return kv, func() {
		if err := kv.Close(); err != nil {
			logger.Warn("close the connection to etcd", "error", err)
		}
	}, nil
}

func readSecret(name string) (string, error) {
	if name == "" {
		return "", nil
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return "", err
	}
	if len(text) > maxSecretBytes {
		return "", errors.New("too long for a secret")
	}
	return strings.TrimSpace(string(text)), nil
}

// dialStore opens the object store. Readers and uploads get connections of their own.
func (b *Broker) dialStore(ctx context.Context) (store, error) {
	c := b.config.ObjectStore
	s, err := dial.Open(ctx, dial.Config{
		URL: c.URL, AccessKeyFile: c.AccessKeyFile, SecretKeyFile: c.SecretKeyFile, CAFile: c.CAFile,
		Logger: b.logger.With("part", "object store"), Meter: b.meter,
	})
	if err != nil {
		return nil, err // not s: a nil pointer in an interface is not nil
	}
	return s, nil
}

// awaitStore returns when the store has shown that it keeps the contract. A store that is away is waited for, with the reason
// in the log and in /readyz; one that rejects the request (wrong keys, no such bucket) is an error.
func (b *Broker) awaitStore(ctx context.Context, store objectstore.Store) error {
	for {
		err := objectstore.Probe(ctx, store)
		if err == nil {
			b.ready.Met("object store")
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, objectstore.ErrRejected) {
			return fmt.Errorf("object store %s: %w", store, err)
		}
		b.ready.Unmet("object store", err.Error())
		b.logger.Warn("the object store does not answer yet", "store", fmt.Sprint(store), "error", err)
		select {
		case <-time.After(probePause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
