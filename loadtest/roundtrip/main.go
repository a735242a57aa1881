// Roundtrip sends every line of every file of a folder (the Go standard library's source by default) through a Kafka broker
// and reads it back: byte for byte, in order per key, with consumer groups. Left alone it starts a Tidemark of its own
// (`tidemark dev` in a fresh folder), kills it at random while an idempotent producer writes, and at the end drains it,
// deletes its write-ahead log and reads everything once more from the object store and etcd alone.
//
//	go run ./loadtest/roundtrip
//	go run ./loadtest/roundtrip --config FILE                the same with `tidemark broker` on an external etcd and bucket
//	go run ./loadtest/roundtrip --bootstrap HOST:PORT        any broker; no kills, no drain
//
// The last line is `records N, lost 0, duplicated 0, reordered 0`; the exit status is 0 only if it says so.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/tidemarkmq/tidemark/loadtest/process"
)

type options struct {
	bootstrap  string
	files      string
	maxRecords int
	partitions []int
	kcat       bool
	kills      int
	members    int
	seed       uint64
	binary     string
	dataDir    string
	config     string
	brokerArgs []string
	verbose    bool
}

func main() {
	log.SetFlags(log.Ltime)
	o, err := parseOptions(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	total, err := run(ctx, o)
	stop()
	if err != nil {
		log.Print(err)
	}
	if total.firstFault != "" {
		log.Printf("first fault: %s", total.firstFault)
	}
	if total.damaged > 0 {
		log.Printf("damaged %d", total.damaged)
	}
	fmt.Printf("records %d, lost %d, duplicated %d, reordered %d\n", total.records, total.lost, total.duplicated, total.reordered)
	if err != nil || !total.clean() {
		os.Exit(1)
	}
}

func parseOptions(args []string) (options, error) {
	o := options{seed: uint64(time.Now().UnixNano())}
	fs := flag.NewFlagSet("roundtrip", flag.ContinueOnError)
	fs.StringVar(&o.bootstrap, "bootstrap", "", "HOST:PORT of a running broker; empty: start a Tidemark")
	fs.StringVar(&o.files, "files", "", "folder whose files' lines are the records; empty: the source of the Go standard library")
	fs.IntVar(&o.maxRecords, "max-records", 0, "at most this many records; 0: all")
	partitions := fs.String("partitions", "1,12,200", "topics are made with these partition counts")
	fs.BoolVar(&o.kcat, "kcat", true, "also produce through kcat, where it is installed")
	fs.IntVar(&o.kills, "kills", 10, "SIGKILLs while producing")
	fs.IntVar(&o.members, "members", 2, "consumers in each group")
	fs.Uint64Var(&o.seed, "seed", o.seed, "seed of the moments of the kills")
	fs.StringVar(&o.binary, "tidemark", "", "tidemark binary; empty: build it")
	fs.StringVar(&o.dataDir, "data-dir", "", "data folder of the Tidemark that is started; empty: a temporary one, removed at the end")
	fs.StringVar(&o.config, "config", "", "run `tidemark broker` with this configuration file, on the etcd and object store that it names; empty: `tidemark dev`")
	brokerArgs := fs.String("broker-args", "", "further arguments for the Tidemark that is started, separated by spaces")
	fs.BoolVar(&o.verbose, "v", false, "show the broker's log")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	o.brokerArgs = strings.Fields(*brokerArgs)
	for text := range strings.SplitSeq(*partitions, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return o, fmt.Errorf("partitions %q", text)
		}
		o.partitions = append(o.partitions, n)
	}
	if o.files == "" {
		root, err := exec.Command("go", "env", "GOROOT").Output()
		if err != nil {
			return o, fmt.Errorf("find the Go standard library (or say --files): %w", err)
		}
		o.files = filepath.Join(strings.TrimSpace(string(root)), "src")
	}
	if _, err := exec.LookPath("kcat"); err != nil && o.kcat {
		log.Print("kcat is not installed: its passes are left out")
		o.kcat = false
	}
	return o, nil
}

// trip is a run under way.
type trip struct {
	options
	corpus *corpus
	total  verdict
	broker *process.Broker // nil with an external broker
	topics []string
}

func run(ctx context.Context, o options) (verdict, error) {
	c, err := loadCorpus(o.files, o.maxRecords)
	if err != nil {
		return verdict{}, err
	}
	log.Printf("%d records of %d files, %d MB of lines; seed %d", c.records, len(c.files), c.bytes/1e6, o.seed)
	t := &trip{options: o, corpus: c}
	own := o.bootstrap == ""
	if own {
		cleanup, err := t.prepare(ctx)
		if err != nil {
			return verdict{}, err
		}
		defer cleanup()
	}
	for _, n := range o.partitions {
		if err := t.pass(ctx, "go", n); err != nil {
			return t.total, err
		}
		if o.kcat {
			if err := t.pass(ctx, "kcat", n); err != nil {
				return t.total, err
			}
		}
	}
	if !own {
		return t.total, nil
	}
	if o.kills > 0 {
		if err := t.killed(ctx); err != nil {
			return t.total, err
		}
	}
	return t.total, t.drained(ctx)
}

