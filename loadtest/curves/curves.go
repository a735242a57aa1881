package main

import (
	"context"
	"slices"
)

// outcome is what one run gave.
type outcome struct {
	Figures   figures `json:"figures,omitempty"`
	Disturbed bool    `json:"disturbed,omitempty"` // by other processes or the hypervisor
	Pressure  float64 `json:"cpuPressure"`         // share of the time in which some task waited for a CPU; −1: unknown
	Foreign   float64 `json:"foreignCpus"`
	Steal     float64 `json:"steal"`
	Failure   string  `json:"failure,omitempty"`
}

// measure runs one point on a broker of its own, whose data may lie in dir.
type measure func(ctx context.Context, p *program, dir string, x int) (outcome, error)

// curve is measured at several places.
type curve struct {
	id, title, about string
	axis             string // what x counts
	at               []int
	rarely           bool // half of the repetitions: it takes long and varies little
	columns          []column
	measure          measure
}

// column is one figure in the tables.
type column struct{ figure, head string }

var (
	costColumns = []column{
		{"cost", "server s/GB, into the store"}, {"window", "server s/GB, in the window"}, {"produced", "MB/s"}, {"ack50", "ack p50 ms"},
		{"ack99", "ack p99 ms"}, {"batch", "KiB per batch"}, {"rss", "RSS MB"}, {"client", "client s/GB"},
	}
	requestColumns = []column{
		{"put", "PUT/GB"}, {"get", "GET/GB"}, {"list", "LIST/GB"}, {"head", "HEAD/GB"}, {"delete", "DELETE/GB"}, {"etcd", "etcd writes/GB"},
		{"etcdrate", "etcd writes/s at this MB/s"}, {"written", "GB in the run"},
	}
	publicationColumns = []column{
		{"pubcpu", "one publication: CPU s"}, {"pubput", "PUT"}, {"pubget", "GET"}, {"pubetcd", "etcd writes"},
	}
	idleColumns = []column{
		{"idlecpu", "CPU, % of a core"}, {"idleetcd", "etcd writes/s"}, {"idleread", "etcd reads/s"}, {"idlekeep", "lease renewals/s"},
		{"idlestore", "S3 requests/s"}, {"create", "creation ms"},
	}
	memoryColumns = []column{
		{"idlerss", "RSS idle, MB"}, {"heap", "Go heap idle, MB"}, {"pacedrss", "RSS under load, MB"}, {"pacedcpu", "CPU under load, % of a core"},
	}
	restartColumns = []column{
		{"log", "MiB in the log"}, {"stop", "stop ms"}, {"ready", "ready ms"}, {"firstack", "first ack ms"}, {"startcpu", "CPU s"},
		{"startrss", "peak RSS MB"}, {"startput", "PUT"}, {"startetcd", "etcd writes"},
	}
)

var (
	partitionCounts  = []int{1, 100, 1000, 10_000}
	connectionCounts = []int{1, 100, 1000}
	logSizes         = []int{16, 64, 256, 1024}
)

var curves = []curve{
	{id: "equal", title: "Partitions, equal batches", axis: "partitions", at: partitionCounts, measure: equal,
		columns: slices.Concat(costColumns, requestColumns, publicationColumns),
		about: "The lean client: 4 connections with 5 requests under way each, at full speed, idempotent, acks=all. Every request holds one batch of 64 KiB (records of 1 KiB), " +
			"to the partitions in turn, so the size of batches and requests is the same for any number of partitions, as *KiB per batch* shows from the broker's own counters. " +
			"*Into the store* is all CPU from before the load until everything is in committed objects, over all GB written; *in the window* is CPU while producing, as in other tables. " +
			"*One publication* is what it cost to put everything written in that run into manifests; a broker does that every 5 minutes (`absorb-every`), whatever it wrote meanwhile."},
	{id: "natural", title: "Partitions, a normal client", axis: "partitions", at: partitionCounts, measure: natural,
		columns: slices.Concat(costColumns, requestColumns),
		about:   "franz-go, one producer at full speed with linger 5 ms, at most 1 MiB per batch, 64 Ki records buffered; each record goes to the next partition, as records with many keys do. Batches shrink as partitions grow, and so grows the cost of a GB, on both sides."},
	{id: "connections", title: "Connections at full speed", axis: "connections", at: connectionCounts, measure: connections(0),
		columns: slices.Concat(costColumns, requestColumns),
		about:   "The lean client on 12 partitions: each connection has 5 requests of one 16 KiB batch under way. At full speed latency is the queue that the connections make: with 1,000 of them, 5,000 requests wait."},
	{id: "connections-paced", title: "Connections at a set rate", axis: "connections", at: connectionCounts, measure: connections(connectionRate),
		columns: slices.Concat(costColumns, requestColumns),
		about:   "The same at 50,000 records/s (51 MB/s) over all connections, at set times: what a connection costs when the work is the same. Latency counts from when a batch was due."},
	{id: "idle", title: "Idle, and memory", axis: "partitions", at: partitionCounts, measure: idle, rarely: true,
		columns: slices.Concat(idleColumns, memoryColumns),
		about:   "A broker with a record or more in each partition, all of it in the store, and no client. Then one franz-go producer spreads 5,000 records/s over the partitions, without linger: memory under load."},
	{id: "restart-kill", title: "Start after kill -9", axis: "MiB in the log", at: logSizes, measure: restart(false), columns: restartColumns,
		about: "What lies in the log and nowhere else (`seal-bytes` and `seal-age` are so great that nothing moves by itself) is moved to objects before clients are served, by a start with defaults. Times count from the start of the process; the file is not in the page cache, because it was written directly."},
	{id: "restart-stop", title: "Orderly stop and start", axis: "MiB in the log", at: logSizes, measure: restart(true), columns: restartColumns,
		about: "The same log, but the stop moves it, in seals of up to a GiB (`seal-bytes` is what kept it in the log): SIGTERM to the end of the process, then a start with defaults."},
}

