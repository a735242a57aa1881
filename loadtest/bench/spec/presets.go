package spec

import (
	"fmt"
	"strings"
	"time"
)

// Preset is a workload with a name: defaults that flags override.
type Preset struct {
	Name, About string
	apply       func(*Spec)
}

// Presets in the order of the table of results.
var Presets = []Preset{
	{"custom", "one producer at full speed; everything else is up to the flags", func(*Spec) {}},
	{"produce-max", "producers at full speed (also try --partitions 1 and 200, --producers 8, --client raw)", func(s *Spec) { s.Warmup = "auto" }},
	{"consume-hot", "one consumer reads what memory holds, again and again (--consumers 4)", func(s *Spec) {
		s.Producers, s.Fanout, s.Read, s.PrefillBytes = 0, 1, ReadLoop, 64<<20
	}},
	{"fanout", "producer at full speed, three consumers that each read everything", func(s *Spec) { s.Fanout, s.Warmup = 3, "auto" }},
	{"paced", "20,000 records/s at set times, latency of acknowledgements and end to end (--rate)", func(s *Spec) {
		s.Rate, s.Fanout, s.Linger, s.Warmup = 20_000, 1, 0, "10s"
	}},
	{"small-records", "100-byte records at full speed", func(s *Spec) { s.RecordSize, s.Buffered, s.Warmup = "100", 256<<10, "auto" }},
	{"compressed", "lz4 at full speed (--compression zstd)", func(s *Spec) { s.Compression, s.Warmup = "lz4", "auto" }},
	{"many-connections", "1,000 producers with 50 records/s each", func(s *Spec) {
		s.Producers, s.Rate, s.Fanout, s.Linger, s.Buffered, s.Warmup = 1000, 50_000, 1, 0, 10_000, "10s"
	}},
	{"transactions", "transactions of 1,000 records, read committed", func(s *Spec) { s.TxnRecords, s.Fanout = 1000, 1 }},
	{"catch-up", "2 GiB are written, then read from the earliest offset to the end (--settle; beside it --producers 1 --rate 20000)", func(s *Spec) {
		s.Producers, s.Fanout, s.Read, s.PrefillBytes, s.Warmup, s.Duration = 0, 1, ReadOnce, 2<<30, "0s", time.Hour
	}},
	{"many-partitions", "10,000 partitions with sparse traffic (or --partitions 64 --rate 640)", func(s *Spec) {
		s.Partitions, s.Rate, s.Fanout, s.Partitioner, s.Linger, s.Warmup = 10_000, 10_000, 1, "round-robin", 0, "10s"
	}},
	{"soak", "20,000 records/s for twenty minutes: slope of memory, drift of p99.9", func(s *Spec) {
		s.Rate, s.Fanout, s.Linger, s.Warmup, s.Duration = 20_000, 1, 0, "30s", 20*time.Minute
	}},
}

// External are the rows of the table that need a broker started or a disk slowed, and so a script around this program.
const External = `Start-up and recovery time, and slow syncs, need a broker started or a disk slowed from outside: run a workload against a
broker that is started that way (bench compare starts brokers with --a and --b).`

// For returns the defaults of a workload.
func For(name string) (Spec, error) {
	s := Default()
	names := make([]string, 0, len(Presets))
	for _, p := range Presets {
		if p.Name == name {
			p.apply(&s)
			s.Workload = name
			return s, nil
		}
		names = append(names, p.Name)
	}
	return Spec{}, fmt.Errorf("--workload: %q is none of %s", name, strings.Join(names, ", "))
}
