package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidemarkmq/tidemark/loadtest/bench/result"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestOrderFavoursNobody(t *testing.T) {
	sides := []string{"A", "B", "C"}
	got := ""
	for n := range 4 {
		got += strings.Join(order(sides, n), "")
	}
	if got != "ABCCBAABCCBA" || !slices.Equal(sides, []string{"A", "B", "C"}) {
		t.Error(got, sides)
	}
}

// Every row must be one that the load generator accepts, in full and in quick runs.
func TestRowsAreValid(t *testing.T) {
	seen := map[string]bool{}
	for i := range rows {
		r := &rows[i]
		if seen[r.id] {
			t.Errorf("%s is there twice", r.id)
		}
		seen[r.id] = true
		if r.preset == "" {
			continue
		}
		s, err := r.settings(&options{each: 20 * time.Second, soak: time.Minute, window: 5 * time.Second})
		if err == nil && r.kind == cold {
			s.Topic, s.Existing = restartTopic, true
		}
		if err == nil {
			err = s.Check()
		}
		if err != nil {
			t.Errorf("%s: %v", r.id, err)
		}
	}
}

func TestSkips(t *testing.T) {
	all, none := &binaries{strace: "strace"}, &binaries{}
	for _, c := range []struct {
		row, peer string
		b         *binaries
		every     bool
		want      string
	}{
		{"1-p12", "null", all, false, ""}, {"8", "null", all, true, "delivers nothing"}, {"9", "null", all, false, "keeps nothing"},
		{"12", "tidemark", all, false, ""}, {"12", "tidemark", none, true, "strace"}, {"8", "kafka", none, false, ""},
		{"4-20k", "kafka-flush", none, false, ""}, {"4-1k", "kafka-flush", none, false, "--every"}, {"4-1k", "kafka-flush", none, true, ""},
		{"9", "tidemark-minio", none, false, ""}, {"5", "tidemark-minio", none, false, "--every"}, {"14-p1", "kafka", none, false, "itself"},
	} {
		r := rows[slices.IndexFunc(rows, func(r row) bool { return r.id == c.row })]
		p := peers[slices.IndexFunc(peers, func(p peer) bool { return p.id == c.peer })]
		if got := r.skip(&p, c.b, c.every); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s, %s: %q", c.row, c.peer, got)
		}
	}
}

func TestPatterns(t *testing.T) {
	for _, c := range []struct {
		patterns, name string
		want           bool
	}{{"*", "1-p1", true}, {"1-*,4-20k", "4-20k", true}, {"1-*", "11-kill", false}, {" 13", "13", true}, {"[", "1", false}} {
		if got := matches(c.patterns, c.name); got != c.want {
			t.Errorf("%q, %q: %v", c.patterns, c.name, got)
		}
	}
}

func TestKafkaFile(t *testing.T) {
	got := kafkaFile("/data", "1234", "1235", flushEach)
	for _, want := range []string{"log.dirs=/data\n", "listeners=PLAINTEXT://127.0.0.1:1234,CONTROLLER://127.0.0.1:1235\n", "log.flush.interval.messages=1\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

func run1(mbs, p999 float64) sample {
	return sample{Metrics: []result.Metric{{Name: "produced", Unit: "MB/s", Value: mbs}, {Name: "ack p99.9", Unit: "ms", Value: p999}}}
}

func TestReport(t *testing.T) {
	disturbed, unsteady := run1(900, 9), run1(110, 88)
	disturbed.Disturbed, unsteady.Unsteady = true, true
	r := report{
		Heading: "A heading.", Facts: [][2]string{{"Machine", "a|b"}}, Notes: []string{"A note."},
		Rows: []reportRow{
			{ID: "1", Title: "First", Cells: []reportCell{
				{Peer: "null", Name: "null broker", Class: nothing, Samples: []sample{run1(1500, 5), run1(1600, 6), run1(1700, 7)}},
				{Peer: "tidemark", Name: "Tidemark", Class: durable, Samples: []sample{run1(1000, 8), disturbed, run1(1200, 10)}},
				{Peer: "kafka", Name: "Kafka", Class: pageCache, Samples: []sample{run1(100, 80), unsteady, {Failure: "lost 1 | record\nof 2"}}},
			}},
			{ID: "2", Title: "At full speed", Full: true, Cells: []reportCell{
				{Peer: "tidemark", Name: "Tidemark", Class: durable, Samples: []sample{run1(1000, 8)}},
				{Peer: "kafka", Name: "Kafka", Class: pageCache, Samples: []sample{run1(100, 80)}},
			}},
			{ID: "8", Title: "Second", Cells: []reportCell{{Name: "all", Skipped: "left out"}}},
		},
	}
	for i := range r.Rows {
		for _, c := range r.Rows[i].Cells {
			for n := range c.Samples {
				c.Samples[n].place = fmt.Sprint(n)
			}
		}
	}
	golden, got := filepath.Join("testdata", "report.md"), r.markdown()
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
