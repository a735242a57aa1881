package bench

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/tidemarkmq/tidemark/loadtest/bench/result"
	"github.com/tidemarkmq/tidemark/loadtest/bench/spec"
	"github.com/tidemarkmq/tidemark/loadtest/nullbroker/null"
)

func nullBroker(t *testing.T) (*null.Broker, string) {
	t.Helper()
	b, err := null.New(null.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return b, ln.Addr().String()
}

// The null broker acknowledges everything: what the client counts must be what arrived there.
func TestLoadOnTheNullBroker(t *testing.T) {
	for name, set := range map[string]func(*spec.Spec){
		"full speed":     func(s *spec.Spec) { s.Producers = 2 },
		"raw":            func(s *spec.Spec) { s.Client, s.BatchBytes = spec.ClientRaw, 64<<10 },
		"raw, no acks":   func(s *spec.Spec) { s.Client, s.Acks, s.Idempotent, s.BatchBytes = spec.ClientRaw, "0", false, 64<<10 },
		"paced":          func(s *spec.Spec) { s.Producers, s.Rate, s.Linger = 20, 2000, 0 },
		"raw, paced":     func(s *spec.Spec) { s.Client, s.Rate, s.BatchBytes = spec.ClientRaw, 2000, 1500 },
		"keys and sizes": func(s *spec.Spec) { s.Keys, s.RecordSize, s.Compression = 100, "uniform:30-2000", "zstd" },
		"a count":        func(s *spec.Spec) { s.Records, s.Rate, s.Duration = 300, 1000, time.Hour },
		"consume":        func(s *spec.Spec) { s.Producers, s.Fanout, s.Consumers, s.Read = 0, 2, 2, spec.ReadLoop },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, addr := nullBroker(t)
			s := spec.Default()
			s.Bootstrap, s.Duration, s.Warmup, s.Buffered, s.KeepTopic = []string{addr}, time.Second, "200ms", 1000, true
			set(&s)
			phases := map[string]bool{}
			res, err := Run(t.Context(), s, Options{Progress: func(p Progress) { phases[p.Phase] = true }})
			if err != nil {
				t.Fatal(err)
			}
			if !res.Verified.OK || !phases["measure"] || !phases["drain"] || len(res.Series) == 0 || len(res.Table()) == 0 {
				t.Errorf("%+v, phases %v", res.Verified, phases)
			}
			if s.Producers > 0 && (res.Produced.Records == 0 || res.Latency[result.Ack].Count == 0) || s.Fanout > 0 && res.Consumed.Records == 0 {
				t.Errorf("nothing was measured: %+v", res)
			}
			// What was due within the second, whenever it was acknowledged, and nothing else.
			if n := res.Latency[result.Ack].Count; s.Rate == 2000 && (n < 1990 || n > 2010) {
				t.Errorf("%d latencies of 2,000 records/s for a second", n)
			}
		})
	}
}

func TestUnfitBrokers(t *testing.T) {
	_, addr := nullBroker(t)
	s := spec.Default()
	s.Bootstrap, s.TxnRecords = []string{addr}, 10
	if _, err := Run(t.Context(), s, Options{}); err == nil || !strings.Contains(err.Error(), "no transactions") {
		t.Errorf("transactions: %v", err)
	}
	s = spec.Default()
	s.Bootstrap = []string{"127.0.0.1:1"}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := Run(ctx, s, Options{}); err == nil {
		t.Error("a broker that is not there")
	}
}

// Kafka's own producer puts these keys there; the values are of its hash.
func TestMurmur2(t *testing.T) {
	for key, want := range map[string]int32{"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536, "a-little-bit-longer-string": -1486304829, "abc": 479470107} {
		if got := int32(murmur2([]byte(key))); got != want {
			t.Errorf("%q: %d, want %d", key, got, want)
		}
	}
}
