package main

import (
	_ "embed"
	"fmt"
	"strings"

	"github.com/tidemarkmq/tidemark/loadtest/bench/result"
)

//go:embed notes.md
var notesFile string

// remarks are the paragraphs of notes.md by their headings.
func remarks(text string) map[string]string {
	found := map[string]string{}
	id := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if h, ok := strings.CutPrefix(line, "## "); ok {
			id = strings.TrimSpace(h)
			continue
		}
		if id != "" && line != "" {
			found[id] = strings.TrimSpace(found[id] + " " + line)
		}
	}
	return found
}

// limit of a goal.
type bound struct {
	least, most float64 // 0: none
}

func (b bound) holds(v float64) bool { return v >= b.least && (b.most == 0 || v <= b.most) }

func (b bound) String() string {
	if b.most > 0 {
		return "≤ " + result.Number(b.most)
	}
	return "≥ " + result.Number(b.least)
}

// goal is one promise and where its figure is. Without a second peer it is Tidemark's own figure, with one the ratio to it.
type goal struct {
	id, text   string
	row        string
	other      string // peer it is compared with
	name, unit string
	limit      bound
	otherRow   string // where that is compared with another row of Tidemark
}

// prototypePeer is the reference that the cost per GB is compared with.
const prototypePeer = "prototype"

var goals = []goal{
	{id: "produce-ceiling", text: "Max produce, 12 partitions, of the null broker's", row: "1-p12", other: "null", name: "produced", unit: "MB/s", limit: bound{least: 0.8}},
	{id: "produce-cpu", text: "Max produce per server-CPU-second, of Kafka's without sync", row: "1-p12", other: "kafka", name: perCPU, unit: "MB/CPU-s", limit: bound{least: 2}},
	{id: "produce-durable", text: "Max produce, of Kafka's with flush per message", row: "1-p12", other: "kafka-flush", name: "produced", unit: "MB/s", limit: bound{least: 5}},
	{id: "produce-prototype", text: "Server CPU per GB produced, of the prototype's", row: "1-p12", other: prototypePeer, name: "server CPU", unit: "s/GB", limit: bound{most: 1.2}},
	{id: "consume-ceiling", text: "Max hot consume, of the null broker's", row: "2-c1", other: "null", name: "consumed", unit: "MB/s", limit: bound{least: 0.8}},
	{id: "consume-cpu", text: "Max hot consume per server-CPU-second, of Kafka's", row: "2-c1", other: "kafka", name: perCPU, unit: "MB/CPU-s", limit: bound{least: 1.2}},
	{id: "consume-cost", text: "Server CPU per GB of hot consume, s", row: "2-c1", name: "server CPU", unit: "s/GB", limit: bound{most: 0.25}},
	{id: "ack-tail", text: "Ack p99.9 at 20,000 records/s, of Kafka's", row: "4-20k", other: "kafka", name: "ack p99.9", unit: "ms", limit: bound{most: 1.0 / 3}},
	{id: "e2e-p50", text: "End to end at 10,000 records/s, p50, ms", row: "4-10k", name: "end-to-end p50", unit: "ms", limit: bound{most: 1}},
	{id: "e2e-p99", text: "End to end at 10,000 records/s, p99, ms", row: "4-10k", name: "end-to-end p99", unit: "ms", limit: bound{most: 5}},
	{id: "memory", text: "RSS in every workload, of Kafka's", other: "kafka", name: "server peak RSS", unit: "MB", limit: bound{most: 0.25}},
	{id: "start", text: "Start-up to the first acknowledgement, ms", row: "11-start", name: "first ack", unit: "ms", limit: bound{most: 300}},
	{id: "flat", text: "Server CPU per GB with 1,000 partitions, of that with 1, equal batches", row: "14-p1000", otherRow: "14-p1", name: "server CPU", unit: "s/GB", limit: bound{most: 1.2}},
}

