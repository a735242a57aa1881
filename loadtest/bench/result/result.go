// Package result is what a load test found: its JSON form, its table, and the comparison of two. It does no I/O of its own.
package result

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/tidemarkmq/tidemark/loadtest/bench/machine"
	"github.com/tidemarkmq/tidemark/loadtest/bench/spec"
	"github.com/tidemarkmq/tidemark/loadtest/bench/stamp"
)

// Format is the version of the JSON form.
const Format = 1

// Kinds of latency.
const (
	Ack      = "ack"        // from when a record was due to its acknowledgement
	EndToEnd = "end-to-end" // from when it was due to its delivery
	Commit   = "commit"     // of a transaction, from EndTxn to its answer
)

// Kinds is their order in reports.
var Kinds = []string{Ack, EndToEnd, Commit}

// Result of one run.
type Result struct {
	Format    int                `json:"format"`
	Spec      spec.Spec          `json:"spec"`
	Started   time.Time          `json:"started"`
	Cluster   Cluster            `json:"cluster"`
	Client    Client             `json:"client"`
	Machine   machine.Info       `json:"machine"`
	Warmup    Warmup             `json:"warmup"`
	Seconds   float64            `json:"seconds"` // measured
	Produced  Flow               `json:"produced"`
	Consumed  Flow               `json:"consumed"`
	Latency   map[string]Latency `json:"latency"`
	Usage     machine.Report     `json:"usage"`
	Series    []Second           `json:"series"`
	Trend     *Trend             `json:"trend,omitempty"` // of runs of a minute and more
	Verified  Verified           `json:"verified"`
	Notes     []string           `json:"notes,omitempty"`
	HasServer bool               `json:"hasServer"` // server processes were watched
}

// Cluster is what was measured, as it presents itself.
type Cluster struct {
	ID      string `json:"id"`
	Brokers int    `json:"brokers"`
}

// Client is this side.
type Client struct {
	Version string `json:"version"`
	Go      string `json:"go"`
	OS      string `json:"os"`
	CPUs    int    `json:"cpus"`
}

// Warmup is what went before the measurement.
type Warmup struct {
	Seconds float64 `json:"seconds"`
	Auto    bool    `json:"auto"`
	Steady  bool    `json:"steady"` // an automatic one ended because the windows agreed
}

// Flow is how much went one way during the measurement. Bytes are those of values.
type Flow struct {
	Records int64 `json:"records"`
	Bytes   int64 `json:"bytes"`
}

// Latency in nanoseconds.
type Latency struct {
	Count int64   `json:"count"`
	Mean  float64 `json:"mean"`
	P50   int64   `json:"p50"`
	P90   int64   `json:"p90"`
	P99   int64   `json:"p99"`
	P999  int64   `json:"p999"`
	P9999 int64   `json:"p9999"`
	Max   int64   `json:"max"`
	HDR   string  `json:"hdr"` // the histogram, in HdrHistogram's compressed V2 form and base64
}

// Second is one second of a run.
type Second struct {
	At           float64          `json:"at"` // its end, from the start of the measurement; negative: warm-up
	Produced     Flow             `json:"produced"`
	Consumed     Flow             `json:"consumed"`
	Seconds      float64          `json:"seconds"` // its true length
	Latency      map[string]Three `json:"latency,omitempty"`
	ServerCPUs   float64          `json:"serverCpus"`
	ClientCPUs   float64          `json:"clientCpus"`
	ServerRSS    int64            `json:"serverRssBytes"`
	ClientRSS    int64            `json:"clientRssBytes"`
	Pressure     float64          `json:"cpuPressure"`
	MachineKnown bool             `json:"machineKnown"`
}

// Three percentiles of a second, in nanoseconds.
type Three struct {
	P50  int64 `json:"p50"`
	P99  int64 `json:"p99"`
	P999 int64 `json:"p999"`
	Max  int64 `json:"max"`
}

// Trend is how a long run changed.
type Trend struct {
	ServerRSSPerMinute float64 `json:"serverRssBytesPerMinute"` // slope of the best line
	P999First          int64   `json:"p999FirstQuarter"`        // median over the seconds
	P999Last           int64   `json:"p999LastQuarter"`
}

