package main

import (
	"slices"
	"strings"
	"time"

	"github.com/tidemarkmq/tidemark/loadtest/bench/spec"
)

// kind says how a row is measured.
type kind int

const (
	throughput kind = iota // at full speed: warmed up on topics of their own, bounded in bytes
	steady                 // at a set rate
	cold                   // filled, restarted, page cache dropped, read back
	startUp                // from the start of the process to the first acknowledgement
	crash                  // the same after kill -9 with a gibibyte that is only in the log
	soak
)

// row is one line of the table of workloads.
type row struct {
	id, title, preset string
	kind              kind
	edit              func(*spec.Spec)
	slowSync          bool
}

func with(id, title, preset string, k kind, edit func(*spec.Spec)) row {
	return row{id: id, title: title, preset: preset, kind: k, edit: edit}
}

func produce(partitions, producers int, client string) func(*spec.Spec) {
	return func(s *spec.Spec) { s.Partitions, s.Producers, s.Client = partitions, producers, client }
}

func rate(perSecond float64) func(*spec.Spec) { return func(s *spec.Spec) { s.Rate = perSecond } }

// rows are the workloads, in the order of the report. Records are of 1 KiB unless the title says something else.
var rows = []row{
	with("1-p1", "Max produce, 1 partition, 1 producer", "produce-max", throughput, produce(1, 1, spec.ClientFranz)),
	with("1-p12", "Max produce, 12 partitions, 1 producer", "produce-max", throughput, produce(12, 1, spec.ClientFranz)),
	with("1-p200", "Max produce, 200 partitions, 1 producer", "produce-max", throughput, produce(200, 1, spec.ClientFranz)),
	with("1-p1x8", "Max produce, 1 partition, 8 producers", "produce-max", throughput, produce(1, 8, spec.ClientFranz)),
	with("1-p12x8", "Max produce, 12 partitions, 8 producers", "produce-max", throughput, produce(12, 8, spec.ClientFranz)),
	with("1-p200x8", "Max produce, 200 partitions, 8 producers", "produce-max", throughput, produce(200, 8, spec.ClientFranz)),
	with("1-raw", "Max produce, 12 partitions, 1 producer, lean client", "produce-max", throughput, produce(12, 1, spec.ClientRaw)),
	with("2-c1", "Max hot consume, 1 consumer", "consume-hot", throughput, func(*spec.Spec) {}),
	with("2-c4", "Max hot consume, 4 consumers", "consume-hot", throughput, func(s *spec.Spec) { s.Consumers = 4 }),
	with("2-raw", "Max hot consume, 1 consumer, lean client", "consume-hot", throughput, func(s *spec.Spec) { s.Client = spec.ClientRaw }),
	with("3", "Produce and threefold fan-out together", "fanout", throughput, func(*spec.Spec) {}),
	with("4-1k", "Paced, 1,000 records/s", "paced", steady, rate(1000)),
	with("4-10k", "Paced, 10,000 records/s", "paced", steady, rate(10_000)),
	with("4-20k", "Paced, 20,000 records/s", "paced", steady, rate(20_000)),
	with("4-100k", "Paced, 100,000 records/s", "paced", steady, rate(100_000)),
	with("5", "Max produce, records of 100 bytes", "small-records", throughput, func(*spec.Spec) {}),
	with("6-lz4", "Max produce, lz4", "compressed", throughput, func(*spec.Spec) {}),
	with("6-zstd", "Max produce, zstd", "compressed", throughput, func(s *spec.Spec) { s.Compression = "zstd" }),
	with("7", "1,000 connections with 50 records/s each", "many-connections", steady, func(*spec.Spec) {}),
	with("8", "Transactions of 1,000 records", "transactions", throughput, func(*spec.Spec) {}),
	with("9", "Catch-up from the store after a restart", "catch-up", cold, func(*spec.Spec) {}),
	with("9-paced", "Catch-up after a restart, beside 20,000 records/s", "catch-up", cold, func(s *spec.Spec) { s.Producers, s.Rate, s.Linger = 1, 20_000, 0 }),
	with("10-10k", "10,000 partitions, 10,000 records/s over all", "many-partitions", steady, func(s *spec.Spec) {
		s.DrainMax = 3 * time.Minute // who falls behind shall show it as latency, not as an error
	}),
	with("10-64", "64 partitions with 10 records/s each", "many-partitions", steady, func(s *spec.Spec) { s.Partitions, s.Rate = 64, 640 }),
	with("11-start", "Start-up to the first acknowledgement, after an orderly stop", "", startUp, nil),
	with("11-kill", "kill -9 with 1 GiB that is only in the log, to the first acknowledgement", "", crash, nil),
	{id: "12", title: "Max produce, 12 partitions, each sync 2.6 ms longer", preset: "produce-max", kind: throughput, edit: produce(12, 1, spec.ClientFranz), slowSync: true},
	with("13", "Soak at 20,000 records/s", "soak", soak, func(s *spec.Spec) {
		s.TopicConfigs = map[string]string{"retention.bytes": "268435456", "segment.bytes": "67108864"} // bounds the disk
	}),
	with("14-p1", "Produce, 1 partition, requests of one batch of 1 MiB, lean client", "produce-max", throughput, produce(1, 1, spec.ClientRaw)),
	with("14-p1000", "Produce, 1,000 partitions, requests of one batch of 1 MiB, lean client", "produce-max", throughput, produce(1000, 1, spec.ClientRaw)),
}

