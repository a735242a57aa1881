package main

import (
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tidemarkmq/tidemark/loadtest/bench/spec"
)

var update = flag.Bool("update", false, "write the golden file anew")

const somePage = `# HELP tidemark_metadata_requests_total Requests to etcd
# TYPE tidemark_metadata_requests_total counter
tidemark_metadata_requests_total{kind="grant",result="ok"} 1
tidemark_metadata_requests_total{kind="keepalive",result="ok"} 40
tidemark_metadata_requests_total{kind="range",result="ok"} 8
tidemark_metadata_requests_total{kind="txn",result="ok"} 3
tidemark_metadata_requests_total{kind="txn",result="error"} 2
tidemark_objectstore_request_duration_seconds_bucket{kind="put",result="ok",le="0.001"} 99
tidemark_objectstore_request_duration_seconds_count{kind="put",result="ok"} 5
tidemark_objectstore_request_duration_seconds_count{kind="put",result="precondition_failed"} 1
tidemark_partition_append_batches_total 0
tidemark_partition_append_bytes_total 1.5e+09
tidemark_partition_append_records_total{otel_scope_name="x"} 7
tidemark_tiering_lag_bytes 0
tidemark_tiering_pending 12
tidemark_tiering_pending_memory_bytes 77
`

func TestMetricsAreSummed(t *testing.T) {
	m, err := parseMetrics(somePage)
	if err == nil {
		err = m.complete()
	}
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ got, want float64 }{
		"etcd writes": {m.etcdWrites(), 6}, "puts": {m.requests("put"), 6}, "gets": {m.requests("get"), 0}, "renewals": {keepAlives(m), 40},
		"pending": {m.pending(), 12}, "bytes": {m.sum("tidemark_partition_append_bytes_total"), 1.5e9}, "records": {m.sum("tidemark_partition_append_records_total"), 7},
	} {
		if c.got != c.want {
			t.Errorf("%s: %v, want %v", name, c.got, c.want)
		}
	}
}

