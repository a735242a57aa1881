package result

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"
)

// Metric is one figure of a result, for tables and comparisons.
type Metric struct {
	Name   string
	Unit   string
	Value  float64
	Better int // 1: more is better, −1: less is
}

// Metrics are the figures that a run has.
func (r *Result) Metrics() []Metric {
	var m []Metric
	add := func(name, unit string, v float64, better int) { m = append(m, Metric{name, unit, v, better}) }
	if r.Produced.Records > 0 {
		add("produced", "records/s", r.Rate(r.Produced), 1)
		add("produced", "MB/s", r.MBs(r.Produced), 1)
	}
	if r.Consumed.Records > 0 {
		add("consumed", "records/s", r.Rate(r.Consumed), 1)
		add("consumed", "MB/s", r.MBs(r.Consumed), 1)
	}
	for _, kind := range Kinds {
		l, ok := r.Latency[kind]
		if !ok || l.Count == 0 {
			continue
		}
		for _, p := range []struct {
			name string
			v    int64
		}{{"p50", l.P50}, {"p99", l.P99}, {"p99.9", l.P999}, {"max", l.Max}} {
			add(kind+" "+p.name, "ms", float64(p.v)/1e6, -1)
		}
	}
	if r.Usage.Known && r.HasServer {
		add("server CPU", "s/GB", r.ServerCPUPerGB(), -1)
		add("server CPU", "CPUs", over(r.Usage.ServerCPU, r.Seconds), -1)
		add("server RSS", "MB", float64(r.Usage.ServerRSS)/1e6, -1)
		add("server peak RSS", "MB", float64(r.Usage.ServerPeakRSS)/1e6, -1)
	}
	if r.Usage.Known {
		add("client CPU", "s/GB", r.ClientCPUPerGB(), -1)
		add("client CPU", "CPUs", over(r.Usage.ClientCPU, r.Seconds), -1)
	}
	return m
}

// Number writes a figure with three or four digits that mean something.
func Number(v float64) string {
	switch a := max(v, -v); {
	case v != v: // not a number
		return "–"
	case a >= 1e6:
		return group(fmt.Sprintf("%.0f", v))
	case a >= 1000:
		return group(fmt.Sprintf("%.0f", v))
	case a >= 100:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	case a >= 0.1 || a == 0:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3f", v)
}

// group puts commas between thousands.
func group(digits string) string {
	sign := ""
	if rest, ok := strings.CutPrefix(digits, "-"); ok {
		sign, digits = "-", rest
	}
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return sign + digits
}

// Headline says in one line what ran.
func (r *Result) Headline() string {
	s := &r.Spec
	var parts []string
	parts = append(parts, s.Workload, s.Client+" client")
	if s.Producers > 0 {
		speed := "at full speed (closed loop)"
		if s.Rate > 0 {
			speed = Number(s.Rate) + " records/s (open loop)"
		}
		acks := "acks=" + s.Acks
		if s.Idempotent {
			acks += ", idempotent"
		}
		parts = append(parts, fmt.Sprintf("%d producers %s, %s", s.Producers, speed, acks))
		if s.Txn() {
			parts = append(parts, fmt.Sprintf("transactions of %d", s.TxnRecords))
		}
		parts = append(parts, fmt.Sprintf("linger %v, batches to %s bytes, compression %s", s.Linger, Number(float64(s.BatchBytes)), s.Compression))
	}
	if s.Fanout > 0 {
		how := "assigned"
		if s.Group {
			how = "in groups"
		}
		parts = append(parts, fmt.Sprintf("%d × %d consumers (%s, %s)", s.Fanout, s.Consumers, s.Read, how))
	}
	parts = append(parts, fmt.Sprintf("records of %s bytes", s.RecordSize), fmt.Sprintf("%d partitions", s.Partitions))
	return strings.Join(parts, " · ")
}

// Table is the result as plain text.
func (r *Result) Table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n%s\n", r.Name(), r.Headline())
	warm := fmt.Sprintf("warm-up %.1f s", r.Warmup.Seconds)
	if r.Warmup.Auto && !r.Warmup.Steady {
		warm += " (never steady)"
	}
	fmt.Fprintf(&b, "measured %.1f s after %s on %s, %d CPUs\n\n", r.Seconds, warm, r.Client.OS, r.Client.CPUs)
	w := tabwriter.NewWriter(&b, 0, 4, 2, ' ', tabwriter.AlignRight)
	for _, f := range []struct {
		name string
		flow Flow
	}{{"produced", r.Produced}, {"consumed", r.Consumed}} {
		if f.flow.Records > 0 {
			fmt.Fprintf(w, "%s\t%s records/s\t%s MB/s\t%s records\t\n", f.name, Number(r.Rate(f.flow)), Number(r.MBs(f.flow)), group(fmt.Sprint(f.flow.Records)))
		}
	}
	flush(w, &b)
	shown := false
	for _, kind := range Kinds {
		if l := r.Latency[kind]; l.Count > 0 {
			if !shown {
				fmt.Fprintf(w, "latency, ms\tp50\tp90\tp99\tp99.9\tp99.99\tmax\tmean\t\n")
			}
			shown = true
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", kind, ms(l.P50), ms(l.P90), ms(l.P99), ms(l.P999), ms(l.P9999), ms(l.Max), Number(l.Mean/1e6))
		}
	}
	if shown {
		flush(w, &b)
	}
	r.usage(w)
	flush(w, &b)
	r.remarks(&b)
	return b.String()
}

