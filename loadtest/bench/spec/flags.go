package spec

import (
	"flag"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Parse reads args on top of the preset that --workload names. extra adds flags that are not part of the load to the set. What
// is left behind the flags is in the set's Args.
func Parse(name string, args []string, extra func(*flag.FlagSet, *Spec)) (Spec, *flag.FlagSet, error) {
	s, err := For(workloadOf(args))
	if err != nil {
		return s, nil, err
	}
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	s.addFlags(fs)
	if extra != nil {
		extra(fs, &s)
	}
	if err := fs.Parse(args); err != nil {
		return s, fs, err
	}
	return s, fs, nil
}

// workloadOf finds the preset before the other flags are parsed, because it sets their defaults.
func workloadOf(args []string) string {
	name := "custom"
	for i, a := range args {
		if a == "--" {
			break
		}
		flagName, value, has := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(a, "-"), "-"), "=")
		if !strings.HasPrefix(a, "-") || flagName != "workload" {
			continue
		}
		if has {
			name = value
		} else if i+1 < len(args) {
			name = args[i+1]
		}
	}
	return name
}

func (s *Spec) addFlags(fs *flag.FlagSet) {
	fs.String("workload", s.Workload, "preset that sets the other defaults; `name` from 'tidemark bench list'")
	fs.Func("bootstrap", "`host:port,...` of brokers (default "+strings.Join(s.Bootstrap, ",")+")", func(v string) error {
		s.Bootstrap = nil
		for a := range strings.SplitSeq(v, ",") {
			if a = strings.TrimSpace(a); a != "" {
				s.Bootstrap = append(s.Bootstrap, a)
			}
		}
		return nil
	})
	fs.StringVar(&s.Client, "client", s.Client, "franz: franz-go, as an application would; raw: prebuilt batches, where franz-go's cost would hide the broker's")
	fs.StringVar(&s.Label, "label", s.Label, "name of this side in reports")
	fs.StringVar(&s.Topic, "topic", s.Topic, "topic; empty: a new one with a name of its own")
	fs.BoolVar(&s.Existing, "existing", s.Existing, "the topic is there already: create nothing, delete nothing")
	fs.BoolVar(&s.KeepTopic, "keep-topic", s.KeepTopic, "leave the topic behind")
	fs.IntVar(&s.Partitions, "partitions", s.Partitions, "partitions of the topic")
	fs.IntVar(&s.ReplicationFactor, "replication-factor", s.ReplicationFactor, "replication factor of the topic; -1: the broker's default")
	fs.Func("topic-config", "`name=value` of the new topic; may be repeated", func(v string) error {
		name, value, ok := strings.Cut(v, "=")
		if !ok {
			return fmt.Errorf("%q is not NAME=VALUE", v)
		}
		s.TopicConfigs = maps.Clone(s.TopicConfigs)
		s.TopicConfigs[name] = value
		return nil
	})
	s.addProducerFlags(fs)
	s.addConsumerFlags(fs)
	fs.Int64Var(&s.PrefillBytes, "prefill-bytes", s.PrefillBytes, "values written before anything is measured")
	fs.DurationVar(&s.Settle, "settle", s.Settle, "wait between filling and measuring")
	fs.DurationVar(&s.Duration, "duration", s.Duration, "length of the measurement")
	fs.Int64Var(&s.Records, "records", s.Records, "end after so many records instead (0: the duration decides)")
	fs.StringVar(&s.Warmup, "warmup", s.Warmup, "duration that is not measured, or auto: until three windows of 5 s agree within 5 %")
	fs.DurationVar(&s.WarmupMin, "warmup-min", s.WarmupMin, "least duration of an automatic warm-up (a JVM wants 60s)")
	fs.DurationVar(&s.WarmupMax, "warmup-max", s.WarmupMax, "most duration of an automatic warm-up")
	fs.DurationVar(&s.DrainMax, "drain-max", s.DrainMax, "how long what is outstanding may take at the end")
	fs.StringVar(&s.Verify, "verify", s.Verify, "none, acks (order and offsets), ends (end offsets too) or full (each record is read and checked)")
	fs.Func("server-pid", "`process` whose CPU and memory, with its children's, are reported; may be repeated", func(v string) error {
		pid, err := strconv.Atoi(v)
		if err != nil || pid <= 0 {
			return fmt.Errorf("%q is no process id", v)
		}
		s.ServerPIDs = append(slices.Clone(s.ServerPIDs), pid)
		return nil
	})
}