// goalLine is a goal in the report.
type goalLine struct {
	ID, Text, Limit, Value, State, Remark string
}

// judge computes the goals from the cells.
func (r *report) judge(remark map[string]string) []goalLine {
	var lines []goalLine
	for i := range goals {
		g := &goals[i]
		line := goalLine{ID: g.id, Text: g.text, Limit: g.limit.String(), Value: "–", State: "not measured", Remark: remark[g.id]}
		if g.row == "" {
			r.everywhere(g, &line)
		} else {
			r.inRow(g, &line)
		}
		lines = append(lines, line)
	}
	return lines
}

func verdict(met bool) string {
	if met {
		return "met"
	}
	return "**not met**"
}

// inRow judges by the median of a figure or of a ratio.
func (r *report) inRow(g *goal, line *goalLine) {
	own := r.find(g.row, "tidemark")
	a, ok := own.values(g.name, g.unit)
	if !ok {
		return
	}
	x := result.SpreadOf(a)
	other, name := own, ""
	switch {
	case g.other != "":
		other = r.find(g.row, g.other)
	case g.otherRow != "":
		other = r.find(g.otherRow, "tidemark")
	default:
		line.Value, line.State = spreadText(x), verdict(g.limit.holds(x.Median))
		return
	}
	b, ok := other.values(g.name, g.unit)
	if !ok {
		line.Value = fmt.Sprintf("Tidemark has %s %s; there is no other", spreadText(x), g.unit)
		return
	}
	if name = other.Name; g.otherRow != "" {
		name = g.otherRow
	}
	ratio, across := ratioOf(own, other, g.name, g.unit)
	line.Value = fmt.Sprintf("%s (%s %s; %s %s)", spreadText(ratio), spreadText(x), g.unit, name, spreadText(result.SpreadOf(b)))
	if across {
		line.Value += ", of different runs"
	}
	line.State = verdict(g.limit.holds(ratio.Median))
}

// everywhere judges a ratio in each row that has it.
func (r *report) everywhere(g *goal, line *goalLine) {
	var all, bad []string
	low, high := 0.0, 0.0
	for i := range r.Rows {
		row := &r.Rows[i]
		own, other := row.cell("tidemark"), row.cell(g.other)
		if own == nil || other == nil {
			continue
		}
		ratio, _ := ratioOf(own, other, g.name, g.unit)
		if ratio.Median != ratio.Median { // no number: none of them ran
			continue
		}
		if len(all) == 0 || ratio.Median < low {
			low = ratio.Median
		}
		high = max(high, ratio.Median)
		all = append(all, row.ID)
		if !g.limit.holds(ratio.Median) {
			bad = append(bad, fmt.Sprintf("%s (%s)", row.ID, result.Number(ratio.Median)))
		}
	}
	if len(all) == 0 {
		return
	}
	line.Value = fmt.Sprintf("%s to %s in %d rows; met in %d", result.Number(low), result.Number(high), len(all), len(all)-len(bad))
	if len(bad) > 0 {
		line.Value += ", above in " + strings.Join(bad, ", ")
	}
	line.State = verdict(len(bad) == 0)
}

// find returns a cell, or an empty one.
func (r *report) find(row, peer string) *reportCell {
	for i := range r.Rows {
		if r.Rows[i].ID == row {
			if c := r.Rows[i].cell(peer); c != nil {
				return c
			}
		}
	}
	return &reportCell{}
}

func writeGoals(b *strings.Builder, lines []goalLine) {
	b.WriteString("\n## Goals\n\nOf Tidemark on a directory, with sync. Ratios are of medians where runs differ.\n\n| goal | wanted | measured | | what bounds it |\n| --- | --- | --- | --- | --- |\n")
	for _, l := range lines {
		fmt.Fprintf(b, "| %s (`%s`) | %s | %s | %s | %s |\n", l.Text, l.ID, l.Limit, l.Value, l.State, strings.ReplaceAll(l.Remark, "|", "\\|"))
	}
}