func flush(w *tabwriter.Writer, b *strings.Builder) {
	_ = w.Flush() // into memory
	b.WriteByte('\n')
}

func ms(nanos int64) string { return Number(float64(nanos) / float64(time.Millisecond)) }

func (r *Result) usage(w *tabwriter.Writer) {
	u := &r.Usage
	if !u.Known {
		fmt.Fprintf(w, "CPU and memory\tnot available on this system\t\n")
		return
	}
	fmt.Fprintf(w, "\tCPUs used\ts/GB\tRSS MB\tpeak MB\t\n")
	if r.HasServer {
		fmt.Fprintf(w, "server\t%s\t%s\t%s\t%s\t\n", Number(over(u.ServerCPU, r.Seconds)), Number(r.ServerCPUPerGB()), Number(float64(u.ServerRSS)/1e6), Number(float64(u.ServerPeakRSS)/1e6))
	}
	fmt.Fprintf(w, "client\t%s\t%s\t%s\t%s\t\n", Number(over(u.ClientCPU, r.Seconds)), Number(r.ClientCPUPerGB()), Number(float64(u.ClientRSS)/1e6), Number(float64(u.ClientPeakRSS)/1e6))
}

func (r *Result) remarks(b *strings.Builder) {
	if u := &r.Usage; u.Known {
		pressure := "unknown"
		if u.Pressure >= 0 {
			pressure = fmt.Sprintf("%.0f %%", 100*u.Pressure)
		}
		others := ""
		if r.HasServer {
			others = fmt.Sprintf(", other processes used %s CPUs, the kernel by itself %s", Number(u.Foreign), Number(u.Kernel))
		}
		fmt.Fprintf(b, "machine: CPU pressure %s, steal %.1f %%%s", pressure, 100*u.Steal, others)
		if u.Disturbed {
			fmt.Fprint(b, " — DISTURBED, repeat this run")
		}
		fmt.Fprintln(b)
	}
	if t := r.Trend; t != nil {
		fmt.Fprintf(b, "trend: server RSS %+.2f MB/min, p99.9 %s ms in the first quarter, %s ms in the last\n", t.ServerRSSPerMinute/1e6, ms(t.P999First), ms(t.P999Last))
	}
	state := "ok"
	if !r.Verified.OK {
		state = "FAILED"
	}
	fmt.Fprintf(b, "verified (%s): %s, %s\n", r.Verified.Level, state, r.Verified.Text)
	for _, n := range r.Notes {
		fmt.Fprintf(b, "note: %s\n", n)
	}
}