func (s *Spec) addProducerFlags(fs *flag.FlagSet) {
	fs.IntVar(&s.Producers, "producers", s.Producers, "producers, each with a client and connections of its own")
	fs.Float64Var(&s.Rate, "rate", s.Rate, "records/s of all producers together, latency counted from when each was due; 0: as fast as it goes")
	fs.StringVar(&s.Acks, "acks", s.Acks, "all, 1 or 0")
	fs.BoolVar(&s.Idempotent, "idempotent", s.Idempotent, "idempotent producers")
	fs.StringVar(&s.Compression, "compression", s.Compression, strings.Join(Codecs, ", "))
	fs.StringVar(&s.RecordSize, "record-size", s.RecordSize, "bytes of a value: N, uniform:LOW-HIGH, lognormal:MEDIAN,SIGMA or mix:N=SHARE,N=SHARE")
	fs.IntVar(&s.Keys, "keys", s.Keys, "distinct keys, spread over partitions by their hash; 0: records have no keys")
	fs.IntVar(&s.KeyBytes, "key-bytes", s.KeyBytes, "bytes of a key")
	fs.StringVar(&s.Partitioner, "partitioner", s.Partitioner, "of records without keys: sticky (a batch to one partition, then the next) or round-robin")
	fs.Float64Var(&s.Compressibility, "compressibility", s.Compressibility, "share of each value that is zeros; the rest is random")
	fs.Uint64Var(&s.Seed, "seed", s.Seed, "of payloads, sizes and keys")
	fs.IntVar(&s.BatchBytes, "batch-bytes", s.BatchBytes, "most bytes of a batch")
	fs.DurationVar(&s.Linger, "linger", s.Linger, "how long a producer waits for a batch to fill")
	fs.IntVar(&s.InFlight, "in-flight", s.InFlight, "requests outstanding per connection")
	fs.IntVar(&s.Buffered, "buffered", s.Buffered, "records a producer may hold unacknowledged (franz)")
	fs.IntVar(&s.TxnRecords, "txn-records", s.TxnRecords, "records of a transaction; 0: no transactions")
}

func (s *Spec) addConsumerFlags(fs *flag.FlagSet) {
	fs.IntVar(&s.Fanout, "fanout", s.Fanout, "how many times everything is read; 0: no consumers")
	fs.IntVar(&s.Consumers, "consumers", s.Consumers, "consumers that share each reading")
	fs.StringVar(&s.Read, "read", s.Read, "tail (what is produced now), once (what was there, from the earliest) or loop (that again and again)")
	fs.BoolVar(&s.Group, "group", s.Group, "consumers are members of a consumer group; otherwise partitions are dealt out")
	fs.IntVar(&s.FetchMaxBytes, "fetch-max-bytes", s.FetchMaxBytes, "most bytes of a fetch")
	fs.IntVar(&s.FetchPartitionBytes, "fetch-partition-bytes", s.FetchPartitionBytes, "most bytes of a partition in a fetch")
	fs.IntVar(&s.FetchMinBytes, "fetch-min-bytes", s.FetchMinBytes, "bytes a fetch waits for")
	fs.DurationVar(&s.FetchMaxWait, "fetch-max-wait", s.FetchMaxWait, "how long a fetch waits")
	fs.IntVar(&s.FetchConcurrent, "fetch-concurrent", s.FetchConcurrent, "fetches outstanding per consumer (franz); 0: one per broker. With fewer than there are brokers, some wait while others have nothing to say")
}
