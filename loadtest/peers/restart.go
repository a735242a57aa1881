package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemarkmq/tidemark/loadtest/bench"
	"github.com/tidemarkmq/tidemark/loadtest/bench/result"
	"github.com/tidemarkmq/tidemark/loadtest/bench/spec"
	"github.com/tidemarkmq/tidemark/loadtest/process"
)

const (
	restartTopic = "restart"
	logBytes     = 1 << 30 // in the log before kill -9
	again        = 5 * time.Millisecond
)

// fill writes a topic that stays.
func (o *single) fill(ctx context.Context, size int64) error {
	s := spec.Default()
	s.Client, s.Topic, s.KeepTopic, s.Records, s.Warmup, s.Verify = spec.ClientRaw, restartTopic, true, size>>10, "0s", spec.VerifyAcks
	_, err := bench.Run(ctx, o.at(s), bench.Options{})
	return err
}

// reopen starts the peer again on the same data.
func (o *single) reopen(ctx context.Context) error {
	next, err := o.peer.start(ctx, o.t.b, o.dir, o.how)
	if err == nil {
		o.server = next
	}
	return err
}

// cold measures reading what no memory holds.
func (o *single) cold(ctx context.Context) (sample, error) {
	if err := o.fill(ctx, o.t.o.coldBytes); err != nil {
		return sample{}, fmt.Errorf("fill: %w", err)
	}
	if err := o.server.stop(); err != nil {
		return sample{}, err
	}
	if err := dropCache(o.dir); err != nil {
		return sample{}, err
	}
	if err := o.reopen(ctx); err != nil {
		return sample{}, err
	}
	s := o.spec
	s.Topic, s.Existing = restartTopic, true
	return o.bench(ctx, s)
}

// dropCache writes the files of a folder out and lets the system forget them, which needs no privilege.
func dropCache(dir string) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		return errors.Join(f.Sync(), forget(f), f.Close())
	})
}

// restart measures from the start of the broker's process to the first acknowledgement, and that nothing acknowledged is missing.
func (o *single) restart(ctx context.Context) (sample, error) {
	size := int64(1 << 20)
	if o.row.kind == crash {
		size = logBytes
	}
	if err := o.fill(ctx, size); err != nil {
		return sample{}, fmt.Errorf("fill: %w", err)
	}
	before, err := o.ends(ctx)
	if err != nil {
		return sample{}, err
	}
	if o.row.kind == crash {
		o.server.kill()
	} else if err := o.server.stop(); err != nil {
		return sample{}, err
	}
	o.how.keepWAL = false // only what is left behind is unusual: the start itself has the defaults
	if err := o.reopen(ctx); err != nil {
		return sample{}, err
	}
	took, err := o.firstAck(ctx)
	if err != nil {
		return sample{}, err
	}
	after, err := o.ends(ctx)
	if err == nil && after != before+1 {
		err = fmt.Errorf("%d records were acknowledged, %d are there", before+1, after)
	}
	got := sample{Metrics: []result.Metric{{Name: "first ack", Unit: "ms", Value: took.Seconds() * 1e3, Better: -1}}, Pressure: -1}
	if u, usageErr := process.UsageOf(o.server.pid); usageErr == nil {
		got.Metrics = append(got.Metrics, result.Metric{Name: "server peak RSS", Unit: "MB", Value: float64(u.PeakRSSBytes) / 1e6, Better: -1})
	}
	return got, err
}

func (o *single) firstAck(ctx context.Context) (time.Duration, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(o.server.bootstrap), kgo.DefaultProduceTopic(restartTopic), kgo.MetadataMinAge(2*again),
		kgo.RetryBackoffFn(func(int) time.Duration { return again }), kgo.UnknownTopicRetries(-1), kgo.ProducerLinger(0))
	if err != nil {
		return 0, err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(ctx, stopPatience)
	defer cancel()
	if err := cl.ProduceSync(ctx, &kgo.Record{Value: []byte("first")}).FirstErr(); err != nil {
		return 0, err
	}
	return time.Since(o.server.began), nil
}

// ends is the sum of the partitions' end offsets: nobody has deleted anything.
func (o *single) ends(ctx context.Context) (int64, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(o.server.bootstrap))
	if err != nil {
		return 0, err
	}
	defer cl.Close()
	listed, err := kadm.NewClient(cl).ListEndOffsets(ctx, restartTopic)
	if err == nil {
		err = listed.Error()
	}
	sum := int64(0)
	listed.Each(func(l kadm.ListedOffset) { sum += l.Offset })
	return sum, err
}