func TestMetricsThatAreNotThereAreAnError(t *testing.T) {
	for _, gone := range []string{"tidemark_metadata_requests_total", "tidemark_objectstore_request_duration_seconds_count", "tidemark_tiering_lag_bytes", "tidemark_tiering_pending "} {
		var kept strings.Builder
		for line := range strings.Lines(somePage) {
			if !strings.HasPrefix(line, gone) {
				kept.WriteString(line)
			}
		}
		m, err := parseMetrics(kept.String())
		if err != nil {
			t.Fatal(err)
		}
		if err := m.complete(); err == nil || !strings.Contains(err.Error(), strings.TrimSpace(gone)) {
			t.Errorf("without %s: %v", gone, err)
		}
	}
	for _, bad := range []string{"name", "name x"} {
		if _, err := parseMetrics(bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

func TestAdminListenerIsFoundInPieces(t *testing.T) {
	f := &finder{found: make(chan string, 1)}
	for _, part := range []string{"time=1 level=INFO msg=sea", "led admin=no\ntime=2 level=INFO msg=re", "ady bootstrap=127.0.0.1:1 admin=127.0.0.1:2 cluster=c\nmsg=x\n"} {
		if _, err := f.Write([]byte(part)); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case got := <-f.found:
		if got != "127.0.0.1:2" {
			t.Error(got)
		}
	default:
		t.Error("not found")
	}
}

// What drawings and tables name must exist, and names must be unique.
func TestDefinitions(t *testing.T) {
	seen, figuresOf := map[string]bool{}, map[string]bool{}
	for i := range curves {
		c := &curves[i]
		if seen[c.id] || c.measure == nil || len(c.at) == 0 {
			t.Errorf("%s: twice, or measures nothing", c.id)
		}
		seen[c.id] = true
		for _, col := range c.columns {
			figuresOf[c.id+" "+col.figure] = true
		}
	}
	for _, p := range plots {
		if seen[p.file] {
			t.Errorf("%s is there twice", p.file)
		}
		seen[p.file] = true
		axis := byID(p.lines[0].curve).axis
		for _, l := range p.lines {
			if !figuresOf[l.curve+" "+l.figure] || byID(l.curve).axis != axis {
				t.Errorf("%s draws %s of %s, which has no such figure or axis", p.file, l.figure, l.curve)
			}
		}
	}
}

func TestLoadsAreValid(t *testing.T) {
	p := &program{o: &options{each: 6 * time.Second, warmup: 2 * time.Second}}
	s := p.load(100)
	if err := s.Check(); err != nil {
		t.Error(err)
	}
	s.Client, s.BatchBytes, s.Producers, s.InFlight = spec.ClientRaw, equalBatch, equalProducers, inFlight
	if err := s.Check(); err != nil {
		t.Error(err)
	}
	s.BatchBytes, s.Producers = recordBytes+512, 0
	s.Fanout, s.Read = 1, spec.ReadOnce
	if err := s.Check(); err != nil {
		t.Error(err)
	}
}

func TestPlan(t *testing.T) {
	names := func(o *options) string {
		var all []string
		for _, pt := range plan(o) {
			all = append(all, pt.name())
		}
		return strings.Join(all, " ")
	}
	for _, c := range []struct {
		o    options
		want string
	}{
		{options{points: "connections"}, "connections/1 connections/100 connections/1000"},
		{options{points: "idle/1, restart-*/16"}, "idle/1 restart-kill/16 restart-stop/16"},
		{options{points: "equal", quick: true}, "equal/1 equal/1000 equal/10000"},
		{options{points: "nothing"}, ""},
	} {
		if got := names(&c.o); got != c.want {
			t.Errorf("%s: %s, want %s", c.o.points, got, c.want)
		}
	}
	all := plan(&options{points: "connections"})
	if back := order(all, 1); back[0].x != 1000 || all[0].x != 1 || order(all, 2)[0].x != 1 {
		t.Error("repetitions do not go forth and back")
	}
	for n, want := range map[int]int{1: 1, 2: 2, 3: 2, 6: 3} {
		if got := repetitions(&options{repetitions: n}, byID("idle")); got != want {
			t.Errorf("of %d repetitions %d are idle, want %d", n, got, want)
		}
	}
}

// sample is a report with figures that can be checked by hand.
func sample() *report {
	r := &report{Facts: [][2]string{{"Machine", "a | b"}}, Command: "go run it", Took: 90 * time.Second}
	equal := byID("equal")
	for n := range 3 {
		f := float64(n)
		for _, x := range []int{1, 1000, 10_000} {
			cost := 1 + f/10
			if x > 1 {
				cost *= 1.1
			}
			r.add(point{equal, x}, outcome{Pressure: 0.25, Disturbed: n == 1 && x == 1000, Figures: figures{"cost": cost, "window": cost * float64(min(x, 2)), "put": 15, "pubget": 0, "produced": 700 - f}})
		}
	}
	r.add(point{byID("restart-kill"), 16}, outcome{Pressure: -1, Failure: "it |\n broke"})
	r.place(point{byID("idle"), 1})
	return r
}

func TestGoal(t *testing.T) {
	r := sample()
	if got := r.goalText("cost", "n"); !strings.Contains(got, "**met**") || !strings.Contains(got, "1.10 times") {
		t.Error(got)
	}
	if got := r.goalText("window", "n"); !strings.Contains(got, "**not met**") || !strings.Contains(got, "2.20 times") {
		t.Error(got)
	}
	r.find("equal", 1000).Runs[0].Failure = "x" // a pair that lacks one side says nothing
	r.find("equal", 1000).Runs[1].Figures["cost"] = 9
	r.find("equal", 1000).Runs[2].Failure = "x"
	if got := r.goalText("cost", "n"); !strings.Contains(got, "**not met**") || !strings.Contains(got, "(8.18 to 8.18)") {
		t.Error(got)
	}
	if got := (&report{}).goalText("cost", "n"); !strings.Contains(got, "not measured") {
		t.Error(got)
	}
}

func TestPage(t *testing.T) {
	got := sample().markdown()
	file := filepath.Join("testdata", "page.md")
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
		t.Errorf("the page is not as in %s (-update):\n%s", file, got)
	}
}

func TestDrawings(t *testing.T) {
	r, drawn := sample(), 0
	for i := range plots {
		svg := r.draw(&plots[i])
		if svg == "" {
			continue
		}
		drawn++
		for d := xml.NewDecoder(strings.NewReader(svg)); ; {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", plots[i].file, err)
			}
		}
		for _, want := range []string{">1,000<", ">10,000<", "prefers-color-scheme: dark"} {
			if !strings.Contains(svg, want) {
				t.Errorf("%s lacks %s", plots[i].file, want)
			}
		}
	}
	if drawn != 3 { // cost, throughput, requests
		t.Errorf("%d drawings", drawn)
	}
}
