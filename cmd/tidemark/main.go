// Tidemark is a broker that speaks the Apache Kafka protocol and keeps its data in object storage.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"
)

// version is set by release builds with -ldflags -X main.version=…
var version = ""

const usage = `Tidemark speaks the Apache Kafka protocol and keeps its data in object storage.

Usage:
  tidemark dev [flags]                   a broker with everything inside, for this machine alone
  tidemark broker --config FILE [flags]  a broker on an external etcd and object store
  tidemark dump PATH...                  show WAL segments and folders, objects and manifests in plain text
  tidemark bench [flags]                 put load on any broker that speaks the Kafka protocol, and measure it
  tidemark version                       say which version this is

'tidemark COMMAND --help' lists the flags of a command. Every setting of a broker is a key of the configuration file, a
flag --KEY, and an environment variable TIDEMARK_KEY (upper case, dots and dashes as underscores); flags win over the
environment, the environment over the file. Sizes in bytes may have a unit: KiB, MiB and GiB count by 1024, KB, MB and GB by 1000.
`

// repeatAfter is how long after the first signal another one counts as a second.
const repeatAfter = time.Second

// errUsage says that the command line was wrong and that this has been said already.
var errUsage = errors.New("usage")

func main() {
	err := dispatch(os.Args[1:])
	switch {
	case err == nil || errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errUsage):
		os.Exit(2)
	default:
		fmt.Fprintf(os.Stderr, "tidemark: %v\n", err)
		os.Exit(1)
	}
}

func dispatch(args []string) error {
	if len(args) == 0 {
		fmt.Fprint(os.Stderr, usage)
		return errUsage
	}
	switch args[0] {
	case "dev":
		return runDev(args[1:])
	case "broker":
		return runBroker(args[1:])
	case "dump":
		return runDump(os.Stdout, args[1:])
	case "bench":
		return runBench(args[1:])
	case "version", "--version", "-version":
		if err := parse(flag.NewFlagSet("version", flag.ContinueOnError), args[1:]); err != nil {
			return err
		}
		fmt.Println("tidemark " + buildVersion())
		return nil
	case "help", "--help", "-help", "-h":
		fmt.Print(usage)
		return nil
	}
	fmt.Fprintf(os.Stderr, "tidemark: unknown command %q\n\n%s", args[0], usage)
	return errUsage
}

// buildVersion is the release's version, or what the Go toolchain knows of the source.
func buildVersion() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && !strings.Contains(v, s.Value[:min(12, len(s.Value))]) {
			v += " " + s.Value
		}
	}
	return v + " " + info.GoVersion
}

// parse parses flags so that a mistake has been reported when it returns errUsage.
func parse(fs *flag.FlagSet, args []string) error {
	switch err := fs.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return err
	case err != nil:
		return errUsage
	}
	if fs.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "tidemark %s: unexpected argument %q\n", fs.Name(), fs.Arg(0))
		return errUsage
	}
	return nil
}

// loggerMaker makes the logger once the flags are parsed.
type loggerMaker func() (*slog.Logger, error)

// logFlags adds the flags of logging; the returned function makes the logger. Logs go to standard error.
func logFlags(fs *flag.FlagSet, level string) loggerMaker {
	if env := os.Getenv("TIDEMARK_LOG_LEVEL"); env != "" {
		level = env
	}
	format := os.Getenv("TIDEMARK_LOG_FORMAT")
	if format == "" {
		format = "text"
	}
	fs.StringVar(&level, "log-level", level, "debug, info, warn or error; also TIDEMARK_LOG_LEVEL")
	fs.StringVar(&format, "log-format", format, "text or json; also TIDEMARK_LOG_FORMAT")
	return func() (*slog.Logger, error) {
		var threshold slog.Level
		if err := threshold.UnmarshalText([]byte(level)); err != nil {
			return nil, fmt.Errorf("log-level: %w", err)
		}
		o := &slog.HandlerOptions{Level: threshold}
		switch format {
		case "text":
			return slog.New(slog.NewTextHandler(os.Stderr, o)), nil
		case "json":
			return slog.New(slog.NewJSONHandler(os.Stderr, o)), nil
		}
		return nil, fmt.Errorf("log-format: %q is neither text nor json", format)
	}
}

// untilSignal returns a context that the first SIGTERM or interrupt ends. A second one ends the process at once: what was
// acknowledged is in the write-ahead log, and the next start recovers it.
func untilSignal(logger *slog.Logger) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		s := <-signals
		logger.Info("draining into the object store before exit", "signal", s.String())
		cancel()
		// A supervisor may signal the process and then its group, milliseconds apart: that is one request, not two.
		for first := time.Now(); time.Since(first) < repeatAfter; {
			<-signals
		}
		logger.Warn("second signal: exit without having drained; the next start recovers the write-ahead log")
		os.Exit(1)
	}()
	return ctx, cancel
}
