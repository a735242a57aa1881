package page

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/tidemarkmq/tidemark/loadtest/bench/latency"
	"github.com/tidemarkmq/tidemark/loadtest/bench/machine"
	"github.com/tidemarkmq/tidemark/loadtest/bench/result"
	"github.com/tidemarkmq/tidemark/loadtest/bench/spec"
)

func sample(name string) *result.Result {
	s, _ := spec.For("paced")
	s.Label = name
	h := latency.New()
	r := &result.Result{Format: result.Format, Spec: s, Started: time.Unix(0, 0).UTC(), Seconds: 60, HasServer: true, Usage: machine.Report{Known: true}}
	for i := -5; i < 60; i++ {
		latency.Record(h, int64(i+6)*1e6, 100)
		r.Series = append(r.Series, result.Second{
			At: float64(i), Seconds: 1, Produced: result.Flow{Records: 10, Bytes: 1e6}, ServerCPUs: 0.5, ClientCPUs: 0.2, ServerRSS: 1e8, MachineKnown: true,
			Latency: map[string]result.Three{result.Ack: {P50: 1e6, P99: 2e6, P999: 3e6, Max: 4e6}},
		})
	}
	r.Latency = map[string]result.Latency{result.Ack: result.Summary(h)}
	r.Verified.OK = true
	return r
}

var drawing = regexp.MustCompile(`(?s)<svg.*?</svg>`)

// check reads the page as a browser must: alone, without a script, each drawing well-formed and within its frame.
func check(t *testing.T, html string, drawings int) {
	t.Helper()
	for _, foreign := range []string{"http:", "https:", "<script", "<link", "@import", "url(", "NaN", "Inf"} {
		if strings.Contains(html, foreign) {
			t.Errorf("the page contains %q", foreign)
		}
	}
	for _, want := range []string{"prefers-color-scheme: dark", "<title>"} {
		if !strings.Contains(html, want) {
			t.Errorf("the page does not contain %q", want)
		}
	}
	all := drawing.FindAllString(html, -1)
	if len(all) != drawings {
		t.Errorf("%d drawings, want %d", len(all), drawings)
	}
	for _, svg := range all {
		for d := xml.NewDecoder(strings.NewReader(svg)); ; {
			_, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%v in %s", err, svg)
			}
		}
	}
}

func TestReport(t *testing.T) {
	r := sample("<b>name</b>")
	var b strings.Builder
	if err := Write(&b, r); err != nil {
		t.Fatal(err)
	}
	check(t, b.String(), 5) // throughput, latency, percentiles, CPU, memory
	if strings.Contains(b.String(), "<b>name") {
		t.Error("a name was not escaped")
	}
	r.Verified.OK, r.Verified.Text = false, "7 records lost"
	b.Reset()
	if err := Write(&b, r); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(b.String(), "Verification failed: 7 records lost") {
		t.Error("a failed run does not say so")
	}
}

func TestComparison(t *testing.T) {
	c, err := result.Compare([]*result.Result{sample("x"), sample("x")}, []*result.Result{sample("y"), sample("y")})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := WriteComparison(&b, c); err != nil {
		t.Fatal(err)
	}
	check(t, b.String(), 2)
}

func TestEmptyRunHasAPage(t *testing.T) {
	var b strings.Builder
	if err := Write(&b, &result.Result{Spec: spec.Default()}); err != nil {
		t.Fatal(err)
	}
	check(t, b.String(), 0)
}

func TestThin(t *testing.T) {
	var long []Point
	for i := range 1200 {
		long = append(long, Point{X: float64(i), Y: float64(i % 3)})
	}
	if got := thin(long, true); len(got) != mostPoints || got[0].Y != 2 {
		t.Errorf("%d points, the first %v", len(got), got[0])
	}
	if got := thin(long, false); got[0].Y != 1 {
		t.Errorf("mean %v", got[0])
	}
	gap := make([]Point, 900)
	for i := range gap {
		gap[i].Y = math.NaN()
	}
	if got := thin(gap, false); !math.IsNaN(got[0].Y) {
		t.Errorf("a gap became %v", got[0])
	}
}

func TestNiceStep(t *testing.T) {
	for v, want := range map[float64]float64{0: 1, 0.03: 0.05, 1: 1, 1.1: 2, 4.9: 5, 51: 100, 700: 1000} {
		if got := niceStep(v); math.Abs(got-want) > 1e-9 {
			t.Errorf("%v: %v, want %v", v, got, want)
		}
	}
}

func TestAxisNumber(t *testing.T) {
	for v, want := range map[float64]string{math.Copysign(0, -1): "0", 0.25: "0.25", 1000: "1,000", 20_000: "20k", 3e6: "3M"} {
		if got := axisNumber(v); got != want {
			t.Errorf("%v: %q", v, got)
		}
	}
}

func TestDrawing(t *testing.T) {
	c := Chart{Title: "a < b", Unit: "s/GB", XLabel: "partitions", XTicks: []Tick{{0, "1"}, {1, "10"}}, Lines: []Line{
		{"one", 1, []Point{{X: 0, Y: 1, Low: 0.5, High: 4}, {X: 1, Y: 2}}}, {"two & more", 2, []Point{{X: 0, Y: 3, Low: 3, High: 3}}}}}
	svg := c.Drawing()
	if !strings.HasPrefix(svg, `<svg xmlns="http://www.w3.org/2000/svg"`) {
		t.Error("not a file that a browser draws")
	}
	check(t, strings.Replace(svg, `xmlns="http://www.w3.org/2000/svg"`, "", 1)+"<title>", 1)
	if got := strings.Count(svg, `l1 w"`) + strings.Count(svg, `l2 w"`); got != 1 {
		t.Errorf("%d whiskers", got)
	}
	if _, _, _, top, _ := c.bounds(); top < 4 {
		t.Errorf("the axis ends at %v, below the whisker", top)
	}
	if got := (Chart{Lines: []Line{{Name: "x"}}}).Drawing(); got != "" {
		t.Errorf("a chart without points is %s", got)
	}
}