// prepare builds and starts a broker; the returned function ends it.
func (t *trip) prepare(ctx context.Context) (func(), error) {
	temp, err := os.MkdirTemp("", "tidemark-roundtrip-")
	if err != nil {
		return nil, err
	}
	if t.binary == "" {
		if t.binary, err = process.BuildTidemark(ctx, temp); err != nil {
			return nil, errors.Join(err, os.RemoveAll(temp))
		}
	}
	if t.dataDir == "" {
		t.dataDir = filepath.Join(temp, "data")
	}
	if err := t.start(ctx, "127.0.0.1:0"); err != nil {
		return nil, errors.Join(err, os.RemoveAll(temp))
	}
	return func() {
		t.broker.Kill()
		if err := os.RemoveAll(temp); err != nil {
			log.Print(err)
		}
	}, nil
}

func (t *trip) start(ctx context.Context, listen string) error {
	var logTo io.Writer
	if t.verbose {
		logTo = os.Stderr
	}
	began := time.Now()
	args := []string{"dev"}
	if t.config != "" {
		args = []string{"broker", "--config", t.config}
	}
	args = append(append(args, "--listeners", listen, "--admin-listener", "127.0.0.1:0", "--data-dir", t.dataDir), t.brokerArgs...)
	b, err := process.Start(ctx, logTo, t.binary, args...)
	if err != nil {
		return err
	}
	t.broker, t.bootstrap = b, b.Bootstrap
	log.Printf("broker %d ready after %d ms", b.PID(), time.Since(began).Milliseconds())
	return nil
}

// pass sends the corpus into a fresh topic and reads it back.
func (t *trip) pass(ctx context.Context, client string, partitions int) error {
	topic := fmt.Sprintf("roundtrip-%s-%d-%x", client, partitions, t.seed)
	if err := createTopic(ctx, t.bootstrap, topic, partitions); err != nil {
		return err
	}
	t.topics = append(t.topics, topic)
	began := time.Now()
	var err error
	if client == "kcat" {
		err = produceKcat(ctx, t.bootstrap, topic, t.corpus)
	} else {
		err = produce(ctx, t.bootstrap, topic, t.corpus, new(atomic.Int64))
	}
	if err != nil {
		return err
	}
	t.logRate("produced to "+topic, began)
	return t.read(ctx, topic, "read")
}

func (t *trip) read(ctx context.Context, topic, purpose string) error {
	began := time.Now()
	v, err := consume(ctx, t.bootstrap, topic, topic+"-"+purpose, t.members, t.corpus)
	t.total.plus(v)
	t.logRate(fmt.Sprintf("read %s (lost %d, duplicated %d, reordered %d)", topic, v.lost, v.duplicated, v.reordered), began)
	return err
}

func (t *trip) logRate(what string, began time.Time) {
	s := time.Since(began).Seconds()
	log.Printf("%s: %.1f s, %.0f records/s", what, s, float64(t.corpus.records)/s)
}

// killed produces while the broker is killed and started again, at moments spread at random over the corpus.
func (t *trip) killed(ctx context.Context) error {
	topic := fmt.Sprintf("roundtrip-killed-%x", t.seed)
	if err := createTopic(ctx, t.bootstrap, topic, 12); err != nil {
		return err
	}
	t.topics = append(t.topics, topic)
	var acked atomic.Int64
	produced := make(chan error, 1)
	go func() { produced <- produce(ctx, t.bootstrap, topic, t.corpus, &acked) }()
	random := rand.New(rand.NewPCG(t.seed, 1))
	began := time.Now()
	for n := range t.kills {
		// Somewhere in the nth part of the corpus, wherever the producer then is.
		share := (float64(n) + random.Float64()) / float64(t.kills+1)
		if err := waitAcked(ctx, &acked, int64(share*float64(t.corpus.records)), produced); err != nil {
			return err
		}
		t.broker.Kill()
		if err := t.start(ctx, t.bootstrap); err != nil {
			return err
		}
	}
	if err := <-produced; err != nil {
		return err
	}
	t.logRate(fmt.Sprintf("produced to %s through %d kills", topic, t.kills), began)
	return t.read(ctx, topic, "read")
}

func waitAcked(ctx context.Context, acked *atomic.Int64, want int64, produced chan error) error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for acked.Load() < want {
		select {
		case <-tick.C:
		case err := <-produced:
			produced <- err
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// drained stops the broker in order, deletes its write-ahead log and reads every topic again.
func (t *trip) drained(ctx context.Context) error {
	if err := t.broker.Stop(); err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(t.dataDir, "wal")); err != nil {
		return err
	}
	if err := t.start(ctx, t.bootstrap); err != nil {
		return err
	}
	for _, topic := range t.topics {
		if err := t.read(ctx, topic, "replay"); err != nil {
			return err
		}
	}
	return nil
}
