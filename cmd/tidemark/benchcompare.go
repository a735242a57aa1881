package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/tidemarkmq/tidemark/loadtest/bench"
	"github.com/tidemarkmq/tidemark/loadtest/bench/page"
	"github.com/tidemarkmq/tidemark/loadtest/bench/result"
	"github.com/tidemarkmq/tidemark/loadtest/bench/spec"
	"github.com/tidemarkmq/tidemark/loadtest/process"
)

const compareUsage = `Usage:
  tidemark bench compare [--json FILE] [--html FILE] A.json B.json
  tidemark bench compare --a SIDE --b SIDE [--runs N] [--order abab|abba] [flags of tidemark bench]

A side is the HOST:PORT of a running broker, or 'exec:COMMAND', which is started anew for each run: it must print
bootstrap.servers=HOST:PORT when it is ready. {dir} in the command is an empty folder for that run. CPU and memory of commands are
measured; for running brokers say --a-pid and --b-pid.

`

// side is one of the two that are compared.
type side struct {
	target, label string
	pids          []int
	results       []*result.Result
}

type compareFlags struct {
	out   benchOutput
	a, b  side
	runs  int
	order string
}

func (c *compareFlags) flags(fs *flag.FlagSet, s *spec.Spec) {
	c.out.flags(fs, s)
	fs.IntVar(&c.runs, "runs", 5, "pairs of runs")
	fs.StringVar(&c.order, "order", "abba", "abab, or abba: every other pair begins with B, which cancels a drift of the machine")
	for name, side := range map[string]*side{"a": &c.a, "b": &c.b} {
		fs.StringVar(&side.target, name, "", "`side`: HOST:PORT or exec:COMMAND")
		fs.StringVar(&side.label, name+"-label", "", "name of the side in the report")
		fs.Func(name+"-pid", "server `process` of a side that runs already; may be repeated", func(v string) error {
			pid, err := strconv.Atoi(v)
			if err != nil || pid <= 0 {
				return fmt.Errorf("%q is no process id", v)
			}
			side.pids = append(side.pids, pid)
			return nil
		})
	}
}

func runBenchCompare(args []string) error {
	if files := resultFiles(args); files != nil {
		return compareFiles(files, args)
	}
	var c compareFlags
	s, err := parseBench("bench compare", args, compareUsage, c.flags)
	if err != nil {
		return err
	}
	if err := c.check(&s); err != nil {
		fmt.Fprintf(os.Stderr, "tidemark bench compare: %v\n", err)
		return errUsage
	}
	ctx, stop := untilInterrupt()
	defer stop()
	if err := c.all(ctx, s); err != nil {
		return err
	}
	return c.out.compare(c.a.results, c.b.results)
}

func (c *compareFlags) check(s *spec.Spec) error {
	switch {
	case c.a.target == "" || c.b.target == "":
		return errors.New("two results, or --a and --b, must be given")
	case c.runs < 1 || c.runs > 1000:
		return fmt.Errorf("--runs: %d is not within 1 and 1000", c.runs)
	case c.order != "abab" && c.order != "abba":
		return fmt.Errorf("--order: %q is neither abab nor abba", c.order)
	case len(s.ServerPIDs) > 0:
		return errors.New("--server-pid: say --a-pid and --b-pid")
	}
	return nil
}

// resultFiles are the last two arguments if they name files and no flag takes them.
func resultFiles(args []string) []string {
	for _, a := range args {
		if name := strings.TrimLeft(a, "-"); a != name && (name == "a" || name == "b" || strings.HasPrefix(name, "a=") || strings.HasPrefix(name, "b=")) {
			return nil
		}
	}
	if n := len(args); n >= 2 && !strings.HasPrefix(args[n-1], "-") && !strings.HasPrefix(args[n-2], "-") {
		return args[n-2:]
	}
	return nil
}

func compareFiles(files, args []string) error {
	var out benchOutput
	fs := flag.NewFlagSet("bench compare", flag.ContinueOnError)
	fs.StringVar(&out.json, "json", "", "`file` for the comparison as JSON")
	fs.StringVar(&out.html, "html", "", "`file` for the report")
	if err := parse(fs, args[:len(args)-2]); err != nil {
		return err
	}
	var both [2]*result.Result
	for i, name := range files {
		text, err := os.ReadFile(name)
		if err == nil {
			both[i], err = result.Decode(text)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return out.compare([]*result.Result{both[0]}, []*result.Result{both[1]})
}

func (o *benchOutput) compare(a, b []*result.Result) error {
	c, err := result.Compare(a, b)
	if err != nil {
		return err
	}
	fmt.Print(c.Table())
	if o.json != "" {
		text, err := json.MarshalIndent(c, "", " ")
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
	return writeHTML(o.html, func(w io.Writer) error { return page.WriteComparison(w, c) })
}

// all runs the pairs in turn.
func (c *compareFlags) all(ctx context.Context, s spec.Spec) error {
	for i := range c.runs {
		pair := []*side{&c.a, &c.b}
		if c.order == "abba" && i%2 == 1 {
			pair[0], pair[1] = pair[1], pair[0]
		}
		for _, side := range pair {
			if !c.out.quiet {
				fmt.Fprintf(os.Stderr, "run %d of %d: %s\n", i+1, c.runs, side.name())
			}
			if err := c.out.runSide(ctx, s, side); err != nil {
				return fmt.Errorf("%s, run %d: %w", side.name(), i+1, err)
			}
			debug.FreeOSMemory() // each run begins with a small heap
		}
	}
	return nil
}

func (s *side) name() string {
	if s.label != "" {
		return s.label
	}
	return s.target
}

func (o *benchOutput) runSide(ctx context.Context, s spec.Spec, side *side) (err error) {
	s.Label, s.ServerPIDs = side.name(), side.pids
	bootstrap := side.target
	if command, ok := strings.CutPrefix(side.target, "exec:"); ok {
		dir, err := os.MkdirTemp("", "tidemark-bench-")
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
		words := strings.Fields(strings.ReplaceAll(command, "{dir}", dir))
		if len(words) == 0 {
			return errors.New("exec: without a command")
		}
		b, err := process.Start(ctx, nil, words[0], words[1:]...)
		if err != nil {
			return err
		}
		defer b.Kill()
		bootstrap, s.ServerPIDs = b.Bootstrap, []int{b.PID()}
	}
	s.Bootstrap = strings.Split(bootstrap, ",")
	res, err := o.run(ctx, s)
	if err != nil && !errors.Is(err, bench.ErrVerification) {
		return err
	}
	side.results = append(side.results, res)
	return err
}
