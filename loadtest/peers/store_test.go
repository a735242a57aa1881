package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidemarkmq/tidemark/loadtest/bench/result"
)

func keep(t *testing.T, folder, run, row, peer string, repetition int, s sample) {
	t.Helper()
	c := &stored{Format: storedFormat, Run: run, Row: row, Peer: peer, Repetition: repetition, Seconds: 30, Settings: settings{Each: time.Second}, Sample: s}
	if err := save(folder, c.file(), c); err != nil {
		t.Fatal(err)
	}
}

func begun(t *testing.T, folder, id, commit string) {
	t.Helper()
	at, err := time.Parse("20060102T150405Z", id)
	if err != nil {
		t.Fatal(err)
	}
	r := &invocation{Format: storedFormat, ID: id, Started: at, Commit: commit, Facts: [][2]string{{"Machine", "one"}, {"Tidemark", commit}}, Peers: []peerName{{ID: "proto", Name: "proto", Class: reference, Reference: true}}}
	if err := save(folder, "run-"+id+".json", r); err != nil {
		t.Fatal(err)
	}
}

// Runs of two folders are merged: ratios are taken within a folder's repetition, each cell says its run, and what failed runs again.
func TestMergeAndResume(t *testing.T) {
	first, second := t.TempDir(), t.TempDir()
	begun(t, first, "20260101T000000Z", "aaaa")
	begun(t, second, "20260102T000000Z", "bbbb")
	keep(t, first, "20260101T000000Z", "1-p12", "tidemark", 1, run1(900, 9))
	keep(t, first, "20260101T000000Z", "1-p12", "null", 1, run1(1000, 1))
	keep(t, first, "20260101T000000Z", "1-p12", "proto", 1, run1(700, 1))
	keep(t, second, "20260102T000000Z", "1-p12", "tidemark", 1, run1(1600, 9))
	keep(t, second, "20260102T000000Z", "1-p12", "null", 1, run1(2000, 1))
	keep(t, second, "20260102T000000Z", "1-p12", "kafka", 1, sample{Failure: "gone"})
	if err := os.WriteFile(filepath.Join(first, "bench-1.json"), []byte("not ours"), 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := load([]string{first, second, filepath.Join(first, "none")})
	if err != nil {
		t.Fatal(err)
	}
	if !a.done("1-p12", "tidemark", 1) || a.done("1-p12", "tidemark", 2) || a.done("1-p12", "kafka", 1) {
		t.Error("what is done is wrong")
	}
	if got := a.took("1-p12", "null", settings{Each: time.Second}); got != 30*time.Second {
		t.Error(got)
	}
	tb := &table{o: &options{}, b: &binaries{}, peers: peers, archive: a}
	text := tb.assemble().markdown()
	for _, want := range []string{
		"| Run A | 2026-01-01 00:00 UTC, commit aaaa; 3 cells |", "| Machine | one |", "| Tidemark, run B | bbbb |",
		"1,250 (900–1,600)", "MB/s in 0.85 (0.80–0.90)", "run AB", "**failed** (1 of 1): gone; run B", "| proto | reference |",
		"0.85 (0.80–0.90) (1,250 (900–1,600) MB/s; null broker 1,500 (1,000–2,000)) | met |", "Rows not measured yet: 1-p1, ",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text[:3000])
		}
	}
}

func TestPendingAndPlan(t *testing.T) {
	folder := t.TempDir()
	keep(t, folder, "r", "4-20k", "tidemark", 1, run1(20, 1))
	a, err := load([]string{folder})
	if err != nil {
		t.Fatal(err)
	}
	o := &options{only: "4-20k,1-p12", peers: "tidemark,kafka", repetitions: 1, each: 10 * time.Second, window: 5 * time.Second, limit: 2 * time.Minute}
	tb := &table{o: o, b: &binaries{}, peers: peers, archive: a}
	all := tb.pending()
	if len(all) != 2 || all[0].row.id != "1-p12" || len(all[0].peers) != 2 || len(all[1].peers) != 1 || tb.peers[all[1].peers[0]].id != "kafka" {
		t.Fatalf("%+v", all)
	}
	if text := tb.plan(all); !strings.Contains(text, "(would not fit)") {
		t.Error(text)
	}
}

// Every row has its place in the order, every goal and every note a row that exists.
func TestOrderAndGoalsKnowTheRows(t *testing.T) {
	var ids, known []string
	for i := range rows {
		ids = append(ids, rows[i].id)
	}
	known = slices.Clone(ids)
	ranked := slices.Clone(important)
	slices.Sort(ids)
	slices.Sort(ranked)
	if !slices.Equal(ids, ranked) {
		t.Errorf("rows %v, ranked %v", ids, ranked)
	}
	for _, g := range goals {
		known = append(known, g.id)
		for _, row := range []string{g.row, g.otherRow} {
			if row != "" && !slices.Contains(ids, row) {
				t.Errorf("%s: there is no row %s", g.id, row)
			}
		}
	}
	for id := range remarks(notesFile) {
		if !slices.Contains(known, id) {
			t.Errorf("notes.md: %s is neither a goal nor a row", id)
		}
	}
}

func TestRemarks(t *testing.T) {
	got := remarks("<!-- none -->\n## a\n\none\ntwo\n\n## b\nthree\n")
	if len(got) != 2 || got["a"] != "one two" || got["b"] != "three" {
		t.Error(got)
	}
}

func rss(mb float64) sample {
	return sample{Metrics: []result.Metric{{Name: "server peak RSS", Unit: "MB", Value: mb}}}
}

func TestMemoryGoalNamesTheRows(t *testing.T) {
	cells := func(own, other float64) []reportCell {
		return []reportCell{{Peer: "tidemark", Samples: []sample{rss(own)}}, {Peer: "kafka", Samples: []sample{rss(other)}}}
	}
	r := report{Rows: []reportRow{{ID: "5", Cells: cells(100, 1000)}, {ID: "7", Cells: cells(500, 1000)}, {ID: "8", Cells: []reportCell{{Peer: "tidemark"}}}}}
	for _, line := range r.judge(map[string]string{"memory": "slabs"}) {
		if line.ID == "memory" && (line.Value != "0.10 to 0.50 in 2 rows; met in 1, above in 7 (0.50)" || line.State != "**not met**" || line.Remark != "slabs") {
			t.Errorf("%+v", line)
		}
		if line.ID == "start" && line.State != "not measured" {
			t.Errorf("%+v", line)
		}
	}
}

func TestReferenceFlag(t *testing.T) {
	var r references
	for _, bad := range []string{"", "x", "=y", "X=y", "null=y", "a="} {
		if r.Set(bad) == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	if err := r.Set("proto=/bin/proto -addr {listen}"); err != nil || r.Set("proto=again") == nil || r[0].command != "/bin/proto -addr {listen}" {
		t.Error(err, r)
	}
}
