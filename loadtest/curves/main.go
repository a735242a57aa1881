// Curves measures how the costs of a broker grow: with partitions, with connections, with the size of its log, and when it does nothing.
// Each point has a fresh broker in a folder of its own; repetitions are interleaved, forth and back.
//
//	go run ./loadtest/curves --out loadtest/CURVES.md --raw FOLDER
//
// The page's drawings are written into the folder curves beside it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"path"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/tidemarkmq/tidemark/loadtest/bench/machine"
	"github.com/tidemarkmq/tidemark/loadtest/bench/result"
	"github.com/tidemarkmq/tidemark/loadtest/process"
)

type options struct {
	out, raw, dir, points, remark, broker string
	repetitions, retries                  int
	each, warmup, idle                    time.Duration
	quick                                 bool
}

// program is one run of everything.
type program struct {
	o       *options
	bin     string
	version string
	report  report
	name    string // of the point that runs, for its raw results
	kept    int
	keepErr error
}

func main() {
	log.SetFlags(log.Ltime)
	var o options
	flag.StringVar(&o.out, "out", "loadtest/CURVES.md", "`file` for the page; drawings go into the folder curves beside it")
	flag.StringVar(&o.raw, "raw", "", "`folder` for each run's results as JSON; empty: they are not kept")
	flag.StringVar(&o.dir, "dir", "", "`folder` for data, which takes up to 12 GiB at a time; empty: a temporary one")
	flag.StringVar(&o.points, "points", "*", "curves or points to run, with wildcards: 'equal,restart-*,idle/1000'")
	flag.StringVar(&o.broker, "broker", "", "`file` of the broker; empty: it is built")
	flag.StringVar(&o.remark, "remark", "", "something to say about the run on the page")
	flag.IntVar(&o.repetitions, "repetitions", 3, "runs of each point; the idle ones, which take long, have half of that, and at least two")
	flag.IntVar(&o.retries, "retries", 1, "times that a disturbed run is repeated")
	flag.DurationVar(&o.each, "each", 5*time.Second, "length of a measurement under load")
	flag.DurationVar(&o.warmup, "warmup", 2*time.Second, "load before it")
	flag.DurationVar(&o.idle, "idle", 20*time.Second, "length of a measurement without load")
	flag.BoolVar(&o.quick, "quick", false, "one repetition of short runs at fewer points, for development: figures that mean little")
	flag.Parse()
	if o.quick {
		o.repetitions, o.retries, o.each, o.warmup, o.idle = 1, 0, 2*time.Second, time.Second, 5*time.Second
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, &o); err != nil {
		stop()
		log.Fatal(err)
	}
}

