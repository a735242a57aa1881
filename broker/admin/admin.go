// Package admin is the operator's HTTP listener: liveness, readiness with reasons, and metrics in Prometheus' text format.
package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sort"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	otelprom "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
)

const (
	headerWait   = 5 * time.Second
	writeWait    = 90 * time.Second // a profile takes as long as it is asked to
	idleWait     = time.Minute
	shutdownWait = 2 * time.Second
	headerBytes  = 16 << 10
)

// latencyBounds are the histogram bounds of every duration, in seconds: fine around a WAL sync, wide enough for an upload.
var latencyBounds = []float64{
	.000_1, .000_2, .000_5, .001, .002, .005, .01, .02, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60,
}

// Metrics is an OpenTelemetry meter provider whose instruments are read in Prometheus' format.
type Metrics struct {
	registry *prometheus.Registry
	provider *sdkmetric.MeterProvider
}

// NewMetrics returns a provider that also reports on the Go runtime and the process.
func NewMetrics() (*Metrics, error) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	exporter, err := otelprom.New(otelprom.WithRegisterer(registry), otelprom.WithoutScopeInfo())
	if err != nil {
		return nil, fmt.Errorf("metrics exporter: %w", err)
	}
	seconds := sdkmetric.NewView(
		sdkmetric.Instrument{Kind: sdkmetric.InstrumentKindHistogram, Unit: "s"},
		sdkmetric.Stream{Aggregation: sdkmetric.AggregationExplicitBucketHistogram{Boundaries: latencyBounds}},
	)
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(exporter), sdkmetric.WithView(seconds))
	return &Metrics{registry: registry, provider: provider}, nil
}

// Meter returns the meter that the parts of the broker make their instruments with.
func (m *Metrics) Meter() metric.Meter { return m.provider.Meter("github.com/tidemarkmq/tidemark") }

// Gatherer gives the metrics to another exposition, or to a test.
func (m *Metrics) Gatherer() prometheus.Gatherer { return m.registry }

// Readiness is a set of named conditions. The broker is ready when none is unmet. Methods may be called concurrently.
type Readiness struct {
	mu    sync.Mutex
	unmet map[string]string
}

// Unmet says that the condition does not hold, and why, in words for the operator.
func (r *Readiness) Unmet(condition, why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.unmet == nil {
		r.unmet = map[string]string{}
	}
	r.unmet[condition] = why
}

// Met says that the condition holds.
func (r *Readiness) Met(condition string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.unmet, condition)
}

// Reasons lists what is unmet, sorted; empty when ready.
func (r *Readiness) Reasons() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	reasons := make([]string, 0, len(r.unmet))
	for condition, why := range r.unmet {
		reasons = append(reasons, condition+": "+why)
	}
	sort.Strings(reasons)
	return reasons
}

// Options are what Handler and Serve need.
type Options struct {
	Metrics   *Metrics
	Readiness *Readiness
	Logger    *slog.Logger // nil discards
	Profiling bool         // serve the Go runtime's profiles below /debug/pprof/ to clients on this machine
}

func (o *Options) setDefaults() {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// Handler serves GET /livez (200 while the process can answer), /readyz (200, or 503 with a reason per line) and /metrics.
func Handler(o Options) http.Handler {
	o.setDefaults()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		writeText(w, http.StatusOK, "ok\n")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		reasons := o.Readiness.Reasons()
		if len(reasons) == 0 {
			writeText(w, http.StatusOK, "ok\n")
			return
		}
		text := ""
		for _, reason := range reasons {
			text += reason + "\n"
		}
		writeText(w, http.StatusServiceUnavailable, text)
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(o.Metrics.registry, promhttp.HandlerOpts{
		MaxRequestsInFlight: 4,
		ErrorLog:            slog.NewLogLogger(o.Logger.Handler(), slog.LevelWarn),
	}))
	if o.Profiling {
		addProfiles(mux)
	}
	return mux
}

func writeText(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text)) // the peer may be gone; nothing to do about it
}

// Serve answers on l until ctx is done, and closes l.
func Serve(ctx context.Context, l net.Listener, o Options) error {
	o.setDefaults()
	srv := &http.Server{
		Handler:           Handler(o),
		ReadHeaderTimeout: headerWait,
		WriteTimeout:      writeWait,
		IdleTimeout:       idleWait,
		MaxHeaderBytes:    headerBytes,
		ErrorLog:          slog.NewLogLogger(o.Logger.Handler(), slog.LevelDebug),
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		graceful, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownWait)
		defer cancel()
		if err := srv.Shutdown(graceful); err != nil {
			_ = srv.Close() // a scrape that outlives the grace is cut off
		}
	})
	err := srv.Serve(l)
	if !stop() {
		<-stopped
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("admin listener: %w", err)
}