// Verified is what was checked and what came out.
type Verified struct {
	Level string      `json:"level"`
	OK    bool        `json:"ok"`
	Text  string      `json:"text"`
	Read  stamp.Tally `json:"read"`
}

// Summary takes the figures of a histogram.
func Summary(h *hdrhistogram.Histogram) Latency {
	l := Latency{
		Count: h.TotalCount(), Mean: h.Mean(), P50: h.ValueAtQuantile(50), P90: h.ValueAtQuantile(90), P99: h.ValueAtQuantile(99),
		P999: h.ValueAtQuantile(99.9), P9999: h.ValueAtQuantile(99.99), Max: h.Max(),
	}
	if raw, err := h.Encode(hdrhistogram.V2CompressedEncodingCookieBase); err == nil {
		l.HDR = string(raw) // Encode has done the base64
		if _, err := base64.StdEncoding.DecodeString(l.HDR); err != nil {
			l.HDR = base64.StdEncoding.EncodeToString(raw)
		}
	}
	return l
}

// Histogram decodes the histogram of l.
func (l Latency) Histogram() (*hdrhistogram.Histogram, error) {
	if l.HDR == "" {
		return nil, errors.New("no histogram")
	}
	return hdrhistogram.Decode([]byte(l.HDR))
}

// Rate is records per second.
func (r *Result) Rate(f Flow) float64 { return over(float64(f.Records), r.Seconds) }

// MBs is megabytes (10⁶) of values per second.
func (r *Result) MBs(f Flow) float64 { return over(float64(f.Bytes)/1e6, r.Seconds) }

func over(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

// gigabytes that went in and out.
func (r *Result) gigabytes() float64 { return float64(r.Produced.Bytes+r.Consumed.Bytes) / 1e9 }

// ServerCPUPerGB is seconds of CPU per 10⁹ bytes produced and consumed; 0 if unknown.
func (r *Result) ServerCPUPerGB() float64 {
	if !r.HasServer {
		return 0
	}
	return over(r.Usage.ServerCPU, r.gigabytes())
}

// ClientCPUPerGB is the same of the load generator.
func (r *Result) ClientCPUPerGB() float64 { return over(r.Usage.ClientCPU, r.gigabytes()) }

// Name is what reports call this run.
func (r *Result) Name() string {
	if r.Spec.Label != "" {
		return r.Spec.Label
	}
	return r.Spec.Workload
}

// Decode reads the JSON form.
func Decode(text []byte) (*Result, error) {
	r := &Result{}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, err
	}
	if r.Format != Format {
		return nil, fmt.Errorf("format %d; this program reads %d", r.Format, Format)
	}
	return r, nil
}

// Encode is the JSON form.
func (r *Result) Encode() ([]byte, error) { return json.MarshalIndent(r, "", " ") }

// trendFrom is the least length of a run whose change over time means something.
const trendFrom = 60

// FindTrend computes the trend from the series.
func (r *Result) FindTrend(kind string) {
	var at, rss []float64
	var tails []int64
	for _, s := range r.Series {
		if s.At <= 0 {
			continue
		}
		at, rss = append(at, s.At), append(rss, float64(s.ServerRSS))
		tails = append(tails, s.Latency[kind].P999)
	}
	if len(at) < trendFrom {
		return
	}
	quarter := len(tails) / 4
	r.Trend = &Trend{slope(at, rss) * 60, medianOf(tails[:quarter]), medianOf(tails[len(tails)-quarter:])}
}

// slope of the least squares' line.
func slope(x, y []float64) float64 {
	mx, my := mean(x), mean(y)
	var num, den float64
	for i := range x {
		num += (x[i] - mx) * (y[i] - my)
		den += (x[i] - mx) * (x[i] - mx)
	}
	return over(num, den)
}

func mean(v []float64) float64 {
	sum := 0.0
	for _, x := range v {
		sum += x
	}
	return over(sum, float64(len(v)))
}

func medianOf(v []int64) int64 {
	v = slices.Clone(v)
	slices.Sort(v)
	return v[len(v)/2]
}

// median of v, the mean of the middle two where their number is even.
func median(v []float64) float64 {
	if len(v) == 0 {
		return math.NaN()
	}
	v = slices.Clone(v)
	slices.Sort(v)
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}