// plot is a drawing of figures of one or more curves.
type plot struct {
	file, title, unit string
	logY              bool
	lines             []plotLine
}

type plotLine struct{ curve, figure, name string }

var plots = []plot{
	{file: "partitions-cost", title: "CPU of the server per GB produced", unit: "s/GB", lines: []plotLine{
		{"equal", "cost", "equal batches, into the store"}, {"equal", "window", "equal batches, in the window"}, {"natural", "cost", "normal client, into the store"}}},
	{file: "partitions-throughput", title: "Produced at full speed", unit: "MB/s", lines: []plotLine{{"equal", "produced", "equal batches"}, {"natural", "produced", "normal client"}}},
	{file: "partitions-ack", title: "Acknowledgement, p99 at full speed", unit: "ms, log scale", logY: true, lines: []plotLine{{"equal", "ack99", "equal batches"}, {"natural", "ack99", "normal client"}}},
	{file: "partitions-store", title: "Requests to the object store per GB", lines: []plotLine{
		{"equal", "put", "PUT, equal batches"}, {"natural", "put", "PUT, normal client"}, {"equal", "get", "GET, equal batches"}, {"natural", "get", "GET, normal client"}}},
	{file: "partitions-etcd", title: "Writes to etcd per GB", lines: []plotLine{{"equal", "etcd", "equal batches"}, {"natural", "etcd", "normal client"}}},
	{file: "connections-cost", title: "CPU of the server per GB, while producing", unit: "s/GB", lines: []plotLine{
		{"connections", "window", "at full speed"}, {"connections-paced", "window", "at 51 MB/s"}}},
	{file: "connections-throughput", title: "Produced at full speed", unit: "MB/s", lines: []plotLine{{"connections", "produced", "at full speed"}}},
	{file: "connections-ack", title: "Acknowledgement, p99", unit: "ms, log scale", logY: true, lines: []plotLine{
		{"connections", "ack99", "at full speed"}, {"connections-paced", "ack99", "at 51 MB/s"}}},
	{file: "idle-cpu", title: "CPU of a broker that does nothing", unit: "% of a core", lines: []plotLine{{"idle", "idlecpu", "idle"}}},
	{file: "idle-requests", title: "What a broker that does nothing asks for", unit: "per second", lines: []plotLine{
		{"idle", "idleetcd", "etcd writes"}, {"idle", "idlestore", "S3 requests"}, {"idle", "idlekeep", "lease renewals"}}},
	{file: "memory", title: "Memory against partitions", unit: "RSS, MB", lines: []plotLine{{"idle", "idlerss", "idle"}, {"idle", "pacedrss", "under 5,000 records/s"}}},
	{file: "restart", title: "From the start of the process", unit: "ms", lines: []plotLine{
		{"restart-kill", "ready", "kill -9, ready"}, {"restart-kill", "firstack", "kill -9, first ack"}, {"restart-stop", "stop", "orderly stop itself"}, {"restart-stop", "firstack", "orderly, first ack"}}},
}

// byID finds a curve; the definitions above name only those that exist, which a test checks.
func byID(id string) *curve {
	for i := range curves {
		if curves[i].id == id {
			return &curves[i]
		}
	}
	return nil
}
