package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"

	"github.com/tidemarkmq/tidemark/loadtest/bench"
	"github.com/tidemarkmq/tidemark/loadtest/bench/access"
	"github.com/tidemarkmq/tidemark/loadtest/bench/page"
	"github.com/tidemarkmq/tidemark/loadtest/bench/result"
	"github.com/tidemarkmq/tidemark/loadtest/bench/spec"
)

const benchUsage = `Usage:
  tidemark bench [--workload NAME] [flags]    put load on the broker at --bootstrap and report
  tidemark bench list                         show the workloads
  tidemark bench compare A.json B.json        compare two results
  tidemark bench compare --a A --b B [flags]  run on two brokers in turn and compare; 'tidemark bench compare --help'

`

// benchOutput is where a report goes beside standard output, and how brokers are reached.
type benchOutput struct {
	json, html, config string
	quiet              bool
}

func (o *benchOutput) flags(fs *flag.FlagSet, _ *spec.Spec) {
	fs.StringVar(&o.json, "json", "", "`file` for the result as JSON")
	fs.StringVar(&o.html, "html", "", "`file` for the report with plots, which needs nothing else to be read")
	fs.StringVar(&o.config, "command-config", "", "properties `file` with TLS and SASL settings, as Kafka's tools read it; "+access.PasswordVariable+" in the environment wins over its password")
	fs.BoolVar(&o.quiet, "quiet", false, "no progress on standard error")
}

// runBench dispatches the load generator's own commands.
func runBench(args []string) error {
	if len(args) > 0 {
		switch args[0] {
		case "list":
			return listWorkloads(os.Stdout, args[1:])
		case "compare":
			return runBenchCompare(args[1:])
		}
	}
	var out benchOutput
	s, err := parseBench("bench", args, benchUsage, out.flags)
	if err != nil {
		return err
	}
	ctx, stop := untilInterrupt()
	defer stop()
	res, err := out.run(ctx, s)
	if res == nil {
		return err
	}
	fmt.Print(res.Table())
	return errors.Join(err, out.write(res))
}

// parseBench parses the flags of a load. Mistakes have been reported when it returns errUsage.
func parseBench(name string, args []string, usage string, extra func(*flag.FlagSet, *spec.Spec)) (spec.Spec, error) {
	s, fs, err := spec.Parse(name, args, func(fs *flag.FlagSet, s *spec.Spec) {
		extra(fs, s)
		fs.SetOutput(io.Discard) // there are so many flags that their list would push the mistake off the screen
		fs.Usage = func() {}
	})
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Print(usage, "Flags (defaults are those of the workload):\n")
		fs.SetOutput(os.Stdout)
		fs.PrintDefaults()
		return s, err
	case err == nil && fs.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q", fs.Arg(0))
	case err == nil:
		err = s.Check()
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "tidemark %s: %v\n'tidemark %s --help' lists the flags\n", name, err, name)
		return s, errUsage
	}
	return s, nil
}

func untilInterrupt() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
}

func (o *benchOutput) run(ctx context.Context, s spec.Spec) (*result.Result, error) {
	a, err := access.Read(o.config, os.Getenv)
	if err != nil {
		return nil, fmt.Errorf("command-config: %w", err)
	}
	opts := bench.Options{Access: a, Version: buildVersion()}
	var show *progress
	if !o.quiet {
		show = newProgress(os.Stderr)
		opts.Progress = show.update
	}
	res, err := bench.Run(ctx, s, opts)
	show.end()
	return res, err
}

func (o *benchOutput) write(res *result.Result) error {
	if o.json != "" {
		text, err := res.Encode()
		if err == nil {
			err = os.WriteFile(o.json, append(text, '\n'), 0o644)
		}
		if err != nil {
			return err
		}
	}
	if o.html == "" {
		return nil
	}
	return writeHTML(o.html, func(w io.Writer) error { return page.Write(w, res) })
}

func writeHTML(name string, write func(io.Writer) error) error {
	var b strings.Builder
	if err := write(&b); err != nil {
		return err
	}
	return os.WriteFile(name, []byte(b.String()), 0o644)
}

func listWorkloads(w io.Writer, args []string) error {
	if len(args) > 0 {
		fmt.Fprintf(os.Stderr, "tidemark bench list: unexpected argument %q\n", args[0])
		return errUsage
	}
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for _, p := range spec.Presets {
		fmt.Fprintf(t, "%s\t%s\n", p.Name, p.About)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\n%s\n", spec.External)
	return err
}

// progress shows how a run goes: one line that changes on a terminal, a line each second otherwise.
type progress struct {
	w        io.Writer
	terminal bool
	phase    string
	open     bool // the line has no end yet
}

func newProgress(f *os.File) *progress {
	info, err := f.Stat()
	return &progress{w: f, terminal: err == nil && info.Mode()&os.ModeCharDevice != 0}
}

func (p *progress) update(u bench.Progress) {
	line := u.Phase
	if s := u.Second; s != nil {
		line = fmt.Sprintf("%-8s %5.0fs", u.Phase, u.Elapsed.Seconds())
		if s.Produced.Records > 0 {
			line += perSecond("in", s.Produced, s.Seconds)
		}
		if s.Consumed.Records > 0 {
			line += perSecond("out", s.Consumed, s.Seconds)
		}
		for _, kind := range result.Kinds {
			if l, ok := s.Latency[kind]; ok {
				line += fmt.Sprintf("  %s p50 %s p99 %s ms", kind, result.Number(float64(l.P50)/1e6), result.Number(float64(l.P99)/1e6))
			}
		}
		if s.MachineKnown {
			line += fmt.Sprintf("  CPUs server %.2f client %.2f", s.ServerCPUs, s.ClientCPUs)
		}
	} else if u.Phase == p.phase {
		return
	}
	if !p.terminal {
		fmt.Fprintln(p.w, line)
		return
	}
	if p.open && u.Phase != p.phase {
		fmt.Fprintln(p.w)
	}
	p.phase, p.open = u.Phase, true
	fmt.Fprintf(p.w, "\r\x1b[K%s", line)
}

func perSecond(name string, f result.Flow, seconds float64) string {
	return fmt.Sprintf("  %s %s/s %s MB/s", name, result.Number(float64(f.Records)/seconds), result.Number(float64(f.Bytes)/1e6/seconds))
}

// end closes the line; p may be nil.
func (p *progress) end() {
	if p != nil && p.open {
		fmt.Fprintln(p.w)
		p.open = false
	}
}
