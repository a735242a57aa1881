// Peers measures Tidemark beside its peers on this machine: every workload of the table on the null broker, Tidemark on a folder and on
// MinIO, and Apache Kafka with its defaults and with a flush for each message. Each run has a fresh broker; sides run A B C, C B A.
//
//	go run ./loadtest/peers --raw FOLDER --repetitions 1 --each 10s --for 75m     # as much as fits, the most important first
//	go run ./loadtest/peers --raw FOLDER --repetitions 1 --each 10s --resume      # what is missing
//	go run ./loadtest/peers --raw FOLDER,ANOTHER --report-only                    # the report of several runs
//
// It needs Java and Maven for Kafka's jars, which are kept in $TIDEMARK_TOOLS (default: ~/.cache/tidemark-tools). Slow syncs need strace,
// which must be allowed to trace its own children (the default where /proc/sys/kernel/yama/ptrace_scope is below 3).
package main

import (
	"context"
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
)

type options struct {
	out, raw, dir, only, peers, remark string
	repetitions, retries               int
	each, soak, window                 time.Duration
	quick, resume, reportOnly          bool
	planOnly, every                    bool
	maxDisk, coldBytes                 int64
	limit                              time.Duration
	references                         references
}

// folders of raw results; the first one is written to.
func (o *options) folders() []string {
	return slices.DeleteFunc(strings.Split(o.raw, ","), func(s string) bool { return s == "" })
}

// warmup is the least time of one. Only a JVM needs one beside windows that agree.
func (o *options) warmup(jvm bool) time.Duration {
	switch {
	case o.quick && jvm:
		return 8 * time.Second
	case o.quick:
		return 2 * time.Second
	case jvm:
		return time.Minute
	}
	return 0
}

func (o *options) settings(jvm bool) settings {
	return settings{Each: o.each, Warmup: o.warmup(jvm), Quick: o.quick}
}

func parse() *options {
	var o options
	flag.StringVar(&o.out, "out", "loadtest/RESULTS.md", "`file` for the report")
	flag.StringVar(&o.raw, "raw", "", "`folder` for each finished cell as JSON, and each load test's own result; others after commas are only reported; empty: nothing is kept")
	flag.StringVar(&o.dir, "dir", "", "`folder` for data; empty: a temporary one")
	flag.StringVar(&o.only, "rows", "*", "rows to run, by number, with wildcards: '1-*,4-20k'")
	flag.StringVar(&o.peers, "peers", "*", "peers to run: null, tidemark, tidemark-minio, kafka, kafka-flush; references always run")
	flag.Var(&o.references, "reference", "`NAME=COMMAND` of a program to run beside in rows "+strings.Join(referenceRows, ", ")+", with {listen}, {port}, {partitions}, {dir}; it has a topic named bench; goals know one named "+prototypePeer)
	flag.StringVar(&o.remark, "remark", "", "something to say about the run in the report")
	flag.IntVar(&o.repetitions, "repetitions", 5, "runs of each cell")
	flag.IntVar(&o.retries, "retries", 2, "times that a disturbed run is repeated")
	flag.DurationVar(&o.each, "each", 20*time.Second, "length of a measurement; at full speed it is shortened to what 8 GiB take")
	flag.DurationVar(&o.soak, "soak", 20*time.Minute, "length of the soak, which runs once")
	flag.DurationVar(&o.limit, "for", 0, "time for everything: a row that would not fit any more is left out and said to be missing; 0: no limit")
	flag.BoolVar(&o.resume, "resume", false, "continue in a folder that has cells: those that are there and did not fail are not run again")
	flag.BoolVar(&o.reportOnly, "report-only", false, "measure nothing, write the report of what the folders hold")
	flag.BoolVar(&o.planOnly, "plan", false, "measure nothing, print what would run and how long it takes")
	flag.BoolVar(&o.every, "every", false, "run the peers also in rows where they are left out because they say nothing new there")
	flag.BoolVar(&o.quick, "quick", false, "one repetition of short runs with short warm-ups, for development: figures that mean little")
	flag.Int64Var(&o.maxDisk, "max-disk", 32<<30, "bytes of the disk that a run may use")
	flag.Int64Var(&o.coldBytes, "cold-bytes", 4<<30, "bytes that a catch-up reads")
	flag.Parse()
	o.window = 5 * time.Second
	if o.quick {
		o.repetitions, o.retries, o.each, o.window, o.coldBytes = 1, 0, min(o.each, 4*time.Second), 2*time.Second, min(o.coldBytes, 1<<30)
		o.soak = min(o.soak, time.Minute)
	}
	return &o
}

func main() {
	log.SetFlags(log.Ltime)
	o := parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		stop()
		log.Fatal(err)
	}
}

func (o *options) check() error {
	if o.repetitions < 1 || o.repetitions > 100 {
		return fmt.Errorf("--repetitions: %d is not within 1 and 100", o.repetitions)
	}
	if (o.resume || o.reportOnly) && len(o.folders()) == 0 {
		return fmt.Errorf("--resume and --report-only need --raw")
	}
	return nil
}

// matches tells whether one of the patterns, separated by commas, is that of name.
func matches(patterns, name string) bool {
	return slices.ContainsFunc(strings.Split(patterns, ","), func(p string) bool {
		ok, err := path.Match(strings.TrimSpace(p), name)
		return ok && err == nil
	})
}
