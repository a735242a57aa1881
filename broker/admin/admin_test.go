package admin

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/metric"
)

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestServe(t *testing.T) {
	metrics, err := NewMetrics()
	if err != nil {
		t.Fatal(err)
	}
	produced, err := metrics.Meter().Int64Counter("tidemark.test.bytes", metric.WithUnit("By"), metric.WithDescription("d"))
	if err != nil {
		t.Fatal(err)
	}
	produced.Add(context.Background(), 42)
	var ready Readiness
	ready.Unmet("etcd", "no leader")
	ready.Unmet("drain", "2 streams left")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- Serve(ctx, l, Options{Metrics: metrics, Readiness: &ready, Logger: slog.New(slog.DiscardHandler)})
	}()
	base := "http://" + l.Addr().String()

	if status, _ := get(t, base+"/livez"); status != http.StatusOK {
		t.Errorf("livez: %d", status)
	}
	if status, body := get(t, base+"/readyz"); status != http.StatusServiceUnavailable || body != "drain: 2 streams left\netcd: no leader\n" {
		t.Errorf("readyz: %d %q", status, body)
	}
	ready.Met("etcd")
	ready.Met("drain")
	if status, body := get(t, base+"/readyz"); status != http.StatusOK {
		t.Errorf("readyz: %d %q", status, body)
	}
	if _, body := get(t, base+"/metrics"); !strings.Contains(body, "tidemark_test_bytes_total 42") || !strings.Contains(body, "go_goroutines") {
		t.Errorf("metrics: %s", body)
	}
	if status, _ := get(t, base+"/other"); status != http.StatusNotFound {
		t.Errorf("other: %d", status)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestNoLogger: nil discards, as everywhere.
func TestNoLogger(t *testing.T) {
	metrics, err := NewMetrics()
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := Serve(ctx, l, Options{Metrics: metrics, Readiness: &Readiness{}}); err != nil {
		t.Error(err)
	}
	Handler(Options{Metrics: metrics, Readiness: &Readiness{}})
}
