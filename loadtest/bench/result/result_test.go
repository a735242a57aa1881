package result

import (
	"flag"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tidemarkmq/tidemark/loadtest/bench/latency"
	"github.com/tidemarkmq/tidemark/loadtest/bench/machine"
	"github.com/tidemarkmq/tidemark/loadtest/bench/spec"
)

var update = flag.Bool("update", false, "write the golden files")

func sample(rate int64, scale int64) *Result {
	h := latency.New()
	for i := range int64(10_000) {
		latency.Record(h, i*scale, 1)
	}
	s, _ := spec.For("paced")
	s.Label = "sample"
	r := &Result{
		Format: Format, Spec: s, Started: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Cluster: Cluster{"c", 1}, Client: Client{"v", "go", "linux/amd64", 2},
		Warmup: Warmup{10, true, false}, Seconds: 10, Produced: Flow{rate * 10, rate * 10 * 1024}, Consumed: Flow{rate * 10, rate * 10 * 1024},
		Latency: map[string]Latency{Ack: Summary(h)}, HasServer: true,
		Usage:    machine.Report{Known: true, ServerCPU: 5, ClientCPU: 6, ServerRSS: 100e6, ServerPeakRSS: 120e6, ClientRSS: 50e6, ClientPeakRSS: 51e6, Pressure: 0.25, Foreign: 0.1},
		Verified: Verified{Level: spec.VerifyFull, OK: true, Text: "all there"}, Notes: []string{"a note"},
	}
	return r
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; got:\n%s", file, got)
	}
}

func TestTable(t *testing.T) { golden(t, "testdata/table.txt", sample(20_000, 1000).Table()) }

func TestJSONComesBack(t *testing.T) {
	r := sample(20_000, 1000)
	text, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := Decode(text)
	if err != nil {
		t.Fatal(err)
	}
	if back.Table() != r.Table() {
		t.Errorf("it reads differently:\n%s", back.Table())
	}
	h, err := back.Latency[Ack].Histogram()
	if err != nil || h.TotalCount() != 10_000 || h.ValueAtQuantile(99) != r.Latency[Ack].P99 {
		t.Errorf("histogram: %v", err)
	}
	if _, err := Decode([]byte(`{"format": 99}`)); err == nil {
		t.Error("another format was read")
	}
}

func TestCompareUsesPairs(t *testing.T) {
	// Both sides drift together: the ratio of each pair is 2, though the ranges of A and B overlap.
	a := []*Result{sample(100, 1000), sample(300, 1000), sample(200, 1000)}
	b := []*Result{sample(200, 2000), sample(600, 2000), sample(400, 2000)}
	for _, r := range b {
		r.Spec.Label = "other"
	}
	c, err := Compare(a, b)
	if err != nil {
		t.Fatal(err)
	}
	row := c.Rows[0]
	if row.Name != "produced" || row.A != (Spread{200, 100, 300}) || row.B != (Spread{400, 200, 600}) || *row.Ratio != (Spread{2, 2, 2}) {
		t.Errorf("%+v, ratio %+v", row, row.Ratio)
	}
	golden(t, "testdata/compare.txt", c.Table())
	if _, err := Compare(a, b[:1]); err == nil {
		t.Error("3 runs were paired with 1")
	}
}

func TestCompareNotesWhatSpoilsIt(t *testing.T) {
	a, b := sample(1, 1), sample(1, 1)
	b.Spec.Linger = time.Second
	b.Usage.Disturbed = true
	a.Verified.OK = false
	c, err := Compare([]*Result{a}, []*Result{b})
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(c.Notes, "\n")
	for _, want := range []string{"different settings", "run 1 of B was disturbed", "run 1 of A failed"} {
		if !strings.Contains(all, want) {
			t.Errorf("no note %q in:\n%s", want, all)
		}
	}
}

func TestSpread(t *testing.T) {
	if got := SpreadOf([]float64{4, 1, 3, 2}); got != (Spread{2.5, 1, 4}) {
		t.Errorf("%+v", got)
	}
	if got := SpreadOf([]float64{7}); got != (Spread{7, 7, 7}) {
		t.Errorf("%+v", got)
	}
	if !math.IsNaN(median(nil)) {
		t.Error("a median of nothing")
	}
}

func TestTrend(t *testing.T) {
	r := &Result{}
	for i := -5; i <= 120; i++ {
		r.Series = append(r.Series, Second{At: float64(i), ServerRSS: 100e6 + int64(i)*1e5, Latency: map[string]Three{Ack: {P999: int64(i) * 1000}}})
	}
	r.FindTrend(Ack)
	if r.Trend == nil || math.Abs(r.Trend.ServerRSSPerMinute-6e6) > 1 || r.Trend.P999First != 16_000 || r.Trend.P999Last != 106_000 {
		t.Errorf("%+v", r.Trend)
	}
	r = &Result{Series: r.Series[:30]}
	if r.FindTrend(Ack); r.Trend != nil {
		t.Error("a trend of half a minute")
	}
}

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{0: "0.00", 0.0123: "0.012", 0.5: "0.50", 12.34: "12.3", 123.4: "123", 1234.5: "1,234", -1234567: "-1,234,567", math.NaN(): "–"} {
		if got := Number(v); got != want {
			t.Errorf("%v: %s, want %s", v, got, want)
		}
	}
}
