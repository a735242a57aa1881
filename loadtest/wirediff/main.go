// Command wirediff sends one randomised sequence of requests to Apache Kafka and to Tidemark, both started beside each other, and
// compares their answers field by field. A sequence follows from its seed. Differences that are meant are listed with their reasons
// in WIREDIFF.md; any other makes it fail.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/tidemarkmq/tidemark/loadtest/process"
)

type options struct {
	seeds    []uint64
	steps    int
	only     string
	binary   string
	kafka    string
	shrink   bool
	verbose  bool
	deadline time.Duration
}

func main() {
	var o options
	seeds := flag.String("seed", "today", "seeds, between commas; `today` is a new one each day")
	flag.IntVar(&o.steps, "steps", 400, "requests of each seed's sequence")
	flag.StringVar(&o.only, "only", "", "draw only this `API` (and CreateTopics)")
	flag.StringVar(&o.binary, "tidemark", "", "path of the broker (default: built from this module)")
	flag.StringVar(&o.kafka, "kafka", "", "HOST:PORT of an Apache Kafka that runs already (default: one is started)")
	flag.BoolVar(&o.shrink, "shrink", true, "look for a short sequence that shows each difference")
	flag.BoolVar(&o.verbose, "v", false, "print every step")
	flag.DurationVar(&o.deadline, "for", 10*time.Minute, "draw no further step after this time")
	flag.Parse()
	for _, word := range strings.Split(*seeds, ",") {
		if word == "today" {
			word = time.Now().UTC().Format("20060102")
		}
		seed, err := strconv.ParseUint(word, 10, 64)
		if err != nil {
			fmt.Fprintln(os.Stderr, "wirediff: --seed:", err)
			os.Exit(2)
		}
		o.seeds = append(o.seeds, seed)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "wirediff:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	dir, err := os.MkdirTemp("", "wirediff-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }() // what is left is in the temporary folder
	var brokers []*process.Broker
	defer func() {
		for _, b := range brokers {
			b.Kill()
		}
	}()
	if o.kafka == "" {
		b, err := startKafka(ctx, dir)
		if err != nil {
			return err
		}
		brokers = append(brokers, b)
		o.kafka = b.Bootstrap
	}
	b, err := startTidemark(ctx, o.binary, dir)
	if err != nil {
		return err
	}
	brokers = append(brokers, b)
	p := &pair{kafka: newSide("Kafka", o.kafka), tidemark: newSide("Tidemark", b.Bootstrap)}
	if err := errors.Join(learnVersions(p.kafka), learnVersions(p.tidemark), p.kafka.warm(), p.tidemark.warm()); err != nil {
		return err
	}
	found := 0
	began := time.Now()
	for _, seed := range o.seeds {
		n, err := p.sequence(ctx, o, seed, began.Add(o.deadline))
		if err != nil {
			return err
		}
		found += n
	}
	select {
	case <-b.Done():
		return fmt.Errorf("the broker ended\n%s", b.Log())
	default:
	}
	if found > 0 {
		return fmt.Errorf("%d kinds of differences", found)
	}
	return nil
}
