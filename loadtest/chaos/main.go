// Chaos runs a cluster of real processes, breaks it in an order that a seed gives, and checks what clients saw. The last line of its output
// is `anomalies N`; the exit status is 0 only if there are none and nothing hung. Run it from the module's root:
//
//	go run ./loadtest/chaos --seed N --for DURATION [--brokers N] [--faults kill,pause,…]
//	go run ./loadtest/chaos check FILE    check a history again
//	go run ./loadtest/chaos dump FILE     show a history as text
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/tidemarkmq/tidemark/loadtest/chaos/history"
)

type settings struct {
	seed                      uint64
	duration, lease, longest  time.Duration
	brokers, etcds            int
	faults, durability, store string
	partitions, rate          int
	diskBytes                 int64
	tidemark, etcd, minio     string
	dir, report               string
	flags                     []string
}

func main() {
	if err := dispatch(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "chaos: %v\n", err)
		os.Exit(1)
	}
}

func dispatch(args []string) error {
	if len(args) == 2 && (args[0] == "check" || args[0] == "dump") {
		f, err := os.Open(args[1])
		if err != nil {
			return err
		}
		defer f.Close()
		if args[0] == "dump" {
			return dump(f)
		}
		r, err := history.Check(f)
		if err != nil {
			return err
		}
		return conclude(r, nil)
	}
	var s settings
	fs := flag.NewFlagSet("chaos", flag.ContinueOnError)
	fs.Uint64Var(&s.seed, "seed", 1, "of the schedule of faults")
	fs.DurationVar(&s.duration, "for", time.Minute, "how long faults are done; checking comes after")
	fs.DurationVar(&s.lease, "lease", 2*time.Second, "the brokers' lease, beyond which paused ones are paused")
	fs.DurationVar(&s.longest, "longest", time.Minute, "of one fault")
	fs.IntVar(&s.brokers, "brokers", 3, "brokers")
	fs.IntVar(&s.etcds, "etcds", 3, "etcd servers")
	fs.StringVar(&s.faults, "faults", "all", "names, separated by commas; 'none' breaks nothing")
	fs.StringVar(&s.durability, "durability", "quorum", "class of the brokers: local, quorum or object")
	fs.StringVar(&s.store, "store", "minio", "minio or folder")
	fs.IntVar(&s.partitions, "partitions", 12, "of the topic")
	fs.IntVar(&s.rate, "rate", 2000, "records a second")
	fs.Int64Var(&s.diskBytes, "disk", 1<<30, "bytes of each broker's disk, which is in memory; 0: a folder")
	fs.StringVar(&s.tidemark, "tidemark", "", "binary (default: built from this module)")
	fs.StringVar(&s.etcd, "etcd", "", "binary (default: that of deploy/local/build-tools.sh)")
	fs.StringVar(&s.minio, "minio", "", "binary (default: that of deploy/local/build-tools.sh)")
	fs.StringVar(&s.dir, "dir", "", "folder of data, logs and history (default: a temporary one, removed if all is well)")
	fs.StringVar(&s.report, "report", "", "file for a report in Markdown")
	fs.Func("broker-flag", "flag for each broker, as --seal-age=1s; {ip} is its address; may be repeated", func(v string) error {
		s.flags = append(s.flags, v)
		return nil
	})
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() > 0 || s.brokers < 1 || s.brokers > 9 || s.etcds < 1 || s.etcds > 9 || s.partitions < 1 {
		return errors.New("chaos --help lists the flags; 1 to 9 brokers, 1 to 9 etcd servers")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return s.run(ctx)
}

// choose are the faults that are wanted and can be done, and why others cannot.
func (s *settings) choose(skip func(*fault) string) (chosen []fault, skipped []string, err error) {
	if s.faults == "none" {
		return nil, nil, nil
	}
	wanted := map[string]bool{}
	for name := range strings.SplitSeq(s.faults, ",") {
		wanted[name] = true
	}
	for _, f := range faults {
		if !wanted[f.name] && !wanted["all"] {
			continue
		}
		delete(wanted, f.name)
		if why := skip(&f); why != "" {
			skipped = append(skipped, f.name+": "+why)
		} else {
			chosen = append(chosen, f)
		}
	}
	delete(wanted, "all")
	for name := range wanted {
		return nil, nil, fmt.Errorf("--faults: there is no %q", name)
	}
	return chosen, skipped, nil
}

// tools finds or builds the binaries.
func (s *settings) tools() error {
	for name, at := range map[string]*string{"etcd": &s.etcd, "minio": &s.minio} {
		if *at != "" {
			continue
		}
		root := os.Getenv("TIDEMARK_TOOLS")
		if root == "" {
			cache, err := os.UserCacheDir()
			if err != nil {
				return err
			}
			root = filepath.Join(cache, "tidemark-tools")
		}
		found, err := filepath.Glob(filepath.Join(root, name+"-*", name))
		if err != nil || len(found) == 0 {
			return fmt.Errorf("no %s below %s: run deploy/local/build-tools.sh", name, root)
		}
		*at = found[len(found)-1]
	}
	if s.store == "folder" {
		s.minio = ""
	}
	return nil
}

// conclude prints what was found; the last line is for scripts.
func conclude(r *history.Result, hung []string) error {
	for _, f := range r.Findings {
		fmt.Printf("%s: %s\n", f.Anomaly, f.Detail)
	}
	fmt.Printf("sent %d, acked %d, failed %d, unknown %d (in the log: %d), checked %d, read %d, commits %d\n",
		r.Sent, r.Acked, r.Failed, r.Unknown, r.Recovered, r.Checked, r.Read, r.Commits)
	for _, h := range hung {
		fmt.Printf("hung: %s\n", h)
	}
	fmt.Printf("anomalies %d\n", r.Anomalies()+int64(len(hung)))
	if r.Anomalies()+int64(len(hung)) > 0 {
		return errors.New("the cluster did what it must not do")
	}
	return nil
}

func dump(f io.Reader) error {
	d := history.NewDecoder(f)
	var op history.Op
	for {
		switch err := d.Next(&op); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		fmt.Println(op.String())
	}
}
