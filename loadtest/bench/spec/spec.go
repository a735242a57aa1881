// Package spec says what a load test does: every setting with its default, the presets, and the checks of both. Nothing here
// does I/O.
package spec

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Clients that can carry the load.
const (
	ClientFranz = "franz" // franz-go: what an application would see
	ClientRaw   = "raw"   // prebuilt batches over plain requests: hides less of the broker's own cost
)

// What consumers read.
const (
	ReadTail = "tail" // what this run produces, while it is produced
	ReadOnce = "once" // what the topic held at the start, from the earliest offset to the end of then
	ReadLoop = "loop" // the same, again and again until the time is over
)

// How far a run is verified; each level includes the ones before.
const (
	VerifyNone = "none"
	VerifyAcks = "acks" // each acknowledgement in order, offsets without gap or overlap
	VerifyEnds = "ends" // the partitions' end offsets say the same
	VerifyFull = "full" // each record is read back and checked: checksum, count, order
)

// Spec is one load test. Zero values are not defaults; start from Default or a preset.
type Spec struct {
	Workload  string   `json:"workload"`
	Bootstrap []string `json:"bootstrap"`
	Client    string   `json:"client"`

	Topic             string            `json:"topic,omitempty"` // empty: one of its own, deleted afterwards
	Existing          bool              `json:"existing,omitempty"`
	KeepTopic         bool              `json:"keepTopic,omitempty"`
	Partitions        int               `json:"partitions"`
	ReplicationFactor int               `json:"replicationFactor"`
	TopicConfigs      map[string]string `json:"topicConfigs,omitempty"`

	Producers       int           `json:"producers"`
	Rate            float64       `json:"rate"` // records/s of all producers together; 0: as fast as it goes
	Acks            string        `json:"acks"`
	Idempotent      bool          `json:"idempotent"`
	Compression     string        `json:"compression"`
	RecordSize      string        `json:"recordSize"`
	Keys            int           `json:"keys"` // distinct keys; 0: none
	KeyBytes        int           `json:"keyBytes"`
	Partitioner     string        `json:"partitioner"`
	Compressibility float64       `json:"compressibility"`
	Seed            uint64        `json:"seed"`
	BatchBytes      int           `json:"batchBytes"`
	Linger          time.Duration `json:"linger"`
	InFlight        int           `json:"inFlight"`
	Buffered        int           `json:"buffered"` // records a producer may hold
	TxnRecords      int           `json:"txnRecords"`

	Consumers           int           `json:"consumers"` // of each copy
	Fanout              int           `json:"fanout"`    // copies of everything that are read
	Read                string        `json:"read"`
	Group               bool          `json:"group"`
	FetchMaxBytes       int           `json:"fetchMaxBytes"`
	FetchPartitionBytes int           `json:"fetchPartitionBytes"`
	FetchMinBytes       int           `json:"fetchMinBytes"`
	FetchMaxWait        time.Duration `json:"fetchMaxWait"`
	FetchConcurrent     int           `json:"fetchConcurrent"`

	PrefillBytes int64         `json:"prefillBytes"`
	Settle       time.Duration `json:"settle"`
	Duration     time.Duration `json:"duration"`
	Records      int64         `json:"records"` // 0: the duration decides
	Warmup       string        `json:"warmup"`  // a duration, or "auto"
	WarmupMin    time.Duration `json:"warmupMin"`
	WarmupMax    time.Duration `json:"warmupMax"`
	DrainMax     time.Duration `json:"drainMax"`
	Verify       string        `json:"verify"`
	ServerPIDs   []int         `json:"serverPids,omitempty"`
	Label        string        `json:"label,omitempty"`
}

// Default is a producer at full speed.
func Default() Spec {
	return Spec{
		Workload: "custom", Bootstrap: []string{"127.0.0.1:9092"}, Client: ClientFranz, Partitions: 12, ReplicationFactor: 1,
		TopicConfigs: map[string]string{}, Producers: 1, Acks: "all", Idempotent: true, Compression: "none", RecordSize: "1024",
		KeyBytes: 16, Partitioner: "sticky", Compressibility: 0.5, Seed: 1, BatchBytes: 1 << 20, Linger: 5 * time.Millisecond, InFlight: 5,
		Buffered: 64 << 10, Consumers: 1, Read: ReadTail, FetchMaxBytes: 32 << 20, FetchPartitionBytes: 8 << 20, FetchMinBytes: 1,
		FetchMaxWait: 500 * time.Millisecond, Duration: 30 * time.Second, Warmup: "5s", WarmupMax: 3 * time.Minute,
		DrainMax: time.Minute, Verify: VerifyFull,
	}
}

// Txn tells whether the producers write transactions.
func (s *Spec) Txn() bool { return s.TxnRecords > 0 }

// ReadsBack tells whether consumers read what was there before.
func (s *Spec) ReadsBack() bool { return s.Fanout > 0 && s.Read != ReadTail }

// WarmupTime is the fixed time of the warm-up, or auto.
func (s *Spec) WarmupTime() (d time.Duration, auto bool) {
	if s.Warmup == "auto" {
		return 0, true
	}
	d, _ = time.ParseDuration(s.Warmup) // Check has parsed it
	return d, false
}

