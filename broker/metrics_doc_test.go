package broker

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
)

var update = flag.Bool("update", false, "write deploy/METRICS.md anew")

const metricsPage = "../deploy/METRICS.md"

const metricsHead = `# Metrics

OpenTelemetry instruments of a broker, read in Prometheus' text format at /metrics of the admin listener: there dots are
underscores, counters end in _total and units are part of the name (By: bytes, s: seconds). This page is written by
` + "`go test ./broker -run TestMetricsPage -update`" + ` and checked by the same test.

| instrument | kind | unit | meaning |
| --- | --- | --- | --- |
`

// recordingMeter notes every instrument that is made with it.
type recordingMeter struct {
	noop.Meter
	mu   sync.Mutex
	rows map[string]string
}

func (m *recordingMeter) note(name, kind, unit, description string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rows[name] = fmt.Sprintf("| %s | %s | %s | %s |\n", name, kind, unit, description)
}

func (m *recordingMeter) Int64Counter(name string, o ...metric.Int64CounterOption) (metric.Int64Counter, error) {
	c := metric.NewInt64CounterConfig(o...)
	m.note(name, "counter", c.Unit(), c.Description())
	return m.Meter.Int64Counter(name, o...)
}

func (m *recordingMeter) Int64UpDownCounter(name string, o ...metric.Int64UpDownCounterOption) (metric.Int64UpDownCounter, error) {
	c := metric.NewInt64UpDownCounterConfig(o...)
	m.note(name, "gauge", c.Unit(), c.Description())
	return m.Meter.Int64UpDownCounter(name, o...)
}

func (m *recordingMeter) Int64Gauge(name string, o ...metric.Int64GaugeOption) (metric.Int64Gauge, error) {
	c := metric.NewInt64GaugeConfig(o...)
	m.note(name, "gauge", c.Unit(), c.Description())
	return m.Meter.Int64Gauge(name, o...)
}

func (m *recordingMeter) Int64Histogram(name string, o ...metric.Int64HistogramOption) (metric.Int64Histogram, error) {
	c := metric.NewInt64HistogramConfig(o...)
	m.note(name, "histogram", c.Unit(), c.Description())
	return m.Meter.Int64Histogram(name, o...)
}

func (m *recordingMeter) Float64Histogram(name string, o ...metric.Float64HistogramOption) (metric.Float64Histogram, error) {
	c := metric.NewFloat64HistogramConfig(o...)
	m.note(name, "histogram", c.Unit(), c.Description())
	return m.Meter.Float64Histogram(name, o...)
}

func (m *recordingMeter) Int64ObservableCounter(name string, o ...metric.Int64ObservableCounterOption) (metric.Int64ObservableCounter, error) {
	c := metric.NewInt64ObservableCounterConfig(o...)
	m.note(name, "counter", c.Unit(), c.Description())
	return m.Meter.Int64ObservableCounter(name, o...)
}

func (m *recordingMeter) Int64ObservableUpDownCounter(name string, o ...metric.Int64ObservableUpDownCounterOption) (metric.Int64ObservableUpDownCounter, error) {
	c := metric.NewInt64ObservableUpDownCounterConfig(o...)
	m.note(name, "gauge", c.Unit(), c.Description())
	return m.Meter.Int64ObservableUpDownCounter(name, o...)
}

func (m *recordingMeter) Int64ObservableGauge(name string, o ...metric.Int64ObservableGaugeOption) (metric.Int64ObservableGauge, error) {
	c := metric.NewInt64ObservableGaugeConfig(o...)
	m.note(name, "gauge", c.Unit(), c.Description())
	return m.Meter.Int64ObservableGauge(name, o...)
}

func (m *recordingMeter) Float64ObservableGauge(name string, o ...metric.Float64ObservableGaugeOption) (metric.Float64ObservableGauge, error) {
	c := metric.NewFloat64ObservableGaugeConfig(o...)
	m.note(name, "gauge", c.Unit(), c.Description())
	return m.Meter.Float64ObservableGauge(name, o...)
}

// devConfig is what `tidemark dev` runs, on free ports.
func devConfig(dir string) Config {
	c := Default()
	c.NodeID, c.Durability, c.Etcd.Embedded, c.DataDir = 1, "local", true, dir
	c.Listeners, c.AdminListener = []string{"127.0.0.1:0"}, "127.0.0.1:0"
	c.ObjectStore.URL = "file://" + filepath.ToSlash(filepath.Join(dir, "objects"))
	return c
}

// TestMetricsPage keeps deploy/METRICS.md true: each instrument that a running broker makes is on it, with its description.
func TestMetricsPage(t *testing.T) {
	c := devConfig(t.TempDir())
	c.Durability = "quorum" // which has all parts
	b, err := New(c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	m := &recordingMeter{rows: map[string]string{}}
	b.meter = m
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if err := b.Run(ctx, func(Info) { cancel() }); err != nil {
		t.Fatal(err)
	}
	rows := make([]string, 0, len(m.rows))
	for name, row := range m.rows {
		if !strings.HasPrefix(name, "tidemark.") || strings.Contains(row, "|  |") {
			t.Errorf("the name must begin with tidemark. and unit and description must be there: %s", row)
		}
		rows = append(rows, row)
	}
	slices.Sort(rows)
	page := metricsHead + strings.Join(rows, "")
	if *update {
		if err := os.WriteFile(metricsPage, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(metricsPage)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != page {
		t.Errorf("%s is not what a broker measures; run this test with -update", metricsPage)
	}
}