func run(ctx context.Context, o *options) (err error) {
	if o.repetitions < 1 || o.repetitions > 100 {
		return fmt.Errorf("--repetitions: %d is not within 1 and 100", o.repetitions)
	}
	if o.dir, err = os.MkdirTemp(o.dir, "tidemark-curves-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(o.dir)) }()
	if o.raw != "" {
		if err := os.MkdirAll(o.raw, 0o755); err != nil {
			return err
		}
	}
	p := &program{o: o, bin: o.broker}
	if p.bin == "" {
		if p.bin, err = process.BuildTidemark(ctx, o.dir); err != nil {
			return err
		}
	}
	todo := plan(o)
	if len(todo) == 0 {
		return fmt.Errorf("--points %s: nothing has that name", o.points)
	}
	p.describe(ctx)
	for _, pt := range todo {
		p.report.place(pt) // in the order of definition
	}
	began, done := time.Now(), 0
	total := count(o, todo)
	for n := range o.repetitions {
		for _, pt := range order(todo, n) {
			if n >= repetitions(o, pt.curve) {
				continue
			}
			out := p.point(ctx, pt, n)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			done++
			log.Printf("%d of %d, %s, repetition %d: %s", done, total, pt.name(), n+1, out.line(pt.curve))
			p.report.add(pt, out)
			p.report.Took = time.Since(began)
			if err := p.write(); err != nil { // what is there counts, whatever comes
				return err
			}
		}
	}
	return p.keepErr
}

// point is one place on a curve.
type point struct {
	curve *curve
	x     int
}

func (p point) name() string { return fmt.Sprintf("%s/%d", p.curve.id, p.x) }

// plan lists what --points asks for; quick runs leave out the second place.
func plan(o *options) []point {
	var all []point
	for i := range curves {
		c := &curves[i]
		for j, x := range c.at {
			if o.quick && len(c.at) > 2 && j == 1 {
				continue
			}
			if pt := (point{c, x}); matches(o.points, c.id) || matches(o.points, pt.name()) {
				all = append(all, pt)
			}
		}
	}
	return all
}

func repetitions(o *options, c *curve) int {
	if c.rarely {
		return min(o.repetitions, max(2, o.repetitions/2))
	}
	return o.repetitions
}

func count(o *options, all []point) (n int) {
	for _, pt := range all {
		n += repetitions(o, pt.curve)
	}
	return n
}

// order is A B C, then C B A, and so on, so that a drift of the machine favours nothing.
func order(all []point, repetition int) []point {
	all = slices.Clone(all)
	if repetition%2 == 1 {
		slices.Reverse(all)
	}
	return all
}

// matches tells whether one of the patterns, separated by commas, is that of name.
func matches(patterns, name string) bool {
	return slices.ContainsFunc(strings.Split(patterns, ","), func(p string) bool {
		ok, err := path.Match(strings.TrimSpace(p), name)
		return ok && err == nil
	})
}

// point measures once, and again where others disturbed it. Its data is gone afterwards.
func (p *program) point(ctx context.Context, pt point, repetition int) outcome {
	for attempt := 0; ; attempt++ {
		p.name, p.kept = fmt.Sprintf("%s-%d-%d-%d", pt.curve.id, pt.x, repetition+1, attempt+1), 0
		o, err := p.once(ctx, pt)
		if err != nil {
			o.Failure = err.Error()
		}
		if o.Failure != "" || !o.Disturbed || attempt >= p.o.retries || ctx.Err() != nil {
			return o
		}
		log.Printf("%s: disturbed (others used %s CPUs), again", pt.name(), result.Number(o.Foreign))
	}
}

func (p *program) once(ctx context.Context, pt point) (o outcome, err error) {
	defer debug.FreeOSMemory() // each run begins with a small heap
	dir, err := os.MkdirTemp(p.o.dir, "run-")
	if err != nil {
		return o, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	return pt.curve.measure(ctx, p, dir, pt.x)
}

// keep writes a load test's result as it came.
func (p *program) keep(res *result.Result) {
	if p.o.raw == "" {
		return
	}
	p.kept++
	text, err := res.Encode()
	if err == nil {
		err = os.WriteFile(filepath.Join(p.o.raw, fmt.Sprintf("%s-%d.json", p.name, p.kept)), append(text, '\n'), 0o644)
	}
	p.keepErr = errors.Join(p.keepErr, err)
}

// write writes the page, its drawings, and all outcomes beside the raw results.
func (p *program) write() error {
	folder := filepath.Join(filepath.Dir(p.o.out), drawings)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	for i := range plots {
		if svg := p.report.draw(&plots[i]); svg != "" {
			if err := os.WriteFile(filepath.Join(folder, plots[i].file+".svg"), []byte(svg), 0o644); err != nil {
				return err
			}
		}
	}
	if p.o.raw != "" {
		text, err := json.MarshalIndent(&p.report, "", " ")
		if err == nil {
			err = os.WriteFile(filepath.Join(p.o.raw, "curves.json"), append(text, '\n'), 0o644)
		}
		if err != nil {
			return err
		}
	}
	return os.WriteFile(p.o.out, []byte(p.report.markdown()), 0o644)
}

// describe notes machine, versions and settings.
func (p *program) describe(ctx context.Context) {
	info, r := machine.Describe(), &p.report
	fact := func(name, text string, args ...any) {
		r.Facts = append(r.Facts, [2]string{name, fmt.Sprintf(text, args...)})
	}
	p.version = "unknown"
	if out, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty").Output(); err == nil {
		p.version = strings.TrimSpace(string(out))
	}
	o := p.o
	fact("Run", "%s UTC, repetitions: %d (idle: %d), %v under load after %v of warm-up, %v idle", time.Now().UTC().Format("2006-01-02 15:04"),
		o.repetitions, repetitions(o, byID("idle")), o.each, o.warmup, o.idle)
	fact("Machine", "%s, %d CPUs, %.0f GiB, %s; client and broker share it, over the loopback interface", info.CPUModel, runtime.NumCPU(), float64(info.Memory)/(1<<30), info.Kernel)
	fact("Tidemark", "%s, %s; `tidemark dev`: etcd inside (its CPU and memory count), objects in a folder of the same disk, durability `local`, defaults but for what a curve says", p.version, runtime.Version())
	r.Quick, r.Remark = o.quick, o.remark
	r.Command = "go run ./loadtest/curves --out loadtest/CURVES.md"
	if o.points != "*" {
		r.Command += " --points '" + o.points + "'"
	}
	if o.quick {
		r.Command += " --quick"
	}
}