func oneOf(name, value string, allowed ...string) error {
	if slices.Contains(allowed, value) {
		return nil
	}
	return fmt.Errorf("--%s: %q is none of %s", name, value, strings.Join(allowed, ", "))
}

func between[T int | int64 | float64 | time.Duration](name string, value, low, high T) error {
	if value >= low && value <= high {
		return nil
	}
	return fmt.Errorf("--%s: %v is not within %v and %v", name, value, low, high)
}

// Codecs are the values of --compression.
var Codecs = []string{"none", "gzip", "snappy", "lz4", "zstd"}

// Check returns all that is wrong with s, each with the flag it is about.
func (s *Spec) Check() error {
	_, warmupErr := time.ParseDuration(s.Warmup)
	if s.Warmup == "auto" {
		warmupErr = nil
	}
	if warmupErr != nil {
		warmupErr = fmt.Errorf("--warmup: %q is neither a duration nor auto", s.Warmup)
	}
	_, sizeErr := ParseSize(s.RecordSize)
	return errors.Join(
		oneOf("client", s.Client, ClientFranz, ClientRaw), oneOf("acks", s.Acks, "all", "1", "0"), oneOf("compression", s.Compression, Codecs...),
		oneOf("partitioner", s.Partitioner, "sticky", "round-robin"), oneOf("read", s.Read, ReadTail, ReadOnce, ReadLoop),
		oneOf("verify", s.Verify, VerifyNone, VerifyAcks, VerifyEnds, VerifyFull), warmupErr, sizeErr,
		between("partitions", s.Partitions, 1, 100_000), between("producers", s.Producers, 0, 20_000), between("consumers", s.Consumers, 1, 10_000),
		between("fanout", s.Fanout, 0, 100), between("rate", s.Rate, 0, 1e9), between("keys", s.Keys, 0, 10_000_000),
		between("key-bytes", s.KeyBytes, 8, 1<<16), between("compressibility", s.Compressibility, 0, 1),
		between("batch-bytes", s.BatchBytes, 512, 64<<20), between("in-flight", s.InFlight, 1, 1000), between("buffered", s.Buffered, 1, 10_000_000),
		between("linger", s.Linger, 0, time.Minute), between("txn-records", s.TxnRecords, 0, 10_000_000),
		between("fetch-max-bytes", s.FetchMaxBytes, 1024, 1<<30), between("fetch-partition-bytes", s.FetchPartitionBytes, 1024, 1<<30),
		between("fetch-min-bytes", s.FetchMinBytes, 0, 1<<30), between("fetch-max-wait", s.FetchMaxWait, 0, time.Minute),
		between("fetch-concurrent", s.FetchConcurrent, 0, 1000), between("prefill-bytes", s.PrefillBytes, 0, 1<<50),
		between("duration", s.Duration, time.Second, 7*24*time.Hour), between("records", s.Records, 0, 1<<50), between("drain-max", s.DrainMax, time.Second, time.Hour),
		s.checkTogether())
}

// checkTogether finds settings that contradict each other.
func (s *Spec) checkTogether() error {
	var errs []error
	no := func(bad bool, text string) {
		if bad {
			errs = append(errs, errors.New(text))
		}
	}
	no(len(s.Bootstrap) == 0, "--bootstrap: no address")
	no(s.Producers == 0 && s.Fanout == 0, "neither producers nor consumers (--producers, --fanout)")
	no(s.Producers == 0 && s.Fanout > 0 && s.Read == ReadTail, "--read tail without producers would wait for ever")
	no(s.Idempotent && s.Acks != "all", "--idempotent needs --acks all; say --idempotent=false")
	no(s.Txn() && (!s.Idempotent || s.Acks != "all"), "--txn-records needs --acks all and --idempotent")
	no(s.Txn() && s.Client == ClientRaw, "--client raw writes no transactions")
	no(s.Client == ClientRaw && s.Compression != "none", "--client raw patches records in place and so sends no compressed batches")
	no(s.Client == ClientRaw && s.Group, "--client raw joins no groups")
	no(s.Client == ClientRaw && s.Keys > 0, "--client raw writes no keys")
	no(s.Client == ClientRaw && s.Idempotent && s.InFlight > 5, "--in-flight above 5 with --idempotent: brokers remember five batches")
	no(s.Client == ClientFranz && s.Idempotent && s.InFlight != 5, "--in-flight is always 5 with --client franz and --idempotent")
	no(s.Existing && s.Group && s.Read == ReadTail, "--group with --existing needs --read once")
	no(s.Existing && s.Topic == "", "--existing needs --topic")
	no(s.Group && s.Read == ReadLoop, "--group cannot read in a loop")
	no(s.Read == ReadLoop && s.Producers > 0, "--read loop has no producers beside it; say --producers 0")
	if size, err := ParseSize(s.RecordSize); err == nil && s.Client == ClientRaw {
		no(size.Max() > s.BatchBytes-256, "--record-size does not fit --batch-bytes")
		no(!size.Fixed(), "--client raw needs records of one size")
	}
	return errors.Join(errs...)
}
