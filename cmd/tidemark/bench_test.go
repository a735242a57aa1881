package main

import (
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tidemarkmq/tidemark/broker"
	"github.com/tidemarkmq/tidemark/loadtest/bench"
	"github.com/tidemarkmq/tidemark/loadtest/bench/result"
	"github.com/tidemarkmq/tidemark/loadtest/bench/spec"
)

// devBroker runs what `tidemark dev` runs and returns its address.
func devBroker(t *testing.T) string {
	t.Helper()
	c := broker.Default()
	c.NodeID, c.Durability, c.Etcd.Embedded, c.DataDir = 1, "local", true, t.TempDir()
	c.Listeners, c.AdminListener = []string{"127.0.0.1:0"}, "127.0.0.1:0"
	c.ObjectStore.URL = "file://" + filepath.ToSlash(filepath.Join(c.DataDir, "objects"))
	c.Kafka["group.initial.rebalance.delay.ms"] = "0"
	b, err := broker.New(c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan string, 1), make(chan error, 1)
	go func() { done <- b.Run(ctx, func(i broker.Info) { ready <- i.Bootstrap }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	select {
	case address := <-ready:
		return address
	case err := <-done:
		done <- err
		t.Fatal(err)
	}
	return ""
}

// Each record of each run is read again and checked, whatever way it went.
func TestBenchOnABroker(t *testing.T) {
	address := devBroker(t)
	for name, set := range map[string]func(*spec.Spec){
		"paced, end to end": func(s *spec.Spec) { s.Rate, s.Fanout, s.Linger = 1000, 1, 0 },
		"raw, read back":    func(s *spec.Spec) { s.Client, s.Rate, s.BatchBytes = spec.ClientRaw, 20_000, 64<<10 },
		"zstd in a group":   func(s *spec.Spec) { s.Compression, s.Rate, s.Fanout, s.Consumers, s.Group = "zstd", 5000, 2, 2, true },
		"catch-up": func(s *spec.Spec) {
			s.Producers, s.Fanout, s.Read, s.PrefillBytes, s.Duration = 0, 1, spec.ReadOnce, 20<<20, time.Hour
		},
		"raw, in a loop": func(s *spec.Spec) {
			s.Client, s.Producers, s.Fanout, s.Read, s.PrefillBytes = spec.ClientRaw, 0, 1, spec.ReadLoop, 4<<20
		},
		"in a loop":           func(s *spec.Spec) { s.Producers, s.Fanout, s.Read, s.PrefillBytes = 0, 1, spec.ReadLoop, 4<<20 },
		"without idempotence": func(s *spec.Spec) { s.Acks, s.Idempotent, s.Rate, s.Fanout = "1", false, 1000, 1 },
	} {
		t.Run(name, func(t *testing.T) {
			s := spec.Default()
			s.Bootstrap, s.Duration, s.Warmup, s.Partitions = []string{address}, time.Second, "0s", 4
			set(&s)
			res, err := bench.Run(t.Context(), s, bench.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if !res.Verified.OK || res.Verified.Read.Records == 0 || res.Verified.Read.Lost != 0 {
				t.Errorf("%+v", res.Verified)
			}
			if l := res.Latency[result.EndToEnd]; s.Fanout > 0 && s.Read == spec.ReadTail && l.Count == 0 {
				t.Error("no end-to-end latency")
			}
		})
	}
}

func TestBenchList(t *testing.T) {
	var b strings.Builder
	if err := listWorkloads(&b, nil); err != nil {
		t.Fatal(err)
	}
	for _, p := range spec.Presets {
		if !strings.Contains(b.String(), p.Name) {
			t.Errorf("%s is not listed", p.Name)
		}
	}
}

func TestCompareTellsFilesFromSides(t *testing.T) {
	for args, want := range map[string]int{"a.json b.json": 2, "--json c.json a.json b.json": 2, "--a x:1 --b y:2": 0, "--a=x:1 --b=y:2 --runs 3": 0, "a.json": 0} {
		if got := resultFiles(strings.Fields(args)); len(got) != want {
			t.Errorf("%q: %v", args, got)
		}
	}
}
