// Package workload puts load on a cluster through a public client, and records what happens as a history.
package workload

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemarkmq/tidemark/loadtest/chaos/history"
)

// Recorder appends operations to a file. Its methods may be called concurrently.
type Recorder struct {
	mu    sync.Mutex
	f     *os.File
	w     *bufio.Writer
	e     history.Encoder
	b     []byte
	began time.Time
	err   error
}

// NewRecorder makes the file.
func NewRecorder(path string) (*Recorder, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	r := &Recorder{f: f, w: bufio.NewWriterSize(f, 1<<18), began: time.Now()}
	_, err = r.w.WriteString(history.Header)
	return r, err
}

// Add records an operation, which happens now.
func (r *Recorder) Add(op history.Op) {
	r.mu.Lock()
	defer r.mu.Unlock()
	op.At = time.Since(r.began)
	r.b = r.e.Append(r.b[:0], &op)
	if _, err := r.w.Write(r.b); err != nil && r.err == nil {
		r.err = err
	}
}

// Close writes what is left and returns the first error of all.
func (r *Recorder) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return errors.Join(r.err, r.w.Flush(), r.f.Close())
}

// Load is what clients do.
type Load struct {
	Recorder   *Recorder
	Bootstrap  []string
	Topic      string
	Partitions int
	Rate       int // records a second, by all producers together
}

// options are those of every client: it learns quickly that something is there again.
func (l *Load) options(more ...kgo.Opt) []kgo.Opt {
	return append([]kgo.Opt{
		kgo.SeedBrokers(l.Bootstrap...), kgo.ClientID("tidemark-chaos"), kgo.MetadataMinAge(100 * time.Millisecond), kgo.MetadataMaxAge(5 * time.Second),
		kgo.RetryBackoffFn(func(n int) time.Duration { return min(time.Second, 20*time.Millisecond<<min(n, 6)) }),
		kgo.RequestTimeoutOverhead(5 * time.Second), kgo.DialTimeout(3 * time.Second), kgo.ConsiderMissingTopicDeletedAfter(24 * time.Hour),
	}, more...)
}

// Create makes the topic and declares its partitions.
func (l *Load) Create(ctx context.Context, configs map[string]*string) error {
	for p := range l.Partitions {
		l.Recorder.Add(history.Op{Kind: history.DeclarePartition, Partition: history.Partition(p), Name: fmt.Sprintf("%s-%d", l.Topic, p)})
	}
	c, err := kgo.NewClient(l.options()...)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = kadm.NewClient(c).CreateTopic(ctx, int32(l.Partitions), -1, configs, l.Topic)
	return err
}

const (
	valueMagic = 0x54_4d_43_48 // TMCH
	frontBytes = 24
)

// value says which record it is; the rest follows from that, and a checksum covers all of it.
func value(p history.Producer, partition int32, sequence uint64) []byte {
	n := frontBytes + int(sequence*2654435761>>8%977)
	b := make([]byte, n+4)
	binary.BigEndian.PutUint32(b, valueMagic)
	binary.BigEndian.PutUint32(b[4:], uint32(p))
	binary.BigEndian.PutUint32(b[8:], uint32(partition))
	binary.BigEndian.PutUint64(b[16:], sequence)
	for i := frontBytes; i < n; i++ {
		b[i] = byte(uint64(i) * (sequence | 1) >> 3)
	}
	binary.BigEndian.PutUint32(b[n:], crc32.ChecksumIEEE(b[:n]))
	return b
}

// identify is the reverse; false for what no producer of ours sent to this partition.
func identify(partition int32, b []byte) (history.Producer, uint64, bool) {
	n := len(b) - 4
	if n < frontBytes || binary.BigEndian.Uint32(b) != valueMagic || binary.BigEndian.Uint32(b[n:]) != crc32.ChecksumIEEE(b[:n]) ||
		binary.BigEndian.Uint32(b[8:]) != uint32(partition) {
		return 0, 0, false
	}
	return history.Producer(binary.BigEndian.Uint32(b[4:])), binary.BigEndian.Uint64(b[16:]), true
}

// refused are the errors after which a record is not in the log and never will be. All others leave it open.
var refused = []error{kerr.MessageTooLarge, kerr.RecordListTooLarge, kerr.InvalidRecord, kerr.UnsupportedForMessageFormat, kerr.TopicAuthorizationFailed}

func outcome(err error) history.Kind {
	if err == nil {
		return history.Acked
	}
	for _, r := range refused {
		if errors.Is(err, r) {
			return history.Failed
		}
	}
	return history.Unknown
}
