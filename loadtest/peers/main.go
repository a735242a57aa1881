// Peers measures Tidemark beside its peers on this machine: every workload of the table on the null broker, Tidemark on a folder and on
// MinIO, and Apache Kafka with its defaults and with a flush for each message. Each run has a fresh broker; sides run A B C, C B A.
//
//	go run ./loadtest/peers --out loadtest/RESULTS.md --raw FOLDER
//
// It needs Java and Maven for Kafka's jars, which are kept in $TIDEMARK_TOOLS (default: ~/.cache/tidemark-tools).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/tidemarkmq/tidemark/loadtest/bench/result"
)

type options struct {
	out, raw, dir, only, peers, remark string
	repetitions, retries               int
	each, soak, window                 time.Duration
	quick                              bool
	maxDisk, coldBytes                 int64
	until                              time.Duration
}

// warmup is the least time of one.
func (o *options) warmup(jvm bool) time.Duration {
	switch {
	case o.quick && jvm:
		return 8 * time.Second
	case o.quick:
		return 2 * time.Second
	case jvm:
		return time.Minute
	}
	return 3 * o.window
}

func main() {
	log.SetFlags(log.Ltime)
	var o options
	flag.StringVar(&o.out, "out", "loadtest/RESULTS.md", "`file` for the report")
	flag.StringVar(&o.raw, "raw", "", "`folder` for each run's result as JSON; empty: they are not kept")
	flag.StringVar(&o.dir, "dir", "", "`folder` for data; empty: a temporary one")
	flag.StringVar(&o.only, "rows", "*", "rows to run, by number, with wildcards: '1-*,4-20k'")
	flag.StringVar(&o.peers, "peers", "*", "peers to run: null, tidemark, tidemark-minio, kafka, kafka-flush")
	flag.StringVar(&o.remark, "remark", "", "something to say about the run in the report")
	flag.IntVar(&o.repetitions, "repetitions", 5, "runs of each cell")
	flag.IntVar(&o.retries, "retries", 2, "times that a disturbed run is repeated")
	flag.DurationVar(&o.each, "each", 20*time.Second, "length of a measurement; at full speed it is shortened to what 8 GiB take")
	flag.DurationVar(&o.soak, "soak", 20*time.Minute, "length of the soak, which runs once")
	flag.DurationVar(&o.until, "until", 0, "begin no further row after this time; 0: run all")
	flag.BoolVar(&o.quick, "quick", false, "one repetition of short runs with short warm-ups, for development: figures that mean little")
	flag.Int64Var(&o.maxDisk, "max-disk", 20<<30, "bytes of the disk that a run may use")
	flag.Int64Var(&o.coldBytes, "cold-bytes", 4<<30, "bytes that a catch-up reads")
	flag.Parse()
	o.window = 5 * time.Second
	if o.quick {
		o.repetitions, o.retries, o.each, o.window, o.coldBytes = 1, 0, 4*time.Second, 2*time.Second, min(o.coldBytes, 1<<30)
		o.soak = min(o.soak, time.Minute)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, &o); err != nil {
		stop()
		log.Fatal(err)
	}
}

// table is one run of everything.
type table struct {
	o       *options
	b       *binaries
	dir     string
	version string
	report  report
}

// reserve is what must stay free beside what runs may use.
const reserve = 5 << 30

func run(ctx context.Context, o *options) (err error) {
	if o.repetitions < 1 || o.repetitions > 100 {
		return fmt.Errorf("--repetitions: %d is not within 1 and 100", o.repetitions)
	}
	dir, err := os.MkdirTemp(o.dir, "tidemark-peers-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if free, err := freeBytes(dir); err != nil {
		return err
	} else if free < o.maxDisk+reserve {
		return fmt.Errorf("%s has %d GiB free; runs may use %d GiB (--max-disk), and %d GiB must stay free", dir, free>>30, o.maxDisk>>30, int64(reserve)>>30)
	}
	if o.raw != "" {
		if err := os.MkdirAll(o.raw, 0o755); err != nil {
			return err
		}
	}
	t := &table{o: o, dir: dir}
	if t.b, err = prepare(ctx, dir); err != nil {
		return err
	}
	if err := t.describe(ctx); err != nil {
		return err
	}
	began := time.Now()
	for i := range rows {
		if !matches(o.only, rows[i].id) {
			t.leave(&rows[i], "left out of this run")
			continue
		}
		if o.until > 0 && time.Since(began) > o.until {
			t.leave(&rows[i], "the time set for this run was over")
			continue
		}
		t.measure(ctx, &rows[i])
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := t.write(); err != nil { // what is there counts, whatever comes
			return err
		}
	}
	return t.write()
}

func (t *table) write() error { return os.WriteFile(t.o.out, []byte(t.report.markdown()), 0o644) }

// leave notes a row that does not run.
func (t *table) leave(r *row, why string) {
	t.report.Rows = append(t.report.Rows, reportRow{ID: r.id, Title: r.title, Cells: []reportCell{{Name: "all", Skipped: why}}})
}

// measure runs one row on all peers in turn. What fails is noted, and the rest goes on.
func (t *table) measure(ctx context.Context, r *row) {
	out := reportRow{ID: r.id, Title: r.title, Full: r.kind == throughput}
	var running []int
	for i := range peers {
		p := &peers[i]
		if !matches(t.o.peers, p.id) {
			continue
		}
		c := reportCell{Peer: p.id, Name: p.name, Class: p.class, Skipped: r.skip(p, t.b)}
		out.Cells = append(out.Cells, c)
		if c.Skipped == "" {
			running = append(running, i)
		}
	}
	repetitions := t.o.repetitions
	if r.kind == soak {
		repetitions = 1
	}
	for n := range repetitions {
		for _, i := range order(running, n) {
			s := t.cell(ctx, r, &peers[i], n)
			if ctx.Err() != nil {
				return
			}
			log.Printf("%s, %s, %d of %d: %s", r.id, peers[i].name, n+1, repetitions, s.line())
			c := out.cell(peers[i].id)
			c.Samples = append(c.Samples, s)
		}
	}
	t.report.Rows = append(t.report.Rows, out)
}

// line is a sample in the log.
func (s *sample) line() string {
	if s.Failure != "" {
		return "FAILED: " + s.Failure
	}
	var parts []string
	for _, c := range columns {
		if v, ok := s.figure(c.name, c.unit); ok {
			parts = append(parts, c.head+" "+result.Number(v))
		}
	}
	return strings.Join(parts, ", ") + fmt.Sprintf(", CPU pressure %.0f %%, disturbed: %v", 100*max(0, s.Pressure), s.Disturbed)
}

// matches tells whether one of the patterns, separated by commas, is that of name.
func matches(patterns, name string) bool {
	return slices.ContainsFunc(strings.Split(patterns, ","), func(p string) bool {
		ok, err := path.Match(strings.TrimSpace(p), name)
		return ok && err == nil
	})
}
