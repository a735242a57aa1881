package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"runtime"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemarkmq/tidemark/loadtest/bench/machine"
	"github.com/tidemarkmq/tidemark/loadtest/process"
)

const (
	anyPort      = "127.0.0.1:0"
	lookEvery    = 250 * time.Millisecond // how often a broker is asked whether all is in the store; each look costs it about a millisecond
	quietWait    = 3 * time.Minute
	adminTimeout = time.Minute
	topic        = "curve"
)

// server is a broker that belongs to one measurement.
type server struct {
	*process.Broker
	admin string
	began time.Time
}

// adminLine finds the admin listener in the broker's log line that says that it is ready.
var adminLine = regexp.MustCompile(`msg=ready .*\badmin=(\S+)`)

// finder is a writer that waits for the admin listener's address.
type finder struct {
	mu    sync.Mutex
	part  []byte
	found chan string
}

func (f *finder) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.part = append(f.part, p...)
	for {
		line, rest, ok := bytes.Cut(f.part, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		if m := adminLine.FindSubmatch(line); m != nil {
			select {
			case f.found <- string(m[1]):
			default:
			}
		}
		f.part = rest
	}
}

// start starts a broker on the folder's data; more are flags beyond the defaults.
func start(ctx context.Context, bin, dir string, more ...string) (*server, error) {
	f := &finder{found: make(chan string, 1)}
	s := &server{began: time.Now()}
	args := append([]string{"dev", "--listen", anyPort, "--admin-listener", anyPort, "--log-level", "info", "--data-dir", filepath.Join(dir, "tidemark")}, more...)
	var err error
	if s.Broker, err = process.Start(ctx, f, bin, args...); err != nil {
		return nil, err
	}
	select {
	case s.admin = <-f.found:
		return s, nil
	case <-time.After(10 * time.Second):
		err = errors.New("the broker's log does not name its admin listener")
	case <-ctx.Done():
		err = ctx.Err()
	}
	s.Kill()
	return nil, err
}

// reading is the state of broker and machine at one time.
type reading struct {
	at      time.Time
	machine machine.Sample
	metrics metrics
}

func (s *server) read(ctx context.Context) (r reading, err error) {
	if r.metrics, err = scrape(ctx, s.admin); err != nil {
		return r, err
	}
	r.machine, err = machine.Take([]int{s.PID()})
	r.at = time.Now()
	return r, err
}

// between is what happened from one reading to another.
type between struct {
	seconds float64
	use     machine.Report
	delta   func(func(metrics) float64) float64
}

func since(a, b reading) between {
	wall := b.at.Sub(a.at)
	return between{wall.Seconds(), machine.Between(a.machine, b.machine, wall, runtime.NumCPU(), true),
		func(of func(metrics) float64) float64 { return of(b.metrics) - of(a.metrics) }}
}

// await reads until done says that the broker has got that far.
func (s *server) await(ctx context.Context, what string, done func(metrics) bool) (reading, error) {
	for began := time.Now(); ; {
		r, err := s.read(ctx)
		if err != nil || done(r.metrics) {
			return r, err
		}
		if time.Since(began) > quietWait {
			return r, fmt.Errorf("%s took longer than %v", what, quietWait)
		}
		select {
		case <-time.After(lookEvery):
		case <-s.Done():
			return r, fmt.Errorf("the broker ended\n%s", s.Log())
		case <-ctx.Done():
			return r, ctx.Err()
		}
	}
}

// moved waits until everything acknowledged is in committed objects.
func (s *server) moved(ctx context.Context) (reading, error) {
	return s.await(ctx, "moving everything to the store", func(m metrics) bool { return m.lag() == 0 })
}

// client calls fn with a client for administration.
func (s *server) client(fn func(*kadm.Client) error) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.Bootstrap))
	if err != nil {
		return err
	}
	defer cl.Close()
	admin := kadm.NewClient(cl)
	admin.SetTimeoutMillis(int32(adminTimeout.Milliseconds()))
	return fn(admin)
}

// create makes the topic and waits until each partition has a leader that answers.
func (s *server) create(ctx context.Context, partitions int) error {
	return s.client(func(admin *kadm.Client) error {
		if _, err := admin.CreateTopic(ctx, int32(partitions), 1, nil, topic); err != nil {
			return fmt.Errorf("create %d partitions: %w", partitions, err)
		}
		for began := time.Now(); ; {
			listed, err := admin.ListEndOffsets(ctx, topic)
			if err == nil {
				err = listed.Error()
			}
			if err == nil && len(listed[topic]) == partitions {
				return nil
			}
			if time.Since(began) > adminTimeout {
				return fmt.Errorf("%d of %d partitions answer: %w", len(listed[topic]), partitions, err)
			}
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})
}

// ends is the sum of the partitions' end offsets; nothing deletes records, so it is how many there are.
func (s *server) ends(ctx context.Context) (sum int64, err error) {
	err = s.client(func(admin *kadm.Client) error {
		listed, err := admin.ListEndOffsets(ctx, topic)
		if err == nil {
			err = listed.Error()
		}
		listed.Each(func(l kadm.ListedOffset) { sum += l.Offset })
		return err
	})
	return sum, err
}
