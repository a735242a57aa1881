// Speed measures a Tidemark against a broker that does nothing, on this machine, in one run: throughput of one producer
// connection (1 KiB records, 1 MiB batches, acks=all, every record synced), latency at a paced 1,000 records/s, CPU time per
// GB, reading from memory and from the object store, and what 10,000 partitions cost.
//
//	go run ./loadtest/speed
//
// Ratios within a run are solid; absolute figures depend on the machine and on what else it does.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/tidemarkmq/tidemark/loadtest/disk"
	"github.com/tidemarkmq/tidemark/loadtest/process"
)

type options struct {
	binary     string
	rounds     int
	each       time.Duration
	hotBytes   int64
	coldBytes  int64
	partitions int
	dir        string
	only       string
	brokerArgs []string
}

func main() {
	log.SetFlags(log.Ltime)
	var o options
	flag.StringVar(&o.binary, "tidemark", "", "tidemark binary; empty: build it")
	flag.IntVar(&o.rounds, "rounds", 3, "rounds of the throughput comparison, in turn")
	flag.DurationVar(&o.each, "each", 8*time.Second, "length of each throughput measurement")
	flag.Int64Var(&o.hotBytes, "hot-bytes", 64<<20, "bytes read again and again from memory")
	flag.Int64Var(&o.coldBytes, "cold-bytes", 4<<30, "bytes read from the object store")
	flag.IntVar(&o.partitions, "partitions", 10_000, "partitions of the idle measurement")
	flag.StringVar(&o.dir, "dir", "", "folder for data; empty: a temporary one")
	flag.StringVar(&o.only, "only", "produce,paced,consume,idle", "parts to run")
	brokerArgs := flag.String("broker-args", "", "further arguments for `tidemark dev`")
	flag.Parse()
	o.brokerArgs = strings.Fields(*brokerArgs)
	if err := run(context.Background(), o); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, o options) error {
	dir, err := os.MkdirTemp(o.dir, "tidemark-speed-")
	if err != nil {
		return err
	}
	defer func() {
		if err := os.RemoveAll(dir); err != nil {
			log.Print(err)
		}
	}()
	if o.binary == "" {
		if o.binary, err = process.BuildTidemark(ctx, dir); err != nil {
			return err
		}
	}
	null := filepath.Join(dir, "nullbroker")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", null, "github.com/tidemarkmq/tidemark/loadtest/nullbroker").CombinedOutput(); err != nil {
		return fmt.Errorf("build null broker: %w\n%s", err, out)
	}
	s := &suite{options: o, dir: dir, null: null}
	parts := map[string]func(context.Context) error{"produce": s.produce, "paced": s.paced, "consume": s.consume, "idle": s.idle}
	for name := range strings.SplitSeq(o.only, ",") {
		part, ok := parts[name]
		if !ok {
			return fmt.Errorf("no part %q", name)
		}
		if err := part(ctx); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

type suite struct {
	options
	dir, null string
	data      int
}

// fresh returns a data folder that nothing has used.
func (s *suite) fresh() string {
	s.data++
	return filepath.Join(s.dir, fmt.Sprintf("data-%d", s.data))
}

func (s *suite) tidemark(ctx context.Context, data string) (*process.Broker, error) {
	args := append([]string{"dev", "--listen", "127.0.0.1:0", "--data-dir", data}, s.brokerArgs...)
	return process.Start(ctx, nil, s.binary, args...)
}

// sample is one throughput measurement.
type sample struct{ mbPerSecond, cpuPerGB float64 }

func measure(b *process.Broker, work func() (int64, time.Duration, error)) (sample, error) {
	before, err := b.Usage()
	if err != nil {
		return sample{}, err
	}
	n, took, err := work()
	if err != nil {
		return sample{}, fmt.Errorf("%w\n%s", err, b.Log())
	}
	after, err := b.Usage()
	if err != nil {
		return sample{}, err
	}
	gb := float64(n) / 1e9
	return sample{gb * 1e3 / took.Seconds(), (after.CPU - before.CPU).Seconds() / gb}, nil
}

// spread says median, least and most of a figure.
func spread(samples []sample, figure func(sample) float64) string {
	v := make([]float64, 0, len(samples))
	for _, s := range samples {
		v = append(v, figure(s))
	}
	slices.Sort(v)
	return fmt.Sprintf("%.2f (%.2f to %.2f)", v[len(v)/2], v[0], v[len(v)-1])
}

func rate(s sample) float64 { return s.mbPerSecond }
func cpu(s sample) float64  { return s.cpuPerGB }

// produce says what the disk allows, then compares the null broker and Tidemark in turn: one producer connection as fast as it goes.
func (s *suite) produce(ctx context.Context) error {
	if log, object, err := disk.Ceiling(s.dir, s.each/4); errors.Is(err, errors.ErrUnsupported) {
		fmt.Println("disk: its ceiling cannot be measured here")
	} else if err != nil {
		return err
	} else {
		fmt.Printf("disk: overwrites with O_DSYNC %.0f MB/s, new files %.0f MB/s; a broker that writes each byte to a log and to an object gets at most %.0f MB/s\n",
			log, object, 1/(1/log+1/object))
	}
	for _, partitions := range []int{1, 12} {
		var null, ours, ratios []sample
		for range s.rounds {
			n, err := s.produceOnce(ctx, partitions, false, func() (*process.Broker, error) {
				return process.Start(ctx, nil, s.null, "--listen", "127.0.0.1:0", "--partitions", fmt.Sprint(partitions))
			})
			if err != nil {
				return err
			}
			data := s.fresh()
			t, err := s.produceOnce(ctx, partitions, true, func() (*process.Broker, error) { return s.tidemark(ctx, data) })
			// Some ten gigabytes each.
			if err = errors.Join(err, os.RemoveAll(data)); err != nil {
				return err
			}
			null, ours = append(null, n), append(ours, t)
			ratios = append(ratios, sample{mbPerSecond: t.mbPerSecond / n.mbPerSecond})
		}
		fmt.Printf("produce, %d partitions: null broker %s MB/s, server CPU %s s/GB\n", partitions, spread(null, rate), spread(null, cpu))
		fmt.Printf("produce, %d partitions: tidemark    %s MB/s, server CPU %s s/GB (goal 1.00)\n", partitions, spread(ours, rate), spread(ours, cpu))
		fmt.Printf("produce, %d partitions: ratio %s (goal 0.60)\n", partitions, spread(ratios, rate))
	}
	return nil
}

// produceOnce measures one fresh broker. The null broker has every topic already.
func (s *suite) produceOnce(ctx context.Context, partitions int, create bool, start func() (*process.Broker, error)) (sample, error) {
	b, err := start()
	if err != nil {
		return sample{}, err
	}
	defer b.Kill()
	const topic = "bench"
	if create {
		if err := createTopic(ctx, b.Bootstrap, topic, partitions); err != nil {
			return sample{}, err
		}
	}
	if _, _, err := produceMax(ctx, b.Bootstrap, topic, s.each/4, 0); err != nil { // warm-up
		return sample{}, fmt.Errorf("%w\n%s", err, b.Log())
	}
	return measure(b, func() (int64, time.Duration, error) { return produceMax(ctx, b.Bootstrap, topic, s.each, 0) })
}

// paced measures acknowledgements at 1,000 records/s beside the disk's own sync latency.
func (s *suite) paced(ctx context.Context) error {
	sync, err := disk.SyncLatency(s.dir)
	if err != nil {
		return err
	}
	b, err := s.tidemark(ctx, s.fresh())
	if err != nil {
		return err
	}
	defer b.Kill()
	if err := createTopic(ctx, b.Bootstrap, "bench", 1); err != nil {
		return err
	}
	h, err := paced(ctx, b.Bootstrap, "bench", 1000, 2*s.each)
	if err != nil {
		return err
	}
	ms := func(q float64) float64 { return float64(h.ValueAtQuantile(q)) / 1e3 }
	fmt.Printf("disk: write of 4 KiB and fdatasync p50 %.3f ms\n", sync.Seconds()*1e3)
	fmt.Printf("paced 1000 records/s: ack p50 %.2f ms (goal 1), p99 %.2f ms (goal 5), p99.9 %.2f ms, max %.2f ms\n", ms(50), ms(99), ms(99.9), ms(100))
	return nil
}

// consume measures reading from memory, then reading more than memory holds from the object store.
func (s *suite) consume(ctx context.Context) error {
	data := s.fresh()
	b, err := s.tidemark(ctx, data)
	if err != nil {
		return err
	}
	defer func() { b.Kill() }()
	for _, topic := range []string{"hot", "cold"} {
		if err := createTopic(ctx, b.Bootstrap, topic, 4); err != nil {
			return err
		}
	}
	if _, _, err := produceMax(ctx, b.Bootstrap, "hot", 0, s.hotBytes); err != nil {
		return err
	}
	var hot []sample
	for range s.rounds {
		got, err := measure(b, func() (int64, time.Duration, error) {
			var sum time.Duration
			times := max(1, (1<<30)/s.hotBytes)
			for range times {
				d, err := consumeAll(ctx, b.Bootstrap, "hot", s.hotBytes)
				if err != nil {
					return 0, 0, err
				}
				sum += d
			}
			return times * s.hotBytes, sum, nil
		})
		if err != nil {
			return err
		}
		hot = append(hot, got)
	}
	if _, _, err := produceMax(ctx, b.Bootstrap, "cold", 0, s.coldBytes); err != nil {
		return err
	}
	if err := b.Stop(); err != nil {
		return err
	}
	var cold []sample
	for range s.rounds {
		if b, err = s.tidemark(ctx, data); err != nil { // a fresh process: nothing of it is in memory
			return err
		}
		got, err := measure(b, func() (int64, time.Duration, error) {
			d, err := consumeAll(ctx, b.Bootstrap, "cold", s.coldBytes)
			return s.coldBytes, d, err
		})
		if err = errors.Join(err, b.Stop()); err != nil {
			return err
		}
		cold = append(cold, got)
	}
	fmt.Printf("consume hot: %s MB/s, server CPU %s s/GB (goal 0.60)\n", spread(hot, rate), spread(hot, cpu))
	fmt.Printf("catch-up from the directory store: %s MB/s, server CPU %s s/GB\n", spread(cold, rate), spread(cold, cpu))
	ratio := func(v []sample) float64 {
		slices.SortFunc(v, func(a, b sample) int { return int(a.mbPerSecond - b.mbPerSecond) })
		return v[len(v)/2].mbPerSecond
	}
	fmt.Printf("catch-up / hot: %.2f (goal 0.60)\n", ratio(cold)/ratio(hot))
	return nil
}

// idle measures a broker with many partitions and nothing to do.
func (s *suite) idle(ctx context.Context) error {
	data := s.fresh()
	b, err := s.tidemark(ctx, data)
	if err != nil {
		return err
	}
	defer func() { b.Kill() }()
	began := time.Now()
	if err := createTopic(ctx, b.Bootstrap, "many", s.partitions); err != nil {
		return err
	}
	created := time.Since(began)
	b.Kill()
	began = time.Now()
	if b, err = s.tidemark(ctx, data); err != nil {
		return err
	}
	started := time.Since(began)
	time.Sleep(5 * time.Second) // what a start leaves behind must not count as idle
	before, err := b.Usage()
	if err != nil {
		return err
	}
	const watch = 20 * time.Second
	time.Sleep(watch)
	after, err := b.Usage()
	if err != nil {
		return err
	}
	fmt.Printf("%d partitions: created in %.1f s, started after SIGKILL in %.2f s (goal 5), idle memory %d MB (goal 500), idle CPU %.1f %% of a core (goal 5)\n",
		s.partitions, created.Seconds(), started.Seconds(), after.RSSBytes/1e6, 100*(after.CPU-before.CPU).Seconds()/watch.Seconds())
	return nil
}