// Rows in which a peer runs that has something to say only there.
var (
	flushRows = []string{"1-p1", "1-p12", "1-p200", "1-p12x8", "4-20k", "10-64"}
	minioRows = []string{"1-p12", "2-c1", "3", "4-20k", "8", "9", "9-paced", "10-10k", "10-64", "11-start", "11-kill"}
	equalRows = []string{"14-p1", "14-p1000"}
)

// skip says why a peer has no cell in a row, or nothing. With every, nobody is left out to save time.
func (r *row) skip(p *peer, b *binaries, every bool) string {
	reading := strings.HasPrefix(r.id, "9") || r.kind == startUp || r.kind == crash
	switch {
	case p.reference && !slices.Contains(referenceRows, r.id):
		return "references run in rows " + strings.Join(referenceRows, ", ")
	case p.null && (reading || r.slowSync):
		return "keeps nothing"
	case p.null && (r.id == "8" || r.kind == soak || r.id == "3" || strings.HasPrefix(r.id, "4") || r.id == "7" || strings.HasPrefix(r.id, "10")):
		return "delivers nothing that was produced; it is the ceiling of rows 1, 2, 5 and 6"
	case r.slowSync && b.strace == "":
		return "strace, which delays the syncs without root, is not installed"
	case every:
		return ""
	case p.id == "kafka-flush" && !slices.Contains(flushRows, r.id):
		return "a flush for each message shows in rows " + strings.Join(flushRows, ", ") + "; elsewhere its cost is the same (--every)"
	case p.id == "tidemark-minio" && !slices.Contains(minioRows, r.id):
		return "the store matters in rows " + strings.Join(minioRows, ", ") + "; what is acknowledged is the same log in both (--every)"
	case p.jvm && slices.Contains(equalRows, r.id):
		return "compares Tidemark with itself (--every)"
	}
	return ""
}

// settings of a run of the row.
func (r *row) settings(o *options) (spec.Spec, error) {
	s, err := spec.For(r.preset)
	if err != nil {
		return s, err
	}
	s.Duration, s.Seed = o.each, 1
	r.edit(&s)
	switch r.kind {
	case throughput:
		s.Warmup = "0s" // there were windows of their own
	case cold:
		s.Duration, s.PrefillBytes, s.Warmup = time.Hour, 0, "0s"
	case soak:
		s.Duration = o.soak
	}
	return s, nil
}

// order is that in which the sides run: A B C, then C B A, and so on, so that a drift of the machine favours nobody.
func order[T any](sides []T, repetition int) []T {
	sides = slices.Clone(sides)
	if repetition%2 == 1 {
		slices.Reverse(sides)
	}
	return sides
}
