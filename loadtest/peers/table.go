package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/tidemarkmq/tidemark/loadtest/bench/result"
)

// table is one run of everything.
type table struct {
	o       *options
	b       *binaries
	dir     string
	raw     string // folder of this run's cells
	peers   []peer // with the references
	run     invocation
	archive *archive
	began   time.Time
	missing []string // rows that did not fit
}

// reserve is what must stay free beside what runs may use.
const reserve = 5 << 30

func run(ctx context.Context, o *options) (err error) {
	if err := o.check(); err != nil {
		return err
	}
	t := &table{o: o, peers: append(slices.Clone(peers), o.references...), b: &binaries{strace: findStrace()}, began: time.Now()}
	if t.archive, err = load(o.folders()); err != nil {
		return err
	}
	if o.planOnly {
		fmt.Print(t.plan(t.pending()))
		return nil
	}
	if o.reportOnly {
		if len(t.archive.runs) == 0 {
			return fmt.Errorf("there are no cells in %s", o.raw)
		}
		return t.write()
	}
	if t.dir, err = os.MkdirTemp(o.dir, "tidemark-peers-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(t.dir)) }()
	if err := t.open(ctx); err != nil {
		return err
	}
	return t.rows(ctx)
}

func findStrace() string {
	name, err := exec.LookPath("strace")
	if err != nil {
		return ""
	}
	return name
}

// open prepares the folders, the binaries and the description of this run.
func (t *table) open(ctx context.Context) error {
	if free, err := freeBytes(t.dir); err != nil {
		return err
	} else if free < t.o.maxDisk+reserve {
		return fmt.Errorf("%s has %d GiB free; runs may use %d GiB (--max-disk), and %d GiB must stay free", t.dir, free>>30, t.o.maxDisk>>30, int64(reserve)>>30)
	}
	t.raw = filepath.Join(t.dir, "raw")
	if folders := t.o.folders(); len(folders) > 0 {
		t.raw = folders[0]
	}
	if err := os.MkdirAll(t.raw, 0o755); err != nil {
		return err
	}
	if old, err := load([]string{t.raw}); err != nil {
		return err
	} else if len(old.cells) > 0 && !t.o.resume {
		return fmt.Errorf("%s has %d cells: continue with --resume, or give another folder", t.raw, len(old.cells))
	}
	var err error
	if t.b, err = prepare(ctx, t.dir); err != nil {
		return err
	}
	if err := t.describe(ctx); err != nil {
		return err
	}
	return save(t.raw, "run-"+t.run.ID+".json", &t.run)
}

// rows runs what is pending, row by row while there is time.
func (t *table) rows(ctx context.Context) error {
	all := t.pending()
	log.Printf("%d rows; about %v for all of them\n%s", len(all), t.total(all).Round(time.Minute), t.plan(all))
	for i, w := range all {
		d, gone := t.estimate(w), time.Since(t.began)
		if t.o.limit > 0 && gone+d > t.o.limit {
			t.missing = append(t.missing, w.row.id)
			log.Printf("%s takes about %v and does not fit into the %v that are left", w.row.id, d.Round(time.Second), (t.o.limit - gone).Round(time.Second))
			continue
		}
		log.Printf("row %d of %d, %s: about %v; %v gone, about %v to go", i+1, len(all), w.row.id, d.Round(time.Second), gone.Round(time.Second), t.left(all[i:], gone).Round(time.Minute))
		t.measure(ctx, w)
		if err := t.write(); err != nil { // what is there counts, whatever comes
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if len(t.missing) > 0 {
		log.Printf("missing, for --resume: %s", strings.Join(t.missing, ","))
	}
	return t.write()
}

func (t *table) total(all []work) (sum time.Duration) {
	for _, w := range all {
		sum += t.estimate(w)
	}
	return sum
}

// left is the time that the rest takes, or may take.
func (t *table) left(rest []work, gone time.Duration) time.Duration {
	d := t.total(rest)
	if t.o.limit > 0 {
		d = min(d, t.o.limit-gone)
	}
	return d
}

// measure runs one row on all its peers in turn. What fails is noted, and the rest goes on.
func (t *table) measure(ctx context.Context, w work) {
	for n := range t.repetitions(w.row) {
		for _, i := range order(w.peers, n) {
			p := &t.peers[i]
			if t.archive.done(w.row.id, p.id, n+1) {
				continue
			}
			began := time.Now()
			s := t.cell(ctx, w.row, p, n)
			if ctx.Err() != nil {
				return
			}
			c := &stored{
				Format: storedFormat, Run: t.run.ID, Commit: t.run.Commit, Started: began.UTC(), Row: w.row.id, Peer: p.id, Repetition: n + 1,
				Seconds: time.Since(began).Seconds(), Settings: t.o.settings(p.jvm), Sample: s,
			}
			log.Printf("%s, %s, %d of %d, %.0f s: %s", w.row.id, p.name, n+1, t.repetitions(w.row), c.Seconds, s.line())
			if err := save(t.raw, c.file(), c); err != nil {
				log.Printf("%s is not kept: %v", c.file(), err)
			}
		}
	}
}

// write makes the report from what the folders hold now.
func (t *table) write() error {
	folders := t.o.folders()
	if len(folders) == 0 {
		folders = []string{t.raw}
	}
	var err error
	if t.archive, err = load(folders); err != nil {
		return err
	}
	return os.WriteFile(t.o.out, []byte(t.assemble().markdown()), 0o644)
}

// notYet is what a cell says that a later run may fill.
const notYet = "not measured yet"

// assemble is the report of the archive.
func (t *table) assemble() *report {
	r := &report{Heading: "Tidemark beside its peers, written by `go run ./loadtest/peers`.", Notes: notes}
	remark := remarks(notesFile)
	r.describeRuns(t.archive, t.o.remark)
	known := knownPeers(t.peers, t.archive)
	for i := range rows {
		row := &rows[i]
		out := reportRow{ID: row.id, Title: row.title, Full: row.kind == throughput, Remark: remark[row.id]}
		for _, p := range known {
			c := reportCell{Peer: p.id, Name: p.name, Class: p.class, Samples: t.archive.of(row.id, p.id)}
			if len(c.Samples) == 0 {
				if p.reference {
					continue // no gap: it is only beside some rows
				}
				if c.Skipped = row.skip(&p, t.b, t.o.every); c.Skipped == "" {
					c.Skipped = notYet
				}
			}
			out.Cells = append(out.Cells, c)
		}
		if !slices.ContainsFunc(out.Cells, func(c reportCell) bool { return len(c.Samples) > 0 }) {
			r.Missing = append(r.Missing, row.id)
		}
		r.Rows = append(r.Rows, out)
	}
	r.Goals = r.judge(remark)
	return r
}

// knownPeers are the table's and the references of earlier runs.
func knownPeers(all []peer, a *archive) []peer {
	all = slices.Clone(all)
	for _, run := range a.runs {
		for _, n := range run.Peers {
			if !slices.ContainsFunc(all, func(p peer) bool { return p.id == n.ID }) {
				all = append(all, peer{id: n.ID, name: n.Name, class: n.Class, reference: n.Reference})
			}
		}
	}
	return all
}

// line is a sample in the log.
func (s *sample) line() string {
	switch {
	case s.Failure != "":
		return "FAILED: " + s.Failure
	case s.NotServed != "":
		return s.NotServed
	}
	var parts []string
	for _, c := range columns {
		if v, ok := s.figure(c.name, c.unit); ok {
			parts = append(parts, c.head+" "+result.Number(v))
		}
	}
	return strings.Join(parts, ", ") + fmt.Sprintf(", CPU pressure %.0f %%, disturbed: %v", 100*max(0, s.Pressure), s.Disturbed)
}
